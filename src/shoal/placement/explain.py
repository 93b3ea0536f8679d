"""A decision in plain sentences: why here, and why not each other engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from . import choose
from .board import Board
from .model import Candidate, Decision, Rejection, Snapshot

WHATS = {
    "place": "is placed on {engine}",
    "wait": "waits for {engine}",
    "unplace": "leaves {engine}",
    "promote": "gets {engine} as its primary",
    "drain": "drains from {engine}",
    "migrate": "migrates to {engine}",
    "create_engine": "gets a new engine",
    "retire_engine": "gives up {engine}",
}


def sentences(decision: Decision, names: Mapping[str, str] | None = None, group: str = "The group") -> list[str]:
    """Lines of plain text. ``names``: engine and VIP ids -> what people call them; an id without a name stands for
    itself."""
    names = names or {}
    engine = names.get(decision.engine, decision.engine)
    subject = names.get(decision.vip, decision.vip) or group
    verb = WHATS.get(decision.what, "stays as it is").format(engine=engine)
    lines = [f"{subject} {verb}: {decision.why}."]
    if decision.candidates:
        ranked = ", ".join(_candidate(c, names) for c in decision.candidates)
        lines.append(f"Ranked by slots used, then age: {ranked}.")
    for no in decision.rejections:
        lines.append(f"Not {names.get(no.engine, no.engine)}: {no.detail} ({no.rule}).")
    if decision.hint:
        lines.append(f"What would help: {decision.hint}")
    return lines


def ineligible(snapshot: Snapshot, vips: Iterable[str], now: float) -> dict[str, tuple[Rejection, ...]]:
    """For each of these VIPs, the engines that could not take it as things stand, with the rule and its numbers."""
    board = Board(snapshot, now)
    works = {vip: board.works[vip] for vip in vips if vip in board.works}
    return {vip: choose.survey(board, work).rejections for vip, work in works.items()}


def _candidate(candidate: Candidate, names: Mapping[str, str]) -> str:
    name = names.get(candidate.engine, candidate.engine)
    return f"{name} {candidate.load}/{candidate.capacity}{' idle' if candidate.idle else ''}"
