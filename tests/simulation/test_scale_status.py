"""`scale_status` as clients poll it: every operation's states in order, its action, times, reason, and the one before."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.simulator.system_world import SystemWorld
from tests.simulation.playing import play
from tests.simulation.test_answers import group, read

CHAINS = {
    "SCALEOUT": [
        "SCALEOUT_PROCESSING", "SCALEOUT_AWAITING_SE_ASSIGNMENT", "SCALEOUT_CREATING_SE", "SCALEOUT_RESOURCES",
        "SCALEOUT_AWAITING_SE_PROGRAMMING", "SCALEOUT_WAIT_FOR_SE_READY", "SCALEOUT_SUCCESS",
    ],
    "SCALEIN": [
        "SCALEIN_AWAITING_SE_PRE_RELEASE", "SCALEIN_AWAITING_SE_PROGRAMMING", "SCALEIN_WAIT_FOR_SE_READY",
        "SCALEIN_AWAITING_SE_RELEASE", "SCALEIN_SUCCESS",
    ],
}  # fmt: skip
CHAINS["MIGRATE"] = [
    *(f"MIGRATE_{state}" for state in CHAINS["SCALEOUT"][1:-1]),
    *(f"MIGRATE_{state}" for state in CHAINS["SCALEIN"][:-1]),
    "MIGRATE_SUCCESS",
]


def status(world: SystemWorld, service: dict[str, Any]) -> dict[str, Any]:
    (detail,) = read(world, service, "runtime/detail")
    found: dict[str, Any] = detail["vip_runtime"][0]
    (alone,) = read(world, service, "scaleoutstatus")
    assert found["scale_status"] == alone
    return found


async def watched(world: SystemWorld, service: dict[str, Any], seconds: float) -> list[str]:
    """The states that a client sees which polls every 20 ms."""
    seen = []
    for _ in range(int(seconds / 0.02)):
        await world.pass_time(0.02)
        seen.append(status(world, service)["scale_status"]["state"])
    return list(dict.fromkeys(seen))


def in_order(seen: list[str], chain: list[str]) -> bool:
    """Only states of the chain, and never back."""
    return all(state in chain for state in seen) and seen == sorted(seen, key=chain.index)


@pytest.mark.parametrize(
    ("operation", "chain", "action", "must"),
    [
        ("scaleout", "SCALEOUT", "SCALE_OUT", ["SCALEOUT_CREATING_SE", "SCALEOUT_AWAITING_SE_PROGRAMMING"]),
        ("scalein", "SCALEIN", "SCALE_IN", ["SCALEIN_AWAITING_SE_RELEASE"]),
        (
            "migrate",
            "MIGRATE",
            "MIGRATE_SCALEOUT",
            ["MIGRATE_SCALEOUT_CREATING_SE", "MIGRATE_SCALEIN_AWAITING_SE_RELEASE"],
        ),
    ],
)
def test_an_operation_goes_through_its_states_in_order(
    operation: str, chain: str, action: str, must: list[str]
) -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=4)
        service = await world.service("s", "g")
        await world.pass_time(5.0)
        if operation == "scalein":
            await world.operate(service["uuid"], "scaleout")
            await world.pass_time(10.0)
        for agent in world.agents.values():
            agent.drain_s = (3.0, 4.0)
        before = status(world, service)["scale_status"]
        options = {} if operation == "scalein" else {"to_new_se": True}
        await world.operate(service["uuid"], operation, **options)
        first = status(world, service)["scale_status"]
        assert first["action"] == action and "end_time_str" not in first
        seen = [first["state"], *await watched(world, service, 15.0)]
        assert in_order(list(dict.fromkeys(seen)), CHAINS[chain]), seen
        assert set(must) <= set(seen)
        found = status(world, service)
        last = found["scale_status"]
        assert last["state"] == CHAINS[chain][-1] and last["action_success"] is True
        assert last["num_se_assigned"] == last["num_se_requested"] == (2 if operation == "scaleout" else 1)
        assert last["start_time_str"] <= last["end_time_str"] and last["reason"] == []
        assert found["last_scale_status"] == before

    play(story)


def test_the_first_placement_is_an_operation_too() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=2)
        service = await world.service("s", "g")
        await world.pass_time(0.1)
        first = status(world, service)
        assert first["scale_status"]["action"] == "INITIAL_PLACEMENT" and first["last_scale_status"] == {}
        assert first["fsm_state_name"] == "AwaitingSeAssignment"
        seen = await watched(world, service, 6.0)
        assert in_order(seen, CHAINS["SCALEOUT"]) and seen[-1] == "SCALEOUT_SUCCESS"
        last = status(world, service)
        assert last["scale_status"]["action_success"] is True and last["fsm_state_name"] == "Active"

    play(story)


def test_a_lost_engine_and_its_making_up_for() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=4, min_scaleout_per_vs=2)
        service = await world.service("s", "g")
        await world.pass_time(8.0)
        held = [entry["se_ref"] for entry in status(world, service)["se_list"] if not entry["is_primary"]]
        world.kill(held[0].rpartition("/")[2].partition("#")[0])
        seen = await watched(world, service, 20.0)
        assert "SCALEOUT_CREATING_SE" in seen and seen[-1] == "SCALEOUT_SUCCESS"
        found = status(world, service)
        assert found["scale_status"]["action"] == "SE_REMOVED"
        assert found["last_scale_status"]["action"] == "INITIAL_PLACEMENT"

    play(story)


def test_a_scale_out_whose_engine_dies_is_rolled_back_with_the_reason() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=4)
        service = await world.service("s", "g")
        await world.pass_time(5.0)
        known = set(world.agents)
        await world.operate(service["uuid"], "scaleout", to_new_se=True)
        while not (new := [engine for engine in world.controller.ledger.engines if engine not in known]):
            await world.pass_time(0.02)
        while status(world, service)["scale_status"]["state"] == "SCALEOUT_CREATING_SE":
            await world.pass_time(0.01)
        world.kill(new[0])
        await world.pass_time(20.0)
        found = status(world, service)["scale_status"]
        assert (found["state"], found["action"], found["action_success"]) == ("SCALEOUT_ROLLBACK", "SCALE_OUT", False)
        assert "failed" in found["reason"][0] and found["scale_se"] == new[0]

    play(story)


def test_a_disabled_service_says_so_and_is_placed_again() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=2)
        service = await world.service("s", "g")
        await world.pass_time(5.0)
        await world.patch("virtualservice", service["uuid"], enabled=False)
        await world.pass_time(40.0)
        found = status(world, service)
        assert (found["scale_status"]["state"], found["fsm_state_name"]) == ("SCALEOUT_ERROR_DISABLED", "Disabled")
        assert found["scale_status"]["action"] == "VS_DISABLED"
        await world.patch("virtualservice", service["uuid"], enabled=True)
        await world.pass_time(5.0)
        assert status(world, service)["scale_status"]["state"] == "SCALEOUT_SUCCESS"

    play(story)


def test_a_full_group_is_out_of_resources_with_the_reason() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=1, max_vs_per_se=1, min_scaleout_per_vs=1)
        await world.service("s", "g")
        late = await world.service("t", "g")
        await world.pass_time(5.0)
        found = status(world, late)["scale_status"]
        assert found["state"] == "SCALEOUT_RESOURCES" and "max_se 1 is reached" in found["reason"][0]
        assert (found["num_se_requested"], found["num_se_assigned"]) == (1, 0)

    play(story)
