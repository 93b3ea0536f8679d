"""One engine of the exhaustive search: the real machine, the kernel under it, and all it may do with what arrives.

An engine's local behaviour depends on its `Node`, the time since its last step, and what arrives; so every reaction is
worked out once and remembered. Times are whole microseconds, relative to the engine's last step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from shoal.ownership import initial, wake_at
from shoal.ownership.events import (
    ArpAnswered,
    ArpProbe,
    Effect,
    Event,
    Haproxy,
    Heard,
    Heartbeat,
    LeaseLost,
    Link,
    Mode,
    Send,
    Session,
    Started,
    Stopping,
    Tell,
    Tick,
    Told,
)
from shoal.ownership.state import NEVER, State, able, interval_s
from shoal.simulator.canonical import LATENESS_S, TICKS_PER_S, at_rest
from shoal.simulator.kernel import Broken, Kernel
from shoal.wire.guard import Desired
from shoal.wire.messages import Claim

Step = Callable[[State, Event, float], tuple[State, list[Effect]]]
TICK = 0
"""The number of the letter that is no letter: the engine's own timer."""
DEAD = -1


class Asked(msgspec.Struct, frozen=True):
    """An ARP question on its way. The kernel answers it, whatever the guard does."""

    address: str


class Letter(NamedTuple):
    """What travels: from engine number ``sender``, ``event`` at the other end. ``lossy``: it may be lost, or late."""

    sender: int
    event: Event | Asked
    lossy: bool


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """An engine but for the time since its last step. ``machine`` is a number, `DEAD` without a process.

    ``told`` numbers the plan its agent knows; the kernel's ``lease`` ends that long after the last step.
    Frozen at ``frozen_at`` (-1: it runs) with the effects ``rest`` still to do and ``backlog`` in its sockets.
    """

    engine: int
    machine: int = DEAD
    life: int = 0
    told: int = 0
    lease: int = 0
    addresses: tuple[tuple[str, str], ...] = ()
    disk: tuple[tuple[str, Claim], ...] = ()
    haproxy: bool = True
    link: bool = True
    frozen_at: int = -1
    rest: tuple[Effect, ...] = ()
    lost: bool = False
    backlog: tuple[int, ...] = ()


class Facts(NamedTuple):
    """Of a node, what the search asks often: when its next tick and heartbeat are due, ... ``views``: VIP -> (held by claim, is it planned here, who holds it)."""

    wake: float
    beat: float
    runs: bool
    able: bool
    link: bool
    lease: int
    speaks_for: tuple[str, ...]
    views: dict[str, tuple[Claim | None, bool, str]]


class Outcome(NamedTuple):
    """``sent``: (to engine number, letter number). ``fault``: "" or what befell it half-way, kill or freeze."""

    node: int
    age: int
    sent: tuple[tuple[int, int], ...]
    fault: str
    notes: tuple[str, ...]


class Engines:
    """The engines ``names`` under ``plans``. ``step`` is the machine; ``lease_ms`` what the kernels really grant."""

    def __init__(self, names: tuple[str, ...], plans: tuple[Desired, ...], step: Step, lease_ms: int) -> None:
        self.names, self.plans = names, plans
        self._step, self._lease_s = step, lease_ms / 1000
        self.states: list[State] = []
        self.nodes: list[Node] = []
        self.facts: list[Facts] = []
        self.letters: list[Letter] = [Letter(-1, Tick(), False)]
        self.steps = 0
        self._state_ids: dict[bytes, int] = {}
        self._node_ids: dict[Node, int] = {}
        self._letter_ids: dict[Letter, int] = {self.letters[0]: TICK}
        self._told: dict[tuple[int, int], Told] = {}
        self._reactions: dict[tuple[int, int, tuple[int, ...], bool, bool], tuple[Outcome, ...]] = {}
        self._taken: dict[tuple[int, int, int, bool, bool], tuple[Outcome, ...]] = {}
        self._stepped: dict[tuple[int, int, Event], tuple[int, tuple[Effect, ...]]] = {}
        self._encoder = msgspec.msgpack.Encoder()

    # --- numbers for things ---

    def node(self, node: Node) -> int:
        number = self._node_ids.setdefault(node, len(self.nodes))
        if number == len(self.nodes):
            self.nodes.append(node)
            self.facts.append(self._facts_of(node))
        return number

    def letter(self, letter: Letter) -> int:
        number = self._letter_ids.setdefault(letter, len(self.letters))
        if number == len(self.letters):
            self.letters.append(letter)
        return number

    def _machine(self, state: State) -> int:
        number = self._state_ids.setdefault(self._encoder.encode(state), len(self.states))
        if number == len(self.states):
            self.states.append(state)
        return number

    def _facts_of(self, node: Node) -> Facts:
        runs = node.machine != DEAD and node.frozen_at < 0
        speaks_for = tuple(a for a, _ in node.addresses) if node.link and node.lease > 0 else ()
        if node.machine == DEAD:
            return Facts(math.inf, math.inf, False, False, node.link, node.lease, speaks_for, {})
        state = self.states[node.machine]
        views = {}
        for vip, view in state.vips.items():
            planned = state.engine == view.vip.owner or state.engine in view.succession
            views[vip] = (view.claim if view.mode is Mode.HELD else None, planned, view.holder)
        wake = max(math.ceil(wake_at(state, 0.0) * TICKS_PER_S - 1e-3), 1) if runs else math.inf
        beat = round((state.beat_at + interval_s(state)) * TICKS_PER_S) if runs and state.beat_at != NEVER else math.inf
        return Facts(wake, beat, runs, runs and able(state), node.link, node.lease, speaks_for, views)

    # --- reactions ---

    def react(self, node: int, age: int, arrived: tuple[int, ...], kill: bool, freeze: bool) -> tuple[Outcome, ...]:
        """All distinct outcomes of what ``arrived`` at one instant, in every order. With ``kill`` or ``freeze`` also
        those in which the process is killed or frozen between any two effects."""
        key = (node, age, arrived, kill, freeze)
        found = self._reactions.get(key)
        if found is None:
            found = self._reactions[key] = self._in_every_order(Outcome(node, age, (), "", ()), arrived, kill, freeze)
        return found

    def _in_every_order(
        self, start: Outcome, arrived: tuple[int, ...], kill: bool, freeze: bool
    ) -> tuple[Outcome, ...]:
        partial: dict[tuple[tuple[object, ...], tuple[int, ...]], Outcome] = {(start[:4], arrived): start}
        for _ in arrived:
            grown: dict[tuple[tuple[object, ...], tuple[int, ...]], Outcome] = {}
            for (_, left), before in partial.items():
                for i, letter in enumerate(left):
                    if (i and self.nodes[before.node].frozen_at >= 0) or self._comes_after(letter, left[:i]):
                        continue  # a backlog is kept in one order
                    rest = left[:i] + left[i + 1 :]
                    unhurt = not before.fault
                    for after in self._take(before.node, before.age, letter, kill and unhurt, freeze and unhurt):
                        joined = _joined(before, after)
                        grown.setdefault((joined[:4], rest), joined)
            partial = grown
        return tuple(partial.values())

    def _comes_after(self, letter: int, waiting: tuple[int, ...]) -> bool:
        """One engine's messages go through one socket, and are heard in the order in which they came."""
        if letter in waiting:
            return True
        sender, event, _ = self.letters[letter]
        earlier = [self.letters[n] for n in waiting]
        return isinstance(event, Heard) and any(e.sender == sender and isinstance(e.event, Heard) for e in earlier)

    def _take(self, node: int, age: int, letter: int, kill: bool, freeze: bool) -> tuple[Outcome, ...]:
        key = (node, age, letter, kill, freeze)
        found = self._taken.get(key)
        if found is None:
            found = self._taken[key] = tuple(self._taking(node, age, letter, kill, freeze))
        return found

    def _taking(self, number: int, age: int, letter: int, kill: bool, freeze: bool) -> list[Outcome]:
        node, event = self.nodes[number], self.letters[letter].event
        unchanged = Outcome(number, age, (), "", ())
        if isinstance(event, Asked):
            asker = self.letters[letter].sender
            if not (node.link and age < node.lease and event.address in dict(node.addresses)):
                return [unchanged]
            answer = self.letter(Letter(node.engine, ArpAnswered(event.address, self.names[node.engine]), True))
            return [unchanged._replace(sent=((asker, answer),), notes=(f"answers ARP for {event.address}",))]
        if node.machine == DEAD:
            return [unchanged]
        if letter == TICK:
            return self.feed(number, age, event, kill, freeze) if self.facts[number].wake <= age else [unchanged]
        if node.frozen_at >= 0:
            return [unchanged._replace(node=self.node(replace(node, backlog=(*node.backlog, letter))))]
        return self.feed(number, age, event, kill, freeze)

    def feed(self, number: int, age: int, event: Event, kill: bool = False, freeze: bool = False) -> list[Outcome]:
        """One step of the machine and its effects. The first outcome is the whole of it; the others break off."""
        node = self.nodes[number]
        machine, effects = self._stepping(node, age, event)
        moved = replace(node, machine=machine, lease=max(node.lease - age, 0))
        note = f"{described(event)}: {' '.join(map(_effect, effects)) or '-'}"
        outcomes = self._carry_out(moved, 0, effects, False, note)
        for done in range(len(effects)) if kill or freeze else ():
            half, lost, sent = self._effected(moved, 0, effects[:done], False)
            broken_off = f"{note}  [{{}} after {done} effects]"
            if kill:
                outcomes.append(Outcome(self.node(_killed(half)), 0, sent, "kill", (broken_off.format("killed"),)))
            if freeze:
                frozen = replace(half, frozen_at=0, rest=effects[done:], lost=lost)
                outcomes.append(Outcome(self.node(frozen), 0, sent, "freeze", (broken_off.format("frozen"),)))
        return outcomes

    def _carry_out(self, node: Node, age: int, effects: tuple[Effect, ...], lost: bool, note: str) -> list[Outcome]:
        after, lost, sent = self._effected(node, age, effects, lost)
        whole = Outcome(self.node(after), age, sent, "", (note,))
        if not lost:
            return [whole]
        return [_joined(whole, o) for o in self.feed(whole.node, age, LeaseLost())]

    def _stepping(self, node: Node, age: int, event: Event) -> tuple[int, tuple[Effect, ...]]:
        hashable = not isinstance(event, Started)
        if hashable and (known := self._stepped.get((node.machine, age, event))) is not None:
            return known
        now = age / TICKS_PER_S + LATENESS_S
        self.steps += 1
        state, effects = self._step(self.states[node.machine], event, now)
        found = self._machine(at_rest(state, now)), tuple(effects)
        if hashable:
            self._stepped[node.machine, age, event] = found
        return found

    def _effected(
        self, node: Node, age: int, effects: tuple[Effect, ...], lost: bool
    ) -> tuple[Node, bool, tuple[tuple[int, int], ...]]:
        kernel = Kernel()
        kernel.addresses, kernel.disk = dict(node.addresses), dict(node.disk)
        kernel.lease_until = node.lease / TICKS_PER_S
        try:
            going, lost = kernel.carry_out(effects, age / TICKS_PER_S + LATENESS_S, self._lease_s, lost=lost)
        except Broken as broken:
            raise Broken(f"{self.names[node.engine]} {broken}") from None
        for address, vip in kernel.addresses.items():
            if (address, vip) not in node.addresses and not self._entitled(node, vip):
                raise Broken(f"{self.names[node.engine]} takes {vip}, which neither a plan nor an armed list gives it")
        after = replace(
            node,
            lease=max(round(kernel.lease_until * TICKS_PER_S), 0),
            addresses=tuple(sorted(kernel.addresses.items())),
            disk=tuple(sorted(kernel.disk.items())),
        )
        return after, lost, _by_receiver([s for effect in going for s in self._sent(node.engine, effect)])

    def _entitled(self, node: Node, vip: str) -> bool:
        """It may still hold what an earlier plan gave it, until somebody asks for it."""
        told = [v for plan in self.plans[: node.told + 1] for v in plan.vips if v.id == vip]
        name = self.names[node.engine]
        return any(name == v.owner or name in v.ruling[0] for v in told)

    def _sent(self, engine: int, effect: Effect) -> list[tuple[int, int]]:
        others = [i for i in range(len(self.names)) if i != engine]
        if isinstance(effect, ArpProbe):
            asked = [self.letter(Letter(engine, Asked(a), True)) for a in effect.addresses]
            return [(i, a) for i in others for a in asked]
        if isinstance(effect, Send):
            lossy = isinstance(effect.message, Heartbeat)  # the guard sends a resignation twice, once over TCP
            letter = self.letter(Letter(engine, Heard(effect.message), lossy))
            return [(i, letter) for i in others if effect.to in ("", self.names[i])]
        return []

    # --- lives ---

    def told(self, engine: int, plan: int) -> Told:
        """An engine hears of the VIPs that concern it."""
        if (engine, plan) not in self._told:
            name, desired = self.names[engine], self.plans[plan]
            vips = tuple(v for v in desired.vips if name in (v.owner, *v.members, *v.succession, *v.in_force))
            self._told[engine, plan] = Told(replace(desired, vips=vips))
        return self._told[engine, plan]

    def start(self, number: int) -> Outcome:
        """A new process: leftovers are taken off first, claims read from disk, and the agent tells what it knows."""
        old = self.nodes[number]
        name, life = self.names[old.engine], old.life + 1
        fresh = replace(old, machine=self._machine(initial()), life=life, lease=0, addresses=())
        outcome = Outcome(self.node(fresh), 0, (), "", ())
        news: list[Event] = [Started(name, old.engine + 1, f"{name}.{life}", dict(old.disk), name)]
        news += [Link(old.link), Haproxy(old.haproxy), self.told(old.engine, old.told)]
        for event in news:
            outcome = _joined(outcome, self.feed(outcome.node, outcome.age, event)[0])
        return outcome

    def kill(self, number: int, age: int) -> tuple[int, int]:
        """(node, age) once the process is gone: the addresses stay, and the fence has fallen."""
        return self.rested(self.node(_killed(self.nodes[number])), age)

    def rested(self, number: int, age: int) -> tuple[int, int]:
        """A dead engine's time does not matter once its lease is over."""
        node = self.nodes[number]
        if node.machine != DEAD or age < node.lease:
            return number, age
        return self.node(replace(node, lease=0)), 0

    def stop(self, number: int, age: int) -> Outcome:
        """Ended in order: it resigns, and then dies."""
        outcome = self.feed(number, age, Stopping())[0]
        node, age = self.kill(outcome.node, outcome.age)
        return outcome._replace(node=node, age=age)

    def freeze(self, number: int, age: int) -> int:
        return self.node(replace(self.nodes[number], frozen_at=age))

    def thaw(self, number: int, age: int) -> list[Outcome]:
        """It ends what it was doing, then reads its sockets and looks at its timer, in either order."""
        node = self.nodes[number]
        awake = replace(node, frozen_at=-1, rest=(), lost=False, backlog=())
        outcomes = [Outcome(self.node(awake), age, (), "", ())]
        if node.rest:
            outcomes = self._carry_out(
                awake, age, node.rest, node.lost, f"goes on: {' '.join(map(_effect, node.rest))}"
            )
        found: dict[tuple[object, ...], Outcome] = {}
        for order in ((*node.backlog, TICK), (TICK, *node.backlog)):
            for outcome in outcomes:
                for letter in order:
                    outcome = _joined(outcome, self._take(outcome.node, outcome.age, letter, False, False)[0])
                found.setdefault(outcome[:4], outcome)
        return list(found.values())

    def session(self, sender: int, up: bool) -> int:
        return self.letter(Letter(sender, Session(self.names[sender], up), False))

    def changed(self, number: int, age: int, event: Event) -> Outcome:
        """News from this engine itself: a plan, HAProxy, the link. Waits while it is frozen."""
        letter = self.letter(Letter(self.nodes[number].engine, event, False))
        return self._take(number, age, letter, False, False)[0]


def _killed(node: Node) -> Node:
    return replace(node, machine=DEAD, lease=0, frozen_at=-1, rest=(), lost=False, backlog=())


def _by_receiver(sent: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """What one receiver gets stays in order."""
    return tuple(sorted(sent, key=lambda s: s[0]))


def _joined(one: Outcome, then: Outcome) -> Outcome:
    sent = _by_receiver([*one.sent, *then.sent]) if one.sent and then.sent else one.sent or then.sent
    return Outcome(then.node, then.age, sent, one.fault or then.fault, one.notes + then.notes)


def described(event: Event | Asked) -> str:
    """For a transcript."""
    if isinstance(event, Heard):
        message = event.message
        if isinstance(message, Heartbeat):
            words = (f"{e.vip} {e.mode.name}{_claim(e.claim)}" for e in message.entries)
            return f"hears {message.engine}: {', '.join(words) or 'nothing yet'}"
        return f"hears {message.engine} resign {message.vip}{_claim(message.claim)} to {message.to}"
    if isinstance(event, Session):
        return f"session with {event.peer} {'up' if event.up else 'ends'}"
    if isinstance(event, ArpAnswered):
        return f"{event.mac} answers ARP for {event.address}"
    if isinstance(event, Told):
        return "is told " + ", ".join(f"{v.id} generation {v.generation} owner {v.owner}" for v in event.desired.vips)
    return type(event).__name__


def _effect(effect: Effect) -> str:
    if isinstance(effect, Send):
        return f"Send({described(Heard(effect.message))[6:]})"
    if isinstance(effect, Tell):
        what = effect.ownership
        return f"{'TAKES' if what.owner else 'GIVES UP'} {what.vip}{_claim(what.claim)} ({what.why})"
    return type(effect).__name__


def _claim(claim: Claim | None) -> str:
    return "" if claim is None else f"({claim.generation},{claim.count},{claim.rank})"
