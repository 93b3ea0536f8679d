// The event log, of everything or of one object; newest first.

import { useMemo } from "react";
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
}

export function useEvents(query: string, size = SIZE) {
  return useGet<{ count: number; results: LogEvent[] }>(`/api/analytics/logs?type=2&page_size=${size}${query}`, { on: ["events"], pause: 1000 });
}

export function EventList({ object = "", name = "", text = "", level = "", since = 0, size = SIZE, brief = false, keep }: { object?: string; name?: string; text?: string; level?: string; since?: number; size?: number; brief?: boolean; keep?: (event: LogEvent) => boolean }) {
  const query = [object && `&filter=${encodeURIComponent(`eq(object,${object})`)}`, name && `&filter=${encodeURIComponent(`eq(event_id,${name})`)}`, since && `&duration=${since}`].filter(Boolean).join("");
  const { data, error, refresh } = useEvents(query, text || level || keep ? 2000 : size);
  const events = useMemo(() => {
    const wanted = text.toLowerCase();
    return (data?.results ?? []).filter((event) => (!wanted || `${event.event_id} ${event.event_description}`.toLowerCase().includes(wanted)) && (!level || (level === "warning" ? event.level !== "info" : event.level === level)) && (!keep || keep(event))).slice(0, size);
  }, [data, text, level, size, keep]);
  if (error && !data) return <Fault error={error} retry={refresh} />;
  if (!data) return <Loading />;
  if (events.length === 0) return <Empty title="No events">{text || level || name ? "Nothing in the log fits the filters." : "What happens is noted here as it happens."}</Empty>;
  return (
    <ol className={`events ${brief ? "brief" : ""}`}>
      {events.map((event, at) => (
        <li key={`${event.report_timestamp}${event.event_id}${at}`}>
          <Time at={event.report_timestamp} relative={brief} />
          <Pill tone={TONES[event.level] ?? "off"}>{event.event_id}</Pill>
          <span>
            {brief && <b className="small">{event.event_id} </b>}
            {event.event_description} {!brief && <Where objects={event.objects ?? {}} />}
          </span>
        </li>
      ))}
      {data.count > events.length && !brief && <li className="muted"><span /><span /><span>Older ones are left out: narrow the filters.</span></li>}
    </ol>
  );
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
