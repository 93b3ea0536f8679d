"""A small world that does what plans say: makes engines a step later, acknowledges, and prints itself."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shoal.placement import Planner, plan
from shoal.placement.invariants import violations
from shoal.placement.model import (
    Engine,
    EngineState,
    Group,
    Pace,
    Placement,
    PlacementState,
    Plan,
    Request,
    RequestKind,
    RequestResult,
    Role,
    Snapshot,
    Vip,
)

ROUNDS_MAX = 30
INDEXES_CHECKED_EACH = 7
"""Steps: it takes as long as the rest of one."""


class World:
    def __init__(self, **group: object) -> None:
        self.group = Group(id="g", name="g", **group)  # type: ignore[arg-type]
        self.engines: dict[str, Engine] = {}
        self.vips: dict[str, Vip] = {}
        self.requests: dict[str, Request] = {}
        self.results: list[RequestResult] = []
        self.now = 1000.0
        self.hosts: list[str] = []
        self.serial = 0
        self.born = 0
        self.last: Plan | None = None
        self.pace: Pace | None = None
        self.planner: Planner | None = None
        self.steps = 0
        self.events: list[str] = []
        self.heard: Callable[[Snapshot, Plan], None] = lambda snapshot, plan: None
        """Told of every plan, and what it was made from."""
        self.makes = True
        """Engines that are wanted come up; False = they stay in creation."""
        self.guards = True
        """Successors take over by themselves; False = none does (their lists were never armed, say)."""

    # --- what happens ---

    def add(self, *names: str, slots: int = 1, **fields: object) -> None:
        """Virtual services, one after another, each settled before the next. ``fields``: more of the VIP."""
        for name in names:
            self.put(name, slots)
            self.vips[name] = msgspec.structs.replace(self.vips[name], **fields)
            self.settle()

    def put(self, name: str, slots: int = 1, tag: str = "ACTIVE_STANDBY_SE_1") -> None:
        """A virtual service that nobody has planned yet."""
        self.born += 1
        self.vips[name] = Vip(id=name, name=name, slots=slots, created=float(self.born), tag=tag)

    def remove(self, name: str) -> None:
        del self.vips[name]
        self.settle()

    def engine(self, name: str, host: str = "") -> None:
        self.serial += 1
        self.engines[name] = Engine(id=name, name=name, rank=self.serial, host=host, state=EngineState.UP)

    def fail(self, *names: str, settle: bool = True) -> None:
        for name in names:
            self.alter(name, state=EngineState.DOWN, down_since=self.now)
        self._take_over()
        if settle:
            self.settle()

    def _take_over(self) -> None:
        """What the engines do by themselves: the first successor alive that has room claims a dead owner's VIP."""
        load = self.load()
        for vip in self.vips.values():  # what was taken over already, and has not been adopted yet
            if vip.claimant in load and vip.claimant not in self.on(vip.id):
                load[vip.claimant] += vip.slots
        for vip in self.vips.values():
            owner, *heirs = vip.succession or ("",)
            held = self.on(vip.id)
            able = [e for e in heirs if e in load and (e in held or load[e] + vip.slots <= self.group.max_vs_per_se)]
            if owner and self.engines[owner].state is EngineState.DOWN and able and self.guards:
                self.vips[vip.id] = msgspec.structs.replace(vip, claimant=able[0])
                load[able[0]] += 0 if able[0] in held else vip.slots

    def recover(self, name: str) -> None:
        self.alter(name, state=EngineState.UP, down_since=None)
        self.settle()

    def enable_state(self, name: str, state: str) -> None:
        self.alter(name, enable_state=state)
        self.settle()

    def edit(self, **fields: object) -> None:
        self.group = msgspec.structs.replace(self.group, **fields)
        self.settle()

    def request(self, kind: str, vip: str, **more: object) -> RequestResult:
        id = f"r{len(self.results) + len(self.requests) + 1}"
        self.requests[id] = Request(id=id, kind=RequestKind(kind), vip=vip, at=self.now, **more)  # type: ignore[arg-type]
        self.settle()
        if id in self.requests:
            self.wait(self.group.vs_scalein_timeout_s)  # what it drains
        return next(result for result in self.results if result.request == id)

    def claim(self, vip: str, engine: str) -> None:
        self.vips[vip] = msgspec.structs.replace(self.vips[vip], claimant=engine)
        self.settle()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    # --- carrying out ---

    def snapshot(self) -> Snapshot:
        return Snapshot(
            revision=1,
            group=msgspec.structs.replace(self.group, ever_used=bool(self.engines)),
            engines=tuple(self.engines.values()),
            vips=tuple(self.vips.values()),
            requests=tuple(self.requests.values()),
            pace=self.pace,
        )

    def step(self) -> bool:
        """One plan, applied. False when there was nothing to do."""
        before = self.snapshot()
        self.last = result = plan(before, self.now)
        self._same(before, result)
        assert violations(before, result) == []
        self.heard(before, result)
        self.events += [event.name for event in result.events]
        ids: dict[str, str] = {}
        for wanted in result.new_engines:
            self.serial += 1
            name = f"SE{self.serial}"
            ids[wanted.id] = name
            host = self.hosts[self.serial % len(self.hosts)] if self.hosts else ""
            self.engines[name] = Engine(id=name, name=name, rank=self.serial, host=host, state=EngineState.CREATING)
        for planned in result.vips:
            placements = tuple(_renamed(p, ids) for p in planned.placements)
            vip = self.vips[planned.id]
            superseded = planned.generation > vip.generation and planned.succession[:1] != (vip.claimant,)
            self.vips[planned.id] = msgspec.structs.replace(
                vip,
                placements=placements,
                claimant="" if superseded else vip.claimant,
                generation=planned.generation,
                succession=planned.succession,
                list_version=planned.list_version,
                user_factor=planned.user_factor,
                requested=planned.requested,
                awaiting_since=planned.awaiting_since,
            )
        for answer in result.results:
            self.results.append(answer)
            del self.requests[answer.request]
        for engine in result.retire_engines:
            del self.engines[engine]
        for engine, state in result.engines_disabled:
            self.alter(engine, migrate_state=state)
        return not result.empty

    def _same(self, snapshot: Snapshot, result: Plan) -> None:
        """The planner that was there all the time comes to the same."""
        if self.planner is None:
            self.planner = Planner(snapshot)
        self.planner.standing.follow(snapshot)
        kept = self.planner.plan(self.now)
        assert msgspec.json.encode(kept) == msgspec.json.encode(result), f"{kept}\n!=\n{result}"
        self.steps += 1
        if self.steps % INDEXES_CHECKED_EACH == 0:
            self.planner.standing.check()

    def progress(self) -> bool:
        """Engines come up, assigned placements become ready."""
        moved = False
        for engine in list(self.engines.values()):
            if engine.state is EngineState.CREATING and self.makes:
                self.alter(engine.id, state=EngineState.UP)
                moved = True
        for vip in self.vips.values():
            placements = tuple(_ready(p) for p in vip.placements)
            moved |= placements != vip.placements
            owners = [p.engine for p in placements if p.role is Role.PRIMARY]
            claimant = "" if vip.claimant in owners else vip.claimant  # adopted: from now on it owns it by plan
            self.vips[vip.id] = msgspec.structs.replace(vip, placements=placements, claimant=claimant)
        self._note_idle()
        return moved

    def settle(self) -> None:
        for _ in range(ROUNDS_MAX):
            planned = self.step()
            if not planned and not self.progress():
                break
        else:
            raise AssertionError(f"no fixpoint after {ROUNDS_MAX} rounds: {self.last}")

    def _note_idle(self) -> None:
        held = {p.engine for vip in self.vips.values() for p in vip.placements}
        for engine in self.engines.values():
            busy = engine.id in held or engine.enable_state != "SE_STATE_ENABLED"
            idle = None if busy else engine.idle_since or self.now
            self.alter(engine.id, idle_since=idle)

    def alter(self, name: str, **fields: object) -> None:
        self.engines[name] = msgspec.structs.replace(self.engines[name], **fields)

    # --- looking ---

    def load(self) -> dict[str, int]:
        """Slots used per engine that is up."""
        used = {e.id: 0 for e in self.engines.values() if e.state is EngineState.UP}
        for vip in self.vips.values():
            for placement in vip.placements:
                if placement.engine in used:
                    used[placement.engine] += vip.slots
        return used

    def count(self) -> int:
        return len(self.load())

    def free(self) -> int:
        return self.count() * self.group.max_vs_per_se - sum(self.load().values())

    def on(self, vip: str) -> list[str]:
        return [p.engine for p in self.vips[vip].placements]

    def primary(self, vip: str) -> str:
        return next(p.engine for p in self.vips[vip].placements if p.role.value == "primary")


def _renamed(placement: Placement, ids: dict[str, str]) -> Placement:
    return msgspec.structs.replace(placement, engine=ids.get(placement.engine, placement.engine))


def _ready(placement: Placement) -> Placement:
    if placement.state is PlacementState.ASSIGNED:
        return msgspec.structs.replace(placement, state=PlacementState.READY)
    return placement
