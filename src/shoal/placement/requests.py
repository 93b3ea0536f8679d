"""The operator's operations in elastic groups: scale out, scale in, migrate, retry (reference: elastic-ha 3.5).

Each is refused with a sentence, or accepted and open until what it asked for is so. What a request has begun is
written on its placements (`Placement.request`), so that the next plan goes on where this one stopped. A later scale
in or migrate cancels what an earlier operation has not finished: nothing is ever locked.
"""

from __future__ import annotations

from . import choose as choosing
from . import rules
from .board import FOR_PLACEMENT, Board, Field, Work
from .model import Placement, PlacementState, Request, RequestKind, Role
from .wording import alternatives

DONE = {
    RequestKind.SCALE_OUT: "VS_SCALEOUT_COMPLETE",
    RequestKind.SCALE_IN: "VS_SCALEIN_COMPLETE",
    RequestKind.MIGRATE: "VS_MIGRATE_COMPLETE",
    RequestKind.SWITCHOVER: "VS_SWITCHOVER",
}
FAILED = {
    RequestKind.SCALE_OUT: "VS_SCALEOUT_FAILED",
    RequestKind.SCALE_IN: "VS_SCALEIN_FAILED",
    RequestKind.MIGRATE: "VS_MIGRATE_FAILED",
    RequestKind.SWITCHOVER: "VS_SWITCHOVER_FAIL",
}
"""The events that tell how an operation ended."""
WORDS = {
    RequestKind.SCALE_OUT: "scale out",
    RequestKind.SCALE_IN: "scale in",
    RequestKind.MIGRATE: "migrate",
    RequestKind.SWITCHOVER: "switchover",
    RequestKind.RETRY: "retryplacement",
}


def carry_out(board: Board) -> None:
    """Every open request in order of arrival."""
    for request in list(board.open.values()):
        work = board.works.get(request.vip)
        if request.id not in board.open:
            continue
        if work is None or not work.vip.enabled:
            refuse(board, request, "the VIP is gone or its virtual service is disabled")
            continue
        if work.takeover:
            continue  # its owner has just died: first let a successor take over
        if board.barred(work) and request.kind is not RequestKind.RETRY:
            refuse(board, request, work.shortfall)
            continue
        if board.out_of_sight(work) and request.kind is not RequestKind.RETRY:
            if not began(work, request):
                why = f"the controller has lost sight of engines of {work.vip.name} and changes nothing meanwhile"
                refuse(board, request, why, "See the events, and try again when they are back.")
            continue
        match request.kind:
            case RequestKind.SCALE_OUT:
                _scale_out(board, work, request)
            case RequestKind.SCALE_IN:
                _scale_in(board, work, request)
            case RequestKind.MIGRATE:
                _migrate(board, work, request)
            case RequestKind.SWITCHOVER:
                refuse(board, request, "only a legacy active/standby pair has a standby", "Use migrate.")
            case RequestKind.RETRY:
                pass  # answered when all are placed


def answer_retries(board: Board) -> None:
    """What trying again came to."""
    for request, work in list(board.retries(board.open.values())):
        name = work.vip.name
        if work.shortfall:
            board.answer(request, False, f"{name} can't be placed: {_sentence(work.shortfall)}")
        else:
            on = ", ".join(board.name(p.engine) for p in work.active)
            board.answer(request, True, f"{name} is placed on {on}.")


# --- answers ---


def _sentence(why: str, hint: str = "") -> str:
    return f"{why}. {hint}".strip() if hint else f"{why}."


def refuse(board: Board, request: Request, why: str, hint: str = "") -> None:
    board.answer(request, False, f"{WORDS[request.kind]} refused: {_sentence(why, hint)}")


def done(board: Board, work: Work, request: Request, message: str) -> None:
    board.tell(DONE[request.kind], message, vip=work.vip.id)
    board.answer(request, True, message)


def fail(board: Board, work: Work, request: Request, why: str) -> None:
    """An operation under way that can't end; a scale out is taken back, so that the VIP wants what it has."""
    if request.kind is RequestKind.SCALE_OUT:
        work.user_factor -= 1
        work.requested -= 1
    work.joining = ""
    message = f"{WORDS[request.kind]} of {work.vip.name} failed: {_sentence(why)}"
    board.tell(FAILED[request.kind], message, vip=work.vip.id)
    board.answer(request, False, message)


def _now(work: Work) -> str:
    count = len(work.ready)
    return f"{work.vip.name} is on {count} engine{'' if count == 1 else 's'}."


# --- the state of a request, as its placements show it ---


def of(placements: list[Placement] | tuple[Placement, ...], request: Request) -> list[Placement]:
    return [p for p in placements if p.request == request.id]


def began(work: Work, request: Request) -> bool:
    return bool(of(work.vip.placements, request))


def _drains(work: Work, request: Request) -> bool:
    return any(p.state is PlacementState.DRAINING for p in of(work.placements, request))


def _late(board: Board, joined: Placement) -> bool:
    """The engine was told long ago, and is not ready. (One that is being made has time-outs of its own.)"""
    told, most_s = joined.state is PlacementState.ASSIGNED, board.group.vs_scaleout_timeout_s
    return told and 0.0 < most_s <= board.now - joined.since


def _give_up(board: Board, work: Work, request: Request, joined: Placement) -> None:
    board.drain(work, joined.engine)
    within = f"within {board.group.vs_scaleout_timeout_s:.0f} s (vs_scaleout_timeout)"
    fail(board, work, request, f"{board.name(joined.engine)} was not ready {within}")


def _cancel_earlier(board: Board, work: Work, request: Request) -> None:
    for other in list(board.open.values()):
        if other.id == request.id or other.vip != request.vip or not began(work, other):
            continue
        if other.kind is RequestKind.MIGRATE:
            joined = next((p for p in of(work.active, other)), None)
            if joined is not None and joined.role is not Role.PRIMARY:
                board.drain(work, joined.engine)
            work.joining = ""
        elif other.kind is RequestKind.SCALE_IN or request.kind is RequestKind.MIGRATE:
            continue
        message = f"{WORDS[other.kind]} of {work.vip.name} was cancelled by a later {WORDS[request.kind]}."
        board.answer(other, False, message)


# --- where to ---


def _target(board: Board, work: Work, request: Request, leaving: str = "") -> tuple[choosing.Choice, Field]:
    """Where a scale out or migrate goes: the engine asked for, a new one, or the best."""
    field = choosing.survey(board, work, besides=[leaving])
    if request.to_engine:
        engine = board.engines.get(request.to_engine)
        if engine is None:
            return choosing.Choice("", f"there is no engine {request.to_engine} in this group"), field
        no = rules.rejection(board, work, engine)
        if no is not None:
            return choosing.Choice("", f"{engine.name}: {no.detail}"), field
        return choosing.Choice(engine.id, f"{engine.name} was asked for"), field
    if request.to_new:
        refusal = board.create_refusal() or choosing.too_big(board, work) or board.made_lacks(work)
        if refusal:
            return choosing.Choice("", f"no engine can be made: {refusal}"), field
        why = f"{WORDS[request.kind]} of {work.vip.name} to a new engine"
        new = board.create(why, request.to_host, avoid=board.hosts_of(work, besides=[leaving]))
        return choosing.Choice(new, "a new engine was asked for"), field
    return choosing.choose(board, work, field, urgent=True), field


def _bring(board: Board, work: Work, request: Request, leaving: str = "") -> str:
    """Put the VIP on the request's target; "" and refused when there is none."""
    choice, field = _target(board, work, request, leaving)
    if not choice.engine:
        board.tell(FAILED[request.kind], _sentence(choice.why), vip=work.vip.id)
        refuse(board, request, choice.why, _would_help(board, work, request))
        return ""
    board.put(work, choice.engine, request=request.id)
    why = f"{WORDS[request.kind]}: {choice.why}"
    what = "migrate" if leaving else "place" if board.is_up(choice.engine) else "wait"
    board.decide(work.vip.id, what, why, engine=choice.engine, field=field)
    return choice.engine


def _nowhere(board: Board, work: Work, request: Request) -> bool:
    """Whether there is no engine for one placement more."""
    impossible = bool(board.create_refusal() or choosing.too_big(board, work) or board.made_lacks(work))
    if request.to_engine or request.to_new:
        engine = board.engines.get(request.to_engine)
        return impossible if not request.to_engine else engine is None or bool(rules.excluding(board, work, engine))
    field = choosing.survey(board, work)
    return impossible and not (field.best or field.same_host or choosing.waiting_room(board, work))


def _would_help(board: Board, work: Work, request: Request) -> str:
    """The least changes that each let the request through, in a sentence; "" when the engine was named."""
    group, slots = board.group, work.vip.slots
    if request.to_engine:
        return ""
    if lacks := board.made_lacks(work):
        return f"Give an engine an interface in {lacks.rpartition(' in ')[2]} (vlan_interfaces)."
    fits = slots <= group.max_vs_per_se
    full = board.count >= group.max_se
    late = board.now < group.create_retry_at and not board.retrying
    ways = []
    if fits and not group.can_create and not request.to_new:
        ways.append("add an engine by hand")
    elif fits and full and not late and group.can_create:
        ways.append(f"raise max_se to {board.count + 1}")
    elif fits and late and not full and group.can_create:
        ways.append("use retryplacement first, which tries to make an engine now")
    denser = slots if not board.create_refusal() else 0
    if not denser and not request.to_new:
        loads = [board.load[engine] for engine in _open(board) if work.on(engine) is None]
        denser = min(loads) + slots if loads else 0
    if denser > group.max_vs_per_se and not group.per_app:
        ways.append(f"raise max_vs_per_se to {denser}")
    return alternatives(ways)


def _open(board: Board) -> list[str]:
    """Engines that may get placements, now or when they are made."""
    return [*(engine.id for engine in board.usable()), *board.opening()]


# --- the operations ---


def _scale_out(board: Board, work: Work, request: Request) -> None:
    if began(work, request):
        joined = next(iter(of(work.active, request)), None)
        if joined is None and not _drains(work, request):
            fail(board, work, request, work.broken.get(request.id, "its engine is gone"))
        elif joined is None or joined.state is PlacementState.READY:
            done(board, work, request, _now(work))
        elif _late(board, joined):
            _give_up(board, work, request, joined)
        return
    most = board.group.max_scaleout_per_vs
    if work.requested >= most:
        why = f"{work.vip.name} has {work.requested} engines requested and max_scaleout_per_vs is {most}"
        wanted = max(work.requested, board.group.min_scaleout_per_vs) + 1
        hint = f"Raise max_scaleout_per_vs to {wanted}."
        if _nowhere(board, work, request):
            then = _would_help(board, work, request)
            hint += f" Then it still needs room: {then[0].lower()}{then[1:]}" if then else " Then it still needs room."
        refuse(board, request, why, hint)
    elif _bring(board, work, request):
        work.user_factor += 1
        work.requested += 1


def _scale_in(board: Board, work: Work, request: Request) -> None:
    if began(work, request):
        if not _drains(work, request):
            done(board, work, request, _now(work))
        return
    _cancel_earlier(board, work, request)
    name, low = work.vip.name, board.group.min_scaleout_per_vs
    if work.requested <= low or len(work.active) <= 1:
        why = f"{name} has {len(work.active)} of {work.requested} engines and min_scaleout_per_vs is {low}"
        refuse(board, request, why, "Lower min_scaleout_per_vs, or disable the virtual service." if low > 1 else "")
        return
    leaving = _leaving(board, work, request)
    if leaving is None:
        refuse(board, request, f"{name} is not on engine {board.name(request.from_engine)}")
        return
    heirs = [p.engine for p in work.ready if p.engine != leaving.engine and not board.leaving(p.engine)]
    if leaving.state is PlacementState.READY and not heirs:
        refuse(board, request, f"no other engine of {name} is ready yet", "Try again when one is.")
        return
    if leaving.role is Role.PRIMARY and heirs:
        board.promote(work, min(heirs, key=lambda e: _place_in(work, e)))
    board.drain(work, leaving.engine, request.id)
    work.user_factor -= 1
    work.requested -= 1
    board.decide(work.vip.id, "drain", f"scale in: leaves {board.name(leaving.engine)}", engine=leaving.engine)
    if not _drains(work, request):
        done(board, work, request, f"{name} no longer waits for {board.name(leaving.engine)}.")


def _place_in(work: Work, engine: str) -> int:
    order = work.vip.succession
    return order.index(engine) if engine in order else len(order)


def _leaving(board: Board, work: Work, request: Request) -> Placement | None:
    """The placement to leave: the one named, the primary if asked for, else the youngest secondary."""
    if request.from_engine:
        held = work.on(request.from_engine)
        return held if held in work.active else None
    if request.scalein_primary:
        return work.primary
    rank = {engine: i for i, engine in enumerate(board.engines)}
    secondaries = [p for p in work.active if p.role is Role.SECONDARY]
    return max(secondaries, key=lambda p: (p.since, rank.get(p.engine, len(rank))), default=None)


def _migrate(board: Board, work: Work, request: Request) -> None:
    """The target joins as secondary; ready, it becomes primary (if it replaces the primary) and the old one drains."""
    if began(work, request):
        _migrate_on(board, work, request)
        return
    _cancel_earlier(board, work, request)
    source = request.from_engine or (work.primary.engine if work.primary else "")
    held = work.on(source)
    if held is None or held not in work.active:
        refuse(board, request, f"{work.vip.name} is not on {board.name(source) if source else 'any engine'}")
        return
    if source in board.engines and board.engines[source].enable_state == FOR_PLACEMENT:
        refuse(
            board,
            request,
            f"{board.name(source)} is {FOR_PLACEMENT}, nothing migrates from it",
            "Set it to SE_STATE_DISABLED to move everything away.",
        )
        return
    target = _bring(board, work, request, leaving=source)
    if target:
        work.joining = target
        detail = f"{work.vip.name} moves from {board.name(source)} to {board.name(target)}"
        board.tell("VS_MIGRATE_STARTED", detail, vip=work.vip.id, engine=source)


def _migrate_on(board: Board, work: Work, request: Request) -> None:
    name = work.vip.name
    switched = any(p.state is PlacementState.DRAINING for p in of(work.vip.placements, request))
    joined = next(iter(of(work.active, request)), None)
    if joined is None:
        fail(board, work, request, work.broken.get(request.id, "its engine is gone"))
        return
    if any(p.engine == joined.engine and p.state is PlacementState.DRAINING for p in work.vip.placements):
        fail(board, work, request, f"{board.name(joined.engine)}, which it was leaving, has taken it back")
        return
    if switched:
        if not _drains(work, request):
            done(board, work, request, f"{name} has moved to {board.name(joined.engine)}.")
        return
    source = work.on(request.from_engine) if request.from_engine else work.primary
    gone = work.lost_primary if not request.from_engine else source is None or source not in work.active
    if gone or source is None or source.engine == joined.engine:
        if joined.state is PlacementState.READY:
            done(board, work, request, f"{name} is on {board.name(joined.engine)}; the engine it was to leave is gone.")
        else:
            fail(board, work, request, "the engine it was to leave went down first")
        return
    if board.leaving(joined.engine):
        fail(board, work, request, f"{board.name(joined.engine)} is disabled")
        return
    if joined.state is not PlacementState.READY:
        work.joining = joined.engine
        if _late(board, joined):
            _give_up(board, work, request, joined)
        return
    if source.role is Role.PRIMARY:
        board.promote(work, joined.engine)
    board.drain(work, source.engine, request.id)
    why = f"{name} migrates to {board.name(joined.engine)}, which is ready"
    board.decide(work.vip.id, "drain", why, engine=source.engine)
    if not _drains(work, request):
        done(board, work, request, f"{name} has moved to {board.name(joined.engine)}.")
