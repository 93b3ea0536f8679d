"""Services with an address of each family, in front of IPv6 servers: real engines with real HAProxy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from shoal.lab.api import Api, ip_address
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.private_shoal import prepared

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

OUTAGE_MS_MAX = 500.0
LATE_ANSWER_MS_MAX = 20.0


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with prepared(tmp_path_factory.mktemp("ipv6"), ipv6=True) as bench:
        yield bench


def test_both_addresses_serve_the_host_too_and_servers_are_checked(bench: Bench) -> None:
    service = bench.services["HA_MODE_SHARED"]

    async def story() -> None:
        lab = Lab(bench.options.data_dir)
        async with Api(bench.url, PASSWORD) as api:
            pool = (await api.get("pool?name=vs-ha-mode-shared-pool"))["results"][0]
            monitors = {"health_monitor_refs": ["/api/healthmonitor?name=System-HTTP"]}
            dead = {"ip": ip_address("fd00:dead::1"), "port": 80}
            servers = [*pool["servers"], dead]
            await api.call("PATCH", f"pool/{pool['uuid']}", {"replace": {**monitors, "servers": servers}})

            async def checked() -> bool:
                seen = await api.get(f"pool/{pool['uuid']}/runtime/server")
                states = {s["ip_addr"]["addr"]: s["oper_status"]["state"] for s in seen}
                return states.pop("fd00:dead::1") == "OPER_DOWN" and set(states.values()) == {"OPER_UP"}

            await api.until("the checks tell the dead server from the others", checked, 30.0)
        for address in (service["address"], service["address6"]):
            probed = await lab.probe("client", address, 80, 0.5)
            assert len(probed.starts) > 50 and not probed.failed(), probed.failed()[:3]
            reader, writer = await asyncio.open_connection(address, 80)  # from the host
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            assert b" 200 " in await reader.readline()
            writer.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    "mode, kind", [("HA_MODE_SHARED", "kill"), ("HA_MODE_SHARED_PAIR", "kill"), ("HA_MODE_SHARED", "freeze")]
)
def test_outage_is_short_and_no_dead_engine_advertises(bench: Bench, mode: str, kind: str) -> None:
    lab = Lab(bench.options.data_dir)
    trial = asyncio.run(bench.trial(lab, mode, kind, controller=True))
    asyncio.run(lab.close())
    assert trial.outage_ms <= OUTAGE_MS_MAX, trial
    assert trial.outage_ms > 0 or kind == "kill", trial  # HAProxy may outlive its guard until another has taken over
    assert trial.late_answer_ms <= LATE_ANSWER_MS_MAX, trial
    assert trial.starts > 400, trial


def test_a_family_is_added_to_a_vip_that_serves(bench: Bench) -> None:
    async def story() -> None:
        lab = Lab(bench.options.data_dir)
        async with Api(bench.url, PASSWORD) as api:
            pool = (await api.get("pool?name=vs-ha-mode-shared-pool"))["results"][0]
            servers = [(server["ip"]["addr"], server["port"]) for server in pool["servers"][:2]]
            group = "/api/serviceenginegroup?name=ha-mode-shared-pair"
            service = await api.service("late", servers, se_group_ref=group)
            assert service["address6"] == ""
            await api.placed(service["uuid"], 2)
            vsvip = (await api.get("vsvip?name=late-vip"))["results"][0]
            vip = {**vsvip["vip"][0], "auto_allocate_ip_type": "V4_V6"}
            changed = await api.call("PATCH", f"vsvip/{vsvip['uuid']}", {"replace": {"vip": [vip]}})
            address6 = changed["vip"][0]["ip6_address"]["addr"]
            assert changed["vip"][0]["ip_address"]["addr"] == service["address"]

            async def served() -> bool:
                probed = await lab.probe("client", address6, 80, 0.3)
                return len(probed.starts) > 30 and not probed.failed()

            await api.until("the new address serves on both engines", served)
        probed = await lab.probe("client", service["address"], 80, 0.3)
        assert not probed.failed(), probed.failed()[:3]

    asyncio.run(story())
