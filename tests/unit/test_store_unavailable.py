"""A store that can't be used for a time: who waits, who is told, and what is concluded from a write that may have happened."""

from __future__ import annotations

import asyncio

import pytest

from shoal.controller.ledger import Changes, Ledger
from shoal.controller.records import EngineRecord, VipRecord
from shoal.store import patience
from shoal.store.memory import MemoryStore
from shoal.store.noted import NotedStore, Trouble
from shoal.store.patience import patiently
from shoal.store.protocol import Transaction, Unavailable

VIP = VipRecord(id="v/0", group="g")


class Failing(MemoryStore):
    """``before`` and ``after``: so many commits from now on are refused, or done without an answer."""

    before = after = 0

    async def commit(self, transaction: Transaction) -> int:
        if self.before:
            self.before -= 1
            raise Unavailable("The disk is full.", hint="Free space.")
        revision = await super().commit(transaction)
        if self.after:
            self.after -= 1
            raise Unavailable("No answer.")
        return revision


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "RETRY_S", 0.001)


async def ledger_of(store: Failing) -> tuple[Ledger, EngineRecord]:
    ledger = Ledger(store)
    await ledger.load()
    engine = ledger.new_engine("g", "Avi", 0.0, host="", why="")
    await ledger.write(Changes(engines={engine.id: engine}, vips={("g", "v/0"): VIP}))
    return ledger, engine


async def test_nothing_is_written_while_it_is_not_known_what_is_stored() -> None:
    store = Failing()
    ledger, engine = await ledger_of(store)
    store.after = 1
    with pytest.raises(Unavailable, match="No answer"):
        await ledger.write(Changes(engine_fields={engine.id: {"name": "stored"}}))
    assert ledger.engines[engine.id].name != "stored"
    with pytest.raises(Unavailable, match="not known yet"):
        await ledger.write(Changes(vips={("g", "v/0"): None}))
    await ledger.load()
    assert ledger.engines[engine.id].name == "stored"
    await ledger.write(Changes(vips={("g", "v/0"): None}))
    assert ledger.vips["g"] == {}


async def test_a_write_that_is_cancelled_may_have_happened() -> None:
    store = Failing()
    ledger, engine = await ledger_of(store)
    writing = asyncio.create_task(ledger.write(Changes(engine_fields={engine.id: {"name": "stored"}})))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert ledger.unsure


@pytest.mark.parametrize("how", ["before", "after"])
async def test_what_is_insisted_on_waits_and_happens_once(how: str) -> None:
    store = Failing()
    ledger, engine = await ledger_of(store)
    setattr(store, how, 3)
    await ledger.insist(Changes(engine_fields={engine.id: {"created": True}}))
    assert ledger.engines[engine.id].created and not ledger.unsure
    fresh = Ledger(store)
    await fresh.load()
    assert fresh.engines == ledger.engines


async def test_an_engine_whose_end_was_stored_unheard_is_told_of() -> None:
    store = Failing()
    ledger, engine = await ledger_of(store)
    gone: list[EngineRecord] = []
    ledger.on_loaded = gone.extend
    store.after = 1
    with pytest.raises(Unavailable):
        await ledger.repeat(Changes(engines={engine.id: None}))
    assert engine.id in ledger.engines and gone == []
    await ledger.load()
    assert ledger.engines == {} and [one.id for one in gone] == [engine.id]


async def test_patience_is_for_what_passes_only() -> None:
    tries = 0

    async def work() -> int:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise Unavailable("Not now.")
        raise ValueError("never")

    with pytest.raises(ValueError, match="never"):
        await patiently(work, "a test")
    assert tries == 4


def trouble_of(noted: NotedStore) -> Trouble | None:
    return noted.trouble


async def test_a_trouble_lasts_from_the_first_refusal_to_the_first_write() -> None:
    store, times = Failing(), iter((110.0, 120.0))
    noted = NotedStore(store, lambda: next(times))
    changes: list[tuple[Trouble | None, Trouble | None]] = []
    noted.on_change = lambda before, now: changes.append((before, now))
    put = Transaction(puts=(("/a", b"1"),))
    await noted.commit(put)
    store.before = 2
    for _ in range(2):
        with pytest.raises(Unavailable):
            await noted.commit(put)
    trouble = Trouble(110.0, "The disk is full. Free space.")
    assert noted.trouble == trouble and changes == [(None, trouble)]
    await noted.get("/a")
    assert noted.trouble == trouble, "reading proves nothing"
    await noted.commit(put)
    assert changes[1:] == [(trouble, None)]
    assert trouble_of(noted) is None
