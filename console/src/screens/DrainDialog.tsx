// Disable service engines: what would move, before it does.

import { useState } from "react";
import { call, type Document } from "../core/api";
import { useAttempt } from "../core/attempt";
import { useLoad } from "../core/live";
import { Button, Dialog, Fault, Note, toast } from "../ui/basics";

const WAYS: [string, string, string][] = [
  ["SE_STATE_DISABLED", "Move everything away", "What is on it moves to others; open connections may end in peace. Nothing new comes."],
  ["SE_STATE_DISABLED_FOR_PLACEMENT", "Only take nothing new", "What is on it stays."],
];

export function DrainDialog({ engines, onClose, onDone }: { engines: { uuid: string; name: string }[]; onClose: () => void; onDone: () => void }) {
  const [way, setWay] = useState(WAYS[0]![0]);
  const { busy, fault, attempt } = useAttempt();
  const body = { changes: engines.map((one) => ({ method: "PATCH", type: "serviceengine", uuid: one.uuid, body: { replace: { enable_state: way } } })) };
  const key = JSON.stringify(body);
  const plan = useLoad<Document>(`drain ${key}`, async (signal) => (await call("POST", "/api/changes?plan=true", JSON.parse(key), signal)).data, { on: ["placements"], pause: 1000 });
  const what = engines.length === 1 ? engines[0]!.name : `${engines.length} service engines`;
  const problems: string[] = (plan.data?.groups ?? []).flatMap((group: Document) => group.problems);
  const run = () =>
    attempt(async () => {
      await call("POST", "/api/changes", body);
      toast(way === WAYS[0]![0] ? `${what}: what is there moves away.` : `${what}: nothing new is placed there.`);
      onDone();
      onClose();
    });
  return (
    <Dialog title={`Disable ${what}`} onClose={onClose} actions={<><Button onClick={onClose}>Cancel</Button><Button kind="primary" busy={busy} disabled={Boolean(plan.error)} onClick={run}>Disable</Button></>}>
      {fault && <Fault error={fault} />}
      <div className="choices" role="radiogroup" aria-label="How">
        {WAYS.map(([state, title, said]) => (
          <label className="choice" key={state}>
            <input type="radio" name="way" checked={way === state} onChange={() => setWay(state)} />
            <b>{title}</b>
            <small>{said}</small>
          </label>
        ))}
      </div>
      {plan.error ? <Fault error={plan.error} /> : <Note tone={plan.data?.moves_traffic ? "warn" : "info"}>{plan.data?.sentence ?? "Thinking what it would do …"}</Note>}
      {problems.map((problem) => <Note tone="bad" key={problem}>{problem}</Note>)}
    </Dialog>
  );
}
