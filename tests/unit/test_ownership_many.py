"""One engine takes over a thousand VIPs: one lease, every VIP once, and slots counted right at every step."""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from shoal.ownership import events as on
from shoal.ownership import initial, step, wake_at
from shoal.ownership.events import Mode
from shoal.ownership.state import State, slots_taken
from shoal.wire.desired import Peer, Timing, Vip
from shoal.wire.guard import Desired
from shoal.wire.messages import Claim

MANY = 1000
PEERS = tuple(Peer(id=f"se-{x}", name=x, rank=i, address=f"10.1.0.{i + 1}", mac="") for i, x in enumerate("ab", 1))


def vip(number: int, owner: str = "se-a", generation: int = 1) -> Vip:
    return Vip(
        id=f"vip-{number}",
        addresses=(f"10.2.{number // 256}.{number % 256}",),
        generation=generation,
        owner=owner,
        members=(owner,),
        succession=("se-a", "se-b"),
        list_version=1,
        armed=True,
        slots=1 + number % 2,
    )


class Engine:
    """``se-b`` of the two, armed for all that ``se-a`` owns."""

    def __init__(self) -> None:
        self.now = 100.0
        self.state: State = initial()
        self.effects: list[on.Effect] = []
        self.feed(on.Started("se-b", 2, "first", {}))
        self.feed(on.Haproxy(True))
        self.tell(*map(vip, range(MANY)))
        self.feed(on.Session("se-a", True))

    def feed(self, event: on.Event) -> None:
        self.state, effects = step(self.state, event, self.now)
        self.effects += effects
        counted = sum(slots_taken(self.state, view) for view in self.state.vips.values())
        assert self.state.slots_used == counted

    def tell(self, *vips: Vip) -> None:
        self.feed(on.Told(Desired(timing=Timing(), peers=PEERS, vips=vips, slots_max=10 * MANY)))

    def hear_owner(self) -> None:
        entries = tuple(on.Entry(id, Mode.HELD, Claim(1, 0, 1), 1) for id in self.state.vips)
        for _ in range(5):
            self.now += 0.1
            self.feed(on.Heard(on.Heartbeat("se-a", "owner", True, entries)))
            self.feed(on.Tick())

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now = max(wake_at(self.state, self.now), self.now + 0.001)
            self.feed(on.Tick())

    def held(self) -> int:
        return sum(view.mode is Mode.HELD for view in self.state.vips.values())


def test_a_takeover_of_all_at_once() -> None:
    engine = Engine()
    engine.hear_owner()
    assert (engine.held(), engine.state.slots_used) == (0, 0)
    engine.effects.clear()
    engine.feed(on.Session("se-a", False))
    engine.run(0.1)
    done = Counter(type(effect) for effect in engine.effects)
    assert engine.held() == done[on.TakeVip] == done[on.Announce] == done[on.Tell] == MANY
    assert engine.state.slots_used == MANY + MANY // 2
    assert done[on.AcquireLease] == 1
    engine.tell(*map(vip, range(10)))
    assert engine.held() == 10
    engine.feed(on.Link(False))
    assert engine.state.slots_used == 0


def test_all_resigned_at_once_are_taken_in_one_step() -> None:
    engine = Engine()
    engine.hear_owner()
    engine.effects.clear()
    resigned = (on.Resign("se-a", id, Claim(1, 0, 1), "se-b") for id in engine.state.vips)
    engine.feed(on.Together(tuple(map(on.Heard, resigned))))
    engine.run(0.05)
    assert engine.held() == MANY
    assert sum(isinstance(effect, on.TakeVip) for effect in engine.effects) == MANY


def test_answers_that_came_together_count_each() -> None:
    engine = Engine()
    engine.hear_owner()
    engine.feed(on.Session("se-a", False))
    engine.now += 0.005
    answering = [view.vip.addresses[0] for view in engine.state.vips.values()][: MANY // 2]
    engine.feed(on.Together(tuple(on.ArpAnswered(address, "02:00:00:00:00:01") for address in answering)))
    engine.run(0.025)
    assert engine.held() == MANY - MANY // 2


def test_repeated_heartbeats_that_came_together_change_nothing() -> None:
    engine = Engine()
    engine.hear_owner()
    said = engine.state.peers["se-a"].said
    before, engine.now = engine.state.vips, engine.now + 0.05
    engine.feed(on.Together((on.Heard(on.Heartbeat("se-a", "owner", True, said)),) * 2))
    assert engine.state.vips is before
    assert engine.state.peers["se-a"].heard_at == engine.now


def test_a_plan_repeated_changes_nothing_and_one_that_differs_does() -> None:
    engine = Engine()
    before = dict(engine.state.vips)
    engine.tell(*map(vip, range(MANY)))
    assert all(engine.state.vips[id] is view for id, view in before.items())
    changed = replace(vip(7), list_version=2, succession=("se-a",))
    engine.tell(*(changed if number == 7 else vip(number) for number in range(MANY)))
    assert engine.state.vips["vip-7"].succession == ("se-a",)
    engine.tell(*(vip(number, owner="se-b", generation=2) for number in range(MANY)))
    assert engine.state.slots_used == MANY + MANY // 2


def test_what_a_stranger_says_of_vips_served_elsewhere_is_passed_over() -> None:
    engine = Engine()
    engine.hear_owner()
    engine.now += 0.01
    elsewhere = tuple(on.Entry(f"other-{n}", Mode.HELD, Claim(1, 0, 3), 1) for n in range(3))
    before, done = engine.state, len(engine.effects)
    engine.feed(on.Heard(on.Heartbeat("se-c", "stranger", True, elsewhere)))
    assert engine.state is before and len(engine.effects) == done
    owned = tuple(engine.state.peers["se-a"].said)
    engine.feed(
        on.Together(
            (
                on.Heard(on.Heartbeat("se-c", "stranger", True, elsewhere)),
                on.Heard(on.Heartbeat("se-a", "owner", True, owned)),
            )
        )
    )
    assert engine.state.peers["se-a"].heard_at == engine.now and "se-c" not in engine.state.peers
    one_of_ours = on.Entry("vip-7", Mode.HELD, Claim(9, 0, 3), 1)
    engine.feed(on.Heard(on.Heartbeat("se-c", "stranger", True, (*elsewhere, one_of_ours))))
    assert engine.state.vips["vip-7"].holder == "se-c"
