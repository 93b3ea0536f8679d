"""An engine's life under a cloud that is slow, full or broken, in virtual time (reference: elastic-ha 2.6, 5.1, 5.2)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from shoal.clouds.noop import HOSTS, NoopCloud
from shoal.clouds.protocol import CloudError, EngineHandle, EngineSpec, Host, Identity
from shoal.controller import engine_timers
from shoal.controller.engine_timers import Timers
from shoal.controller.events import EventLog
from shoal.controller.fleet import Fleet
from shoal.controller.ledger import Changes, Ledger, engine_name
from shoal.controller.lifecycle import Lifecycle
from shoal.controller.making import CREATIONS_AT_ONCE_MAX
from shoal.controller.mending import STARTS_AT_ONCE_MAX
from shoal.controller.records import EngineRecord
from shoal.objects.views import ServiceEngineGroup
from shoal.placement.model import EngineState
from shoal.simulator.virtual_time import VirtualClock, VirtualLoop, run
from shoal.store.memory import MemoryStore

GROUP = ServiceEngineGroup(uuid="g", name="g")
NONE = Identity(key_pem=b"", certificate_pem=b"", ca_pem=b"")


class TryingCloud(NoopCloud):
    """``fails`` and ``hangs``: hosts on which creations do; ``boots``: machines that are started come up."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.clock = clock
        self.fails: set[str] = set()
        self.hangs: set[str] = set()
        self.boots = True
        self.takes_s = 0.5
        self.booted: Callable[[str], None] = lambda engine: None
        self.tried: list[str] = []
        self.restarted: list[str] = []
        self.memory_mb: list[int] = []
        self.vcpus: list[int] = []
        self.deleted: list[str] = []
        self.underway = self.most_underway = 0
        self.room = 1000

    async def hosts(self) -> list[Host]:
        return [Host(name=name, engines_max=self.room) for name in HOSTS]

    async def create(self, spec: EngineSpec) -> EngineHandle:
        self.tried.append(spec.host)
        self.memory_mb.append(spec.memory_mb)
        self.vcpus.append(spec.vcpus)
        self.underway += 1
        self.most_underway = max(self.most_underway, self.underway)
        try:
            await self.clock.sleep(3600.0 if spec.host in self.hangs else self.takes_s)
        finally:
            self.underway -= 1
        if spec.host in self.fails:
            raise CloudError(f"{spec.host} says no.")
        handle = await super().create(spec)
        if self.boots:
            self.booted(spec.id)
        return handle

    async def restart(self, engine_id: str) -> EngineHandle:
        self.restarted.append(engine_id)
        handle = await super().restart(engine_id)
        if self.boots:
            self.booted(engine_id)
        else:
            self.mark(engine_id, running=False)
        return handle

    async def delete(self, engine_id: str) -> None:
        self.deleted.append(engine_id)
        await super().delete(engine_id)


class Life:
    """The engine's side of a controller: records, sessions, cloud. Plans are made by the test."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.clock = VirtualClock(loop)
        self.store = MemoryStore(now=self.clock.monotonic)
        self.serial = 0
        self.ledger = Ledger(self.store, self._fresh)
        self.cloud = TryingCloud(self.clock)
        self.cloud.booted = self.boot
        self.boot_s = 1.0
        self.marked: list[str] = []
        self.timers = engine_timers.in_force(None)
        self.group = GROUP
        self.tasks: list[asyncio.Task[Any]] = []
        self.begin()

    def begin(self) -> None:
        """A controller starts: nothing but records and cloud is left of the one before."""
        self.events = EventLog(self.store, self.clock)
        self.fleet = Fleet(
            self.clock,
            record=lambda engine: self.ledger.engines.get(engine),
            desired=lambda engine, having: {},
            on_change=lambda engine: None,
            on_ownership=lambda engine, message: None,
        )
        self.life = Lifecycle(
            self.cloud,
            self.ledger,
            self.fleet,
            self.events,
            self.clock,
            self,
            identity=lambda id, name: NONE,
            group=lambda uuid: self.group,
            timers=lambda: self.timers,
            mark=self.marked.append,
        )

    async def start(self) -> None:
        await self.ledger.load()
        await self.life.adopt()
        self.tasks = [asyncio.create_task(self.life.run()), asyncio.create_task(self._beat())]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    # --- the ServiceEngine objects ---

    async def put(self, engine: EngineRecord, group: ServiceEngineGroup | None, prefix_length: int) -> None: ...

    def vlans(self, engine: str) -> tuple[int, ...]:
        return ()

    async def enable_state(self, engine: str, state: str) -> None: ...

    async def remove(self, engine: str) -> None: ...

    # --- what happens ---

    def _fresh(self) -> str:
        self.serial += 1
        return f"{self.serial:08d}"

    def boot(self, engine: str) -> None:
        """It comes up, and connects after a while."""

        async def later() -> None:
            await self.clock.sleep(self.boot_s)
            self.connect(engine)

        self.tasks.append(asyncio.create_task(later()))

    def connect(self, engine: str) -> None:
        live = self.fleet.live(engine)
        live.session, live.heard_at, live.gone = self, self.clock.monotonic(), False  # type: ignore[assignment]
        self.life.kick()

    def kill(self, engine: str) -> None:
        self.fleet.live(engine).session = None
        self.cloud.mark(engine, running=False)
        self.life.kick()

    async def _beat(self) -> None:
        """Connected engines report each second."""
        while True:
            await self.clock.sleep(1.0)
            for engine in self.ledger.engines:
                if self.fleet.live(engine).session is not None:
                    self.fleet.live(engine).heard_at = self.clock.monotonic()

    async def want(self, count: int = 1, host: str = "", avoid: tuple[str, ...] = ()) -> list[str]:
        """A plan asks for engines."""
        records = [
            self.ledger.new_engine("g", "Avi", self.clock.now(), host=host, why="wanted", avoid_hosts=avoid)
            for _ in range(count)
        ]
        await self.ledger.write(Changes(engines={record.id: record for record in records}))
        self.life.kick()
        return [record.id for record in records]

    async def wait(self, seconds: float) -> None:
        await self.clock.sleep(seconds)
        for task in self.tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    # --- what came of it ---

    def told(self, name: str) -> list[str]:
        return [event.detail for event in reversed(self.events.read({"name": name}))]

    def state(self, engine: str) -> EngineState:
        return self.fleet.state(engine)

    def retry_s(self) -> float:
        """Seconds until the group may try again; 0 = now."""
        at = self.life.retry_at("g")
        return at - self.clock.now() if at else 0.0


def live(story: Callable[[Life], Awaitable[None]], **timers: int) -> None:
    async def main(loop: VirtualLoop) -> None:
        life = Life(loop)
        life.timers = msgspec.structs.replace(life.timers, **timers)
        await life.start()
        await story(life)
        await life.stop()

    run(main)


# --- timers ---


def test_timers_of_an_engine_s_life_are_quicker_than_the_vendor_s_defaults_while_these_stand() -> None:
    assert engine_timers.in_force(None) == engine_timers.in_force(msgspec.structs.asdict(Timers()))
    quick = engine_timers.in_force(None)
    assert (quick.se_spawn_retry_interval, quick.max_se_spawn_interval_delay) == (5, 300)
    assert (quick.vs_se_bootup_fail, quick.se_create_timeout) == (60, 120)
    assert (quick.unresponsive_se_reboot, quick.del_offline_se_after_reboot_delay) == (300, 300)
    asked = engine_timers.in_force({"se_spawn_retry_interval": 301, "vs_se_bootup_fail": 0})
    assert (asked.se_spawn_retry_interval, asked.vs_se_bootup_fail) == (301, 1)


# --- making ---


def test_the_next_creation_waits_longer_after_each_failure_up_to_a_bound() -> None:
    async def story(life: Life) -> None:
        life.cloud.fails = set(HOSTS)
        delays = []
        for _ in range(6):
            await life.want()
            await life.wait(0.8)
            delays.append(life.retry_s() + 0.3)
            assert not life.ledger.engines, "what could not be made is given up"
        assert [round(delay) for delay in delays] == [5, 10, 20, 40, 60, 60]
        assert len(life.told("CREATE_SE_FAIL")) == 6
        life.life.retry_now("g")
        assert life.retry_s() == 0.0, "an operator need not wait"
        life.cloud.fails = set()
        await life.want()
        await life.wait(3.0)
        life.cloud.fails = set(HOSTS)
        await life.want()
        await life.wait(0.8)
        assert life.retry_s() < 5.0, "after a success it begins anew"

    live(story, max_se_spawn_interval_delay=60)


def test_engines_that_fail_side_by_side_fail_once() -> None:
    async def story(life: Life) -> None:
        life.cloud.fails = set(HOSTS)
        for expected in (5, 10, 20):
            await life.want(count=6)
            await life.wait(1.3)  # four at once, and the rest
            assert len(life.told("CREATE_SE_FAIL")) % 6 == 0
            assert round(life.retry_s() + 0.3) == expected

    live(story, max_se_spawn_interval_delay=60)


def test_engines_that_are_made_and_never_connect_lengthen_the_wait_too() -> None:
    async def story(life: Life) -> None:
        life.cloud.boots = False
        for expected in (5, 10, 20):
            await life.want()
            await life.wait(61.2)
            assert expected - 1.0 < life.retry_s() <= expected
        assert len(life.told("VS_SE_BOOTUP_FAIL")) == 3

    live(story)


def test_a_wall_clock_that_is_set_back_does_not_stop_creations() -> None:
    async def story(life: Life) -> None:
        life.cloud.fails = set(HOSTS)
        await life.want()
        await life.wait(1.0)
        life.clock.offset_s -= 7200.0
        assert life.retry_s() <= 5.0

    live(story)


def test_a_creation_that_takes_too_long_is_given_up_and_cleared_away() -> None:
    async def story(life: Life) -> None:
        life.cloud.hangs = {HOSTS[0]}
        (engine,) = await life.want()
        await life.wait(31.0)
        assert life.told("CREATE_SE_TIMEOUT") and "within 30 s" in life.told("CREATE_SE_TIMEOUT")[0]
        assert not life.ledger.engines
        assert engine in life.cloud.deleted
        assert life.retry_s() > 0

    live(story, se_create_timeout=30)


def test_a_host_that_fails_or_is_slow_is_passed_over_the_next_time() -> None:
    async def story(life: Life) -> None:
        life.cloud.fails, life.cloud.hangs = {HOSTS[0]}, {HOSTS[1]}
        await life.want()
        await life.wait(1.0)
        await life.want()
        await life.wait(31.0)
        (engine,) = await life.want()
        await life.wait(2.0)
        assert life.cloud.tried == list(HOSTS[:3])
        assert life.state(engine) is EngineState.UP

    live(story, se_create_timeout=30)


def test_engines_of_one_vip_are_made_on_different_hosts_while_there_are_any() -> None:
    async def story(life: Life) -> None:
        await life.want(avoid=HOSTS[:2])
        await life.wait(2.0)
        assert life.cloud.tried == [HOSTS[2]]
        await life.want(avoid=tuple(HOSTS))
        await life.wait(2.0)
        assert len(life.cloud.tried) == 2, "a host that is used is better than none"

    live(story)


def test_engines_made_at_once_are_spread_over_the_hosts() -> None:
    async def story(life: Life) -> None:
        await life.want(4)
        await life.wait(2.0)
        assert sorted(life.cloud.tried) == sorted(HOSTS)

    live(story)


def test_sizes_count_for_engines_made_later() -> None:
    async def story(life: Life) -> None:
        await life.want()
        await life.wait(2.0)
        life.group = msgspec.structs.replace(GROUP, memory_per_se=4096, vcpus_per_se=2)
        await life.wait(10.0)
        assert life.cloud.memory_mb == [2048], "what runs stays as it is"
        await life.want()
        await life.wait(2.0)
        assert life.cloud.memory_mb == [2048, 4096] and life.cloud.vcpus == [1, 2]

    live(story)


@pytest.mark.parametrize(("prefix", "name"), [("Avi", r"Avi-se-[a-z]{5}"), ("", r"se-[a-z]{5}")])
def test_an_engine_is_named_by_its_prefix_and_five_letters(prefix: str, name: str) -> None:
    found = {engine_name(prefix, f"se-{number}") for number in range(200)}
    assert len(found) == 200
    assert all(re.fullmatch(name, one) for one in found)


def test_full_hosts_are_told() -> None:
    async def story(life: Life) -> None:
        life.cloud.room = 1
        await life.want(5)
        await life.wait(3.0)
        assert len(life.ledger.engines) == 4
        assert len(life.told("NO_HOST_AVAIL")) == 1

    live(story)


def test_creations_at_once_are_bounded() -> None:
    async def story(life: Life) -> None:
        await life.want(12)
        await life.wait(4.0)
        assert life.cloud.most_underway == CREATIONS_AT_ONCE_MAX
        assert len(life.told("CREATED_SE")) == 12

    live(story)


def test_an_engine_deleted_while_it_is_being_made_is_not_left_behind() -> None:
    async def story(life: Life) -> None:
        life.cloud.takes_s = 5.0
        (engine,) = await life.want()
        await life.wait(1.0)
        record = life.ledger.engines[engine]
        await life.ledger.write(Changes(engines={engine: None}))
        life.life.retire(record)
        await life.wait(10.0)
        assert not await life.cloud.engines()

    live(story)


# --- first contact ---


@pytest.mark.parametrize("jump_s", [0.0, 3600.0])
def test_an_engine_that_does_not_connect_in_time_is_deleted(jump_s: float) -> None:
    async def story(life: Life) -> None:
        life.cloud.boots = False
        (engine,) = await life.want()
        await life.wait(10.0)
        life.clock.offset_s += jump_s
        await life.wait(48.0)
        assert life.state(engine) is EngineState.CREATING
        await life.wait(5.0)
        assert engine in life.cloud.deleted
        assert not life.ledger.engines
        assert "did not connect within 60 s" in life.told("VS_SE_BOOTUP_FAIL")[0]

    live(story)


def test_a_controller_that_was_away_waits_anew_for_the_first_contact() -> None:
    async def story(life: Life) -> None:
        life.boot_s = 3600.0
        (engine,) = await life.want()
        await life.wait(2.0)
        await life.stop()
        await life.clock.sleep(600.0)
        life.begin()
        await life.start()
        await life.wait(5.0)
        life.connect(engine)
        await life.wait(1.0)
        assert life.state(engine) is EngineState.UP

    live(story)


# --- mending ---


@pytest.mark.parametrize(("gone", "after_s"), [(False, 40), (True, 70)])
def test_a_dead_engine_is_started_again_a_silent_one_and_a_crashed_one_each_in_its_time(
    gone: bool, after_s: int
) -> None:
    async def story(life: Life) -> None:
        (engine,) = await life.want()
        await life.wait(2.0)
        life.fleet.live(engine).session = None
        life.cloud.mark(engine, running=not gone)
        judged_s = 0.3 if gone else 10.5
        await life.wait(judged_s + after_s - 2.0)
        assert not life.cloud.restarted
        await life.wait(4.0)
        assert life.cloud.restarted == [engine]
        assert life.state(engine) is EngineState.UP
        assert engine in life.ledger.engines, "the same engine, and what it held is elsewhere by then"
        await life.wait(200.0)
        assert engine in life.ledger.engines and len(life.cloud.restarted) == 1

    live(story, unresponsive_se_reboot=40, crashed_se_reboot=70, del_offline_se_after_reboot_delay=100)


def test_an_engine_that_stays_dead_after_the_reboot_is_deleted() -> None:
    async def story(life: Life) -> None:
        (engine,) = await life.want()
        await life.wait(2.0)
        life.cloud.boots = False
        life.kill(engine)
        await life.wait(71.0)
        assert life.cloud.restarted == [engine]
        life.marked.clear()
        await life.wait(98.0)
        assert engine in life.ledger.engines
        await life.wait(5.0)
        assert not life.ledger.engines and engine in life.cloud.deleted
        assert "g" in life.marked, "a plan makes another if one is missing"

    live(story, crashed_se_reboot=70, del_offline_se_after_reboot_delay=100)


def test_a_clock_that_jumps_neither_reboots_nor_deletes() -> None:
    async def story(life: Life) -> None:
        (engine,) = await life.want()
        await life.wait(2.0)
        life.kill(engine)
        await life.wait(1.0)
        life.clock.offset_s += 86_400.0
        await life.wait(5.0)
        assert not life.cloud.restarted

    live(story)


def test_after_many_kills_a_restarted_controller_starts_a_few_engines_at_a_time() -> None:
    async def story(life: Life) -> None:
        life.boot_s = 2.0
        engines = await life.want(12)
        await life.wait(12.0)
        for engine in engines:
            life.kill(engine)
        await life.stop()
        life.begin()
        await life.start()
        most = 0
        for _ in range(40):
            await life.wait(0.25)
            up = sum(life.fleet.live(engine).session is not None for engine in engines)
            most = max(most, len(life.cloud.restarted) - up)
        assert most == STARTS_AT_ONCE_MAX
        assert sorted(life.cloud.restarted) == sorted(engines), "each once"
        assert all(life.state(engine) is EngineState.UP for engine in engines)
        assert not life.told("SE_DOWN"), "they were on their way"

    live(story)


def test_an_engine_that_is_retired_while_it_starts_again_is_removed_soon() -> None:
    """It goes by the orders on its disk until then."""

    async def story(life: Life) -> None:
        (engine,) = await life.want()
        await life.wait(5.0)
        life.kill(engine)
        await life.stop()
        life.begin()
        life.boot_s = 60.0
        await life.start()
        await life.wait(1.0)
        assert life.cloud.restarted == [engine]
        record = life.ledger.engines[engine]
        await life.ledger.write(Changes(engines={engine: None}))
        life.life.retire(record)
        await life.wait(1.5)
        assert not await life.cloud.engines()

    live(story)


def test_a_cloud_that_does_not_answer_ends_nothing() -> None:
    async def story(life: Life) -> None:
        (engine,) = await life.want()
        await life.wait(2.0)

        async def no() -> list[EngineHandle]:
            raise CloudError("no answer")

        life.cloud.engines = no  # type: ignore[method-assign]
        life.fleet.live(engine).session = None
        await life.wait(5.0)
        assert life.state(engine) is EngineState.UP, "only its session is lost"
        life.connect(engine)
        await life.wait(1.0)
        assert life.state(engine) is EngineState.UP

    live(story)
