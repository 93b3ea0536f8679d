"""Pools that speak TLS to servers for some clients: two for HAProxy, one for whoever looks."""

from __future__ import annotations

import msgspec
import pytest

from shoal.controller.desired import pool_part
from shoal.engine.client_logs import ClientLogs
from shoal.engine.haproxy import carry, server_modes, steer
from shoal.engine.haproxy.escape import backend_name
from shoal.objects import views
from shoal.wire.client_logs import LogPolicy
from shoal.wire.counters import Counts, PoolCounts, ServiceCounts
from shoal.wire.desired import Listener, Monitor, Pool, Server, ServerId, ServerTls, Service

A, B = (Server(name=f"10.0.0.{n}:80", address=f"10.0.0.{n}", port=80) for n in (1, 2))
PORTS = (Listener(port=80, port_end=80), Listener(port=443, port_end=444, tls=True))


def service(*servers: Server, monitors: tuple[Monitor, ...] = ()) -> Service:
    pool = Pool(
        id="p",
        name="p",
        servers=servers,
        monitors=monitors,
        tls=ServerTls(),
        tls_as_client=True,
        service_port=True,
        graceful_disable_s=60,
    )
    return Service(
        id="s", name="s", vip="v", addresses=("192.0.2.1",), enabled=True, mode="http", listeners=PORTS, pool=pool
    )


def split() -> Pool:
    pool = service(A).pool
    assert pool is not None
    return pool


class Nothing:
    def get(self, type: str, uuid: str) -> None:
        return None


@pytest.mark.parametrize(
    ("fields", "modes", "speaks", "both"),
    [
        ({"use_service_port": True}, [True, False], True, True),
        ({"use_service_port": True}, [True], True, False),
        ({"use_service_port": True}, [False], False, False),
        ({}, [True, False], False, False),
        ({"ssl_profile_ref": "/api/sslprofile/x"}, [False], True, False),
    ],
)
def test_the_ports_of_the_service_say_how_servers_are_spoken_to(
    fields: dict[str, object], modes: list[bool], speaks: bool, both: bool
) -> None:
    document = {"uuid": "p", "name": "p", "use_service_ssl_mode": True, **fields}
    part = pool_part(Nothing(), views.view(document, views.Pool), modes=modes)
    assert (part.tls is not None, part.tls_as_client) == (speaks, both)


def test_what_is_drained_drains_in_both_and_what_comes_is_a_reload() -> None:
    before, off = service(A, B), service(A, msgspec.structs.replace(B, enabled=False))
    wide = [{"s": server_modes.expanded(one)} for one in (before, off, service(A))]
    steering = steer.steer(wide[0], wide[1])
    assert steering is not None
    places = {f"set server {back}/{B.name} state drain" for back in server_modes.backends("s", split())}
    assert {command.text for command in steering.commands} == places and len(steering.begin) == 2
    assert steer.steer(wide[0], wide[2]) is None and steer.steer(wide[2], wide[0]) is None


def test_a_reload_leaves_no_server_in_a_state_that_its_twin_would_be_left_in() -> None:
    """HAProxy 2.6: a server that is disabled in the file and drains by its state has its follower in maintenance for ever."""
    monitors = (Monitor(name="m", kind="TCP"),)
    off = msgspec.structs.replace(B, enabled=False)
    before, after = ({"s": server_modes.expanded(service(A, b, monitors=monitors))} for b in (B, off))
    kept = carry.kept(before, after, [ServerId("s", "p", B.name), ServerId("s", "p.tls", B.name)])
    own = backend_name("s", "p")
    assert kept == {(own, A.name): 0, (own, B.name): carry.CONFIGURED_MAINTENANCE | carry.FORCED_MAINTENANCE}


def test_servers_follow_where_anybody_looks_at_them() -> None:
    for monitors, follows in (((), ""), ((Monitor(name="m", kind="PING"),), backend_name("s", "p"))):
        plain, twin = server_modes.expanded(service(A, monitors=monitors)).pools
        assert isinstance(twin, server_modes.Twin) and (twin.follows, twin.monitors) == (follows, ())
        assert (plain.tls, twin.tls) == (None, ServerTls()) and plain.monitors == monitors
    other = msgspec.structs.replace(service(A), pool=None)
    assert server_modes.expanded(other) is other


def test_how_long_servers_took_is_told_of_one_pool() -> None:
    log = msgspec.structs.replace(service(A), log=LogPolicy(full=True))
    logs = ClientLogs("test")
    for back in server_modes.backends("s", split()):
        line = f"h vs_s {back}/{A.name} 192.0.2.9 4000 192.0.2.1 80 1.5 200 -- 0 0 0 7 9 1 1 0 -1 GET / HTTP/1.1"
        logs.take(line.encode(), {"s": log}, 2.0)
    (counted,) = logs.counted((ServiceCounts("s", Counts(), (PoolCounts("p", ((A.name, Counts()),)),)),))
    ((name, buckets),) = counted.pools[0].responses
    assert name == A.name and sum(count for _, count in buckets) == 2


def test_what_the_kernel_carries_has_no_twins() -> None:
    carried = msgspec.structs.replace(service(), listeners=(Listener(port=80, port_end=80, fast=True),))
    assert server_modes.expanded(carried) is carried
