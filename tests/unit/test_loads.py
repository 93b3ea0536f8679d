"""Measured load of engines, as auto-rebalance is told of it."""

from __future__ import annotations

import pytest

from shoal.controller.loads import STALE_S, Loads
from shoal.wire.counters import Counters, Counts, EngineCounts, ServiceCounts, VipPackets


class Clock:
    def __init__(self) -> None:
        self.s = 100.0

    def now(self) -> float:
        return self.s

    def monotonic(self) -> float:
        return self.s

    async def sleep(self, seconds: float) -> None:
        self.s += seconds


class Engine:
    """Sends totals every 5 s: ``rates`` of services (connections, bytes, open) and ``packets`` of VIPs, per second."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.loads = Loads(self.clock)
        self.epoch, self.number = "one", 0
        self.rates: dict[str, tuple[int, int, int]] = {}
        self.packets: dict[str, int] = {}
        self.cpu_ms, self.threads = 0, 1

    def message(self, n: int) -> Counters:
        return Counters(
            epoch=self.epoch,
            number=n,
            at_ms=5000 * n,
            engine=EngineCounts(
                threads=self.threads,
                haproxy_cpu_ms=self.cpu_ms * 5 * n,
                rx_packets=600 * 5 * n,
                tx_packets=400 * 5 * n,
                rx_bytes=125_000 * 5 * n,
                tx_bytes=125_000 * 5 * n,
            ),
            services=tuple(
                ServiceCounts(id, Counts(open=o, connections=c * 5 * n, bytes_out=b * 5 * n))
                for id, (c, b, o) in self.rates.items()
            ),
            vips=tuple(VipPackets(id, rate * 5 * n) for id, rate in self.packets.items()),
        )

    def run(self, messages: int) -> None:
        for _ in range(messages):
            self.number += 1
            self.clock.s += 5
            self.loads.take("e", self.message(self.number))

    def of(self, seconds: float = 30.0):  # type: ignore[no-untyped-def]
        return self.loads.of("e", lambda service: [f"vip-{service}"], seconds)


def busy() -> Engine:
    engine = Engine()
    engine.rates = {"a": (30, 3000, 12), "b": (10, 9000, 4)}
    engine.packets = {"vip-a": 900, "vip-b": 100}
    engine.cpu_ms, engine.threads = 1000, 2
    return engine


def test_an_engine_as_a_whole_and_the_parts_of_its_vips() -> None:
    engine = busy()
    engine.run(8)
    load = engine.of()
    assert load.whole.cpu == pytest.approx(50)  # one second a second, of two threads
    assert load.whole.pps == pytest.approx(1000) and load.whole.mbps == pytest.approx(2)
    assert load.whole.open_conns == pytest.approx(16) and load.whole.cps == pytest.approx(40)
    a, b = load.vips["vip-a"], load.vips["vip-b"]
    assert (a.cpu, b.cpu) == pytest.approx((45, 5))  # by packets
    assert (a.mbps, b.mbps) == pytest.approx((0.5, 1.5))  # by bytes
    assert (a.open_conns, b.open_conns, a.cps, b.cps) == pytest.approx((12, 4, 30, 10))


def test_only_the_time_asked_for_counts() -> None:
    engine = busy()
    engine.run(8)
    engine.rates = {}
    engine.packets = {}
    engine.run(1)
    assert engine.of(10).whole.cps == 0


def test_without_packet_counters_bytes_say_whose_the_packets_are() -> None:
    engine = busy()
    engine.packets = {}
    engine.run(8)
    assert engine.of().vips["vip-b"].cpu == pytest.approx(37.5)


def test_silence_is_not_calm() -> None:
    engine = busy()
    assert engine.of() is None
    engine.run(8)
    engine.clock.s += STALE_S
    assert engine.of() is not None
    engine.clock.s += 0.1
    assert engine.of() is None


def test_too_short_a_time_is_nothing_known() -> None:
    engine = busy()
    engine.run(5)
    assert engine.of() is None and engine.of(20) is not None
    engine.run(1)
    assert engine.of() is not None


def test_a_new_life_of_the_agent_begins_anew() -> None:
    engine = busy()
    engine.run(8)
    engine.epoch, engine.number = "two", 0
    engine.run(1)
    assert engine.of() is None


def test_late_and_repeated_messages_change_nothing() -> None:
    engine = busy()
    engine.run(8)
    before = engine.of()
    engine.loads.take("e", engine.message(8))
    engine.loads.take("e", engine.message(3))
    assert engine.of() == before


def test_engines_that_are_gone_are_forgotten() -> None:
    engine = busy()
    engine.run(8)
    engine.loads.forget(["e"])
    assert engine.of() is not None
    engine.loads.forget([])
    assert engine.of() is None


def test_a_service_with_two_vips_counts_half_for_each() -> None:
    engine = busy()
    engine.rates = {"a": (30, 3000, 12)}
    engine.run(8)
    load = engine.loads.of("e", lambda service: ["v1", "v2"], 30)
    assert load is not None and load.vips["v1"] == load.vips["v2"]
    assert load.vips["v1"].cps == pytest.approx(15) and load.whole.cps == pytest.approx(30)
