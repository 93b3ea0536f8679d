"""Where a placement goes: filter with the rule that rejected each engine, rank, choose (reference: elastic-ha 2)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .board import ENABLED, Board, Work
from .model import Candidate, Engine, EngineState, Rejection

PACKED = "PLACEMENT_ALGO_PACKED"


class Field(msgspec.Struct, frozen=True):
    """The engines in question: eligible ones by rank, those that only share a host, and why each other is out."""

    eligible: tuple[Candidate, ...]
    same_host: tuple[Candidate, ...]
    rejections: tuple[Rejection, ...]


class Choice(msgspec.Struct, frozen=True):
    """The engine ("" = none), and why in one sentence."""

    engine: str
    why: str
    hint: str = ""


def rejection(board: Board, work: Work, engine: Engine) -> Rejection | None:
    """The first rule that forbids the engine to take the VIP; host redundancy is looked at apart."""
    group, vip = board.group, work.vip

    def no(rule: str, detail: str) -> Rejection:
        return Rejection(engine=engine.id, rule=rule, detail=detail)

    held = work.on(engine.id)
    if engine.state is not EngineState.UP:
        return no(engine.state.value, f"the engine is {engine.state.value}")
    if held is not None:
        return no("holds_vip", f"it holds this VIP already ({held.state.value})")
    if engine.enable_state != ENABLED:
        return no("disabled", f"enable_state is {engine.enable_state}")
    load = board.load[engine.id]
    if load + vip.slots > group.max_vs_per_se:
        return no("no_room", f"{load} of max_vs_per_se {group.max_vs_per_se} slots used, {vip.slots} needed")
    return None


def survey(board: Board, work: Work, besides: Iterable[str] = ()) -> Field:
    """Every engine of the group, judged. ``besides``: engines whose host does not count (they are about to leave)."""
    hosts = board.hosts_of(work, besides) if board.group.vs_host_redundancy else set()
    eligible: list[Candidate] = []
    same_host: list[Candidate] = []
    rejections: list[Rejection] = []
    for engine in board.engines.values():
        no = rejection(board, work, engine)
        if no is not None:
            rejections.append(no)
            continue
        load = board.load[engine.id]
        candidate = Candidate(engine=engine.id, load=load, capacity=board.group.max_vs_per_se, idle=load == 0)
        if engine.host and engine.host in hosts:
            same_host.append(candidate)
            detail = f"host {engine.host} already runs an engine of this virtual service (vs_host_redundancy)"
            rejections.append(Rejection(engine=engine.id, rule="host_in_use", detail=detail))
        else:
            eligible.append(candidate)
    return Field(tuple(_ranked(eligible)), tuple(_ranked(same_host)), tuple(rejections))


def _ranked(candidates: list[Candidate]) -> list[Candidate]:
    """Least loaded first; the list came in order of rank, which breaks ties (oldest first)."""
    return sorted(candidates, key=lambda c: c.load)


def waiting_room(board: Board, work: Work) -> str:
    """The engine on its way with room and the fewest placements waiting for it; "" if none."""
    hosts = board.hosts_of(work) if board.group.vs_host_redundancy else set()
    room = [e for e in board.creating() if work.on(e) is None and board.free(e) >= work.vip.slots]
    room = [e for e in room if e not in board.engines or board.engines[e].enable_state == ENABLED]
    return min(room, key=lambda e: (board.host(e) in hosts, board.load[e]), default="")


def choose(board: Board, work: Work, field: Field, *, urgent: bool = False) -> Choice:
    """The procedure of elastic-ha 2.8. ``urgent``: the VIP had engines and has none now, so a busy engine with room
    is better than waiting for a new one, whatever the algorithm. A placement that was lost with its engine waits for
    the one replacement rather than have one made for each."""
    big = too_big(board, work)
    if big:
        return Choice("", big, hint(board, work, big))
    best = field.eligible[0] if field.eligible else None
    if best is not None and best.idle:
        return Choice(best.engine, f"{board.name(best.engine)} is up and idle")
    least = Choice(best.engine, _least(board, best)) if best is not None else None
    packed = board.group.algo == PACKED
    if least is not None and (packed or urgent):
        return least
    refusal = board.create_refusal()
    wait = waiting_room(board, work)
    if wait and (packed or work.lost):
        return Choice(wait, f"waits for {board.name(wait)}, which is being created")
    if not refusal:
        why = "no running engine has room" if packed else "distributed placement avoids engines in use below max_se"
        new = board.create(f"for {work.vip.name}: {why}", avoid=board.hosts_of(work))
        return Choice(new, f"waits for a new engine: {why}")
    if wait:
        return Choice(wait, f"waits for {board.name(wait)}, which is being created ({refusal})")
    if least is not None:
        return least
    if field.same_host:
        shared = field.same_host[0]
        why = (
            f"{board.name(shared.engine)} shares a host with another engine of it, but no other can take it ({refusal})"
        )
        return Choice(shared.engine, why)
    return Choice("", f"no engine has room and none can be made: {refusal}", hint(board, work, refusal))


def _least(board: Board, candidate: Candidate) -> str:
    return (
        f"{board.name(candidate.engine)} is the least loaded with room ({candidate.load} of {candidate.capacity} slots)"
    )


def too_big(board: Board, work: Work) -> str:
    """Why not even an empty engine could hold the VIP; "" if one could."""
    slots, most = work.vip.slots, board.group.max_vs_per_se
    if slots <= most:
        return ""
    return (
        f"{work.vip.name} needs {slots} slots on one engine (its virtual services share a VIP), max_vs_per_se is {most}"
    )


def hint(board: Board, work: Work, refusal: str) -> str:
    """The cheapest change that would help."""
    group, slots = board.group, work.vip.slots
    if slots > group.max_vs_per_se:
        return f"Raise max_vs_per_se to {slots}."
    denser = [board.load[e.id] + slots for e in board.usable() if work.on(e.id) is None]
    fitting = f"max_vs_per_se to {min(denser)}" if denser and min(denser) > group.max_vs_per_se else ""
    if "max_se" in refusal:
        return f"Raise max_se to {board.count + 1}{f', or {fitting}' if fitting else ''}."
    if "write access" in refusal:
        return f"Add an engine by hand{f', or raise {fitting}' if fitting else ''}."
    return "Use retryplacement to try again now."
