"""The scene that tests, screenshots and the demonstration show: three groups, one of each HA mode; for pictures a fourth."""

from __future__ import annotations

import asyncio

from .world import ConsoleWorld

SHOP = ("www", "api", "checkout", "images", "search", "login", "mail", "git", "wiki", "status", "cdn-edge", "payments")
BACK = ("ledger", "inventory", "orders", "reports", "sessions", "queue")
CROWD = (
    "accounts", "adverts", "basket", "billing", "blog", "catalog", "chat", "coupons", "delivery", "docs", "events", "feeds",
    "fraud", "gifts", "help", "identity", "jobs", "loyalty", "maps", "metrics", "news", "notify", "partners", "photos",
    "prices", "profile", "ratings", "refunds", "sales", "stock", "stores", "tax", "tickets", "track", "video", "wishlist",
)  # fmt: skip
SCALED = ("accounts", "catalog", "identity", "prices", "video")
"""Those of the crowd on two engines."""


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


async def crowd(world: ConsoleWorld) -> None:
    """A group with engines on every host, full enough to be worth a picture."""
    await world.group("prod-web", max_vs_per_se=8, max_se=12, buffer_se=2)
    for number, name in enumerate(CROWD, 10):
        await world.virtual_service(name, f"10.9.4.{number}", "prod-web", servers=2)
    await world.served()
    for name in SCALED:
        service = world.view.named("virtualservice", name)
        assert service is not None
        await world.post(f"/api/virtualservice/{service['uuid']}/scaleout", {"vip_id": "0"}, 200)
    await world.served()
