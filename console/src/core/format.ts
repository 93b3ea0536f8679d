// Numbers with their units, times in the viewer's zone.

const SI = ["", "k", "M", "G", "T"];

function scaled(value: number, base: number): [string, string] {
  let step = 0;
  let rest = Math.abs(value);
  while (rest >= base && step < SI.length - 1) {
    rest /= base;
    step += 1;
  }
  const digits = rest >= 100 || (step === 0 && Number.isInteger(rest)) ? 0 : rest >= 10 ? 1 : 2;
  return [`${value < 0 ? "-" : ""}${rest.toFixed(digits)}`, SI[step]!];
}

export function number(value: number, unit = ""): string {
  const [text, prefix] = scaled(value, 1000);
  return unit ? `${text} ${prefix}${unit}` : prefix ? `${text} ${prefix}` : text;
}

/** A metric's value with the unit that the API names. */
export function measured(value: number, units: string): string {
  switch (units) {
    case "BITS_PER_SECOND":
      return number(value, "bit/s");
    case "BYTES_PER_SECOND":
      return number(value, "B/s");
    case "BYTES":
      return number(value, "B");
    case "PER_SECOND":
      return `${number(value)}/s`;
    case "MILLISECONDS":
      return duration(value);
    case "PERCENT":
      return `${value >= 10 ? value.toFixed(0) : value.toFixed(1)} %`;
    default:
      return number(value);
  }
}

export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return "until it is back";
  if (ms < 10 && !Number.isInteger(ms)) return `${ms.toFixed(1)} ms`;
  if (ms < 950) return `${Math.round(ms)} ms`;
  if (ms < 99_500) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 5_400_000) return `${Math.round(ms / 60_000)} min`;
  return `${(ms / 3_600_000).toFixed(1)} h`;
}

export function plural(count: number, noun: string, many = `${noun}s`): string {
  return `${count.toLocaleString("en")} ${count === 1 ? noun : many}`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const YEAR = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const WHOLE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

/** `seconds` since the epoch; today's without the day, this year's without the year. */
export function time(seconds: number): string {
  const date = new Date(seconds * 1000);
  const now = new Date();
  return (date.toDateString() === now.toDateString() ? CLOCK : date.getFullYear() === now.getFullYear() ? DAY : YEAR).format(date);
}

/** `2026-11-26 15:00:00`, of UTC, in seconds since the epoch; 0 = none. */
export function utc(text: string): number {
  return Date.parse(`${text.replace(" ", "T")}Z`) / 1000 || 0;
}

export function wholeTime(seconds: number): string {
  return WHOLE.format(new Date(seconds * 1000));
}

export function ago(seconds: number, now = Date.now() / 1000): string {
  const passed = Math.max(0, now - seconds);
  if (passed < 5) return "just now";
  if (passed < 60) return `${Math.floor(passed)} s ago`;
  if (passed < 3600) return `${Math.floor(passed / 60)} min ago`;
  if (passed < 86_400) return `${Math.floor(passed / 3600)} h ago`;
  return `${Math.floor(passed / 86_400)} d ago`;
}

export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;

export const MODES: Record<string, string> = {
  HA_MODE_SHARED: "Elastic HA N+M",
  HA_MODE_SHARED_PAIR: "Elastic HA Active/Active",
  HA_MODE_LEGACY_ACTIVE_STANDBY: "Legacy HA Active/Standby",
};

export const ALGORITHMS: Record<string, string> = {
  PLACEMENT_ALGO_PACKED: "Compact",
  PLACEMENT_ALGO_DISTRIBUTED: "Distributed",
};

const STATES: Record<string, [string, Tone]> = {
  OPER_UP: ["Up", "ok"],
  OPER_DOWN: ["Down", "bad"],
  OPER_CREATING: ["Creating", "wait"],
  OPER_RESOURCES: ["No room", "bad"],
  OPER_INACTIVE: ["Inactive", "off"],
  OPER_DISABLED: ["Disabled", "off"],
  OPER_UNUSED: ["Unused", "off"],
  OPER_INITIALIZING: ["Being placed", "wait"],
  OPER_ERROR_DISABLED: ["Not emptied", "bad"],
  OPER_PARTITIONED: ["Out of sight", "warn"],
  OPER_DISABLING: ["Draining", "wait"],
};

export type Tone = "ok" | "warn" | "bad" | "wait" | "off" | "info";

/** Of a service engine, with its `enable_state`. */
export function engineState(oper: string | undefined, wish: string): [string, Tone] {
  return oper === "OPER_UP" && wish === "SE_STATE_DISABLED_FOR_PLACEMENT" ? ["Nothing new", "off"] : state(oper);
}

export function state(oper: string | undefined): [string, Tone] {
  return STATES[oper ?? ""] ?? [(oper ?? "unknown").replace(/^OPER_/, "").toLowerCase(), "off"];
}
