"""``shoal simulate``: random histories by seed, on all processors; failures are shrunk and written down."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from shoal import __version__

from . import history
from .fleet import fleet as run_fleet
from .history import KINDS, Event, Shape
from .kernel import Broken
from .shrink import shrunk
from .silence import silence
from .trial import Outcome, drawn, played

EXIT_BROKEN = 1
PROGRESS_EACH = 20
REFRESH_S = 0.2
ENGINES_MAX = 1000
"""``max_se``'s bound."""
PROMISES = {
    "owners": "one engine answers for an address on each connected segment",
    "claims": "no two engines claim a VIP alike",
    "armed lists": "a list is armed only when all its engines have it",
    "generations": "generations and list versions never go back",
    "ranks": "no two engines have the same rank",
    "plans": "placement's rules hold after every plan (slots, hosts, buffer, disabled engines)",
    "settled": "after the last fault everything becomes as intended",
}

_done: Any = None
"""Events so far, counted by all processes."""


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


def simulate(jobs: list[Job], processes: int, console: Console, progress: Callable[[int], None]) -> Iterator[Found]:
    """The outcome of each job, as they come."""
    global _done
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)


def _count(done: int) -> None:
    if done % PROGRESS_EACH == 0:
        with _done.get_lock():
            _done.value += PROGRESS_EACH


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
        tried = played(outcome.seed, outcome.shape, events)
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
    shrink_s: float,
    output: Path,
    as_json: bool,
) -> int:
    """Random histories against the real controller and engine logic, in virtual time, with every promise checked.

    Engines die and come back, hosts and racks fail, networks split (also one way), the cloud is slow or refuses, the
    controller crashes at any moment, messages are lost and repeated, clocks jump, operators edit. A failure is shrunk
    to the events that matter and written to shoal-seed-N.json, which `shoal replay` plays again. Exit status 1 then.
    """
    if fleet is not None:
        return _fleet(fleet, seed or 0, events, as_json=as_json)
    shape = Shape(hosts=hosts, racks=racks, services=services, max_se=engines)
    numbers = _numbers(seed, seeds)
    todo = [Job(seed=number, shape=shape, events=events, shrink_s=shrink_s) for number in numbers]
    console = Console(stderr=as_json, highlight=False)
    began, commit_found = time.monotonic(), commit()
    all_found: list[Found] = []
    with _progress(console, len(todo) * events) as update:
        for found in simulate(todo, jobs or os.cpu_count() or 1, console, update):
            all_found.append(found)
            if found.short is not None:
                file = _write(output, found, commit_found)
                if not as_json:
                    _tell(console, found, file, commit_found, events)
    document = _document(all_found, time.monotonic() - began, commit_found)
    if as_json:
        click.echo(json.dumps(document))
    else:
        _summary(console, document)
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


def _progress(console: Console, total: int) -> Any:
    return _Bar(console, total) if console.is_terminal else nullcontext(lambda done: None)


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


def _document(all_found: list[Found], wall_s: float, commit_found: str) -> dict[str, Any]:
    outcomes = [found.outcome for found in all_found]
    kinds: Counter[str] = Counter()
    checked: Counter[str] = Counter()
    for outcome in outcomes:
        kinds.update(outcome.kinds)
        checked.update(outcome.checked)
    events = sum(found.count for found in all_found)
    failed = [found for found in all_found if found.outcome.broke]
    return {
        "commit": commit_found,
        "seeds": len(outcomes),
        "events": events,
        "events_that_meant_something": sum(kinds.values()),
        "kinds": {kind: kinds[kind] for kind in KINDS if kinds[kind]},
        "checked": {promise: checked[promise] for promise in PROMISES},
        "virtual_s": round(sum(outcome.virtual_s for outcome in outcomes), 1),
        "wall_s": round(wall_s, 1),
        "cpu_s": round(sum(outcome.cpu_s for outcome in outcomes), 1),
        "events_per_s": round(events / wall_s, 1) if wall_s else 0.0,
        "failures": [
            {
                "seed": found.outcome.seed,
                "broke": found.outcome.broke,
                "why": _first(found.outcome.why),
                "events": len(found.short.events) if found.short else found.count,
            }
            for found in sorted(failed, key=lambda found: found.outcome.seed)
        ],
    }


def _summary(console: Console, document: dict[str, Any]) -> None:
    kinds = Table("event", "times", "what happens", box=None, header_style="bold", pad_edge=False)
    for kind, count in document["kinds"].items():
        kinds.add_row(kind, f"{count:,}", KINDS[kind])
    promises = Table("promise", "looked at", "", box=None, header_style="bold", pad_edge=False)
    for promise, sentence in PROMISES.items():
        promises.add_row(promise, f"{document['checked'][promise]:,}", sentence)
    console.print(kinds, "", promises, "")
    console.print(
        f"{document['seeds']:,} seeds, {document['events']:,} events, {document['virtual_s'] / 3600:,.1f} h of virtual"
        f" time in {document['wall_s']:,.1f} s ({document['events_per_s']:,.0f} events/s), commit {document['commit']}."
    )
    failures = document["failures"]
    if failures:
        seeds = ", ".join(str(failure["seed"]) for failure in failures)
        console.print(f"[bold red]{len(failures)} broken[/]: seeds {seeds}.")
    else:
        console.print("No promise was broken.")
