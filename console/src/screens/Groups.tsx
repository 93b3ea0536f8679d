// Infrastructure > Service Engine Group: the list.

import { useMemo, useState } from "react";
import { type Document, get, list } from "../core/api";
import { MODES, plural } from "../core/format";
import { useGet, useLoad } from "../core/live";
import { Link, go } from "../core/router";
import { useSession } from "../core/session";
import { Button, Card, Empty, Fault, Icon, Loading, Page, Pill } from "../ui/basics";
import { MarginPills } from "../ui/margin";
import { type Column, Search, Table, Tick } from "../ui/table";
import { DeleteDialog } from "./DeleteDialog";

export interface GroupRow {
  uuid: string;
  name: string;
  engines: number;
  enginesUp: number;
  engines_max: number;
  services: number;
  mode: string;
  margin: Document | undefined;
  buffer: Document;
  upgrade: Document;
}

export function useGroups() {
  return useLoad<GroupRow[]>("groups", async () => (await list("serviceenginegroup-inventory")).map(rowOf), {
    on: ["serviceenginegroup", "serviceengine", "engines", "placements"],
    pause: 1000,
    every: 10_000,
  });
}

function rowOf(entry: Document): GroupRow {
  return {
    uuid: entry.uuid,
    name: entry.config.name,
    engines: entry.runtime?.num_se ?? entry.serviceengins?.length ?? 0,
    enginesUp: entry.runtime?.num_se_up ?? entry.serviceengins?.length ?? 0,
    engines_max: entry.config.max_se,
    services: entry.virtualservices?.length ?? entry.runtime?.num_vs ?? 0,
    mode: entry.config.ha_mode,
    margin: entry.runtime?.ha_margin,
    buffer: entry.runtime?.buffer ?? {},
    upgrade: entry.runtime?.upgrade ?? {},
  };
}

/** Nothing while its engines are not being upgraded. */
export function UpgradePill({ upgrade }: { upgrade: Document }) {
  if (!upgrade.state) return null;
  const suspended = upgrade.state === "SUSPENDED";
  return <Pill tone={suspended ? "warn" : "wait"} title={upgrade.status}>{suspended ? "upgrade suspended" : `upgrading, ${upgrade.se_done.length} of ${upgrade.se_done.length + upgrade.se_waiting.length + (upgrade.se_now ? 1 : 0)}`}</Pill>;
}

export default function Groups() {
  const { data, error, refresh } = useGroups();
  const { mayWrite } = useSession();
  const [text, setText] = useState("");
  const [ticked, setTicked] = useState<Set<string>>(new Set());
  const [removing, setRemoving] = useState(false);
  const write = mayWrite("serviceenginegroup");

  const rows = useMemo(() => (data ?? []).filter((row) => row.name.toLowerCase().includes(text.toLowerCase())), [data, text]);
  const doomed = (data ?? []).filter((one) => ticked.has(one.uuid));
  const columns: Column<GroupRow>[] = useMemo(
    () => [
      {
        id: "name",
        title: "Name",
        width: "minmax(124px, 1.2fr)",
        by: (row) => row.name,
        cell: (row) => (
          <>
            {write && <Tick id={row.uuid} name={row.name} ticked={ticked} change={setTicked} />}{" "}
            <Link to={`/serviceenginegroups/${row.uuid}`}>{row.name}</Link> <UpgradePill upgrade={row.upgrade} />
          </>
        ),
      },
      { id: "engines", title: "Engines", width: "92px", numeric: true, by: (row) => row.engines, cell: (row) => (row.enginesUp === row.engines ? row.engines : `${row.enginesUp} of ${row.engines} up`) },
      { id: "max", title: "Maximum", width: "82px", numeric: true, hideNarrow: true, by: (row) => row.engines_max, cell: (row) => row.engines_max },
      { id: "services", title: "Virtual Services", width: "118px", numeric: true, hideNarrow: true, by: (row) => row.services, cell: (row) => row.services },
      { id: "mode", title: "HA Mode", width: "188px", hideNarrow: true, by: (row) => MODES[row.mode] ?? row.mode, cell: (row) => MODES[row.mode] ?? row.mode },
      { id: "margin", title: "Stays up without", width: "124px", hideNarrow: true, by: (row) => row.margin?.stays_up?.engines ?? -1, cell: (row) => <MarginPills margin={row.margin} short /> },
      {
        id: "edit",
        title: "",
        width: "76px",
        cell: (row) => (
          <span className="row">
            <Link to={`/map?group=${row.uuid}`} className="icon" aria-label={`Placement map of ${row.name}`} title="Placement map">
              <Icon name="map" />
            </Link>
            <Link to={`/serviceenginegroups/${row.uuid}`} className="icon" aria-label={`Edit ${row.name}`} title="Edit">
              <Icon name="edit" />
            </Link>
          </span>
        ),
      },
    ],
    [ticked, write],
  );

  return (
    <Page
      title="Service Engine Group"
      crumbs={[["Infrastructure", ""]]}
      actions={
        write && (
          <Button kind="primary" onClick={() => go("/serviceenginegroups/new")}>
            <Icon name="plus" /> Create
          </Button>
        )
      }
    >
      {error && <Fault error={error} retry={refresh} />}
      <Card label="Service engine groups">
        <div className="toolbar">
          <Search value={text} onChange={setText} placeholder="Find a group" />
          <span className="spread" />
          {write && ticked.size > 0 && (
            <Button kind="danger" onClick={() => setRemoving(true)}>
              <Icon name="trash" /> Delete {ticked.size}
            </Button>
          )}
        </div>
        {!data && !error ? (
          <Loading />
        ) : (
          <Table rows={rows} columns={columns} id={(row) => row.uuid} label="Service engine groups" sort="name" below={(row) => <Members uuid={row.uuid} />} empty={<Empty title="No group has that name">Clear the search to see all groups.</Empty>} />
        )}
      </Card>
      {removing && (
        <DeleteDialog
          title={`Delete ${plural(doomed.length, "group")}?`}
          doomed={doomed.map((row) => ({ name: row.name, path: `/api/serviceenginegroup/${row.uuid}` }))}
          onClose={() => {
            setRemoving(false);
            setTicked(new Set());
          }}
          onDone={refresh}
        >
          <p>{doomed.map((row) => row.name).join(", ")}. Engines of a group go with it; a group that virtual services use is not deleted.</p>
        </DeleteDialog>
      )}
    </Page>
  );
}

/** Names of a group's engines and virtual services. */
function Members({ uuid }: { uuid: string }) {
  const { data } = useGet<Document>(`/api/serviceenginegroup/${uuid}/placement/map`, { on: ["engines", "placements"], pause: 1000 });
  if (!data) return <Loading />;
  return (
    <dl className="facts">
      <dt>Service engines</dt>
      <dd>
        {data.engines.length === 0 && <span className="muted">None yet: one is made when a virtual service needs it.</span>}
        {data.engines.map((engine: Document, at: number) => (
          <span key={engine.uuid}>
            {at > 0 && ", "}
            <Link to={`/serviceengines/${engine.uuid}`}>{engine.name}</Link>
          </span>
        ))}
      </dd>
      <dt>{plural(data.vips.length, "Virtual service")}</dt>
      <dd>
        {data.vips.length === 0 && <span className="muted">None</span>}
        {data.vips.slice(0, 60).map((vip: Document, at: number) => (
          <span key={vip.id}>
            {at > 0 && ", "}
            <Link to={`/virtualservices/${vip.services[0]}`}>{vip.name}</Link>
          </span>
        ))}
        {data.vips.length > 60 && ` and ${data.vips.length - 60} more`}
      </dd>
    </dl>
  );
}

export async function groupNames(): Promise<[string, string][]> {
  const found = await get<{ results: Document[] }>("/api/serviceenginegroup?page_size=200&fields=name,ha_mode");
  return found.results.map((group) => [String(group.uuid), String(group.name)]);
}
