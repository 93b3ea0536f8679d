"""The guard's body: events in, effects out, in one thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from shoal.engine.guard import kernel
from shoal.engine.guard.agent_socket import AgentSocket
from shoal.engine.guard.anew import Anew
from shoal.engine.guard.calls import Calls
from shoal.engine.guard.claims import ClaimFile
from shoal.engine.guard.datagrams import Keeper
from shoal.engine.guard.descriptors import Low
from shoal.engine.guard.exchange import Exchange, Flows, FlowsWanted
from shoal.engine.guard.flow_rules import FlowRules
from shoal.engine.guard.haproxy import HaproxyCheck
from shoal.engine.guard.lease import Lease
from shoal.engine.guard.loop import Loop, Timer
from shoal.engine.guard.neighbours import Neighbours, NeighbourSocket
from shoal.engine.guard.netlink import Addresses, LinkMonitor
from shoal.engine.guard.nft import NAME, Nft, NftError, address_batch, flow_chain, lifetimes, ruleset, sharing
from shoal.engine.guard.notes import Notes
from shoal.engine.guard.peers import Message, PeerNetwork
from shoal.engine.guard.returns import Returns
from shoal.engine.guard.revive import FIRST_S_MAX, Revive
from shoal.engine.guard.routes import Routes
from shoal.engine.guard.segments import Segments
from shoal.engine.guard.sockets import Carried, Kept, Sockets
from shoal.engine.guard.spread import Spreader
from shoal.observe.ring import GUARD_FILE, GUARD_SLOTS, Recorder
from shoal.ownership import breathe, initial, report, step, wake_at
from shoal.ownership import events as on
from shoal.wire.guard import Changed, Desired, GuardStart, Heard, Report, Stop, ToGuard, Unready
from shoal.wire.messages import Shares

log = logging.getLogger("shoal.guard")

ANNOUNCE_AFTER_S = (0.0, 0.05, 0.2, 1.0)
"""One lost announcement costs a neighbour tens of seconds."""
REPORT_S = 1.0
SPREAD_AFTER_RELEASE_S = 2.0
"""So long a former owner goes on passing on what neighbours that have not heard of the new one still send it."""
LOW_DESCRIPTORS = 128
"""For packet sockets on VLANs: two each, and those that are closed a moment later."""
PRUNE_AFTER_S = 1.0
"""So long the flows of an engine that seems dead are left to it."""
SPEAKING = (on.TakeVip, on.Announce)


class Guard:
    """Owns every socket and the state. Raises OSError from the constructor if the engine's network is not there."""

    def __init__(self, start: GuardStart) -> None:
        self._start = start
        directory = Path(start.directory)
        self.loop = Loop()
        self._state = initial()
        self._timer: Timer | None = None
        self._held: dict[str, tuple[str, ...]] = {}
        self._rounds: dict[str, int] = {}
        self._former: dict[str, int] = {}
        self._vips: set[str] = set()
        self._idle_s = 600
        self._told = ""
        self._releases = 0
        self._stopping = False
        self._notes = Notes(Recorder.open(Path(start.recorder or start.directory) / GUARD_FILE, GUARD_SLOTS))
        self._reported: Report | None = None
        self._news = False
        """What the agent has to hear of came up in this step: once for all of its VIPs."""
        self._claims = ClaimFile(directory / "claims.json")
        kernel.set_sysctls()
        self._addresses = Addresses()
        low, neighbours = Low(LOW_DESCRIPTORS), Neighbours(start.interface)  # before all that must end sooner
        self._nft = Nft()
        self._segments = Segments(
            self.loop, self._nft, self._addresses, start.interface, neighbours, low, self._on_answer
        )
        self._segments.remove_left()
        mac = self._mac = self._segments.mac.hex(":")
        self._nft.run_soon(ruleset(start.interface, mac, self._idle_s, start.flows_max).encode())
        self._datagrams = Keeper(self.loop, self._nft, mac)
        self._flow_rules = FlowRules(NAME, "flows6")
        self._flow_rules.set({flow_chain(turn): seconds for turn, seconds in lifetimes(self._idle_s).items()})
        self._lease = Lease(self._nft)
        self._spreader = Spreader(self._nft, start.engine, mac)
        self._returns = Returns(self._nft, start.interface)
        self._routes = Routes(self.loop, self._notes.route)
        self._link = LinkMonitor(start.interface)
        self._peers = PeerNetwork(
            self.loop,
            start.engine,
            start.address,
            self._hear,
            lambda peer, up: self.feed(on.Session(peer, up)),
            lambda peer, misses: self.feed(on.Loss(peer, misses)),
        )
        self._calls = Calls(self.loop, start.engine, start.interface, start.address, self._peers, lambda: self._held)
        self._exchange = Exchange(
            self.loop,
            start.engine,
            Sockets(self.loop),
            (Carried(self.loop), Kept(self.loop)),
            self._spreader,
            lambda message, to: self._peers.send(message, to),
            lambda: self._idle_s,
        )
        self._anew = Anew(self.loop, self._held, lambda vip: self._say(vip, self._held[vip]))
        self._haproxy = HaproxyCheck(self.loop, start.haproxy_socket, self._on_haproxy)
        self._agent = AgentSocket(
            self.loop, directory / "guard.sock", self._on_agent, self._on_agent_there, lambda: self._revive.look()
        )
        self._revive = Revive(self.loop, start.agent_command, directory / "agent.log", lambda: self._agent.connected)
        self.loop.on_readable(self._link, self._on_link)

    def run(self) -> None:
        """Until told to stop."""
        start = self._start
        incarnation = f"{time.time_ns():x}"
        self.feed(on.Started(start.engine, start.rank, incarnation, dict(self._claims.claims), self._mac))
        self._on_link()
        self._haproxy.start()
        self._report_on()
        self._revive.look(FIRST_S_MAX)  # who started this guard may have died since
        kernel.prefer()
        log.info("guards %s as %s (%s)", start.interface, start.engine, start.address)
        self.loop.run()

    def stop(self) -> None:
        """Resign everything, then end."""
        if not self._stopping:
            self._stopping = True
            self.feed(on.Stopping())
            self._report()
            log.info("stopped")
        self.loop.running = False

    # --- events ---

    def feed(self, event: on.Event) -> None:
        now = self.loop.now()
        vips = self._state.vips
        self._notes.event(self._state, event, now)
        self._state, effects = step(self._state, event, now)
        if self._state.vips is vips and self._timer is not None:
            return  # nothing new: the machine wants to wake no earlier than it did
        self._follow()
        lost = self._carry_out(effects)
        self._routes.follow(self._state)
        if self._news:
            self._report()
        if lost:
            self.feed(on.LeaseLost())
            return
        wake = wake_at(self._state, now)
        if self._timer is None or self._timer.call is None or abs(self._timer.when - wake) > 1e-4:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.at(wake, self._tick)

    def _follow(self) -> None:
        try:
            self._returns.follow(self._state)
        except NftError as error:
            log.error("replies can't be led through the primary: %s", error)

    def feed_all(self, events: Sequence[on.Heard | on.ArpAnswered]) -> None:
        """What was read at once."""
        if events:
            self.feed(events[0] if len(events) == 1 else on.Together(tuple(events)))

    def _hear(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if isinstance(message, FlowsWanted | Flows):
                self._exchange.hear(message)
        self.feed_all([on.Heard(m) for m in messages if not isinstance(m, FlowsWanted | Flows)])

    def _tick(self) -> None:
        self._timer = None
        self.feed(on.Tick())

    def _on_haproxy(self, up: bool, why: str) -> None:
        log.info("HAProxy %s", "answers" if up else f"does not answer: {why}")
        self.feed(on.Haproxy(up, why))
        self._report()

    def _on_answer(self, neighbour_socket: NeighbourSocket) -> None:
        self.feed_all([on.ArpAnswered(address, mac) for address, mac in neighbour_socket.answers()])

    def _on_link(self) -> None:
        for up in self._link.news():
            if up != self._state.link:
                log.info("link %s", "up" if up else "down")
                self.feed(on.Link(up))
                self._report()

    def _on_agent_there(self) -> None:
        self._revive.look()
        self._report()

    def _on_agent(self, message: ToGuard) -> None:
        if isinstance(message, Stop):
            self._revive.stop()
            self.stop()
            return
        if isinstance(message, Shares):
            self._spreader.weigh(message.vips)
            return
        if isinstance(message, Unready):
            self._routes.unready(message.vips)
            self._routes.follow(self._state)
            return
        self._prepare(message)
        self._routes.want()
        self.feed(on.Told(message))
        self._peers.meet()
        self._told = message.turn
        self._report()

    def _prepare(self, desired: Desired) -> None:
        """What must be in the kernel before the machine may speak of it: fence, addresses on ``lo``, who peers are."""
        vips = {a for v in desired.vips for a in v.addresses}
        if desired.idle_s != self._idle_s:
            self._idle_s = desired.idle_s
            self._nft.run(sharing(self._mac, desired.idle_s).encode())
            self._flow_rules.set({flow_chain("data"): desired.idle_s})
        self._datagrams.prepare(desired.datagrams_idle_s, self._start.flows_max)
        self._lease.set_length(desired.timing.lease_ms)
        self._nft.run((address_batch("vips", self._vips, self._vips | vips) or " ").encode())
        on_lo = set(self._addresses.ours("lo"))
        for address in sorted(vips - on_lo):
            try:
                self._addresses.add("lo", address)
            except OSError as error:  # IPv6 may be disabled here; the other addresses are served
                log.error("%s can't be put on lo: %s", address, error)
        gone = on_lo - vips
        for address in sorted(gone):
            self._addresses.remove("lo", address)
        self._vips |= vips
        moved = self._segments.want(desired.segments)
        for vip, held in self._held.items() if moved else ():
            if again := tuple(address for address in held if address in moved):
                self._announce(vip, again)
        self._spreader.know({p.id: p.mac for p in desired.peers})
        self._spreader.share(desired.sharing)
        self._exchange.carried = frozenset(desired.carried)
        others = {p.id: p.mac for p in desired.peers if p.id != self._start.engine}
        direct = self._segments.besides(self._vips)
        self._returns.want(desired.return_through_primary, desired.gateway, others, direct)
        served = frozenset(vip.id for vip in desired.vips)
        self._peers.know(desired.peers, desired.heartbeat_key, served)
        self._calls.want(served)
        self._anew.want(desired.announce_every_s)

    # --- effects ---

    def _carry_out(self, effects: Iterable[on.Effect]) -> bool:
        """Was the lease lost on the way? Then nothing that speaks for a VIP was done after it."""
        effects = tuple(effects)
        self._persist([effect for effect in effects if isinstance(effect, on.PersistClaim)])
        lost, breathes = False, not any(isinstance(effect, on.AcquireLease) for effect in effects)
        for effect in effects:
            if isinstance(effect, on.PersistClaim):
                continue
            speaks = isinstance(effect, SPEAKING) or (
                isinstance(effect, on.Send) and isinstance(effect.message, on.Heartbeat)
            )
            try:
                if breathes and not lost:  # a thousand VIPs may take longer than the lease
                    lost = not self._breathe()
                if lost and speaks:
                    continue
                if self._do(effect):
                    breathes = breathes or isinstance(effect, on.AcquireLease)
                    self._notes.effect(self._state, effect, self.loop.now())
                else:
                    lost = True
            except (NftError, OSError) as error:
                log.error("%s failed: %s", type(effect).__name__, error)
                self._notes.failed(effect, str(error))
        return lost

    def _breathe(self) -> bool:
        """False if the lease was lost."""
        self._state, effects = breathe(self._state, self.loop.now())
        return all(self._do(effect) for effect in effects)

    def _persist(self, claims: Sequence[on.PersistClaim]) -> None:
        """All of one step at once: an engine that takes a thousand VIPs over has no time to write a thousand files."""
        try:
            self._claims.put({effect.vip: effect.claim for effect in claims})
        except OSError as error:
            log.error("claims are not on disk: %s", error)
            for effect in claims:
                self._notes.failed(effect, str(error))
        else:
            for effect in claims:
                self._notes.effect(self._state, effect, self.loop.now())

    def _do(self, effect: on.Effect) -> bool:
        match effect:
            case on.RenewLease():
                return self._lease.renew()
            case on.AcquireLease():
                self._lease.acquire()
            case on.DropLease():
                self._lease.drop()
            case on.Send():
                self._peers.send(effect.message, effect.to)
                self._haproxy.awake()
            case on.ArpProbe():
                for address in effect.addresses:
                    self._segments.probe(address)
            case on.TakeVip():
                self._take(effect)
            case on.ReleaseVip():
                self._release(effect)
            case on.Announce():
                self._announce(effect.vip, effect.addresses)
            case on.Spread():
                self._spread(effect)
                self._news = True
            case on.Tell():
                self._tell(effect)
        return True

    def _spread(self, effect: on.Spread) -> None:
        if self._former.pop(effect.vip, None) is not None:
            self._spreader.drop(effect.vip)  # what was passed on is over: whose flows these are has to be asked anew
        if effect.vip in self._held and self._spreader.spread(effect.vip) is None and len(effect.members) > 1:
            self._datagrams.stay(effect.addresses)
        if self._spreader.set(effect):
            self._exchange.begin(effect.vip, effect.addresses, (self._start.engine, *effect.members, *effect.draining))
        elif self._spreader.spread(effect.vip) is None:
            self._exchange.end(effect.vip)
        else:
            self._exchange.join(effect.vip, (*effect.members, *effect.draining))
        change = self._spreader.changes
        self.loop.at(self.loop.now() + PRUNE_AFTER_S, lambda: self._spreader.prune(change))

    def _take(self, effect: on.TakeVip) -> None:
        for address in effect.addresses:
            self._segments.add(address)
        held = self._held.get(effect.vip, ())
        self._held[effect.vip] = tuple(dict.fromkeys((*held, *effect.addresses)))

    def _release(self, effect: on.ReleaseVip) -> None:
        for address in effect.addresses:
            self._segments.remove(address)
        left = tuple(a for a in self._held.get(effect.vip, ()) if a not in effect.addresses)
        if left:
            self._held[effect.vip] = left
        else:
            self._held.pop(effect.vip, None)
            self._exchange.end(effect.vip)
            self._pass_on(effect.vip)

    def _pass_on(self, vip: str) -> None:
        """Keep spreading for a moment: packets on their way here are for connections that live on other engines."""
        self._releases += 1
        turn = self._former[vip] = self._releases

        def end() -> None:
            if self._former.get(vip) == turn:
                del self._former[vip]
                self._spreader.drop(vip)

        self.loop.at(self.loop.now() + SPREAD_AFTER_RELEASE_S, end)

    def _announce(self, vip: str, addresses: tuple[str, ...]) -> None:
        """A new announcement replaces the rest of an older one."""
        turn = self._rounds[vip] = self._rounds.get(vip, 0) + 1

        def speak() -> None:
            if self._rounds[vip] == turn:
                self._say(vip, addresses)

        now = self.loop.now()
        for after in ANNOUNCE_AFTER_S:
            if after:
                self.loop.at(now + after, speak)
            else:
                speak()

    def _say(self, vip: str, addresses: tuple[str, ...]) -> None:
        for address in addresses:
            if address in self._held.get(vip, ()):
                self._segments.announce(address)

    def _tell(self, effect: on.Tell) -> None:
        what = replace(effect.ownership, at=time.time())
        log.info("%s %s: %s", "took" if what.owner else "gave up", what.vip, what.why)
        self._agent.send(Changed(ownership=what))
        self._news = True

    # --- reports ---

    def _report(self) -> None:
        self._news = False
        self._reported = self._now()
        self._agent.send(self._reported)

    def _now(self) -> Report:
        return replace(report(self._state, self.loop.now()), told=self._told)

    def _report_on(self) -> None:
        """A thousand VIPs are not told anew each second to an agent that knows them."""
        now = self._now()
        if self._reported is not None and now == replace(self._reported, peers=now.peers):
            self._agent.send(Heard(now.peers))
        else:
            self._report()
        self.loop.at(self.loop.now() + REPORT_S, self._report_on)
