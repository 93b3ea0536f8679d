"""What the guard's flight recorder notes: each event that matters and each effect, in microseconds (no system call)."""

from __future__ import annotations

from shoal.observe.ring import Recorder
from shoal.ownership import events as on
from shoal.ownership.state import NEVER, State, alive, interval_s

NS_PER_S = 1_000_000_000
LATE_S = 0.02
"""A lease renewed or a heartbeat sent so much later than it should be is noted."""
MISSED_INTERVALS = 1.5
"""A peer's heartbeat is missing after so many intervals."""
ANSWERS_GAP_S = 0.5
"""Between notes of the same neighbour answering for the same address."""


class Notes:
    """Called by the guard before each step (`event`) and after each effect (`effect`)."""

    def __init__(self, recorder: Recorder) -> None:
        self._record = recorder.record
        self._alive = recorder.alive
        self._renewed_at = NEVER
        self._missing: dict[str, float] = {}
        """Peers whose heartbeat is missing -> the last one."""
        self._asked: set[str] = set()
        """Addresses this engine asked for and does not hold."""
        self._held: dict[str, str] = {}
        """Address -> VIP."""
        self._answered: tuple[str, str, float] = ("", "", NEVER)

    def event(self, state: State, event: on.Event, now: float) -> None:
        """``state`` is as it was before."""
        match event:
            case on.Heard(message=on.Heartbeat(engine=engine)):
                if self._missing and engine in self._missing:
                    ms = (now - self._missing.pop(engine)) * 1000
                    self._record("peer heard", about=engine, text="again", ms=ms)
            case on.Together(events=events):
                for one in events:
                    self.event(state, one, now)
            case on.Tick():
                self._alive(int(now * NS_PER_S))
                self._miss(state, now)
            case on.Session(peer=peer, up=up):
                if up:
                    self._record("session", about=peer, text="up")
                elif peer in state.peers and state.peers[peer].session:
                    ms = (now - state.peers[peer].heard_at) * 1000
                    self._record("session ended", about=peer, text="its process has ended, or the way to it", ms=ms)
            case on.Heard(message=on.Resign(engine=engine, vip=vip, to=to)):
                self._record("resign heard", vip=vip, about=engine, text=f"to {to}")
            case on.ArpAnswered(address=address, mac=mac):
                self._answer(state, address, mac, now)
            case on.Loss(peer=peer, misses=misses):
                self._record("loss", about=peer, text=f"{misses} heartbeats in a row must be missing")
            case on.Haproxy(up=up, why=why):
                self._record("haproxy up" if up else "haproxy down", text=why)
            case on.Link(up=up):
                self._record("link up" if up else "link down")
            case on.LeaseLost():
                self._record("lease lost", text="it had ended before it was renewed", ms=self._since_renewal_ms(now))
            case on.Told(desired=desired):
                self._record("told", text=f"{len(desired.vips)} VIPs, {len(desired.peers)} peers")
            case on.Started():
                self._record("guard started")
            case on.Stopping():
                self._record("guard stopping")

    def route(self, what: str, address: str) -> None:
        """A route of the engine's own was ``announced`` or ``withdrawn``."""
        self._record(f"route {what}", text=address)

    def effect(self, state: State, effect: on.Effect, now: float) -> None:
        """It has been done."""
        match effect:
            case on.Send(message=on.Heartbeat()):
                pass
            case on.RenewLease():
                late = now - self._renewed_at - interval_s(state)
                if self._renewed_at != NEVER and late > LATE_S:
                    self._record("lease late", text="renewed late", ms=late * 1000)
                self._renewed_at = now
            case on.PersistClaim(vip=vip, claim=claim):
                self._record("claim", vip=vip, text=f"{claim.generation}.{claim.count}.{claim.rank} on disk")
            case on.ArpProbe(addresses=addresses):
                self._asked.update(addresses)
            case on.TakeVip(vip=vip, addresses=addresses):
                self._asked.difference_update(addresses)
                self._held.update(dict.fromkeys(addresses, vip))
                self._record("take", vip=vip, text=" ".join(addresses))
            case on.ReleaseVip(vip=vip, addresses=addresses):
                for address in addresses:
                    self._held.pop(address, None)
                self._record("release", vip=vip, text=" ".join(addresses))
            case on.Announce(vip=vip):
                self._record("announce", vip=vip)
            case on.Tell(ownership=what):
                kind = "took" if what.owner else "gave up"
                self._record(kind, vip=what.vip, about=what.from_engine, text=what.why, ms=what.detected_ms)
            case on.Send(message=on.Resign(vip=vip, to=to)):
                self._record("resign", vip=vip, about=to)
            case on.Spread(vip=vip, members=members):
                count = len(members)
                self._record("spread", vip=vip, text=f"over {count} engine{'s' * (count != 1)}")
            case on.AcquireLease():
                self._renewed_at = now
                self._record("lease", text="acquired")
            case on.DropLease():
                self._renewed_at = NEVER
                self._record("lease", text="dropped")

    def failed(self, effect: on.Effect, why: str) -> None:
        self._record("failed", vip=getattr(effect, "vip", ""), text=f"{type(effect).__name__}: {why}")

    def _miss(self, state: State, now: float) -> None:
        limit = MISSED_INTERVALS * interval_s(state)
        for peer in state.peers.values():
            if now - peer.heard_at > limit and peer.id not in self._missing and alive(state, peer.id, now):
                self._missing[peer.id] = peer.heard_at
                ms = (now - peer.heard_at) * 1000
                self._record("peer silent", about=peer.id, text="its heartbeat is missing", ms=ms)
        if self._missing:
            self._missing = {peer: at for peer, at in self._missing.items() if peer in state.peers}

    def _answer(self, state: State, address: str, mac: str, now: float) -> None:
        """Another MAC answers for a VIP that this engine holds, or asks for: then its claim waits."""
        before, who, at = self._answered
        repeated = (address, mac) == (before, who) and now - at < ANSWERS_GAP_S
        if repeated or address == state.gateway or (address not in self._asked and address not in self._held):
            return
        self._answered = (address, mac, now)
        self._record("answered", vip=self._held.get(address, ""), about=mac, text=f"another MAC has {address}")

    def _since_renewal_ms(self, now: float) -> float:
        return 0.0 if self._renewed_at == NEVER else (now - self._renewed_at) * 1000
