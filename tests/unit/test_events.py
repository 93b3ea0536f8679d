"""Events: what earlier controllers wrote is read when somebody asks."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from shoal.controller import events
from shoal.controller.clock import SystemClock
from shoal.controller.events import EVENTS, Event, EventLog
from shoal.store.memory import MemoryStore
from shoal.store.protocol import Transaction


def event(number: int, name: str = "SE_UP") -> Event:
    return Event(
        id=f"{number:017d}-000001", at=float(number), name=name, detail=f"the {number}.", objects={"x": str(number)}
    )


async def stored(*found: Event) -> MemoryStore:
    store = MemoryStore()
    await store.commit(Transaction(puts=tuple((EVENTS + one.id, msgspec.json.encode(one)) for one in found)))
    return store


async def test_a_controller_tells_what_earlier_ones_wrote_and_its_own_the_newest_first() -> None:
    log = EventLog(await stored(event(1), event(2, "SE_DOWN"), event(3)), SystemClock())
    await log.load()
    assert log.last == event(3).id
    log.add("SE_DOWN", "its own")
    assert [one.detail for one in log.read({"name": "SE_DOWN"})] == ["its own", "the 2."]
    assert [one.detail for one in log.read({"name": ["SE_DOWN", "SE_UP"], "object": "2"})] == ["the 2."]
    assert [one.detail for one in log.read({"until": 2.0})] == ["the 2.", "the 1."]
    assert [one.detail for one in log.read({})] == ["its own", "the 3.", "the 2.", "the 1."]
    assert log.read({"name": "SE_DOWN"})[0].id == log.last


async def test_no_more_are_kept_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVENTS_KEPT_MAX", 3)
    log = EventLog(await stored(*(event(n) for n in range(1, 6))), SystemClock())
    await log.load()
    log.add("SE_UP", "its own")
    assert [one.detail for one in log.read({"name": "SE_UP"})] == ["its own", "the 5.", "the 4."]
    assert [one.detail for one in log.read({})] == ["its own", "the 5.", "the 4."]
    for _ in range(3):
        log.add("SE_UP", "another")
    assert [one.detail for one in log.read({})] == ["another"] * 3


async def test_what_is_read_late_is_still_written_once() -> None:
    store = await stored(event(1))
    log = EventLog(store, SystemClock())
    await log.load()
    writer = asyncio.create_task(log.run())
    log.add("SE_UP", "its own")
    log.read({})
    while len((await store.list(EVENTS)).records) < 2:
        await asyncio.sleep(0)
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    assert len((await store.list(EVENTS)).records) == 2
