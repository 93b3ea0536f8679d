// From the controller's picture of a group, and from what a what-if says would come of it, to columns and tiles.

import type { Document } from "../core/api";

export interface MapEngine {
  uuid: string;
  name: string;
  host: string;
  state: string;
  reason: string;
  enable_state: string;
  why: string;
  cpu_percent: number;
}

export interface MapVip {
  id: string;
  name: string;
  services: string[];
  address: string;
  slots: number;
  requested: number;
  placements: number[];
  roles: string;
  states: string[];
  succession: number[];
  standby: boolean;
  reason: string;
}

export interface GroupMap {
  uuid: string;
  name: string;
  ha_mode: string;
  slots_per_engine: number;
  buffer: { free?: number; needed?: number; slots?: number; used?: number; kept?: boolean };
  ha_margin: Document;
  last_plan: string;
  engines: MapEngine[];
  vips: MapVip[];
}

export type Role = "P" | "S";

export interface Tile {
  key: string;
  vip: string;
  name: string;
  role: Role;
  state: string;
  /** What becomes of it in a what-if; "" = nothing. */
  fate: string;
}

/** What has been here and is elsewhere in a what-if; `to` "" = nowhere. */
export interface Ghost {
  vip: string;
  name: string;
  to: string;
}

export interface Column {
  id: string;
  name: string;
  host: string;
  state: string;
  enabled: boolean;
  tiles: Tile[];
  ghosts: Ghost[];
  /** Names of what it would take over next. */
  heirs: { vip: string; name: string; standby: boolean }[];
  used: number;
  free: number;
  /** Of the free slots, how many the buffer counts on. */
  buffer: number;
  mark: Mark | "";
  made: boolean;
  /** Equal keys look equal. */
  look: string;
}

export type Mark = "fail" | "drain";
export type Phase = "now" | "right_after" | "in_the_end";

export interface Board {
  hosts: { name: string; columns: Column[] }[];
  unserved: Tile[];
}

const MADE = "new engine";

/** `marks`: engine uuid -> what is imagined of it; `outcome`: the answer of a what-if, or null. */
export function board(map: GroupMap, marks: Record<string, Mark>, outcome: Document | null, phase: Phase, before: Board | null): Board {
  const columns = map.engines.map((engine) => blank(engine, marks[engine.uuid] ?? ""));
  const byName = new Map(columns.map((column) => [column.name, column]));
  const after = phase === "now" || !outcome ? null : new Map<string, Document>(outcome.vips.map((vip: Document) => [vip.vip, vip]));
  const unserved: Tile[] = [];
  for (const name of (phase !== "now" && outcome?.fails) || []) {
    const column = byName.get(name);
    if (column) column.mark = "fail";
  }
  const column = (name: string) => {
    let found = byName.get(name);
    if (!found && phase !== "right_after") {
      found = { ...blank({ uuid: name, name, host: "new", state: "OPER_UP", reason: "", enable_state: "SE_STATE_ENABLED", why: "", cpu_percent: 0 }, ""), made: true };
      byName.set(name, found);
      columns.push(found);
    }
    return found;
  };
  if (after) for (let n = 1; n <= (outcome?.engines.made ?? 0) && phase === "in_the_end"; n += 1) column(`${MADE} ${n}`);
  for (const vip of map.vips) {
    const fate = after?.get(vip.id);
    if (fate) {
      const names: string[] = fate[phase];
      let served = false;
      names.forEach((name, at) => {
        const onto = column(name);
        if (!onto) return;
        served = true;
        onto.tiles.push({ key: `${vip.id}|${at === 0 ? "P" : `S${at}`}`, vip: vip.id, name: vip.name, role: at === 0 ? "P" : "S", state: "ready", fate: fate.what });
        onto.used += vip.slots;
      });
      if (!served) unserved.push(tile(vip, "P", "none", fate.what === "waits" ? "waits" : "down"));
      leaveGhosts(vip, columns, names);
      continue;
    }
    let secondaries = 0;
    vip.placements.forEach((place, at) => {
      const role = (vip.roles[at] ?? "P") as Role;
      const onto = columns[place]!;
      secondaries += role === "S" ? 1 : 0;
      onto.tiles.push({ ...tile(vip, role, vip.states[at] ?? "ready", ""), key: `${vip.id}|${role === "P" ? "P" : `S${secondaries}`}` });
      onto.used += vip.slots;
    });
    if (vip.placements.length === 0) unserved.push(tile(vip, "P", "none", ""));
    if (!after) {
      const owners = new Set(vip.placements);
      const next = vip.succession.find((place, at) => at > 0 && !owners.has(place));
      if (next !== undefined) columns[next]!.heirs.push({ vip: vip.id, name: vip.name, standby: vip.standby });
    }
  }
  slots(columns, map, after ? outcome!.capacity[phase] : map.buffer);
  return grouped(columns, unserved, before);
}

function leaveGhosts(vip: MapVip, columns: Column[], names: string[]): void {
  const before = vip.placements.map((place) => columns[place]!);
  const fresh = names.filter((name) => !before.some((column) => column.name === name));
  for (const [at, column] of before.filter((one) => !names.includes(one.name)).entries()) {
    column.ghosts.push({ vip: vip.id, name: vip.name, to: fresh[at] ?? names[0] ?? "" });
  }
}

function tile(vip: MapVip, role: Role, state: string, fate: string): Tile {
  return { key: `${vip.id}|${role}`, vip: vip.id, name: vip.name, role, state, fate };
}

function blank(engine: MapEngine, mark: Mark | ""): Column {
  return {
    id: engine.uuid,
    name: engine.name,
    host: engine.host || "host not known",
    state: engine.state,
    enabled: engine.enable_state === "SE_STATE_ENABLED",
    tiles: [],
    ghosts: [],
    heirs: [],
    used: 0,
    free: 0,
    buffer: 0,
    mark,
    made: false,
    look: "",
  };
}

/** The buffer is room in sum: it is shown where there is most of it. */
function slots(columns: Column[], map: GroupMap, buffer: { needed?: number } | undefined): void {
  const able = columns.filter((column) => column.state === "OPER_UP" && column.enabled && column.mark === "");
  for (const column of able) column.free = Math.max(0, map.slots_per_engine - column.used);
  let needed = buffer?.needed ?? 0;
  for (const column of [...able].sort((a, b) => b.free - a.free)) {
    column.buffer = Math.min(column.free, needed);
    needed -= column.buffer;
  }
}

/** Columns that look as before are the same objects, so that only the others are drawn again. */
function grouped(columns: Column[], unserved: Tile[], before: Board | null): Board {
  const old = new Map((before?.hosts ?? []).flatMap((host) => host.columns.map((column) => [column.id, column])));
  const hosts = new Map<string, Column[]>();
  for (const column of columns) {
    column.look = JSON.stringify([column.name, column.state, column.enabled, column.used, column.free, column.buffer, column.mark, column.tiles, column.ghosts, column.heirs]);
    const was = old.get(column.id);
    const same = was?.look === column.look ? was : column;
    const at = hosts.get(column.host);
    at ? at.push(same) : hosts.set(column.host, [same]);
  }
  const names = [...hosts.keys()].sort((a, b) => Number(a === "new") - Number(b === "new") || a.localeCompare(b, "en", { numeric: true }));
  return { hosts: names.map((name) => ({ name, columns: hosts.get(name)! })), unserved };
}

/** Which column each tile is in. */
export function places(of: Board): Map<string, string> {
  const found = new Map<string, string>();
  for (const host of of.hosts) for (const column of host.columns) for (const one of column.tiles) found.set(one.key, column.id);
  for (const one of of.unserved) found.set(one.key, "");
  return found;
}
