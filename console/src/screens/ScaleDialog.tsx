// Scale Out, Scale In, Migrate: to which engine, and what it would do before it is done.

import { useState } from "react";
import { call, type Document, nameOf, uuidOf } from "../core/api";
import { useAttempt } from "../core/attempt";
import { useGet, useLoad } from "../core/live";
import type { GroupMap } from "../map/model";
import { Button, Dialog, Fault, Field, Note, toast } from "../ui/basics";

export type ScaleKind = "scaleout" | "scalein" | "migrate";

const TITLES: Record<ScaleKind, string> = { scaleout: "Scale Out", scalein: "Scale In", migrate: "Migrate" };

export function ScaleDialog({ kind, id, name, group, vips, onClose }: { kind: ScaleKind; id: string; name: string; group: string; vips: Document[]; onClose: () => void }) {
  const { data: map } = useGet<GroupMap>(`/api/serviceenginegroup/${group}/placement/map`);
  const [vip, setVip] = useState<string>(vips[0]?.vip_id ?? "0");
  const engines: Document[] = vips.find((one) => one.vip_id === vip)?.se_list ?? [];
  const here = engines.filter((engine) => !engine.is_standby).map((engine) => ({ uuid: uuidOf(engine.se_ref), name: nameOf(engine.se_ref), primary: engine.is_primary }));
  const [from, setFrom] = useState("");
  const [to, setTo] = useState("");
  const [host, setHost] = useState("");
  const { busy, fault, attempt } = useAttempt();
  const others = (map?.engines ?? []).filter((engine) => !here.some((one) => one.uuid === engine.uuid));
  const hosts = [...new Set((map?.engines ?? []).map((engine) => engine.host))];
  const source = from || here.find((one) => !one.primary)?.uuid || here[0]?.uuid || "";
  const body: Document = { vip_id: vip };
  if (kind === "scalein") {
    body.from_se_ref = `/api/serviceengine/${source}`;
    if (here.find((one) => one.uuid === source)?.primary) body.scalein_primary = true;
  }
  if (kind === "migrate") body.from_se_ref = `/api/serviceengine/${from || here.find((one) => one.primary)?.uuid || source}`;
  if (kind !== "scalein" && to === "new") Object.assign(body, { to_new_se: true, ...(host ? { to_host_ref: host } : {}) });
  else if (kind !== "scalein" && to) body.to_se_ref = `/api/serviceengine/${to}`;
  const key = JSON.stringify(body);
  const nowhere = kind !== "scaleout" && here.length === 0;
  const plan = useLoad<Document>(nowhere ? null : `${kind} ${id} ${key}`, async (signal) => (await call("POST", `/api/virtualservice/${id}/${kind}?plan=true`, JSON.parse(key), signal)).data, { on: ["placements"], pause: 1000 });
  const run = () =>
    attempt(async () => {
      await call("POST", `/api/virtualservice/${id}/${kind}`, body);
      toast(`${name}: ${TITLES[kind].toLowerCase()} is under way.`);
      onClose();
    });
  return (
    <Dialog title={`${TITLES[kind]} ${name}`} onClose={onClose} actions={<><Button onClick={onClose}>Cancel</Button><Button kind="primary" busy={busy} disabled={nowhere || Boolean(plan.error)} onClick={run}>{TITLES[kind]}</Button></>}>
      {fault && <Fault error={fault} />}
      {vips.length > 1 && (
        <Field label="VIP" htmlFor="scale-vip">
          <select id="scale-vip" value={vip} onChange={(event) => setVip(event.target.value)}>
            {vips.map((one) => <option key={one.vip_id}>{one.vip_id}</option>)}
          </select>
        </Field>
      )}
      {kind !== "scaleout" && (
        <Field label="From" htmlFor="scale-from">
          <select id="scale-from" value={String(body.from_se_ref ?? "").split("/").pop()} onChange={(event) => setFrom(event.target.value)}>
            {here.map((one) => <option key={one.uuid} value={one.uuid}>{one.name}{one.primary ? " (primary)" : ""}</option>)}
          </select>
        </Field>
      )}
      {kind !== "scalein" && (
        <Field label="To" htmlFor="scale-to">
          <select id="scale-to" value={to} onChange={(event) => setTo(event.target.value)}>
            <option value="">Automatic: the controller picks the best</option>
            {others.map((engine) => <option key={engine.uuid} value={engine.uuid}>{engine.name} on {engine.host}</option>)}
            <option value="new">Create Service Engine</option>
          </select>
        </Field>
      )}
      {to === "new" && (
        <Field label="Host" htmlFor="scale-host">
          <select id="scale-host" value={host} onChange={(event) => setHost(event.target.value)}>
            <option value="">Any</option>
            {hosts.map((one) => <option key={one}>{one}</option>)}
          </select>
        </Field>
      )}
      {nowhere ? <Note>It is on no engine yet.</Note> : plan.error ? <Fault error={plan.error} /> : <Note tone={plan.data?.moves_traffic ? "warn" : "info"}>{plan.data?.sentence ?? "Thinking what it would do …"}</Note>}
    </Dialog>
  );
}
