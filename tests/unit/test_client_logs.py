"""From HAProxy's line to a row that can be searched: what is kept, what is counted, what is left out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from starlette.requests import Request

from shoal.api import log_query
from shoal.controller import day_files
from shoal.controller.client_logs import COLUMNS, ClientLogStore
from shoal.engine.client_logs import SENT_PER_S_MAX, ClientLogs
from shoal.errors import Invalid, NotReady
from shoal.wire import client_logs as wire
from shoal.wire.client_logs import LogPolicy
from shoal.wire.counters import Counts, PoolCounts, ServiceCounts
from shoal.wire.desired import Listener, Service
from shoal.wire.latency import bucket_of

from ..api_world import StillClock

NOW = 1_795_683_931.0


def service(id: str = "one", **policy: object) -> Service:
    return Service(
        id=id,
        name=id,
        vip="v",
        addresses=("10.0.0.1",),
        enabled=True,
        mode="http",
        listeners=(Listener(port=80, port_end=80),),
        log=LogPolicy(**policy),  # type: ignore[arg-type]
    )


def line(
    status: int = 200,
    *,
    of: str = "one",
    end: str = "--",
    took_ms: int = 0,
    us: int = 461,
    at: float = NOW,
    rest: str = "",
) -> bytes:
    rest = rest or "GET /shop?q=1 HTTP/1.1"
    return (
        f"h vs_{of} be_{of}:p/10.1.1.1:80 10.9.9.9 41366 10.0.0.1 80 {at:.3f} {status} {end} 0 0 0 {took_ms} {took_ms + 1} 41 107 0 {us} "
        f"{rest}\n"
    ).encode()


def collected(*lines: bytes, services: tuple[Service, ...] = (service(),), at: float = NOW) -> ClientLogs:
    logs = ClientLogs("test")
    for one in lines:
        logs.take(one, {s.id: s for s in services}, at)
    return logs


def sent(logs: ClientLogs) -> list[str]:
    message = logs.message()
    return [one.why for one in message.logged] if message is not None else []


def test_failed_slow_and_sampled_requests_are_told_apart() -> None:
    assert sent(collected(line(503))) == ["failed"]
    assert sent(collected(line(200, end="SD"))) == ["failed"]
    assert sent(collected(line(200, took_ms=500))) == ["slow"]
    assert sent(collected(line(200, took_ms=499))) == [""]
    assert sent(collected(line(404), services=(service(accepted=(404,)),))) == [""]
    assert sent(collected(line(503), services=(service(significant=False),))) == []


def test_rates_bound_what_is_sent_and_the_rest_is_counted() -> None:
    logs = collected(*[line(503)] * 25, *[line()] * 5)
    message = logs.message()
    assert message is not None and [one.why for one in message.logged] == ["failed"] * 10 + [""]
    assert message.left_out == 19
    logs.take(line(503), {"one": service()}, NOW + 1)
    assert sent(logs) == ["failed"]
    unlimited = service(significant_per_s=0)
    assert len(sent(collected(*[line(503)] * 200, services=(unlimited,)))) == SENT_PER_S_MAX


def test_a_sampled_request_stands_for_many_and_a_failed_one_for_itself() -> None:
    logs = collected(*[line(us=461)] * 3, line(503, us=900_000))
    pools = (PoolCounts("p", (("10.1.1.1:80", Counts()),)), PoolCounts("q", (("10.1.1.1:80", Counts()),)))
    counts = (ServiceCounts("one", Counts(), pools), ServiceCounts("two", Counts()))
    one, two = logs.counted(counts)
    assert one.latency == ((bucket_of(461), 384), (bucket_of(900_000), 1)) and two.latency == ()
    assert one.pools[0].responses == (("10.1.1.1:80", ((bucket_of(500), 385),)),) and one.pools[1].responses == ()
    slow = line(us=-1, took_ms=600).replace(b" -1 GET", b" - GET")
    for every, count in ((False, 128), (True, 1)):
        (timed, _) = collected(slow, services=(service(every_slow=every),)).counted(counts)
        assert timed.latency == ((bucket_of(601_500), count),)
    redirect = (
        line(302, end="LR", us=-1).replace(b"be_one:p/10.1.1.1:80 ", b"vs_one/<NOSRV> ").replace(b" -1 GET", b" - GET")
    )
    (timed, _) = collected(redirect).counted(counts)
    assert timed.latency == ((bucket_of(1_500), 1),) and sent(collected(redirect)) == [""]
    full = service(full=True, full_until=int(NOW) + 60)
    ((exact, _),) = [collected(line(), services=(full,)).counted(counts)]
    assert exact.latency == ((bucket_of(461), 1),)
    (gone,) = logs.counted(counts[1:])
    assert gone == counts[1]
    assert logs.counted(counts)[0].latency == ()  # forgotten with the service


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Proxy vs_x stopped (cumulated conns: FE: 3, BE: 0).\n",
        line(of="another"),
        line().replace(b" 41366 ", b" port "),
        b"\xff" * 3000,
        b"h " * 30,
    ],
)
def test_what_is_no_line_of_a_service_is_passed_over(data: bytes) -> None:
    assert collected(data).message() is None


async def searched(store: ClientLogStore, *filters: str, **query: str) -> list[dict[str, object]]:
    pairs = [("filter", text) for text in filters] + list(query.items())
    request = Request({"type": "http", "query_string": "&".join(f"{n}={v}" for n, v in pairs).encode(), "headers": []})
    asked = log_query.asked(request, query)
    _, found = await store.search(log_query.where(asked, COLUMNS), limit=100, offset=0, oldest_first=asked.oldest_first)
    return found


def stored(folder: Path | None, *lines: bytes) -> ClientLogStore:
    store = ClientLogStore(folder, StillClock())
    logged = tuple(wire.Logged("one", "failed" if b" 503 " in one else "", one) for one in lines)
    store.take("se-1", wire.ClientLogs(logged))
    return store


async def test_a_request_is_found_by_each_of_its_fields(tmp_path: Path) -> None:
    rest = "POST https://shop.example/cart?item=7 HTTP/2.0 {shop.example|Mozilla/5.0 (X11) {x}"
    store = stored(tmp_path, line(), line(503, rest=rest, end="SC", at=NOW + 1))
    ((one),) = await searched(store, "eq(response_code,503)")
    assert one["uri_path"] == "/cart" and one["uri_query"] == "item=7" and one["method"] == "POST"
    assert one["host"] == "shop.example" and one["user_agent"] == "Mozilla/5.0 (X11) {x"
    assert one["significance"] == "status 503: the server broke it off, or refused the connection"
    assert (one["server_ip"], one["server_dest_port"], one["client_ip"]) == ("10.1.1.1", 80, "10.9.9.9")
    for same in (
        "ge(response_code,500)",
        "co(all,CART)",
        "sw(uri_path,/ca)",
        "ne(response_code,[200,404])",
        "eq(significant,true)",
        "eq(method,[put,post])",
        "nc(uri_path,shop)",
    ):
        assert await searched(store, same) == [one], same
    assert len(await searched(store)) == 2
    assert [r["report_timestamp"] for r in await searched(store, orderby="report_timestamp")] == [NOW, NOW + 1]
    assert await searched(store, start=str(NOW + 0.5)) == [one]
    assert await searched(store, "eq(method,POST)", "lt(response_code,500)") == []


@pytest.mark.parametrize("text", ["eq(nothing,1)", "eq(status", "xx(method,GET)", "eq(method);drop table rows", "co"])
async def test_a_filter_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        await searched(stored(None), text)


async def test_values_are_values_and_never_sql() -> None:
    store = stored(None, line())
    assert await searched(store, "eq(method,GET' OR '1'='1)") == []
    assert len(await searched(store)) == 1


async def test_logs_outlive_the_controller_and_the_oldest_days_go(tmp_path: Path) -> None:
    days = [line(at=NOW - 86_400 * back, rest=f"GET /{back} HTTP/1.1") for back in range(10)]
    store = stored(tmp_path, *days)
    await store.flush()
    assert len(await searched(ClientLogStore(tmp_path, StillClock()))) == 7
    assert len(list(tmp_path.glob("client-*.db"))) == 7
    oldest = await searched(store, "eq(uri_path,/6)")
    assert len(oldest) == 1


async def test_a_search_that_takes_too_long_is_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored(tmp_path, *[line(rest=f"GET /{number} HTTP/1.1") for number in range(2_000)])
    await store.flush()
    monkeypatch.setattr(day_files, "READ_WITHIN_S", -1.0)
    with pytest.raises(NotReady, match="took longer"):
        await searched(store, "co(all,nothing)", "co(all,not this either)")
    monkeypatch.undo()
    assert len(await searched(store, "eq(uri_path,/7)")) == 1


def test_policies_survive_the_wire() -> None:
    policy = LogPolicy(accepted=(404,), full=True, full_until=5)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(policy), type=LogPolicy) == policy
