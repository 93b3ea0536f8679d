// Client logs of a virtual service, where the controller keeps them.

import { useState } from "react";
import { type Document, uuidOf } from "../core/api";
import { duration, number } from "../core/format";
import { useGet } from "../core/live";
import { Empty, Fault, Loading, Note, Pill, Time } from "../ui/basics";
import { useSession } from "../core/session";
import { type Column, Search, Table } from "../ui/table";
import { streamed } from "./Parts";

const SIZE = 500;

const COLUMNS: Column<Document>[] = [
  { id: "at", title: "Time", width: "90px", by: (log) => seconds(log), cell: (log) => <Time at={seconds(log)} /> },
  { id: "client", title: "Client", width: "minmax(106px, 1fr)", hideNarrow: true, by: (log) => log.client_ip ?? "", cell: (log) => log.client_ip ?? "–" },
  { id: "request", title: "Request", width: "minmax(110px, 1.8fr)", by: (log) => log.uri_path ?? "", cell: (log) => (log.method ? `${log.method} ${log.uri_path ?? ""}` : "connection") },
  { id: "response", title: "Response", width: "84px", by: (log) => Number(log.response_code ?? 0), cell: (log) => (log.response_code ? <Pill tone={log.response_code >= 500 ? "bad" : log.response_code >= 400 ? "warn" : "ok"}>{log.response_code}</Pill> : "–") },
  { id: "server", title: "Server", width: "minmax(88px, 1fr)", hideNarrow: true, by: (log) => log.server_ip ?? "", cell: (log) => log.server_ip ?? "–" },
  { id: "length", title: "Length", width: "74px", numeric: true, hideNarrow: true, by: (log) => Number(log.response_length ?? 0), cell: (log) => (log.response_length === undefined ? "–" : number(log.response_length, "B")) },
  { id: "why", title: "Why it is kept", width: "minmax(90px, 1fr)", hideNarrow: true, cell: (log) => <span className="muted" title={log.significance}>{log.significance || "a sample"}</span> },
  { id: "total", title: "Duration", width: "74px", numeric: true, by: (log) => Number(log.total_time ?? 0), cell: (log) => (log.total_time === undefined ? "–" : duration(log.total_time)) },
];

function seconds(log: Document): number {
  const at = log.report_timestamp;
  return typeof at === "number" ? (at > 1e12 ? at / 1e6 : at) : Date.parse(at) / 1000 || 0;
}

export function Logs({ id }: { id: string }) {
  const [text, setText] = useState("");
  const [only, setOnly] = useState("");
  const [type, setType] = useState("1");
  const filters = [text && `co(all,${text.replace(/[()[\],]/g, " ").trim()})`, only && `ge(response_code,${only})`].filter(Boolean);
  const query = filters.map((filter) => `&filter=${encodeURIComponent(filter as string)}`).join("");
  const { data, error, refresh } = useGet<{ count: number; results: Document[] }>(`/api/analytics/logs?type=${type}&virtualservice=${id}&page_size=${SIZE}${query}`, { every: 5000 });
  const elsewhere = useStreamed(id);
  if (error && !data) return <Fault error={error} retry={refresh} />;
  if (!data) return <Loading />;
  return (
    <div className="stack">
      <div className="row">
        <Search value={text} onChange={setText} placeholder="Find in the logs" />
        <select aria-label="Responses" value={only} onChange={(event) => setOnly(event.target.value)}>
          <option value="">All responses</option>
          <option value="400">4xx and 5xx</option>
          <option value="500">5xx</option>
        </select>
        <select aria-label="Kind" value={type} onChange={(event) => setType(event.target.value)}>
          <option value="1">Requests</option>
          <option value="0">Connections</option>
        </select>
        <span className="spread" />
        {elsewhere && <span className="muted small">Also: {elsewhere}</span>}
      </div>
      {data.count > data.results.length && <Note>The newest {data.results.length} of {data.count.toLocaleString("en")} are shown.</Note>}
      <Table rows={data.results} columns={COLUMNS} id={(log) => String(log.request_id ?? log.log_id ?? JSON.stringify(log))} label="Client logs" empty={filters.length ? <Empty title="Nothing fits">Change the filters to see more.</Empty> : <Empty title="No client logs">Failed and slow requests, and a sample of the others, are listed here as they come.</Empty>} />
    </div>
  );
}

/** Where they go besides, by the virtual service's analytics profile. */
function useStreamed(id: string): string {
  const { mayRead } = useSession();
  const service = useGet<Document>(`/api/virtualservice/${id}?fields=analytics_profile_ref`);
  const profile = uuidOf(service.data?.analytics_profile_ref);
  return streamed(useGet<Document>(profile && mayRead("analyticsprofile") ? `/api/analyticsprofile/${profile}` : null, { on: ["analyticsprofile"] }).data);
}
