"""What was heard in a preflight, and the mode that follows from it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shoal.controller.preflight import judge
from shoal.controller.preflight.steps import BACK, BETWEEN, FIRST, HANDED_ON, OUTWARD, RETURNED, TAKEN, Party, Trial
from shoal.wire.messages import BgpPeerState
from shoal.wire.preflight import Heard
from tests.api_world import ControlledWorld, controlled_world

A, B, ROUTER, FURTHER = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:01", "06:5a:0b:00:00:0a"
SIZES = (1500, 1450, 1400)


def reply(number: int, kind: str = "reply") -> Heard:
    return Heard(kind=kind, at_ms=1.0, mac=ROUTER, to_mac=A, address="10.9.0.254", number=number)


ASKED = Heard(kind="answer", at_ms=1.0, mac=ROUTER, to_mac=FURTHER, address="10.0.0.1")
SIZED = [reply(first + i) for first in (BETWEEN, OUTWARD) for i in range(len(SIZES))]
ALL_A = [reply(FIRST), reply(RETURNED), reply(BACK), ASKED, *SIZED]
ALL_B = [reply(TAKEN), reply(HANDED_ON, "echo"), ASKED]


def trial(a: list[Heard], b: list[Heard]) -> Trial:
    return Trial(
        a=Party("a", "se-a", "10.0.0.2"),
        b=Party("b", "se-b", "10.0.0.3"),
        address="10.9.0.254",
        neighbour="10.0.0.1",
        mtu=1500,
        sizes=SIZES,
        further_mac=FURTHER,
        heard_a=a,
        heard_b=b,
    )


def without(heard: list[Heard], *numbers: int) -> list[Heard]:
    return [one for one in heard if one.number not in numbers]


def answers(a: list[Heard], b: list[Heard]) -> tuple[str, dict[str, str]]:
    found = judge.report("g", trial(a, b), [])
    return found.mode.name, {check.id: check.ok for check in found.checks if check.ok != "yes" and check.id != "bgp"}


DIRECT, THROUGH = "layer 2, direct return", "layer 2, replies through the primary"
ONE, BGP = "layer 2, one engine for each VIP", "BGP"


@pytest.mark.parametrize(
    "a, b, mode, others",
    [
        (ALL_A, ALL_B, DIRECT, {}),
        (without(ALL_A, RETURNED), ALL_B, THROUGH, {"direct_return": "no"}),
        (without(ALL_A, RETURNED), [*ALL_B, reply(RETURNED)], THROUGH, {"direct_return": "no"}),
        (ALL_A, without(ALL_B, HANDED_ON), ONE, {"handing_on": "no"}),
        ([*ALL_A, reply(TAKEN)], without(ALL_B, TAKEN), BGP, {"gratuitous_arp": "no"}),
        (ALL_A, without(ALL_B, TAKEN), BGP, {"gratuitous_arp": "no"}),
        (without(ALL_A, BACK), ALL_B, BGP, {"moves_back": "no"}),
        (ALL_A, without(ALL_B, 0), DIRECT, {"mac_moves": "no"}),
        (without(ALL_A, 0), without(ALL_B, 0), DIRECT, {"further_mac": "no", "mac_moves": "unknown"}),
        (without(ALL_A, BETWEEN), ALL_B, DIRECT, {"mtu": "no"}),
        (
            without(ALL_A, FIRST, RETURNED, BACK),
            without(ALL_B, TAKEN),
            BGP,
            {"address": "no", "gratuitous_arp": "unknown", "moves_back": "unknown", "direct_return": "unknown"},
        ),
    ],
)
def test_the_mode_follows_from_what_is_allowed(
    a: list[Heard], b: list[Heard], mode: str, others: dict[str, str]
) -> None:
    assert answers(a, b) == (mode, {"tunnel_mtu": "no", **others})


def test_who_still_gets_the_answers_is_told() -> None:
    found = judge.report("g", trial([*ALL_A, reply(TAKEN)], without(ALL_B, TAKEN)), [])
    (check,) = [check for check in found.checks if check.id == "gratuitous_arp"]
    assert check.found == "10.0.0.1 still answers se-a" and "forgets" in check.means
    found = judge.report("g", trial(without(ALL_A, BETWEEN), ALL_B), [])
    (check,) = [check for check in found.checks if check.id == "mtu"]
    assert "1450 bytes between engines, 1500 to 10.0.0.1" in check.found and "MTU of 1450" in check.means


def test_routers_that_are_not_reached_are_told() -> None:
    peers = [
        BgpPeerState(vrf="r", address="10.0.0.1", state="Established"),
        BgpPeerState(vrf="r", address="10.0.0.9", state="Active", why="Socket: Connection refused"),
    ]
    found = judge.report("g", trial(ALL_A, ALL_B), peers)
    assert (found.checks[-1].ok, found.checks[-1].found) == ("no", "10.0.0.9 is Active (Socket: Connection refused)")
    assert judge.report("g", trial(ALL_A, ALL_B), peers[:1]).checks[-1].ok == "yes"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


async def test_what_can_not_be_tried_is_refused_with_the_way_out(world: ControlledWorld) -> None:
    (group,) = (await world.get("/api/serviceenginegroup?name=Default-Group"))["results"]
    path = f"/api/serviceenginegroup/{group['uuid']}/preflight"
    reply = await world.call("POST", path, 400, json={"address": "fd00::1", "neighbor": "10.0.0.1"})
    assert [problem["path"] for problem in reply["problems"]] == ["neighbor", "address"]
    reply = await world.call("POST", path, 400, json={"neighbour": "10.0.0.1"})
    assert "0 connected engines" in reply["error"] and "two are needed" in reply["error"]
