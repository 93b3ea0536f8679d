"""Who takes over each VIP when its owner dies, planned in advance: the same computation as "what if engine x fails"."""

from __future__ import annotations

from . import choose as choosing
from .board import Board, Work
from .model import PlacementState

ARMED_SUCCESSORS_MAX = 2
"""Engines beyond the members that are prepared to take a VIP over."""


def arm(board: Board) -> None:
    """Give every VIP its list: the owner, its other ready members, then engines with room.

    For each engine the VIPs that live on it alone must all fit elsewhere if it dies, so room that one VIP's first
    successor takes is not promised to the next. Lists are stable: a successor stays while it is good.
    """
    promised: dict[tuple[str, str], int] = {}
    for work in board.works.values():
        primary = work.primary
        if work.takeover:
            work.succession = work.vip.succession
            continue
        if primary is None or primary.state is PlacementState.WAITING:
            work.succession = ()
            continue
        owner = primary.engine
        members = [p.engine for p in work.ready if p.engine != owner]
        kept = [engine for engine in work.vip.succession if engine in members]
        members = kept + [engine for engine in members if engine not in kept]
        extra = _successors(board, work, owner, promised)
        if extra and not members:
            promised[owner, extra[0]] = promised.get((owner, extra[0]), 0) + work.vip.slots
        work.succession = (owner, *members, *extra)


def _successors(board: Board, work: Work, owner: str, promised: dict[tuple[str, str], int]) -> list[str]:
    slots = work.vip.slots

    def fits(engine: str) -> bool:
        return board.free(engine) - promised.get((owner, engine), 0) >= slots

    hosts = board.hosts_of(work, besides=[owner]) if board.group.vs_host_redundancy else set()
    able = [e.id for e in board.engines.values() if choosing.rejection(board, work, e) is None and e.host not in hosts]
    chosen = [engine for engine in work.vip.succession if engine in able and fits(engine)][:ARMED_SUCCESSORS_MAX]
    if len(chosen) < ARMED_SUCCESSORS_MAX:
        rest = [engine for engine in able if engine not in chosen and fits(engine)]
        rest.sort(key=lambda engine: board.load[engine] + promised.get((owner, engine), 0))
        chosen += rest[: ARMED_SUCCESSORS_MAX - len(chosen)]
    return chosen
