"""How the controller gathers what happened: from engines that answer, from those that are dead, on one clock."""

from __future__ import annotations

import asyncio
import io
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from shoal.clouds import memory
from shoal.clouds.noop import NoopCloud
from shoal.controller import observer as observers
from shoal.controller.clock import SystemClock
from shoal.controller.compiler import Compiler
from shoal.controller.events import EventLog
from shoal.controller.fleet import Fleet, Session
from shoal.controller.incident import Incidents, Names
from shoal.controller.ledger import Ledger
from shoal.controller.observer import Observer, Place
from shoal.controller.records import EngineRecord, Noted, VipRecord
from shoal.errors import Invalid
from shoal.observe import ring
from shoal.observe.watch import Target, Targets
from shoal.placement.model import Decision
from shoal.shell.incident import seconds_of, show
from shoal.store.memory import MemoryStore
from shoal.wire import messages
from shoal.wire.recorded import Recall, Record, Recorded, Recording

DEAD = EngineRecord(id="se-0000-1", name="one", rank=1, group="g", mac="02:00:00:00:00:01", created=True, seen=True)
ALIVE = EngineRecord(id="se-0000-2", name="two", rank=2, group="g", mac="02:00:00:00:00:02", created=True, seen=True)


class Cloud(NoopCloud):
    """One whose dead engines can be read."""

    def __init__(self) -> None:
        super().__init__()
        self.left: dict[str, tuple[Recording, ...]] = {}

    async def recordings(self, engine_id: str, seconds: float) -> tuple[Recording, ...]:
        return self.left.get(engine_id, ())


class Engine:
    """A link to an engine that answers a `Recall`, by a clock of its own, after a while, or never."""

    def __init__(self, *, ahead_s: float = 0.0, boot: str = "", after_s: float = 0.0, silent: bool = False) -> None:
        self._ahead_s, self._boot, self._after_s, self._silent = ahead_s, boot or ring.boot_id(), after_s, silent
        self._said: asyncio.Queue[Any] = asyncio.Queue()
        self.records: tuple[Record, ...] = ()

    async def send(self, message: Any) -> None:
        if isinstance(message, Recall) and not self._silent:
            await asyncio.sleep(self._after_s)
            recording = Recording(writer="guard", boot=self._boot, alive_ns=self.now_ns(), records=self.records)
            await self._said.put(Recorded(message.id, self.now_ns(), 0, (recording,)))

    def now_ns(self) -> int:
        return time.monotonic_ns() + int(self._ahead_s * 1e9)

    async def receive(self) -> Any:
        return await self._said.get()

    async def close(self) -> None: ...


class NoDocuments:
    def get(self, type: str, uuid: str) -> dict[str, Any] | None:
        return None


class World:
    def __init__(self) -> None:
        clock = SystemClock()
        self.ledger = Ledger(MemoryStore())
        self.ledger.engines = {engine.id: engine for engine in (DEAD, ALIVE)}
        self.cloud = Cloud()
        self.events = EventLog(MemoryStore(), clock)
        self.fleet = Fleet(
            clock,
            record=self.ledger.engines.get,
            desired=lambda engine, having: {},
            on_change=lambda engine: None,
            on_ownership=lambda engine, message: None,
        )
        compiler = Compiler(
            NoDocuments(), self.ledger, self.fleet, unseal=lambda text, context: text, heartbeat_key=lambda group: b""
        )
        self.incidents = Incidents(self.ledger, self.fleet, self.cloud, compiler, self.events, clock)

    def connect(self, engine: Engine, *, recorder: bool = True) -> asyncio.Task[None]:
        live = self.fleet.live(ALIVE.id)
        live.hello = messages.Hello(
            wire_version=1, engine=ALIVE.id, software="", incarnation="", address="", mac="", root="", recorder=recorder
        )
        live.session = Session(self.fleet, live, engine)
        return asyncio.create_task(live.session.run())


@pytest.fixture
def world() -> World:
    return World()


def left_behind(*kinds: str) -> tuple[Recording, ...]:
    now = time.monotonic_ns()
    records = tuple(Record(n, now, time.time_ns(), kind, "vip/1", ALIVE.id) for n, kind in enumerate(kinds, 1))
    return (Recording(writer="guard", boot=ring.boot_id(), alive_ns=now, records=records),)


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_dead_engine_is_read_through_the_cloud_and_named(world: World) -> None:
    world.cloud.left[DEAD.id] = left_behind("took")
    world.ledger.vips = {"g": {"vip/1": VipRecord(id="vip/1", group="g")}}
    world.events.add("SE_DOWN", f"{DEAD.id}: none of its processes runs", serviceengine=DEAD.id)
    found = await world.incidents.report(60.0)
    shown = {(e["who"], e["what"], e["about"], e["text"]) for e in found["entries"]}
    assert shown == {("one", "took", "two", ""), ("controller", "SE_DOWN", "one", "one: none of its processes runs")}
    assert (found["silent"], found["prober"], found["clock_error_ms"]) == (["two"], False, 0.0)


async def test_an_engine_of_another_machine_is_put_on_this_clock_to_within_half_the_way(world: World) -> None:
    engine = Engine(ahead_s=5000.0, boot="another machine", after_s=0.02)
    engine.records = (Record(1, engine.now_ns(), 0, "took", "vip/1"),)
    at = time.time()
    task = world.connect(engine)
    found = await world.incidents.report(60.0)
    (took,) = (e for e in found["entries"] if e["what"] == "took")
    assert found["clock_error_ms"] >= 10.0
    assert abs(took["at"] - at) * 1000 <= found["clock_error_ms"] + 5.0
    await ended(task)


async def test_one_that_does_not_answer_is_given_up_and_read_through_the_cloud(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.controller.fleet.RECALL_WITHIN_S", 0.05)
    world.cloud.left[ALIVE.id] = left_behind("lease late")
    task = world.connect(Engine(silent=True))
    found = await world.incidents.report(60.0)
    assert [e["what"] for e in found["entries"]] == ["lease late"]
    await ended(task)


async def test_an_older_engine_is_not_asked_what_it_would_not_understand(world: World) -> None:
    task = world.connect(Engine(), recorder=False)
    assert await world.fleet.recall(ALIVE.id, 60.0) is None
    await ended(task)


async def test_only_what_concerns_one_service(world: World) -> None:
    decided = Noted(at=time.time(), decision=Decision(vip="mine/1", what="promote", engine=DEAD.id, why="adopted"))
    world.ledger.vips = {
        "g": {
            "mine/1": VipRecord(id="mine/1", group="g", succession=(DEAD.id,), decisions=(decided,)),
            "other/1": VipRecord(id="other/1", group="g", succession=(ALIVE.id,)),
        }
    }
    world.events.add("VS_ADD_SE", "mine", vip="mine/1")
    world.events.add("VS_ADD_SE", "other", vip="other/1")
    found = await world.incidents.report(60.0, "mine")
    assert {(e["what"], e["vip"]) for e in found["entries"]} == {
        ("VS_ADD_SE", "mine/1"),
        ("decision: promote", "mine/1"),
    }
    assert found["silent"] == ["one"], "the other's engine is not asked"


def test_names_replace_ids_and_macs_and_nothing_else() -> None:
    names = Names([DEAD, ALIVE], {})
    assert names.text(f"{DEAD.id} died: {ALIVE.mac} answers") == "one died: two answers"
    assert names.text(f"x{DEAD.id} se-0000-1-2") == f"x{DEAD.id} se-0000-1-2"


# --- the prober's keeper ---

PROBER = """
import sys
sys.stdin.readline()
print('{"kind":"two answer","vip":"vip/1","at":1.0,"about":"02:00:00:00:00:02","text":"both","told":true}')
print("nonsense")
print('{"kind":"outage","vip":"vip/1","at":2.0,"ms":512.0,"text":"no answer to SYN","told":true}', flush=True)
sys.stdin.readline()
"""


async def test_findings_become_events_and_a_prober_that_ends_is_started_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observers, "RESTART_AFTER_S", 0.05)
    fake = tmp_path / "prober"
    fake.write_text(f"#!{sys.executable}\n{PROBER}")
    fake.chmod(0o700)
    monkeypatch.setattr(observers.sys, "executable", str(fake))  # type: ignore[attr-defined]
    wanted = [Targets(engines={}, vips=(Target(vip="vip/1", address="10.0.0.9", port=80),))]
    place = Place(interface="eth0", address="10.0.0.1", mac=ALIVE.mac, file=tmp_path / "prober.ring")
    observer = Observer(place, lambda: wanted[-1], world.events, lambda: Names([ALIVE], {"vip/1": "shop"}))
    task = asyncio.create_task(observer.run())

    async def events(count: int) -> list[str]:
        async with asyncio.timeout(10):
            while len(found := world.events.read({})) < count:
                await asyncio.sleep(0.01)
        return [f"{event.name} {event.detail}" for event in reversed(found)]

    assert await events(2) == [
        "VIP_TWO_ANSWERERS shop two answer: both (two)",
        "VIP_NO_ANSWER shop is not served for 512 ms: no answer to SYN",
    ]
    observer.tell()  # nothing new: nothing is said
    wanted.append(Targets(engines={}, vips=()))
    observer.tell()  # the fake ends on the second line it reads
    assert len(await events(4)) == 4
    await ended(task)


# --- the command ---


def test_durations_are_read_or_refused_in_words() -> None:
    assert [seconds_of(text) for text in ("90", "90s", "10m", "1h")] == [90, 90, 600, 3600]
    for wrong in ("", "-1", "1d", "10 m", "9999999"):
        with pytest.raises(Invalid, match="--since"):
            seconds_of(wrong)


def shown(found: dict[str, Any], *, everything: bool = False, columns: int = 200) -> str:
    out = io.StringIO()
    show(found, Console(file=out, width=columns, highlight=False), everything=everything)
    return out.getvalue()


def answer(*entries: dict[str, Any], zero: float = 1000.0) -> dict[str, Any]:
    blank = {"who": "one", "part": "guard", "vip": "", "about": "", "text": "", "ms": 0.0}
    return {
        "first_sign": zero,
        "entries": [{**blank, **entry} for entry in entries],
        "takeovers": [{"sentence": "shop: told in one sentence"}] if zero else [],
        "prober": True,
        "silent": [],
        "clock_error_ms": 0.0,
    }


def test_the_table_begins_shortly_before_the_first_sign() -> None:
    found = answer(
        {"at": 940.0, "after_ms": -60_000.0, "what": "applied"},
        {"at": 1000.0, "after_ms": 0.0, "what": "session ended", "about": "two"},
        {"at": 1000.0216, "after_ms": 21.6, "what": "took", "vip": "shop", "text": "two died", "ms": 33.0},
        {"at": 1000.03, "after_ms": 30.0, "what": "took", "vip": "[red]\x1b[2Jx", "text": "[/]"},
    )
    text = shown(found)
    assert "applied" not in text and "1 entry is left out before it; --all shows them." in text
    assert "[red]?[2Jx" in text and "[/]" in text
    assert "+21.6  one guard  took" in text and "two died (33.0 ms)" in text
    assert "shop: told in one sentence" in text and "1970-01-01 00:16:40.000 UTC" in text
    assert "applied" in shown(found, everything=True)
    narrow = shown(found, columns=80).splitlines()
    assert "+21.6  one guard  took           shop: two died (33.0 ms)" in narrow
    assert "+0.0  one guard  session ended  two" in "\n".join(narrow)


def test_the_table_says_what_it_does_not_know() -> None:
    found = answer({"at": 1000.0, "after_ms": 0.0, "what": "applied"}, zero=0.0) | {"prober": False, "silent": ["two"]}
    text = shown(found)
    assert "No sign of trouble" in text and "No prober runs" in text and "Nothing recorded by: two." in text
    assert shown(answer(zero=0.0)) == "Nothing is recorded of that time.\n"


# --- where recorders are ---


def test_recorders_live_in_memory_when_there_is_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\ntmpfs {tmp_path} tmpfs rw 0 0\n")
    monkeypatch.setattr(memory, "MOUNTS", mounts)
    monkeypatch.setattr(memory, "PLACES", ("/", str(tmp_path)))
    assert memory.folder("shoal-12-a") == str(tmp_path / "shoal-12-a")
    assert memory.folder("shoal-12-b") and memory.folder("shoal-34-a")
    memory.remove("shoal-12-a")
    memory.remove_all("shoal-12-")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["shoal-34-a"]
    mounts.write_text("/dev/vda / ext4 rw 0 0\n")
    assert memory.folder("shoal-12-a") == ""
