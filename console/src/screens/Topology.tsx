// The tree of a virtual service: engines that serve it, the pool, its servers; edges as thick as what flows over them.

import type { Document } from "../core/api";
import { nameOf, uuidOf } from "../core/api";
import { measured, state as stateOf, type Tone } from "../core/format";
import { useGet } from "../core/live";
import { latest, useMetrics } from "../core/metrics";
import { go } from "../core/router";

interface Node {
  id: string;
  title: string;
  sub: string;
  tone: Tone;
  to?: string;
}

const WIDTH = 178;
const HEIGHT = 46;
const GAP = 12;
const COLUMN = 250;
const SERVERS_SHOWN_MAX = 24;

/** `vips`: as the runtime tells of them, with what each engine carries. */
export function Topology({ entry, vips }: { entry: Document; vips: Document[] }) {
  const pool = uuidOf(entry.config.pool_ref ?? entry.pools?.[0]?.ref);
  const runtime = useGet<Document>(pool ? `/api/pool/${pool}` : null, { on: ["pool"] });
  const servers = useGet<Document[]>(pool ? `/api/pool/${pool}/runtime/server` : null, { every: 5000 });
  const flows = useMetrics("pool", pool, ["l4_server.avg_bandwidth"], { points: 2, servers: true, active: Boolean(pool) });
  const flow = new Map((flows.data ?? []).filter((one) => one.server).map((one) => [one.server, latest(one) ?? 0]));
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
  const all = servers.data ?? [];
  const up = all.filter((server) => server.oper_status.state === "OPER_UP").length;
  const leaves: Node[] = all.slice(0, SERVERS_SHOWN_MAX).map((server) => {
    const [said, of] = stateOf(server.oper_status.state);
    const id = `${server.ip_addr.addr}:${server.port}`;
    return { id, title: id, sub: of === "ok" ? measured(flow.get(id) ?? 0, "BITS_PER_SECOND") : [said, ...(server.oper_status.reason ?? [])].join(": "), tone: of };
  });
  const columns: Node[][] = [
    engines,
    [{ id: "vs", title: entry.config.name, sub: word, tone }],
    pool ? [{ id: pool, title: runtime.data?.name ?? "Pool", sub: `${up} of ${all.length} servers up`, tone: up === all.length ? "ok" : up ? "warn" : "bad" }] : [],
    leaves,
  ];
  const rows = Math.max(1, ...columns.map((column) => column.length));
  const height = rows * (HEIGHT + GAP) + 4;
  const x = (column: number) => column * COLUMN + 2;
  const y = (column: number, at: number) => {
    const count = columns[column]!.length;
    return (height - count * (HEIGHT + GAP) + GAP) / 2 + at * (HEIGHT + GAP);
  };
  const most = Math.max(1, ...flow.values());
  const edges: { d: string; width: number; tone: Tone }[] = [];
  const join = (a: number, i: number, b: number, j: number, width: number, of: Tone) => {
    const [x1, y1, x2, y2] = [x(a) + WIDTH, y(a, i) + HEIGHT / 2, x(b), y(b, j) + HEIGHT / 2];
    edges.push({ d: `M${x1} ${y1} C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`, width, tone: of });
  };
  const busiest = Math.max(1, ...carried.values());
  engines.forEach((engine, at) => join(0, at, 1, 0, 1 + 4 * ((carried.get(engine.id) ?? 0) / busiest), engine.standby ? "off" : engine.tone));
  if (pool) join(1, 0, 2, 0, 5, up ? "ok" : "bad");
  leaves.forEach((leaf, at) => join(2, 0, 3, at, 1 + 4 * ((flow.get(leaf.id) ?? 0) / most), leaf.tone));
  const said = `${entry.config.name}: served by ${engines.map((one) => `${one.title} (${one.sub})`).join(", ") || "no engine"}; ${pool ? `pool ${runtime.data?.name ?? ""}, ${up} of ${all.length} servers up` : "no pool"}`;
  return (
    <div className="topology">
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
              <text x={30} y={20}>{cut(node.title, 20)}<title>{node.title}</title></text>
              <text x={30} y={36} className="sub">{cut(node.sub, 24)}</text>
            </g>
          )),
        )}
      </svg>
      {all.length > SERVERS_SHOWN_MAX && <p className="muted small">and {all.length - SERVERS_SHOWN_MAX} more servers</p>}
    </div>
  );
}

function cut(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
