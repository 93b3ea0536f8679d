"""Shares of servers by how they do."""

from __future__ import annotations

import msgspec
import pytest

from shoal.engine.haproxy import favour
from shoal.engine.haproxy.escape import backend_name
from shoal.engine.haproxy.stats import Row
from shoal.wire.desired import Listener, Pool, Server, ServerId, Service

A, B, C = (Server(name=f"10.0.0.{n}:80", address=f"10.0.0.{n}", port=80) for n in (1, 2, 3))


def service(algorithm: str, *servers: Server) -> Service:
    pool = Pool(id="p", name="p", algorithm=algorithm, servers=servers, feedback_s=7)
    ports = (Listener(port=80, port_end=80),)
    return Service(
        id="s", name="s", vip="v", addresses=("192.0.2.1",), enabled=True, mode="http", listeners=ports, pool=pool
    )


def row(server: Server, ms: int, total: int = 5) -> Row:
    return Row(backend_name("s", "p"), server.name, "UP", "", total=total, response_ms=ms)


def weights(one: Service, rows: list[Row], tasks: dict[ServerId, int] | None = None) -> dict[str, int]:
    (found,) = favour.favours([one], rows, tasks or {})
    return {id.server: weight for id, weight in found.weights.items()}


def test_who_answers_in_half_the_time_gets_twice_as_much_and_the_unknown_as_much_as_the_best() -> None:
    one = service(favour.FASTEST, A, B, C)
    assert weights(one, [row(A, 10), row(B, 20), row(C, 0, total=0)]) == {A.name: 256, B.name: 128, C.name: 256}
    assert weights(one, []) == {A.name: 256, B.name: 256, C.name: 256}


def test_nobody_is_left_without_and_the_ratio_still_counts() -> None:
    double = msgspec.structs.replace(B, ratio=2)
    off = msgspec.structs.replace(C, enabled=False)
    one = service(favour.FASTEST, A, double, off)
    assert weights(one, [row(A, 1), row(B, 9_000)]) == {A.name: 256, B.name: 16}
    assert weights(one, [row(A, 10), row(B, 10)]) == {A.name: 128, B.name: 256}


def test_tasks_are_what_monitors_say() -> None:
    one = service(favour.FEWEST_TASKS, A, B)
    tasks = {ServerId("s", "p", A.name): 0, ServerId("s", "p", B.name): 3}
    assert weights(one, [row(A, 900), row(B, 1)], tasks) == {A.name: 256, B.name: 64}
    assert next(favour.favours([one], [], {})).every_s == 7


@pytest.mark.parametrize(
    ("before", "now", "worth"), [(None, 1, True), (200, 215, False), (200, 225, True), (1, 2, True)]
)
def test_small_changes_are_none(before: int | None, now: int, worth: bool) -> None:
    assert favour.changed(before, now) is worth


def test_others_are_left_alone() -> None:
    others = [service("LB_ALGORITHM_ROUND_ROBIN", A), service("LB_ALGORITHM_LEAST_CONNECTIONS", A)]
    assert not favour.asks(others) and list(favour.favours(others, [], {})) == []
