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

from tests.integration.bgp_world import World, world

from shoal.lab.api import Api, engine_name
from shoal.lab.trials import PASSWORD

CUT_MS_MEDIAN_LIMIT = 300


async def cuts(made: World, api: Api, count: int) -> list[float]:
    found = []
    for _ in range(count):
        primary = await made.primary(api)
        found.append(await made.cut(primary))
        await made.lab.heal(primary)
        await made.router.until(made.vip, 2, 30)
        await api.placed(made.service["uuid"], 2)
    return found


async def drains(made: World, api: Api, count: int) -> int:
    """New connections through so many scale-outs and drains of the older secondary, none of which may be lost, nor an
    established one (`World.served` fails otherwise)."""
    path, tried = f"virtualservice/{made.service['uuid']}", 0
    for _ in range(count):
        async with made.served():
            primary = await made.primary(api)
            placed = (await api.placement(made.service["uuid"]))["placements"]
            secondary = next(p["se_ref"] for p in placed if engine_name(p["se_ref"]) != primary)
            await api.post(f"{path}/scaleout", {"vip_id": "0"})
            await made.router.until(made.vip, 3)
            body = {"vip_id": "0", "from_se_ref": secondary.partition("#")[0]}
            await api.post(f"{path}/scalein", body)
            await made.router.until(made.vip, 2)
            await asyncio.sleep(2.0)
        tried += made.tried
        await api.placed(made.service["uuid"], 2)
    return tried


async def measure(made: World, count: int) -> dict[str, object]:
    async with Api(made.bench.url, PASSWORD) as api:
        tried = await drains(made, api, count)
        cut = await cuts(made, api, count)
    return {
        "cut_ms_median": round(statistics.median(cut)),
        "cut_ms_median_limit": CUT_MS_MEDIAN_LIMIT,
        "cut_ms_max": round(max(cut)),
        "cuts": count,
        "drains": count,
        "new_connections": tried,
        "lost": 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="of cuts and of drains")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, world(Path(folder)) as made:
        print(json.dumps(asyncio.run(measure(made, options.count))))


if __name__ == "__main__":
    main()
