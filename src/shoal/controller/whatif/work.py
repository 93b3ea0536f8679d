"""The thinking of a what-if: pure, and fit for a thread of its own."""

from __future__ import annotations

import msgspec

from shoal.placement.margin import Margin, Worst, margin, worst
from shoal.placement.model import Snapshot
from shoal.placement.outcome import Changes, Outcome
from shoal.placement.remedy import remedies, remedies_for_all, sentence
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
    would_help = tuple(dict.fromkeys(sentence(ways) for ways in helps if ways))
    return Thought(outcome=outcome, worst=found, before=before, after=after, would_help=would_help)
