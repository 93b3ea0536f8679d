"""How flows of a VIP are shared, as the guard is told it."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from shoal.engine.guard.buckets import settled
from shoal.engine.guard.steady import Steady
from shoal.engine.sharing import BY_SOURCE, BY_SOURCE_AND_PORT, flow_idle_s, sharing
from shoal.wire.desired import Listener, Service, Vip
from shoal.wire.guard import Sharing

engines = some.lists(some.sampled_from([f"02:00:00:00:00:{n:02x}" for n in range(12)]), min_size=1, unique=True)


def vip(id: str = "v1") -> Vip:
    return Vip(
        id=id,
        addresses=("10.0.0.1",),
        generation=1,
        owner="a",
        members=("a",),
        succession=(),
        list_version=1,
        armed=True,
    )


def service(id: str, flow_dist: str, *ports: tuple[int, int], vip: str = "v1") -> Service:
    listeners = tuple(Listener(port=first, port_end=last) for first, last in ports)
    return Service(
        id=id,
        name=id,
        vip=vip,
        addresses=("10.0.0.1",),
        enabled=True,
        mode="tcp",
        listeners=listeners,
        flow_dist=flow_dist,
    )


def test_services_of_one_vip_may_differ() -> None:
    services = [
        service("s1", "LOAD_AWARE", (80, 80)),
        service("s2", BY_SOURCE, (443, 443), (8000, 8010)),
        service("s3", BY_SOURCE_AND_PORT, (22, 22)),
        service("s4", BY_SOURCE, (8011, 8020), (8005, 8008)),
        service("s5", BY_SOURCE, (99, 99), vip="v3"),
    ]
    assert list(sharing([vip(), vip("v2")], services)) == [
        Sharing(vip="v1", by_source=((443, 443), (8000, 8020)), by_source_and_port=((22, 22),))
    ]


def test_only_what_changed_goes_into_the_kernel() -> None:
    steady = Steady()
    assert steady.want([Sharing(vip="v1", by_source=((80, 80), (90, 99)))]) == ["v1"]
    assert steady.batch("v1", "10.0.0.1") == (
        "add element netdev shoal by_source { 10.0.0.1 . 80, 10.0.0.1 . 90-99 }\n"
    )
    assert steady.want([Sharing(vip="v1", by_source=((80, 80),))]) == ["v1"]
    assert steady.batch("v1", "10.0.0.1") == "delete element netdev shoal by_source { 10.0.0.1 . 90-99 }\n"
    assert steady.want([Sharing(vip="v1", by_source=((80, 80),))]) == []
    assert steady.batch("v1", "10.0.0.1") == ""
    assert steady.batch("", "10.0.0.1") == "delete element netdev shoal by_source { 10.0.0.1 . 80 }\n"


@pytest.mark.parametrize(
    ("idle", "flow"), [((), 60), ((10,), 60), ((30, 600, 45), 630), ((86_400,), 86_430), ((10**6,), 90_000)]
)
def test_a_flow_is_remembered_for_as_long_as_a_client_may_be_silent(idle: tuple[int, ...], flow: int) -> None:
    services = [msgspec.structs.replace(service(f"s{n}", "LOAD_AWARE", (n, n)), client_idle_s=n) for n in idle]
    assert flow_idle_s(services) == flow


@given(engines)
def test_a_settled_table_follows_from_the_members_alone(members: list[str]) -> None:
    assert settled(members) == settled(sorted(members, reverse=True))
    assert set(settled(members)) <= set(members)


@given(engines, some.data())
def test_only_the_buckets_of_who_leaves_move(members: list[str], data: some.DataObject) -> None:
    gone = data.draw(some.sampled_from(members))
    rest = [m for m in members if m != gone]
    before, after = settled(members), settled(rest)
    if rest:
        assert all(a == b or b == gone for a, b in zip(after, before, strict=True))


def test_a_settled_table_is_about_even() -> None:
    share = Counter(settled(["02:77:00:00:00:02", "02:77:00:00:00:03", "02:77:00:00:00:04", "02:77:00:00:00:05"]))
    assert all(40 <= count <= 90 for count in share.values()), share
