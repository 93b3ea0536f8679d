"""What the controller costs a change in fleets of 1,000 to 10,000 virtual services, ten on each engine.

Run: ``python bench/controller.py``; prints one JSON object. The controller, placement and store contract are the real ones,
in virtual time (`shoal.simulator.fleet`); engines are simulated, and what these cost is in the figures, too, but for
their regular statuses: the processor time of a stretch in which nothing happens is subtracted. Milliseconds of one core,
as median and maximum of several.

* ``idle``: a second in which nothing happens: statuses of all engines, encoded, taken in and looked at.
* ``review``: the look at the whole fleet that is taken now and then, whatever happens (`REVIEWS_SHARE_MAX`).
* ``word``: an engine says once more what it runs; a plan follows.
* ``pool``: a pool is edited: no plan, one engine's configuration.
* ``edit``: a virtual service is disabled; ``add``: pool, VsVip and virtual service are made, placed and served;
  ``delete``: the virtual service goes.
* ``scale_out``: of one virtual service, until it is done; ``death``: of an engine with ten VIPs, until all are elsewhere;
  ``host``: of a host with 20 engines.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from shoal.simulator.fleet import ENGINES_A_HOST, GROUP, PAUSE_S, QuietNetwork, fill
from shoal.simulator.history import Shape
from shoal.simulator.silence import silence
from shoal.simulator.system_world import SystemWorld
from shoal.simulator.virtual_time import VirtualLoop, run
from shoal.wire.messages import Applied

SIZES = (1_000, 3_000, 10_000)
VIPS_PER_ENGINE = 10
SETTLE_S = 3.0
"""Virtual; every event is over by then."""
START_S = 40.0
NEVER_S = 1e9


def spread(times: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(times), 1), "max": round(max(times), 1), "count": len(times)}


class Bench:
    def __init__(self, world: SystemWorld, services: int) -> None:
        self.world = world
        self.services = services
        self.idle_ms = 0.0
        """Of a virtual second."""
        self.serial = 0

    async def stretch(self, happen: Callable[[], Awaitable[None]]) -> float:
        """Milliseconds of processor, from before ``happen`` to `SETTLE_S` after it, without those of regular statuses."""
        gc.collect()
        gc.disable()
        began, began_at = time.process_time(), self.world.now
        await happen()
        await self.world.pass_time(SETTLE_S)
        took = (time.process_time() - began) * 1000
        gc.enable()
        return took - self.idle_ms * (self.world.now - began_at)

    async def cost(self, happen: Callable[[], Awaitable[None]], count: int, times: int = 1) -> dict[str, float]:
        """``happen`` does it ``times`` times."""
        return spread([await self.stretch(happen) / times for _ in range(count)])

    async def nothing(self) -> None:
        pass

    def next(self, among: int) -> int:
        self.serial += 1
        return self.serial * 7919 % among

    # --- events ---

    async def words(self) -> None:
        for _ in range(10):
            agents = sorted(self.world.agents)
            agent = self.world.agents[agents[self.next(len(agents))]]
            agent._say(Applied(root=agent._applied, how="none", took_ms=1.0))
            await self.world.pass_time(2 * PAUSE_S)

    async def pool(self) -> None:
        pools = self.world.running.view.all("pool")
        uuid = pools[self.next(len(pools))]["uuid"]
        await self.world.patch("pool", uuid, default_server_port=8000 + self.serial)

    async def edit(self) -> None:
        services = self.world.running.view.all("virtualservice")
        await self.world.patch("virtualservice", services[self.next(len(services))]["uuid"], enabled=False)

    async def add(self) -> None:
        self.serial += 1
        await self.world.service(f"new-{self.serial}", GROUP)

    async def delete(self) -> None:
        services = self.world.running.view.all("virtualservice")
        await self.world.delete("virtualservice", services[self.next(len(services))]["uuid"])

    async def scale_out(self) -> None:
        services = [s for s in self.world.running.view.all("virtualservice") if s.get("enabled", True)]
        await self.world.operate(services[self.next(len(services))]["uuid"], "scaleout")

    async def death(self) -> None:
        alive = [id for id, engine in self.world.segment.engines.items() if engine.running]
        self.world.kill(sorted(alive)[self.next(len(alive))])

    async def host(self) -> None:
        host = self.world.hosts[self.next(len(self.world.hosts))]
        for id in sorted(self.world.agents):
            if self.world.cloud.host_of(id) == host and self.world.segment.engines[id].running:
                self.world.kill(id)


async def begun(world: SystemWorld, engines: int, services: int) -> None:
    """A controller that has placed everything, and whose reviews come when they are asked for; nor is any plan made from
    scratch beside, as is done each few minutes (in virtual time, in which it takes none, it would be each ten seconds)."""
    world.segment = QuietNetwork(world.segment)
    await world.start()
    await fill(world, engines, services)
    await world.start_controller()
    reconciler = world.controller.reconciler
    reconciler.pause_s_min = PAUSE_S
    await world.pass_time(START_S)
    reconciler._review_at = NEVER_S
    reconciler._planning._check_at[world.running.view.named("serviceenginegroup", GROUP)["uuid"]] = NEVER_S  # type: ignore[index]
    await world.pass_time(SETTLE_S)


async def measured(loop: VirtualLoop, services: int, count: int) -> dict[str, Any]:
    engines = max(2, services // VIPS_PER_ENGINE)
    world = SystemWorld(loop, 1, Shape(hosts=max(2, engines // ENGINES_A_HOST)).host_names)
    bench = Bench(world, services)
    began = time.process_time()
    await begun(world, engines, services)
    found: dict[str, Any] = {"services": services, "engines": engines}
    found["start_s"] = round(time.process_time() - began, 1)
    idle = [await bench.stretch(bench.nothing) / SETTLE_S for _ in range(count)]
    bench.idle_ms = statistics.median(idle)
    found["idle_ms"] = spread(idle)
    found["word_ms"] = await bench.cost(bench.words, count, 10)
    for name in ("pool", "edit", "add", "delete", "scale_out", "death"):
        found[f"{name}_ms"] = await bench.cost(getattr(bench, name), count)
    found["host_ms"] = await bench.cost(bench.host, 1)
    reconciler = world.controller.reconciler

    async def review() -> None:
        reconciler._review_at = 0.0
        reconciler._wanted.set()
        await asyncio.sleep(PAUSE_S)
        reconciler._review_at = NEVER_S

    found["review_ms"] = await bench.cost(review, min(count, 3))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="virtual services")
    parser.add_argument("--count", type=int, default=7, help="how often each thing happens")
    options = parser.parse_args()
    results = []
    for services in options.sizes:
        with silence():
            results.append(run(lambda loop, n=services: measured(loop, n, options.count)))  # type: ignore[misc]
    print(json.dumps({"benchmark": "controller", "results": results}, indent=2))


if __name__ == "__main__":
    main()
