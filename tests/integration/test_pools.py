"""What pools ask for, as documents, on a real HAProxy: which servers clients get, what these are told, and what becomes of
servers that come, go and fail."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shoal.controller.capacity import Capacities
from shoal.controller.desired import VipIntent, service_part
from shoal.controller.metrics import Metrics
from shoal.engine.client_logs import ClientLogs
from shoal.engine.fastpath.carrier import Carrier
from shoal.engine.haproxy import render, runtime, stats, steer
from shoal.engine.monitors.checks import Checks
from shoal.engine.counters import Tally
from shoal.wire.client_logs import SLOW
from shoal.wire.desired import Service

from shoal.objects import views
from . import test_http
from shoal.wire.counters import Counters, EngineCounts
from .private_host import private_host
from tests.api_world import Clock, controlled_world
from .test_http import (
    BACKEND,
    Documents,
    answered,
    ask,
    PORT,
    drawn,
    facts_of,
    of_documents,
    pool_of,
    ref,
    running,
    switch,
)

pytestmark = pytest.mark.root

LEAST = {"lb_algorithm": "LB_ALGORITHM_LEAST_CONNECTIONS"}
BY_KEY = {
    "lb_algorithm": "LB_ALGORITHM_CONSISTENT_HASH",
    "lb_algorithm_hash": "LB_ALGORITHM_CONSISTENT_HASH_CUSTOM_HEADER",
    "lb_algorithm_consistent_hash_hdr": "X-Key",
}
AT_ONCE = 12
KEYS = [str(key) for key in range(12)]


@pytest.fixture(autouse=True)
def alone() -> Any:
    with private_host():
        yield


def service_of(pools: dict[str, dict[str, Any]], more: Documents | None = None, **fields: Any) -> Service:
    """Requests go to the pool whose name their path begins with."""
    rules = [switch(index, f"/{name}/", pool_ref=ref("pool", name)) for index, name in enumerate(pools, 10)]
    rules += [
        switch(index, f"/{uuid}/", pool_group_ref=ref("poolgroup", uuid))
        for index, (type, uuid) in enumerate(more or {}, 90)
        if type == "poolgroup"
    ]
    documents: Documents = {("pool", name): pool for name, pool in pools.items()}
    documents |= {**(more or {}), ("httppolicyset", "set"): {"http_request_policy": {"rules": rules}}}
    return of_documents(documents, http_policies=[{"index": 1, "http_policy_set_ref": ref("x", "set")}], **fields)


def with_servers(pool: dict[str, Any], *changes: dict[str, Any]) -> dict[str, Any]:
    """Each server with its change."""
    servers = [{**server, **change} for server, change in zip(pool["servers"], changes, strict=True)]
    return {**pool, "servers": servers}


def kept_by(profile: str) -> dict[str, str]:
    return {"application_persistence_profile_ref": ref("x", profile)}


async def told(folder: Path, *commands: str) -> None:
    for command in commands:
        said = await runtime.command(f"{folder}/admin.sock", command)
        assert said.strip() in ("", "Server deleted.", "New server registered."), (command, said)


async def at_once(path: str) -> Counter[str]:
    """Which servers get requests that are under way together."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(answered(f"{path}/slow")) for _ in range(AT_ONCE)]
    return Counter(task.result().headers["x-server"] for task in tasks)


async def until(holds: Callable[[], bool], within_s: float = 4.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.02)


async def test_servers_that_come_up_get_their_share_by_and_by_and_a_pool_needs_enough(tmp_path: Path) -> None:
    fresh = with_servers(pool_of(0, 1, **LEAST), {}, {"enabled": False})
    pools = {
        "ramp": fresh,
        "at-once": {**fresh, "connection_ramp_duration": 0},
        "two": pool_of(0, 1, min_servers_up=2),
        "rest": pool_of(3),
    }
    members = [
        {"pool_ref": ref("pool", "two"), "priority_label": "2"},
        {"pool_ref": ref("pool", "rest"), "priority_label": "1"},
    ]
    async with running(tmp_path, service_of(pools, {("poolgroup", "group"): {"members": members}})):
        assert set(await drawn(4, "/two/")) == set(await drawn(4, "/group/")) == {"s0", "s1"}
        await told(
            tmp_path, *(f"set server be_one:{p}/127.0.0.1:{BACKEND + 1} state ready" for p in ("ramp", "at-once"))
        )
        assert (await at_once("/ramp"))["s1"] <= 2
        assert (await at_once("/at-once"))["s1"] >= AT_ONCE // 3
        await told(tmp_path, f"set server be_one:two/127.0.0.1:{BACKEND + 1} state maint")
        assert (await answered("/two/")).status == 503, "the one that is left is not enough"
        assert set(await drawn(4, "/group/")) == {"s3"}


async def test_connections_to_servers_are_kept_as_the_pool_says(tmp_path: Path) -> None:
    open_: Counter[str] = Counter()

    async def counting(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_[name] += 1
        try:
            await test_http._echo(name, reader, writer)
        finally:
            open_[name] -= 1

    pools = {  # HAProxy has one clock for all of this, which is set by the first
        "brief": pool_of(2, conn_pool_properties={"upstream_connpool_conn_idle_tmo": 100}),
        "all": pool_of(1),
        "few": pool_of(0, conn_pool_properties={"upstream_connpool_server_max_cache": 1}),
    }
    async with running(tmp_path, service_of(pools), counting):
        for name in pools:
            await at_once(f"/{name}")
        await until(lambda: open_["s2"] == 0)
        assert open_["s0"] == 1 and open_["s1"] > AT_ONCE // 2


async def test_a_server_gets_no_more_connections_a_second_than_it_may(tmp_path: Path) -> None:
    came: Counter[str] = Counter()

    async def counting(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came[name] += 1
        await test_http._echo(name, reader, writer)

    def limited(count: int) -> dict[str, Any]:
        return {"max_conn_rate_per_server": {"rate_limiter": {"count": count, "period": 60}}}

    each = {"connection_multiplexing_enabled": False, "keepalive_timeout": 1000}
    more: Documents = {
        ("applicationprofile", "own"): {"type": "APPLICATION_PROFILE_TYPE_HTTP", "http_profile": each},
        ("healthmonitor", "m"): {"type": "HEALTH_MONITOR_TCP"},
    }
    pools = {"one": pool_of(0, 1, health_monitor_refs=[ref("healthmonitor", "m")], **limited(3)), "free": pool_of(2)}
    service = service_of(pools, more, application_profile_ref=ref("applicationprofile", "own"))
    carrier = Carrier("127.0.0.1", "lo", Checks(lambda: None))
    async with running(tmp_path, service, counting):
        assert (await carrier.apply({"one": service})).problems == {}
        found = [await answered("/one/") for _ in range(7)]
        assert Counter(one.headers.get("x-server") for one in found) == {"s0": 3, "s1": 3, None: 1}
        assert found[-1].status == 503 and came == {"s0": 3, "s1": 3}
        assert len(await drawn(9, "/free/")) == 9
        for port in (BACKEND, BACKEND + 1):  # as a monitor would
            (await asyncio.open_connection("127.0.0.1", port))[1].close()
        await carrier.apply({})


async def test_requests_of_a_pool_are_measured_one_by_one(tmp_path: Path) -> None:
    profile = {"apdex_response_threshold": 50}
    documents: Documents = {
        ("pool", "p"): pool_of(0, analytics_policy={"enable_realtime_metrics": True}),
        ("analyticsprofile", "quick"): profile,
    }
    service = of_documents(
        documents, logged=True, pool_ref=ref("pool", "p"), analytics_profile_ref=ref("analyticsprofile", "quick")
    )
    logs = ClientLogs(render.log_socket(facts_of(tmp_path)))
    async with running(tmp_path, service):
        with contextlib.closing(logs):
            logs.open()
            await asyncio.gather(*(answered("/slow") for _ in range(4)))
            await asyncio.sleep(0.1)
            logs.read({"one": service})
        message = logs.message()
        assert message is not None and [one.why for one in message.logged] == [SLOW] * 4


async def test_a_server_that_is_slow_to_answer_is_not_waited_for(tmp_path: Path) -> None:
    over = asyncio.Event()

    async def slow(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if name == "s0":
            await over.wait()
            writer.close()
        else:
            await test_http._echo(name, reader, writer)

    reselect = {"enabled": True, "num_retries": 1, "retry_timeout": 100}
    async with running(tmp_path, service_of({"quick": pool_of(0, 1, server_reselect=reselect)}), slow):
        async with asyncio.timeout(2):
            assert set(await drawn(4, "/quick/")) == {"s1"}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.gather(*(answered("/quick/", method="POST") for _ in range(2)))
        over.set()
        await asyncio.sleep(0.1)  # servers let go of what they have


async def test_servers_are_told_their_own_names(tmp_path: Path) -> None:
    named = with_servers(pool_of(0, 1), {"hostname": "app.internal"}, {"hostname": "db.internal"})
    same = with_servers(pool_of(0, 1), {"hostname": "app.internal"}, {"hostname": "app.internal"})
    own = {"rewrite_host_header": True}
    again = {"ip": {"addr": "127.0.0.1", "type": "V4"}, "port": BACKEND + 1}
    pools = {
        "whole": {**named, "rewrite_host_header_to_server_name": True},
        "never": {**same, "rewrite_host_header_to_server_name": True, "append_port": "NEVER"},
        "each": {**with_servers(named, own, own), "append_port": "NEVER"},
        "some": with_servers(named, own, {}),
    }
    service = service_of(pools)
    documents: Documents = {
        ("pool", "whole"): pools["whole"],
        ("pool", "looked-up"): {**named, "lookup_server_by_name": True},
    }
    moved = {"ip": {"addr": "192.0.2.1", "type": "V4"}, "hostname": "DB.internal"}
    rules = [
        switch(1, "/one", pool_ref=ref("pool", "whole"), server=again),
        switch(2, "/by-name", pool_ref=ref("pool", "looked-up"), server=moved),
    ]
    documents |= {("httppolicyset", "set"): {"http_request_policy": {"rules": rules}}}
    one = of_documents(documents, http_policies=[{"index": 1, "http_policy_set_ref": ref("x", "set")}])

    async def hosts(path: str) -> dict[str, str]:
        seen = [await answered(path) for _ in range(4)]
        return {one.headers["x-server"]: one.sent("host") for one in seen}

    async with running(tmp_path / "all", service):
        assert await hosts("/whole/") == {"s0": f"app.internal:{BACKEND}", "s1": f"db.internal:{BACKEND + 1}"}
        never = await hosts("/never/")
        assert len(never) == 2 and {host.lower() for host in never.values()} == {"app.internal"}
        assert await hosts("/each/") == {"s0": "app.internal", "s1": "db.internal"}
        assert set((await hosts("/some/")).values()) == {"www.example.com"}
    async with running(tmp_path / "one", one):
        assert await hosts("/one/") == {"s1": f"db.internal:{BACKEND + 1}"}
        assert set(await drawn(4, "/by-name")) == {"s1"}


async def test_answers_by_http2_have_headers_of_a_size(tmp_path: Path) -> None:
    """The HTTP/2 server is the virtual service itself."""
    itself = [{"ip": {"addr": "127.0.0.1", "type": "V4"}, "port": test_http.PORT}]
    fields = {"enable_http2": True, "http2_properties": {"max_http2_header_field_size": 2000}}
    pools = {"plain": pool_of(0), "h2": {**pool_of(), "servers": itself, **fields}}
    again = switch(1, "/h2/", pool_ref=ref("pool", "h2"))
    again["rewrite_url_action"] = {"path": test_http.pieces("plain/")}
    rules = [again, switch(2, "/plain/", pool_ref=ref("pool", "plain"))]
    documents: Documents = {("pool", name): pool for name, pool in pools.items()}
    documents[("httppolicyset", "set")] = {"http_request_policy": {"rules": rules}}
    service = of_documents(documents, http_policies=[{"index": 1, "http_policy_set_ref": ref("x", "set")}])
    async with running(tmp_path, service):
        for path, size, status in (("/h2/", 1990, 200), ("/h2/", 2001, 502), ("/plain/", 2001, 200)):
            assert (await answered(path, Give_X_Long="a" * size)).status == status, (path, size)


async def test_clients_are_known_by_as_much_as_the_profile_says(tmp_path: Path) -> None:
    profiles: Documents = {
        ("applicationpersistenceprofile", "address"): {"persistence_type": "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS"},
        ("applicationpersistenceprofile", "network"): {
            "persistence_type": "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS",
            "ip_persistence_profile": {"ip_mask": 24},
        },
        ("applicationpersistenceprofile", "header"): {
            "persistence_type": "PERSISTENCE_TYPE_CUSTOM_HTTP_HEADER",
            "hdr_persistence_profile": {"prst_hdr_name": "X-Key"},
        },
    }
    values = [{"prst_hdr_val": value} for value in ("north", "it's south")]
    elsewhere = [{"ip": {"addr": f"127.0.0.{n}", "type": "V4"}} for n in (1, 2)]
    pools = {
        "address": pool_of(0, 1, **kept_by("address")),
        "network": pool_of(0, 1, **kept_by("network")),
        "header": with_servers(pool_of(0, 1, **kept_by("header")), *values),
        "here": pool_of(0, 1, 2, 3, **BY_KEY),
        "turned": pool_of(3, 1, 0, 2, **BY_KEY),
        "before": with_servers(pool_of(0, 1, ignore_server_port=True, **BY_KEY), *elsewhere),
        "after": with_servers(pool_of(2, 3, ignore_server_port=True, **BY_KEY), *elsewhere),
    }
    async with running(tmp_path, service_of(pools, profiles)):

        async def of_clients(path: str, networks: list[int]) -> list[str]:
            clients = [f"127.0.{network}.{host}" for network in networks for host in range(2, 10)]
            return [(await answered(path, client=client)).headers["x-server"] for client in clients]

        assert set(await of_clients("/address/", [0])) == {"s0", "s1"}
        assert len(set(await of_clients("/network/", [0]))) == 1
        assert set(await of_clients("/network/", list(range(12)))) == {"s0", "s1"}
        assert set(await drawn(4, "/header/", X_Key="north")) == {"s0"}
        assert set(await drawn(4, "/header/", X_Key="it's south")) == {"s1"}
        here, turned, before, after = [
            [(await answered(f"/{pool}/", X_Key=key)).headers["x-server"] for key in KEYS]
            for pool in ("here", "turned", "before", "after")
        ]
        assert here == turned and len(set(here)) > 2, "whoever hears of the servers in another order"
        assert [f"s{int(name[1]) + 2}" for name in before] == after and len(set(before)) == 2


async def test_cookies_lead_to_servers_that_are_disabled_or_down_as_far_as_they_may(tmp_path: Path) -> None:
    recovery = {
        "leave": "HM_DOWN_PICK_NEW_SERVER",
        "stay": "HM_DOWN_CONTINUE_PERSISTENT_SERVER",
        "refuse": "HM_DOWN_ABORT_CONNECTION",
    }
    more: Documents = {
        ("applicationpersistenceprofile", name): {
            "persistence_type": "PERSISTENCE_TYPE_HTTP_COOKIE",
            "http_cookie_persistence_profile": {"cookie_name": "SRV"},
            "server_hm_down_recovery": value,
        }
        for name, value in recovery.items()
    }
    more[("healthmonitor", "m")] = {"type": "HEALTH_MONITOR_TCP", "send_interval": 3600}
    checked = {"health_monitor_refs": [ref("healthmonitor", "m")]}
    pools = {
        **{name: pool_of(0, 1, **kept_by(name), **checked) for name in recovery},
        "closed": pool_of(0, 1, **kept_by("leave")),
        "open": pool_of(0, 1, **kept_by("leave"), server_disable_type="ALLOW_NEW_CONNECTION_IF_PERSISTENCE_PRESENT"),
    }
    disabled = {
        name: with_servers(pool, {"enabled": False}, {}) if name in ("closed", "open") else pool
        for name, pool in pools.items()
    }
    before, after = service_of(pools, more), service_of(disabled, more)
    async with running(tmp_path, before):
        cookies = {}
        for name in pools:
            found = [await answered(f"/{name}/") for _ in range(2)]
            first = next(one for one in found if one.headers["x-server"] == "s0")
            cookies[name] = first.headers["set-cookie"].partition(";")[0]
        steering = steer.steer({"one": before}, {"one": after})
        assert steering is not None
        down = (f"set server be_one:{name}/127.0.0.1:{BACKEND} health down" for name in recovery)
        await told(tmp_path, *(command.text for command in steering.commands), *down)

        async def back(name: str) -> str:
            seen = await ask(f"/{name}/", Cookie=cookies[name])
            return seen.headers["x-server"] if seen is not None else ""

        assert {name: await back(name) for name in pools} == {
            "leave": "s1",
            "stay": "s0",
            "refuse": "",
            "closed": "s1",
            "open": "s0",
        }
        for name in pools:
            assert set(await drawn(3, f"/{name}/")) == {"s1"}, "nobody new"
