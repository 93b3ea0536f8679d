"""A system with engines on paper, whose controller plans and answers: for transcripts of what needs engines."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.api_world import ControlledWorld, controlled_world

PAIR = "Pair-Group"


@asynccontextmanager
async def staged_world(directory: Path) -> AsyncIterator[ControlledWorld]:
    """Three engines with ``shop`` and ``bank`` on them, and a legacy pair with ``pay``; their names are the same each
    time."""
    async with controlled_world(directory) as world:
        numbers = itertools.count(1)
        world.controller.ledger._fresh_id = lambda: f"00000000-0000-4000-8000-{next(numbers):012d}"
        await world.post("/api/serviceenginegroup", {"name": PAIR, "ha_mode": "HA_MODE_LEGACY_ACTIVE_STANDBY"})
        for name, address in (("shop", "10.9.0.11"), ("bank", "10.9.0.12")):
            await world.service(name, address)
        await world.service("pay", "10.9.0.13", f"/api/serviceenginegroup?name={PAIR}")
        await world.staged(3)
        await world.staged(2, PAIR)
        running = asyncio.create_task(world.controller.run())
        try:
            yield world
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
