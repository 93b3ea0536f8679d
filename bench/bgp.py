"""VIPs announced by BGP: how long until a router notices a cut link (BFD 3 x 100 ms), and what draining loses (as root)."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.rig import figures
from tests.integration.bgp_world import World, world

from shoal.lab.api import Api
from shoal.lab.trials import PASSWORD

CUT_MS_MEDIAN_LIMIT = 300
PROBE_S = 3.5


async def cuts(made: World, api: Api, count: int) -> list[float]:
    found = []
    for _ in range(count):
        primary = await made.primary(api)
        found.append(await made.cut(primary))
        await made.lab.heal(primary)
        await made.router.until(made.vip, 2, 30)
        await api.placed(made.service["uuid"], 2)
    return found


async def drains(made: World, api: Api, count: int) -> list[tuple[int, int]]:
    """(new connections, those that failed) of each scale-in."""
    found = []
    path = f"virtualservice/{made.service['uuid']}"
    for _ in range(count):
        await api.post(f"{path}/scaleout", {"vip_id": "0"})
        await made.router.until(made.vip, 3)
        await api.placed(made.service["uuid"], 3)

        async def drain() -> None:
            await api.post(f"{path}/scalein", {"vip_id": "0"})
            await made.router.until(made.vip, 2)

        probed = await made.probe(PROBE_S, drain)
        found.append((len(probed.starts), len(probed.failed())))
        await api.placed(made.service["uuid"], 2)
    return found


async def measure(made: World, count: int) -> dict[str, object]:
    async with Api(made.bench.url, PASSWORD) as api:
        async with made.served():
            drained = await drains(made, api, count)
        cut = await cuts(made, api, count)
    return {
        "cut_ms_median": round(statistics.median(cut)),
        "cut_ms_median_limit": CUT_MS_MEDIAN_LIMIT,
        "cut_ms_p99": round(figures.percentile(cut, 0.99)),
        "cuts": count,
        "drains": count,
        "new_connections": sum(starts for starts, _ in drained),
        "new_connections_lost": sum(failed for _, failed in drained),
        "established_lost": 0,  # `World.served` fails otherwise
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="of cuts and of drains")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, world(Path(folder)) as made:
        print(json.dumps(asyncio.run(measure(made, options.count))))


if __name__ == "__main__":
    main()
