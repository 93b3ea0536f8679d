// Infrastructure > Service Engine Group > edit: the fields of a group, and beside them what the edit would come to.

import { useEffect, useMemo, useState } from "react";
import { type ApiError, call, type Document } from "../core/api";
import { useAttempt } from "../core/attempt";
import { duration, plural } from "../core/format";
import { useGet, useLoad } from "../core/live";
import { go, guardLeaving, Link, setQuery, useQueryParam } from "../core/router";
import { useSession } from "../core/session";
import { Button, Card, Fault, Field, Icon, Loading, Names, Note, Page, Panel, Pill, Switch, Tabs, toast } from "../ui/basics";
import { anyOf, isMargin } from "../ui/margin";
import { Numeric, type Schema } from "./fields";
import { PreflightDialog } from "./Preflight";
import { UpgradeDialog, UpgradeProgress, useGroupRuntime } from "./Upgrade";

const SHARED = "HA_MODE_SHARED";
const PAIR = "HA_MODE_SHARED_PAIR";
const LEGACY = "HA_MODE_LEGACY_ACTIVE_STANDBY";
const THINK_MS = 350;

/** What a mode sets when it is chosen; all of it may be changed afterwards. */
const PRESETS: Record<string, Document> = {
  [SHARED]: { min_scaleout_per_vs: 1, max_scaleout_per_vs: 4, algo: "PLACEMENT_ALGO_PACKED", buffer_se: 1, max_se: 10 },
  [PAIR]: { min_scaleout_per_vs: 2, max_scaleout_per_vs: 4, algo: "PLACEMENT_ALGO_DISTRIBUTED", buffer_se: 0, max_se: 10 },
  [LEGACY]: { min_scaleout_per_vs: 2, max_scaleout_per_vs: 2, algo: "PLACEMENT_ALGO_PACKED", buffer_se: 0, max_se: 2 },
};

const MODE_CHOICES: [string, string, string][] = [
  [LEGACY, "Legacy HA Active/Standby", "Two engines: each virtual service is active on one and stands by on the other. No scale-out."],
  [PAIR, "Elastic HA Active/Active", "Each virtual service runs on two engines or more. When one dies, the others go on serving."],
  [SHARED, "Elastic HA N+M", "Each virtual service runs on one engine; room of M engines is kept free for those that fail. The default."],
];

const ALGO_CHOICES: [string, string, string][] = [
  ["PLACEMENT_ALGO_PACKED", "Compact", "As few engines as possible."],
  ["PLACEMENT_ALGO_DISTRIBUTED", "Distributed", "New engines first, up to the maximum: best performance."],
];

export default function GroupEditor({ id }: { id: string }) {
  const fresh = id === "new";
  const schema = useGet<{ fields: Schema }>("/api/console/schema/serviceenginegroup");
  const stored = useGet<Document>(fresh ? null : `/api/serviceenginegroup/${id}`, { on: ["serviceenginegroup"] });
  if (schema.error) return <Page title="Service Engine Group"><Fault error={schema.error} retry={schema.refresh} /></Page>;
  if (stored.error && !stored.data) return <Page title="Service Engine Group"><Fault error={stored.error} retry={stored.refresh} /></Page>;
  if (!schema.data || (!fresh && !stored.data)) return <Loading />;
  const fields = schema.data.fields;
  const start = fresh ? { ...defaults(fields), name: "" } : stored.data!;
  return <Editor key={id} id={id} fields={fields} stored={start} />;
}

function defaults(fields: Schema): Document {
  return Object.fromEntries(Object.entries(fields).flatMap(([name, field]) => (field.default === undefined ? [] : [[name, field.default]])));
}

function Editor({ id, fields, stored }: { id: string; fields: Schema; stored: Document }) {
  const fresh = id === "new";
  const { mayWrite } = useSession();
  const write = mayWrite("serviceenginegroup");
  const tab = useQueryParam("tab") || "basic";
  const [draft, setDraft] = useState<Document>({});
  const { busy: saving, fault, attempt } = useAttempt();
  const [invalid, setInvalid] = useState<Record<string, string>>({});

  const [asking, setAsking] = useState<"upgrade" | "preflight" | null>(null);
  const runtime = useGroupRuntime(id);

  const value = (name: string) => (name in draft ? draft[name] : stored[name]);
  const edits = useMemo(() => Object.fromEntries(Object.entries(draft).filter(([name, given]) => !same(given, stored[name]))), [draft, stored]);
  const changed = Object.keys(edits).length > 0;
  const set = (name: string, given: unknown) => setDraft((before) => ({ ...before, [name]: given }));
  const mode: string = value("ha_mode") ?? SHARED;
  const legacy = mode === LEGACY;

  const chooseMode = (wanted: string) => {
    const preset = PRESETS[wanted] ?? {};
    const old = PRESETS[mode] ?? {};
    // What was set by hand stays; what the old mode had set, the new one sets.
    const follows = Object.entries(preset).filter(([name]) => value(name) === undefined || same(value(name), old[name]) || wanted === LEGACY);
    const back = wanted === stored.ha_mode ? Object.fromEntries(Object.keys(preset).map((name) => [name, stored[name]])) : Object.fromEntries(follows);
    setDraft((before) => ({ ...before, ...back, ha_mode: wanted }));
  };

  useEffect(() => {
    if (!changed || saving) return guardLeaving(null);
    guardLeaving(() => window.confirm("There are changes that are not saved. Leave them?"));
    const ask = (event: BeforeUnloadEvent) => event.preventDefault();
    window.addEventListener("beforeunload", ask);
    return () => {
      guardLeaving(null);
      window.removeEventListener("beforeunload", ask);
    };
  }, [changed, saving]);

  const preview = usePreview(id, stored, edits, Object.keys(invalid).length > 0);
  const thinking = preview.data !== undefined && !preview.error && preview.data.of !== JSON.stringify(edits);
  const wrong = { ...problemsOf(preview.error), ...problemsOf(fault), ...invalid };
  const save = () =>
    attempt(async () => {
      // The plan one has seen is applied, or nothing is: the world may have moved since.
      const apply = preview.data?.plan?.id && !preview.error ? `?apply=${encodeURIComponent(preview.data.plan.id)}` : "";
      const answer = await (fresh ? call("POST", `/api/serviceenginegroup${apply}`, edits) : call("PUT", `/api/serviceenginegroup/${id}${apply}`, { ...stored, ...edits })).catch((error) => {
        preview.refresh();
        throw error;
      });
      guardLeaving(null);
      toast(fresh ? `${answer.data.name} is made.` : `${answer.data.name} is saved. ${changed ? "What follows from it is under way." : ""}`);
      for (const warning of answer.warnings) toast(warning, "warn");
      go("/serviceenginegroups");
    });

  const number = (name: string, label: string, hint?: string) =>
    fields[name] && (
      <Numeric key={name} name={name} label={label} hint={hint} schema={fields[name]!} value={value(name)} changed={name in edits} error={wrong[name]} disabled={!write} onChange={(given, why) => {
        set(name, given);
        setInvalid((before) => {
          const { [name]: _, ...rest } = before;
          return why ? { ...rest, [name]: why } : rest;
        });
      }} />
    );
  const toggle = (name: string, label: string, hint?: string) =>
    fields[name] && <Switch key={name} id={name} label={label} hint={hint} checked={Boolean(value(name))} disabled={!write} onChange={(on) => set(name, on)} />;
  const text = (name: string, label: string, hint?: string) =>
    fields[name] && (
      <Field key={name} label={<span className={name in edits && !fresh ? "changed" : ""}>{label}</span>} htmlFor={name} hint={hint} error={wrong[name]}>
        <input id={name} value={String(value(name) ?? "")} disabled={!write} onChange={(event) => set(name, event.target.value)} />
      </Field>
    );

  return (
    <Page
      title={fresh ? "New Service Engine Group" : String(stored.name)}
      crumbs={[["Infrastructure", ""], ["Service Engine Group", "/serviceenginegroups"]]}
      actions={
        <>
          {!fresh && <Link to={`/map?group=${id}`} className="button"><Icon name="map" size={16} /> Map</Link>}
          {!fresh && write && <Button onClick={() => setAsking("preflight")}>Check the network</Button>}
          {!fresh && write && <Button disabled={runtime.data?.upgrade?.state !== undefined} onClick={() => setAsking("upgrade")}>Upgrade engines</Button>}
          <Button onClick={() => go("/serviceenginegroups")}>{write ? "Cancel" : "Back"}</Button>
          {write && (
            <Button kind="primary" busy={saving} disabled={!changed || thinking || Object.keys(invalid).length > 0 || (fresh && !value("name"))} onClick={save}>
              Save
            </Button>
          )}
        </>
      }
    >
      {fault && <Fault error={fault} />}
      <UpgradeProgress uuid={id} upgrade={runtime.data?.upgrade} write={write} onChanged={runtime.refresh} />
      <div className="beside">
        <Card label="Settings">
          <Tabs label="Settings" tabs={[["basic", "Basic Settings"], ["advanced", "Advanced"]]} current={tab} onChange={(next) => setQuery({ tab: next === "basic" ? null : next })} />
          {tab === "basic" ? (
            <Panel id="basic">
              <div className="form">
                {text("name", "Service Engine Group Name")}
                <RealTime value={value("realtime_se_metrics")} onChange={(given) => set("realtime_se_metrics", given)} disabled={!write} />
              </div>
              <fieldset>
                <legend>High Availability &amp; Placement Settings</legend>
                <div role="radiogroup" aria-label="High Availability Mode" className="choices three">
                  {MODE_CHOICES.map(([wanted, label, about]) => (
                    <label className="choice" key={wanted}>
                      <input type="radio" name="ha_mode" value={wanted} checked={mode === wanted} disabled={!write} onChange={() => chooseMode(wanted)} />
                      <b>{label}</b>
                      <small>{about}</small>
                    </label>
                  ))}
                </div>
                {wrong.ha_mode && <p className="error">{wrong.ha_mode}</p>}
                <div className="form">
                  {!legacy && (
                    <Field label={<span className={"algo" in edits && !fresh ? "changed" : ""}>VS Placement across SEs</span>} htmlFor="algo" hint={ALGO_CHOICES.find(([wanted]) => wanted === value("algo"))?.[2]}>
                      <select id="algo" value={value("algo")} disabled={!write} onChange={(event) => set("algo", event.target.value)}>
                        {ALGO_CHOICES.map(([wanted, label]) => <option key={wanted} value={wanted}>{label}</option>)}
                      </select>
                    </Field>
                  )}
                  {number("max_vs_per_se", "Virtual Services per Service Engine", "Slots of an engine: each virtual service takes one on every engine it is on.")}
                  {number("max_se", "Max Number of Service Engines", legacy ? "A pair is two." : "Disabled engines count, failed ones do not.")}
                  {!legacy && toggle("per_app", "Per Application SE mode", "At most two virtual services on an engine.")}
                  {legacy && toggle("hm_on_standby", "Health Monitoring on Standby SE(s)", "The standby probes servers too.")}
                  {legacy && toggle("distribute_load_active_standby", "Distribute Load", "Each virtual service is active on the side its tag names.")}
                  {legacy && toggle("auto_redistribute_active_standby_load", "Auto-redistribute Load", "After a takeover each goes back to its side by itself; that may cut connections.")}
                </div>
              </fieldset>
              <fieldset>
                <legend>Service Engine Capacity</legend>
                <p className="hint">Size applies to engines made from now on.</p>
                <div className="form">
                  {number("memory_per_se", "Memory per Service Engine")}
                  {toggle("mem_reserve", "Memory Reserve")}
                  {number("vcpus_per_se", "vCPU per Service Engine")}
                  {toggle("cpu_reserve", "CPU Reserve")}
                  {number("disk_per_se", "Disk per Service Engine", "At least 5 GB and 2 GB per GB of memory.")}
                  <Slider label="Connection Memory Percentage" name="connection_memory_percentage" schema={fields.connection_memory_percentage} value={Number(value("connection_memory_percentage") ?? 50)} onChange={(given) => set("connection_memory_percentage", given)} disabled={!write} />
                </div>
              </fieldset>
            </Panel>
          ) : (
            <Panel id="advanced">
              <div className="form">
                {text("se_name_prefix", "Service Engine Name Prefix", "Engines are named <prefix>-se-<five letters>.")}
                {text("vcenter_folder", "Service Engine Folder")}
                {number("se_deprovision_delay", "Delete Unused Service Engines After", "0 = never.")}
              </div>
              {!legacy && (
                <fieldset>
                  <legend>Advanced HA &amp; Placement</legend>
                  <div className="form">
                    {mode === SHARED && number("buffer_se", "Buffer Service Engines", "Room of so many engines is kept free, spread over all of them.")}
                    {number("min_scaleout_per_vs", "Scale per Virtual Service, Minimum")}
                    {number("max_scaleout_per_vs", "Scale per Virtual Service, Maximum")}
                    <Field label="Service Engine Failure Detection" htmlFor="detection" hint="Aggressive finds a dead engine sooner, and may take a slow network for a dead engine.">
                      <select id="detection" value={value("aggressive_failure_detection") ? "aggressive" : "standard"} disabled={!write} onChange={(event) => set("aggressive_failure_detection", event.target.value === "aggressive")}>
                        <option value="standard">Standard</option>
                        <option value="aggressive">Aggressive</option>
                      </select>
                    </Field>
                    {toggle("vs_host_redundancy", "Spread over hosts", "A virtual service's engines are on different hosts, where there are enough.")}
                    {toggle("auto_rebalance", "Auto-Rebalance", "Moves a virtual service when an engine's load passes a mark.")}
                    {value("auto_rebalance") && number("auto_rebalance_interval", "Auto-Rebalance Interval")}
                    {value("auto_rebalance") && number("max_cpu_usage", "Rebalance above")}
                    {value("auto_rebalance") && number("min_cpu_usage", "Consolidate below")}
                    {toggle("cpu_socket_affinity", "CPU socket Affinity")}
                    {toggle("dedicated_dispatcher_core", "Dedicated dispatcher CPU")}
                  </div>
                </fieldset>
              )}
              <fieldset>
                <legend>Timers</legend>
                <div className="form">
                  {number("vs_scalein_timeout", "Drain time on scale-in and migrate", "Connections that are left then are closed.")}
                  {number("vs_scaleout_timeout", "Wait for a scale-out")}
                  {legacy && number("vs_switchover_timeout", "Wait for a switchover")}
                </div>
              </fieldset>
              <Scope value={value} set={set} write={write} />
              {fields.hardwaresecuritymodulegroup_ref && (
                <fieldset>
                  <legend>Security</legend>
                  <div className="form">{text("hardwaresecuritymodulegroup_ref", "HSM Group")}</div>
                </fieldset>
              )}
            </Panel>
          )}
        </Card>
        <aside aria-label="What this edit would do">
          <Preview preview={preview} changed={changed} fresh={fresh} edits={edits} stored={stored} />
        </aside>
      </div>
      {asking === "upgrade" && <UpgradeDialog uuid={id} name={String(stored.name)} onClose={() => setAsking(null)} onDone={runtime.refresh} />}
      {asking === "preflight" && <PreflightDialog uuid={id} name={String(stored.name)} onClose={() => setAsking(null)} />}
    </Page>
  );
}

function RealTime({ value, onChange, disabled }: { value: Document | undefined; onChange: (given: Document) => void; disabled: boolean }) {
  const on = Boolean(value?.enabled);
  return (
    <div className="stack tight">
      <Switch id="realtime" label="Real-Time Metrics" hint={"Engines send what they count each 5\u00a0s."} checked={on} disabled={disabled} onChange={(enabled) => onChange({ duration: 30, ...value, enabled })} />
      {on && (
        <Field label="Duration" htmlFor="realtime-duration" unit="min" hint="0 = for ever.">
          <input id="realtime-duration" type="number" min={0} value={value?.duration ?? 30} disabled={disabled} onChange={(event) => onChange({ ...value, enabled: true, duration: Number(event.target.value) })} />
        </Field>
      )}
    </div>
  );
}

function Slider({ label, name, schema, value, onChange, disabled }: { label: string; name: string; schema: Schema[string] | undefined; value: number; onChange: (given: number) => void; disabled: boolean }) {
  if (!schema) return null;
  return (
    <Field label={label} htmlFor={name} unit={`${value} %`} hint="Memory for connections; the rest is for the HTTP cache.">
      <input id={name} type="range" min={schema.min ?? 10} max={schema.max ?? 90} value={value} disabled={disabled} onChange={(event) => onChange(Number(event.target.value))} />
    </Field>
  );
}

/** Hosts and data stores: what is listed is excluded, unless Include is ticked. */
function Scope({ value, set, write }: { value: (name: string) => any; set: (name: string, given: unknown) => void; write: boolean }) {
  const clusters = value("vcenter_clusters") ?? {};
  const hosts = value("vcenter_hosts") ?? {};
  const [kind, setKind] = useState(hosts.host_refs?.length ? "host" : clusters.cluster_refs?.length ? "cluster" : "any");
  const stores = ((value("vcenter_datastores") ?? []) as Document[]).map((one) => String(one.datastore_name ?? ""));
  const refs = (given: string[] | undefined) => (given ?? []).map((ref) => ref.split("/").pop()!.replace(/^.*name=/, ""));
  const choose = (wanted: string) => {
    setKind(wanted);
    if (wanted !== "cluster") set("vcenter_clusters", undefined);
    if (wanted !== "host") set("vcenter_hosts", undefined);
  };
  return (
    <fieldset>
      <legend>Host &amp; Data Store Scope</legend>
      <p className="hint">What is listed is excluded, unless Include is ticked.</p>
      <div className="form">
        <div className="stack tight">
          <span className="legend" id="host-scope">Host Scope</span>
          <div className="segments" role="group" aria-labelledby="host-scope">
            {["any", "cluster", "host"].map((one) => (
              <button key={one} type="button" aria-pressed={kind === one} disabled={!write} onClick={() => choose(one)}>
                {one === "any" ? "Any" : one === "cluster" ? "Cluster" : "Host"}
              </button>
            ))}
          </div>
        </div>
        {kind === "any" && <span />}
        {kind === "cluster" && (
          <Listed id="clusters" label="Clusters" values={refs(clusters.cluster_refs)} include={Boolean(clusters.include)} onChange={(names, include) => set("vcenter_clusters", { ...clusters, cluster_refs: names, include })} />
        )}
        {kind === "host" && (
          <Listed id="hosts" label="Hosts" values={refs(hosts.host_refs)} include={Boolean(hosts.include)} onChange={(names, include) => set("vcenter_hosts", { ...hosts, host_refs: names, include })} />
        )}
        <Field label="Data Store Scope" htmlFor="stores">
          <select id="stores" value={value("vcenter_datastore_mode") ?? "VCENTER_DATASTORE_ANY"} disabled={!write} onChange={(event) => set("vcenter_datastore_mode", event.target.value)}>
            <option value="VCENTER_DATASTORE_ANY">Any</option>
            <option value="VCENTER_DATASTORE_LOCAL">Local</option>
            <option value="VCENTER_DATASTORE_SHARED">Shared</option>
          </select>
        </Field>
        {value("vcenter_datastore_mode") !== "VCENTER_DATASTORE_ANY" && (
          <Listed
            id="datastores"
            label="Data stores"
            values={stores}
            include={Boolean(value("vcenter_datastores_include"))}
            onChange={(names, include) => {
              set("vcenter_datastores", names.map((name) => ({ datastore_name: name })));
              set("vcenter_datastores_include", include);
            }}
          />
        )}
      </div>
    </fieldset>
  );
}

function Listed({ id, label, values, include, onChange }: { id: string; label: string; values: string[]; include: boolean; onChange: (values: string[], include: boolean) => void }) {
  return (
    <div className="stack tight">
      <Field label={label} htmlFor={id} hint={include ? "Only these are used." : "These are never used."}>
        <Names id={id} values={values} placeholder="Name, then Enter" onChange={(names) => onChange(names, include)} />
      </Field>
      <label className="row">
        <input type="checkbox" checked={include} onChange={(event) => onChange(values, event.target.checked)} /> Include
      </label>
    </div>
  );
}

// --- what the edit would do ---

interface Foreseen {
  /** The edits that it is about. */
  of: string;
  plan: Document | undefined;
  whatif: Document | undefined;
  warnings: string[];
}

function usePreview(id: string, stored: Document, edits: Document, invalid: boolean) {
  const text = JSON.stringify(edits);
  const [settled, setSettled] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(text), THINK_MS);
    return () => clearTimeout(timer);
  }, [text]);
  const fresh = id === "new";
  const key = invalid || (fresh && !edits.name) ? null : `preview ${id} ${settled} ${stored._last_modified ?? ""}`;
  return useLoad<Foreseen>(
    key,
    async (signal) => {
      const given = JSON.parse(settled) as Document;
      const any = Object.keys(given).length > 0;
      const ask = any ? (fresh ? call("POST", "/api/serviceenginegroup?plan=true", given, signal) : call("PUT", `/api/serviceenginegroup/${id}?plan=true`, { ...stored, ...given }, signal)) : null;
      const set = Object.fromEntries(Object.entries(given).filter(([name]) => name !== "name").map(([name, value]) => [`serviceenginegroup:${id}.${name}`, value]));
      const think = fresh ? null : call("POST", "/api/whatif", Object.keys(set).length ? { set } : { group: id }, signal).catch(() => null);
      const [plan, thought] = await Promise.all([ask, think]);
      return { of: settled, plan: plan?.data, whatif: thought?.data, warnings: plan?.warnings ?? [] };
    },
    { on: ["placements", "engines"], pause: 1500 },
  );
}

function Preview({ preview, changed, fresh, edits, stored }: { preview: ReturnType<typeof usePreview>; changed: boolean; fresh: boolean; edits: Document; stored: Document }) {
  const { data, error, loading } = preview;
  const plan = data?.plan;
  const group = plan?.groups?.find((one: Document) => fresh || one.uuid === stored.uuid) as Document | undefined;
  const margin = data?.whatif?.margin as { before: Document; after: Document } | undefined;
  return (
    <div className="stack">
      <Card title={changed ? "What this edit would do" : "How the group stands"} actions={loading && <span className="spinner" aria-label="Thinking" />}>
        <div className="body stack" aria-live="polite">
          {error && <Fault error={error} />}
          {!changed && !fresh && <p className="muted">Change a field: what would come of it is shown here, before anything is saved.</p>}
          {fresh && !edits.name && <p className="muted">Give the group a name first. Engines are made when the first virtual service needs one.</p>}
          {changed && plan && (
            <>
              <p className="verdict">
                <Pill tone={plan.moves_traffic ? "warn" : "ok"}>{plan.moves_traffic ? "Traffic moves" : "No traffic moves"}</Pill>
              </p>
              <p>{plan.sentence}</p>
            </>
          )}
          {(data?.warnings ?? []).map((warning) => <Note tone="warn" key={warning}>{warning}</Note>)}
          {(group?.problems ?? []).map((problem: string) => <Note tone="bad" key={problem}>{problem}</Note>)}
          {(group?.engines_made ?? []).length > 0 && (
            <details>
              <summary>{plural(group!.engines_made.length, "engine is made", "engines are made")}</summary>
              <ul className="plain small">
                {group!.engines_made.map((one: Document) => (
                  <li key={one.serviceengine}><b>{one.serviceengine}</b>{one.host && ` on ${one.host}`}: {one.why}</li>
                ))}
              </ul>
            </details>
          )}
          {(group?.engines_deleted ?? []).length > 0 && (
            <details>
              <summary>{plural(group!.engines_deleted.length, "engine is deleted", "engines are deleted")}</summary>
              <ul className="plain small">
                {group!.engines_deleted.map((one: Document) => (
                  <li key={one.uuid}><b>{one.serviceengine}</b>{one.after_s ? ` after ${duration(one.after_s * 1000)}` : ""}: {one.why}</li>
                ))}
              </ul>
            </details>
          )}
          {(group?.vips ?? []).length > 0 && (
            <details>
              <summary>{plural(group!.vips.length, "virtual service is", "virtual services are")} touched</summary>
              <ul className="plain small">
                {group!.vips.slice(0, 40).map((vip: Document) => (
                  <li key={vip.vip}>
                    <b>{vip.virtualservices.join(", ") || vip.address}</b>: {moved(vip)}. Clients notice: {vip.clients}.
                  </li>
                ))}
              </ul>
            </details>
          )}
        </div>
      </Card>
      {!fresh && margin && (
        <Card title="What it survives">
          <div className="body">
            <table className="plain">
              <thead>
                <tr><td /><th scope="col">now</th>{changed && <th scope="col">then</th>}</tr>
              </thead>
              <tbody>
                <Row label="Stays up without" before={margin.before} after={changed ? margin.after : undefined} of="stays_up" />
                <Row label="Keeps capacity without" before={margin.before} after={changed ? margin.after : undefined} of="keeps_capacity" />
                <tr>
                  <th scope="row">Free slots</th>
                  <td>{data?.whatif?.capacity.before.free}{data?.whatif?.capacity.before.needed ? ` (${data.whatif.capacity.before.needed} needed)` : ""}</td>
                  {changed && <td>{data?.whatif?.capacity.in_the_end.free}{data?.whatif?.capacity.in_the_end.needed ? ` (${data.whatif.capacity.in_the_end.needed} needed)` : ""}</td>}
                </tr>
              </tbody>
            </table>
            {(data?.whatif?.verdict ?? []).map((line: string) => <p className="small muted" key={line}>{line}</p>)}
          </div>
        </Card>
      )}
    </div>
  );
}

function Row({ label, before, after, of }: { label: string; before: Document; after: Document | undefined; of: "stays_up" | "keeps_capacity" }) {
  const say = (margin: Document) => (isMargin(margin) && margin.of_engines ? anyOf(margin[of], margin.of_engines) : "no engine yet");
  const better = after && isMargin(after) && isMargin(before) ? after[of].engines - before[of].engines : 0;
  return (
    <tr>
      <th scope="row">{label}</th>
      <td>{say(before)}</td>
      {after && <td className={better > 0 ? "better" : better < 0 ? "worse" : ""}>{say(after)}</td>}
    </tr>
  );
}

function moved(vip: Document): string {
  if (vip.from.length && vip.to.length) return `${vip.from.join(", ")} → ${vip.to.join(", ")}`;
  if (vip.to.length) return `also on ${vip.to.join(", ")}`;
  if (vip.from.length) return `leaves ${vip.from.join(", ")}`;
  return vip.why || "changes";
}

function problemsOf(error: ApiError | null | undefined): Record<string, string> {
  return Object.fromEntries((error?.problems ?? []).map((problem) => [problem.path, [problem.why, problem.hint].filter(Boolean).join(". ")]));
}

function same(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
