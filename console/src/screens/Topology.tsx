// The tree of a virtual service: engines that serve it, its pools, their servers; edges as thick as what flows over them. Four
// columns where there is room, else an outline.

import { useLayoutEffect, useRef, useState } from "react";
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
const WHOLE = COLUMN * 3 + WIDTH + 4;
/** Of the outline. */
const STEP = 22;
const LEAST = 200;
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
  const busiest = Math.max(1, ...carried.values());
  const fullest = Math.max(1, ...pools.map((pool) => pool.flow));
  const most = Math.max(1, ...leaves.map((leaf) => leaf.flow));
  const joints: Joint[] = [
    ...engines.map((engine, at): Joint => ({ from: [0, at], to: [1, 0], share: (carried.get(engine.id) ?? 0) / busiest, tone: engine.standby ? "off" : engine.tone })),
    ...pools.map((pool, at): Joint => ({ from: [1, 0], to: [2, at], share: pool.flow / fullest, tone: pool.tone === "bad" ? "bad" : "ok" })),
    ...leaves.map((leaf, at): Joint => ({ from: [2, leaf.pool], to: [3, at], share: leaf.flow / most, tone: leaf.tone })),
  ];
  const holder = useRef<HTMLDivElement>(null);
  const [across, setAcross] = useState(WHOLE);
  useLayoutEffect(() => {
    const element = holder.current!;
    const look = () => setAcross(Math.max(LEAST, element.clientWidth));
    look();
    const sizes = new ResizeObserver(look);
    sizes.observe(element);
    return () => sizes.disconnect();
  }, []);
  const drawing = across < WHOLE ? outline(columns, joints, leaves.map((leaf) => leaf.pool), across) : abreast(columns, joints);
  const hidden = members.reduce((sum, member) => sum + Math.max(0, member.servers.length - room), 0);
  const said = `${entry.config.name}: served by ${engines.map((one) => `${one.title} (${one.sub})`).join(", ") || "no engine"}; ${pools.map((pool) => `pool ${pool.title}, ${pool.sub}`).join("; ") || "no pool"}`;
  return (
    <div className="topology" ref={holder}>
      <svg width={drawing.width} height={drawing.height} role="group" aria-label={said}>
        {drawing.edges.map((edge) => <path key={edge.d} d={edge.d} className={`edge ${edge.tone}`} strokeWidth={edge.width} />)}
        {drawing.boxes.map(({ node, x, y, width }) => {
          const letters = (of: number) => Math.floor((width - 38) / of);
          return (
            <g
              key={node.id}
              transform={`translate(${x} ${y})`}
              className={`node ${node.tone} ${node.to ? "link" : ""}`}
              role={node.to ? "link" : undefined}
              tabIndex={node.to ? 0 : undefined}
              onClick={() => node.to && go(node.to)}
              onKeyDown={(event) => event.key === "Enter" && node.to && go(node.to)}
            >
              <rect width={width} height={HEIGHT} rx={9} />
              <circle cx={16} cy={HEIGHT / 2} r={4} />
              <text x={30} y={20}>{cut(node.title, letters(7.2))}{node.title.length > letters(7.2) && <title>{node.title}</title>}</text>
              <text x={30} y={36} className="sub">{cut(node.sub, letters(6.2))}{node.sub.length > letters(6.2) && <title>{node.sub}</title>}</text>
            </g>
          );
        })}
      </svg>
      {hidden > 0 && <p className="muted small">and {plural(hidden, "more server")}</p>}
    </div>
  );
}

interface Joint {
  /** Column and place. */
  from: [number, number];
  to: [number, number];
  share: number;
  tone: Tone;
}

interface Drawing {
  width: number;
  height: number;
  boxes: { node: Node; x: number; y: number; width: number }[];
  edges: { d: string; width: number; tone: Tone }[];
}

function thickness(share: number): number {
  return 1 + 4 * share;
}

function abreast(columns: Node[][], joints: Joint[]): Drawing {
  const rows = Math.max(1, ...columns.map((column) => column.length));
  const height = rows * (HEIGHT + GAP) + 4;
  const x = (column: number) => column * COLUMN + 2;
  const y = (column: number, at: number) => (height - columns[column]!.length * (HEIGHT + GAP) + GAP) / 2 + at * (HEIGHT + GAP);
  const edges = joints.map(({ from, to, share, tone }) => {
    const [x1, y1, x2, y2] = [x(from[0]) + WIDTH, y(...from) + HEIGHT / 2, x(to[0]), y(...to) + HEIGHT / 2];
    return { d: `M${x1} ${y1} C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`, width: thickness(share), tone };
  });
  const boxes = columns.flatMap((column, c) => column.map((node, at) => ({ node, x: x(c), y: y(c, at), width: WIDTH })));
  return { width: WHOLE, height, boxes, edges };
}

/** One under the other: the service, its engines, each pool and its servers. `poolOf`: of each server. */
function outline(columns: Node[][], joints: Joint[], poolOf: number[], width: number): Drawing {
  const order: [number, number][] = [[1, 0], ...columns[0]!.map((_, at): [number, number] => [0, at])];
  columns[2]!.forEach((_, pool) => {
    order.push([2, pool]);
    poolOf.forEach((of, at) => of === pool && order.push([3, at]));
  });
  const row = new Map(order.map((place, at) => [place.join(), at]));
  const depth = (column: number) => (column === 1 ? 0 : column === 3 ? 2 : 1);
  const x = (column: number) => depth(column) * STEP + 3;
  const y = (place: [number, number]) => row.get(place.join())! * (HEIGHT + GAP / 2) + 2;
  const edges = joints.map(({ from, to, share, tone }) => {
    const [parent, child] = depth(from[0]) < depth(to[0]) ? [from, to] : [to, from];
    const [px, cy] = [x(parent[0]) + STEP / 2, y(child) + HEIGHT / 2];
    return { d: `M${px} ${y(parent) + HEIGHT} V${cy - 7} Q${px} ${cy} ${px + 7} ${cy} H${x(child[0])}`, width: thickness(share), tone };
  });
  const boxes = order.map((place) => ({ node: columns[place[0]]![place[1]]!, x: x(place[0]), y: y(place), width: width - x(place[0]) - 3 }));
  return { width, height: order.length * (HEIGHT + GAP / 2) + 2, boxes, edges };
}

function cut(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
