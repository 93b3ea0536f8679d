"""What a plan says is what the controller then does: random small worlds and edits, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from shoal.controller.plans import Plans, Wish
from shoal.errors import Invalid, Refused
from shoal.placement.model import PlacementState
from shoal.simulator.system_world import OPERATOR, SystemWorld
from shoal.simulator.virtual_time import VirtualLoop, run

GROUP = "group"
MODES = ["HA_MODE_SHARED", "HA_MODE_SHARED_PAIR", "HA_MODE_LEGACY_ACTIVE_STANDBY"]
AFTERWARDS_S = 60.0
"""Longer than any drain."""
STEP_S = 0.02
SILENT_S = {
    "none": (0.0, 0.05),
    "drain": (0.0, 0.05),
    "handover": (0.0, 0.05),
    "cut": (0.0, 1.0),
    "wait": (0.1, 5.0),
    "down": (AFTERWARDS_S - 5.0, AFTERWARDS_S),
    "stop": (AFTERWARDS_S - 5.0, AFTERWARDS_S),
}
"""For how long nobody answers for a VIP, least and most, by what the plan says of it."""
T = TypeVar("T")


async def at_once(work: Callable[..., T], *words: Any) -> T:
    """In the loop's own thread: virtual time does not wait for others."""
    return work(*words)


class Trial:
    """One world, one edit."""

    def __init__(self, world: SystemWorld, seed: int) -> None:
        self.world = world
        self.random = random.Random(f"plans/{seed}")
        self.unserved: set[str] = set()
        self.silent_s: dict[str, float] = {}
        """VIP -> the longest time for which nobody answered for it, after the edit."""

    @property
    def plans(self) -> Plans:
        return self.world.controller.plans(self.world.running.intent, aside=at_once)

    async def build(self) -> None:
        pick = self.random.choice
        group = {
            "name": GROUP,
            "ha_mode": pick([*MODES, "HA_MODE_SHARED"]),
            "algo": pick(["PLACEMENT_ALGO_PACKED", "PLACEMENT_ALGO_DISTRIBUTED"]),
            "buffer_se": pick([0, 1]),
            "max_se": pick([3, 4, 6]),
            "max_vs_per_se": pick([2, 3, 5]),
            "vs_host_redundancy": pick([True, False]),
            "se_deprovision_delay": 120,
        }
        self.group = (await self.world.create("serviceenginegroup", group))["uuid"]
        self.services = []
        for number in range(self.random.randint(1, 5)):
            self.services.append((await self.world.service(f"web-{number}", GROUP))["uuid"])
        await self.quiet()

    async def quiet(self) -> None:
        """Until nothing is on its way any more (some VIPs may have no engine: `max_se`)."""
        await self.world.pass_time(AFTERWARDS_S)

    def wish(self) -> Wish:
        pick = self.random.choice
        field, value = pick(
            [
                ("ha_mode", pick(MODES)),
                ("ha_mode", pick(MODES)),
                ("min_scaleout_per_vs", pick([1, 2])),
                ("buffer_se", pick([0, 1, 2])),
                ("max_se", pick([2, 5, 8])),
                ("max_vs_per_se", pick([1, 2, 6])),
                ("algo", pick(["PLACEMENT_ALGO_PACKED", "PLACEMENT_ALGO_DISTRIBUTED"])),
            ]
        )
        edit = Wish(method="PATCH", type="serviceenginegroup", uuid=self.group, body={"replace": {field: value}})
        engines = [engine.id for engine in self.world.controller.ledger.engines_of(self.group)]
        state = pick(["SE_STATE_DISABLED", "SE_STATE_DISABLED", "SE_STATE_DISABLED_FORCE"])
        disable = Wish(
            method="PATCH", type="serviceengine", uuid=pick(engines), body={"replace": {"enable_state": state}}
        )
        service = pick(self.services)
        stop = Wish(method="PATCH", type="virtualservice", uuid=service, body={"replace": {"enabled": False}})
        delete = Wish(method="DELETE", type="virtualservice", uuid=service)
        operation = pick(["scaleout", "scalein", "migrate", "switchover"])
        operate = Wish(method="POST", type="virtualservice", uuid=service, operation=operation, body={"vip_id": "0"})
        remove = Wish(method="POST", type="serviceengine", uuid=pick(engines), operation="forcedelete")
        return pick([edit, edit, edit, disable, disable, stop, delete, operate, operate, remove])

    async def carry_out(self, id: str, wish: Wish) -> None:
        intent, operate = self.world.running.intent, self.world.controller.operate

        def write(guard: Callable[[], None]) -> Awaitable[Any]:
            if wish.operation:
                return operate(wish.type, wish.uuid, wish.operation, wish.body, OPERATOR, guard)
            if wish.method == "DELETE":
                return intent.delete(wish.type, wish.uuid, OPERATOR, guard=guard)
            return intent.patch(wish.type, wish.uuid, wish.body, OPERATOR, guard=guard)

        await self.plans.apply(id, wish, OPERATOR, write)

    async def watch(self) -> None:
        """Note which VIPs are without a serving engine meanwhile, and for how long nobody answers for them."""
        heard = dict.fromkeys(self.addresses(), self.world.now)
        end = self.world.now + AFTERWARDS_S
        while self.world.now < end:
            for record in self.world.controller.ledger.vips.get(self.group, {}).values():
                if not any(p.state is not PlacementState.WAITING for p in record.placements):
                    self.unserved.add(record.id)
            for vip, address in self.addresses().items():
                if self.world.segment.speakers(address):
                    heard[vip] = self.world.now
                silent = self.world.now - heard.get(vip, self.world.now)
                self.silent_s[vip] = max(self.silent_s.get(vip, 0.0), silent)
            await self.world.pass_time(STEP_S)

    def addresses(self) -> dict[str, str]:
        vsvips = self.world.running.view.all("vsvip")
        return {f"{d['uuid']}/{vip['vip_id']}": vip["ip_address"]["addr"] for d in vsvips for vip in d["vip"]}

    def standing(self) -> dict[str, tuple[list[str], str]]:
        """VIP -> (its engines, its owner)."""
        names = {engine.id: engine.name for engine in self.world.controller.ledger.engines.values()}
        return {
            record.id: (
                sorted(names[p.engine] for p in record.placements if p.state is not PlacementState.DRAINING),
                names.get(record.succession[0], "") if record.succession else "",
            )
            for record in self.world.controller.ledger.vips.get(self.group, {}).values()
        }

    def engines(self) -> list[str]:
        return [engine.name for engine in self.world.controller.ledger.engines_of(self.group)]


def play(seed: int) -> str:
    """What was asked for; "" if the plan was refused."""

    async def main(loop: VirtualLoop) -> str:
        world = SystemWorld(loop, seed)
        await world.start()
        trial = Trial(world, seed)
        await trial.build()
        wish = trial.wish()
        before, engines = trial.standing(), trial.engines()
        try:
            plan = (await trial.plans.plan(wish, OPERATOR)).document
        except (Refused, Invalid):
            return ""
        assert (trial.standing(), trial.engines()) == (before, engines), "a plan changed something"
        await trial.carry_out(plan["id"], wish)
        await trial.watch()
        compare(trial, plan, before, engines, world.segment.explain(f"{wish}\n{plan}"))
        return wish.operation or wish.method

    return run(main)


def compare(
    trial: Trial, plan: dict[str, Any], before: dict[str, tuple[list[str], str]], engines: list[str], told: str
) -> None:
    groups = plan["groups"]
    made = [engine for group in groups for engine in group["engines_made"]]
    deleted = [e["serviceengine"] for group in groups for e in group["engines_deleted"] if not e["after_s"]]
    fresh = [engine for engine in trial.engines() if engine not in engines]
    removed = [engine for engine in engines if engine not in trial.engines()]
    assert len(fresh) == len(made), f"{len(made)} engines were to be made, {fresh} were; {told}"
    real = {f"new engine {n}": name for n, name in enumerate(fresh, start=1)}
    assert sorted(removed) == sorted(deleted), f"{deleted} were to go, {removed} went; {told}"
    expected = dict(before)
    down = set()
    for vip in (vip for group in groups for vip in group["vips"]):
        was = before.get(vip["vip"], ([], ""))[0]
        now = [engine for engine in was if engine not in vip["from"]] + [real.get(e, e) for e in vip["to"]]
        expected[vip["vip"]] = (sorted(now), real.get(vip["owner_after"], vip["owner_after"]))
        if vip["interruption"] in ("wait", "down", "stop"):
            down.add(vip["vip"])
        silent = trial.silent_s.get(vip["vip"], 0.0)
        least, most = SILENT_S[vip["interruption"]] if vip["owner_before"] else (0.0, AFTERWARDS_S)
        assert least <= silent <= most, f"{vip['vip']}: {vip['interruption']}, and silent for {silent:.2f} s; {told}"
    standing = trial.standing()
    for vip, stands in expected.items():
        assert standing.get(vip, ([], "")) == stands, f"{vip}: {stands} was planned, {standing.get(vip)} came; {told}"
    assert {vip for vip in trial.unserved if before[vip][0]} <= down, f"down without a word: {trial.unserved}; {told}"


@pytest.mark.parametrize("seed", range(30))
def test_the_plan_is_what_comes(seed: int) -> None:
    play(seed)
