// Time series by uPlot, in the theme's colours and the viewer's zone.

import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import { measured } from "../core/format";

export interface Series {
  name: string;
  units: string;
  points: { at: number; value: number }[];
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const COLOURS = ["--chart-1", "--chart-2", "--chart-3", "--chart-4"];

export function Chart({ title, series, height = 150, fill = true }: { title: string; series: Series[]; height?: number; fill?: boolean }) {
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [theme, setTheme] = useState(0);
  const units = series[0]?.units ?? "";
  const names = series.map((one) => one.name).join("|");

  useEffect(() => {
    const changed = () => setTheme((n) => n + 1);
    window.addEventListener("shoal-theme", changed);
    return () => window.removeEventListener("shoal-theme", changed);
  }, []);

  useEffect(() => {
    const element = holder.current;
    if (!element) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const font = "11px Inter Variable, sans-serif";
    const axis = { stroke: colour("--text-2"), font, grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false } };
    const options: uPlot.Options = {
      width: element.clientWidth || 300,
      height,
      padding: [8, 26, 0, 0],
      cursor: { y: false, points: { size: 6 } },
      legend: { show: false },
      scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(1e-9, (high ?? 0) * 1.15) || 1] } },
      axes: [
        { ...axis, size: 26, space: 76, values: (_, ticks) => ticks.map((tick) => CLOCK.format(new Date(tick * 1000))) },
        { ...axis, size: 68, space: 30, values: (_, ticks) => ticks.map((tick) => measured(tick, units)) },
      ],
      series: [
        {},
        ...names.split("|").map((name, at) => ({
          label: name,
          stroke: colour(COLOURS[at % COLOURS.length]!),
          width: 1.6,
          fill: fill && at === 0 ? `${colour(COLOURS[0]!)}22` : undefined,
          points: { show: false },
          spanGaps: false,
        })),
      ],
    };
    const chart = new uPlot(options, aligned(series), element);
    plot.current = chart;
    const sizes = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height }));
    sizes.observe(element);
    return () => {
      sizes.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [names, units, height, fill, theme]);

  useEffect(() => {
    plot.current?.setData(aligned(series));
  }, [series]);

  const empty = series.every((one) => one.points.length === 0);
  const latest = series.map((one) => one.points[one.points.length - 1]?.value);
  return (
    <figure className="chart">
      <figcaption>
        <span>{title}</span>
        <span className="latest">
          {series.map((one, at) => (
            <span key={one.name} className={`series s${at + 1}`}>
              {series.length > 1 && <i aria-hidden />}
              {series.length > 1 && `${one.name} `}
              <b>{latest[at] === undefined ? "–" : measured(latest[at]!, one.units)}</b>
            </span>
          ))}
        </span>
      </figcaption>
      {empty && <p className="plot-empty muted small">No figure yet: they come each 5 s.</p>}
      <div ref={holder} className={`plot ${empty ? "empty" : ""}`} style={{ minBlockSize: height }} role="img" aria-label={`${title}: ${series.map((one, at) => `${one.name} ${latest[at] === undefined ? "not measured yet" : measured(latest[at]!, one.units)}`).join(", ")}`} />
    </figure>
  );
}

function aligned(series: Series[]): uPlot.AlignedData {
  const times = [...new Set(series.flatMap((one) => one.points.map((point) => point.at)))].sort((a, b) => a - b);
  const places = new Map(times.map((at, place) => [at, place]));
  const columns = series.map((one) => {
    const values: (number | null)[] = new Array(times.length).fill(null);
    for (const point of one.points) values[places.get(point.at)!] = point.value;
    return values;
  });
  return [times, ...columns] as uPlot.AlignedData;
}
