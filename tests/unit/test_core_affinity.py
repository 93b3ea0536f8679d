"""Which servers a thread of HAProxy has."""

from __future__ import annotations

import msgspec
import pytest

from shoal.engine.haproxy import core_affinity, render, steer
from shoal.wire.desired import Listener, Persistence, Pool, Server, Service

FACTS = render.Facts(directory="/d", sockets="/d", descriptors_max=4000, threads=2)
SERVERS = tuple(Server(name=name, address=f"10.0.0.{n}", port=80) for n, name in enumerate("abcdef", 1))


def pool(count: int, degree: int, *ratios: int) -> Pool:
    servers = [msgspec.structs.replace(one, ratio=ratio) for one, ratio in zip(SERVERS, ratios, strict=False)]
    return Pool(
        id="p",
        name="p",
        algorithm=core_affinity.ALGORITHM,
        affinity=degree,
        servers=(*servers, *SERVERS[len(servers) : count]),
    )


def service(pool: Pool) -> Service:
    ports = (Listener(port=80, port_end=80),)
    return Service(
        id="s", name="s", vip="v", addresses=("192.0.2.1",), enabled=True, mode="http", listeners=ports, pool=pool
    )


@pytest.mark.parametrize(
    ("made", "threads", "shares"),
    [
        (pool(6, 1), 2, ["ace", "bdf"]),
        (pool(6, 1), 3, ["ad", "be", "cf"]),
        (pool(4, 2), 4, ["ad", "ab", "bc", "cd"]),
        (pool(1, 1), 3, ["a", "a", "a"]),
        (pool(3, 1, 4, 0, 2), 2, ["aa", "c"]),
        (pool(2, 1, 0, 0), 2, ["", ""]),
    ],
)
def test_each_server_is_some_threads_and_no_thread_is_without(made: Pool, threads: int, shares: list[str]) -> None:
    assert ["".join(names) for names in core_affinity.shares(made, threads)] == shares


def test_a_file_is_bounded_whatever_the_ratios() -> None:
    many = tuple(Server(name=f"s{n}", address="10.0.0.1", port=n + 1, ratio=1 + n % 256) for n in range(5000))
    made = msgspec.structs.replace(pool(0, 2), servers=many)
    assert len(core_affinity.file(made, 4)[1].splitlines()) < 2 * core_affinity.PLACES_MAX


def test_one_thread_or_all_of_them_use_what_there_is() -> None:
    one = msgspec.structs.replace(FACTS, threads=1)
    alone, whole, halved = (
        render.service_fragment(service(pool(4, degree)), facts) for degree, facts in ((1, one), (2, FACTS), (1, FACTS))
    )
    assert "use-server" not in alone.text + whole.text and "one thread" in " ".join(alone.notes)
    assert halved.text.count("use-server") == core_affinity.TRIES and len(halved.pages) == 1 and halved.notes == ()


def test_who_would_wait_for_a_full_server_gets_any() -> None:
    limited = msgspec.structs.replace(pool(4, 1), connections_max=5)
    found = render.service_fragment(service(limited), FACTS)
    assert "use-server" not in found.text and "limit of connections" in " ".join(found.notes)


def test_a_cookie_leads_and_a_hash_decides_by_itself() -> None:
    kept = [Persistence(kind=kind, name="X") for kind in ("cookie", "header")]
    led, hashed = (
        render.service_fragment(service(msgspec.structs.replace(pool(4, 1), persistence=one)), FACTS).text
        for one in kept
    )
    assert led.count("!{ req.cook(X) -m found }") == core_affinity.TRIES and "use-server" not in hashed


def test_what_is_in_the_file_is_changed_by_a_reload() -> None:
    before = {"s": service(pool(4, 1))}
    for after in (pool(5, 1), pool(4, 1, 2), pool(4, 2)):
        assert steer.steer(before, {"s": service(after)}) is None
