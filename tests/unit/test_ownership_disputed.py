"""Two engines that hold one VIP and don't hear each other's heartbeats: what one announces is how the other learns of it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from shoal.ownership import State, initial, step, wake_at
from shoal.ownership.events import Announce, ArpAnswered, Effect, Haproxy, ReleaseVip, Started, TakeVip, Tick, Told
from shoal.ownership.state import DEFEND_S, DISPUTED_S
from shoal.wire.desired import Peer, Timing, Vip
from shoal.wire.guard import Desired

ADDRESS, ADDRESS6 = "10.0.0.9", "fd00::9"
OWN, LOWER, HIGHER = "02:00:00:00:00:05", "02:00:00:00:00:01", "02:00:00:00:00:09"
PEER = Peer(id="b", name="b", rank=2, address="10.0.0.2", mac="02:00:00:00:00:02")


class Holder:
    """It has just taken the VIP."""

    def __init__(self) -> None:
        vip = Vip(
            id="v",
            addresses=(ADDRESS, ADDRESS6),
            generation=1,
            owner="a",
            members=("a",),
            succession=("b",),
            list_version=1,
            armed=True,
        )
        desired = self.told = Desired(timing=Timing(), peers=(PEER,), vips=(vip,), slots_max=10)
        self.state: State = initial()
        self.now = 100.0
        for event in (Started("a", 1, "x", {}, OWN), Haproxy(up=True), Told(desired)):
            self.state, _ = step(self.state, event, self.now)
        assert self.pass_time(60.0)

    def pass_time(self, seconds: float) -> bool:
        """Whether it takes the VIP meanwhile, which ends it."""
        end = self.now + seconds
        while (wake := max(wake_at(self.state, self.now), self.now + 0.001)) <= end:
            self.now = wake
            self.state, effects = step(self.state, Tick(), self.now)
            if any(isinstance(effect, TakeVip) for effect in effects):
                return True
        self.now = end
        return False

    def hear(self, mac: str, address: str = ADDRESS) -> list[Effect]:
        self.state, effects = step(self.state, ArpAnswered(address, mac), self.now)
        return effects

    @property
    def holds(self) -> bool:
        return self.state.slots_used == 1 and self.state.vips["v"].claim is not None


def test_an_address_that_was_taken_without_asking_is_given_up_at_the_first_word() -> None:
    """Seed 118 of 10,000 events: an engine that had been frozen took its VIP at an address of long ago, and was told of the
    present one, at which the VIP was served elsewhere, the next moment."""
    holder = Holder()
    holder.pass_time(DISPUTED_S)
    told = holder.told
    (vip,) = told.vips
    moved = replace(told, vips=(replace(vip, addresses=("10.0.0.10",)),))
    holder.state, effects = step(holder.state, Told(moved), holder.now)
    assert announces(effects)
    holder.now += 0.0004
    holder.hear(HIGHER, "10.0.0.10")
    assert not holder.holds


def announces(effects: list[Effect]) -> bool:
    return any(isinstance(effect, Announce) for effect in effects)


@pytest.mark.parametrize("mac, stays", [(LOWER, False), (HIGHER, True)])
def test_of_two_that_have_just_taken_it_the_lower_mac_stays(mac: str, stays: bool) -> None:
    holder = Holder()
    effects = holder.hear(mac)
    assert holder.holds is stays and announces(effects) is stays
    assert any(isinstance(effect, ReleaseVip) for effect in effects) is not stays


def test_one_that_goes_on_saying_so_has_held_it_for_longer() -> None:
    holder = Holder()
    holder.hear(HIGHER)
    holder.hear(HIGHER, ADDRESS6)
    assert holder.holds, "the same word, once for each family"
    holder.now += 0.05
    holder.hear(HIGHER)
    assert not holder.holds


def test_one_that_has_held_it_for_long_stays_and_says_so_but_not_for_ever() -> None:
    holder = Holder()
    holder.pass_time(DISPUTED_S)
    assert announces(holder.hear(LOWER)) and holder.holds
    holder.pass_time(0.05)
    assert not announces(holder.hear(LOWER)) and holder.holds
    holder.pass_time(DEFEND_S)
    assert announces(holder.hear(LOWER)) and holder.holds


def test_a_peer_is_judged_by_its_claims_alone() -> None:
    holder = Holder()
    assert not announces(holder.hear(PEER.mac)) and holder.holds


def test_one_that_gave_way_asks_again_and_takes_it_when_nobody_answers() -> None:
    holder = Holder()
    holder.hear(LOWER)
    assert holder.pass_time(60.0) and holder.holds
