"""What came of a series of runs, for people and for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from .history import KINDS
from .results import Done

PROMISES = {
    "owners": "one engine answers for an address on each connected segment",
    "claims": "no two engines claim a VIP alike",
    "armed lists": "a list is armed only when all its engines have it",
    "generations": "generations and list versions never go back",
    "ranks": "no two engines have the same rank",
    "judged": "no engine is given up that is well, and reached, for long",
    "answered": "nobody waits for long for the answer of a VIP that an engine could give",
    "plans": "placement's rules hold after every plan (slots, hosts, buffer, disabled engines)",
    "settled": "after the last fault everything becomes as intended",
}


def document(done: Sequence[Done], before: int, wall_s: float, commit: str) -> dict[str, Any]:
    """``before``: so many of the first were done in an earlier call; ``wall_s`` is that of the others."""
    kinds: Counter[str] = Counter()
    checked: Counter[str] = Counter()
    commits: Counter[str] = Counter()
    for run in done:
        kinds.update(run.outcome.kinds)
        checked.update(run.outcome.checked)
        commits[run.commit] += 1
    events, now = sum(run.count for run in done), sum(run.count for run in done[before:])
    cpu_s = sum(run.outcome.cpu_s for run in done)
    return {
        "commit": commit,
        "commits": dict(commits),
        "seeds": len(done),
        "seeds_done_before": before,
        "events": events,
        "events_that_meant_something": sum(kinds.values()),
        "kinds": {kind: kinds[kind] for kind in KINDS if kinds[kind]},
        "checked": {promise: checked[promise] for promise in PROMISES},
        "virtual_s": round(sum(run.outcome.virtual_s for run in done), 1),
        "wall_s": round(wall_s, 1),
        "cpu_s": round(cpu_s, 1),
        "cpu_ms_per_event": round(cpu_s * 1000 / events, 3) if events else 0.0,
        "events_per_s": round(now / wall_s, 1) if wall_s else 0.0,
        "failures": [
            {
                "seed": run.outcome.seed,
                "broke": run.outcome.broke,
                "why": run.outcome.why,
                "events": run.enough or run.count,
            }
            for run in sorted(done, key=lambda run: run.outcome.seed)
            if run.outcome.broke
        ],
    }


def show(console: Console, document: dict[str, Any]) -> None:
    kinds = Table("event", "times", "what happens", box=None, header_style="bold", pad_edge=False)
    for kind, count in document["kinds"].items():
        kinds.add_row(kind, f"{count:,}", KINDS[kind])
    promises = Table("promise", "looked at", "", box=None, header_style="bold", pad_edge=False)
    for promise, sentence in PROMISES.items():
        promises.add_row(promise, f"{document['checked'][promise]:,}", sentence)
    console.print(kinds, "", promises, "")
    console.print(
        f"{document['seeds']:,} seeds, {document['events']:,} events, {document['virtual_s'] / 3600:,.1f} h of virtual time"
        f" in {document['cpu_s']:,.1f} s of processor time ({document['cpu_ms_per_event']:.2f} ms an event)."
    )
    before = document["seeds_done_before"]
    earlier = f", {before:,} of the seeds earlier" if before else ""
    commits = ", ".join(document["commits"])
    console.print(
        f"Run in {document['wall_s']:,.1f} s ({document['events_per_s']:,.0f} events/s){earlier}; commit {commits}."
    )
    failures = document["failures"]
    if failures:
        seeds = ", ".join(str(failure["seed"]) for failure in failures)
        console.print(f"[bold red]{len(failures)} broken[/]: seeds {seeds}.")
    else:
        console.print("No promise was broken.")
