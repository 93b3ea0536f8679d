"""Ownership in virtual time: N real machines, a network that loses, delays and splits, kernels with leases.

Everything random comes from one seed. Invariants are checked after every step; a failure names seed and time.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Protocol

import msgspec

from shoal.ownership import initial, report, step, wake_at
from shoal.ownership.events import (
    AcquireLease,
    Announce,
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
    PeerMessage,
    Send,
    Session,
    Spread,
    Started,
    Stopping,
    TakeVip,
    Tell,
    Tick,
    Told,
)
from shoal.ownership.state import CALL_S, PROBE_S, PROBE_SILENT_S, STRANGER_S, State, detection_s, slots_taken
from shoal.simulator.kernel import OVERLAP_S_MAX, Broken, Kernel
from shoal.simulator.repeats import Repeats
from shoal.wire.desired import Peer
from shoal.wire.guard import Desired
from shoal.wire.messages import Owned


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


NEVER = float("inf")
TICK = Tick()
LOST_REMEMBERED_S = 2.0
OVERLAP_LOOK_S = 0.001
"""So often owners are looked at while two answer."""
ANNOUNCED_S = (0.0, 0.05)
"""After it is ordered."""
ARP_S = 0.0002
"""A frame's way."""
SESSION_LATER_S = 0.0003
"""So long after the datagram what is sent over a session as well comes again."""


class Engine(Kernel):
    """A machine and the kernel under it. The kernel outlives the process: address and lease stay when it dies."""

    def __init__(self, name: str, rank: int, mac: str = "") -> None:
        super().__init__()
        self.name = name
        self.rank = rank
        self.mac = mac or name
        self.state: State = initial()
        self.running = False
        self.frozen = False
        self.thawed_at = -NEVER
        self.incarnation = 0
        self.desired: Desired | None = None
        self.patient_until = -NEVER
        """What it set by slower heartbeats than those of now may count until then."""
        self.haproxy = True
        self.link = True
        self.backlog: list[Event] = []
        self.wakes_at = NEVER
        self.said: PeerMessage | None = None
        """The last heartbeat that was found to be true to the disk."""
        self.repeats = Repeats()
        self.strangers: dict[str, float] = {}
        """Engines that its plan does not name -> when they were heard last."""
        self._named: tuple[tuple[Peer, ...], frozenset[str]] = ((), frozenset())

    @property
    def named(self) -> frozenset[str]:
        """The peers of its plan."""
        configured = self.state.configured
        if configured is not self._named[0]:
            self._named = configured, frozenset(peer.id for peer in configured if peer.id != self.name)
        return self._named[1]

    def audience(self, now: float) -> Iterable[str]:
        """Whom its heartbeats go to: its peers, and strangers that speak."""
        peers, named = self.state.peers, self.named
        if not self.strangers and len(peers) == len(named):
            return peers
        self.strangers = {name: at for name, at in self.strangers.items() if now - at < STRANGER_S}
        return {**dict.fromkeys(name for name in peers if name in named), **self.strangers}

    def speaks(self, address: str, now: float) -> bool:
        return self.link and self.answers(address, now)

    def spoken_for(self, now: float) -> Collection[str]:
        """VIPs of the addresses that it speaks for, one for each address."""
        return self.addresses.values() if self.link and now < self.lease_until else ()


SPEAKING = (TakeVip, AcquireLease)
"""Effects after which one engine more may answer for an address."""
CHECKED_IN_FULL_EACH = 32
"""Between changes that matter, owners are looked at once in so many events all the same."""


class World:
    """``delay_s``: (least, most) of a message; ``loss``: share of heartbeats lost (sessions' messages are not);
    ``repeated``: share of heartbeats that arrive a second time.

    ``on_tell(engine, effect)`` is what an agent would hear of its guard.
    """

    eager = False
    """Each heartbeat is stepped on when it arrives: it comes to the same, slower (`shoal.simulator.repeats`)."""

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
        self.repeated = 0.0
        self.schedule = schedule or Agenda()
        self.on_tell = on_tell
        self.engines = {n: Engine(n, i + 1) for i, n in enumerate(names)}
        self.cuts: set[frozenset[str]] = set()
        """Pairs that hear nothing of one another."""
        self.mutes: set[tuple[str, str]] = set()
        """(sender, receiver): the second hears nothing of the first."""
        self.log: list[str] = []
        self.checked = 0
        """How often owners were looked at."""
        self._events = 0
        self._look = True
        self._overlap_since: dict[str, float] = {}
        self._next_look = 0.0
        self._met_at = 0.0
        self._unmet_at: dict[frozenset[str], float] = {}
        """When a call was lost between two engines."""
        self._lost: deque[tuple[float, str, str]] = deque()
        """(when, sender, receiver) of heartbeats lost lately."""
        self.schedule.at(self.now + CALL_S, self._call)

    # --- time ---

    @property
    def now(self) -> float:
        return self.schedule.now

    def at(self, when: float, what: Callable[[], None]) -> None:
        def happen() -> None:
            what()
            self._happened()

        self.schedule.at(when, happen)

    def _happened(self) -> None:
        self._events += 1
        if self._look or self._overlap_since or self._events % CHECKED_IN_FULL_EACH == 0:
            self.check()

    def run(self, seconds: float) -> None:
        self.schedule.run(seconds)

    def note(self, text: str) -> None:
        self.log.append(f"{self.now * 1000:8.1f} {text}")

    # --- faults and orders ---

    def start(self, name: str) -> None:
        engine = self.engines[name]
        engine.running, engine.frozen, engine.state = True, False, initial()
        engine.incarnation += 1
        engine.wakes_at = NEVER
        engine.addresses.clear()  # a starting guard takes leftovers off the interface first
        engine.lease_until = -1.0
        engine.backlog.clear()
        engine.strangers.clear()
        self.feed(engine, Started(name, engine.rank, f"{name}.{engine.incarnation}", dict(engine.disk), engine.mac))
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
        self._arrive_alone(engine)
        engine.running = False
        engine.lease_until = -1.0
        for other in self.engines.values():
            if other is not engine and self.connected(name, other.name):
                self.at(self.now + 0.0003, lambda o=other: self.feed(o, Session(name, False)))  # type: ignore[misc]

    def freeze(self, name: str) -> None:
        self._arrive_alone(self.engines[name])
        self.engines[name].frozen = True

    def thaw(self, name: str) -> None:
        engine = self.engines[name]
        engine.frozen, engine.thawed_at = False, self.now
        backlog, engine.backlog = engine.backlog, []
        self.feed(engine, Tick())
        for event in backlog:
            self.feed(engine, event)

    def link(self, name: str, up: bool) -> None:
        engine = self.engines[name]
        self._meet()
        engine.link = up
        self.feed(engine, Link(up))

    def cut(self, one: str, other: str, cut: bool = True) -> None:
        self._meet()
        (self.cuts.add if cut else self.cuts.discard)(frozenset((one, other)))

    def mute(self, sender: str, receiver: str, mute: bool = True) -> None:
        """One way only: ``receiver`` hears nothing of ``sender``."""
        self._meet()
        (self.mutes.add if mute else self.mutes.discard)((sender, receiver))

    def remove(self, name: str) -> None:
        """The machine is no more."""
        self._meet()
        self.kill(name)
        self.engines.pop(name).link = False
        self.cuts = {pair for pair in self.cuts if name not in pair}
        self.mutes = {pair for pair in self.mutes if name not in pair}
        self._unmet_at = {pair: at for pair, at in self._unmet_at.items() if name not in pair}

    def _meet(self) -> None:
        """Who hears whom changes now."""
        self._met_at, self._look = self.now, True
        for engine in self.engines.values():
            self._arrive_alone(engine)

    def tell(self, name: str, desired: Desired) -> None:
        engine = self.engines[name]
        if engine.desired is not None and engine.desired.timing != desired.timing:
            engine.patient_until = self.now + 2 * detection_s(engine.state)
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
        """Both ways."""
        return self.hears(one, other) and (not self.mutes or (one, other) not in self.mutes)

    def hears(self, receiver: str, sender: str) -> bool:
        one, other = self.engines.get(receiver), self.engines.get(sender)
        if one is None or other is None or not (one.link and other.link):
            return False
        if self.cuts and frozenset((receiver, sender)) in self.cuts:
            return False
        return not self.mutes or (sender, receiver) not in self.mutes

    def _sessions(self, one: Engine, other: Engine, up: bool) -> None:
        for at, peer in ((one, other), (other, one)):
            self.at(self.now + 0.0005, lambda a=at, p=peer: self.feed(a, Session(p.name, up)))  # type: ignore[misc]

    def _send(self, engine: Engine, send: Send) -> None:
        """Nearly all that is ever sent are heartbeats to every peer, so one must cost little."""
        if not engine.link:
            return
        heard, heartbeat = Heard(send.message), send.message if isinstance(send.message, Heartbeat) else None
        whole = not self.cuts and not self.mutes
        chance, now, (least, most) = self.random.random, self.now, self.delay_s
        for name in [send.to] if send.to else engine.audience(now):
            other = self.engines.get(name)
            if other is None or other is engine or not (other.link and (whole or self.hears(name, engine.name))):
                continue
            times = 1
            if heartbeat:
                if self.loss and chance() < self.loss:
                    self._lose(engine.name, name)
                    continue
                if self.repeated and chance() < self.repeated:
                    times = 2
            for _ in range(times):
                delay = least + (most - least) * chance()
                if heartbeat is not None and times == 1 and self._repeats(other, heartbeat, now + delay):
                    continue
                self._arrive_alone(other, engine.name)
                self.schedule.at(now + delay, partial(self._arrive, engine, other, heard))
            if not heartbeat:  # a word of another kind goes by the session, too
                self.schedule.at(now + delay + SESSION_LATER_S, partial(self._arrive, engine, other, heard))

    def _repeats(self, engine: Engine, heartbeat: Heartbeat, arrives: float) -> bool:
        """It says what ``engine`` knows, and has not to arrive by itself."""
        awake = engine.running and not engine.frozen and heartbeat.engine in engine.named
        return awake and not self.eager and engine.repeats.put(engine.state, heartbeat, self.now, arrives)

    def _arrive_alone(self, engine: Engine, sender: str = "") -> None:
        """What repeats itself on its way to ``engine`` (from ``sender``, or from anybody) arrives by itself after all."""
        if not engine.repeats:
            return
        engine.state = engine.repeats.entered(engine.state, self.now)
        for one in engine.repeats.taken(sender):
            said_by = self.engines[one.message.engine]
            self.schedule.at(one.comes, partial(self._arrive, said_by, engine, Heard(one.message)))

    def _lose(self, sender: str, receiver: str) -> None:
        while self._lost and self._lost[0][0] < self.now - LOST_REMEMBERED_S:
            self._lost.popleft()
        self._lost.append((self.now, sender, receiver))

    def _arrive(self, sender: Engine, engine: Engine, heard: Heard) -> None:
        arrives = (
            sender.link and engine.link and (not (self.cuts or self.mutes) or self.hears(engine.name, sender.name))
        )
        if arrives and (sender.name in engine.named or self._hears_stranger(engine, sender, heard.message)):
            self.feed(engine, heard)
        self._happened()

    def _hears_stranger(self, engine: Engine, sender: Engine, message: PeerMessage) -> bool:
        """One of the same group; it is answered if what it says concerns this one."""
        if not _one_group(engine, sender):
            return False
        if not isinstance(message, Heartbeat) or any(entry.vip in engine.state.vips for entry in message.entries):
            engine.strangers[sender.name] = self.now
        return True

    def _call(self) -> None:
        """Whoever holds a VIP calls out; who of its group serves the VIP and does not know the caller answers with heartbeats."""
        awake = [engine for engine in self.engines.values() if engine.running and not engine.frozen]
        serving: dict[str, list[Engine]] = {}
        for engine in awake:
            for vip in engine.state.vips:
                serving.setdefault(vip, []).append(engine)
        for caller in awake:
            for other in dict.fromkeys(one for vip in caller.addresses.values() for one in serving.get(vip, ())):
                if caller is other or caller.name in other.named or not _one_group(caller, other):
                    continue
                if not self.hears(other.name, caller.name):
                    continue
                if self.loss and self.random.random() < self.loss:
                    self._unmet_at[frozenset((caller.name, other.name))] = self.now
                else:
                    other.strangers[caller.name] = self.now
        self.schedule.at(self.now + CALL_S, self._call)

    def _probe(self, engine: Engine, address: str) -> None:
        for other in self.engines.values():
            if other is engine or not self.hears(other.name, engine.name):
                continue

            def ask(o: Engine = other) -> None:
                if o.speaks(address, self.now) and self.hears(engine.name, o.name):
                    self.at(self.now + ARP_S, lambda: self.feed(engine, ArpAnswered(address, o.mac)))

            self.at(self.now + ARP_S, ask)

    def _announce(self, engine: Engine, announced: Announce) -> None:
        """Heard by those whom it says something to: who asks for the address, or has it."""

        def speak() -> None:
            for other in self.engines.values():
                if other is engine or not self.hears(other.name, engine.name):
                    continue
                view = other.state.vips.get(announced.vip)
                if view is not None and view.mode is not Mode.READY:
                    for address in announced.addresses:
                        if address in view.vip.addresses and engine.speaks(address, self.now):
                            self.at(self.now + ARP_S, partial(self.feed, other, ArpAnswered(address, engine.mac)))

        for after in ANNOUNCED_S:
            self.at(self.now + after, speak)

    # --- one engine ---

    def feed(self, engine: Engine, event: Event) -> None:
        if not engine.running:
            return
        if engine.frozen:
            engine.backlog.append(event)
            return
        now = self.now
        before = engine.repeats.entered(engine.state, now)
        engine.state, effects = step(before, event, now)
        calm = engine.state.vips is before.vips
        if not calm:
            self._arrive_alone(engine)
        if effects and calm:
            self._beat(engine, effects)
        elif effects:
            self._carry_out(engine, effects)
        # As the guard reckons: with nothing new the machine wants to wake no earlier than it did.
        if not calm or engine.wakes_at == NEVER:
            self._wake_again(engine, now)

    def _wake_again(self, engine: Engine, now: float) -> None:
        """One timer for each engine; one that goes off too early is set anew."""
        wake = max(wake_at(engine.state, now), now + 1e-6)
        if wake < engine.wakes_at:
            engine.wakes_at = wake
            self.schedule.at(wake, partial(self._wake, engine, wake, engine.incarnation))

    def _wake(self, engine: Engine, due: float, life: int) -> None:
        if engine.wakes_at == due and engine.incarnation == life:
            engine.wakes_at = NEVER
            if engine.running and not engine.frozen:
                self.feed(engine, TICK)
        self._happened()

    def _beat(self, engine: Engine, effects: list[Effect]) -> None:
        """The lease, if it has one, and the heartbeat, as nearly always."""
        *renewal, said = effects
        assert isinstance(said, Send)
        if said.message is not engine.said or (renewal and self.now >= engine.lease_until):
            engine.said = said.message
            self._carry_out(engine, effects)
            return
        if renewal:
            engine.lease_until = self.now + engine.state.timing.lease_ms / 1000
        self._send(engine, said)

    def _carry_out(self, engine: Engine, effects: list[Effect]) -> None:
        try:
            going, lost = engine.carry_out(effects, self.now, engine.state.timing.lease_ms / 1000)
        except Broken as broken:
            raise Broken(self.explain(f"{engine.name} {broken}")) from None
        if any(isinstance(effect, SPEAKING) for effect in effects):
            self._look = True
            self.schedule.at(self.now, self._happened)
        if len(effects) > 2:  # more than a heartbeat and its lease
            self._check_slots(engine)
        for effect in going:
            match effect:
                case ArpProbe():
                    for address in effect.addresses:
                        self._probe(engine, address)
                case Send():
                    self._send(engine, effect)
                case Announce():
                    self._announce(engine, effect)
                case Spread():
                    if len(effect.members) > 1:
                        self.note(f"{engine.name} spreads {effect.vip} over {' '.join(effect.members)}")
                case Tell():
                    what = effect.ownership
                    claim = f"({what.claim.generation},{what.claim.count},{what.claim.rank})"
                    self.note(f"{engine.name} {'takes' if what.owner else 'gives up'} {what.vip} {claim}: {what.why}")
                    self.on_tell(engine.name, effect)
                case _:
                    pass
        if lost:
            self.feed(engine, LeaseLost())

    def owned(self, name: str) -> tuple[Owned, ...]:
        """What its guard reports."""
        return report(self.engines[name].state, self.now).owned

    # --- invariants ---

    def speakers(self, address: str) -> list[str]:
        return [e.name for e in self.engines.values() if e.speaks(address, self.now)]

    def addresses(self) -> list[str]:
        return sorted({a for e in self.engines.values() for a in e.addresses})

    def check(self) -> None:
        """At most one engine speaks for an address on one segment; an overlap ends within what `_until` says. Slots are
        counted right."""
        self.checked += 1
        now, speakers = self.now, dict[str, list[str]]()
        for engine in self.engines.values():
            if engine.addresses and engine.link and now < engine.lease_until:
                for address in engine.addresses:
                    speakers.setdefault(address, []).append(engine.name)
        self._look = False
        for address, names in sorted(speakers.items()):
            pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if self.connected(a, b)]
            if not pairs:
                self._overlap_since.pop(address, None)
                continue
            since = self._overlap_since.setdefault(address, now)
            for one, other in pairs:
                if now > self._until(since, one, other):
                    raise Broken(self.explain(f"{one} and {other} both answer for {address}"))
        for address in [a for a in self._overlap_since if len(speakers.get(a, ())) < 2]:
            del self._overlap_since[address]
        if self._overlap_since and now >= self._next_look:
            self._next_look = now + OVERLAP_LOOK_S
            self.schedule.at(self._next_look, self._happened)
        if self._events % CHECKED_IN_FULL_EACH == 0:
            for engine in self.engines.values():
                self._check_slots(engine)

    def _until(self, since: float, one: str, other: str) -> float:
        """When two engines that both answer ``since`` then must have noticed: at once, after a heal with the next
        heartbeat, or call where neither's plan names the other, and for each heartbeat that was lost between them by the
        one after it. Who is frozen says and hears nothing, so with it at the latest when its lease has ended."""
        both = (self.engines[one], self.engines[other])
        interval_s = max(engine.state.timing.heartbeat_interval_ms for engine in both) / 1000
        noticed = self._met_at + interval_s
        if one not in both[1].named and other not in both[0].named:
            called = self._unmet_at.get(frozenset((one, other)), self._met_at)
            noticed = max(self._met_at, called) + CALL_S + 2 * interval_s
        until = max(since, noticed) + OVERLAP_S_MAX
        for engine in both:
            until = max(until, engine.thawed_at + OVERLAP_S_MAX)
            if engine.frozen:
                until = max(until, engine.lease_until)
        asked = since - PROBE_S - PROBE_SILENT_S  # what was said while asking may be what was lost
        lost = sum(when >= asked and {one, other} == {*pair} for when, *pair in self._lost)
        return until + lost * interval_s + self.delay_s[1]

    def _check_slots(self, engine: Engine) -> None:
        state = engine.state
        if state.slots_used != sum(slots_taken(state, view) for view in state.vips.values()):
            raise Broken(self.explain(f"{engine.name} has lost count of its slots"))

    def explain(self, text: str) -> str:
        return f"{text} at {self.now:.4f} s, seed {self.seed}\n" + "\n".join(self.log[-30:])


def _one_group(one: Engine, other: Engine) -> bool:
    """Guards drop what is not signed by the key of their own."""
    if one.desired is None or other.desired is None:
        return one.desired is other.desired
    return one.desired.heartbeat_key == other.desired.heartbeat_key


def encoded(state: State) -> bytes:
    """For comparing whole runs."""
    return msgspec.json.encode(state)
