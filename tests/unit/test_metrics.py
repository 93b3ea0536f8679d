"""Rings and what fills them: late, lost and repeated samples, restarts, clocks that jump."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.controller.metric_file import MetricFile
from shoal.controller.metric_ids import METRICS, Metric
from shoal.controller.metrics import GAP_MAX_S, Metrics
from shoal.controller.rings import FULL, Rings, Window, pieces
from shoal.wire.counters import Counters, Counts, EngineCounts, PoolCounts, ServiceCounts
from shoal.wire.latency import Buckets, bucket_of


class Clock:
    def __init__(self) -> None:
        self.s = 0.0
        self.wall = 1_700_000_100.0  # a whole step of 300 s begins here

    def now(self) -> float:
        return self.wall + self.s

    def monotonic(self) -> float:
        return self.s

    async def sleep(self, seconds: float) -> None:
        self.s += seconds


class Engine:
    """Says each 5 s what it has counted; ``jitter_s`` late."""

    def __init__(self, world: World, name: str = "se-1", epoch: str = "one") -> None:
        self.world, self.name, self.epoch = world, name, epoch
        self.number = 0
        self.born = world.clock.s
        self.counts = Counts()

    def message(self) -> Counters:
        self.number += 1
        service = ServiceCounts("vs", self.counts, (PoolCounts("pool", (("a", self.counts), ("b", Counts()))),))
        at = round((self.world.clock.s - self.born) * 1000)
        busy = 500 * self.number
        engine = EngineCounts(
            open=self.counts.open,
            cores=2,
            haproxy_cpu_ms=busy,
            cpu_ms=busy,
            machine_busy_ms=2 * busy,
            machine_ms=10_000 * self.number,
            rx_bytes=625 * self.number,
        )
        return Counters(epoch=self.epoch, number=self.number, at_ms=at, engine=engine, services=(service,))

    def more(self, connections: int, open: int = 0) -> None:
        total = self.counts.connections + connections
        self.counts = Counts(open=open, connections=total, requests=total, responses_2xx=total)

    def say(self) -> None:
        self.world.metrics.take(self.name, self.message())


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics(self.clock)

    def windows(self, step: int = 5, limit: int = 720, kind: str = "virtualservice", id: str = "vs") -> list[Window]:
        return self.metrics.read(kind, id, step, limit=limit)

    def total(self, name: str = "connections", step: int = 5, kind: str = "virtualservice", id: str = "vs") -> float:
        return total(self.windows(step, kind=kind, id=id), name)


def total(windows: Iterable[Window], name: str) -> float:
    return sum(window.total(name) for window in windows)


@pytest.fixture
def world() -> World:
    return World()


def test_all_that_is_counted_is_found_again_at_every_step_and_entity(world: World) -> None:
    engine = Engine(world)
    for number in range(30):
        world.clock.s += 5
        engine.more(number)
        engine.say()
    world.clock.s += 10
    sent = sum(range(30))
    for step in (5, 10, 300, 3600, 86_400):
        assert world.total(step=step) == pytest.approx(sent)
    assert world.total(kind="pool", id="pool") == pytest.approx(sent)
    assert world.total(kind="server", id="pool/a") == pytest.approx(sent)
    assert world.total(kind="server", id="pool/b") == 0
    assert world.metrics.keys("server") == ["pool/a", "pool/b"]
    assert world.total(kind="serviceengine", id="se-1", name="rx_bytes") == pytest.approx(29 * 625)


def test_a_rate_is_right_in_a_slot_that_is_covered_in_part(world: World) -> None:
    engine = Engine(world)
    for _ in range(4):
        world.clock.s += 5
        engine.more(50)
        engine.say()
    (hour,) = [w for w in world.windows(3600) if w.seconds]
    assert hour.seconds == pytest.approx(20)
    assert hour.rate("connections") == pytest.approx(10)


def test_engines_that_share_a_service_are_summed_and_cover_a_time_once(world: World) -> None:
    one, two = Engine(world), Engine(world, "se-2")
    for _ in range(6):
        world.clock.s += 2.5
        one.more(10, open=3)
        one.say()
        world.clock.s += 2.5
        two.more(20, open=4)
        two.say()
    world.clock.s += 10
    windows = [w for w in world.windows() if w.seconds]
    assert total(windows, "connections") == pytest.approx(180)
    assert [w.seconds for w in windows] == pytest.approx([5.0] * 6)
    assert windows[3].rate("connections") == pytest.approx(6)
    assert windows[3].top("open_max") == 7
    assert windows[3].rate("open") == pytest.approx(7)


def test_lost_late_and_repeated_messages_change_no_sum(world: World) -> None:
    engine = Engine(world)
    kept = []
    for number in range(12):
        world.clock.s += 5
        engine.more(10)
        message = engine.message()
        if number == 4:
            continue  # lost
        if number == 6:
            kept.append(message)  # overtaken by the next
            continue
        world.metrics.take("se-1", message)
        for other in kept:
            world.metrics.take("se-1", other)
        world.metrics.take("se-1", message)
    world.clock.s += 10
    assert world.total() == pytest.approx(120)
    assert all(w.rate("connections") == pytest.approx(2) for w in world.windows() if w.seconds)


def test_a_message_held_up_on_its_way_is_put_where_it_was_measured(world: World) -> None:
    engine = Engine(world)
    for number in range(10):
        world.clock.s += 5
        engine.more(10)
        message = engine.message()
        late = 4.0 if number == 5 else 0.0
        world.clock.s += late
        world.metrics.take("se-1", message)
        world.clock.s -= late
    world.clock.s += 10
    assert all(w.rate("connections") == pytest.approx(2, rel=0.05) for w in world.windows() if w.seconds)


def test_an_agents_restart_begins_a_new_epoch(world: World) -> None:
    engine = Engine(world)
    for _ in range(3):
        world.clock.s += 5
        engine.more(10)
        engine.say()
    again = Engine(world, epoch="two")
    world.clock.s += 5
    again.more(7)
    again.say()
    world.clock.s += 10
    assert world.total() == pytest.approx(37)


def test_a_controller_that_starts_counts_from_what_it_hears_first(world: World) -> None:
    engine = Engine(world)
    world.clock.s += 1_000
    engine.more(1_000_000)
    world.metrics = Metrics(world.clock)
    engine.say()
    world.clock.s += 5
    engine.more(10)
    engine.say()
    world.clock.s += 10
    assert world.total() == pytest.approx(10)


def test_totals_far_apart_are_a_new_begin(world: World) -> None:
    engine = Engine(world)
    world.clock.s += 5
    engine.say()
    world.clock.s += GAP_MAX_S + 10
    engine.more(1_000)
    engine.say()
    world.clock.s += 5
    engine.more(10)
    engine.say()
    world.clock.s += 10
    assert world.total() == pytest.approx(10)


def test_a_service_that_leaves_an_engine_leaves_no_open_connections(world: World) -> None:
    one, two = Engine(world), Engine(world, "se-2")
    one.more(1, open=5)
    two.more(1, open=1)
    for _ in range(2):
        world.clock.s += 5
        one.say()
        two.say()
    world.clock.s += 5
    world.metrics.take("se-1", msgspec.structs.replace(one.message(), services=()))
    two.say()
    world.clock.s += 10
    assert [w.top("open_max") for w in world.windows() if w.seconds][-1] == 1


def test_the_wall_clock_moves_labels_and_nothing_else(world: World) -> None:
    engine = Engine(world)
    for number in range(6):
        world.clock.s += 5
        world.clock.wall += -7_200 if number == 3 else 0
        engine.more(10)
        engine.say()
    world.clock.s += 10
    windows = [w for w in world.windows() if w.seconds]
    assert total(windows, "connections") == pytest.approx(60)
    assert windows[-1].at + 15 == pytest.approx(world.clock.now(), abs=5)
    start = world.clock.now() - 20
    assert all(w.at >= start for w in world.metrics.read("virtualservice", "vs", 5, start=start, limit=100))


def test_free_cpu_is_the_mean_of_the_last_30_s_or_unknown(world: World) -> None:
    assert world.metrics.free_cpu("se-1") is None
    engine = Engine(world)
    for _ in range(12):
        world.clock.s += 5
        engine.say()
    assert world.metrics.free_cpu("se-1") == pytest.approx(0.9)  # 500 ms of HAProxy in 5 s, one thread
    world.clock.s += 60
    assert world.metrics.free_cpu("se-1") is None


def test_a_sweep_forgets_what_exists_no_more(world: World) -> None:
    there = {("virtualservice", "vs"), ("pool", "pool"), ("serviceengine", "se-1")}
    world.metrics = Metrics(world.clock, lambda kind, id: (kind, id) in there)
    engine = Engine(world)
    for _ in range(3):
        world.clock.s += 5
        engine.more(1)
        engine.say()
    world.metrics.sweep()
    assert world.metrics.keys("server") == ["pool/a", "pool/b"]
    there.clear()
    world.metrics.sweep()
    assert [world.metrics.keys(kind) for kind in ("virtualservice", "pool", "server", "serviceengine")] == [[]] * 4
    assert world.metrics.size == 0 and world.metrics.counted() == {}


async def test_the_coarse_steps_survive_a_restart_of_the_controller(world: World, tmp_path: Path) -> None:
    engine = Engine(world)
    for _ in range(5):
        world.clock.s += 5
        engine.more(10)
        engine.say()
    file = MetricFile(tmp_path / "metrics.bin")
    await file.save(world.metrics)
    world.metrics = Metrics(world.clock)
    assert file.load(world.metrics) == 5
    assert world.total(step=300) == world.total(step=3600) == pytest.approx(50)
    world.clock.s += 5
    engine.more(10)
    engine.say()  # its first message to this controller: the begin
    world.clock.s += 5
    engine.more(10)
    engine.say()
    assert world.total(step=300) == pytest.approx(60)
    for bad in (b"", b"nonsense", (tmp_path / "metrics.bin").read_bytes()[:-9]):
        (tmp_path / "metrics.bin").write_bytes(bad)
        assert file.load(Metrics(world.clock)) == 0


intervals = st.lists(st.tuples(st.floats(0, 900), st.floats(0.1, 60), st.integers(0, 1_000)), min_size=1, max_size=30)


@settings(deadline=None, max_examples=50)
@given(intervals)
def test_what_is_added_is_what_is_held_and_covering_counts_once(added: list[tuple[float, float, int]]) -> None:
    """In any order of intervals no slot is covered more than its length, and nothing is lost within the ring."""
    rings, whole = Rings(), 0
    for begin, length, amount in sorted(added):
        rings.add(begin, begin + length, pieces(begin, begin + length), [("n", float(amount))])
        whole += amount
    for number, resolution in enumerate(FULL):
        slots = range(int(1_000 // resolution.step_s) + 1)
        assert sum(rings.value("n", number, slot) for slot in slots) == pytest.approx(whole, abs=0.01)
        assert all(rings.covered(number, slot) <= resolution.step_s * 1.0001 for slot in slots)


def test_a_turn_of_the_ring_leaves_nothing_of_the_one_before() -> None:
    rings = Rings()
    for begin in range(0, 5 * FULL[0].slots * 2, 5):
        rings.add(begin, begin + 5, pieces(begin, begin + 5), [("n", 1.0)])
    for far in (100_000, 1_000_000):
        rings.add(far, far + 5, pieces(far, far + 5), [("n", 1.0)])
        held = sum(rings.value("n", 0, slot) for slot in range(far // 5 - FULL[0].slots, far // 5 + 2))
        assert held == 1.0
    assert rings.size == 2 * 4 * sum(r.slots for r in FULL)


def test_every_metric_has_a_value_of_nothing_and_of_something(world: World) -> None:
    engine = Engine(world)
    for _ in range(3):
        world.clock.s += 5
        world.metrics.sample_own()
        engine.more(5)
        engine.say()
    world.clock.s += 10
    ids = {"virtualservice": "vs", "pool": "pool", "serviceengine": "se-1", "controller": "controller"}
    for metric in METRICS.values():
        known = [w for w in world.windows(kind=metric.kind, id=ids[metric.kind]) if w.seconds]
        assert known and all((metric.value(w) or 0) >= 0 for w in known), metric.name
        nothing = metric.value(world.windows(kind=metric.kind, id="nothing")[0])
        unknown = "_latency_p" in metric.name or "capacity" in metric.name
        assert nothing is None if unknown else nothing == 0, metric.name
    (two,) = (METRICS["l7_client.avg_resp_2xx"].value(w) for w in world.windows(limit=1))
    assert two == pytest.approx(1)


async def test_percentiles_add_up_over_engines_and_survive_a_restart(world: World, tmp_path: Path) -> None:
    fast, slow = Engine(world), Engine(world, "se-2")
    taken = {fast: ((bucket_of(2_000), 90),), slow: ((bucket_of(2_000), 5), (bucket_of(800_000), 5))}

    def said(engine: Engine, times: Buckets) -> None:
        message = engine.message()
        (pool,) = message.services[0].pools
        pool = msgspec.structs.replace(pool, responses=(("a", times),))
        timed = msgspec.structs.replace(message.services[0], latency=times, pools=(pool,))
        world.metrics.take(engine.name, msgspec.structs.replace(message, services=(timed,)))

    for engine in (fast, slow):
        said(engine, ())
    world.clock.s += 5
    for engine, times in taken.items():
        engine.more(sum(count for _, count in times))
        said(engine, times)
    p90, p99 = (METRICS[f"shoal.l7_client_latency_p{p}"] for p in (90, 99))

    def read(p: Metric, metrics: Metrics, step: int, **entity: str) -> float | None:
        found = metrics.read(entity.get("kind", "virtualservice"), entity.get("id", "vs"), step, limit=3)
        return next((value for window in found if (value := p.value(window)) is not None), None)

    world.clock.s += 10
    for step in (5, 300, 3600):
        assert read(p90, world.metrics, step) == pytest.approx(2.0, rel=0.42)
        assert read(p99, world.metrics, step) == pytest.approx(800, rel=0.42)
    assert read(METRICS["shoal.l7_server_latency_p99"], world.metrics, 300, kind="pool", id="pool") is not None
    assert read(p99, world.metrics, 300, kind="server", id="pool/a") == pytest.approx(800, rel=0.42)
    await MetricFile(tmp_path / "m").save(world.metrics)
    again = Metrics(world.clock)
    assert MetricFile(tmp_path / "m").load(again) == len(world.metrics.entities())
    assert read(p99, again, 300) == read(p99, world.metrics, 300)
    assert read(p99, world.metrics, 300, id="another") is None, "no requests have no percentile"


def test_a_busy_service_costs_no_more_than_the_docs_say(world: World) -> None:
    """With its pool and two servers, its requests taking 1 to 60 ms."""
    times = tuple((10 + n, 1) for n in range(12))
    counts = Counts(*range(1, 20))
    for number in range(2):
        more = tuple((bucket, number + 1) for bucket, _ in times)
        grown = Counts(*(number * 100 + value for value in msgspec.structs.astuple(counts)))
        service = ServiceCounts(
            "vs", grown, (PoolCounts("pool", (("a", grown), ("b", grown)), (("a", more), ("b", more))),), more
        )
        message = Counters(
            epoch="e", number=number + 1, at_ms=5_000 * number, engine=EngineCounts(), services=(service,)
        )
        world.metrics.take("se", message)
        world.clock.s += 5
    assert world.metrics.size < 420_000
