"""Shares of new flows in the whole system, in virtual time: they reach the engines, and nothing else moves for them."""

from __future__ import annotations

from shoal.simulator.system_world import SystemWorld
from shoal.wire.counters import INTERVAL_S, Counters, EngineCounts
from tests.simulation.playing import play


class Figures:
    """Each engine's HAProxy uses the same share of one core all the time."""

    def __init__(self, world: SystemWorld, used: dict[str, float]) -> None:
        self._world, self._used = world, used
        self._number = 0

    async def tell(self, seconds: float) -> None:
        for _ in range(int(seconds / INTERVAL_S)):
            self._number += 1
            at_ms = int(self._number * INTERVAL_S * 1000)
            for engine, used in self._used.items():
                counts = EngineCounts(haproxy_cpu_ms=int(at_ms * used), machine_ms=at_ms)
                self._world.controller.metrics.take(
                    engine, Counters(epoch=engine, number=self._number, at_ms=at_ms, engine=counts)
                )
            await self._world.pass_time(INTERVAL_S)


def test_shares_reach_all_engines_of_the_vip_and_make_no_plan() -> None:
    async def story(world: SystemWorld) -> None:
        body = {"name": "g", "min_scaleout_per_vs": 2, "max_se": 4, "buffer_se": 1}
        await world.create("serviceenginegroup", body)
        await world.service("s", "g")
        await world.pass_time(5.0)
        await world.settle()
        ledger, fleet = world.controller.ledger, world.controller.fleet
        (record,) = next(iter(ledger.vips.values())).values()
        primary, secondary = (
            p.engine for p in sorted(record.placements, key=lambda p: p.engine != record.succession[0])
        )
        figures = Figures(world, {primary: 0.7, secondary: 0.2})
        acknowledged = {engine: fleet.live(engine).applied for engine in ledger.engines}
        ways = {engine: dict(fleet.live(engine).runs.ways) for engine in ledger.engines}
        await figures.tell(120.0)
        await world.pass_time(1.0)  # the last step has arrived
        told = world.agents[primary].shares[record.id]
        assert told[primary] < 900 and told[secondary] > 1100
        for engine in record.succession:
            assert world.agents[engine].shares == {record.id: told}, "who may be primary next knows them"
        assert next(iter(ledger.vips.values()))[record.id] == record, "no plan, no new list, no new generation"
        assert {engine: fleet.live(engine).applied for engine in ledger.engines} == acknowledged
        assert {engine: fleet.live(engine).runs.ways for engine in ledger.engines} == ways, "nothing was applied anew"

        await world.kill_controller()
        await world.pass_time(60.0)
        assert world.agents[secondary].shares == {record.id: told}, "without a controller the last ones stay"
        await world.start_controller()
        await world.pass_time(20.0)
        assert world.controller.shares.weights(record.id) == told, "and the next one goes on from there"
        assert world.agents[primary].shares == {record.id: told}
        figures = Figures(world, {primary: 0.2, secondary: 0.2})
        await figures.tell(120.0)
        assert world.agents[primary].shares == {record.id: told}, "as much is free everywhere: a good share stays"

    play(story)
