"""A virtual service that is moved to another group: a new service there (elastic-ha 3.1, last row)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from shoal.controller.ledger import Changes
from shoal.controller.records import VipRecord
from tests.api_world import ControlledWorld, controlled_world


def record(world: ControlledWorld, group: str) -> VipRecord | None:
    return next(iter(world.controller.ledger.vips.get(group, {}).values()), None)


@pytest.mark.parametrize("low", [1, 2])
async def test_moved_to_another_group_the_surplus_is_dropped(tmp_path: Path, low: int) -> None:
    async with controlled_world(tmp_path) as world:
        service = await world.service()
        old = service["se_group_ref"].rpartition("/")[2].partition("#")[0]
        body = {"name": "other", "min_scaleout_per_vs": low, "max_scaleout_per_vs": 2, "buffer_se": 0}
        new = (await world.post("/api/serviceenginegroup", body))["uuid"]
        await world.run(lambda: record(world, old))
        known = world.controller.ledger.vips[old]
        (id,) = known
        three = replace(known[id], requested=3, user_factor=2)
        await world.controller.ledger.write(Changes(vips={(old, id): three}))
        held: list[int] = []

        def moved() -> bool:
            was, now = record(world, old), record(world, new)
            held.append(len(was.placements) if was else 0)
            return was is None and now is not None

        working = asyncio.create_task(world.run(moved))
        while 3 not in held:
            await asyncio.sleep(0.01)
        change = {"replace": {"se_group_ref": f"/api/serviceenginegroup/{new}"}}
        await world.call("PATCH", f"/api/virtualservice/{service['uuid']}", 200, json=change)
        await working
        found = record(world, new)
        assert found is not None
        assert (found.requested, found.user_factor, len(found.placements)) == (low, 0, low)
