// What was imagined is done, as far as it can be: the plan is shown once more, and holds only if the world has not moved.

import { call, type Document } from "../core/api";
import { useAttempt } from "../core/attempt";
import { MODES } from "../core/format";
import { useLoad } from "../core/live";
import { Button, Dialog, Fault, Loading, Note, toast } from "../ui/basics";
import type { GroupMap } from "./model";
import { NUMBERS, type Wish } from "./whatif";

const LABELS: Record<string, string> = { ha_mode: "High Availability Mode", ...Object.fromEntries(NUMBERS) };

export function ApplyDialog({ map, wish, onClose, onDone }: { map: GroupMap; wish: Wish; onClose: () => void; onDone: () => void }) {
  const edits = Object.keys(wish.edits).length > 0;
  const drained = map.engines.filter((engine) => wish.marks[engine.uuid] === "drain");
  const killed = Object.values(wish.marks).includes("fail") || wish.worst > 0;
  const body = { replace: wish.edits };
  const plan = useLoad<Document | null>(`apply ${JSON.stringify(wish)}`, async (signal) => (edits ? (await call("PATCH", `/api/serviceenginegroup/${map.uuid}?plan=true`, body, signal)).data : null));
  const { busy, fault, attempt } = useAttempt();
  const apply = () =>
    attempt(async () => {
      if (edits) await call("PATCH", `/api/serviceenginegroup/${map.uuid}?apply=${encodeURIComponent(plan.data!.id)}`, body).catch((error) => {
        plan.refresh();
        throw error;
      });
      for (const engine of drained) await call("PATCH", `/api/serviceengine/${engine.uuid}`, { replace: { enable_state: "SE_STATE_DISABLED" } });
      toast(`${map.name}: under way. The map shows what moves.`);
      onDone();
    });
  return (
    <Dialog
      title={`Apply to ${map.name}`}
      onClose={onClose}
      actions={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" busy={busy} disabled={edits && !plan.data} onClick={apply}>Apply</Button>
        </>
      }
    >
      {fault && <Fault error={fault} />}
      {plan.error && <Fault error={plan.error} />}
      {plan.loading && <Loading what="Planning" />}
      {edits && (
        <dl className="facts">
          {Object.entries(wish.edits).map(([field, value]) => (
            <div className="contents" key={field}>
              <dt>{LABELS[field] ?? field}</dt>
              <dd>{MODES[String(value)] ?? String(value)}</dd>
            </div>
          ))}
        </dl>
      )}
      {plan.data && <p>{plan.data.sentence}</p>}
      {drained.length > 0 && <p>{drained.map((engine) => engine.name).join(", ")}: disabled; all that is there moves away, then it serves nothing.</p>}
      {killed && <Note>The failures were imagined: no engine is killed.</Note>}
    </Dialog>
  );
}
