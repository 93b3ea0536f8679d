// Infrastructure > Service Engines.

import { useMemo, useState } from "react";
import { call, type Document, list, nameOf, uuidOf } from "../core/api";
import { useAttempt } from "../core/attempt";
import { engineState } from "../core/format";
import { useLoad } from "../core/live";
import { Link, setQuery, useQueryParam } from "../core/router";
import { useSession } from "../core/session";
import { Button, Card, Empty, Fault, Loading, Page, Pill, toast } from "../ui/basics";
import { type Column, Search, Table, Tick } from "../ui/table";
import { DrainDialog } from "./DrainDialog";

export interface EngineRow {
  uuid: string;
  name: string;
  state: string;
  reason: string;
  enabled: string;
  group: string;
  group_uuid: string;
  owned: number;
  cpu: number;
  memory: number;
  version: string;
  migrating: string;
}

export function useEngines() {
  return useLoad<EngineRow[]>("engines", async () => (await list("serviceengine-inventory", "include_name")).map(rowOf), { on: ["engines", "serviceengine"], pause: 1500, every: 10_000 });
}

function rowOf(entry: Document): EngineRow {
  return {
    uuid: entry.uuid,
    name: entry.config.name,
    state: entry.runtime?.oper_status?.state ?? "",
    reason: (entry.runtime?.oper_status?.reason ?? []).join(". "),
    enabled: entry.config.enable_state,
    group: nameOf(entry.config.se_group_ref),
    group_uuid: uuidOf(entry.config.se_group_ref),
    owned: (entry.runtime?.vips_owned ?? []).length,
    cpu: entry.runtime?.cpu_percent ?? 0,
    memory: entry.runtime?.memory_mb ?? 0,
    version: entry.runtime?.version ?? "",
    migrating: entry.runtime?.migrate_state ?? "",
  };
}

export async function enable(uuids: string[]): Promise<void> {
  await call("POST", "/api/changes", { changes: uuids.map((uuid) => ({ method: "PATCH", type: "serviceengine", uuid, body: { replace: { enable_state: "SE_STATE_ENABLED" } } })) });
}

export default function Engines() {
  const { data, error, refresh } = useEngines();
  const groups = useLoad("group names by uuid", async () => new Map((await list("serviceenginegroup", "fields=name")).map((group) => [String(group.uuid), String(group.name)])), { on: ["serviceenginegroup"] });
  const { mayWrite } = useSession();
  const text = useQueryParam("find");
  const [ticked, setTicked] = useState<Set<string>>(new Set());
  const write = mayWrite("serviceengine");
  const rows = useMemo(
    () => (data ?? []).map((row) => ({ ...row, group: row.group || groups.data?.get(row.group_uuid) || "" })).filter((row) => `${row.name} ${row.group}`.toLowerCase().includes(text.toLowerCase())),
    [data, text, groups.data],
  );
  const [draining, setDraining] = useState(false);
  const { busy, fault, attempt } = useAttempt();
  const switchOn = () =>
    attempt(async () => {
      await enable([...ticked]).finally(refresh);
      toast("Enabled.");
      setTicked(new Set());
    });
  const columns: Column<EngineRow>[] = [
    {
      id: "name",
      title: "Name",
      width: "minmax(128px, 1.4fr)",
      by: (row) => row.name,
      cell: (row) => (
        <>
          {write && <Tick id={row.uuid} name={row.name} ticked={ticked} change={setTicked} />}{" "}
          <Link to={`/serviceengines/${row.uuid}`}>{row.name}</Link>
        </>
      ),
    },
    {
      id: "state",
      title: "Health",
      width: "112px",
      by: (row) => engineState(row.state, row.enabled)[0],
      cell: (row) => {
        const [word, tone] = engineState(row.state, row.enabled);
        return <Pill tone={tone} title={row.reason}>{word}</Pill>;
      },
    },
    { id: "group", title: "Service Engine Group", width: "minmax(120px, 1fr)", hideNarrow: true, by: (row) => row.group, cell: (row) => <Link to={`/map?group=${row.group_uuid}&select=${row.uuid}`}>{row.group}</Link> },
    { id: "owned", title: "VIPs owned", width: "96px", numeric: true, hideNarrow: true, by: (row) => row.owned, cell: (row) => row.owned },
    { id: "cpu", title: "CPU", width: "58px", numeric: true, by: (row) => row.cpu, cell: (row) => `${row.cpu.toFixed(0)} %` },
    { id: "memory", title: "Memory", width: "90px", numeric: true, hideNarrow: true, by: (row) => row.memory, cell: (row) => `${row.memory.toFixed(0)} MB` },
    { id: "why", title: "", width: "minmax(100px, 1fr)", hideNarrow: true, cell: (row) => <span className="muted">{row.reason}</span> },
  ];
  return (
    <Page title="Service Engines" crumbs={[["Infrastructure", ""]]}>
      {error && <Fault error={error} retry={refresh} />}
      {fault && <Fault error={fault} />}
      <Card label="Service engines">
        {!data && !error ? <Loading /> : data?.length === 0 ? (
          <Empty title="No service engine yet" action={<Link to="/virtualservices/new" className="button primary">Create a virtual service</Link>}>Engines are made when a virtual service needs one.</Empty>
        ) : (
          <>
            <div className="toolbar">
              <Search value={text} onChange={(next) => setQuery({ find: next })} placeholder="Find an engine" />
              <span className="spread" />
              {write && ticked.size > 0 && (
                <>
                  <Button busy={busy} onClick={switchOn}>Enable</Button>
                  <Button onClick={() => setDraining(true)}>Disable</Button>
                </>
              )}
            </div>
            <Table rows={rows} columns={columns} id={(row) => row.uuid} label="Service engines" sort="name" empty={<Empty title="Nothing fits">Change the search to see more.</Empty>} />
          </>
        )}
      </Card>
      {draining && <DrainDialog engines={rows.filter((row) => ticked.has(row.uuid))} onClose={() => setDraining(false)} onDone={() => { setTicked(new Set()); refresh(); }} />}
    </Page>
  );
}
