// Applications > Virtual Services: all of them in one list; thousands scroll and filter in the browser.

import { useDeferredValue, useMemo } from "react";
import { plural, state as stateOf } from "../core/format";
import { useGet } from "../core/live";
import { Link, setQuery, useQueryParam } from "../core/router";
import { useSession } from "../core/session";
import { Card, Empty, Fault, Icon, Loading, Page, Pill } from "../ui/basics";
import { type Column, Search, Table } from "../ui/table";

export interface ServiceRow {
  uuid: string;
  name: string;
  enabled: boolean;
  state: string;
  reason: string;
  address: string;
  ports: number[];
  pool: string;
  pool_uuid: string;
  group: string;
  group_uuid: string;
  engines: string[];
  requested: number;
  assigned: number;
}

const MANY = 1000;

export function useServices() {
  const many = useMemo(() => ({ on: ["virtualservice", "vsvip", "pool", "placements", "engines"], pause: 1500 }), []);
  return useGet<{ count: number; results: ServiceRow[] }>("/api/console/virtualservices", many);
}

const COLUMNS: Column<ServiceRow>[] = [
  { id: "name", title: "Name", width: "minmax(96px, 1.3fr)", by: (row) => row.name, cell: (row) => <Link to={`/virtualservices/${row.uuid}`}>{row.name}</Link> },
  {
    id: "state",
    title: "Health",
    width: "104px",
    by: (row) => stateOf(row.state)[0],
    cell: (row) => {
      const [word, tone] = stateOf(row.state);
      return <Pill tone={tone} title={row.reason}>{word}</Pill>;
    },
  },
  { id: "address", title: "Address", width: "minmax(86px, 1fr)", by: (row) => row.address, cell: (row) => row.address },
  { id: "ports", title: "Services", width: "64px", hideNarrow: true, by: (row) => row.ports[0] ?? 0, cell: (row) => row.ports.join(", ") },
  { id: "pool", title: "Pools", width: "minmax(104px, 1.2fr)", hideNarrow: true, by: (row) => row.pool, cell: (row) => row.pool ? <span title={row.pool}>{row.pool}</span> : <span className="muted">–</span> },
  { id: "group", title: "Service Engine Group", width: "minmax(142px, 1fr)", hideNarrow: true, by: (row) => row.group, cell: (row) => <Link to={`/map?group=${row.group_uuid}`}>{row.group}</Link> },
  { id: "engines", title: "Service Engines", width: "minmax(132px, 1.4fr)", hideNarrow: true, by: (row) => row.engines.join(), cell: (row) => <span title={row.engines.join(", ")}>{row.engines.length > 1 ? `${row.engines[0]} +${row.engines.length - 1}` : row.engines[0] || <span className="muted">none</span>}</span> },
  { id: "count", title: "# SEs", width: "64px", numeric: true, hideNarrow: true, by: (row) => row.assigned, cell: (row) => (row.assigned < row.requested ? <b className="worse">{row.assigned} of {row.requested}</b> : row.assigned) },
];

const FILTERS: [string, string, (row: ServiceRow) => boolean][] = [
  ["", "All", () => true],
  ["up", "Up", (row) => row.state === "OPER_UP"],
  ["down", "Not up", (row) => row.state !== "OPER_UP" && row.enabled],
  ["short", "Short of engines", (row) => row.assigned < row.requested],
  ["disabled", "Disabled", (row) => !row.enabled],
];

export default function Services() {
  const { data, error, refresh } = useServices();
  const { mayWrite } = useSession();
  const text = useQueryParam("find");
  const filter = useQueryParam("show");
  const group = useQueryParam("group");
  const wanted = useDeferredValue(text);
  const all = data?.results ?? [];
  const indexed = useMemo(() => all.map((row) => ({ row, text: `${row.name} ${row.address} ${row.pool} ${row.group} ${row.engines.join(" ")} ${row.ports.join(" ")}`.toLowerCase() })), [all]);
  const rows = useMemo(() => {
    const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
    const keep = FILTERS.find(([id]) => id === filter)?.[2] ?? (() => true);
    return indexed.filter((one) => keep(one.row) && (!group || one.row.group_uuid === group) && words.every((word) => one.text.includes(word))).map((one) => one.row);
  }, [indexed, wanted, filter, group]);
  const groups = useMemo(() => [...new Map(all.map((row) => [row.group_uuid, row.group])).entries()].sort((a, b) => a[1].localeCompare(b[1])), [all]);
  const create = mayWrite("virtualservice") && (
    <Link to="/virtualservices/new" className="button primary">
      <Icon name="plus" /> Create
    </Link>
  );
  return (
    <Page title="Virtual Services" crumbs={[["Applications", ""]]} actions={create}>
      {error && <Fault error={error} retry={refresh} />}
      <Card label="Virtual services">
        {!data && !error ? (
          <Loading />
        ) : all.length === 0 ? (
          <Empty title="No virtual service yet" action={create}>
            A virtual service is an address and a port that clients connect to, and the servers behind it.
          </Empty>
        ) : (
          <>
            <div className="toolbar">
              <Search value={text} onChange={(next) => setQuery({ find: next })} placeholder="Find by name, address, pool, engine" />
              <select aria-label="Show" value={filter} onChange={(event) => setQuery({ show: event.target.value })}>
                {FILTERS.map(([id, name]) => <option key={id} value={id}>{name}</option>)}
              </select>
              <select aria-label="Service engine group" value={group} onChange={(event) => setQuery({ group: event.target.value })}>
                <option value="">All groups</option>
                {groups.map(([uuid, name]) => <option key={uuid} value={uuid}>{name}</option>)}
              </select>
              <span className="spread" />
              <span className="muted num" role="status">{rows.length === all.length ? plural(all.length, "virtual service") : `${rows.length.toLocaleString("en")} of ${all.length.toLocaleString("en")}`}</span>
            </div>
            <Table rows={rows} columns={COLUMNS} id={(row) => row.uuid} label="Virtual services" sort={all.length > MANY ? "" : "name"} empty={<Empty title="Nothing fits">Change the search or the filters to see more.</Empty>} />
          </>
        )}
      </Card>
    </Page>
  );
}
