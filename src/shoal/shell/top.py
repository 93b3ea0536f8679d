"""``shoal top``: how everything stands, drawn again every few seconds."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence

import click
import msgspec

from shoal.errors import NotReady

from .client import Client
from .options import with_client
from .overview import Engine, Group, Overview, Service, Watcher, words_of
from .placement import Ink
from .tables import one_line

BARS, PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
SPARK_MAX = 30
ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
QUIT = ("q", "Q", "\x03", "\x04")
GROUPS_MAX = 6
ONCE_COLUMNS = 100
WIDE = 100
FURNITURE = 8
"""Rows of a picture that are no group, engine or service."""
SCALES = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


class Column(msgspec.Struct, frozen=True):
    title: str
    width: int
    """At least; the first of a table takes what is left."""
    right: bool = False
    wide: bool = False
    """Only on a screen of `WIDE` columns."""


GROUP_COLUMNS = (
    Column("GROUP", 16), Column("MODE", 11), Column("ENGINES", 7, True), Column("SERVICES", 8, True),
    Column("SLOTS", 9, True), Column("FREE", 13, True),
)  # fmt: skip
ENGINE_COLUMNS = (
    Column("ENGINE", 14), Column("GROUP", 14, wide=True), Column("STATE", 11), Column("VIPS", 7, True),
    Column("CPU", 6, True), Column("BIT/S", 7, True),
)  # fmt: skip
SERVICE_COLUMNS = (
    Column("SERVICE", 14), Column("ADDRESS", 15, wide=True), Column("STATE", 11), Column("ENGINES", 7, True),
    Column("ERRORS", 6, True), Column("BIT/S", 7, True), Column("REQ/S", 7, True),
)  # fmt: skip
MODES = {
    "HA_MODE_SHARED": "shared",
    "HA_MODE_SHARED_PAIR": "shared pair",
    "HA_MODE_LEGACY_ACTIVE_STANDBY": "legacy pair",
}


def drawn(
    found: Overview,
    columns: int,
    rows: int,
    ink: Ink,
    bars: str,
    history: Callable[[Sequence[Service], Sequence[Engine]], None],
) -> list[str]:
    """A screen of so many columns and rows; ``history`` is asked for those that find room."""
    counts = found.counts()
    services = sorted(found.virtualservices, key=lambda one: (one.rank, -one.load.get("bits_per_s", 0.0), one.name))
    engines = sorted(found.engines, key=lambda one: (not one.trouble, -one.load.get("cpu_percent", 0.0), one.name))
    groups = found.groups[:GROUPS_MAX]
    room = max(4, rows - len(groups) - FURNITURE)
    shown_engines = engines[: max(2, min(len(engines), room // 3))]
    shown = services[: max(2, room - len(shown_engines))]
    history(shown, shown_engines)
    down = f", {counts['down']} DOWN" if counts["down"] else ""
    down += f", {counts['coming']} coming up" if counts["coming"] else ""
    off = f", {counts['disabled']} disabled" if counts["disabled"] else ""
    where = f"   {found.url}" if columns >= WIDE else ""
    head = (
        f"{time.strftime('%H:%M:%S', time.gmtime(found.at))} UTC   virtual services: {counts['up']} up{down}{off}"
        f"   engines: {counts['engines_up']} of {counts['engines']} up{where}"
    )
    lines = [ink.strong(head[:columns]), ""]
    lines += _table(
        GROUP_COLUMNS, [_group(one) for one in groups], columns, ink, [not one.kept for one in groups], [], "", 0
    )
    lines.append("")
    spark = SPARK_MAX if columns >= WIDE else max(0, min(SPARK_MAX, columns - 66))
    lines += _table(
        ENGINE_COLUMNS, [_engine(one) for one in shown_engines], columns, ink,
        [one.trouble for one in shown_engines], [one.history for one in shown_engines], bars, spark,
        100.0,
    )  # fmt: skip
    lines.append("")
    lines += _table(
        SERVICE_COLUMNS, [_service(one) for one in shown], columns, ink, [one.trouble for one in shown],
        [one.history for one in shown], bars, spark,
    )  # fmt: skip
    left = (len(engines) - len(shown_engines), len(services) - len(shown))
    if any(left):
        lines.append(f"... {left[0]} more engines, {left[1]} more virtual services")
    return lines[:rows]


def _group(one: Group) -> list[str]:
    buffer = f"{one.free}, needs {one.needed}" if one.needed else "-"
    return [
        one.name,
        MODES.get(one.ha_mode, one.ha_mode),
        f"{one.engines_up}/{one.max_se}",
        str(one.virtualservices),
        f"{one.used}/{one.slots}",
        buffer if one.kept else f"{buffer} LOST",
    ]


def _engine(one: Engine) -> list[str]:
    cpu = one.load.get("cpu_percent")
    return [
        one.name,
        one.group,
        words_of(one.state),
        str(one.vips),
        "-" if cpu is None else f"{cpu:.0f} %",
        _scaled(one.load.get("bits_per_s")),
    ]


def _service(one: Service) -> list[str]:
    errors = one.load.get("errors_percent")
    rate = one.load.get("requests_per_s") or one.load.get("connections_per_s")
    return [
        one.name,
        one.address,
        words_of(one.state),
        f"{one.assigned}/{one.requested}",
        "-" if errors is None else f"{errors:.1f} %",
        _scaled(one.load.get("bits_per_s")),
        _scaled(rate),
    ]


def _scaled(value: float | None) -> str:
    """``12.3M``"""
    if value is None:
        return "-"
    for letter, size in SCALES:
        if value >= size:
            return f"{value / size:.1f}{letter}"
    return f"{value:.0f}"


def _table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, ink: Ink, bad: Sequence[bool],
    histories: Sequence[Sequence[float]], bars: str, spark: int, top: float = 0.0,
) -> list[str]:  # fmt: skip
    """The first column takes the room that is left; a row that is bad is in red."""
    chosen = [n for n, column in enumerate(columns) if width >= WIDE or not column.wide]
    columns, rows = [columns[n] for n in chosen], [[row[n] for n in chosen] for row in rows]
    widths = [
        max(column.width, *(len(row[n]) for row in rows)) if rows and n else column.width
        for n, column in enumerate(columns)
    ]
    widths = [min(w, 24) if n else w for n, w in enumerate(widths)]
    left = width - sum(widths) - 2 * (len(widths) - 1) - (spark + 2 if spark and histories else 0)
    longest = max((len(row[0]) for row in rows), default=0)
    widths[0] = max(8, min(widths[0] + left, max(longest, columns[0].width)))
    line = "  ".join(_cell(column.title, size, column.right) for column, size in zip(columns, widths, strict=True))
    lines = [ink.strong(line[:width].rstrip())]
    for number, row in enumerate(rows):
        text = "  ".join(
            _cell(one_line(cell), size, column.right) for cell, column, size in zip(row, columns, widths, strict=True)
        )
        drawn = sparkline(histories[number], spark, bars, top) if spark and number < len(histories) else ""
        text = text[:width].rstrip() if not drawn else f"{text}  {drawn}"[:width]
        lines.append(ink.bad(text) if bad[number] else text)
    return lines


def _cell(text: str, width: int, right: bool) -> str:
    text = text if len(text) <= width else text[: width - 1] + "~"
    return f"{text:>{width}}" if right else f"{text:<{width}}"


def sparkline(values: Sequence[float], width: int, bars: str, top: float = 0.0) -> str:
    """The newest at the right; as high as ``top``, or as the highest of them."""
    values = list(values)[-width:]
    highest = max(top, *values) if values else 0.0
    if highest <= 0:
        return bars[0] * len(values)
    return "".join(bars[min(len(bars) - 1, int(value / highest * len(bars)))] for value in values)


# --- the command ---


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@with_client
@click.option("--interval", type=click.IntRange(1, 3600), default=5, show_default=True, help="Seconds between.")
@click.option("--once", is_flag=True, help="One picture (what is no terminal gets one only, too).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, with everything.")
def command(client: Client, interval: int, once: bool, as_json: bool) -> int:
    """How everything stands: groups, engines, virtual services, what is in trouble first. q ends it."""
    client.login()
    watcher = Watcher(client)
    if as_json:
        found = watcher.look()
        click.echo(
            msgspec.json.encode(
                {**msgspec.to_builtins(found), "counts": found.counts(), "problems": found.problems()}
            ).decode()
        )
        return 0
    bars = BARS if "utf" in (sys.stdout.encoding or "").lower() else PLAIN_BARS
    if once or not (sys.stdin.isatty() and sys.stdout.isatty()):
        columns = shutil.get_terminal_size((ONCE_COLUMNS, 24)).columns
        ink = Ink.of_stdout()
        click.echo("\n".join(drawn(watcher.look(), columns, 10_000, ink, bars, watcher.history)))
        return 0
    _live(watcher, interval, bars)
    return 0


def _live(watcher: Watcher, interval: int, bars: str) -> None:
    ink = Ink(colour=not os.environ.get("NO_COLOR"))
    lines: list[str] = []
    with _screen():
        while True:
            size = shutil.get_terminal_size()
            try:
                lines = drawn(watcher.look(), size.columns, size.lines - 1, ink, bars, watcher.history)
                note = f"every {interval} s; q ends it"
            except NotReady as error:
                note = ink.bad(str(error)[: size.columns])
            shown = [*lines[: size.lines - 1], note]
            sys.stdout.write(
                HOME + "".join(f"{line}{CLEAR_LINE}\r\n" for line in shown[:-1]) + shown[-1] + CLEAR_LINE + CLEAR_BELOW
            )
            sys.stdout.flush()
            if _key(interval) in QUIT:
                return


def _key(within_s: float) -> str:
    """What was typed, "" if nothing was; any other key draws at once."""
    ready, _, _ = select.select([sys.stdin], [], [], within_s)
    return os.read(sys.stdin.fileno(), 64).decode(errors="replace")[:1] if ready else ""


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """A screen of its own, keys as they come; the terminal is as before afterwards, whatever happens."""
    before = termios.tcgetattr(sys.stdin.fileno())
    sys.stdout.write(ENTER_SCREEN)
    try:
        tty.setcbreak(sys.stdin.fileno())
        yield
    except KeyboardInterrupt:
        pass
    finally:
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)
        sys.stdout.write(LEAVE_SCREEN)
        sys.stdout.flush()
