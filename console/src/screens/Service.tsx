// One virtual service: how it does, what it is made of, where it is and why, and what can be done with it.

import { useState } from "react";
import { call, type Document, nameOf, uuidOf } from "../core/api";
import { useAttempt } from "../core/attempt";
import { state as stateOf } from "../core/format";
import { useGet } from "../core/live";
import { pick, useMetrics } from "../core/metrics";
import { go, Link, setQuery, useQueryParam } from "../core/router";
import { useSession } from "../core/session";
import { Decisions } from "../map/Details";
import { Button, Card, Fault, Loading, Meter, Missing, Note, Page, Panel, Pill, Tabs, toast } from "../ui/basics";
import { Chart } from "../ui/chart";
import { DeleteDialog } from "./DeleteDialog";
import { EventList } from "./EventList";
import { Logs } from "./Logs";
import { ObjectForm } from "./ObjectForm";
import { Parts } from "./Parts";
import { ScaleDialog, type ScaleKind } from "./ScaleDialog";
import { Topology } from "./Topology";

const METRICS = ["l4_client.avg_bandwidth", "l4_client.avg_complete_conns", "l4_client.avg_open_conns", "l7_client.avg_total_requests", "l7_client.avg_error_responses", "l7_client.avg_resp_latency", "l4_client.avg_errored_connections"];
const PLACED = ["placements", "engines", "virtualservice"];

export default function Service({ id }: { id: string }) {
  const tab = useQueryParam("tab") || "overview";
  // What becomes of its names in DNS is told by events.
  const { data: entry, error, refresh } = useGet<Document>(`/api/virtualservice-inventory/${id}?include_name`, { on: [...PLACED, "pool", "vsvip", ...(tab === "parts" ? ["events"] : [])], pause: 1000, every: 10_000 });
  const detail = useGet<Document[]>(`/api/virtualservice/${id}/runtime/detail`, { on: PLACED, pause: 500, every: 5000 });
  const { mayWrite } = useSession();
  const groupName = useGet<Document>(entry ? `/api/serviceenginegroup/${uuidOf(entry.config.se_group_ref)}?fields=name` : null);
  const [asking, setAsking] = useState<ScaleKind | "delete" | null>(null);
  const { busy: toggling, fault, attempt } = useAttempt();
  if (!entry) return error ? <Page title="Virtual Service" crumbs={[["Virtual Services", "/virtualservices"]]}><Missing error={error} retry={refresh} all="/virtualservices" /></Page> : <Loading />;
  const [word, tone] = stateOf(entry.runtime.oper_status.state);
  const vips: Document[] = detail.data?.[0]?.vip_runtime ?? [];
  const busy = vips.find((vip) => vip.scaleout_in_progress || vip.scalein_in_progress || vip.migrate_in_progress || vip.switchover_in_progress);
  const group = uuidOf(entry.config.se_group_ref);
  const write = mayWrite("virtualservice");
  const toggle = () =>
    attempt(async () => {
      await call("PATCH", `/api/virtualservice/${id}`, { replace: { enabled: !entry.config.enabled } });
      toast(entry.config.enabled ? `${entry.config.name} is disabled: it takes no new connections.` : `${entry.config.name} is enabled.`);
      refresh();
    });
  return (
    <Page
      title={entry.config.name}
      crumbs={[["Applications", ""], ["Virtual Services", "/virtualservices"]]}
      status={<Pill tone={tone}>{word}</Pill>}
      actions={
        write && (
          <>
            <Button onClick={() => setAsking("scaleout")}>Scale Out</Button>
            <Button onClick={() => setAsking("scalein")}>Scale In</Button>
            <Button onClick={() => setAsking("migrate")}>Migrate</Button>
            <Button busy={toggling} onClick={toggle}>{entry.config.enabled ? "Disable" : "Enable"}</Button>
            <Button kind="danger" onClick={() => setAsking("delete")}>Delete</Button>
          </>
        )
      }
    >
      {fault && <Fault error={fault} />}
      {(entry.runtime.oper_status.reason ?? []).map((reason: string) => <Note tone={tone === "bad" ? "bad" : "info"} key={reason}>{reason}</Note>)}
      {(entry.runtime.notes ?? []).map((note: string) => <Note tone="warn" key={note}>{note}</Note>)}
      {busy && <Progress vip={busy} />}
      <div className="summary">
        <span>{(entry.config.vip ?? []).map((vip: Document) => vip.ip_address?.addr ?? vip.ip6_address?.addr).join(", ")}</span>
        <span>{(entry.runtime.ports ?? []).join(", ")}</span>
        <span>group <Link to={`/map?group=${group}`}>{groupName.data?.name ?? "on the map"}</Link></span>
        <span>{(entry.runtime.vip_summary ?? []).map((vip: Document) => `${vip.num_se_assigned} of ${vip.num_se_requested} engines`).join(", ")}</span>
        <Health score={entry.health_score} up={tone === "ok"} />
      </div>
      <Card label="Virtual service">
        <Tabs
          label="About this virtual service"
          tabs={[["overview", "Overview"], ["parts", "Parts"], ["placement", "Placement"], ["logs", "Client Logs"], ["events", "Events"], ["settings", "Settings"]]}
          current={tab}
          onChange={(next) => setQuery({ tab: next === "overview" ? null : next })}
        />
        <Panel id={tab}>
          {tab === "overview" && <Overview id={id} entry={entry} vips={vips} />}
          {tab === "placement" && <PlacementTab id={id} />}
          {tab === "parts" && <Parts id={id} records={entry.runtime.dns_records ?? []} />}
          {tab === "logs" && <Logs id={id} />}
          {tab === "events" && <EventList object={`[${[id, uuidOf(entry.config.vsvip_ref)].filter(Boolean).join(",")}]`} />}
          {tab === "settings" && <ObjectForm type="virtualservice" id={id} readOnly={!write} />}
        </Panel>
      </Card>
      {asking && asking !== "delete" && <ScaleDialog kind={asking} id={id} name={entry.config.name} group={group} vips={vips} onClose={() => setAsking(null)} />}
      {asking === "delete" && (
        <DeleteDialog title={`Delete ${entry.config.name}?`} doomed={[{ name: entry.config.name, path: `/api/virtualservice/${id}` }]} onClose={() => setAsking(null)} onDone={() => go("/virtualservices")}>
          <p>Its clients are cut off at once. Its pool and its VIP stay.</p>
        </DeleteDialog>
      )}
    </Page>
  );
}

function Progress({ vip }: { vip: Document }) {
  const what = vip.migrate_in_progress ? "migrating" : vip.scalein_in_progress ? "scaling in" : vip.scaleout_in_progress ? "scaling out" : "switching over";
  const status: Document = vip.scale_status ?? {};
  const engines: Document[] = vip.se_list ?? [];
  const named = (given: Document[]) => given.map((engine) => nameOf(engine.se_ref)).join(", ");
  const coming = named(engines.filter((engine) => engine.scaleout_in_progress));
  const going = named(engines.filter((engine) => engine.delete_in_progress));
  const percent: number = vip.progress_percent ?? 0;
  return (
    <Note tone="info">
      <span className="row">
        <span className="spinner" aria-hidden /> <b>Currently {what}</b>
        <span className="muted">{[coming && `${coming} comes`, going && `${going} goes when its connections have ended`, ...(status.reason ?? [])].filter(Boolean).join(". ")}</span>
        <span className="spread" />
        <span className="muted num">{percent} %</span>
      </span>
      <Meter value={percent} of={100} label={`${percent} % done`} />
    </Note>
  );
}

const PARTS: [string, string][] = [
  ["performance_score", "performance"],
  ["resources_penalty", "resources"],
  ["anomaly_penalty", "anomalies"],
  ["security_penalty", "security"],
];

function Health({ score, up }: { score: Document; up: boolean }) {
  const parts = PARTS.filter(([name]) => score?.[name] !== undefined && (name === "performance_score" || score[name] > 0)).map(([name, label]) => (name.endsWith("penalty") ? `${label} −${score[name]}` : `${label} ${score[name]}`));
  if (score?.health_score === undefined) return null;
  return (
    <span className="row" title={[...parts, ...(score.reasons ?? [])].join(". ")}>
      Health <Pill tone={!up ? "bad" : score.health_score >= 85 ? "ok" : score.health_score >= 60 ? "warn" : "bad"}>{score.health_score}</Pill>
      <span className="muted small">{(score.reasons ?? []).length ? score.reasons.join("; ") : parts.join(", ")}</span>
    </span>
  );
}

function Overview({ id, entry, vips }: { id: string; entry: Document; vips: Document[] }) {
  const { data } = useMetrics("virtualservice", id, METRICS);
  return (
    <div className="stack">
      <div className="grid-2 charts">
        <Chart title="Throughput" series={[pick(data, "l4_client.avg_bandwidth", "Throughput")]} />
        <Chart title="Requests" series={[pick(data, "l7_client.avg_total_requests", "all"), pick(data, "l7_client.avg_error_responses", "4xx and 5xx")]} />
        <Chart title="Open connections" series={[pick(data, "l4_client.avg_open_conns", "Open")]} />
        <Chart title="Server response" series={[pick(data, "l7_client.avg_resp_latency", "Response")]} />
      </div>
      <Topology entry={entry} vips={vips} />
    </div>
  );
}

function PlacementTab({ id }: { id: string }) {
  const { data, error, refresh } = useGet<Document>(`/api/virtualservice/${id}/placement`, { on: PLACED, pause: 1000 });
  if (error && !data) return <Fault error={error} retry={refresh} />;
  if (!data) return <Loading />;
  return (
    <div className="stack">
      <p className="lead">{data.answer}</p>
      {data.vips.map((vip: Document) => (
        <div key={vip.vip_id} className="stack">
          {vip.would_help && <Note tone="warn">{vip.would_help}</Note>}
          <dl className="facts">
            <dt>Succession</dt>
            <dd>{vip.succession.map((ref: string) => nameOf(ref)).join(" → ") || "none"} {vip.armed ? <Pill tone="ok">armed</Pill> : <Pill tone="wait">not armed yet</Pill>}</dd>
            <dt>Answers</dt>
            <dd>{vip.answers || "nobody"}</dd>
          </dl>
          <Decisions decisions={vip.decisions ?? []} />
          {vip.considered?.engines?.length > 0 && (
            <div className="stack tight">
              <h3>Why here, why not there {vip.considered.note && <span className="muted small">({vip.considered.note})</span>}</h3>
              <table className="plain stacks">
                <thead>
                  <tr><th scope="col">Service engine</th><th scope="col">Verdict</th><th scope="col">Why</th></tr>
                </thead>
                <tbody>
                  {vip.considered.engines.map((engine: Document) => (
                    <tr key={engine.serviceengine}>
                      <td><Link to={`/serviceengines/${uuidOf(engine.se_ref)}`}>{engine.serviceengine}</Link></td>
                      <td className="nowrap">{String(engine.verdict ?? (engine.rule ? "excluded" : "eligible")).replaceAll("_", " ")}</td>
                      <td className="muted">{engine.detail ?? engine.why ?? ""}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </div>
      ))}
    </div>
  );
}
