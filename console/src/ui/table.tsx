// Tables: sorted by their heads, and where they are long only the rows in sight are made.

import { type ReactNode, useLayoutEffect, useMemo, useRef, useState } from "react";
import { Icon } from "./basics";

export interface Column<T> {
  id: string;
  title: string;
  cell: (row: T) => ReactNode;
  /** What it is sorted by; without it the column can't be. */
  by?: (row: T) => string | number;
  /** A CSS grid width: `2fr`, `120px`. */
  width?: string;
  numeric?: boolean;
  hideNarrow?: boolean;
}

const ROW_PX = 44;
const BEYOND = 8;
const WHOLE_MAX = 60;

interface Props<T> {
  rows: T[];
  columns: Column<T>[];
  id: (row: T) => string;
  label: string;
  sort?: string;
  below?: (row: T) => ReactNode;
  empty?: ReactNode;
}

export function Table<T>({ rows, columns, id, label, sort: sortedFirst, below, empty }: Props<T>) {
  const [sort, setSort] = useState<[string, boolean]>([sortedFirst ?? "", true]);
  const sorted = useMemo(() => {
    const column = columns.find((one) => one.id === sort[0]);
    if (!column?.by) return rows;
    const by = column.by;
    const keyed = rows.map((row) => [by(row), row] as const);
    const text = new Intl.Collator("en", { numeric: true });
    keyed.sort(([a], [b]) => (typeof a === "number" && typeof b === "number" ? a - b : text.compare(String(a), String(b))));
    if (!sort[1]) keyed.reverse();
    return keyed.map(([, row]) => row);
  }, [rows, sort, columns]);
  const template = columns.map(width).join(" ");
  const narrow = columns.filter((column) => !column.hideNarrow).map(width).join(" ");
  const virtual = sorted.length > WHOLE_MAX && !below;
  const body = useRef<HTMLDivElement>(null);
  const [from, to] = useWindow(body, sorted.length, virtual);
  const shown = virtual ? sorted.slice(from, to) : sorted;
  if (rows.length === 0 && empty) return <>{empty}</>;
  return (
    <div className={`table has-narrow ${virtual ? "virtual" : ""}`} role="table" aria-label={label} aria-rowcount={sorted.length + 1} style={{ "--columns": template, "--narrow": narrow } as React.CSSProperties}>
      <div role="rowgroup" className="thead">
        <div role="row" className="tr">
          {columns.map((column) => (
            <div role="columnheader" key={column.id} className={cellClass(column)} aria-sort={sort[0] !== column.id ? undefined : sort[1] ? "ascending" : "descending"}>
              {column.by ? (
                <button type="button" onClick={() => setSort(([was, up]) => [column.id, was === column.id ? !up : true])}>
                  {column.title}
                  <span className={`sort ${sort[0] === column.id ? (sort[1] ? "up" : "downward") : ""}`} aria-hidden />
                </button>
              ) : (
                column.title
              )}
            </div>
          ))}
        </div>
      </div>
      <div role="rowgroup" className="tbody" ref={body} style={virtual ? { blockSize: sorted.length * ROW_PX } : undefined}>
        <div role="presentation" style={virtual ? { transform: `translateY(${from * ROW_PX}px)` } : undefined}>
          {shown.map((row, at) => (
            <Row key={id(row)} row={row} columns={columns} below={below} index={(virtual ? from : 0) + at + 2} />
          ))}
        </div>
      </div>
    </div>
  );
}

function Row<T>({ row, columns, below, index }: { row: T; columns: Column<T>[]; below?: (row: T) => ReactNode; index: number }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <div role="row" className="tr" aria-rowindex={index}>
        {columns.map((column, at) => (
          <div role="cell" key={column.id} className={cellClass(column)}>
            {at === 0 && below && (
              <button type="button" className={`icon expand ${open ? "open" : ""}`} aria-expanded={open} aria-label="Details" onClick={() => setOpen(!open)}>
                <Icon name="chevron" size={14} />
              </button>
            )}
            {column.cell(row)}
          </div>
        ))}
      </div>
      {open && below && (
        <div role="row" className="below">
          <div role="cell">{below(row)}</div>
        </div>
      )}
    </>
  );
}

function width<T>(column: Column<T>): string {
  return column.width ?? "minmax(0, 1fr)";
}

function cellClass<T>(column: Column<T>): string {
  return `td ${column.numeric ? "numeric" : ""} ${column.hideNarrow ? "hide-narrow" : ""}`;
}

/** Which rows are in sight of the window. */
function useWindow(body: React.RefObject<HTMLDivElement | null>, count: number, active: boolean): [number, number] {
  const [range, setRange] = useState<[number, number]>([0, 40]);
  useLayoutEffect(() => {
    if (!active) return;
    const look = () => {
      const top = body.current?.getBoundingClientRect().top ?? 0;
      const first = Math.max(0, Math.floor(-top / ROW_PX) - BEYOND);
      const last = Math.min(count, Math.ceil((window.innerHeight - top) / ROW_PX) + BEYOND);
      setRange((was) => (was[0] === first && was[1] === last ? was : [Math.min(first, Math.max(0, count - 1)), Math.max(last, first + 1)]));
    };
    look();
    window.addEventListener("scroll", look, { passive: true });
    window.addEventListener("resize", look);
    return () => {
      window.removeEventListener("scroll", look);
      window.removeEventListener("resize", look);
    };
  }, [active, count, body]);
  return range;
}

/** The box that selects a row, beside its name. */
export function Tick({ id, name, ticked, change }: { id: string; name: string; ticked: ReadonlySet<string>; change: (ticked: Set<string>) => void }) {
  return (
    <input
      type="checkbox"
      aria-label={`Select ${name}`}
      checked={ticked.has(id)}
      onChange={(event) => {
        const next = new Set(ticked);
        event.target.checked ? next.add(id) : next.delete(id);
        change(next);
      }}
    />
  );
}

export function Search({ value, onChange, placeholder }: { value: string; onChange: (text: string) => void; placeholder: string }) {
  return (
    <span className="search">
      <Icon name="search" size={16} />
      <input type="search" value={value} placeholder={placeholder} aria-label={placeholder} onChange={(event) => onChange(event.target.value)} />
    </span>
  );
}
