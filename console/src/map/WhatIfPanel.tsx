// Beside the map: what is imagined, and what would come of it.

import { useState } from "react";
import type { Document } from "../core/api";
import { duration, MODES, plural } from "../core/format";
import type { Query } from "../core/live";
import { Button, Card, Fault, Field, Note } from "../ui/basics";
import { anyOf, isMargin } from "../ui/margin";
import type { GroupMap, Phase } from "./model";
import { isAnything, isDoable, nothing, NUMBERS, type Wish } from "./whatif";

const PHASES: [Phase, string][] = [
  ["now", "Now"],
  ["right_after", "Right after"],
  ["in_the_end", "In the end"],
];
const GUARANTEES: ["stays_up" | "keeps_capacity", string, string][] = [
  ["stays_up", "Stays up without", "Engines that may fail while all stays up"],
  ["keeps_capacity", "Keeps capacity without", "Engines that may fail while all keep their number of engines"],
];
const WORST_MAX = 3;
const FATES_SHOWN_MAX = 60;

interface Props {
  map: GroupMap;
  wish: Wish;
  onWish: (wish: Wish) => void;
  outcome: Query<Document>;
  onApply: () => void;
  onDiscard: () => void;
  mayWrite: boolean;
}

export function WhatIfPanel({ map, wish, onWish, outcome, onApply, onDiscard, mayWrite }: Props) {
  const answer = outcome.data;
  const [unfolded, setUnfolded] = useState(Object.keys(wish.edits).length > 0);
  const edit = (field: string, value: unknown) => {
    const { [field]: _, ...rest } = wish.edits;
    onWish({ ...wish, edits: value === "" || value === undefined ? rest : { ...rest, [field]: value } });
  };
  const marked = Object.values(wish.marks);
  return (
    <aside className="map-panel" aria-label="What if">
      <Card title="What if …" actions={<Button kind="quiet" disabled={!isAnything(wish)} onClick={() => onWish(nothing)}>Clear</Button>}>
        <div className="body stack">
          <p className="muted small">Kill or drain engines and hosts on the map, or change the group. Nothing happens for real until you apply it.</p>
          <div className="row">
            <span>The worst</span>
            <span className="segments" role="group" aria-label="The worst engines fail">
              {Array.from({ length: Math.min(WORST_MAX, map.engines.length) }, (_, at) => at + 1).map((count) => (
                <button
                  key={count}
                  type="button"
                  aria-pressed={wish.worst === count}
                  onClick={() => onWish({ ...wish, worst: wish.worst === count ? 0 : count, marks: Object.fromEntries(Object.entries(wish.marks).filter(([, mark]) => mark === "drain")) })}
                >
                  {count}
                </button>
              ))}
            </span>
            <span>fail</span>
          </div>
          <details open={unfolded} onToggle={(event) => setUnfolded(event.currentTarget.open)}>
            <summary>Change the group</summary>
            <div className="stack tight">
              <Field label="High Availability Mode" htmlFor="wi-mode">
                <select id="wi-mode" value={String(wish.edits.ha_mode ?? "")} onChange={(event) => edit("ha_mode", event.target.value)}>
                  <option value="">as it is: {MODES[map.ha_mode]}</option>
                  {Object.entries(MODES).filter(([mode]) => mode !== map.ha_mode).map(([mode, name]) => <option key={mode} value={mode}>{name}</option>)}
                </select>
              </Field>
              <div className="form narrow">
                {NUMBERS.map(([field, label]) => (
                  <Field key={field} label={label} htmlFor={`wi-${field}`}>
                    <input id={`wi-${field}`} type="number" min={0} placeholder="as it is" value={String(wish.edits[field] ?? "")} onChange={(event) => edit(field, event.target.value === "" ? undefined : Number(event.target.value))} />
                  </Field>
                ))}
                <Field label="More virtual services" htmlFor="wi-add">
                  <input id="wi-add" type="number" min={0} placeholder="0" value={wish.add || ""} onChange={(event) => onWish({ ...wish, add: Math.max(0, Number(event.target.value)) })} />
                </Field>
              </div>
            </div>
          </details>
        </div>
      </Card>
      <Card title="Outcome" actions={isAnything(wish) && outcome.loading && <span className="spinner" aria-label="Thinking" role="img" />}>
        <div className="body stack" aria-live="polite">
          {outcome.error && <Fault error={outcome.error} />}
          {!isAnything(wish) && <p className="muted">Nothing is imagined yet.</p>}
          {isAnything(wish) && !answer && !outcome.error && <p className="muted">Thinking …</p>}
          {answer && <Outcome answer={answer} />}
        </div>
        <div className="panel-foot">
          <Button onClick={onDiscard}>Discard</Button>
          <Button kind="primary" disabled={!mayWrite || !isDoable(wish) || !answer} onClick={onApply} title={isDoable(wish) ? "" : "Only changes and drains can be applied"}>
            Apply …
          </Button>
        </div>
        {(marked.includes("fail") || wish.worst > 0) && <p className="muted small foot-note">Failures are only imagined: applying kills no engine.</p>}
      </Card>
    </aside>
  );
}

function Outcome({ answer }: { answer: Document }) {
  const [first, ...rest]: string[] = answer.verdict;
  const bad = answer.virtualservices.down.length > 0 || answer.virtualservices.unplaced.length > 0;
  const wait = answer.virtualservices.waiting.length > 0;
  const vips: Document[] = answer.vips;
  return (
    <>
      <Note tone={bad ? "bad" : wait ? "warn" : "ok"}>
        <b>{first}</b>
      </Note>
      {rest.map((line) => (
        <p key={line} className="small">{line}</p>
      ))}
      <dl className="facts">
        {answer.connections.lost + answer.connections.drained > 0 && (
          <>
            <dt>Connections</dt>
            <dd>{answer.connections.lost.toLocaleString("en")} lost, {answer.connections.drained.toLocaleString("en")} drained</dd>
          </>
        )}
        <dt>Engines</dt>
        <dd>{[answer.engines.made && `${plural(answer.engines.made, "engine is", "engines are")} made`, answer.engines.deleted.length && `${answer.engines.deleted.length} deleted`, answer.engines.deleted_when_idle.length && `${answer.engines.deleted_when_idle.length} deleted when idle`].filter(Boolean).join(", ") || "as they are"}</dd>
      </dl>
      <Figures answer={answer} />
      {answer.notes.map((note: string) => <Note key={note} tone="warn">{note}</Note>)}
      {(answer.warnings ?? []).map((warning: string) => <Note key={warning} tone="warn">{warning}</Note>)}
      {vips.length > 0 && (
        <details>
          <summary>{plural(vips.length, "VIP is", "VIPs are")} touched</summary>
          <table className="plain small">
            <thead>
              <tr><th scope="col">VIP</th><th scope="col">What</th><th scope="col">No answer for</th></tr>
            </thead>
            <tbody>
              {vips.slice(0, FATES_SHOWN_MAX).map((vip) => (
                <tr key={vip.vip}>
                  <td>{vip.virtualservices.join(", ") || vip.address}</td>
                  <td>{vip.what} <span className="muted">{vip.in_the_end.join(", ")}</span></td>
                  <td className="nowrap">{silence(vip.not_answered_ms)}</td>
                </tr>
              ))}
            </tbody>
          </table>
          {vips.length > FATES_SHOWN_MAX && <p className="muted small">and {vips.length - FATES_SHOWN_MAX} more</p>}
        </details>
      )}
      {answer.hints.slice(0, 2).map((hint: string) => <p key={hint} className="small"><b>What would help:</b> {hint}</p>)}
    </>
  );
}

/** The same three moments as over the map. */
function Figures({ answer }: { answer: Document }) {
  const { before, after } = answer.margin;
  return (
    <table className="plain small figures-table">
      <thead>
        <tr><td /><th scope="col">Now</th><th scope="col">Right after</th><th scope="col">In the end</th></tr>
      </thead>
      <tbody>
        <tr>
          <th scope="row">Free slots</th>
          <td>{answer.capacity.before.free}</td>
          <td>{answer.capacity.right_after.free}</td>
          <td>{answer.capacity.in_the_end.free}</td>
        </tr>
        {(answer.capacity.before.needed > 0 || answer.capacity.in_the_end.needed > 0) && (
          <tr>
            <th scope="row">Buffer needs</th>
            <td>{answer.capacity.before.needed}</td>
            <td className="muted">–</td>
            <td className={answer.capacity.in_the_end.free < answer.capacity.in_the_end.needed ? "worse" : ""}>{answer.capacity.in_the_end.needed}</td>
          </tr>
        )}
        {isMargin(before) && isMargin(after) && GUARANTEES.map(([one, label, about]) => {
          const better = after[one].engines - before[one].engines;
          return (
            <tr key={one}>
              <th scope="row" title={about}>{label}</th>
              <td>{before.of_engines ? anyOf(before[one], before.of_engines) : "–"}</td>
              <td className="muted">–</td>
              <td className={better > 0 ? "better" : better < 0 ? "worse" : ""}>{after.of_engines ? anyOf(after[one], after.of_engines) : "–"}</td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

/** Over the map: which moment of what is imagined it shows. */
export function Moments({ answer, phase, onPhase }: { answer: Document | null; phase: Phase; onPhase: (phase: Phase) => void }) {
  const said = answer ? moments(answer) : { now: "", right_after: "", in_the_end: "" };
  return (
    <div className="moments" role="group" aria-label="Moment">
      {PHASES.map(([one, label]) => (
        <button key={one} type="button" aria-pressed={answer !== null && phase === one} disabled={!answer} onClick={() => onPhase(one)}>
          <b>{label}</b>
          <small>{said[one] || "–"}</small>
        </button>
      ))}
    </div>
  );
}

function moments(answer: Document): Record<Phase, string> {
  const { served, down, waiting, unplaced, moved } = answer.virtualservices;
  const silent = (answer.vips as Document[]).filter((vip) => vip.not_answered_ms.most !== 0);
  const longest = silent.reduce<number | null>((most, vip) => (most === null || vip.not_answered_ms.most === null ? null : Math.max(most, vip.not_answered_ms.most)), 0);
  const out = down.length + waiting.length;
  const without = down.length + unplaced.length;
  const { made, deleted } = answer.engines;
  return {
    now: `${served.toLocaleString("en")} served`,
    right_after: out ? `${out.toLocaleString("en")} not served` : silent.length ? `${silent.length.toLocaleString("en")} silent for ${longest === null ? "a while" : `up to ${duration(longest)}`}` : moved.length ? `${moved.length.toLocaleString("en")} moved, none silent` : "nobody notices",
    in_the_end: without ? `${without.toLocaleString("en")} not served` : made ? `${plural(made, "engine")} made` : deleted.length ? `${plural(deleted.length, "engine")} deleted` : "all served",
  };
}

function silence(ms: { least: number; most: number | null }): string {
  if (ms.most === 0) return "–";
  if (ms.most === null) return "until it is back";
  const [least, most] = [duration(ms.least), duration(ms.most)];
  return least === most ? most : `${least} to ${most}`;
}
