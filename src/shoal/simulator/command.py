"""``shoal simulate``: random histories by seed, on all processors; failures are shrunk and written down."""

from __future__ import annotations

import gc
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shoal import __version__

from . import history, summary
from .fleet import fleet as run_fleet
from .history import Event, Shape
from .kernel import Broken
from .results import Done, Results
from .shrink import shrunk
from .silence import silence
from .trial import Outcome, drawn, played

EXIT_BROKEN = 1
PROGRESS_EACH = 20
REFRESH_S = 0.2
GARBAGE_EACH = 20_000
"""So many new objects between two looks for garbage."""
TOLD_EACH_S = 60.0
"""Without a terminal, how far a long series is."""
ENGINES_MAX = 1000
"""``max_se``'s bound."""

_done: Any = None
"""Events so far, counted by all processes."""
_parent = 0
"""The process that runs are played for."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    seed: int
    shape: Shape
    events: int
    shrink_s: float


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A run, without its events if all went well; ``short``: the shortest history found that breaks the same rule."""

    outcome: Outcome
    count: int
    short: Outcome | None = None

    def done(self, asked: int, commit: str) -> Done:
        return Done(
            commit=commit,
            asked=asked,
            count=self.count,
            enough=len(self.short.events) if self.short is not None else 0,
            outcome=msgspec.structs.replace(self.outcome, events=(), why=_first(self.outcome.why)),
        )


def simulate(jobs: list[Job], processes: int, console: Console, progress: Callable[[int], None]) -> Iterator[Found]:
    """The outcome of each job, as they come."""
    global _done, _parent
    if not jobs:
        return
    _parent = os.getpid()
    context = multiprocessing.get_context("fork")
    _done = context.Value("Q", 0)
    with context.Pool(min(processes, len(jobs)), _quiet) as pool:
        running = pool.imap_unordered(_work, jobs)
        for _ in jobs:
            while True:
                try:
                    found = running.next(REFRESH_S)
                    break
                except multiprocessing.TimeoutError:
                    progress(_done.value)
            progress(_done.value)
            yield found


def _quiet() -> None:
    """How a process begins that plays runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    gc.freeze()  # a tenth of the time would go into looking for garbage, where there is hardly any
    gc.set_threshold(GARBAGE_EACH)


def _count(done: int) -> None:
    _heed(done)
    if done % PROGRESS_EACH == 0:
        with _done.get_lock():
            _done.value += PROGRESS_EACH


def _heed(done: int) -> None:
    """Whoever was killed and left this process behind waits for no runs any more."""
    if done % PROGRESS_EACH == 0 and _parent not in (0, os.getpid(), os.getppid()):
        os._exit(EXIT_BROKEN)


def _work(job: Job) -> Found:
    outcome = drawn(job.seed, job.shape, job.events, _count)
    if not outcome.broke:
        return Found(outcome=msgspec.structs.replace(outcome, events=()), count=len(outcome.events))
    return Found(outcome=outcome, count=len(outcome.events), short=shortest(outcome, job.shrink_s))


def shortest(outcome: Outcome, within_s: float) -> Outcome:
    """The shortest history that breaks the same rule, of those tried within the time."""
    until = time.monotonic() + within_s
    best = outcome

    def breaks(events: list[Event]) -> bool:
        nonlocal best
        tried = played(outcome.seed, outcome.shape, events, _heed)
        if tried.broke != outcome.broke:
            return False
        best = tried
        return True

    shrunk(outcome.events, breaks, lambda: time.monotonic() < until)
    return best


def commit() -> str:
    """Of the source this runs from, with ``+`` if it was changed; the version where it was installed."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        state = subprocess.run([*git, "status", "--porcelain", "-uno", "."], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return f"version {__version__}"
    return head.stdout.strip() + ("+" if state.stdout.strip() else "")


# --- the command ---


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", type=click.IntRange(min=0), help="One run, by this seed.")
@click.option("--seeds", metavar="FIRST-LAST", help="Runs by these seeds (default: 0-9).")
@click.option("--events", type=click.IntRange(min=1), default=300, show_default=True, help="In each run.")
@click.option("--engines", type=click.IntRange(2, 60), default=6, show_default=True, help="max_se of each group.")
@click.option("--services", type=click.IntRange(1, 60), default=3, show_default=True, help="In each group, at first.")
@click.option("--hosts", type=click.IntRange(1, 60), default=4, show_default=True)
@click.option("--racks", type=click.IntRange(1, 60), default=2, show_default=True)
@click.option(
    "--fleet",
    metavar="ENGINESxSERVICES",
    help="One run of that size with a simpler data network; --events things happen to it, one by one.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Processes (default: one for each processor).")
@click.option(
    "--results",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Add each run that is done to this file, and skip those that are in it: a long series that was ended goes on.",
)
@click.option("--shrink-s", type=float, default=120.0, show_default=True, help="Time to shrink each failure.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    help="Where transcripts of failures go (default: here).",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(
    seed: int | None,
    seeds: str | None,
    events: int,
    engines: int,
    services: int,
    hosts: int,
    racks: int,
    fleet: str | None,
    jobs: int | None,
    results: Path | None,
    shrink_s: float,
    output: Path,
    as_json: bool,
) -> int:
    """Random histories against the real controller and engine logic, in virtual time, with every promise checked.

    Engines die and come back, hosts and racks fail, networks split (also one way), the cloud is slow or refuses, store
    and cloud are out of reach, the controller crashes at any moment, messages are lost and repeated, clocks jump,
    operators edit. A failure is shrunk to the events that matter and written to shoal-seed-N.json, which `shoal replay`
    plays again. Exit status 1 then.
    """
    if fleet is not None:
        return _fleet(fleet, seed or 0, events, as_json=as_json)
    shape = Shape(hosts=hosts, racks=racks, services=services, max_se=engines)
    console = Console(stderr=as_json, highlight=False)
    began, commit_found = time.monotonic(), commit()
    with ExitStack() as stack:
        file = stack.enter_context(Results(results)) if results is not None else None
        done, todo = list[Done](), list[Job]()
        for number in _numbers(seed, seeds):
            if file is not None and (known := file.find(number, shape, events)) is not None:
                done.append(known)
            else:
                todo.append(Job(seed=number, shape=shape, events=events, shrink_s=shrink_s))
        before = len(done)
        if before and not as_json:
            console.print(f"{before:,} of {before + len(todo):,} seeds are in {results} already.", soft_wrap=True)
        update = stack.enter_context(_progress(console, len(todo) * events))
        try:
            for found in simulate(todo, jobs or os.cpu_count() or 1, console, update):
                done.append(found.done(events, commit_found))
                if found.short is not None:
                    transcript = _write(output, found, commit_found)
                    if not as_json:
                        _tell(console, found, transcript, commit_found, events)
                if file is not None:
                    file.add(done[-1])
        except KeyboardInterrupt:
            where = f" {len(done):,} seeds are in {results}; the same command goes on from there." if results else ""
            click.echo(f"Ended after {len(done) - before:,} of {len(todo):,} runs.{where}", err=True)
            raise click.Abort from None
    document = summary.document(done, before, time.monotonic() - began, commit_found)
    if as_json:
        click.echo(json.dumps(document))
    else:
        summary.show(console, document)
    return EXIT_BROKEN if document["failures"] else 0


def _fleet(size: str, seed: int, events: int, *, as_json: bool) -> int:
    engines, x, services = size.partition("x")
    if not x or not engines.isdigit() or not services.isdigit() or not 2 <= int(engines) <= ENGINES_MAX:
        raise click.UsageError(
            f"--fleet {size}: give ENGINESxSERVICES, such as 1000x10000, of 2..{ENGINES_MAX} engines."
        )
    try:
        with silence():
            done = run_fleet(seed, int(engines), int(services), events, lambda text: click.echo(text, err=as_json))
    except Broken as broken:
        click.echo(f"Seed {seed}, commit {commit()}: broken: {broken.rule}.\n{broken}", err=as_json)
        return EXIT_BROKEN
    if as_json:
        click.echo(json.dumps({"commit": commit(), **msgspec.to_builtins(done)}))
    return 0


def _numbers(seed: int | None, seeds: str | None) -> list[int]:
    if seed is not None and seeds is not None:
        raise click.UsageError("Give --seed or --seeds.")
    if seed is not None:
        return [seed]
    first, _, last = (seeds or "0-9").partition("-")
    if not first.isdigit() or not (last or first).isdigit() or int(last or first) < int(first):
        raise click.UsageError(f"--seeds {seeds}: give FIRST-LAST, such as 0-49.")
    return list(range(int(first), int(last or first) + 1))


class _Bar:
    """Events so far, on a terminal."""

    def __init__(self, console: Console, total: int) -> None:
        columns = (TextColumn("events"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("events", total=total)

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        return lambda done: self._bar.update(self._task, completed=done)

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


class _Lines:
    """The same in a line now and then, where there is no terminal."""

    def __init__(self, total: int) -> None:
        self._total = total

    def __enter__(self) -> Callable[[int], None]:
        self._began = self._told = time.monotonic()
        return self._update

    def _update(self, done: int) -> None:
        now = time.monotonic()
        if done and now - self._told >= TOLD_EACH_S:
            self._told = now
            left = (now - self._began) * (self._total - done) / done
            click.echo(f"{done:,} of {self._total:,} events; about {left / 60:,.0f} minutes left", err=True)

    def __exit__(self, *error: object) -> None: ...


def _progress(console: Console, total: int) -> _Bar | _Lines:
    return _Bar(console, total) if console.is_terminal else _Lines(total)


def _write(output: Path, found: Found, commit_found: str) -> Path:
    assert found.short is not None
    output.mkdir(parents=True, exist_ok=True)
    file = output / f"shoal-seed-{found.outcome.seed}.json"
    transcript = msgspec.structs.replace(found.short.transcript, commit=commit_found, why=_first(found.short.why))
    history.write(file, transcript)
    return file


def _first(text: str) -> str:
    return text.partition("\n")[0]


def _tell(console: Console, found: Found, file: Path, commit_found: str, events: int) -> None:
    outcome, short = found.outcome, found.short
    assert short is not None
    out: Callable[[str], None] = lambda text: console.print(text, markup=False, soft_wrap=True)  # noqa: E731
    out(f"Seed {outcome.seed}, commit {commit_found}: broken: {outcome.broke}.")
    out(f"  {_first(short.why)}")
    out(f"  After {found.count} events; {len(short.events)} of them are enough:")
    out(history.told(short.events))
    out("  The last that happened:")
    out("\n".join("  " + line for line in short.why.splitlines()[-12:]))
    out(f"  Written to {file}: play it again with `shoal replay {file}`, the whole of it with")
    out(f"  `shoal simulate --seed {outcome.seed} --events {events}`.\n")
