"""A legacy active/standby pair of real engines under traffic: switchover, takeover, no fail-back, redistribute."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from shoal.lab.api import Api, Refusal, engine_name
from shoal.lab.network import Lab
from shoal.lab.probe import Probed
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.private_shoal import launched

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

OUTAGE_MS_MAX = 500.0
LATE_ANSWER_MS_MAX = 20.0
PROBE_S = 1.5


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with launched(tmp_path_factory.mktemp("legacy")) as bench:
        yield bench


class Pair:
    """The group ``pair``: ``web`` of the first side, ``shop`` of the second."""

    def __init__(self, lab: Lab, api: Api) -> None:
        self.lab, self.api = lab, api
        self.services: dict[str, Any] = {}
        self.group = ""

    async def make(self) -> None:
        backend = await self.lab.backend("web1")
        await self.lab.node("client")
        body = {
            "name": "pair",
            "ha_mode": "HA_MODE_LEGACY_ACTIVE_STANDBY",
            "distribute_load_active_standby": True,
            "vs_scalein_timeout": 1,
        }
        self.group = (await self.api.post("serviceenginegroup", body))["uuid"]
        for name, side in (("web", 1), ("shop", 2)):
            more = {"se_group_ref": f"/api/serviceenginegroup/{self.group}"}
            tag = f"ACTIVE_STANDBY_SE_{side}"
            servers = [(backend.address, backend.port)]
            self.services[name] = await self.api.service(name, servers, active_standby_se_tag=tag, **more)
        await self.whole()

    async def whole(self) -> None:
        """Each service has one active and one armed standby, and the active answers."""

        async def check() -> bool:
            for service in self.services.values():
                found = await self.api.placement(service["uuid"])
                names = [engine_name(reference) for reference in found["succession"]]
                if not found["armed"] or len(names) != 2 or found["answers"] != names[0]:
                    return False
                if len(found["placements"]) != 1:
                    return False
            return True

        await self.api.until("both are active on one engine and armed on the other", check)

    async def roles(self, name: str) -> tuple[str, str]:
        """(the active engine's name, the standby's)"""
        (vip,) = (await self.api.runtime(self.services[name]["uuid"]))["vip_summary"]
        assert (vip["num_se_requested"], vip["num_se_assigned"], vip["percent_ses_up"]) == (2, 2, 100)
        (active,) = (e for e in vip["service_engine"] if e["primary"])
        (standby,) = (e for e in vip["service_engine"] if e["standby"])
        return active["name"], standby["name"]

    async def tags(self, engine: str) -> Any:
        return (await self.api.get(f"serviceengine/{await self.uuid(engine)}/runtime"))["active_tags"]

    async def uuid(self, engine: str) -> str:
        return str((await self.api.get(f"serviceengine?name={engine}"))["results"][0]["uuid"])

    async def probed(self, name: str, during: Callable[[], Awaitable[Any]]) -> Probed:
        address = self.services[name]["address"]
        probing = asyncio.create_task(self.lab.probe("client", address, 80, PROBE_S))
        await asyncio.sleep(0.5)
        await during()
        return await probing


def test_a_pair_lives_through_switchover_takeover_and_redistribute(bench: Bench) -> None:
    async def story() -> None:
        async with Lab(bench.options.data_dir) as lab, Api(bench.url, PASSWORD) as api:
            pair = Pair(lab, api)
            await pair.make()
            first, second = await pair.roles("web")
            assert await pair.roles("shop") == (second, first), "each is the other's standby"
            assert [await pair.tags(e) for e in (first, second)] == [["ACTIVE_STANDBY_SE_1"], ["ACTIVE_STANDBY_SE_2"]]
            await switched_over(pair, first, second)
            third = await taken_over(pair, first, second)
            await redistributed(pair, first, third)

    asyncio.run(story())


async def switched_over(pair: Pair, first: str, second: str) -> None:
    """Web to the second engine by API, all back by the engine's switchover: no request fails."""
    service = pair.services["web"]["uuid"]
    found = await pair.probed("web", lambda: pair.api.post(f"virtualservice/{service}/switchover", {"vip_id": "0"}))
    assert found.failed() == [], "a planned move fails no request"
    await pair.whole()
    assert await pair.roles("web") == (second, first)
    second_uuid = await pair.uuid(second)
    with pytest.raises(Refusal, match=r"can't be disabled.*switchover serviceengine"):
        await pair.api.call("PATCH", f"serviceengine/{second_uuid}", {"replace": {"enable_state": "SE_STATE_DISABLED"}})
    found = await pair.probed("shop", lambda: pair.api.post(f"serviceengine/{second_uuid}/switchover", {}))
    assert found.failed() == []
    await pair.whole()
    assert await pair.roles("web") == await pair.roles("shop") == (first, second)


async def taken_over(pair: Pair, first: str, second: str) -> str:
    """The active engine of both dies: the survivor has both, a new engine is its standby. The new engine's name."""

    async def kill() -> None:
        pair.lab.kill(first)

    found = await pair.probed("web", kill)
    assert found.failed() and found.outage_ms() <= OUTAGE_MS_MAX
    assert found.late_answers_ms() <= LATE_ANSWER_MS_MAX
    await pair.whole()
    (active, third), other = await pair.roles("web"), await pair.roles("shop")
    assert active == second and third not in (first, second) and other == (second, third)
    await pair.api.post(f"serviceengine/{await pair.uuid(first)}/reboot", {})

    async def gone() -> bool:
        return not (await pair.api.get(f"serviceengine?name={first}"))["results"]

    await pair.api.until("the former one returns and goes: a pair has two", gone)
    assert await pair.roles("web") == await pair.roles("shop") == (second, third), "no fail-back"
    return third


async def redistributed(pair: Pair, second: str, third: str) -> None:
    """Shop is of the second side, which is the younger engine now."""
    group = f"serviceenginegroup/{pair.group}/redistribute"
    found = await pair.probed("shop", lambda: pair.api.post(group, {}))
    assert found.failed() == []
    await pair.whole()
    active, standby = await pair.roles("shop")
    assert (active, await pair.roles("web")) == (third, (standby, third))
    events = (await pair.api.get("analytics/logs?type=2&page_size=200"))["results"]
    assert sum(event["event_id"] == "VS_SWITCHOVER" for event in events) >= 5
