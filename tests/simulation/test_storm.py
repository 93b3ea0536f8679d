"""The shipping controller in virtual time: it loses sight of many engines at once, and of what it is not to do then."""

from __future__ import annotations

from shoal.placement.model import PlacementState
from shoal.simulator.system_world import OPERATOR, SystemWorld
from tests.simulation.playing import play

GROUP = "many"


async def engines_of_one_group(world: SystemWorld, engines: int, buffer: int = 2) -> list[str]:
    """So many engines with one virtual service each, the last ``buffer`` without any; their ids."""
    group = {"name": GROUP, "max_se": engines, "max_vs_per_se": 1, "buffer_se": buffer}
    await world.create("serviceenginegroup", group)
    for number in range(engines - buffer):
        await world.service(f"s{number}", GROUP)
    await world.settle()
    found = sorted(world.agents)
    assert len(found) == engines
    return found


def placements(world: SystemWorld) -> dict[str, list[tuple[str, str, int]]]:
    """VIP -> (engine, role, generation)."""
    records = (vip for group in world.controller.ledger.vips.values() for vip in group.values())
    return {r.id: [(p.engine, p.role.value, r.generation) for p in r.placements] for r in records}


def speakers(world: SystemWorld) -> dict[str, list[str]]:
    vips = [vip["ip_address"]["addr"] for found in world.running.view.all("vsvip") for vip in found["vip"]]
    return {address: world.segment.speakers(address) for address in vips}


def events(world: SystemWorld, name: str) -> list[str]:
    return [event.detail for event in world.controller.events_log.read({"name": name})]


def group_uuid(world: SystemWorld) -> str:
    return next(str(g["uuid"]) for g in world.running.view.all("serviceenginegroup") if g["name"] == GROUP)


def test_a_controller_cut_off_from_20_engines_that_serve_moves_nothing() -> None:
    async def story(world: SystemWorld) -> None:
        engines = await engines_of_one_group(world, 20)
        before, answering = placements(world), speakers(world)
        for engine in engines:
            world.part(engine)
        for _ in range(4):
            await world.pass_time(10.0)
            assert placements(world) == before, "something was moved"
            assert speakers(world) == answering
        assert len(world.agents) == 20, "an engine was made or deleted"
        assert len(events(world, "SE_STORM_STARTED")) == 1
        assert "20 of 20 engines vanished at once" in events(world, "SE_STORM_STARTED")[0]
        assert not events(world, "SE_DOWN")
        runtime = world.controller.read("serviceengine", engines[0], "runtime")
        assert runtime["oper_status"]["state"] == "OPER_PARTITIONED"
        assert len(world.controller.read("serviceenginegroup", group_uuid(world), "runtime")["storm"]["suspect"]) == 20
        for engine in engines:
            world.join(engine)
        await world.pass_time(2.0)
        assert "all 20 are back" in events(world, "SE_STORM_ENDED")[0]
        assert world.controller.read("serviceenginegroup", group_uuid(world), "runtime")["storm"] == {}
        await world.settle()
        assert placements(world) == before, "it did not heal without a move"
        assert not events(world, "SE_DOWN")

    play(story, 1)


def test_a_controller_that_starts_amid_a_storm_moves_nothing() -> None:
    async def story(world: SystemWorld) -> None:
        engines = await engines_of_one_group(world, 10)
        before, answering = placements(world), speakers(world)
        for engine in engines:
            world.part(engine)
        await world.kill_controller()
        await world.start_controller()
        await world.pass_time(30.0)
        assert events(world, "SE_STORM_STARTED")
        assert placements(world) == before
        assert speakers(world) == answering
        for engine in engines:
            world.join(engine)
        await world.settle()
        assert placements(world) == before

    play(story, 3)


def test_engines_that_come_back_one_by_one_are_not_given_up() -> None:
    async def story(world: SystemWorld) -> None:
        engines = await engines_of_one_group(world, 8)
        before = placements(world)
        for engine in engines:
            world.part(engine)
        await world.pass_time(15.0)
        for engine in engines:
            world.join(engine)
            await world.pass_time(6.0)
        await world.settle()
        assert placements(world) == before
        assert not events(world, "SE_DOWN")

    play(story, 4)


def test_what_is_proven_moves_also_in_a_storm() -> None:
    """Of the engines out of sight one dies indeed: its successor's claim can't be seen, the cloud's word can."""

    async def story(world: SystemWorld) -> None:
        engines = await engines_of_one_group(world, 8)
        before = placements(world)
        for engine in engines[:5]:
            world.part(engine)
        await world.pass_time(20.0)
        assert placements(world) == before
        held = {placed[0][0]: vip for vip, placed in before.items()}
        dead = next(engine for engine in engines[:5] if engine in held)
        world.kill(dead)
        await world.pass_time(20.0)
        moved = {vip for vip, placed in placements(world).items() if placed != before[vip]}
        assert moved == {held[dead]}
        for engine in engines[:5]:
            if engine != dead:
                world.join(engine)
        await world.settle()

    play(story, 5)


def test_20_dead_engines_are_replaced_at_the_pace_allowed() -> None:
    async def story(world: SystemWorld) -> None:
        engines = await engines_of_one_group(world, 20)
        await world.patch("controllerproperties", "controllerproperties-default", moves_per_minute_max=24)
        before = placements(world)
        for engine in engines:
            world.kill(engine)
        placed: list[int] = []
        for _ in range(55):
            await world.pass_time(1.0)
            now = placements(world)
            placed.append(sum(now[vip] != before[vip] and bool(now[vip]) for vip in now))
        assert len(events(world, "SE_DOWN")) == 20, "the cloud says that they are off"
        in_15_s = [later - earlier for earlier, later in zip(placed, placed[15:], strict=False)]
        assert max(in_15_s) <= 7, "24 a minute, and one at once"
        assert placed[0] < 3 and placed[-1] == 18
        await world.settle()
        ready = [r for g in world.controller.ledger.vips.values() for v in g.values() for r in v.placements]
        assert all(p.state is PlacementState.READY and p.engine not in engines for p in ready)
        await world.pass_time(15.0)
        assert events(world, "SE_STORM_ENDED")

    play(story, 6)


def test_an_operator_ends_a_storm_and_what_is_dead_is_replaced() -> None:
    """A cloud that can't tell: its engines are frozen, and none is left to claim anything."""

    async def story(world: SystemWorld) -> None:
        engines = await engines_of_one_group(world, 6)
        before = placements(world)
        for engine in engines:
            world.freeze(engine)
        await world.pass_time(60.0)
        assert placements(world) == before
        answer = await world.controller.operate("serviceenginegroup", group_uuid(world), "endstorm", {}, OPERATOR)
        assert answer["status"].startswith("counted as down: ")
        await world.settle()
        assert not {p[0] for placed in placements(world).values() for p in placed} & set(engines)

    play(story, 7)


def test_engines_that_lose_their_power_are_proven_dead_by_the_cloud() -> None:
    """They close no connection, and the controller's kernel would not notice for a quarter of an hour. All of them, so no peer
    takes over, which would prove it, too."""

    async def story(world: SystemWorld) -> None:
        engines = await engines_of_one_group(world, 10, buffer=4)
        for engine in engines:
            world.part(engine)  # what its kernel says as it dies is not heard
            world.kill(engine)
        await world.pass_time(10.0)
        assert len(events(world, "SE_STORM_STARTED")) == 1
        assert len(events(world, "SE_DOWN")) == 10
        await world.settle()
        assert len(placements(world)) == 6
        assert all(len(speaking) == 1 for speaking in speakers(world).values())

    play(story)


def test_one_without_a_service_that_loses_its_power_is_down_as_soon_as_the_cloud_says_so() -> None:
    async def story(world: SystemWorld) -> None:
        engines = await engines_of_one_group(world, 3, buffer=2)
        held = {p[0] for found in placements(world).values() for p in found}
        spare = next(engine for engine in engines if engine not in held)
        world.part(spare)
        world.kill(spare)
        await world.pass_time(2.7)  # a second between two statuses, and QUIET_AFTER_S
        (told,) = events(world, "SE_DOWN")
        assert "none of its processes runs" in told

    play(story)
