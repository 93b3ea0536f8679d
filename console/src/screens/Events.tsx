// Operations > Events and audit.

import { Page, Card } from "../ui/basics";
import { setQuery, useQueryParam } from "../core/router";
import { ZONE } from "../core/format";
import { Search } from "../ui/table";
import { EventList } from "./EventList";

const KINDS: [string, string][] = [
  ["SYSTEM,CONFIG", "Events and audit"],
  ["SYSTEM", "Events"],
  ["CONFIG", "Audit: who changed what"],
  ["PLACEMENT", "Decisions, with reasons"],
];
const SPANS: [string, string][] = [["", "All kept"], ["900", "15 min"], ["3600", "1 h"], ["86400", "1 day"]];

export default function Events() {
  const text = useQueryParam("find");
  const kind = useQueryParam("kind") || KINDS[0]![0];
  const level = useQueryParam("level");
  const span = useQueryParam("span");
  return (
    <Page title="Events" crumbs={[["Operations", ""]]}>
      <Card label="Events">
        <div className="toolbar">
          <Search value={text} onChange={(next) => setQuery({ find: next })} placeholder="Find in the log" />
          <select aria-label="Kind" value={kind} onChange={(event) => setQuery({ kind: event.target.value })}>
            {KINDS.map(([id, name]) => <option key={id} value={id}>{name}</option>)}
          </select>
          <select aria-label="Level" value={level} onChange={(event) => setQuery({ level: event.target.value })}>
            <option value="">All levels</option>
            <option value="warning">Warnings and worse</option>
          </select>
          <select aria-label="Since" value={span} onChange={(event) => setQuery({ span: event.target.value })}>
            {SPANS.map(([seconds, name]) => <option key={seconds} value={seconds}>{name}</option>)}
          </select>
          <span className="spread" />
          <span className="muted small">Times in {ZONE}</span>
        </div>
        <div className="body"><EventList text={text} level={level} since={Number(span)} module={kind} /></div>
      </Card>
    </Page>
  );
}
