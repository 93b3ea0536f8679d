// The board: hosts, in them engines as columns, in those virtual services as tiles. What moves is seen to move.

import { Component, createRef, memo } from "react";
import { state as stateOf } from "../core/format";
import { Icon } from "../ui/basics";
import { type Board, type Column, type Mark, places, type Tile } from "./model";

const MOVES_SHOWN_MAX = 160;
const MOVE_MS = 650;
const CELLS_MAX = 24;
/** More engines than this are drawn narrower. */
const ROOMY_MAX = 9;
const CLOSE_MAX = 22;

interface Props {
  board: Board;
  slots: number;
  whatif: boolean;
  /** The VIP whose tiles stay lit. */
  selected: string;
  onTile: (vip: string) => void;
  onEngine: (id: string) => void;
  onMark: (ids: string[], mark: Mark) => void;
}

type Rects = Map<string, DOMRect> | null;

export class BoardView extends Component<Props> {
  private readonly root = createRef<HTMLDivElement>();

  private readonly sizes = new ResizeObserver(() => {
    const root = this.root.current;
    if (root?.dataset.lit) light(root, root.dataset.lit, true); // the lines lead to where things are now
  });

  override componentDidMount(): void {
    this.light(this.props.selected);
    this.sizes.observe(this.root.current!);
  }

  override componentWillUnmount(): void {
    this.sizes.disconnect();
  }

  override getSnapshotBeforeUpdate(before: Props): Rects {
    if (before.board === this.props.board) return null;
    const was = places(before.board);
    const rects = new Map<string, DOMRect>();
    for (const [key, column] of places(this.props.board)) {
      const from = was.get(key);
      if (from === undefined || from === column || rects.size >= MOVES_SHOWN_MAX) continue;
      const element = document.getElementById(`tile:${key}`);
      if (element) rects.set(key, element.getBoundingClientRect());
    }
    return rects.size ? rects : null;
  }

  override componentDidUpdate(before: Props, _: unknown, rects: Rects): void {
    const root = this.root.current;
    const lit = root?.dataset.lit || this.props.selected;
    if (before.selected !== this.props.selected) this.light(this.props.selected);
    else if (root && lit && before.board !== this.props.board) light(root, lit, true);
    if (!rects || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (const [key, from] of rects) {
      const element = document.getElementById(`tile:${key}`);
      if (!element) continue;
      const to = element.getBoundingClientRect();
      element.animate(
        [
          { transform: `translate(${from.left - to.left}px, ${from.top - to.top}px)`, zIndex: 5, boxShadow: "0 6px 18px rgb(0 0 0 / 30%)" },
          { transform: "none", zIndex: 5 },
        ],
        { duration: MOVE_MS, easing: "cubic-bezier(.3,.7,.2,1)" },
      );
    }
  }

  private light(vip: string): void {
    if (this.root.current) light(this.root.current, vip);
  }

  /** What belongs to the tile under the pointer is lit, by hand: a thousand tiles need not be drawn again for it. */
  private readonly hover = (event: React.SyntheticEvent<HTMLElement>): void => {
    this.light((event.target as HTMLElement).closest<HTMLElement>("[data-vip]")?.dataset.vip || this.props.selected);
  };

  override render() {
    const { board, slots, whatif, onTile, onEngine, onMark } = this.props;
    const count = board.hosts.reduce((sum, host) => sum + host.columns.length, 0);
    const size = count <= ROOMY_MAX ? "roomy" : count <= CLOSE_MAX ? "close" : "dense";
    return (
      <div className={`board ${size} ${whatif ? "whatif" : ""}`} ref={this.root} onPointerOver={this.hover} onPointerLeave={() => this.light(this.props.selected)} onFocus={this.hover}>
        <svg className="links" aria-hidden />
        {board.unserved.length > 0 && (
          <section className="unserved" aria-label="Not served">
            <h3>
              <Icon name="alert" size={16} /> Not served: {board.unserved.length}
            </h3>
            <div className="cells">
              {board.unserved.map((one) => (
                <TileView key={one.key} tile={one} onTile={onTile} />
              ))}
            </div>
          </section>
        )}
        {board.hosts.map((host) => (
          <section key={host.name} className={`host ${host.name === "new" ? "new" : ""}`} aria-label={`Host ${host.name}`} style={{ "--n": host.columns.length } as React.CSSProperties}>
            <header>
              <h3>{host.name === "new" ? "would be made" : host.name}</h3>
              {whatif && host.name !== "new" && host.columns.length > 1 && (
                <span className="marks">
                  <MarkButton mark="fail" what={`host ${host.name}`} on={host.columns.every((column) => column.mark === "fail")} onClick={() => onMark(host.columns.map((column) => column.id), "fail")} />
                  <MarkButton mark="drain" what={`host ${host.name}`} on={host.columns.every((column) => column.mark === "drain")} onClick={() => onMark(host.columns.map((column) => column.id), "drain")} />
                </span>
              )}
            </header>
            <div className="columns">
              {host.columns.map((column) => (
                <ColumnView key={column.id} column={column} slots={slots} whatif={whatif} onTile={onTile} onEngine={onEngine} onMark={onMark} />
              ))}
            </div>
          </section>
        ))}
      </div>
    );
  }
}

function light(root: HTMLElement, vip: string, again = false): void {
  if (root.dataset.lit === vip && !again) return;
  root.dataset.lit = vip;
  for (const element of root.querySelectorAll(".lit")) element.classList.remove("lit");
  root.classList.toggle("lighting", vip !== "");
  const found = vip ? [...root.querySelectorAll<HTMLElement>(`[data-vip="${CSS.escape(vip)}"]`)] : [];
  for (const element of found) element.classList.add("lit");
  link(root, found);
}

/** Lines from the primary to where else it is, to who would take it over, and from where it was. */
function link(root: HTMLElement, found: HTMLElement[]): void {
  const drawing = root.querySelector("svg.links")!;
  const from = found.find((element) => element.matches(".tile.primary"));
  const frame = root.getBoundingClientRect();
  const lines = !from ? [] : found.filter((element) => element !== from && element.offsetParent !== null).map((element) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
    line.setAttribute("d", curve(from.getBoundingClientRect(), element.getBoundingClientRect(), frame));
    line.setAttribute("class", element.matches(".heir") ? "heir-line" : element.matches(".ghost") ? "ghost-line" : "");
    return line;
  });
  drawing.replaceChildren(...lines);
}

function curve(a: DOMRect, b: DOMRect, frame: DOMRect): string {
  const side = b.left >= a.right ? 1 : b.right <= a.left ? -1 : 0;
  const [x1, y1] = [(side >= 0 ? a.right : a.left) - frame.left, a.top + a.height / 2 - frame.top];
  const [x2, y2] = [(side > 0 ? b.left : b.right) - frame.left, b.top + b.height / 2 - frame.top];
  const bend = side ? Math.max(18, Math.abs(x2 - x1) / 2) * side : 34;
  return `M${x1} ${y1} C${x1 + bend} ${y1} ${x2 - (side ? bend : -bend)} ${y2} ${x2} ${y2}`;
}

interface ColumnProps {
  column: Column;
  slots: number;
  whatif: boolean;
  onTile: (vip: string) => void;
  onEngine: (id: string) => void;
  onMark: (ids: string[], mark: Mark) => void;
}

const ColumnView = memo(function ColumnView({ column, slots, whatif, onTile, onEngine, onMark }: ColumnProps) {
  const [word, tone] = column.mark === "fail" ? ["Killed", "bad"] : column.mark === "drain" ? ["Drained", "wait"] : column.made ? ["New", "info"] : stateOf(column.state);
  const cells = Math.min(column.free, Math.max(0, CELLS_MAX - column.tiles.length));
  const plain = Math.max(0, cells - column.buffer);
  return (
    <div className={`column ${column.mark} ${column.made ? "made" : ""} ${tone}`} role="group" aria-label={`Engine ${column.name}, ${word}, ${column.used} of ${slots} slots used`}>
      <header>
        <button type="button" className="name" onClick={() => onEngine(column.id)} title={`${column.name}: ${word}`}>
          <i className={`state ${tone}`} aria-hidden />
          <span>{short(column.name)}</span>
        </button>
        <span className="count">
          {column.used}
          <small>/{slots}</small>
        </span>
      </header>
      {whatif && !column.made && (
        <div className="marks">
          <MarkButton mark="fail" what={column.name} on={column.mark === "fail"} onClick={() => onMark([column.id], "fail")} />
          <MarkButton mark="drain" what={column.name} on={column.mark === "drain"} onClick={() => onMark([column.id], "drain")} />
        </div>
      )}
      {tone !== "ok" && !column.mark && <p className={`word ${tone}`}>{word}</p>}
      <div className="cells">
        {column.tiles.map((one) => (
          <TileView key={one.key} tile={one} onTile={onTile} />
        ))}
        {column.ghosts.map((ghost) => (
          <span key={ghost.vip} className={`tile ghost ${ghost.to ? "" : "lost"}`} data-vip={ghost.vip} title={ghost.to ? `${ghost.name} is then on ${ghost.to}` : `${ghost.name} is then down`}>
            <span>{ghost.name} <small>{ghost.to ? `→ ${short(ghost.to)}` : "down"}</small></span>
          </span>
        ))}
        {Array.from({ length: plain }, (_, at) => (
          <span key={`free${at}`} className="cell" aria-hidden />
        ))}
        {Array.from({ length: cells - plain }, (_, at) => (
          <span key={`buffer${at}`} className="cell buffer" aria-hidden title="Kept free for engines that fail" />
        ))}
        {column.free > cells && <span className="more">+{column.free - cells} free</span>}
      </div>
      {column.heirs.length > 0 && (
        <div className="heirs">
          <h4>{column.heirs[0]!.standby ? "Stands by for" : "Takes over"} {column.heirs.length}</h4>
          <div>
            {column.heirs.slice(0, CELLS_MAX).map((heir) => (
              <span key={heir.vip} className="heir" data-vip={heir.vip} title={`${heir.name}: ${column.name} ${heir.standby ? "stands by" : "is the next after those that serve it"}`}>
                {heir.name}
              </span>
            ))}
          </div>
        </div>
      )}
    </div>
  );
});

const TileView = memo(
  function TileView({ tile, onTile }: { tile: Tile; onTile: (vip: string) => void }) {
    const role = tile.role === "P" ? "primary" : "secondary";
    return (
      <button type="button" id={`tile:${tile.key}`} className={`tile ${role} ${tile.state} ${tile.fate.replace(" ", "-")}`} data-vip={tile.vip} title={`${tile.name}: ${tile.fate || (tile.state === "ready" ? role : `${role}, ${tile.state}`)}`} onClick={() => onTile(tile.vip)}>
        <span>{tile.name}</span>
      </button>
    );
  },
  (a, b) => a.onTile === b.onTile && a.tile.key === b.tile.key && a.tile.name === b.tile.name && a.tile.state === b.tile.state && a.tile.fate === b.tile.fate,
);

function MarkButton({ mark, what, on, onClick }: { mark: Mark; what: string; on: boolean; onClick: () => void }) {
  return (
    <button type="button" className={`mark ${mark}`} aria-pressed={on} aria-label={`${mark === "fail" ? "Kill" : "Drain"} ${what}`} onClick={onClick}>
      {mark === "fail" ? "Kill" : "Drain"}
    </button>
  );
}

/** `Avi-se-abcde` -> `se-abcde`: the prefix is the group's. */
function short(name: string): string {
  return name.replace(/^.*-(se-[a-z]{5})$/, "$1");
}
