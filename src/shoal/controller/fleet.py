"""The engines as they are now: who is connected, what each runs, owns and reports. Nothing here is durable.

One `Session` per connection; the newest connection of an engine wins. The fleet tells the reconciler through
``on_change`` and asks it what an engine should run through ``desired``.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Set
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from shoal.errors import ShoalError
from shoal.placement.model import EngineState, Pace
from shoal.wire import desired as wire
from shoal.wire import messages
from shoal.wire.capture import Captured, CaptureMore, CaptureStart, CaptureStop
from shoal.wire.client_logs import ClientLogs
from shoal.wire.counters import Counters
from shoal.wire.preflight import Probe, Probed
from shoal.wire.recorded import Recall, Recorded

from . import gateways
from .acknowledged import VIP_PART, Acknowledged, Root, root_of
from .bgp import turns
from .clock import Clock
from .desired import EngineParts, references
from .records import EngineRecord, VipRecord
from .storm import Settings, Sighting, Storms

log = logging.getLogger("shoal.fleet")

SILENCE_MAX_S = 3.0
"""An engine sends a status each second; after three are missing it is asked about."""
WITNESSED_SILENCE_S_MAX = 60.0
"""The same, while another engine hears it."""
WITNESS_AGE_S_MAX = 2.5
"""How old the word of a witness may be."""
SUSPECT_SILENCE_MAX_S = 1.3
"""The same, when a peer has claimed a VIP from it."""
WARM_START_S = 6.0
"""After the controller's start engines get this long to connect before they are judged."""
LOST_UNCONFIRMED_S = 10.0
"""Without session, without a peer's claim and with its processes alive: this long until it counts as down."""
QUIET_AFTER_S = 1.8
"""An engine that is silent for longer counts as out of sight: two statuses are missing, a second before it is judged. So
when the first of many is, all that vanished with it are known."""
SIGHT_AGE_S_MAX = 1.1
"""Silence convicts an engine only if others were heard so lately: a status of each is due, so if none has come it may be the
controller that hears nothing. By `QUIET_AFTER_S` that is known."""
DRAIN_SEEN_AFTER_S = 1.0
"""A status that comes so long after an acknowledgement was measured after it."""
ROOTS_KEPT_MAX = 16
RECALL_WITHIN_S = 1.5
_Answer = TypeVar("_Answer", Recorded, Probed)


class Link(Protocol):
    """One connection, as `shoal.wire.channel.Channel` makes it."""

    async def send(self, message: messages.FromController) -> None: ...

    async def receive(self) -> messages.FromEngine: ...

    async def close(self) -> None: ...


class SharesLike(Protocol):
    """Who decides how much of a VIP's new flows an engine gets."""

    def of(self, engine: str) -> messages.Shares:
        """What the engine should know now."""
        ...

    def adopt(self, shares: dict[str, dict[str, int]]) -> None:
        """What an engine was told by an earlier controller."""
        ...


class Live(msgspec.Struct, kw_only=True):
    """What is known of one engine at this moment."""

    id: str
    hello: messages.Hello | None = None
    session: Session | None = None
    heard_at: float = 0.0
    """Monotonic time of the last message; 0 = never since this controller started."""
    suspected_at: float = 0.0
    """Monotonic time of the last unplanned claim a peer made on one of its VIPs."""
    gone: bool = False
    """The cloud says that no process of it runs."""
    up_since: float = 0.0
    """Wall clock."""
    down_since: float | None = None
    status: messages.Status | None = None
    servers_since: dict[tuple[str, str, str], float] = {}
    """(service, pool, server) -> wall clock of the last change of its state."""
    applied: str = ""
    how: str = ""
    took_ms: float = 0.0
    problems: dict[str, str] = {}
    """Part id -> why it is not served."""
    notes: dict[str, str] = {}
    """Part id -> how it is served otherwise than asked for."""
    status_at: float = 0.0
    """Monotonic time of the last status."""
    runs: Acknowledged = msgspec.field(default_factory=Acknowledged)
    pushed: dict[str, str] = {}
    """Part id -> hash, as last sent."""


class Ownership(msgspec.Struct, frozen=True):
    engine: str
    claim: messages.Claim
    at: float


class Sight(NamedTuple):
    """What the controller can tell by the engines that have a session. ``witnessed``: those that another one says, just now,
    that it hears; ``vouched``: those of them of which one says so that was heard lately itself. ``in_doubt``: groups of which
    all engines, or all there are, have just become quiet."""

    witnessed: Set[str]
    vouched: Set[str]
    in_doubt: Set[str]


NO_SESSIONS = Sight(frozenset(), frozenset(), frozenset())


def verdict(live: Live, record: EngineRecord, now: float, started_at: float, *, witnessed: bool = False) -> EngineState:
    """Whether an engine counts as up. ``now`` and ``started_at`` (of this controller) are monotonic seconds.

    A lost session alone is not death: the agent may have died with HAProxy serving on. It takes a second sign: a
    peer's claim, the cloud's word that nothing runs there, or time. (That word shortens the wait on an open session, too.)
    Nor is silence while another engine hears its heartbeats (``witnessed``): then it is the way to the controller that is
    bad, for `WITNESSED_SILENCE_S_MAX`.
    """
    if not record.created or not record.seen:
        return EngineState.CREATING
    silent_s = now - max(live.heard_at, started_at)
    if live.session is not None:
        limit = SUSPECT_SILENCE_MAX_S if live.suspected_at > live.heard_at else SILENCE_MAX_S
        if witnessed and live.suspected_at <= live.heard_at:
            limit = WITNESSED_SILENCE_S_MAX
        if live.gone:  # a machine that loses its power closes no connection
            limit = QUIET_AFTER_S
        return EngineState.UP if silent_s < limit else EngineState.DOWN
    if live.heard_at == 0.0 and now - started_at < WARM_START_S and not live.gone:
        return EngineState.UP
    if live.gone or live.suspected_at > live.heard_at or silent_s > LOST_UNCONFIRMED_S:
        return EngineState.DOWN
    return EngineState.UP


def proven(live: Live) -> bool:
    """Whether there is more than silence: nothing of it runs, or a peer has taken over from it."""
    return live.gone or live.suspected_at > live.heard_at


def missing(live: Live, now: float, started_at: float, *, vouched: bool = False) -> bool:
    """Whether there is no sign of life, long before it counts as down. ``vouched``: one that was heard lately itself says that it
    hears it: of two that were not, neither is a sign of life for the other."""
    if live.session is not None:
        return not vouched and now - live.heard_at >= QUIET_AFTER_S
    return live.heard_at > 0.0 or live.gone or now - started_at >= WARM_START_S


def _just_quiet(silent_s: float) -> bool:
    """So long that one should have been heard, and not so long that it counts as out of sight. (Nor does an engine that is to
    be judged: it makes no difference to the least of its group.)"""
    return SIGHT_AGE_S_MAX < silent_s < QUIET_AFTER_S


def unplanned(message: messages.Ownership) -> bool:
    """A takeover by the engines themselves: a planned owner claims its generation first (count 0)."""
    return message.detected_ms > 0 and message.claim.count > 0


def _same(one: EngineParts, other: EngineParts) -> bool:
    """The very same parts: the compiler gives what it has made until it makes it anew. Quicker than to compare roots."""
    return len(one) == len(other) and all(other.get(id) is part for id, part in one.items())


class Session:
    """Sends one engine its desired state, the newest only, and reads what it says."""

    def __init__(self, fleet: Fleet, live: Live, link: Link) -> None:
        self._fleet = fleet
        self._live = live
        self._link = link
        self._wanted = asyncio.Event()
        self._roots: OrderedDict[str, Root] = OrderedDict()
        self._sent_root, self._anew = "", False
        self._sent: EngineParts = {}
        """The parts of that state."""
        self._sent_shares = messages.Shares(live.hello.shares if live.hello is not None else {})
        self._cache: dict[str, bytes] = {}
        self._answers: dict[tuple[type, int], asyncio.Future[Any]] = {}
        """By the answer's type and the question's id."""
        self._asked = 0

    def push(self) -> None:
        """The desired state may have changed."""
        self._wanted.set()

    def push_again(self) -> None:
        """Send the whole desired state, whatever was sent before."""
        self._sent_root, self._anew = "", True
        self._wanted.set()

    async def send(self, message: messages.FromController) -> None:
        """Raises OSError, ShoalError when the engine went away."""
        await self._link.send(message)

    async def close(self) -> None:
        await self._link.close()

    async def recall(self, seconds: float) -> Recorded | None:
        """None if the engine does not answer in time."""
        return await self._ask(Recall(0, seconds), Recorded, RECALL_WITHIN_S, "send its records")

    async def probe(self, probe: Probe) -> Probed | None:
        """None if the engine does not answer in time."""
        return await self._ask(probe, Probed, probe.listen_ms / 1000 + RECALL_WITHIN_S, "answer a probe")

    async def _ask(self, question: Recall | Probe, answer: type[_Answer], within_s: float, deed: str) -> _Answer | None:
        """``question`` gets an id of its own. None, and a line in the log, if no ``answer`` to it comes in time."""
        self._asked += 1
        key = answer, self._asked
        coming = self._answers[key] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(within_s):
                await self._link.send(msgspec.structs.replace(question, id=self._asked))
                found: _Answer = await coming
                return found
        except (TimeoutError, OSError, ShoalError) as error:
            log.info("engine %s does not %s: %s", self._live.id, deed, error or "no answer in time")
            return None
        finally:
            del self._answers[key]

    async def run(self) -> None:
        """Until the link ends."""
        sender = asyncio.create_task(self._send())
        try:
            while True:
                self._receive(await self._link.receive())
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._send_state()
            if self._fleet.shares is not None:
                await self._send_shares(self._fleet.shares.of(self._live.id))

    async def _send_shares(self, shares: messages.Shares) -> None:
        if shares != self._sent_shares:
            self._sent_shares = shares
            await self._link.send(shares)

    async def _send_state(self) -> None:
        parts = self._fleet.desired(self._live.id, {})
        if self._sent_root and _same(parts, self._sent):
            return
        manifest = wire.manifest(references(parts))
        if manifest.root == self._sent_root:
            self._sent = parts
            return
        known = self._live.pushed if not self._anew else {}
        self._anew = False
        inline = tuple((id, part.data) for id, part in parts.items() if known.get(id) != part.hash)
        self._live.pushed = {id: part.hash for id, part in parts.items()}
        self._cache = {id: part.data for id, part in parts.items()}
        self._remember(manifest.root, parts)
        turn = self._fleet.next_turn()
        self._live.runs.sent(manifest.root, parts, turn)
        self._fleet.told += 1
        self._sent_root, self._sent = manifest.root, parts
        await self._link.send(messages.State(manifest=manifest, inline=inline, turn=turn))

    def _remember(self, root: str, parts: EngineParts) -> None:
        self._roots[root] = root_of(parts)
        self._roots.move_to_end(root)  # it may have been sent before: a state can come back
        while len(self._roots) > ROOTS_KEPT_MAX:
            self._roots.popitem(last=False)

    def _receive(self, message: messages.FromEngine) -> None:
        live = self._live
        self._fleet.note_heard(live)
        match message:
            case messages.Applied():
                live.applied, live.how, live.took_ms = message.root, message.how, message.took_ms
                live.problems = {problem.part: problem.why for problem in message.problems}
                live.notes = {note.part: note.why for note in message.notes}
                clock, before = self._fleet.clock, live.runs.lists
                live.runs.take(message, self._roots.get(message.root), clock.now(), clock.monotonic())
                self._fleet.told += 1
                self._fleet.note_runs(live.id, before, live.runs.lists)
                self._fleet.changed(live.id)
            case messages.Status():
                self._fleet.reported(live, message)
            case Counters():
                self._fleet.counted(live.id, message)
            case ClientLogs():
                self._fleet.logged(live.id, message)
            case Captured():
                self._fleet.captured(live.id, message)
            case messages.Ownership():
                self._fleet.ownership(live, message)
            case messages.Fetch():
                parts = tuple((id, self._cache[id]) for id in message.ids if id in self._cache)
                asyncio.get_running_loop().create_task(self._answer(messages.Parts(parts)))
            case Recorded() | Probed():
                coming = self._answers.get((type(message), message.id))
                if coming is not None and not coming.done():
                    coming.set_result(message)
            case messages.Leaving():
                live.gone = True
                self._fleet.changed(live.id)
            case messages.Hello():
                pass

    async def _answer(self, parts: messages.Parts) -> None:
        try:
            await self._link.send(parts)
        except (OSError, ShoalError) as error:
            log.info("engine %s went away: %s", self._live.id, error)


class Fleet:
    """All engines this controller knows."""

    def __init__(
        self,
        clock: Clock,
        *,
        record: Callable[[str], EngineRecord | None],
        desired: Callable[[str, Mapping[str, str]], EngineParts],
        on_change: Callable[[str], None],
        on_ownership: Callable[[str, messages.Ownership], None],
        on_vips: Callable[[Iterable[str]], None] = lambda vips: None,
        on_counters: Callable[[str, Counters], None] = lambda engine, message: None,
        on_client_logs: Callable[[str, ClientLogs], None] | None = None,
        on_join: Callable[[messages.Join, str, str], Awaitable[bytes]] | None = None,
        on_captured: Callable[[str, Captured], None] = lambda engine, message: None,
        on_router: Callable[[str, messages.BgpPeerState], None] = lambda engine, peer: None,
        on_gateway: Callable[[str, messages.GatewayState], None] = lambda engine, gateway: None,
        shares: SharesLike | None = None,
        storms: Storms | None = None,
        name: str = "controller",
    ) -> None:
        """``desired(engine, having)``: the parts it should run, having those (id -> hash). ``record(engine)``: what is known
        of it for good, None if there is no such engine. ``on_vips(vips)``: who runs or owns these is not what it was."""
        self.clock = clock
        self.desired = desired
        self.changed = on_change
        self.counted = on_counters
        self._on_join = on_join
        self.logged = on_client_logs or (lambda engine, message: None)
        self._takes_logs = on_client_logs is not None
        self.captured = on_captured
        self._on_router = on_router
        self._on_gateway = on_gateway
        self.shares = shares
        self.storms = storms or Storms(Settings, lambda group: 0)
        self._record = record
        self._on_ownership = on_ownership
        self._on_vips = on_vips
        self._name = name
        self._started_at = clock.monotonic()
        self._live: dict[str, Live] = {}
        self._turn = round(clock.now() * 1e6)
        self.told = 0
        """Grows whenever it may be another question what engines go by."""
        self._owners: dict[str, Ownership] = {}
        self._owned: dict[str, dict[str, None]] = {}
        """Engine -> the VIPs it answers for, by `_owners`."""
        self._runners: dict[str, dict[str, None]] = {}
        """VIP -> the engines that run a state with it, as far as they were heard of."""
        self._armed: dict[str, tuple[int, tuple[str, ...]]] = {}
        """VIP -> the list that is armed, by version and engines (a VIP that changes its group has records in both, for a moment): as
        far as it was asked for, or a hello has shown it."""
        self._lack_gateways: dict[str, None] = {}
        """Engines that say so of any."""
        self.first_heard = 0
        """How many engines were heard of for the first time since this controller started."""

    # --- reading ---

    def live(self, engine: str) -> Live:
        """What is known of an engine (an empty value for one never heard of)."""
        if engine not in self._live:
            self._live[engine] = Live(id=engine)
        return self._live[engine]

    def state(self, engine: str) -> EngineState:
        record = self._record(engine)
        if record is None:
            return EngineState.DOWN
        return self._state(record, self.clock.monotonic())

    def look(self, engines: Mapping[str, EngineRecord]) -> dict[str, EngineState]:
        """The state of all ``engines`` (every one there is, by id) at one moment, the storm breaker's word included."""
        now = self.clock.monotonic()
        unclear = [e for e in engines.values() if not self._plainly_up(e, now)]
        sight = self._sight(now) if any(self.live(e.id).session is not None for e in unclear) else NO_SESSIONS
        missed = {
            seen.engine: seen for seen in (self._sighting(e, now, sight) for e in unclear if e.created and e.seen)
        }
        self.storms.look(
            [
                missed.get(e.id) or Sighting(e.id, e.group, missing=False, down=False, proven=False)
                for e in engines.values()
                if e.created and e.seen
            ]
            if self.storms.active or any(seen.missing for seen in missed.values())
            else (),
            now,
            self.clock.now(),
        )
        states = dict.fromkeys(engines, EngineState.UP)
        for record in engines.values() if self.storms.active else unclear:
            states[record.id] = self._state(record, now, sight)
        return states

    def lacks_gateway(self, engine: str) -> bool:
        """Whether the engine says that any does not answer; see `without_gateway`."""
        return engine in self._lack_gateways

    def without_gateway(self, engines: Iterable[str]) -> dict[str, str]:
        """Of these engines, those that do not reach a gateway which others of them do: engine -> that gateway."""
        if not self._lack_gateways:
            return {}
        heard = {id: live for id in engines if (live := self.live(id)).session is not None}
        return gateways.lost({id: live.status.gateways for id, live in heard.items() if live.status is not None})

    def plainly_up(self, engine: EngineRecord) -> bool:
        """It is up beyond doubt, so nothing has to be weighed: nearly all engines are, nearly always. No answer while there
        is a storm."""
        return not self.storms.active and self._plainly_up(engine, self.clock.monotonic())

    def _plainly_up(self, record: EngineRecord, now: float) -> bool:
        """`verdict` says so, and `missing` that it is not."""
        live = self._live.get(record.id)
        return (
            live is not None
            and live.session is not None
            and record.created
            and record.seen
            and now - live.heard_at < SUSPECT_SILENCE_MAX_S
            and live.suspected_at <= live.heard_at
        )

    def _sighting(self, record: EngineRecord, now: float, sight: Sight) -> Sighting:
        live = self.live(record.id)
        down = self._verdict(live, record, now, sight) is EngineState.DOWN
        out_of_sight = down or missing(live, now, self._started_at, vouched=record.id in sight.vouched)
        return Sighting(record.id, record.group, out_of_sight, down, proven(live))

    def _state(self, record: EngineRecord, now: float, sight: Sight | None = None) -> EngineState:
        live = self.live(record.id)
        state = verdict(live, record, now, self._started_at)
        if state is EngineState.DOWN and live.session is not None:  # nobody else's word counts otherwise
            state = self._verdict(live, record, now, sight or self._sight(now))
        if self.storms.suspects(record.id) and not (state is EngineState.DOWN and proven(live)):
            return EngineState.SUSPECT
        return state

    def _verdict(self, live: Live, record: EngineRecord, now: float, sight: Sight) -> EngineState:
        """`verdict`, put off for a moment where it may be the controller that hears nothing."""
        state = verdict(live, record, now, self._started_at, witnessed=record.id in sight.witnessed)
        silent = live.session is not None and not proven(live)
        return EngineState.UP if state is EngineState.DOWN and silent and record.group in sight.in_doubt else state

    def _sight(self, now: float) -> Sight:
        """At the cost of all engines, so once for all that are looked at."""
        witnessed: set[str] = set()
        vouched: set[str] = set()
        silent_s: dict[str, float] = {}
        for live in self._live.values():
            if live.session is None:
                continue
            silence = now - live.heard_at
            if live.status is not None and silence < WITNESS_AGE_S_MAX:
                heard = [peer.engine for peer in live.status.peers if peer.alive and peer.engine != live.id]
                witnessed.update(heard)
                if silence < QUIET_AFTER_S:
                    vouched.update(heard)
            if (record := self._record(live.id)) is not None:
                silent_s[record.group] = min(silent_s.get(record.group, math.inf), silence)
        everywhere = _just_quiet(min(silent_s.values(), default=math.inf))
        in_doubt = {group for group, silence in silent_s.items() if everywhere or _just_quiet(silence)}
        return Sight(witnessed, vouched, in_doubt)

    def owner(self, vip: str) -> Ownership | None:
        """Who said last, by the highest claim, that it answers for the VIP."""
        return self._owners.get(vip)

    def acknowledged(self, engine: str, vip: str) -> int:
        """The list version of the VIP that the engine runs; 0 = none."""
        return self.live(engine).runs.lists.get(vip, 0)

    def has(self, engine: str, vip: str) -> bool:
        """The VIP is in what the engine was told last, or says that it was."""
        return f"{VIP_PART}{vip}" in self.live(engine).pushed

    def agreed(self, record: VipRecord) -> bool:
        """Every engine of the succession runs this list. One that this controller has not heard of does, if the list is armed."""
        armed = self.armed(record)
        return all(
            self.acknowledged(engine, record.id) >= record.list_version or (armed and not self.heard_of(engine))
            for engine in record.succession
        )

    def armed(self, record: VipRecord) -> bool:
        """Every engine of the succession has run this list, so it may be acted upon. That stays so when one of them loses it."""
        if self._armed.get(record.id) == (record.list_version, record.succession):
            return True
        if not all(self.acknowledged(e, record.id) >= record.list_version for e in record.succession):
            return False
        if record.succession:
            self._armed[record.id] = record.list_version, record.succession
        return True

    def drained(self, engine: str, vip: str, others: Iterable[str]) -> bool:
        """Whether the engine has no connection of the VIP left and will get none: all who serve it have acknowledged
        that it drains, and since then it has said that it has none. ``others`` that are gone count for nothing."""
        speaking = [live for e in sorted({engine, *others}) if (live := self.live(e)).session is not None]
        status, told = self.live(engine).status, [live.runs.drains.get((vip, engine)) for live in speaking]
        if status is None or vip not in status.drained or None in told:
            return False
        since = max((at for at in told if at is not None), default=0.0)
        return self.live(engine).status_at >= since + DRAIN_SEEN_AFTER_S

    def owned(self, engine: str) -> Iterable[str]:
        """The VIPs that the engine answers for, by the highest claims."""
        return self._owned.get(engine, {})

    def runners(self, vip: str) -> Iterable[str]:
        """The engines that act by a state with the VIP, as far as they were heard of."""
        return self._runners.get(vip, {})

    def pace(self, group: str, at: float) -> Pace | None:
        """`Storms.pace` now; ``at``: that by the wall clock."""
        return self.storms.pace(group, self.clock.monotonic(), at)

    def end_storm(self, group: str) -> list[str] | None:
        """`Storms.end` now."""
        return self.storms.end(group, self.clock.monotonic())

    def out_of_hearing(self, engine: str) -> bool:
        """It has no session, or one on which it says nothing."""
        live = self.live(engine)
        return live.session is None or self.clock.monotonic() - live.heard_at >= QUIET_AFTER_S

    def heard_of(self, engine: str) -> bool:
        """What another one runs (or finds on its disk when it starts) is unknown."""
        return self.live(engine).heard_at > 0.0

    def note_heard(self, live: Live) -> None:
        if not live.heard_at:
            self.first_heard += 1
        live.heard_at, live.gone = self.clock.monotonic(), False

    def note_runs(self, engine: str, before: Mapping[str, int], now: Mapping[str, int]) -> None:
        """``before`` and ``now``: the lists it runs."""
        for vip in before.keys() - now.keys():
            _drop(self._runners, vip, engine)
            if vip not in self._runners:
                self._armed.pop(vip, None)
        for vip in now.keys() - before.keys():
            self._runners.setdefault(vip, {})[engine] = None
        if changed := [vip for vip in {**before, **now} if before.get(vip) != now.get(vip)]:
            self._on_vips(changed)

    def may_answer(self, engine: str, vip: str, address: str) -> bool:
        """Could the engine answer for the address as for one of this VIP's? One that this controller has not heard of
        yet could for any."""
        live = self.live(engine)
        return live.heard_at == 0.0 or live.runs.may_answer(vip, address)

    def may_have(self, engine: str) -> frozenset[str] | None:
        """The VIPs that the engine may answer for anything of; None = not known."""
        live = self.live(engine)
        return None if live.heard_at == 0.0 else live.runs.vips

    def next_turn(self) -> int:
        """Of a state that is sent: never the same, nor one of an earlier controller's."""
        self._turn += 1
        return self._turn

    # --- the engines speak ---

    async def attend(self, link: Link, identity: str, certificate: str = "") -> None:
        """Serve one connection until it ends. ``identity`` is the peer certificate's URI (``shoal://engine/<id>``),
        ``certificate`` its fingerprint ("" = there was no TLS)."""
        hello = await link.receive()
        if isinstance(hello, messages.Join):
            await link.send(await self._joined(hello, identity, certificate))
            return
        refusal = self._refusal(hello, identity, certificate)
        if refusal or not isinstance(hello, messages.Hello):
            await link.send(messages.Rejected(refusal))
            return
        live = self.live(hello.engine)
        if live.session is not None:
            await live.session.close()
        live.hello = hello
        session = Session(self, live, link)
        self._greet(live, hello, session)
        await link.send(
            messages.Welcome(wire_version=messages.WIRE_VERSION, controller=self._name, client_logs=self._takes_logs)
        )
        session.push()
        try:
            await session.run()
        finally:
            if live.session is session:
                live.session = None
                self.changed(live.id)

    async def _joined(
        self, asked: messages.Join, identity: str, certificate: str
    ) -> messages.Joined | messages.Rejected:
        if asked.wire_version != messages.WIRE_VERSION or self._on_join is None:
            return messages.Rejected("nobody joins here by what this engine speaks")
        try:
            return messages.Joined(await self._on_join(asked, identity, certificate))
        except ShoalError as error:
            return messages.Rejected(str(error))

    async def disconnect(self, engine: str) -> None:
        """It will connect again, if it may."""
        live = self.live(engine)
        if live.session is not None:
            await live.session.close()

    def _refusal(self, hello: messages.FromEngine, identity: str, certificate: str) -> str:
        if not isinstance(hello, messages.Hello):
            return "the first message must be hello"
        if hello.wire_version != messages.WIRE_VERSION:
            return f"wire version {hello.wire_version} is not spoken here ({messages.WIRE_VERSION} is)"
        if identity != f"shoal://engine/{hello.engine}":
            return f"the certificate is {identity or 'missing'}, not that of engine {hello.engine}"
        record = self._record(hello.engine)
        if record is None:
            return f"engine {hello.engine} is not known here"
        if certificate and record.certificate not in ("", certificate):
            log.warning("%s showed a certificate that is revoked", record.name)
            return f"this certificate of engine {hello.engine} is revoked"
        return ""

    def _greet(self, live: Live, hello: messages.Hello, session: Session) -> None:
        live.session = session
        is_new = not self.heard_of(live.id)
        self.note_heard(live)
        live.applied = hello.root
        live.pushed = dict(hello.parts)
        parts = self.desired(live.id, live.pushed)
        same = {id: part for id, part in parts.items() if live.pushed.get(id) == part.hash}
        before = live.runs.lists
        live.runs.greet(hello, same, self.clock.monotonic())
        self.told += 1
        self._note_armed(same)
        self.note_runs(live.id, before, live.runs.lists)
        if is_new:  # those that it does not run were thought to be agreed upon
            self._on_vips([part.vip.id for part in parts.values() if part.vip is not None])
        self.note_owned(live.id, hello.owned)
        if self.shares is not None:
            self.shares.adopt(hello.shares)
        self.changed(live.id)

    def _note_armed(self, parts: EngineParts) -> None:
        """``parts``: those that an engine has of what it should have. An earlier controller armed what it knows to be armed."""
        vips = (part.vip for part in parts.values() if part.vip is not None)
        armed = {vip.id: (vip.list_version, vip.succession) for vip in vips if vip.armed}
        if new := {vip: one for vip, one in armed.items() if self._armed.get(vip) != one}:
            self._armed |= new
            self._on_vips(list(new))

    def reported(self, live: Live, status: messages.Status) -> None:
        before = live.status
        if status.partial and before is not None:
            status = msgspec.structs.replace(status, servers=before.servers, services=before.services, partial=False)
        live.status, live.status_at = status, self.clock.monotonic()
        for peer in turns(before.bgp if before is not None else (), status.bgp) if status.bgp else ():
            self._on_router(live.id, peer)
        if before is None or before.gateways != status.gateways:
            self._note_gateways(live.id, before.gateways if before is not None else (), status.gateways)
        self.note_owned(live.id, status.owned)
        # That it is drained may count only now: see `drained`.
        if before is None or _differ(before, status) or live.down_since is not None or status.drained:
            live.servers_since = _since(live.servers_since, before, status, self.clock.now())
            self.changed(live.id)

    def _note_gateways(
        self, engine: str, before: tuple[messages.GatewayState, ...], now: tuple[messages.GatewayState, ...]
    ) -> None:
        self._lack_gateways.pop(engine, None)
        if any(gateway.why for gateway in now):
            self._lack_gateways[engine] = None
        for gateway in gateways.turns(before, now):
            self._on_gateway(engine, gateway)

    def ownership(self, live: Live, message: messages.Ownership) -> None:
        if message.owner:
            self.note_owned(live.id, (messages.Owned(vip=message.vip, claim=message.claim),))
            if message.from_engine and unplanned(message):
                self.live(message.from_engine).suspected_at = self.clock.monotonic()
                self.changed(message.from_engine)
        else:
            self._forget(message.vip, live.id)
        self._on_ownership(live.id, message)

    def note_owned(self, engine: str, owned: tuple[messages.Owned, ...]) -> None:
        for item in owned:
            known = self._owners.get(item.vip)
            outranked = known is not None and known.engine != engine and known.claim >= item.claim
            if not outranked and (known is None or (known.engine, known.claim) != (engine, item.claim)):
                self._own(item.vip, Ownership(engine, item.claim, self.clock.now()))

    def _own(self, vip: str, owner: Ownership | None) -> None:
        before = self._owners.pop(vip, None)
        if before is not None:
            _drop(self._owned, before.engine, vip)
        if owner is not None:
            self._owners[vip] = owner
            self._owned.setdefault(owner.engine, {})[vip] = None
        self._on_vips((vip,))

    def _forget(self, vip: str, engine: str) -> None:
        known = self._owners.get(vip)
        if known is not None and known.engine == engine:
            self._own(vip, None)

    def forget_vip(self, vip: str) -> None:
        if vip in self._owners:
            self._own(vip, None)

    def forget_engine(self, engine: str) -> None:
        """The engine was deleted."""
        gone = self._live.pop(engine, None)
        self._lack_gateways.pop(engine, None)
        if gone is not None:
            self.note_runs(engine, gone.runs.lists, {})
        for vip in list(self.owned(engine)):
            self._own(vip, None)

    # --- to the engines ---

    def push(self, engine: str) -> None:
        session = self.live(engine).session
        if session is not None:
            session.push()

    def push_again(self, engine: str) -> bool:
        """The same with everything it should run, as if it had nothing. False when it is not connected."""
        session = self.live(engine).session
        if session is not None:
            session.push_again()
        return session is not None

    async def recall(self, engine: str, seconds: float) -> Recorded | None:
        """Ask an engine for what its recorders hold. None: it is away, silent, or has none."""
        live = self.live(engine)
        if live.session is None or live.hello is None or not live.hello.recorder:
            return None
        return await live.session.recall(seconds)

    async def probe(self, engine: str, probe: Probe) -> Probed | None:
        """Have an engine say and hear. None: it is away, silent, or too old for that."""
        live = self.live(engine)
        if live.session is None or live.hello is None or not live.hello.probes:
            return None
        return await live.session.probe(probe)

    async def tell(self, engine: str, message: CaptureStart | CaptureMore | CaptureStop) -> bool:
        """False when it is not connected (any more)."""
        session = self.live(engine).session
        if session is None:
            return False
        try:
            await session.send(message)
        except (OSError, ShoalError) as error:
            log.info("engine %s went away: %s", engine, error)
            return False
        return True

    def push_all(self) -> None:
        for live in self._live.values():
            if live.session is not None:
                live.session.push()


def _drop(index: dict[str, dict[str, None]], key: str, entry: str) -> None:
    entries = index.get(key, {})
    entries.pop(entry, None)
    if not entries:
        index.pop(key, None)


def _differ(before: messages.Status, status: messages.Status) -> bool:
    """In what can change a plan or a runtime state (counters can't)."""
    return _weight(before) != _weight(status) or (
        before.servers is not status.servers and _states(before) != _states(status)
    )


def _since(
    since: dict[tuple[str, str, str], float], before: messages.Status | None, status: messages.Status, now: float
) -> dict[tuple[str, str, str], float]:
    """Since when each server is in its state."""
    states = {(s.service, s.pool, s.server): s.state for s in (before.servers if before else ())}
    keys = (((s.service, s.pool, s.server), s.state) for s in status.servers)
    return {key: since.get(key, now) if states.get(key) == state else now for key, state in keys}


def _weight(status: messages.Status) -> tuple[object, ...]:
    return status.haproxy, status.link, status.owned, status.drained, status.gateways


def _states(status: messages.Status) -> list[tuple[str, str, str, str]]:
    return [(s.service, s.pool, s.server, s.state) for s in status.servers]
