"""A decision in plain sentences: why here, and why not each other engine.

A `Decision` holds the result only; what it was chosen from is made anew out of its snapshot, by the planner itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from . import rules
from .board import Board
from .model import Candidate, Decision, Judgement, Record, Snapshot
from .planner import planned

WHATS = {
    "place": "is placed on {engine}",
    "wait": "waits for {engine}",
    "unplace": "leaves {engine}",
    "promote": "gets {engine} as its primary",
    "drain": "drains from {engine}",
    "migrate": "migrates to {engine}",
    "create_engine": "gets a new engine",
    "retire_engine": "gives up {engine}",
    "rebalance_scaleout": "is to scale out",
    "rebalance_scalein": "is to scale in",
    "rebalance_migrate": "is to migrate",
}
RULES = {
    "down": "down",
    "suspect": "out of sight",
    "creating": "still being created",
    "holds_vip": "on it already",
    "disabled": "disabled",
    "network": "without an interface in a network it needs",
    "no_room": "no room",
    "host_in_use": "host already in use",
    "would_be_over": "too much load",
    "no_load": "load not known",
    "idle": "idle",
    "lighter": "holding less",
}
"""Rule -> what people call it."""


def records(snapshot: Snapshot, now: float, vip: str) -> tuple[Record, ...]:
    """What the plan of this snapshot and time decided for the VIP ("" = for the group), in full. Takes one plan."""
    board = Board(snapshot, now, watched=vip)
    planned(board)
    return tuple(board.records)


def judgements(snapshot: Snapshot, vips: Iterable[str], now: float) -> dict[str, Judgement]:
    """For each of these VIPs, which engines could take it (more of it) as things stand in the snapshot."""
    board = Board(snapshot, now)
    return {vip: rules.judge(board, board.works[vip]) for vip in vips if vip in board.works}


def sentences(
    decision: Decision,
    judged: Judgement | None = None,
    names: Mapping[str, str] | None = None,
    group: str = "The group",
) -> list[str]:
    """Lines of plain text, with every engine where ``judged`` is given. ``names``: engine and VIP ids -> what people
    call them; an id without a name stands for itself."""
    names = names or {}
    engine = names.get(decision.engine, decision.engine)
    subject = names.get(decision.vip, decision.vip) or group
    verb = WHATS.get(decision.what, "stays as it is").format(engine=engine)
    lines = [f"{subject} {verb}: {decision.why}."]
    if judged is not None:
        if judged.candidates:
            ranked = ", ".join(_candidate(c, names) for c in judged.candidates)
            lines.append(f"Ranked by slots used, then age: {ranked}.")
        lines += [f"Not {names.get(no.engine, no.engine)}: {no.detail} ({no.rule})." for no in judged.rejections]
    else:
        lines += in_short(decision, names)
    return lines


def in_short(decision: Decision, names: Mapping[str, str]) -> list[str]:
    """What a decision keeps of the engines it looked at: the next best, and how many each rule excluded."""
    lines = []
    if decision.runner_up:
        lines.append(f"Next best of {decision.eligible}: {names.get(decision.runner_up, decision.runner_up)}.")
    if decision.excluded:
        lines.append(f"Not: {', '.join(f'{count} {RULES.get(rule, rule)}' for rule, count in decision.excluded)}.")
    return lines


def _candidate(candidate: Candidate, names: Mapping[str, str]) -> str:
    name = names.get(candidate.engine, candidate.engine)
    return f"{name} {candidate.load}/{candidate.capacity}{' idle' if candidate.idle else ''}"
