"""The scene that screenshots and the demonstration show: three groups, one of each HA mode."""

from __future__ import annotations

import asyncio

from .world import ConsoleWorld

SHOP = ("www", "api", "checkout", "images", "search", "login", "mail", "git", "wiki", "status", "cdn-edge", "payments")
BACK = ("ledger", "inventory", "orders", "reports", "sessions", "queue")


async def stage(world: ConsoleWorld) -> None:
    await world.post("/api/tenant", {"name": "retail"})
    await world.group("web-nm", max_vs_per_se=6, max_se=8)
    pair = {"ha_mode": "HA_MODE_SHARED_PAIR", "min_scaleout_per_vs": 2, "max_vs_per_se": 6, "max_se": 6}
    await world.group("core-aa", **pair)
    await world.group("edge-legacy", ha_mode="HA_MODE_LEGACY_ACTIVE_STANDBY")
    number = 10
    for name in SHOP:
        number += 1
        await world.virtual_service(name, f"10.9.0.{number}", "web-nm")
        await asyncio.sleep(0.05)
    for name in BACK:
        number += 1
        await world.virtual_service(name, f"10.9.1.{number}", "core-aa", servers=2)
        await asyncio.sleep(0.05)
    for name in ("vpn", "sip"):
        number += 1
        await world.virtual_service(name, f"10.9.2.{number}", "edge-legacy", servers=2)
    await world.served()
