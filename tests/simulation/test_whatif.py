"""What a what-if foretells comes true in virtual time: the shipping controller, placement and ownership."""

from __future__ import annotations

import random
from typing import Any

import pytest

from shoal.placement.model import PlacementState
from shoal.shell.whatif import told
from shoal.simulator.system_world import OPERATOR, SystemWorld
from shoal.simulator.virtual_time import VirtualLoop, run
from shoal.wire.counters import Counters, Counts, EngineCounts, ServiceCounts
from tests.simulation.playing import play

ENDED_S = 8.0
FABRICS = 8
FAULTS = 2
Document = dict[str, Any]


async def fabric(world: SystemWorld, chance: random.Random) -> str:
    """A group with its services, at rest; its name."""
    mode = chance.choice(["HA_MODE_SHARED", "HA_MODE_SHARED_PAIR"])
    body = {
        "name": "g",
        "ha_mode": mode,
        "max_se": 12,  # enough: who gets what of too little depends on which death is noticed first
        "max_vs_per_se": chance.choice([2, 3, 5]),
        "algo": chance.choice(["PLACEMENT_ALGO_PACKED", "PLACEMENT_ALGO_DISTRIBUTED"]),
        "vs_scalein_timeout": 1,
    }
    if mode == "HA_MODE_SHARED":
        body["buffer_se"] = chance.choice([0, 1, 2])
    await world.create("serviceenginegroup", body)
    for number in range(chance.randint(2, 6)):
        await world.service(f"vs{number}", "g")
    await world.pass_time(ENDED_S)
    return "g"


async def asked(world: SystemWorld, **body: Any) -> Document:
    return await world.controller.whatif({"group": "g", **body}, world.running.intent, OPERATOR)


def state(world: SystemWorld) -> dict[str, tuple[str, set[str]]]:
    """Of each VIP: who answers, and who serves it."""
    names = {e.id: e.name for e in world.controller.ledger.engines.values()}
    (group,) = (g["uuid"] for g in world.running.view.all("serviceenginegroup") if g["name"] == "g")
    found = {}
    for record in world.controller.ledger.vips.get(group, {}).values():
        ready = {names[p.engine] for p in record.placements if p.state is PlacementState.READY}
        machines = world.segment.engines
        owners = [
            e
            for e in machines
            if record.id in machines[e].addresses.values() and world.segment.now < machines[e].lease_until
        ]
        assert len(owners) <= 1
        found[record.id] = (names[owners[0]] if owners else "", ready)
    return found


def known(names: list[str], engines: set[str]) -> list[str]:
    """Engines that are new are called so: nobody knows beforehand what they will be called."""
    return [name if name in engines else "new" for name in names]


async def compare(world: SystemWorld, chance: random.Random) -> None:
    names = {e.name: e.id for e in world.controller.ledger.engines.values() if world.segment.engines[e.id].running}
    dead = chance.sample(sorted(names), min(len(names) - 1, chance.choice([1, 1, 2, 3])))
    foretold = await asked(world, fail_engines=dead)
    before = state(world)
    for name in dead:
        world.kill(names[name])
    await world.pass_time(ENDED_S)
    after = state(world)
    told = {vip["vip"]: vip for vip in foretold["vips"]}
    for vip, (owner, members) in before.items():
        end = told[vip]["in_the_end"] if vip in told else [owner, *sorted(members - {owner})]
        now_owner, now_members = after[vip]
        seen = known([now_owner] if now_owner else [], set(names)), sorted(known(sorted(now_members), set(names)))
        wanted = known(end[:1], set(names)), sorted(known(end, set(names)))
        assert seen == wanted, world.segment.explain(
            f"{vip} without {dead}: {seen}, foretold {wanted}: {told.get(vip)}"
        )
    running = [e for e in world.segment.engines.values() if e.running]
    assert len(running) == len(names) - len(dead) + foretold["engines"]["made"]


@pytest.mark.parametrize("seed", range(FABRICS))
def test_it_comes_as_foretold(seed: int) -> None:
    async def main(loop: VirtualLoop) -> None:
        world, chance = SystemWorld(loop, seed), random.Random(seed)
        await world.start()
        await fabric(world, chance)
        for _ in range(FAULTS):
            await compare(world, chance)

    run(main)


def counters(service: str, connections: int) -> Counters:
    return Counters(
        epoch="e",
        number=1,
        at_ms=1000,
        engine=EngineCounts(),
        services=(ServiceCounts(id=service, counts=Counts(open=connections)),),
    )


def test_what_would_help_does_not_take_back_what_is_asked() -> None:
    async def story(world: SystemWorld) -> None:
        await world.create("serviceenginegroup", {"name": "g", "max_se": 3, "max_vs_per_se": 3, "buffer_se": 1})
        for number in range(6):
            await world.service(f"web{number}", "g")
        await world.pass_time(ENDED_S)
        engine = min(e.name for e in world.controller.ledger.engines.values())
        drained = await asked(world, drain_engines=[engine])
        assert drained["hints"] == ["Raise max_se to 4, or max_vs_per_se to 6, or lower buffer_se to 0."]
        lowered = await asked(world, set={"serviceenginegroup:g.max_vs_per_se": "2"})
        assert lowered["hints"] == ["Raise max_se to 4, or lower buffer_se to 0."]
        added = await asked(world, add=4)
        assert added["hints"][0] == "Raise max_se to 4, or max_vs_per_se to 4."
        assert "not known: " in told(drained) and "0 cut" not in told(drained)
        now = told(await asked(world))
        assert "Free slots   3 of 9 (buffer 3)" in now and "none made" not in now

    play(story)


def test_it_reads_well_and_counts_the_connections_that_end() -> None:
    async def main(loop: VirtualLoop) -> None:
        world = SystemWorld(loop, 1)
        await world.start()
        body = {"name": "g", "ha_mode": "HA_MODE_SHARED", "max_se": 4, "max_vs_per_se": 2, "buffer_se": 1}
        await world.create("serviceenginegroup", body)
        services = [(await world.service(name, "g"))["uuid"] for name in ("web", "shop", "mail", "wiki")]
        await world.settle()
        await world.pass_time(1.0)
        engines = world.controller.ledger.engines
        owner = next(e for e in engines.values() if e.name == owner_of(world, services[0]))
        world.controller.metrics.take(owner.id, counters(services[0], 132))
        answer = await asked(world, fail_engines=[owner.name])
        assert answer["stays_up"] and answer["connections"]["lost"] == 132
        text = told(answer)
        first = text.splitlines()[0]
        assert first.startswith("Everything stays up: ") and first.endswith("of 4 do not answer for 20 ms to 0.3 s.")
        assert "| web" in text and " 132 " in text and f"Fails        {owner.name}" in text
        assert len(max(text.splitlines(), key=len)) <= 120
        answer = await asked(world, fail_any=2)
        text = told(answer)
        assert text.startswith("DOWN for a time: 2 of 4 virtual services go down, for about ")
        assert "(exact; there are 3 such sets)." in text and "DOWN, then new engine 1" in text
        answer = await asked(world, add=10)
        assert told(answer).startswith("NOT ENOUGH ROOM: 6 virtual services would get no engine")
        assert "What would help: " in told(answer) and "max_se" in told(answer)
        assert told(await asked(world)).startswith("Any 1 of 3 engines may fail at once, and everything stays up")
        for name in ("news", "wine", "docs", "cart", "bank"):
            await world.service(name, "g")
        await world.pass_time(ENDED_S)
        text = told(await asked(world, fail_any=1))
        assert "1 virtual service is not served as it is: bank." in text
        steps = [line.split()[-6:] for line in text.splitlines() if " of " in line and "buffer 2" in line]
        assert len(steps) == 3 and "\nFree slots   before       0 of 8 (buffer 2, SHORT)\n" in text

    run(main)


def owner_of(world: SystemWorld, service: str) -> str:
    owner: str = world.controller.read("virtualservice", service, "placement")["vips"][0]["answers"]
    return owner
