"""`plan`: the steps in order, then the difference to what was.

absorb -> elect -> targets -> requests -> disabled -> evacuate -> fill -> trim -> buffer -> roles -> succession -> retire

Legacy active/standby groups go their own way (`legacy`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from . import capacity, evacuate, fill, legacy, requests, steps, succession
from .board import Board, Work
from .model import Buffer, Placement, PlacementState, Plan, Snapshot, VipPlan
from .presets import LEGACY
from .standing import AWAITING_EVENT_AFTER_S, Standing, turn


def plan(snapshot: Snapshot, now: float) -> Plan:
    """What to do next for one group, with reasons. ``now`` in seconds since the epoch.

    Deterministic: the same snapshot and time give the same plan, in whatever order the snapshot's tuples come.
    A fixpoint: applied, and with nothing else changed, the next plan is empty.
    """
    return planned(Board(snapshot, now))


class Planner:
    """Plans one group again and again, each time at the cost of what has changed since: enter the changes in
    ``standing``, then `plan`. The answer is that of `plan` for the whole snapshot, byte for byte."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.standing = Standing(snapshot)

    def plan(self, now: float) -> Plan:
        """Like the function `plan`."""
        legacy = self.standing.group.ha_mode == LEGACY  # two engines: all is in question
        board = Board(self.standing, now, vips=None if legacy else self.standing.in_question(now))
        try:
            result = planned(board)
        finally:
            board.close()
        succession.settle(board)
        return result


def planned(board: Board) -> Plan:
    """The plan of a fresh board, which keeps what `Board.watched` asks for."""
    advance = legacy.advance if board.group.ha_mode == LEGACY else _elastic
    buffer, retired, idle_wake = advance(board)
    _awaiting_events(board)
    return Plan(
        group=board.group.id,
        revision=board.standing.revision,
        vips=_vips(board),
        new_engines=tuple(board.new),
        retire_engines=tuple(retired),
        engines_disabled=tuple((id, state) for id, state in board.migrate_states if id not in retired),
        decisions=tuple(board.decisions),
        events=tuple(board.events),
        results=tuple(board.results),
        buffer=buffer,
        moves=board.moves,
        held=tuple(work.vip.id for work in board.works.values() if work.held),
        wake_at=_wake_at(board, idle_wake),
        sentence=_sentence(board, buffer, retired),
    )


def _elastic(board: Board) -> tuple[Buffer, list[str], float | None]:
    """The steps: the buffer, engines to retire, and when to look at idle ones again."""
    buffer = placed(board)
    steps.one_primary(board)
    steps.count_generations(board)
    succession.arm(board)
    capacity.keep_successors(board)
    retired, idle_wake = capacity.retire(board)
    if retired:
        succession.arm_without(board, retired)
    return buffer, retired, idle_wake


def placed(board: Board) -> Buffer:
    """The first half: what goes where, and what can't. Roles and succession are still those from before."""
    if board.group.ha_mode == LEGACY:
        return legacy.advance(board)[0]
    steps.absorb(board)
    steps.elect(board)
    steps.targets(board)
    requests.carry_out(board)
    steps.stop_disabled(board)
    evacuate.evacuate(board)
    fill.fill(board)
    fill.trim(board)
    requests.answer_retries(board)
    return capacity.keep_buffer(board)


def _vips(board: Board) -> tuple[VipPlan, ...]:
    """The VIPs that change, in turn."""
    others = (work for work in board.others.values() if work.succession != work.vip.succession)
    changed = []
    for work in sorted((*board.works.values(), *others), key=lambda w: turn(w.vip)):
        if _is_same(work):
            work.same = True
        else:
            changed.append(_vip_plan(board, work))
    return tuple(changed)


def _vip_plan(board: Board, work: Work) -> VipPlan:
    vip = work.vip
    ready = bool(work.ready) or not vip.enabled
    state, reason = _scale_state(board, work)
    grown = work.succession != vip.succession or _shape(work.placements) != _shape(vip.placements)
    return VipPlan(
        id=vip.id,
        placements=tuple(work.placements),
        generation=work.generation,
        succession=work.succession,
        list_version=vip.list_version + 1 if grown or work.generation != vip.generation else vip.list_version,
        user_factor=work.user_factor,
        requested=work.requested,
        scale_state=state,
        scale_reason=reason,
        awaiting_since=None if ready else vip.awaiting_since or board.now,
    )


def _shape(placements: Iterable[Placement]) -> list[tuple[str, str, bool]]:
    """Who serves and who drains: what the engines of a VIP must agree on."""
    return [
        (p.engine, p.role.value, p.state is PlacementState.DRAINING)
        for p in placements
        if p.state is not PlacementState.WAITING
    ]


def _scale_state(board: Board, work: Work) -> tuple[str, str]:
    if not work.vip.enabled:
        return "SCALEOUT_ERROR_DISABLED", "the virtual service is disabled"
    if len(work.ready) >= work.requested:
        return "SCALEOUT_SUCCESS", ""
    waiting = [p for p in work.active if p.state is PlacementState.WAITING]
    if waiting:
        return "SCALEOUT_CREATING_SE", f"waits for {board.name(waiting[0].engine)}"
    if work.held:
        return "SCALEOUT_AWAITING_SE_ASSIGNMENT", work.shortfall
    if len(work.active) < work.requested:
        return "SCALEOUT_RESOURCES", work.shortfall
    return "SCALEOUT_AWAITING_SE_PROGRAMMING", ""


def _is_same(work: Work) -> bool:
    """Whether nothing of substance differs from the snapshot (a reason's wording alone is none). Asked before the VIP's plan
    is made, as most of those in question stay as they are."""
    vip = work.vip
    return (
        work.generation == vip.generation
        and work.succession == vip.succession
        and work.user_factor == vip.user_factor
        and work.requested == vip.requested
        and tuple(work.placements) == vip.placements
        and (bool(work.ready) or not vip.enabled) == (vip.awaiting_since is None)
    )


def _awaiting_events(board: Board) -> None:
    for work in board.works.values():
        since = work.vip.awaiting_since
        if work.vip.enabled and not work.ready and since and board.now - since >= AWAITING_EVENT_AFTER_S:
            detail = f"{work.vip.name} waits for an engine: {work.shortfall or 'being placed'}"
            board.tell("VS_AWAITING_SE", detail, vip=work.vip.id)


def _wake_at(board: Board, idle: float | None) -> float | None:
    standing, works, group = board.standing, board.works, board.group
    times = [
        p.since + group.drain_s(p.engine)
        for work in works.values()
        for p in work.placements
        if p.state is PlacementState.DRAINING
    ]
    times += [
        due
        for work in works.values()
        for p in work.placements
        if p.state is PlacementState.ASSIGNED and p.request in board.open
        if (due := p.since + group.vs_scaleout_timeout_s) > board.now
    ]
    times += [
        (board.engines[work.primary.engine].down_since or board.now) + steps.TAKEOVER_WITHIN_S
        for work in works.values()
        if work.takeover and work.primary is not None
    ]
    times += [due for work in works.values() if (due := steps.taken_on_by(board, work)) > board.now]
    times += [
        due
        for work in works.values()
        if (since := work.vip.awaiting_since) is not None and (due := since + AWAITING_EVENT_AFTER_S) > board.now
    ]
    others: Iterator[str] = (vip for _, vip in standing.drains if vip not in works)
    if not group.upgrading:
        others = islice(others, 1)  # their drains end in the order in which they began
    times += [
        p.since + group.drain_s(p.engine)
        for vip in others
        for p in standing.vips[vip].placements
        if p.state is PlacementState.DRAINING
    ]
    waiting = (since + AWAITING_EVENT_AFTER_S for since, vip in standing.awaiting if vip not in works)
    times += islice((due for due in waiting if due > board.now), 1)
    if idle is not None:
        times.append(idle)
    if (pace := standing.pace) is not None and any(work.held for work in board.works.values()):
        times.append(pace.next_at)
    if group.create_retry_at > board.now:
        times.append(group.create_retry_at)
    return min(times, default=None)


def _sentence(board: Board, buffer: Buffer, retired: list[str]) -> str:
    """One line for the log: what and why."""
    counts: dict[str, int] = {}
    for decision in board.decisions:
        counts[decision.what] = counts.get(decision.what, 0) + 1
    parts = [f"{what.replace('_', ' ')} {count}" for what, count in counts.items()]
    if not parts and not retired:
        return ""
    margin = f"buffer {max(0, buffer.free)}/{buffer.needed} slots" if buffer.needed else f"{buffer.free} slots free"
    first = next((d.why for d in board.decisions if d.why), "")
    return f"{', '.join(parts)} ({first}); {margin}"
