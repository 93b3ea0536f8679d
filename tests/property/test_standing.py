"""A planner that follows a group comes to the plan made from nothing, byte for byte, after whatever happened.

`World.step` compares the two, and the indexes with such that are made anew, at every step of every scenario and
history. Here are the larger groups, in which most VIPs are not in question at most steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
from hypothesis import given, settings

from shoal.placement import Planner, plan
from shoal.placement.model import EngineState, Need, Pace, PlacementState, Vip
from tests.property.test_placement import History, seeds
from tests.scenarios.world import World

VLANS = ("10.1.0.0/24", "10.2.0.0/24")


class Fleet(History):
    """Tens of engines and VIPs, and engines that report late."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        pick = self.random.choice
        engines = pick([8, 15, 30])
        group = self.world.group
        self.world.group = msgspec.structs.replace(
            group,
            max_vs_per_se=pick([2, 4, 8]),
            max_se=engines + pick([0, 2, 10]),
            can_create=pick([True, True, False]),
        )
        self.world.hosts = [f"h{n}" for n in range(pick([1, 3, 10]))]
        for n in range(engines):
            self.world.engine(f"E{n}", self.world.hosts[n % len(self.world.hosts)])
        for _ in range(self.random.randint(engines, 2 * engines)):
            self.add()
        self.world.settle()

    def events(self) -> list[Callable[[], None]]:
        return [
            self.add, self.remove, self.fail, self.fail_host, self.recover, self.disable, self.edit_some, self.request,
            self.request, self.stop, self.wait, self.claim, self.disarm, self.resize, self.move, self.slow, self.report,
            self.lose_sight, self.see_again, self.keep_pace, self.plug, self.readdress, self.upgrade,
        ]  # fmt: skip

    def run(self) -> World:
        events = self.events()
        for _ in range(self.random.randint(8, 25)):
            event = self.random.choice(events)
            self.told.append(event.__name__)
            event()
            for _ in range(self.random.choice([1, 1, 2, 4])):
                self.report()
                self.world.step()
            if self.random.random() < 0.2:
                self.world.settle()
        return self.world

    def report(self) -> None:
        """Some engines come up, some placements are acknowledged, some drains are over."""
        for engine in list(self.world.engines.values()):
            if engine.state is EngineState.CREATING and self.world.makes and self.random.random() < 0.5:
                self.world.alter(engine.id, state=EngineState.UP)
        for vip in self.world.vips.values():
            if self.random.random() < 0.5:
                continue
            placements = tuple(
                msgspec.structs.replace(p, state=PlacementState.READY)
                if p.state is PlacementState.ASSIGNED
                else msgspec.structs.replace(p, drained=True)
                if p.state is PlacementState.DRAINING
                else p
                for p in vip.placements
            )
            self.world.vips[vip.id] = msgspec.structs.replace(vip, placements=placements)
        self.world._note_idle()

    def slow(self) -> None:
        self.world.makes = not self.world.makes

    def fail_host(self) -> None:
        host = self.random.choice(self.world.hosts)
        up = [e.id for e in self.world.engines.values() if e.host == host and e.state is EngineState.UP]
        self.world.guards = self.random.random() < 0.7
        self.world.fail(*up[:4], settle=False)

    def edit_some(self) -> None:
        """Seldom: an edit is the one thing after which every VIP is looked at."""
        if self.random.random() < 0.5:
            self.edit()
        else:
            self.world.group = msgspec.structs.replace(
                self.world.group, create_retry_at=self.world.now + self.random.choice([-1.0, 5.0])
            )

    def claim(self) -> None:
        vip = self.world.vips.get(self.vip())
        if vip is not None and vip.succession:
            claimant = self.random.choice([*vip.succession, "", self.engine()])
            self.world.vips[vip.id] = msgspec.structs.replace(vip, claimant=claimant)

    def disarm(self) -> None:
        vip = self.vip()
        if vip:
            was = self.world.vips[vip]
            self.world.vips[vip] = msgspec.structs.replace(was, armed=not was.armed)

    def resize(self) -> None:
        """Another virtual service shares the VIP, or one less does."""
        vip = self.vip()
        if vip:
            self.world.vips[vip] = msgspec.structs.replace(self.world.vips[vip], slots=self.random.choice([1, 2, 3]))

    def lose_sight(self) -> None:
        for engine in self.random.sample(sorted(self.world.engines), min(3, len(self.world.engines))):
            if self.world.engines[engine].state is EngineState.UP:
                self.world.alter(engine, state=EngineState.SUSPECT)

    def see_again(self) -> None:
        state = self.random.choice([EngineState.UP, EngineState.UP, EngineState.DOWN])
        for engine in list(self.world.engines.values()):
            if engine.state is EngineState.SUSPECT:
                self.world.alter(engine.id, state=state, down_since=self.world.now if state == "down" else None)

    def keep_pace(self) -> None:
        moves = self.random.choice([None, 0, 2])
        self.world.pace = None if moves is None else Pace(moves=moves, next_at=self.world.now + 5.0)

    def upgrade(self) -> None:
        """The turn of an engine begins, or ends: what drains from it has a time of its own."""
        self.world.group = msgspec.structs.replace(
            self.world.group,
            upgrading=self.random.choice(["", self.engine(), self.engine()]),
            vs_scalein_timeout_for_upgrade_s=self.random.choice([5.0, 60.0]),
        )

    def plug(self) -> None:
        """An engine is put into VLANs, or taken out of them."""
        engine = self.engine()
        if engine:
            vlans = self.random.choice([(), VLANS[:1], VLANS[1:], VLANS])
            self.world.alter(engine, home="10.0.0.0/24", vlans=vlans)
        if self.random.random() < 0.3:
            made = self.random.choice([(), VLANS[:1], VLANS])
            self.world.group = msgspec.structs.replace(self.world.group, networks_made=made)

    def readdress(self) -> None:
        """A VIP, or its servers, are in a VLAN."""
        vip = self.vip()
        if vip:
            addresses = self.random.choice([(), ("10.1.0.5",), ("10.2.0.5",), ("10.0.0.5",)])
            needs = self.random.choice(
                [(), (), (Need("dmz", ("10.1.0.0/25", "10.9.0.0/24")),), (Need("own", ("10.0.0.0/25",)),)]
            )
            self.world.vips[vip] = msgspec.structs.replace(self.world.vips[vip], addresses=addresses, needs=needs)

    def move(self) -> None:
        """An engine turns up on another host."""
        engine = self.engine()
        if engine:
            self.world.alter(engine, host=self.random.choice(self.world.hosts))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seeds)
def test_a_planner_that_follows_comes_to_the_same(seed: int) -> None:
    Fleet(seed).run()


@settings(max_examples=6, deadline=None, derandomize=True)
@given(seeds)
def test_vips_of_many_sizes_settle(seed: int) -> None:
    """Where room is in fragments, too, no succession is made anew for ever."""
    world = World(max_vs_per_se=8, max_se=24, buffer_se=0)
    world.hosts = [f"h{n}" for n in range(7)]
    chance = random.Random(seed)
    for n in range(45):
        scale = chance.choice([1, 1, 1, 2, 2, 3, 4])
        world.put(f"V{n}", chance.choice([1, 1, 2, 3, 4]))
        world.vips[f"V{n}"] = msgspec.structs.replace(world.vips[f"V{n}"], requested=scale, user_factor=scale - 1)
        world.settle()


def test_few_vips_are_in_question() -> None:
    """Else the comparison would prove nothing."""
    world = World(max_vs_per_se=10, max_se=100)
    for n in range(30):
        world.engine(f"E{n}")
    for n in range(150):
        world.put(f"V{n}")
    world.settle()
    planner = Planner(world.snapshot())
    planner.plan(world.now)
    assert not planner.standing.in_question(world.now)
    assert not planner.standing.deals.asked
    world.fail("E3", settle=False)
    planner.standing.follow(world.snapshot())
    assert len(planner.standing.in_question(world.now)) == 5
    assert planner.plan(world.now) == plan(world.snapshot(), world.now)


def test_an_interrupted_plan_leaves_no_trace() -> None:
    world = World(max_vs_per_se=3, max_se=9)
    world.add("V1", "V2", "V3", "V4")
    planner = Planner(world.snapshot())
    planner.standing.put_vip(Vip(id="V5", name="V5", slots=2, created=99.0))
    once = planner.plan(world.now)
    planner.standing.check()
    assert planner.plan(world.now) == once
