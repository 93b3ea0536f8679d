// The event log, of everything or of one object; newest first.

import type { Document } from "../core/api";
import type { Tone } from "../core/format";
import { useGet } from "../core/live";
import { Link } from "../core/router";
import { Empty, Fault, Loading, Pill, Time } from "../ui/basics";

const SIZE = 200;
const TONES: Record<string, Tone> = { warning: "warn", error: "bad", critical: "bad", info: "off" };

export interface LogEvent {
  report_timestamp: number;
  event_id: string;
  event_description: string;
  level: string;
  objects: Record<string, string>;
  /** Of a change: field -> [old, new]. */
  changes?: Record<string, [unknown, unknown]>;
}

export function useEvents(query: string, size = SIZE) {
  return useGet<{ count: number; results: LogEvent[] }>(`/api/analytics/logs?type=2&page_size=${size}${query}`, { on: ["events"], pause: 1000 });
}

interface Props {
  /** Of one object, by uuid. */
  object?: string;
  text?: string;
  level?: string;
  /** CONFIG, PLACEMENT or SYSTEM, or several by comma. */
  module?: string;
  /** Not older than so many seconds. */
  since?: number;
  size?: number;
  brief?: boolean;
  /** Said where there is none. */
  none?: string;
}

export function EventList({ object = "", text = "", level = "", module = "", since = 0, size = SIZE, brief = false, none }: Props) {
  const filters = [object && `co(objects,${object})`, text && `co(all,${text.replace(/[()[\],]/g, " ").trim()})`, level && "ne(level,info)", module && `eq(module,[${module}])`].filter(Boolean);
  const query = filters.map((filter) => `&filter=${encodeURIComponent(filter as string)}`).join("") + (since ? `&duration=${since}` : "");
  const { data, error, refresh } = useEvents(query, size);
  const events = data?.results ?? [];
  if (error && !data) return <Fault error={error} retry={refresh} />;
  if (!data) return <Loading />;
  if (events.length === 0 && none) return <p className="muted">{none}</p>;
  if (events.length === 0) return <Empty title="No events">{filters.length ? "Nothing in the log fits the filters." : "What happens is noted here as it happens."}</Empty>;
  return (
    <ol className={`events ${brief ? "brief" : ""}`}>
      {events.map((event, at) => (
        <li key={`${event.report_timestamp}${event.event_id}${at}`}>
          <Time at={event.report_timestamp} relative={brief} />
          <Pill tone={TONES[event.level] ?? "off"}>{event.event_id}</Pill>
          <span>
            {brief && <b className="small">{event.event_id} </b>}
            {whole(event.event_description)} {!brief && <Where objects={event.objects ?? {}} />}
            {!brief && <Changes changes={event.changes ?? {}} />}
          </span>
        </li>
      ))}
      {data.count > events.length && !brief && <li className="muted"><span /><span /><span>Older ones are left out: narrow the filters.</span></li>}
    </ol>
  );
}

/** Old and new values of a change, as the audit trail has them. */
function Changes({ changes }: { changes: Record<string, [unknown, unknown]> }) {
  const found = Object.entries(changes);
  if (!found.length) return null;
  const shown = (value: unknown) => (value === undefined || value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value)).slice(0, 120);
  return (
    <details className="small">
      <summary>{found.length === 1 ? "1 field" : `${found.length} fields`}</summary>
      <table className="plain">
        <tbody>
          {found.slice(0, 60).map(([field, [old, fresh]]) => (
            <tr key={field}>
              <th scope="row">{field}</th>
              <td>{shown(old)} → {shown(fresh)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}

/** A number keeps its unit on its line. */
function whole(text: string): string {
  return text.replace(/(\d) (ms|s|min|h|%)(?![\w])/g, "$1\u00a0$2");
}

const PATHS: Record<string, string> = { virtualservice: "/virtualservices/", serviceengine: "/serviceengines/", serviceenginegroup: "/map?group=" };

function Where({ objects }: { objects: Document }) {
  const known = Object.entries(objects).filter(([role]) => PATHS[role]);
  return (
    <span className="row inline">
      {known.map(([role, uuid]) => (
        <Link key={role} to={`${PATHS[role]}${uuid}`} className="small">
          {role === "virtualservice" ? "virtual service" : role === "serviceengine" ? "engine" : "group"}
        </Link>
      ))}
    </span>
  );
}
