"""The operator's operations: scale out, scale in, migrate (reference: elastic-ha 3.5)."""

from __future__ import annotations

from . import choose as choosing
from .board import Board, Work
from .model import PlacementState, Request, RequestKind, RequestResult, Role


def carry_out(board: Board) -> None:
    """Every request in order of arrival: accepted, refused with the reason, or still in progress (no result)."""
    for request in sorted(board.snapshot.requests, key=lambda r: (r.at, r.id)):
        work = board.works.get(request.vip)
        if work is None or not work.vip.enabled:
            _refuse(board, request, "the VIP is gone or its virtual service is disabled")
            continue
        match request.kind:
            case RequestKind.SCALE_OUT:
                _scale_out(board, work, request)
            case RequestKind.SCALE_IN:
                _scale_in(board, work, request)
            case RequestKind.MIGRATE:
                _migrate(board, work, request)
            case RequestKind.RETRY:
                _done(board, request, "placement is tried again now")


def _refuse(board: Board, request: Request, why: str) -> None:
    board.results.append(RequestResult(request=request.id, ok=False, message=f"{request.kind.value} refused: {why}."))


def _done(board: Board, request: Request, message: str) -> None:
    board.results.append(RequestResult(request=request.id, ok=True, message=message))


def _target(board: Board, work: Work, request: Request) -> choosing.Choice:
    """Where a scale out or migrate goes: the engine asked for, a new one, or the best."""
    if request.to_engine:
        engine = board.engines.get(request.to_engine)
        if engine is None:
            return choosing.Choice("", f"there is no engine {request.to_engine} in this group")
        no = choosing.rejection(board, work, engine)
        return choosing.Choice("", f"{engine.name}: {no.detail}") if no else choosing.Choice(engine.id, "asked for")
    if request.to_new:
        refusal = board.create_refusal()
        if refusal:
            return choosing.Choice("", f"no engine can be made: {refusal}", choosing.hint(board, refusal))
        return choosing.Choice(
            board.create(f"{request.kind.value} of {work.vip.name}", request.to_host), "a new engine"
        )
    return choosing.choose(board, work, choosing.survey(board, work), urgent=True)


def _scale_out(board: Board, work: Work, request: Request) -> None:
    most = board.group.max_scaleout_per_vs
    if work.requested >= most:
        _refuse(board, request, f"{work.vip.name} has {work.requested} engines and max_scaleout_per_vs is {most}")
        return
    choice = _target(board, work, request)
    if not choice.engine:
        _refuse(board, request, " ".join(filter(None, [choice.why, choice.hint])).rstrip("."))
        return
    board.put(work, choice.engine, request=request.id)
    work.user_factor += 1
    work.requested += 1
    name = board.name(choice.engine)
    board.decide(work.vip.id, "place", f"scale out: {choice.why}", engine=choice.engine)
    _done(board, request, f"{work.vip.name} scales out to {name}")


def _scale_in(board: Board, work: Work, request: Request) -> None:
    low = board.group.min_scaleout_per_vs
    if work.requested <= low or len(work.active) <= 1:
        _refuse(board, request, f"{work.vip.name} has {len(work.active)} engines and min_scaleout_per_vs is {low}")
        return
    leaving = _leaving(work, request)
    if leaving is None:
        _refuse(board, request, f"{work.vip.name} is not on engine {board.name(request.from_engine)}")
        return
    placement = work.on(leaving)
    assert placement is not None
    if placement.role is Role.PRIMARY:
        heirs = [p.engine for p in work.ready if p.engine != leaving]
        if not heirs:
            _refuse(board, request, "no other engine is ready to become primary")
            return
        board.promote(work, heirs[0])
        placement = work.on(leaving)
        assert placement is not None
    if placement.state is PlacementState.WAITING:
        board.drop(work, placement)
    else:
        board.drain(work, placement)
    work.user_factor -= 1
    work.requested -= 1
    board.decide(work.vip.id, "drain", "scale in", engine=leaving)
    _done(board, request, f"{work.vip.name} leaves {board.name(leaving)}")


def _leaving(work: Work, request: Request) -> str | None:
    """The engine to leave: the one named, the primary if asked for, else the youngest secondary."""
    if request.from_engine:
        held = work.on(request.from_engine)
        return held.engine if held in work.active else None
    if request.scalein_primary and work.primary is not None:
        return work.primary.engine
    secondaries = [p for p in work.active if p.role is Role.SECONDARY]
    return max(secondaries, key=lambda p: (p.since, p.engine)).engine if secondaries else None


def _migrate(board: Board, work: Work, request: Request) -> None:
    """The target joins as secondary; ready, it becomes primary (if it replaces the primary) and the old one drains."""
    target = next((p for p in work.active if p.request == request.id), None)
    source = request.from_engine or next((p.engine for p in work.active if p.role is Role.PRIMARY), "")
    if target is not None:
        if not request.from_engine:
            source = _source_of(work, target.engine)
        _migrate_on(board, work, request, target.engine, source)
        return
    held = work.on(source)
    if held is None or held not in work.active:
        _refuse(board, request, f"{work.vip.name} is not on {board.name(source) if source else 'any engine'}")
        return
    if source in board.engines and board.engines[source].enable_state == "SE_STATE_DISABLED_FOR_PLACEMENT":
        _refuse(board, request, f"{board.name(source)} is disabled for placement; nothing migrates from it")
        return
    choice = _target(board, work, request)
    if not choice.engine:
        _refuse(board, request, " ".join(filter(None, [choice.why, choice.hint])).rstrip("."))
        return
    board.put(work, choice.engine, request=request.id)
    board.decide(work.vip.id, "migrate", f"from {board.name(source)}: {choice.why}", engine=choice.engine)


def _source_of(work: Work, target: str) -> str:
    """Without a source named it is the primary, until the target is that."""
    others = [p for p in work.active if p.engine != target]
    primaries = [p for p in others if p.role is Role.PRIMARY]
    return (primaries or others or [work.active[0]])[0].engine


def _migrate_on(board: Board, work: Work, request: Request, target: str, source: str) -> None:
    joined = work.on(target)
    leaving = work.on(source)
    if joined is None or joined.state is not PlacementState.READY:
        return
    if leaving is not None and leaving in work.active and source != target and len(work.active) > work.requested:
        if leaving.role is Role.PRIMARY:
            board.promote(work, target)
            leaving = work.on(source)
            assert leaving is not None
        board.drain(work, leaving)
        board.decide(work.vip.id, "drain", f"migrated to {board.name(target)}", engine=source)
    _done(board, request, f"{work.vip.name} has moved from {board.name(source)} to {board.name(target)}")
