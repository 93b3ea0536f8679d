// How many engines a group may lose: the two guarantees, in words.

import type { Document } from "../core/api";
import { Pill } from "./basics";

export interface Margin {
  stays_up: { engines: number; exact: boolean; broken_by: string[] };
  keeps_capacity: { engines: number; exact: boolean };
  of_engines: number;
  worst_host?: string;
  worst_host_vips_down?: number;
}

export function isMargin(margin: Document | undefined): margin is Margin {
  return Boolean(margin && margin.stays_up);
}

export function anyOf(guarantee: { engines: number; exact: boolean }, of: number): string {
  if (guarantee.engines >= of) return "nothing can go down";
  const least = guarantee.exact ? "" : "at least ";
  return guarantee.engines === 0 ? "none" : `${least}any ${guarantee.engines} of ${of}`;
}

/** "stays up: any 2 of 5; keeps capacity: any 1" */
export function MarginPills({ margin, short = false }: { margin: Document | undefined; short?: boolean }) {
  if (!isMargin(margin)) return <span className="muted">not known yet</span>;
  const { stays_up: up, keeps_capacity: whole, of_engines: of } = margin;
  if (!of) return <span className="muted">no engine is up</span>;
  if (up.engines >= of) return <span className="muted">nothing is served</span>;
  return (
    <span className="row margins">
      <Pill tone={up.engines > 0 ? "ok" : "bad"} title="Engines that may fail at once while every virtual service stays up">
        {short ? "" : "stays up: "}
        {anyOf(up, of)}
      </Pill>
      {!short && (
        <Pill tone={whole.engines > 0 ? "ok" : "warn"} title="Engines that may fail at once while every virtual service keeps its number of engines">
          keeps capacity: {anyOf(whole, of).replace(` of ${of}`, "")}
        </Pill>
      )}
    </span>
  );
}
