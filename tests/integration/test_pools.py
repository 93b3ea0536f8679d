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
from shoal.engine.counters import Tally
from shoal.engine.fastpath.carrier import Carrier
from shoal.engine.haproxy import render, runtime, stats, steer
from shoal.engine.monitors.checks import Checks
from shoal.objects import views
from shoal.wire.client_logs import SLOW
from shoal.wire.counters import Counters, EngineCounts
from shoal.wire.desired import Service
from tests.api_world import Clock, controlled_world

from . import test_http
from .private_host import private_host
from .test_http import (
    BACKEND,
    PORT,
    Documents,
    answered,
    ask,
    drawn,
    facts_of,
    of_documents,
    pool_of,
    ref,
    running,
    switch,
)

pytestmark = [pytest.mark.root, pytest.mark.beside]

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


async def test_a_server_has_so_long_to_answer_as_the_pool_says(tmp_path: Path) -> None:
    over = asyncio.Event()

    async def never(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    async with running(tmp_path, service_of({"short": pool_of(0, server_timeout=300), "usual": pool_of(1)}), never):
        async with asyncio.timeout(2):
            assert (await answered("/short/")).status == 504
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await answered("/usual/")
        over.set()
        await asyncio.sleep(0.1)


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


async def test_new_servers_are_checked_at_once_or_after_the_interval(tmp_path: Path) -> None:
    """HAProxy runs one of the monitors and the agent the other."""
    asks = {"http_request": "GET /health HTTP/1.0", "http_response_code": ["HTTP_2XX"]}
    monitor = {"type": "HEALTH_MONITOR_HTTP", "http_monitor": asks}
    more: Documents = {
        ("healthmonitor", "quick"): {**monitor, "send_interval": 3600},
        ("healthmonitor", "late"): {**monitor, "send_interval": 1, "failed_checks": 1, "disable_quickstart": True},
    }
    pools = {
        "quick": pool_of(0, 1, health_monitor_refs=[ref("healthmonitor", "quick")]),
        "late": pool_of(2, 3, health_monitor_refs=[ref("healthmonitor", "late")]),
    }

    async def half_ill(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /health "):
                writer.write(b"HTTP/1.0 %d Text\r\n\r\n" % (503 if name in ("s1", "s3") else 200))
            else:
                await test_http._echo(name, test_http._again(head), writer)
        writer.close()

    service = service_of(pools, more)
    checks = Checks(lambda: None)
    async with running(tmp_path, service, half_ill):
        async with asyncio.timeout(4):
            while set(await drawn(4, "/quick/")) != {"s0"}:
                await asyncio.sleep(0.02)
        began = asyncio.get_running_loop().time()
        checks.want([service])
        looking = asyncio.create_task(checks.run())
        try:
            assert set(await drawn(4, "/late/")) == {"s2", "s3"}
            await until(lambda: bool(checks.ill([service])))
        finally:
            looking.cancel()
        assert asyncio.get_running_loop().time() - began >= 1
        for server, why in checks.ill([service]).items():
            await told(tmp_path, *(command.text for command in steer.told(server, why)))
        assert set(await drawn(4, "/late/")) == {"s2"}


async def test_each_thread_has_servers_of_its_own(tmp_path: Path) -> None:
    """A connection stays with its thread."""
    by_core = {"lb_algorithm": "LB_ALGORITHM_CORE_AFFINITY"}
    pools = {str(degree): pool_of(0, 1, 2, 3, lb_algorithm_core_nonaffinity=degree, **by_core) for degree in (1, 2)}
    even, odd = frozenset({"s0", "s2"}), frozenset({"s1", "s3"})

    async def seen(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str) -> frozenset[str]:
        reader, writer = connection
        found = set()
        for _ in range(40):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: www.example.com\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(line.split(": ", 1) for line in head.lower().splitlines()[1:] if line)
            await reader.readexactly(int(fields["content-length"]))
            found.add(fields["x-server"])
        return frozenset(found)

    async with running(tmp_path, service_of(pools), threads=2):
        connections = [await asyncio.open_connection("127.0.0.1", test_http.PORT) for _ in range(8)]
        mine = [await seen(connection, "/1/") for connection in connections]
        assert set(mine) == {even, odd}
        assert {await seen(connection, "/2/") for connection in connections} == {even | odd}
        first, other = connections[mine.index(even)], connections[mine.index(odd)]
        await told(tmp_path, f"set server be_one:1/127.0.0.1:{BACKEND} state maint")
        assert (await seen(first, "/1/"), await seen(other, "/1/")) == (frozenset({"s2"}), odd)
        await told(tmp_path, f"set server be_one:1/127.0.0.1:{BACKEND + 2} state maint")
        assert await seen(first, "/1/") == odd
        for _, writer in connections:
            writer.close()


def _counters(epoch: str, number: int, at_ms: int, services: Any) -> Counters:
    return Counters(epoch=epoch, number=number, at_ms=at_ms, engine=EngineCounts(), services=services)


class Measured:
    """What HAProxy counts, as the controller has it. Time passes when told."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.metrics = Metrics(clock)

    async def take(self, folder: Path, service: Service, seconds: int) -> None:
        """What was counted since HAProxy began, in so many seconds; each HAProxy is another engine."""
        tally = Tally()
        tally.take("w", [])
        self.metrics.take(folder.name, _counters(str(folder), 1, 0, tally.report({"one": service})))
        self.clock.s += seconds
        tally.take("w", stats.parse_rows(await runtime.command(f"{folder}/admin.sock", "show stat")))
        self.metrics.take(folder.name, _counters(str(folder), 2, 1000 * seconds, tally.report({"one": service})))


async def test_a_new_pool_of_a_group_proves_itself_with_real_requests(tmp_path: Path) -> None:
    async def failing(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            bad = name == "s1" and b"/bad" in head
            await test_http._echo(
                name, test_http._again(head.replace(b"/bad", b"/status/500") if bad else head), writer
            )
        writer.close()

    async with controlled_world(tmp_path) as world:
        rule = {"metric_id": "l7_server.pct_response_errors", "operator": "CO_LE", "threshold": 5}
        fields = {"scheme": "CANARY", "test_traffic_ratio_rampup": 25, "target_test_traffic_ratio": 50, "rules": [rule]}
        await world.post("/api/poolgroupdeploymentpolicy", {"name": "prove", "evaluation_duration": 60, **fields})
        for number, name in enumerate(("old", "new")):
            server = {"ip": {"addr": "127.0.0.1", "type": "V4"}, "port": BACKEND + number}
            await world.post("/api/pool", {"name": name, "servers": [server]})
        members = [
            {"pool_ref": "/api/pool?name=old", "deployment_state": "IN_SERVICE"},
            {"pool_ref": "/api/pool?name=new", "deployment_state": "EVALUATION_IN_PROGRESS"},
        ]
        policy = "/api/poolgroupdeploymentpolicy?name=prove"
        group = await world.post("/api/poolgroup", {"name": "g", "members": members, "deployment_policy_ref": policy})
        measured, deployments = Measured(world.clock), world.controller.deployments
        deployments._clock, deployments._metrics = world.clock, measured.metrics
        document = {"uuid": "one", "name": "one", "services": [{"port": PORT}], "pool_group_ref": group["url"]}
        typed = views.view(document, views.VirtualService)
        intent = VipIntent(id="v", name="one", addresses=("127.0.0.1",), services=(typed,), created=0.0)

        async def share(folder: str, path: str) -> float:
            """Of the new pool, while its time passes; then it is judged."""
            await deployments.look()
            service = service_part(deployments, typed, intent)
            async with running(tmp_path / folder, service, failing):
                found = Counter(await drawn(120, path))
                await measured.take(tmp_path / folder, service, 60)
            world.clock.s += 7
            await deployments.look()
            return found["s1"] / 120

        assert 0.1 < await share("first", "/") < 0.4
        assert 0.35 < await share("second", "/bad") < 0.65
        assert await share("third", "/bad") == 0
        states = [one["deployment_state"] for one in (world.view.get("poolgroup", group["uuid"]) or {})["members"]]
        assert states == ["IN_SERVICE", "EVALUATION_FAILED"]
        told_of = [event.name for event in world.controller.events_log.read({})]
        assert [name for name in told_of if "DEPLOYMENT" in name] == [
            f"POOL_DEPLOYMENT_{what}" for what in ("FAILED", "RAMPED", "STARTED")
        ]


async def test_what_a_server_can_take_is_seen_in_its_requests(tmp_path: Path) -> None:
    turn = asyncio.Semaphore(2)

    async def narrow(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            async with turn:
                await asyncio.sleep(0.02)
            await test_http._echo(name, test_http._again(head), writer)
        writer.close()

    fields = {"capacity_estimation": True, "capacity_estimation_ttfb_thresh": 50}
    pool = {**pool_of(0, **fields), "uuid": "p"}
    service = of_documents({("pool", "p"): pool}, pool_ref=ref("pool", "p"))
    measured, server = Measured(Clock()), f"127.0.0.1:{BACKEND}"
    documents = OnePool(pool)
    capacities = Capacities(documents, documents, measured.metrics, measured.clock, up=lambda uuid: [server])  # type: ignore[arg-type]
    for folder, at_once_ in (("calm", 2), ("busy", 30)):
        async with running(tmp_path / folder, service, narrow):
            for _ in range(20 // at_once_ + 1):
                await asyncio.gather(*(answered() for _ in range(at_once_)))
            await measured.take(tmp_path / folder, service, 5)
        measured.clock.s += 10
        await capacities.look()
        found = capacities.of("p")[server]
        assert found is not None and found.reached is (folder == "busy")
        assert found.capacity == pytest.approx(22 / 5, rel=0.3)


class OnePool:
    """Documents, and a view, of one pool."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def get(self, type: str, uuid: str) -> dict[str, Any]:
        return self._document

    def all(self, type: str) -> list[dict[str, Any]]:
        return [self._document]
