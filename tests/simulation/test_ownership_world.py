"""Random faults against real machines in virtual time. A failure prints its seed; run that one alone to see it."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from shoal.ownership.state import CALL_S
from shoal.simulator.ownership_world import World, encoded
from shoal.wire.desired import Peer, Timing, Vip
from shoal.wire.guard import Desired

STANDARD = Timing()
AGGRESSIVE = Timing(heartbeat_interval_ms=25, heartbeat_misses=3, lease_ms=50)
ADDRESS = "10.0.0.100"
NAMES = ("A", "B", "C", "D")
TAKEOVER_S_MAX = 0.3 + 3 * 0.1 + 0.1
"""Detection, two dead or declining successors in front, an interval of luck, and a margin for loss-free probing."""


def desired(**changes: object) -> Desired:
    vip = Vip(
        id="v",
        addresses=(ADDRESS,),
        generation=1,
        owner="A",
        members=("A",),
        succession=("B", "C", "D"),
        list_version=1,
        armed=True,
    )
    peers = tuple(Peer(id=n, name=n, rank=i + 1, address=n, mac=n) for i, n in enumerate(NAMES))
    return Desired(timing=Timing(), peers=peers, vips=(replace(vip, **changes),), slots_max=10)


def build(seed: int, loss: float, timing: Timing = STANDARD) -> World:
    world = World(NAMES, seed=seed, loss=loss, delay_s=(0.0001, 0.003))
    for name in NAMES:
        world.start(name)
        world.tell(name, replace(desired(), timing=timing))
    world.run(0.5)
    assert world.speakers(ADDRESS) == ["A"]
    return world


class Chaos:
    """A seeded sequence of faults and repairs; at least one engine stays well at any time."""

    def __init__(self, world: World, seed: int, timing: Timing = STANDARD) -> None:
        self.world, self.random = world, random.Random(seed)
        self.generation = 1
        self.timing = timing
        self.plan = replace(desired(), timing=timing)

    def well(self) -> list[str]:
        engines = self.world.engines.values()
        return [e.name for e in engines if e.running and not e.frozen and e.link and e.haproxy]

    def once(self) -> None:
        name = self.random.choice(NAMES)
        engine = self.world.engines[name]
        if name in self.well() and len(self.well()) == 1:
            return
        action = self.random.choice(("kill", "freeze", "link", "haproxy", "cut", "plan"))
        if action == "kill":
            if engine.running:
                engine.frozen = False
                self.world.kill(name)
            else:
                self.world.start(name)
        elif action == "freeze" and engine.running:
            if engine.frozen:
                self.world.thaw(name)
            else:
                self.world.freeze(name)
        elif action == "link":
            self.world.link(name, not engine.link)
        elif action == "haproxy":
            self.world.set_haproxy(name, not engine.haproxy)
        elif action == "cut":
            other = self.random.choice([n for n in NAMES if n != name])
            self.world.cut(name, other, frozenset((name, other)) not in self.world.cuts)
        elif action == "plan":
            self.replan()

    def replan(self) -> None:
        self.generation += 1
        order = self.random.sample(NAMES, len(NAMES))
        self.plan = desired(
            generation=self.generation,
            owner=order[0],
            members=tuple(order[:2]),
            succession=tuple(order[1:]),
            list_version=self.generation,
        )
        self.plan = replace(self.plan, timing=self.timing)
        for name in self.random.sample(NAMES, len(NAMES)):
            self.world.tell(name, self.plan)
            self.world.run(self.random.uniform(0, 0.03))

    def heal(self) -> None:
        world = self.world
        for one, other in [sorted(pair) for pair in world.cuts]:
            world.cut(one, other, False)
        for name, engine in world.engines.items():
            if engine.frozen:
                world.thaw(name)
            if not engine.link:
                world.link(name, True)
            if not engine.haproxy:
                world.set_haproxy(name, True)
            if not engine.running:
                world.start(name)
            world.tell(name, self.plan)


@pytest.mark.parametrize("seed", range(25))
def test_one_owner_through_chaos_and_after_the_heal(seed: int) -> None:
    world = build(seed, loss=0.02 if seed % 2 else 0.0)
    chaos = Chaos(world, seed)
    for _ in range(25):
        chaos.once()
        world.run(chaos.random.choice((0.01, 0.1, 0.25, 0.4, 1.0)))
    chaos.heal()
    world.run(2.0)
    assert len(world.speakers(ADDRESS)) == 1, world.explain("not one owner after the heal")
    (owner,) = world.speakers(ADDRESS)
    holders = {e.name: e.state.vips["v"].holder for e in world.engines.values() if e.name != owner}
    assert set(holders.values()) == {owner}, world.explain(f"not all know that {owner} holds it: {holders}")


@pytest.mark.parametrize("seed", range(8))
def test_one_owner_with_aggressive_detection(seed: int) -> None:
    world = build(seed, loss=0.02 if seed % 2 else 0.0, timing=AGGRESSIVE)
    chaos = Chaos(world, seed, AGGRESSIVE)
    for _ in range(25):
        chaos.once()
        world.run(chaos.random.choice((0.01, 0.05, 0.1, 0.4)))
    chaos.heal()
    world.run(2.0)
    assert len(world.speakers(ADDRESS)) == 1, world.explain("not one owner after the heal")


@pytest.mark.parametrize("fault", ["kill", "freeze", "link"])
@pytest.mark.parametrize("seed", range(8))
def test_a_living_successor_takes_over_within_the_bound(fault: str, seed: int) -> None:
    world = build(seed, loss=0.0)
    chance = random.Random(seed)
    dead = chance.sample(("B", "C", "D"), chance.randint(0, 2))
    for name in dead:
        world.kill(name)
    world.run(chance.uniform(0.4, 0.6))
    if fault == "link":
        world.link("A", False)
    else:
        getattr(world, fault)("A")
    world.run(TAKEOVER_S_MAX)
    first = next(n for n in ("B", "C", "D") if n not in dead)
    assert world.speakers(ADDRESS) == [first], world.explain(f"{first} did not take over")


@pytest.mark.parametrize("seed", range(4))
def test_no_false_takeover_with_a_twentieth_of_heartbeats_lost(seed: int) -> None:
    """Three in a row are lost rarely, and then ARP shows that the owner lives."""
    world = build(seed, loss=0.05)
    world.run(20.0)
    assert world.speakers(ADDRESS) == ["A"], world.explain("moved without a reason")


@pytest.mark.parametrize("missed", [0, 1, 2])
def test_successors_that_heard_different_last_heartbeats_do_not_claim_at_one_moment(missed: int) -> None:
    """C lacks the owner's last heartbeats, so it thinks it dead earlier than B does; and B and C can't hear each other
    as they ask. Only the address itself tells the later of them that it came too late."""
    world = build(3, loss=0.0)
    world.run(0.25)
    world.mute("A", "C")
    world.run(0.1 * missed + 0.01)
    world.freeze("A")
    heard = max(world.engines[n].state.peers["A"].heard_at for n in ("B", "C"))
    world.run(heard + 0.25 - world.now)
    world.loss = 1.0
    world.run(0.09)
    world.loss = 0.0
    world.run(0.5)
    taken = [line for line in world.log if " takes v " in line and line.split()[1] != "A"]
    assert len(taken) == 1, world.explain("two took it over")


def test_what_a_frozen_engine_still_answers_ends_with_its_lease() -> None:
    """Two sides, each with an owner, meet in the moment one of the owners freezes: it says and hears nothing, and the
    other can't know of it. That is over when the lease is, and no later."""
    world = build(1, loss=0.0)
    for other in ("B", "C", "D"):
        world.cut("A", other)
    world.run(1.0)
    assert world.speakers(ADDRESS) == ["A", "B"]
    world.freeze("A")
    for other in ("B", "C", "D"):
        world.cut("A", other, False)
    world.run(0.25)
    assert world.speakers(ADDRESS) == ["B"]


def strangers(*engines: tuple[str, float]) -> World:
    """Engines by name that know of no other, each told after so many seconds that it owns the VIP."""
    world = World(NAMES, seed=1)
    for name, after_s in engines:
        world.run(after_s)
        world.start(name)
        world.tell(name, replace(desired(owner=name, members=(name,), succession=()), peers=()))
    return world


def test_two_that_do_not_know_each_other_and_ask_at_one_moment_do_not_both_stay() -> None:
    """Seed 44 of 10,000 events: engines of two pairs, long dead, were started at once by a controller that died the next
    moment. Both asked, nobody answered, and neither had ever heard of the other."""
    world = strangers(("B", 0.0), ("A", 0.0))
    world.run(1.0)
    assert world.speakers(ADDRESS) == ["A"]
    assert [line.split()[1] for line in world.log if " takes v " in line] == ["B", "A"]


def test_one_that_comes_later_leaves_it_to_a_stranger_that_answers() -> None:
    world = strangers(("B", 0.0), ("A", 0.5))
    world.run(5.0)
    assert world.speakers(ADDRESS) == ["B"]
    world.kill("B")
    world.run(1.0)
    assert world.speakers(ADDRESS) == ["A"]


def apart(*, group: bytes = b"") -> World:
    """A goes by a plan that is newer than B's; neither knows the other, and each has held the VIP for long."""
    world = World(NAMES, seed=1)
    world.cut("A", "B")
    for name, generation, key in (("A", 2, group), ("B", 1, b"")):
        world.start(name)
        mine = desired(owner=name, members=(name,), succession=(), generation=generation)
        world.tell(name, replace(mine, peers=(), heartbeat_key=key))
    world.run(5.0)
    assert world.speakers(ADDRESS) == ["A", "B"]
    return world


def test_strangers_that_both_hold_it_when_they_meet_settle_it_by_their_claims() -> None:
    """Seed 443 of 10,000 events. No controller reaches either."""
    world = apart()
    world.cut("A", "B", False)
    world.run(CALL_S + 0.25)
    assert world.speakers(ADDRESS) == ["A"]
    world.run(5.0)
    assert world.speakers(ADDRESS) == ["A"]
    world.kill("A")
    world.run(1.0)
    assert world.speakers(ADDRESS) == ["B"]


def test_strangers_of_another_group_are_not_heard() -> None:
    world = apart(group=b"another")
    world.cut("A", "B", False)
    with pytest.raises(AssertionError, match="both answer"):
        world.run(5.0)


def test_a_list_counts_of_a_vip_that_was_heard_of_before_it_was_told() -> None:
    """The owner names its VIPs to all its peers, also to one that serves another of them."""
    world = build(1, loss=0.0)
    order = ("D", "B", "C")
    plan = desired(succession=order, list_version=2)
    (vip,) = plan.vips
    other = replace(vip, id="w", addresses=("10.0.0.101",))
    world.tell("D", replace(plan, vips=(other,)))
    world.run(0.5)
    world.tell("D", replace(plan, vips=(vip, other)))
    view = world.engines["D"].state.vips["v"]
    assert (view.holder, view.succession, view.list_version) == ("A", order, 2)


def test_a_run_is_repeated_by_its_seed() -> None:
    def play() -> list[bytes]:
        world = build(7, loss=0.05)
        chaos = Chaos(world, 7)
        for _ in range(10):
            chaos.once()
            world.run(0.3)
        return [encoded(e.state) for e in world.engines.values()]

    assert play() == play()


def test_an_unfenced_world_is_noticed() -> None:
    """The invariant itself: two that answer on one segment do not pass."""
    world = build(1, loss=0.0)
    world.run(0.1)
    rogue = world.engines["D"]
    rogue.addresses[ADDRESS] = "v"
    rogue.lease_until = world.now + 10
    with pytest.raises(AssertionError, match="both answer"):
        world.run(1.0)


@pytest.mark.parametrize("seed", range(20))
def test_who_missed_the_owners_last_heartbeat_does_not_outbid_the_first_in_line(seed: int) -> None:
    """C's turn is reckoned from an earlier heartbeat, and its claim would be the higher one."""
    world = build(seed, loss=0.0)
    world.run(seed * 0.005)
    world.mutes.add(("A", "C"))
    world.run(0.1)
    world.freeze("A")
    world.mutes.clear()
    world.run(TAKEOVER_S_MAX + 0.3)
    assert world.speakers(ADDRESS) == ["B"], world.log
