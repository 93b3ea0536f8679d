// Operations > Events and audit.

import { Page, Card } from "../ui/basics";
import { setQuery, useQueryParam } from "../core/router";
import { ZONE } from "../core/format";
import { Search } from "../ui/table";
import { EventList, type LogEvent } from "./EventList";

const KINDS: [string, string, (event: LogEvent) => boolean][] = [
  ["", "Everything", () => true],
  ["audit", "Audit: who changed what", (event) => event.event_id.startsWith("CONFIG_") || event.event_id.startsWith("USER_")],
  ["engines", "Engines", (event) => /(^|_)SE(_|$)/.test(event.event_id) && !event.event_id.startsWith("VS_")],
  ["services", "Virtual services", (event) => /^(VS|VIP|POOL)_/.test(event.event_id)],
];
const SPANS: [string, string][] = [["", "All kept"], ["900", "15 min"], ["3600", "1 h"], ["86400", "1 day"]];

export default function Events() {
  const text = useQueryParam("find");
  const kind = useQueryParam("kind");
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
        <div className="body"><EventList text={text} level={level} since={Number(span)} keep={KINDS.find(([id]) => id === kind)?.[2]} /></div>
      </Card>
    </Page>
  );
}
