"""Moving everything off disabled engines (reference: elastic-ha 5.3): a replacement is ready before the old one drains."""

from __future__ import annotations

from . import choose as choosing
from . import requests
from .board import FORCE, LEAVING_STATES, Board, Field, Work
from .model import EngineState, PlacementState, Role
from .standing import NO_GATEWAY


def evacuate(board: Board) -> None:
    """Advance every engine that is being disabled; tell how far it is."""
    leaving = sorted((board.engines[id] for id in board.standing.leaving), key=lambda e: (e.rank, e.id))
    on: dict[str, list[Work]] = {engine.id: [] for engine in leaving}
    for work in board.works.values() if on else ():
        for placement in work.placements:
            if placement.engine in on:
                on[placement.engine].append(work)
    for engine in leaving:
        if not board.leaving(engine.id):
            if engine.migrate_state and engine.enable_state not in LEAVING_STATES:
                board.migrate_states.append((engine.id, ""))
            continue
        if engine.state is not EngineState.UP:
            continue
        held = [w for w in on[engine.id] if (p := w.on(engine.id)) and p.state is not PlacementState.DRAINING]
        stuck = [work for work in held if not _leave(board, work, engine.id)]
        moving = any(work.on(engine.id) for work in on[engine.id])
        state = "FINISHED_WITH_FAILURE" if stuck else "STARTED" if moving else "FINISHED"
        if state != engine.migrate_state:
            board.migrate_states.append((engine.id, state))
            _tell(board, engine.id, state, engine.migrate_state, stuck)


def _leave(board: Board, work: Work, engine: str) -> bool:
    """False when the VIP can't move (it keeps serving)."""
    held = work.on(engine)
    assert held is not None
    if work.takeover:
        return True
    if board.engines[engine].enable_state == FORCE:
        if held.request in board.open:
            requests.fail(board, work, board.open[held.request], f"{board.name(engine)} was disabled by force")
        board.drop(work, held)
        work.lost += 1
        _hand_over(board, work, engine)
        return True
    field: Field | None = None
    if len(board.staying(work)) < work.requested:
        field = choosing.survey(board, work, besides=[engine])
        choice = choosing.choose(board, work, field, urgent=True)
        if choice.engine:
            board.put(work, choice.engine, request=held.request if held.request in board.open else "")
            why = f"leaves {board.name(engine)}: {choice.why}"
            board.decide(work.vip.id, "migrate", why, engine=choice.engine, field=field)
        else:
            work.shortfall = choice.why
    staying = board.staying(work)
    if not staying:
        why = f"can't leave {board.name(engine)}, keeps serving there: {work.shortfall}"
        board.decide(work.vip.id, "none", why, engine=engine, field=field)
        return False
    if all(placement.state is PlacementState.READY for placement in staying):
        _hand_over(board, work, engine)
        board.drain(work, engine)
        lost = board.engines[engine].enable_state == NO_GATEWAY
        leaves = f"does not reach gateway {board.engines[engine].lost_gateway}" if lost else "is disabled"
        why = f"{board.name(engine)} {leaves} and {board.name(staying[0].engine)} serves it"
        board.decide(work.vip.id, "drain", why, engine=engine)
    return True


def _hand_over(board: Board, work: Work, engine: str) -> None:
    """If ``engine`` was the primary, the first ready member elsewhere becomes it."""
    primary = work.primary
    if primary is not None and primary.engine != engine:
        return
    order = {e: i for i, e in enumerate(work.vip.succession)}
    heirs = [p for p in work.ready if p.engine != engine and not board.leaving(p.engine)]
    if heirs:
        heir = min(heirs, key=lambda p: (p.role is not Role.PRIMARY, order.get(p.engine, len(order))))
        board.promote(work, heir.engine)


def _tell(board: Board, engine: str, state: str, before: str, stuck: list[Work]) -> None:
    names = {"STARTED": "MIGRATE_SE_STARTED", "FINISHED": "MIGRATE_SE_FINISHED"}
    if state == "STARTED" and before == "FINISHED_WITH_FAILURE":
        name = "MIGRATE_SE_RESTARTED"
    else:
        name = names.get(state, "MIGRATE_SE_FAILED")
    detail = "; ".join(f"{work.vip.name} can't move and keeps serving: {work.shortfall}" for work in stuck)
    board.tell(name, detail or board.name(engine), engine=engine)
