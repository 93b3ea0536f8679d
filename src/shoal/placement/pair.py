"""The two engines of a legacy active/standby group, which side each VIP is of, and moves between them."""

from __future__ import annotations

import msgspec

from . import choose as choosing
from .board import Board, Work
from .model import Engine, Group, PlacementState

ENGINES = 2
SIDES = ("ACTIVE_STANDBY_SE_1", "ACTIVE_STANDBY_SE_2")


def effective(group: Group) -> Group:
    """The group with what the mode fixes, whatever its fields say."""
    return msgspec.structs.replace(
        group,
        algo=choosing.PACKED,
        buffer_se=0,
        max_se=min(group.max_se, ENGINES),
        min_scaleout_per_vs=1,
        max_scaleout_per_vs=1,
    )


class Pair:
    """``engines``: up to two, the older first; ones that are being made, or wanted by this plan, among them."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.engines = _chosen(board)
        self.active: dict[str, dict[str, int]] = {}
        """Side -> engine -> slots of the VIPs that are active there."""
        self.used = 0
        """Slots of all VIPs that have a place: each engine must be able to carry them alone."""
        for work in board.works.values():
            if work.primary is not None and work.vip.enabled:
                self.count(work, work.primary.engine)

    def count(self, work: Work, engine: str, times: int = 1) -> None:
        active = self.active.setdefault(self.side(work), {})
        active[engine] = active.get(engine, 0) + times * work.vip.slots
        self.used += times * work.vip.slots

    def side(self, work: Work) -> str:
        return work.vip.tag if self.board.group.distribute_load else ""

    def other(self, engine: str) -> str:
        return next((e for e in self.engines if e != engine), "")

    def up(self, engine: str) -> bool:
        return engine in self.engines and self.board.is_up(engine)

    def busiest(self, work: Work) -> str:
        """Where most of its side is active, the older engine of equals; "" if none of it is on the pair."""
        active = self.active.get(self.side(work), {})
        return max((e for e in self.engines if active.get(e)), key=lambda e: active[e], default="")

    def home(self, work: Work) -> str:
        """The engine of its side; "" while there is no pair. Without sides, the one that most are active on."""
        if not self.engines:
            return ""
        if self.board.group.distribute_load:
            return self.engines[-1] if work.vip.tag == SIDES[1] else self.engines[0]
        return self.busiest(work) or self.engines[0]

    def place_for(self, work: Work) -> str:
        """Where a VIP goes that is active nowhere: to the rest of its side. A new one waits for its side's engine
        while that is being made; one that has served takes the engine that runs."""
        wanted = self.busiest(work) or self.home(work)
        waits = self.board.group.distribute_load and not work.vip.generation
        running = next((e for e in self.engines if self.up(e)), "")
        return wanted if self.up(wanted) or waits or not running else running

    def obstacle(self, work: Work, target: str) -> str:
        """Why the VIP can't become active there now; "" if it can."""
        if not target:
            return "the pair has no other engine"
        board, name = self.board, self.board.name(target)
        if not self.up(target):
            return f"{name} is {'not of the pair' if board.is_up(target) else _state(board.engines.get(target))}"
        if work.on(target) is None and (lacks := board.lacks(work, target)):
            return f"{name} has no interface in {lacks}"
        if work.on(target) is None and board.free(target) < work.vip.slots:
            return f"{name} has no room ({board.load[target]} of {board.group.max_vs_per_se} slots used)"
        return ""

    def move(self, work: Work, target: str, why: str, request: str = "") -> bool:
        """The target joins; ready, it becomes active and the former keeps its connections while it drains. True = so."""
        board, held = self.board, work.on(target)
        work.joining = target
        if held is None:
            board.put(work, target, request=request)
        elif held.state is PlacementState.DRAINING:
            state = PlacementState.ASSIGNED
            board.change(work, target, state=state, since=board.now, drained=False, request=request)
        elif request and held.request != request:
            board.change(work, target, request=request)
        if held is None or held.state is PlacementState.DRAINING:
            board.decide(work.vip.id, "migrate", why, engine=target)
        if held is None or held.state is not PlacementState.READY:
            return False
        former = work.primary
        work.joining = ""
        board.promote(work, target)
        if former is not None and former.engine != target:
            self.count(work, former.engine, -1)
            self.count(work, target)
            board.drain(work, former.engine)
            gone = f"{board.name(target)} is active now: {why}"
            board.decide(work.vip.id, "drain", gone, engine=former.engine)
        return True


def _state(engine: Engine | None) -> str:
    return "not there yet" if engine is None else engine.state.value


def _chosen(board: Board) -> list[str]:
    """Engines that run before those on their way, on different hosts, where most is active, where standbys are armed,
    the oldest. What is missing is made, if anything is to be served."""
    on_their_way = board.opening()
    rest = [*(engine.id for engine in board.reckoned()), *on_their_way]
    active = dict.fromkeys(rest, 0)
    armed = dict.fromkeys(rest, 0)
    for work in board.works.values():
        for placement in work.active:
            active[placement.engine] = active.get(placement.engine, 0) + work.vip.slots
        for engine in work.vip.succession:
            armed[engine] = armed.get(engine, 0) + work.vip.slots
    chosen: list[str] = []
    while rest and len(chosen) < ENGINES:
        hosts = {board.host(e) for e in chosen} - {""} if board.group.vs_host_redundancy else set()
        best = min(rest, key=lambda e: (e in on_their_way, board.host(e) in hosts, -active[e], -armed[e]))
        chosen.append(best)
        rest.remove(best)
    if any(work.vip.enabled and not choosing.too_big(board, work) for work in board.works.values()):
        while len(chosen) < ENGINES and not board.create_refusal():
            avoid = {host for e in chosen if (host := board.host(e))}
            chosen.append(board.create(f"a legacy pair has two engines, {len(chosen)} of them are there", avoid=avoid))
    ranks = {engine: rank for rank, engine in enumerate(board.engines)}
    return sorted(chosen, key=lambda e: ranks.get(e, len(ranks)))
