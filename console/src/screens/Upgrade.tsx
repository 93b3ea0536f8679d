// All engines of a group are started anew, one after another: asked for, followed, stopped, gone on with.

import { useState } from "react";
import { call, type Document, list } from "../core/api";
import { useAttempt } from "../core/attempt";
import { plural } from "../core/format";
import { useGet, useLoad } from "../core/live";
import { Button, Dialog, Fault, Loading, Meter, Note, toast } from "../ui/basics";

/** Of the group's runtime; empty while there is none. */
export interface Upgrade {
  state?: "SUSPENDED" | "IN_PROGRESS";
  se_now: string;
  step: string;
  se_done: string[];
  se_waiting: string[];
  why: string;
  status: string;
}

export function useGroupRuntime(uuid: string) {
  return useGet<Document>(uuid && uuid !== "new" ? `/api/serviceenginegroup/${uuid}/runtime` : null, { on: ["engines", "placements"], pause: 500, every: 5000 });
}

function ask(uuid: string, body: Document) {
  return call("POST", `/api/serviceenginegroup/${uuid}/upgrade`, body);
}

export function UpgradeDialog({ uuid, name, onClose, onDone }: { uuid: string; name: string; onClose: () => void; onDone: () => void }) {
  const engines = useLoad<Document[]>(`engines of ${uuid}`, () => list("serviceengine-inventory", `refers_to=serviceenginegroup:${uuid}`));
  const [all, setAll] = useState(false);
  const { busy, fault, attempt } = useAttempt();
  const versions = new Map<string, number>();
  for (const engine of engines.data ?? []) {
    const version = engine.runtime?.version || "not known";
    versions.set(version, (versions.get(version) ?? 0) + 1);
  }
  const run = () =>
    attempt(async () => {
      await ask(uuid, all ? { all: true } : {});
      toast(`${name}: its engines are started anew, one after another.`);
      onDone();
      onClose();
    });
  return (
    <Dialog title={`Upgrade the engines of ${name}`} onClose={onClose} actions={<><Button onClick={onClose}>Cancel</Button><Button kind="primary" busy={busy} disabled={engines.data?.length === 0} onClick={run}>Upgrade</Button></>}>
      {fault && <Fault error={fault} />}
      <p>One engine after another is emptied, started with the software that is installed at the controller, and filled again. The next one's turn comes when the group is whole. No connection is dropped; what can't be moved is not forced: then it stops and says why.</p>
      {engines.error && <Fault error={engines.error} />}
      {!engines.data && !engines.error && <Loading />}
      {engines.data && (engines.data.length === 0 ? <Note>The group has no engine: a new one runs the installed software from the start.</Note> : <p className="muted">{[...versions].map(([version, count]) => `${plural(count, "engine")} ${count === 1 ? "runs" : "run"} ${version}`).join(", ")}.</p>)}
      <label className="row"><input type="checkbox" checked={all} onChange={(event) => setAll(event.target.checked)} /> Also engines that run this version already</label>
    </Dialog>
  );
}

/** Nothing while none is under way. */
export function UpgradeProgress({ uuid, upgrade, write, onChanged }: { uuid: string; upgrade: Upgrade | undefined; write: boolean; onChanged: () => void }) {
  const { busy, fault, attempt } = useAttempt();
  if (!upgrade?.state) return null;
  const suspended = upgrade.state === "SUSPENDED";
  const done = upgrade.se_done.length;
  const total = done + upgrade.se_waiting.length + (upgrade.se_now ? 1 : 0);
  const change = (body: Document) =>
    attempt(async () => {
      const answer = await ask(uuid, body);
      toast(answer.data.status);
      onChanged();
    });
  return (
    <Note tone={suspended ? "warn" : "info"}>
      <div className="row whole">
        {!suspended && <span className="spinner" aria-hidden />}
        <b>{suspended ? "The upgrade of its engines is suspended" : "Its engines are being upgraded"}</b>
        <span className="spread" />
        <span className="muted num">{done} of {total}</span>
        {write && <Button busy={busy} onClick={() => change(suspended ? {} : { stop: true })}>{suspended ? "Go on" : "Stop after this one"}</Button>}
      </div>
      <Meter value={done} of={total} tone={suspended ? "warn" : "info"} label={`${done} of ${total} engines upgraded`} />
      <p className="small" aria-live="polite">{suspended ? `${upgrade.why}.` : upgrade.se_now ? `${upgrade.se_now} ${upgrade.step}${upgrade.why ? `: ${upgrade.why}` : ""}.` : upgrade.why ? `Waiting: ${upgrade.why}.` : "The next one's turn comes."}</p>
      {fault && <Fault error={fault} />}
    </Note>
  );
}
