"""The finest step of a day: what was measured hours ago is read as it was then, also by the next controller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from shoal.controller.fine_history import KEPT_S, FineHistory
from shoal.controller.metric_file import MetricFile
from shoal.controller.metric_ids import METRICS
from shoal.controller.metrics import Metrics
from shoal.controller.rings import Window
from shoal.wire.latency import bucket_of

from .test_metrics import Engine, World

HOURS = 3
BURST = range(600, 615)
"""Seconds in which there is traffic, of each hour."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """After three hours."""
    world = World()
    history = FineHistory(tmp_path, world.metrics)
    engine = Engine(world)
    total = 0
    for second in range(0, HOURS * 3600, 5):
        world.clock.s = float(second)
        if second % 3600 in BURST:
            engine.more(100)
            total += 100
        message = engine.message()
        (one,) = message.services
        timed = msgspec.structs.replace(one, latency=((bucket_of(5_000), total),) if total else ())
        world.metrics.take(engine.name, msgspec.structs.replace(message, services=(timed,)))
        await history.keep()
    yield world


def begins(world: World) -> float:
    return world.clock.wall


async def fine(world: World, history: FineHistory, second: int, seconds: int = 60) -> list[Window]:
    start = begins(world) + second
    return await history.read("virtualservice", "vs", 5, start=start, stop=start + seconds, limit=1_000)


async def bursts(world: World, history: FineHistory) -> list[float]:
    """Requests around the burst of the first hour, by 5 s."""
    return [window.total("requests") for window in await fine(world, history, 590)]


async def test_hours_later_it_is_as_it_was(world: World, tmp_path: Path) -> None:
    history = FineHistory(tmp_path, world.metrics)
    counts = await bursts(world, history)
    assert sum(counts) == pytest.approx(300) and len(counts) == 12
    assert max(counts) == pytest.approx(100, rel=0.05) and counts[-1] == 0.0
    windows = await fine(world, history, 590)
    assert all(window.seconds == pytest.approx(5) for window in windows)
    p99 = [METRICS["shoal.l7_client_latency_p99"].value(window) for window in windows]
    assert [value for value in p99 if value is not None] == pytest.approx([5.0] * 3, rel=0.42)


async def test_a_time_without_traffic_is_known_to_be_one(world: World, tmp_path: Path) -> None:
    windows = await fine(world, FineHistory(tmp_path, world.metrics), 1_500, 600)
    assert len(windows) == 120 and {round(window.seconds) for window in windows} == {5}
    assert sum(window.total("requests") for window in windows) == 0.0


async def test_steps_between_add_up_and_memory_and_disk_meet(world: World, tmp_path: Path) -> None:
    history = FineHistory(tmp_path, world.metrics)
    everything = await history.read("virtualservice", "vs", 60, limit=1_000)
    assert sum(window.total("requests") for window in everything) == pytest.approx(300 * HOURS)
    assert sum(1 for window in everything if window.seconds) >= HOURS * 60 - 2
    near = world.metrics.read("virtualservice", "vs", 5, limit=700)
    far = await history.read("virtualservice", "vs", 5, limit=1_000)
    assert [w.total("requests") for w in far[-700:]] == [w.total("requests") for w in near]


async def test_the_next_controller_has_it_too(world: World, tmp_path: Path) -> None:
    before = await bursts(world, FineHistory(tmp_path, world.metrics))
    file = MetricFile(tmp_path / "metrics.bin")
    await file.save(world.metrics)
    again = Metrics(world.clock)
    file.load(again)
    history = FineHistory(tmp_path, again)
    assert await bursts(world, history) == before
    hour = 2 * 3600 + 590  # in the hour that only the former one had in memory
    assert sum(w.total("requests") for w in await fine(world, history, hour)) == pytest.approx(300)


async def test_a_day_is_kept_and_no_more(world: World, tmp_path: Path) -> None:
    history = FineHistory(tmp_path, world.metrics)
    world.clock.s += KEPT_S
    assert await fine(world, history, 590) == []
    found = await history.read("virtualservice", "vs", 5, start=begins(world), limit=1_000)
    assert len(found) == 1_000 and not any(window.seconds for window in found)


async def test_what_can_not_be_read_leaves_what_is_in_memory(world: World, tmp_path: Path) -> None:
    for file in tmp_path.glob("fine-*.db*"):
        file.unlink()
    (tmp_path / "fine-2023-11-14.db").mkdir()
    found = await FineHistory(tmp_path, world.metrics).read("virtualservice", "vs", 5, limit=1_000)
    assert 0 < len(found) <= 720
