"""Random histories of a legacy pair: the invariants hold at every step, and plans are fixpoints."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
from hypothesis import given, settings

from shoal.placement.model import EngineState, Request, RequestKind
from tests.property.test_placement import History, fixpoint, seeds
from tests.scenarios.world import World

LEGACY = "HA_MODE_LEGACY_ACTIVE_STANDBY"


class Pairs(History):
    """A pair driven by a seeded source of events, through edits of the mode, too."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        pick = self.random.choice
        self.world = World(
            ha_mode=LEGACY,
            max_vs_per_se=pick([2, 4, 8]),
            max_se=pick([1, 2, 2, 10]),
            distribute_load=pick([True, False]),
            auto_redistribute=pick([True, False]),
            can_create=pick([True, True, False]),
            se_deprovision_delay_s=pick([20.0, 7200.0]),
        )
        self.world.hosts = pick([[], ["a"], ["a", "b"]])
        if not self.world.group.can_create:
            for n in range(3):
                self.world.engine(f"E{n}", pick(["a", "b"]))
        self.serial = 0
        self.told: list[str] = []

    def events(self) -> list[Callable[[], None]]:
        return [
            self.add, self.add, self.remove, self.fail, self.fail, self.recover, self.recover, self.edit, self.request,
            self.request, self.stop, self.wait, self.disable,
        ]  # fmt: skip

    def add(self) -> None:
        self.serial += 1
        self.world.put(
            f"V{self.serial}", self.random.choice([1, 1, 2]), f"ACTIVE_STANDBY_SE_{self.random.choice('12')}"
        )

    def fail(self) -> None:
        engine = self.engine()
        self.world.guards = self.random.random() < 0.7
        if engine and self.world.engines[engine].state is EngineState.UP:
            self.world.fail(engine, settle=False)

    def recover(self) -> None:
        engine = self.engine()
        if engine and self.world.engines[engine].state is EngineState.DOWN:
            self.world.alter(engine, state=EngineState.UP, down_since=None)

    def disable(self) -> None:
        engine = self.engine()
        if engine:
            state = self.random.choice(["ENABLED", "ENABLED", "DISABLED", "DISABLED_FOR_PLACEMENT"])
            self.world.alter(engine, enable_state=f"SE_STATE_{state}")

    def edit(self) -> None:
        pick = self.random.choice
        field, value = pick(
            [
                ("ha_mode", pick([LEGACY, LEGACY, "HA_MODE_SHARED", "HA_MODE_SHARED_PAIR"])),
                ("max_vs_per_se", pick([2, 4, 8])),
                ("distribute_load", pick([True, False])),
                ("auto_redistribute", pick([True, False])),
            ]
        )
        self.world.group = msgspec.structs.replace(self.world.group, **{field: value})

    def request(self) -> None:
        vip = self.vip()
        if vip:
            self.serial += 1
            kind = self.random.choice([RequestKind.SWITCHOVER, RequestKind.SWITCHOVER, *RequestKind])
            to_engine = self.random.choice(["", self.engine()]) if kind is RequestKind.SWITCHOVER else ""
            id = f"q{self.serial}"
            self.world.requests[id] = Request(id=id, kind=kind, vip=vip, at=self.world.now, to_engine=to_engine)

    def wait(self) -> None:
        self.world.now += self.random.choice([2.0, 31.0, 301.0])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seeds)
def test_the_invariants_hold_through_any_history_of_a_pair(seed: int) -> None:
    history = Pairs(seed)
    world = history.run()  # each step is judged by the invariants
    fixpoint(world)
    for _ in range(6):
        world.wait(61.0)
    assert not world.requests, f"never answered: {world.requests} in {history.told}"
    group = world.group
    if group.ha_mode != LEGACY:
        return
    usable = [e for e in world.load() if world.engines[e].enable_state == "SE_STATE_ENABLED"]
    if group.can_create:
        assert len(usable) <= 2, "a third engine goes"
    placed = [vip for vip in world.vips.values() if vip.placements]
    total = sum(vip.slots for vip in placed)
    for vip in world.vips.values():
        if not vip.enabled:
            assert not vip.placements
        elif usable and total + vip.slots <= group.max_vs_per_se:
            assert vip.placements, f"{vip.name} is nowhere, though there is room"
    if len(usable) >= 2 and total <= group.max_vs_per_se:
        for vip in placed:
            assert len(vip.placements) == 1
            assert len(vip.succession) == 2, f"{vip.name} has no standby"
