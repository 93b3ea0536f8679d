"""The thinking of a what-if: pure, and fit for a thread of its own."""

from __future__ import annotations

import msgspec

from shoal.placement.margin import Margin, Worst, margin, worst
from shoal.placement.model import Snapshot
from shoal.placement.outcome import Changes, Outcome
from shoal.placement.remedy import Remedy, remedies, remedies_for_all, sentence
from shoal.placement.whatif import edited, whatif


class Thought(msgspec.Struct, frozen=True, kw_only=True):
    """``worst``: with ``fail_any``. Margins: of the group as it is, and when all is done."""

    outcome: Outcome
    worst: Worst | None
    before: Margin
    after: Margin
    would_help: tuple[str, ...]
    """Those that lack engines in the end, and the buffer: a sentence each."""


def think(snapshot: Snapshot, changes: Changes, fail_any: int, now: float) -> Thought:
    """Raises ValueError for a group that can't be planned, or with fewer than ``fail_any`` engines that are up."""
    found = None
    if fail_any:
        found = worst(edited(snapshot, changes, now).snapshot, fail_any, now)
        changes = msgspec.structs.replace(changes, fail=found.engines)
    outcome = whatif(snapshot, changes, now)
    rest = edited(snapshot, Changes(), now).snapshot
    before = margin(rest, now)
    after = before if outcome.end == rest else margin(outcome.end, now)
    helps = (remedies_for_all(outcome.end, now), remedies(outcome.end, "", now))
    fitting = [[way for way in ways if not _takes_back(way, snapshot, changes)] for ways in helps]
    would_help = tuple(dict.fromkeys(sentence(ways) for ways in fitting if ways))
    return Thought(outcome=outcome, worst=found, before=before, after=after, would_help=would_help)


def _takes_back(remedy: Remedy, present: Snapshot, changes: Changes) -> bool:
    """It would only undo what is asked about: enable the engine that is to be drained, raise the limit that is lowered."""
    if remedy.engine:
        return remedy.engine in (*changes.drain, *changes.remove)
    then = changes.proposed.group if changes.proposed is not None else present.group
    was, becomes = getattr(present.group, remedy.field, 0), getattr(then, remedy.field, 0)
    return bool((becomes - was) * (int(remedy.value) - becomes) < 0)
