// The tree of a virtual service: engines that serve it, its pools, their servers; edges as thick as what flows over them.

import { type Document, get, nameOf, uuidOf } from "../core/api";
import { measured, plural, state as stateOf, type Tone } from "../core/format";
import { useLoad } from "../core/live";
import { latest, seriesOf } from "../core/metrics";
import { go } from "../core/router";

interface Node {
  id: string;
  title: string;
  sub: string;
  tone: Tone;
  to?: string;
}

interface Member {
  uuid: string;
  name: string;
  /** What its pool group says of it. */
  share: string;
  servers: Document[];
  /** Server -> bit/s. */
  flow: Map<string, number>;
}

const WIDTH = 178;
const HEIGHT = 46;
const GAP = 12;
const COLUMN = 250;
const SERVERS_SHOWN_MAX = 24;
const POOLS_SHOWN_MAX = 8;
const FLOWS = "metric_id=l4_server.avg_bandwidth&step=5&limit=2&pad_missing_data=false&obj_id=*";

/** The pool, or those of the pool group in the order in which they are taken. */
async function poolsOf(entry: Document, signal: AbortSignal): Promise<Member[]> {
  const pool: string = entry.config.pool_ref ?? entry.pools?.[0]?.ref ?? "";
  const group = uuidOf(entry.config.pool_group_ref ?? entry.poolgroups?.[0]?.ref);
  const members: Document[] = pool ? [{ pool_ref: pool }] : group ? (await get(`/api/poolgroup/${group}/runtime`, signal)).members : [];
  return Promise.all(
    members.slice(0, POOLS_SHOWN_MAX).map(async (member) => {
      const uuid = uuidOf(member.pool_ref);
      const [about, servers, flows] = await Promise.all([
        get(`/api/pool/${uuid}?fields=name`, signal),
        get<Document[]>(`/api/pool/${uuid}/runtime/server`, signal),
        get(`/api/analytics/metrics/pool/${uuid}?${FLOWS}`, signal).then(seriesOf, () => []),
      ]);
      const flow = new Map(flows.filter((one) => one.server).map((one) => [one.server, latest(one) ?? 0]));
      return { uuid, name: String(about.name), share: pool ? "" : `priority ${member.priority}, ratio ${member.ratio}: `, servers, flow };
    }),
  );
}

/** `vips`: as the runtime tells of them, with what each engine carries. */
export function Topology({ entry, vips }: { entry: Document; vips: Document[] }) {
  const { data } = useLoad<Member[]>(`pools of ${entry.uuid} ${entry.config.pool_ref ?? ""} ${entry.config.pool_group_ref ?? ""}`, (signal) => poolsOf(entry, signal), { on: ["pool", "poolgroup"], every: 5000, pause: 1000 });
  const [word, tone] = stateOf(entry.runtime.oper_status.state);
  const carried = new Map<string, number>();
  for (const vip of vips) for (const engine of vip.se_list ?? []) if (engine.traffic) carried.set(uuidOf(engine.se_ref), engine.traffic.bits_per_s);
  const engines: (Node & { standby: boolean })[] = (entry.runtime.vip_summary ?? []).flatMap((vip: Document) =>
    (vip.service_engine ?? []).map((engine: Document) => ({
      id: engine.uuid,
      title: engine.name ?? nameOf(engine.url),
      sub: [engine.primary ? "primary" : engine.standby ? "standby" : "secondary", ...(carried.has(engine.uuid) ? [measured(carried.get(engine.uuid)!, "BITS_PER_SECOND")] : [])].join(", "),
      standby: engine.standby,
      tone: engine.scaleout_in_progress || engine.scalein_in_progress ? "wait" : engine.active_on_se || engine.standby ? "ok" : "off",
      to: `/serviceengines/${engine.uuid}`,
    })),
  );
  const members = data ?? [];
  const room = Math.max(1, Math.floor(SERVERS_SHOWN_MAX / Math.max(1, members.length)));
  const pools: (Node & { flow: number })[] = members.map((member) => {
    const up = member.servers.filter((server) => server.oper_status.state === "OPER_UP").length;
    const all = member.servers.length;
    const flow = [...member.flow.values()].reduce((sum, one) => sum + one, 0);
    return { id: member.uuid, title: member.name, sub: `${member.share}${up} of ${member.share ? all : plural(all, "server")} up`, tone: up === all && all ? "ok" : up ? "warn" : "bad", flow };
  });
  const leaves: (Node & { pool: number; flow: number })[] = members.flatMap((member, pool) =>
    member.servers.slice(0, room).map((server) => {
      const [said, of] = stateOf(server.oper_status.state);
      const address = `${server.ip_addr.addr}:${server.port}`;
      const flow = member.flow.get(address) ?? 0;
      return { id: `${member.uuid} ${address}`, pool, flow, title: address, sub: of === "ok" ? measured(flow, "BITS_PER_SECOND") : [said, ...(server.oper_status.reason ?? [])].join(": "), tone: of };
    }),
  );
  const columns: Node[][] = [engines, [{ id: "vs", title: entry.config.name, sub: word, tone }], pools, leaves];
  const rows = Math.max(1, ...columns.map((column) => column.length));
  const height = rows * (HEIGHT + GAP) + 4;
  const x = (column: number) => column * COLUMN + 2;
  const y = (column: number, at: number) => {
    const count = columns[column]!.length;
    return (height - count * (HEIGHT + GAP) + GAP) / 2 + at * (HEIGHT + GAP);
  };
  const edges: { d: string; width: number; tone: Tone }[] = [];
  const join = (a: number, i: number, b: number, j: number, share: number, of: Tone) => {
    const [x1, y1, x2, y2] = [x(a) + WIDTH, y(a, i) + HEIGHT / 2, x(b), y(b, j) + HEIGHT / 2];
    edges.push({ d: `M${x1} ${y1} C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`, width: 1 + 4 * share, tone: of });
  };
  const busiest = Math.max(1, ...carried.values());
  const fullest = Math.max(1, ...pools.map((pool) => pool.flow));
  const most = Math.max(1, ...leaves.map((leaf) => leaf.flow));
  engines.forEach((engine, at) => join(0, at, 1, 0, (carried.get(engine.id) ?? 0) / busiest, engine.standby ? "off" : engine.tone));
  pools.forEach((pool, at) => join(1, 0, 2, at, pool.flow / fullest, pool.tone === "bad" ? "bad" : "ok"));
  leaves.forEach((leaf, at) => join(2, leaf.pool, 3, at, leaf.flow / most, leaf.tone));
  const hidden = members.reduce((sum, member) => sum + Math.max(0, member.servers.length - room), 0);
  const said = `${entry.config.name}: served by ${engines.map((one) => `${one.title} (${one.sub})`).join(", ") || "no engine"}; ${pools.map((pool) => `pool ${pool.title}, ${pool.sub}`).join("; ") || "no pool"}`;
  return (
    <div className="topology" role="region" aria-label="Engines, pools and servers" tabIndex={0}>
      <svg width={COLUMN * 3 + WIDTH + 4} height={height} role="group" aria-label={said}>
        {edges.map((edge) => <path key={edge.d} d={edge.d} className={`edge ${edge.tone}`} strokeWidth={edge.width} />)}
        {columns.map((column, c) =>
          column.map((node, at) => (
            <g
              key={node.id}
              transform={`translate(${x(c)} ${y(c, at)})`}
              className={`node ${node.tone} ${node.to ? "link" : ""}`}
              role={node.to ? "link" : undefined}
              tabIndex={node.to ? 0 : undefined}
              onClick={() => node.to && go(node.to)}
              onKeyDown={(event) => event.key === "Enter" && node.to && go(node.to)}
            >
              <rect width={WIDTH} height={HEIGHT} rx={9} />
              <circle cx={16} cy={HEIGHT / 2} r={4} />
              <text x={30} y={20}>{cut(node.title, 20)}{node.title.length > 20 && <title>{node.title}</title>}</text>
              <text x={30} y={36} className="sub">{cut(node.sub, 24)}{node.sub.length > 24 && <title>{node.sub}</title>}</text>
            </g>
          )),
        )}
      </svg>
      {hidden > 0 && <p className="muted small">and {plural(hidden, "more server")}</p>}
    </div>
  );
}

function cut(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
