"""Addresses that were given up are kept apart until nobody can answer for them any more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from shoal.controller.acknowledged import STATES_KEPT_MAX, Acknowledged
from shoal.controller.answering import INDEXED_FROM, Engines
from shoal.controller.desired import EngineParts, encoded
from shoal.controller.freed import FREED, KEPT_APART_S_MAX, Freed, Given
from shoal.controller.records import EngineRecord
from shoal.store.memory import MemoryStore
from shoal.store.protocol import Transaction
from shoal.wire import desired as wire
from shoal.wire.messages import Applied, Claim, Hello, Owned

WEB = Given("web/0", "10.0.0.5")


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None: ...


class Held:
    """Who answers, as the test says."""

    def __init__(self) -> None:
        self.by: dict[str, str] = {}
        self.by_plan = False

    def planned(self, vip: str, address: str, besides: str = "") -> bool:
        return self.by_plan

    def engines(self, vip: str, address: str, besides: str = "") -> dict[str, str]:
        return self.by


def parts(**vips: tuple[str, ...]) -> EngineParts:
    def part(id: str, addresses: tuple[str, ...]) -> wire.Vip:
        only = ("se-1",)
        return wire.Vip(
            id=id, addresses=addresses, generation=1, owner="se-1", members=only, succession=only, list_version=1, armed=True
        )  # fmt: skip

    return {f"vip/{name}/0": encoded(part(f"{name}/0", addresses)) for name, addresses in vips.items()}


def root(of: EngineParts) -> str:
    return wire.manifest(wire.PartReference(id, part.hash) for id, part in of.items()).root


def hello(has: EngineParts, *, applied: str | None = None, owned: tuple[str, ...] = ()) -> Hello:
    return Hello(
        wire_version=1,
        engine="se-1",
        software="",
        incarnation="1",
        address="",
        mac="",
        root=root(has) if applied is None else applied,
        parts=tuple((id, part.hash) for id, part in has.items()),
        owned=tuple(Owned(vip=vip, claim=Claim(1, 0, 1)) for vip in owned),
    )


def applied(of: EngineParts) -> Applied:
    return Applied(root=root(of), how="none", took_ms=0.0)


# --- what an engine may still answer for ---


def test_an_engine_may_answer_for_what_it_was_sent_until_it_confirms_a_later_state() -> None:
    runs = Acknowledged()
    with_web, without = parts(web=("10.0.0.5",)), parts(app=("10.0.0.6",))
    runs.sent(root(with_web), with_web)
    assert runs.may_answer("web/0", "10.0.0.5") and not runs.may_answer("web/0", "10.0.0.6")
    runs.sent(root(without), without)
    runs.take(applied(with_web), None, 0.0, 0.0)
    assert runs.may_answer("web/0", "10.0.0.5"), "it confirmed the state before"
    runs.take(applied(without), None, 0.0, 0.0)
    assert not runs.may_answer("web/0", "10.0.0.5") and runs.may_answer("app/0", "10.0.0.6")


def test_a_state_that_was_sent_before_is_confirmed_by_its_turn() -> None:
    """A, B, A: the engine was frozen, and goes from the first to the last. By the root alone it may still go by B."""
    runs = Acknowledged()
    with_web, without = parts(web=("10.0.0.5",)), parts()
    for turn, state in enumerate((without, with_web, without), 7):
        runs.sent(root(state), state, turn)
    runs.take(replace(applied(without), turn=7), None, 0.0, 0.0)
    assert runs.may_answer("web/0", "10.0.0.5"), "it was the first"
    runs.take(applied(without), None, 0.0, 0.0)
    assert runs.may_answer("web/0", "10.0.0.5"), "it says not which"
    runs.take(replace(applied(with_web), turn=9), None, 0.0, 0.0)
    assert runs.may_answer("web/0", "10.0.0.5"), "a turn of another state"
    runs.take(replace(applied(without), turn=9), None, 0.0, 0.0)
    assert not runs.may_answer("web/0", "10.0.0.5")


def test_a_vip_with_another_address_gives_the_former_one_up() -> None:
    runs = Acknowledged()
    before, after = parts(web=("10.0.0.5",)), parts(web=("10.0.0.9",))
    for state in (before, after):
        runs.sent(root(state), state)
    assert runs.may_answer("web/0", "10.0.0.5") and runs.may_answer("web/0", "10.0.0.9")
    runs.take(applied(after), None, 0.0, 0.0)
    assert not runs.may_answer("web/0", "10.0.0.5")


def test_many_states_without_an_answer_are_remembered_as_one() -> None:
    runs = Acknowledged()
    first, last = parts(web=("10.0.0.5",)), parts(end=("10.0.0.7",))
    runs.sent(root(first), first)
    for n in range(3 * STATES_KEPT_MAX):
        state = parts(**{f"v{n}": (f"10.1.0.{n}",)})
        runs.sent(root(state), state)
    runs.sent(root(last), last)
    assert len(runs.states) <= STATES_KEPT_MAX and runs.may_answer("web/0", "10.0.0.5")
    runs.take(applied(last), None, 0.0, 0.0)
    assert [state.root for state in runs.states] == [root(last)]


@pytest.mark.parametrize(
    ("greeting", "may"),
    [
        (hello({}), False),  # new
        (hello({}, owned=("web/0",)), True),  # its guard says so
        (hello(parts(web=("10.0.0.5",))), True),  # not what it should run: any address
        (hello(parts(app=("10.0.0.6",))), False),
        (hello(parts(app=("10.0.0.6",)), applied=""), True),  # it may go by an older state still
        (hello(parts(app=("10.0.0.6",)), applied="other"), True),
    ],
)
def test_what_a_hello_says_of_addresses(greeting: Hello, may: bool) -> None:
    runs = Acknowledged()
    runs.greet(greeting, {}, 0.0)
    assert runs.may_answer("web/0", "10.0.0.5") is may


def test_of_a_part_that_is_as_it_should_be_the_addresses_are_known() -> None:
    runs, known = Acknowledged(), parts(web=("10.0.0.5",))
    runs.greet(hello(known), known, 0.0)
    assert runs.may_answer("web/0", "10.0.0.5") and not runs.may_answer("web/0", "10.0.0.6")


# --- who must wait for it ---


def world() -> tuple[Freed, Held, Clock]:
    clock, held = Clock(), Held()
    freed = Freed(clock)
    freed.answering = held
    freed.given_up(WEB)
    return freed, held, clock


def test_an_address_waits_for_engines_that_may_answer_and_for_the_plan() -> None:
    freed, held, _ = world()
    assert freed.obstacle(["10.0.0.5"], "new/0") == "" and freed.kept() == []
    held.by_plan = True
    assert "10.0.0.5 was the address of another VsVip before, and is being taken off its engines" in freed.obstacle(
        ["10.0.0.5"]
    )
    held.by = {"se-1": "Avi-se-abcde"}
    why = freed.obstacle(["10.0.0.5"], "new/0")
    assert "Avi-se-abcde may still answer for it and has not confirmed that it is gone" in why
    assert freed.kept() == ["10.0.0.5"]
    assert freed.obstacle(["10.0.0.5"], "web/0") == "", "its own"
    assert freed.obstacle(["10.0.0.6"], "new/0") == ""
    assert freed.waited_for([("g", "new/0", ["10.0.0.5"])]) == {"se-1"}
    assert freed.waited_for([("g", "new/0", ["10.0.0.6"])]) == set()


def test_nobody_waits_for_ever() -> None:
    freed, held, clock = world()
    held.by = {"se-1": "dead-for-good"}
    clock.at += KEPT_APART_S_MAX - 1
    assert freed.obstacle(["10.0.0.5"])
    assert freed.obstacle_to_move(["10.0.0.5"], "web/0", "h")
    clock.at += 1
    assert freed.obstacle(["10.0.0.5"]) == "" and freed.kept() == []
    assert freed.obstacle_to_move(["10.0.0.5"], "web/0", "h"), "it began to wait later"
    clock.at += KEPT_APART_S_MAX
    assert freed.obstacle_to_move(["10.0.0.5"], "web/0", "h") == ""


async def test_what_is_kept_apart_outlives_the_controller_and_goes_when_it_is_over() -> None:
    store, clock, held = MemoryStore(), Clock(), Held()
    freed = Freed(clock)
    await store.commit(Transaction(puts=(freed.given_up(WEB),)))
    later = Freed(clock)
    later.answering = held
    await later.load(store)
    held.by = {"se-1": "se-1"}

    def given_up(vip: str, address: str) -> bool:
        return False

    await later.release(given_up)
    assert later.kept() == ["10.0.0.5"]
    held.by = {}
    await later.release(lambda vip, address: True)
    assert later, "it was not given up after all"
    await later.release(given_up)
    assert not later and (await store.list(FREED)).records == ()


def test_a_vip_that_takes_its_address_again_waits_for_nobody() -> None:
    freed, held, _ = world()
    held.by = {"se-1": "se-1"}
    assert freed.taken_again("web/0", "10.0.0.5") == [WEB.key]
    assert freed.obstacle(["10.0.0.5"], "new/0"), "it may not be written"
    freed.taken([WEB.key])
    assert freed.obstacle(["10.0.0.5"], "new/0") == "" and not freed


def test_what_is_only_tried_changes_nothing() -> None:
    freed, _, _ = world()
    tried = freed.copy()
    tried.given_up(Given("app/0", "10.0.0.6"))
    tried.taken_again("web/0", "10.0.0.5")
    held: Any = Held()
    held.by = {"se-1": "se-1"}
    freed.answering = held
    assert freed.kept() == ["10.0.0.5"]


# --- among many engines ---


class FewVips:
    """Engines that were sent one VIP each, by their number; the last was never heard of."""

    def __init__(self, engines: int) -> None:
        self.told = 0
        self.runs = {f"se-{n}": Acknowledged() for n in range(engines)}
        for n, runs in enumerate(self.runs.values()):
            state = parts(**{f"v{n % 5}": (f"10.0.0.{n % 5}",)})
            runs.sent(root(state), state)

    def may_have(self, engine: str) -> frozenset[str] | None:
        return None if engine == "se-11" else self.runs[engine].vips

    def may_answer(self, engine: str, vip: str, address: str) -> bool:
        return engine == "se-11" or self.runs[engine].may_answer(vip, address)


def test_many_questions_are_answered_as_one() -> None:
    fleet: Any = FewVips(12)
    known = {
        id: EngineRecord(id=id, name=id, rank=n, group=f"g{n % 2}", seen=n != 3) for n, id in enumerate(fleet.runs)
    }
    ledger: Any = SimpleNamespace(engines=known, vips={})
    leaving = EngineRecord(id="se-1", name="se-1", rank=1, group="g1", seen=True)
    answering = Engines(ledger, fleet, SimpleNamespace(), lambda: [leaving])  # type: ignore[arg-type]
    questions = [(f"v{n % 6}/0", f"10.0.0.{n % 6}", ("", "g1")[n % 2]) for n in range(4 * INDEXED_FROM)]
    answers = []
    for question in questions:
        fleet.told += 1  # each by itself
        answers.append(answering.engines(*question))
    fleet.told += 1
    assert [answering.engines(*question) for question in questions] == answers
    assert list(answering.engines("v2/0", "10.0.0.2")) == ["se-2", "se-7", "se-11"]
    state = parts(app=("10.0.0.9",))
    fleet.runs["se-2"].sent(root(state), state)
    fleet.runs["se-2"].take(applied(state), None, 0.0, 0.0)
    fleet.told += 1
    assert list(answering.engines("v2/0", "10.0.0.2")) == ["se-7", "se-11"]
