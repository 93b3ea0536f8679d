"""Totals over HAProxy's reloads, and readings that cost little."""

from __future__ import annotations

import os
import random

import msgspec

from shoal.engine.counters import Tally
from shoal.engine.haproxy.stats import FRONTEND, Row, Table
from shoal.engine.machine import Processes
from shoal.wire.counters import SERVERS_MAX, Counters, Counts, EngineCounts
from shoal.wire.desired import Listener, Pool, Server, Service
from shoal.wire.messages import FromEngine

NAMES = ("a", "b")
SERVICE = Service(
    id="s",
    name="s",
    vip="v",
    addresses=("10.0.0.1",),
    enabled=True,
    mode="http",
    listeners=(Listener(port=80, port_end=80),),
    pool=Pool(id="p", name="p", servers=tuple(Server(name=n, address="10.0.0.2", port=80) for n in NAMES)),
)
HEADER = (
    "# pxname,svname,scur,stot,bin,bout,econ,status,chkdown,lastchg,check_status,last_chk,rtime,hrsp_2xx,req_tot,\n"
)


def front(total: int, current: int = 0) -> Row:
    return Row(
        "vs_s",
        FRONTEND,
        "OPEN",
        "",
        current=current,
        total=total,
        requests=total,
        bytes_in=10 * total,
        responses=(0, total, 0, 0, 0),
    )


def server(total: int, name: str = "a", response_ms: int = 0) -> Row:
    return Row(
        "be_s:p", name, "UP", "", total=total, requests=total, responses=(0, total, 0, 0, 0), response_ms=response_ms
    )


def counts(tally: Tally) -> Counts:
    return tally.report({"s": SERVICE})[0].counts


def test_a_new_worker_begins_at_zero_and_the_sum_goes_on() -> None:
    tally = Tally()
    tally.take("1", [front(5, current=2)])
    tally.take("1", [front(7, current=2)])
    tally.take("2", [front(3, current=1)])
    assert (counts(tally).connections, counts(tally).open, counts(tally).bytes_in) == (10, 3, 100)
    tally.take("1", [front(8)])  # the old worker finishes what it had
    tally.ended("1")
    tally.take("2", [front(4, current=1)])
    assert (counts(tally).connections, counts(tally).open) == (12, 1)


def test_what_was_counted_before_the_agent_came_is_its_begin() -> None:
    tally = Tally()
    tally.take("1", [front(1_000)], as_begin=True)
    assert counts(tally).connections == 0
    tally.take("1", [front(1_001)])
    tally.take("2", [front(5)])
    assert counts(tally).connections == 6


def test_a_row_that_falls_has_begun_anew() -> None:
    tally = Tally()
    tally.take("1", [server(9)])
    tally.take("1", [server(2)])  # deleted and added again by the runtime API
    (found,) = tally.report({"s": SERVICE})
    assert dict(found.pools[0].servers)["a"].connections == 11


def test_a_report_is_the_one_before_until_something_comes() -> None:
    tally, rows = Tally(), (front(5), server(5))
    tally.take("1", rows)
    first = tally.report({"s": SERVICE})
    tally.take("1", rows)
    assert tally.report({"s": SERVICE}) is first
    tally.take("1", (front(5), server(6)))
    assert dict(tally.report({"s": SERVICE})[0].pools[0].servers)["a"].connections == 6
    assert tally.report({"t": msgspec.structs.replace(SERVICE, id="t")})[0].counts == Counts()
    tally.take("2", (front(2, current=1),))
    assert counts(tally).open == 1
    tally.only(["1"])
    assert counts(tally).open == 0


def test_totals_never_fall_whatever_workers_do() -> None:
    chance, tally, before, sent = random.Random(7), Tally(), 0, 0
    workers = {"w0": 0}
    for step in range(500):
        name = chance.choice(list(workers))
        more = chance.randrange(5)
        workers[name] += more
        sent += more
        tally.take(name, [front(workers[name])])
        if chance.random() < 0.1:
            workers[f"w{step + 1}"] = 0
        if len(workers) > 3:
            gone = next(iter(workers))
            del workers[gone]
            tally.ended(gone)
        now = counts(tally).connections
        assert before <= now == sent
        before = now


def test_times_are_the_servers_weighted_by_their_sessions() -> None:
    tally = Tally()
    tally.take("1", [front(0), server(0), server(0, "b")])
    tally.take("1", [front(4), server(3, response_ms=10), server(1, "b", response_ms=50)])
    found = counts(tally)
    assert (found.response_ms, found.timed) == (80, 4)


def test_services_that_are_gone_are_forgotten() -> None:
    tally = Tally()
    tally.take("1", [front(5)])
    assert counts(tally).connections == 5
    tally.take("1", [])
    assert tally.report({}) == ()
    assert counts(tally).connections == 0


def test_a_message_names_a_bounded_number_of_servers() -> None:
    assert SERVICE.pool is not None
    many = tuple(Server(name=f"n{n}", address="10.0.0.2", port=80) for n in range(SERVERS_MAX - 1))
    big = msgspec.structs.replace(SERVICE, id="big", pool=msgspec.structs.replace(SERVICE.pool, servers=many))
    found = Tally().report({"big": big, "s": SERVICE})
    assert [len(pool.servers) for service in found for pool in service.pools] == [SERVERS_MAX - 1, 1]


def test_an_unchanged_line_is_the_row_it_was() -> None:
    table = Table()
    first = table.read(HEADER + "vs_s,FRONTEND,1,2,3,4,,OPEN,,,,,,2,2,\nbe_s,a,0,2,3,4,0,UP,0,5,L4OK,,7,2,2,\n")
    again = table.read(HEADER + "vs_s,FRONTEND,1,2,3,4,,OPEN,,,,,,2,2,\nbe_s,a,0,2,3,4,0,UP,0,6,L4OK,,7,2,2,\n")
    assert again is first
    busy = table.read(HEADER + "vs_s,FRONTEND,1,2,3,4,,OPEN,,,,,,2,2,\nbe_s,a,1,3,3,4,0,UP,0,6,L4OK,,7,2,2,\n")
    assert [a is b for a, b in zip(first, busy, strict=True)] == [True, False]
    down = table.read(HEADER + "be_s,a,0,2,3,4,0,DOWN,1,0,L4CON,,7,2,2,\n")
    assert [(row.status, row.check) for row in down] == [("DOWN", "L4CON")]
    assert [row.proxy for row in table.read(HEADER)] == []


def test_a_table_read_bit_by_bit_is_the_table_read_at_once() -> None:
    chance, table = random.Random(3), Table()
    lines: list[str] = []
    for _ in range(300):
        if chance.random() < 0.2 and lines:
            lines.pop(chance.randrange(len(lines)))
        if chance.random() < 0.4:
            total = chance.randrange(3)
            row = f'be_{chance.randrange(3)},"s,{chance.randrange(2)}",{total},2,3,4,0,UP,0,5,L7OK,"x, ""y""",7,2,2,'
            lines.insert(chance.randrange(len(lines) + 1), row if chance.random() < 0.8 else "cut,short")
        text = HEADER + "\n".join(lines)
        assert table.read(text) == Table().read(text)


def test_processes_that_end_take_nothing_back() -> None:

    processes = Processes()
    processes.read([os.getpid()])
    before = processes.cpu_ms
    processes.read([os.getpid(), 2**22 + 1])
    processes.read([])
    assert processes.cpu_ms >= before == 0.0 and processes.memory == 0


def test_counters_travel_among_the_other_messages() -> None:
    tally = Tally()
    tally.take("1", [front(5)])

    message = Counters(epoch="e", number=1, at_ms=5, engine=EngineCounts(), services=tally.report({"s": SERVICE}))
    data = msgspec.msgpack.encode(message)
    assert msgspec.msgpack.decode(data, type=FromEngine) == message
