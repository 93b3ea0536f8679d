"""The steps of a plan, in order: what happened, what the administrator wants off, filling up, the buffer, retiring."""

from __future__ import annotations

import math

import msgspec

from . import choose as choosing
from .board import Board, Work
from .model import Buffer, EngineState, Event, Placement, PlacementState, Role

AWAITING_EVENT_AFTER_S = 60.0
TAKEOVER_WITHIN_S = 1.5
"""After an owner's death its armed successors get this long to claim before the controller picks an owner itself."""


# --- what happened since ---


def absorb(board: Board) -> None:
    """Drop what is on dead engines, start what waited for an engine that is up now, end drains."""
    for work in board.works.values():
        work.takeover = _takeover_pending(board, work)
        for placement in list(work.placements):
            engine = board.engines.get(placement.engine)
            if work.takeover and placement.role is Role.PRIMARY:
                continue
            if engine is None or engine.state is EngineState.DOWN:
                board.drop(work, placement)
                gone = "is gone" if engine is None else "is down"
                board.decide(work.vip.id, "unplace", f"{board.name(placement.engine)} {gone}", engine=placement.engine)
            elif placement.state is PlacementState.WAITING and engine.state is EngineState.UP:
                _replace(work, placement, state=PlacementState.ASSIGNED, since=board.now)
            elif placement.state is PlacementState.DRAINING and _drained(board, placement):
                board.drop(work, placement)


def _takeover_pending(board: Board, work: Work) -> bool:
    primary, vip = work.primary, work.vip
    engine = board.engines.get(primary.engine) if primary else None
    if engine is None or engine.state is not EngineState.DOWN or engine.down_since is None:
        return False
    heirs = any(board.is_up(heir) for heir in vip.succession if heir != engine.id)
    claimed = bool(vip.claimant) and board.is_up(vip.claimant)
    recent = board.now - engine.down_since < TAKEOVER_WITHIN_S
    return vip.enabled and vip.armed and heirs and recent and not claimed


def _drained(board: Board, placement: Placement) -> bool:
    return placement.drained or board.now - placement.since >= board.group.vs_scalein_timeout_s


def _replace(work: Work, placement: Placement, **changes: object) -> None:
    index = work.placements.index(placement)
    work.placements[index] = msgspec.structs.replace(placement, **changes)


def elect(board: Board) -> None:
    """Give every VIP its primary: adopt a takeover that happened, else the first successor alive, else any member."""
    for work in board.works.values():
        vip = work.vip
        if not vip.enabled or work.takeover:
            continue
        primary = work.primary
        known = {p.engine for p in work.active} | set(vip.succession)
        if vip.claimant and vip.claimant in known and board.is_up(vip.claimant):
            if primary is None or primary.engine != vip.claimant:
                _adopt(board, work, vip.claimant)
        elif primary is None and vip.generation > 0:
            _succeed(board, work)
        elif primary is None and work.active:
            board.promote(work, work.active[0].engine)
        elif primary is not None and primary.state is PlacementState.WAITING and work.serving:
            board.promote(work, work.serving[0].engine)


def _adopt(board: Board, work: Work, engine: str) -> None:
    held = work.on(engine)
    if held is not None and held.state is PlacementState.DRAINING:
        _replace(work, held, state=PlacementState.READY, since=board.now)
    elif held is None:
        board.put(work, engine, state=PlacementState.READY)
    former = work.primary
    board.promote(work, engine)
    board.decide(work.vip.id, "promote", f"{board.name(engine)} has taken over by itself; adopted", engine=engine)
    if former is not None and former.engine != engine and len(work.active) > max(1, work.vip.requested):
        board.drain(work, work.on(former.engine) or former)  # the taker replaces it; there is no fail-back


def _succeed(board: Board, work: Work) -> None:
    """No owner is left and nobody has claimed yet."""
    ready = [p.engine for p in work.ready]
    for engine in work.vip.succession:
        if engine in ready:
            board.promote(work, engine)
            board.decide(work.vip.id, "promote", f"{board.name(engine)} is next in the succession", engine=engine)
            return
    for engine in work.vip.succession:
        fits = work.on(engine) is None and board.free(engine) >= work.vip.slots and not board.leaving(engine)
        if board.is_up(engine) and fits and not work.serving:
            board.put(work, engine)
            board.promote(work, engine)
            board.decide(work.vip.id, "place", f"{board.name(engine)} is next in the succession", engine=engine)
            return
    if work.active:
        board.promote(work, (work.serving or work.active)[0].engine)


# --- what the administrator wants ---


def targets(board: Board) -> None:
    """How many engines each VIP should have. Edits of the bounds follow the 18.2.2+ column of elastic-ha 3.1: raising
    the minimum lifts only those below it, lowering it moves nothing."""
    low = board.group.min_scaleout_per_vs
    for work in board.works.values():
        if not work.requested:
            work.requested = low + work.user_factor
        elif work.requested != low + work.user_factor:
            work.requested = max(work.requested, low)
            work.user_factor = work.requested - low


def stop_disabled(board: Board) -> None:
    """A disabled VIP leaves its engines."""
    for work in board.works.values():
        if work.vip.enabled:
            continue
        for placement in list(work.active):
            if placement.state is PlacementState.WAITING:
                board.drop(work, placement)
            else:
                board.drain(work, placement)
                board.decide(work.vip.id, "drain", "the virtual service is disabled", engine=placement.engine)


def evacuate(board: Board) -> None:
    """Move everything off disabled engines: a replacement joins and is ready before the old one drains."""
    for engine in board.engines.values():
        if engine.enable_state == "SE_STATE_ENABLED":
            if engine.migrate_state:
                board.migrate_states.append((engine.id, ""))
            continue
        if not board.leaving(engine.id) or engine.state is not EngineState.UP:
            continue
        held = [w for w in board.works.values() if (p := w.on(engine.id)) and p.state is not PlacementState.DRAINING]
        stuck = [work for work in held if not _evacuate_one(board, work, engine.id)]
        draining = any(w.on(engine.id) for w in board.works.values())
        state = "FINISHED_WITH_FAILURE" if stuck else "STARTED" if held or draining else "FINISHED"
        if state != engine.migrate_state:
            board.migrate_states.append((engine.id, state))
            _tell_migration(board, engine.id, state, engine.migrate_state, stuck)


def _evacuate_one(board: Board, work: Work, engine: str) -> bool:
    """False when the VIP can't move (it keeps serving)."""
    placement = work.on(engine)
    assert placement is not None
    if board.engines[engine].enable_state == "SE_STATE_DISABLED_FORCE":
        board.drop(work, placement)
        _hand_over(board, work, engine)
        return True
    staying = [p for p in work.active if not board.leaving(p.engine)]
    if len(staying) < work.requested:
        field = choosing.survey(board, work, besides=[engine])
        choice = choosing.choose(board, work, field, urgent=True)
        if choice.engine:
            board.put(work, choice.engine)
            board.decide(work.vip.id, "migrate", f"leaves {board.name(engine)}: {choice.why}", engine=choice.engine)
        elif not staying:
            work.shortfall = choice.why
            return False
    ready = [p for p in work.ready if not board.leaving(p.engine)]
    if len(ready) >= min(work.requested, max(1, len(staying))):
        _hand_over(board, work, engine)
        board.drain(work, work.on(engine))  # type: ignore[arg-type]
        board.decide(work.vip.id, "drain", "the engine is disabled and a replacement is ready", engine=engine)
    return True


def _hand_over(board: Board, work: Work, engine: str) -> None:
    """If ``engine`` was the primary, the first ready member elsewhere becomes it."""
    primary = work.primary
    if primary is not None and primary.engine != engine:
        return
    heirs = [p.engine for p in [*work.ready, *work.serving] if p.engine != engine and not board.leaving(p.engine)]
    if heirs:
        board.promote(work, heirs[0])


def _tell_migration(board: Board, engine: str, state: str, before: str, stuck: list[Work]) -> None:
    names = {"STARTED": "MIGRATE_SE_STARTED", "FINISHED": "MIGRATE_SE_FINISHED"}
    if state == "STARTED" and before == "FINISHED_WITH_FAILURE":
        name = "MIGRATE_SE_RESTARTED"
    else:
        name = names.get(state, "MIGRATE_SE_FAILED")
    detail = ", ".join(f"{work.vip.name} can't move: {work.shortfall}" for work in stuck)
    board.events.append(Event(name=name, engine=engine, detail=detail or board.name(engine)))


# --- filling up ---


def fill(board: Board) -> None:
    """VIPs without any engine first, then those below their target, each in order of creation."""
    works = [work for work in board.works.values() if work.vip.enabled and not work.takeover]
    for work in sorted(works, key=lambda w: bool(w.active)):
        while _wanting(board, work) > 0:
            lost = work.vip.generation > 0 and not work.serving
            field = choosing.survey(board, work)
            choice = choosing.choose(board, work, field, urgent=lost)
            if not choice.engine:
                _cannot(board, work, choice, field)
                break
            board.put(work, choice.engine)
            waits = not board.is_up(choice.engine)
            board.decide(
                work.vip.id,
                "wait" if waits else "place",
                choice.why,
                engine=choice.engine,
                candidates=field.eligible,
                rejections=field.rejections,
            )


def _wanting(board: Board, work: Work) -> int:
    return work.requested - sum(not board.leaving(p.engine) for p in work.active)


def _cannot(board: Board, work: Work, choice: choosing.Choice, field: choosing.Field) -> None:
    work.shortfall = choice.why
    if not work.serving or len(work.active) < work.requested:
        board.decide(work.vip.id, "none", choice.why, rejections=field.rejections, hint=choice.hint)


def buffer(board: Board) -> Buffer:
    """Keep M engines' worth of free slots (SHARED only): ``(running + creating) * m - P >= M * m``."""
    group = board.group
    used = sum(work.vip.slots * len(work.placements) for work in board.works.values())
    needed = group.buffer_se * group.max_vs_per_se if group.ha_mode == "HA_MODE_SHARED" else 0

    def free() -> int:
        usable = [e for e in board.up() if e.enable_state == "SE_STATE_ENABLED"]
        return (len(usable) + len(board.creating())) * group.max_vs_per_se - used

    while used and free() < needed and not board.create_refusal():
        why = f"the N+M buffer is short: {free()} of {needed} free slots (buffer_se {group.buffer_se})"
        board.create(why)
    if used and free() < needed:
        detail = f"{max(0, free())} of {needed} buffer slots are free and {board.create_refusal()}"
        board.events.append(Event(name="VS_SE_HA_COMPROMISED", detail=detail))
    return Buffer(slots=free() + used, used=used, free=free(), needed=needed if used else 0)


def retire(board: Board) -> tuple[list[str], float | None]:
    """Idle engines past the deprovision delay that ceil(P/m)+M does not need; and when to look again."""
    group = board.group
    if group.se_deprovision_delay_s <= 0:
        return [], None
    used = sum(work.vip.slots * len(work.placements) for work in board.works.values())
    spare = group.buffer_se if group.ha_mode == "HA_MODE_SHARED" else 0
    needed = math.ceil(used / group.max_vs_per_se) + spare if used else 0
    running = len(board.up())
    retired: list[str] = []
    wake: float | None = None
    for engine in sorted(board.up(), key=lambda e: -e.rank):
        if board.load[engine.id] or engine.idle_since is None or running - len(retired) <= needed:
            continue
        due = engine.idle_since + group.se_deprovision_delay_s
        if due <= board.now:
            retired.append(engine.id)
            board.decide("", "retire_engine", f"idle for {group.se_deprovision_delay_s:.0f} s", engine=engine.id)
        else:
            wake = due if wake is None else min(wake, due)
    return retired, wake


def settle_roles(board: Board) -> None:
    """A new primary is a new generation; a VIP that only waits has none yet."""
    for work in board.works.values():
        primary = work.primary
        before = next((p.engine for p in work.vip.placements if p.role is Role.PRIMARY), "")
        if primary is None or primary.state is PlacementState.WAITING:
            continue
        was_waiting = work.vip.generation == 0
        if was_waiting or primary.engine != (work.vip.succession[0] if work.vip.succession else before):
            work.generation = work.vip.generation + 1
