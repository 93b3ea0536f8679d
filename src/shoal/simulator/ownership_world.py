"""Ownership in virtual time: N real machines, a network that loses, delays and splits, kernels with leases.

Everything random comes from one seed. Invariants are checked after every step; a failure names seed and time.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Protocol

import msgspec

from shoal.ownership import initial, step, wake_at
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
    Send,
    Session,
    Spread,
    Started,
    Stopping,
    Tell,
    Tick,
    Told,
)
from shoal.ownership.state import State, slots_taken
from shoal.simulator.kernel import HEAL_S_MAX, OVERLAP_S_MAX, Broken, Kernel
from shoal.wire.guard import Desired


class Agenda:
    """What happens when, in virtual seconds; at one moment, in the order it was put down."""

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (when, self._order, what))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            when, _, what = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            what()
        self.now = end


class Schedule(Protocol):
    """An `Agenda`, or the loop that a whole simulated system runs on."""

    @property
    def now(self) -> float: ...

    def at(self, when: float, what: Callable[[], None]) -> None: ...

    def run(self, seconds: float) -> None: ...


class Engine(Kernel):
    """A machine and the kernel under it. The kernel outlives the process: address and lease stay when it dies."""

    def __init__(self, name: str, rank: int) -> None:
        super().__init__()
        self.name = name
        self.rank = rank
        self.state: State = initial()
        self.running = False
        self.frozen = False
        self.incarnation = 0
        self.desired: Desired | None = None
        self.haproxy = True
        self.link = True
        self.backlog: list[Event] = []
        self.timer = 0

    def speaks(self, address: str, now: float) -> bool:
        return self.link and self.answers(address, now)


class World:
    """``delay_s``: (least, most) of a message; ``loss``: share of heartbeats lost (sessions' messages are not).

    ``on_tell(engine, effect)`` is what an agent would hear of its guard.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        *,
        seed: int = 0,
        loss: float = 0.0,
        delay_s: tuple[float, float] = (0.0002, 0.0002),
        schedule: Schedule | None = None,
        on_tell: Callable[[str, Tell], None] = lambda engine, effect: None,
    ) -> None:
        self.random = random.Random(seed)
        self.seed, self.loss, self.delay_s = seed, loss, delay_s
        self._schedule = schedule or Agenda()
        self._on_tell = on_tell
        self.engines = {n: Engine(n, i + 1) for i, n in enumerate(names)}
        self.cuts: set[frozenset[str]] = set()
        self.log: list[str] = []
        self._overlap_since: dict[str, float] = {}
        self._met_at = 0.0

    # --- time ---

    @property
    def now(self) -> float:
        return self._schedule.now

    def at(self, when: float, what: Callable[[], None]) -> None:
        def happen() -> None:
            what()
            self.check()

        self._schedule.at(when, happen)

    def run(self, seconds: float) -> None:
        self._schedule.run(seconds)

    def note(self, text: str) -> None:
        self.log.append(f"{self.now * 1000:8.1f} {text}")

    # --- faults and orders ---

    def start(self, name: str) -> None:
        engine = self.engines[name]
        engine.running, engine.frozen, engine.state = True, False, initial()
        engine.incarnation += 1
        engine.addresses.clear()  # a starting guard takes leftovers off the interface first
        engine.lease_until = -1.0
        engine.backlog.clear()
        self.feed(engine, Started(name, engine.rank, f"{name}.{engine.incarnation}", dict(engine.disk)))
        self.feed(engine, Link(engine.link))
        self.feed(engine, Haproxy(engine.haproxy))
        if engine.desired is not None:
            self.feed(engine, Told(engine.desired))
        for other in self.engines.values():
            if other is not engine and other.running and self.connected(name, other.name):
                self._sessions(engine, other, True)

    def kill(self, name: str) -> None:
        """kill -9: the kernel stays, and ends the sessions; the fence falls with the process."""
        engine = self.engines[name]
        engine.running = False
        engine.lease_until = -1.0
        for other in self.engines.values():
            if other is not engine and self.connected(name, other.name):
                self.at(self.now + 0.0003, lambda o=other: self.feed(o, Session(name, False)))  # type: ignore[misc]

    def freeze(self, name: str) -> None:
        self.engines[name].frozen = True

    def thaw(self, name: str) -> None:
        engine = self.engines[name]
        engine.frozen = False
        backlog, engine.backlog = engine.backlog, []
        self.feed(engine, Tick())
        for event in backlog:
            self.feed(engine, event)

    def link(self, name: str, up: bool) -> None:
        engine = self.engines[name]
        engine.link = up
        self._met_at = self.now
        self.feed(engine, Link(up))

    def cut(self, one: str, other: str, cut: bool = True) -> None:
        (self.cuts.add if cut else self.cuts.discard)(frozenset((one, other)))
        self._met_at = self.now

    def tell(self, name: str, desired: Desired) -> None:
        engine = self.engines[name]
        engine.desired = desired
        self.feed(engine, Told(desired))
        for peer in engine.state.peers.values():
            other = self.engines.get(peer.id)
            meet = other is not None and other.running and name in other.state.peers and not peer.session
            if other is not None and meet and engine.running and self.connected(name, peer.id):
                self._sessions(engine, other, True)

    def set_haproxy(self, name: str, up: bool) -> None:
        self.engines[name].haproxy = up
        self.feed(self.engines[name], Haproxy(up))

    def stop(self, name: str) -> None:
        self.feed(self.engines[name], Stopping())
        self.kill(name)

    # --- the network ---

    def connected(self, one: str, other: str) -> bool:
        return self.engines[one].link and self.engines[other].link and frozenset((one, other)) not in self.cuts

    def _sessions(self, one: Engine, other: Engine, up: bool) -> None:
        for at, peer in ((one, other), (other, one)):
            self.at(self.now + 0.0005, lambda a=at, p=peer: self.feed(a, Session(p.name, up)))  # type: ignore[misc]

    def _send(self, engine: Engine, send: Send) -> None:
        for name in [send.to] if send.to else engine.state.peers:
            other = self.engines.get(name)
            if other is None or other is engine or not self.connected(engine.name, name):
                continue
            if isinstance(send.message, Heartbeat) and self.random.random() < self.loss:
                continue
            delay = self.random.uniform(*self.delay_s)
            self.at(self.now + delay, lambda o=other: self._arrive(engine.name, o, Heard(send.message)))  # type: ignore[misc]

    def _arrive(self, sender: str, engine: Engine, event: Event) -> None:
        if self.connected(sender, engine.name):
            self.feed(engine, event)

    def _probe(self, engine: Engine, address: str) -> None:
        for other in self.engines.values():
            if other is engine or not self.connected(engine.name, other.name):
                continue

            def ask(o: Engine = other) -> None:
                if o.speaks(address, self.now) and self.connected(engine.name, o.name):
                    self.at(self.now + 0.0002, lambda: self.feed(engine, ArpAnswered(address, o.name)))

            self.at(self.now + 0.0002, ask)

    # --- one engine ---

    def feed(self, engine: Engine, event: Event) -> None:
        if not engine.running:
            return
        if engine.frozen:
            engine.backlog.append(event)
            return
        engine.state, effects = step(engine.state, event, self.now)
        self._carry_out(engine, effects)
        engine.timer += 1
        wake = wake_at(engine.state, self.now)
        timer, life = engine.timer, engine.incarnation
        self.at(max(wake, self.now + 1e-6), lambda: self._wake(engine, timer, life))

    def _wake(self, engine: Engine, timer: int, life: int) -> None:
        if engine.timer == timer and engine.incarnation == life and not engine.frozen:
            self.feed(engine, Tick())

    def _carry_out(self, engine: Engine, effects: list[Effect]) -> None:
        try:
            going, lost = engine.carry_out(effects, self.now, engine.state.timing.lease_ms / 1000)
        except Broken as broken:
            raise Broken(self.explain(f"{engine.name} {broken}")) from None
        for effect in going:
            match effect:
                case ArpProbe():
                    for address in effect.addresses:
                        self._probe(engine, address)
                case Send():
                    self._send(engine, effect)
                case Spread():
                    if len(effect.members) > 1:
                        self.note(f"{engine.name} spreads {effect.vip} over {' '.join(effect.members)}")
                case Tell():
                    what = effect.ownership
                    claim = f"({what.claim.generation},{what.claim.count},{what.claim.rank})"
                    self.note(f"{engine.name} {'takes' if what.owner else 'gives up'} {what.vip} {claim}: {what.why}")
                    self._on_tell(engine.name, effect)
                case _:
                    pass
        if lost:
            self.feed(engine, LeaseLost())

    # --- invariants ---

    def speakers(self, address: str) -> list[str]:
        return [e.name for e in self.engines.values() if e.speaks(address, self.now)]

    def addresses(self) -> list[str]:
        return sorted({a for e in self.engines.values() for a in e.addresses})

    def check(self) -> None:
        """At most one engine speaks for an address on one segment; an overlap ends within `OVERLAP_S_MAX`. Slots are
        counted right."""
        for engine in self.engines.values():
            if engine.state.slots_used != sum(slots_taken(engine.state, v) for v in engine.state.vips.values()):
                raise Broken(self.explain(f"{engine.name} has lost count of its slots"))
        for address in self.addresses():
            speakers = self.speakers(address)
            pairs = [(a, b) for i, a in enumerate(speakers) for b in speakers[i + 1 :] if self.connected(a, b)]
            if not pairs:
                self._overlap_since.pop(address, None)
                continue
            since = self._overlap_since.setdefault(address, self.now)
            until = max(since + OVERLAP_S_MAX, self._met_at + HEAL_S_MAX) + self.delay_s[1]
            if self.now > until:
                raise Broken(self.explain(f"{pairs[0]} both answer for {address}"))

    def explain(self, text: str) -> str:
        return f"{text} at {self.now:.4f} s, seed {self.seed}\n" + "\n".join(self.log[-30:])


def encoded(state: State) -> bytes:
    """For comparing whole runs."""
    return msgspec.json.encode(state)
