"""Virtual services and their profiles: what is not served is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api_world import World, api_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


@pytest.mark.parametrize("profile", ["System-UDP-Fast-Path", "mine"])
async def test_a_udp_service_is_refused_until_udp_is_served(world: World, profile: str) -> None:
    await world.post("/api/networkprofile", {"name": "mine", "profile": {"type": "PROTOCOL_TYPE_UDP_PROXY"}})
    made = await world.service()
    path = f"/api/virtualservice/{made['uuid']}"
    reference = f"/api/networkprofile?name={profile}"
    change = {"replace": {"network_profile_ref": reference}}
    problem = (await world.call("PATCH", path, 400, json=change))["problems"][0]
    assert problem["path"] == "network_profile_ref"
    assert problem["why"] == f"{profile} is UDP, which is not served yet" and "System-TCP-Proxy" in problem["hint"]
    ports = {"replace": {"services": [{"port": 80, "override_network_profile_ref": reference}]}}
    problem = (await world.call("PATCH", path, 400, json=ports))["problems"][0]
    assert problem["path"] == "services[0].override_network_profile_ref"


async def test_a_profile_in_use_does_not_become_udp(world: World) -> None:
    made = await world.service()
    mine = await world.post("/api/networkprofile", {"name": "mine", "profile": {"type": "PROTOCOL_TYPE_TCP_PROXY"}})
    change = {"replace": {"network_profile_ref": mine["url"]}}
    await world.call("PATCH", f"/api/virtualservice/{made['uuid']}", 200, json=change)
    body = {"name": "mine", "profile": {"type": "PROTOCOL_TYPE_UDP_FAST_PATH"}}
    reply = await world.call("PUT", f"/api/networkprofile/{mine['uuid']}", 400, json=body)
    assert "UDP is not served yet, and used by virtual service web" in reply["error"]
