"""What the prober and a drill look at."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shoal.controller.runtime.forecast import _speaks
from shoal.controller.targets import targets
from shoal.drill.forecast import WATCHED
from shoal.wire.desired import Listener, Service
from tests.api_world import controlled_world


@pytest.mark.parametrize("kind", ["UDP", "TCP"])
async def test_a_vip_is_asked_for_a_connection_only_where_a_proxy_answers(tmp_path: Path, kind: str) -> None:
    async with controlled_world(tmp_path) as world:
        controller = world.controller

        def ports() -> list[int]:
            return [target.port for target in targets(controller.ledger, controller.compiler, world.view).vips]

        made = await world.service()
        seen: list[list[int]] = []

        def both() -> bool:
            seen.append(ports())
            return [80] in seen and seen[-1] == [0]

        working = asyncio.create_task(world.run(both))
        while [80] not in seen:
            await asyncio.sleep(0.01)
        profiles = {
            "network_profile_ref": f"/api/networkprofile?name=System-{kind}-Fast-Path",
            "application_profile_ref": "/api/applicationprofile?name=System-L4-Application",
        }
        await world.call("PATCH", f"/api/virtualservice/{made['uuid']}", 200, json={"replace": profiles})
        await working


def test_a_drill_watches_no_udp_port() -> None:
    both = Service(
        id="s",
        name="s",
        vip="v",
        addresses=("10.0.0.1",),
        enabled=True,
        mode="http",
        listeners=(Listener(port=53, port_end=53, protocol="udp"), Listener(port=53, port_end=53, fast=True)),
    )
    assert [_speaks(both, listener) for listener in both.listeners] == ["udp", "tcp"]
    assert "udp" not in WATCHED
