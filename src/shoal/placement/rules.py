"""Which rule keeps an engine from taking a VIP (reference: elastic-ha 2.1): the word for it, and its numbers."""

from __future__ import annotations

from collections.abc import Iterable

from .board import Board, Work
from .model import Candidate, Engine, EngineState, Judgement, Rejection
from .standing import ENABLED, NO_GATEWAY

HOST_IN_USE = "host_in_use"
"""The soft one: an engine that only shares a host is taken when there is no other."""


def excluding(board: Board, work: Work, engine: Engine) -> str:
    """The first rule that forbids the engine to take the VIP, "" if none does; host redundancy is looked at apart."""
    if engine.state is not EngineState.UP:
        return engine.state.value
    if work.on(engine.id) is not None:
        return "holds_vip"
    if engine.enable_state != ENABLED:
        return "disabled"
    if board.lacks(work, engine.id):
        return "network"
    if board.load[engine.id] + work.vip.slots > board.group.max_vs_per_se:
        return "no_room"
    return ""


def rejection(board: Board, work: Work, engine: Engine) -> Rejection | None:
    """The same with its numbers; None if the engine may take the VIP."""
    rule = excluding(board, work, engine)
    return _rejection(board, work, engine, rule) if rule else None


def _rejection(board: Board, work: Work, engine: Engine, rule: str) -> Rejection:
    detail = _detail(board, work, engine, rule)
    return Rejection(engine=engine.id, rule=rule, detail=detail, load=board.load[engine.id])


def _detail(board: Board, work: Work, engine: Engine, rule: str) -> str:
    match rule:
        case "suspect":
            return "the controller has lost sight of it together with many others"
        case "holds_vip":
            held = work.on(engine.id)
            return f"it holds this VIP already ({held.state.value if held else 'gone'})"
        case "disabled" if engine.enable_state == NO_GATEWAY:
            return f"it does not reach gateway {engine.lost_gateway}, others do"
        case "disabled":
            return f"enable_state is {engine.enable_state}"
        case "network":
            return f"it has no interface in {board.lacks(work, engine.id)}"
        case "no_room":
            used, most = board.load[engine.id], board.group.max_vs_per_se
            return f"{used} of max_vs_per_se {most} slots used, {work.vip.slots} needed"
        case "host_in_use":
            return f"host {engine.host} already runs an engine of this virtual service (vs_host_redundancy)"
    return "it is being made" if engine.state is EngineState.CREATING else f"the engine is {engine.state.value}"


def judge(board: Board, work: Work, besides: Iterable[str] = ()) -> Judgement:
    """Every engine of the group with its rank or its rule. ``besides``: engines whose host does not count."""
    hosts = board.hosts_of(work, besides) if board.group.vs_host_redundancy else set()
    candidates: list[Candidate] = []
    rejections: list[Rejection] = []
    for engine in board.engines.values():
        no = rejection(board, work, engine)
        if no is None and engine.host and engine.host in hosts:
            no = _rejection(board, work, engine, HOST_IN_USE)
        if no is None:
            candidates.append(candidate(board, engine))
        else:
            rejections.append(no)
    return Judgement(candidates=tuple(sorted(candidates, key=lambda c: c.load)), rejections=tuple(rejections))


def candidate(board: Board, engine: Engine) -> Candidate:
    load = board.load[engine.id]
    return Candidate(engine=engine.id, load=load, capacity=board.group.max_vs_per_se, idle=load == 0)
