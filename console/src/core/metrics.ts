// Measured history as charts want it.

import { type Document, get } from "./api";
import { type Query, useLoad } from "./live";
import type { Series } from "../ui/chart";

const STEP_S = 5;
const POINTS = 120;

export interface MetricSeries extends Series {
  metric: string;
  entity: string;
  server: string;
}

export function seriesOf(answer: Document): MetricSeries[] {
  return (answer.series as Document[]).map((one) => ({
    name: one.header.name,
    metric: one.header.name,
    entity: one.header.entity_uuid,
    server: one.header.obj_id ?? "",
    units: one.header.units,
    points: (one.data as Document[]).filter((point) => !point.is_null).map((point) => ({ at: Date.parse(`${point.timestamp}Z`) / 1000, value: point.value })),
  }));
}

/** Of one entity, or of all of its kind (`uuid` "*"); asked for each 5 s. */
export function useMetrics(kind: string, uuid: string, metrics: string[], { step = STEP_S, points = POINTS, servers = false, active = true } = {}): Query<MetricSeries[]> {
  const query = `metric_id=${metrics.join(",")}&step=${step}&limit=${points}&pad_missing_data=false${servers ? "&obj_id=*" : ""}`;
  const path = uuid === "*" ? `/api/analytics/metrics/${kind}?${query}` : `/api/analytics/metrics/${kind}/${uuid}?${query}`;
  return useLoad<MetricSeries[]>(active ? path : null, async (signal) => seriesOf(await get(path, signal)), { every: Math.max(5_000, step * 1000) });
}

export function pick(series: MetricSeries[] | undefined, metric: string, name: string): Series {
  const found = series?.find((one) => one.metric === metric && !one.server);
  return { name, units: found?.units ?? "", points: found?.points ?? [] };
}

/** The sum over entities, time by time. */
export function total(series: MetricSeries[] | undefined, metric: string, name: string): Series {
  const sums = new Map<number, number>();
  let units = "";
  for (const one of series ?? []) {
    if (one.metric !== metric || one.server) continue;
    units = one.units;
    for (const point of one.points) sums.set(point.at, (sums.get(point.at) ?? 0) + point.value);
  }
  return { name, units, points: [...sums].sort(([a], [b]) => a - b).map(([at, value]) => ({ at, value })) };
}

export function latest(series: Series): number | undefined {
  return series.points[series.points.length - 1]?.value;
}
