"""What one engine knows about its VIPs and peers, and the questions asked of that knowledge."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import msgspec

from shoal.ownership.events import Entry, Heartbeat, Mode, Spread
from shoal.wire.desired import Peer, Timing, Vip
from shoal.wire.guard import Report
from shoal.wire.messages import Claim, Owned, PeerState

PROBE_S = 0.020
"""How long an ARP probe may stay unanswered before the address counts as silent. Answers on one segment take < 1 ms."""
PROBE_SILENT_S = 0.060
"""Where only silence says that the holder is dead the probes begin so long before its time: three heartbeats in a row are
soon lost where a third of all packets is, and until the first that comes again nothing tells how much is; six probes rarely
are. An answer shows that much is lost: from then on they must stay unanswered for as long."""
PROBE_SILENT_INTERVALS = 0.6
"""No longer than that, so that it is not begun while just one heartbeat is late."""
PROBE_GAP_S = 0.010
"""Between repeated probes, so that one lost frame is not taken for silence."""
PROBE_SLOW_S = 0.040
"""Between probes of an address that goes on answering."""
LEASE_MARGIN_S = 0.010
"""Added to a dead peer's lease: timers of the kernel are as coarse as 4 ms, and a heartbeat takes a moment to arrive."""
TURN_INTERVALS = 1.3
"""So many heartbeats later than the candidate before it an engine claims. Never a whole number: engines reckon from the
last heartbeat they heard, so one that missed some is ahead of the others by whole intervals, and its turn would be
theirs."""
TURNS_OF_OTHERS = 3
"""So many are left to the engines of a list that this engine never had. Who of them takes the VIP over answers for it by
then, and what is answered for is not claimed."""
DISPUTED_S = 2.0
"""So long after it took a VIP an engine gives way to one it doesn't know that announces it, too: both asked at one moment, or
this one did not hear the other's answers."""
DEFEND_S = 10.0
"""Between the announcements that answer a stranger's (RFC 5227, 2.4, DEFEND_INTERVAL): two that don't give way are not to go
on for ever."""
CALL_S = 1.0
"""So often an engine that holds VIPs calls them out to everybody on the segment. Who serves one of them and does not know the caller
sends it its heartbeats, and so both hear whose claim is the higher."""
STRANGER_S = 2.0
"""So long after its last word a stranger is sent heartbeats."""
GATEWAY_PROBE_S = 0.100
GATEWAY_SILENT_S = 0.5
"""The gateway counts as silent when no probe was answered for that long."""

NEVER = -math.inf


class PeerView(msgspec.Struct, frozen=True, kw_only=True):
    """``heard_at``: last heartbeat. ``lost_at``: the end of the last TCP session."""

    id: str
    incarnation: str = ""
    heard_at: float = NEVER
    lost_at: float = NEVER
    session: bool = False
    able: bool = False
    misses: int = 0
    """Heartbeats in a row that must be missing, where loss was measured; else the timing's count rules."""
    said: tuple[Entry, ...] = ()
    entries: dict[str, Entry] = {}
    """``said`` by VIP."""
    settled_at: int = -1
    """`State.epoch` when all conclusions were drawn from ``said``; -1 if saying it again has an effect again."""


class VipView(msgspec.Struct, frozen=True, kw_only=True):
    """One VIP as this engine sees it.

    ``succession`` is the last *armed* list. ``floor`` is the highest claim known of anyone, ``holder`` the peer that
    was last heard to hold it; without a holder, ``vacant_at`` is the time from which the first candidate may claim.
    While wanting, ``asked_at`` is the start of the probing and ``answered_at`` the last answer of another MAC. While held since
    ``taken_at``, ``disputed_at`` is when a stranger last announced it and was answered.
    """

    vip: Vip
    mode: Mode = Mode.READY
    succession: tuple[str, ...] = ()
    list_version: int = 0
    claim: Claim | None = None
    floor: Claim | None = None
    holder: str = ""
    vacant_at: float = math.inf
    blocked_until: float = NEVER
    lapsed: bool = False
    former: str = ""
    persisted: Claim | None = None
    outbid_at: float = NEVER
    """Since when a higher claim than the one held is rumoured, with nobody seen to hold it."""
    asked_at: float = NEVER
    probed_at: float = NEVER
    answered_at: float = NEVER
    taken_at: float = NEVER
    disputed_at: float = NEVER
    spread: Spread | None = None


class State(msgspec.Struct, frozen=True, kw_only=True):
    engine: str = ""
    rank: int = 0
    mac: str = ""
    incarnation: str = ""
    timing: Timing = Timing()
    slots_max: int = 0
    slots_used: int = 0
    """The sum of `slots_taken`: kept, because each of a thousand VIPs asks for it when their owner dies."""
    gateway: str = ""
    haproxy: bool = False
    link: bool = True
    isolated: bool = False
    stopping: bool = False
    epoch: int = 0
    """Grows with each change of what a VIP does or who holds it."""
    stepped_at: float = NEVER
    beat_at: float = NEVER
    listen_until: float = NEVER
    gateway_probed_at: float = NEVER
    gateway_answered_at: float = NEVER
    alone_since: float = math.inf
    calm_until: float = NEVER
    """Until then, and while `calm_peers` stay alive, time alone changes nothing: a `Tick` only repeats ``said``."""
    calm_peers: tuple[str, ...] = ()
    said: Heartbeat | None = None
    """The last heartbeat."""
    asks: bool = False
    """It said that it answers for a VIP, or wants to."""
    configured: tuple[Peer, ...] = ()
    floors: dict[str, Claim] = {}
    """What is on disk: VIP id -> the highest claim this engine ever made."""
    peers: dict[str, PeerView] = {}
    vips: dict[str, VipView] = {}


def initial() -> State:
    return State()


def interval_s(state: State) -> float:
    return state.timing.heartbeat_interval_ms / 1000


def lease_s(state: State) -> float:
    return state.timing.lease_ms / 1000


class Spans(NamedTuple):
    """What follows from a group's timing. Asked for at each heartbeat, so reckoned once."""

    detection_s: float
    probing_s: float
    """How long before a silent peer's time what it holds is probed, where no loss is measured."""


@lru_cache(maxsize=64)
def _spans(timing: Timing) -> Spans:
    interval = timing.heartbeat_interval_ms / 1000
    return Spans(
        detection_s=max(interval * timing.heartbeat_misses, timing.lease_ms / 1000 + LEASE_MARGIN_S),
        probing_s=max(PROBE_S, min(PROBE_SILENT_S, PROBE_SILENT_INTERVALS * interval)),
    )


def detection_s(state: State) -> float:
    """Silence that means death; never shorter than the lease, whatever the settings say."""
    return _spans(state.timing).detection_s


def silence_s(state: State, peer: PeerView) -> float:
    """`detection_s` for one peer: longer where much of what it sends is lost."""
    detection = _spans(state.timing).detection_s
    return max(detection, interval_s(state) * peer.misses) if peer.misses else detection


def probe_s(state: State, view: VipView) -> float:
    """How long before its turn the first candidate begins to probe a VIP, and how long probes must stay unanswered once one
    was answered: longer where only silence tells of its holder's death, or much of what it sends is lost."""
    peer = state.peers.get(view.holder)
    told = peer is None or peer.lost_at >= peer.heard_at or fresh(state, view)
    return _asking_s(state, peer) if told else _asking_silent_s(state, peer)


def _asking_silent_s(state: State, peer: PeerView | None) -> float:
    """`probe_s` for what a silent peer holds."""
    return max(_asking_s(state, peer), _spans(state.timing).probing_s)


def _asking_s(state: State, peer: PeerView | None) -> float:
    if peer is None or not peer.misses:
        return PROBE_S
    return PROBE_S * max(1.0, peer.misses / state.timing.heartbeat_misses)


def able(state: State) -> bool:
    """May this engine take VIPs over?"""
    return state.haproxy and state.link and not state.isolated and not state.stopping


def draws(state: State, view: VipView) -> bool:
    """Should routers send a VIP's packets to this engine? Its owner is meant, and all its members where the network
    spreads over them; not who drains, while there are others."""
    if not state.haproxy or state.stopping:
        return False
    serves = view.mode is Mode.HELD or (view.vip.ecmp and state.engine in view.vip.members)
    return serves and not _makes_way(state, view)


def _makes_way(state: State, view: VipView) -> bool:
    if not view.vip.ecmp or state.engine not in view.vip.draining:
        return False
    if view.mode is Mode.HELD and view.spread is not None:  # of the others only those that live count
        return state.engine not in view.spread.members
    return any(member != state.engine for member in view.vip.members)


def dead_at(state: State, peer: PeerView) -> float:
    """When the peer's silence, so far, means that it is dead and can't answer any more: a frozen one when its lease
    has ended, one whose session has ended at once (the fence falls with the process; and if only the session ended,
    the probe finds the address answered)."""
    if peer.lost_at >= peer.heard_at:
        return peer.lost_at
    return peer.heard_at + silence_s(state, peer)


def alive(state: State, peer: str, now: float) -> bool:
    """Its guard speaks: heard in time, and no session of it has ended since."""
    view = state.peers.get(peer)
    return view is not None and view.lost_at < view.heard_at and now < view.heard_at + silence_s(state, view)


def alive_and_able(state: State, engine: str, now: float) -> bool:
    if engine == state.engine:
        return able(state)
    return alive(state, engine, now) and state.peers[engine].able


def repeats_itself(state: State, peer: PeerView, message: Heartbeat) -> bool:
    """The peer, whose session has not ended since, says what all conclusions were drawn from."""
    return (
        peer.settled_at == state.epoch
        and peer.lost_at < peer.heard_at
        and peer.able == message.able
        and peer.incarnation == message.incarnation
        and (peer.said is message.entries or peer.said == message.entries)
    )


def candidates(state: State, view: VipView, now: float) -> tuple[str, ...]:
    """Who may claim a vacant VIP, in order: the planned owner, then the armed succession; the living only."""
    order = dict.fromkeys((view.vip.owner, *view.succession))
    return tuple(e for e in order if e != view.holder and alive_and_able(state, e, now))


def wanted_claim(state: State, view: VipView) -> Claim:
    """The claim this engine would make next: above everything it knows of."""
    generation = view.vip.generation
    floor = view.floor
    if floor is not None and floor.generation >= generation:
        return Claim(floor.generation, floor.count + 1, state.rank)
    return Claim(generation, 0 if view.vip.owner == state.engine else 1, state.rank)


def fresh(state: State, view: VipView) -> bool:
    """The controller made this engine the owner in a generation nobody has claimed yet."""
    known = -1 if view.floor is None else view.floor.generation
    return view.vip.owner == state.engine and view.vip.generation > known


def outdated(state: State, view: VipView, now: float) -> bool:
    """A living peer goes by a newer list: it knows better who may claim. (This engine was cut off when that came.)"""
    return any(alive(state, peer.id, now) for peer in _with_newer_list(state, view, view.list_version))


def passed_over(state: State, view: VipView) -> bool:
    """A peer, now dead, went by a list that this engine never had, so others are meant, whom it may not hear. (A list is
    acted upon when all its engines have it.)"""
    return any(True for _ in _with_newer_list(state, view, view.vip.list_version))


def _with_newer_list(state: State, view: VipView, version: int) -> Iterator[PeerView]:
    for peer in state.peers.values():
        entry = peer.entries.get(view.vip.id)
        if entry is not None and entry.list_version > version:
            yield peer


def slots_taken(state: State, view: VipView | None) -> int:
    """By a VIP this engine serves: as a member by plan, or by having taken it over."""
    serves = view is not None and (view.mode is Mode.HELD or state.engine in view.vip.members)
    return view.vip.slots if view is not None and serves else 0


def has_slots(state: State, view: VipView) -> bool:
    if state.engine in view.vip.members:
        return True
    return state.slots_used + view.vip.slots <= state.slots_max


def claimable_at(state: State, view: VipView, now: float) -> float:
    """When this engine may claim ``view`` if nothing else is heard; infinity if it may not."""
    if view.mode is Mode.HELD or not able(state):
        return math.inf
    if fresh(state, view):
        if view.holder and alive(state, view.holder, now):
            return math.inf  # it wants, and waits for the holder to resign
        if view.holder:
            return dead_at(state, state.peers[view.holder])
        return max(now, view.blocked_until)
    if view.lapsed:
        return max(now, view.blocked_until)
    if not has_slots(state, view) or outdated(state, view, now):
        return math.inf
    order = candidates(state, view, now)
    if state.engine not in order:
        return math.inf
    base = dead_at(state, state.peers[view.holder]) if view.holder else view.vacant_at
    place = order.index(state.engine) + (TURNS_OF_OTHERS if passed_over(state, view) else 0)
    turn = base + place * TURN_INTERVALS * interval_s(state)
    return max(turn, state.listen_until, view.blocked_until)


def wanting_from(state: State, view: VipView, now: float) -> float:
    """When to begin to ask, so that the probe adds no time to the takeover. Who comes later begins when those before have
    claimed, as turns are so far apart (`TURN_INTERVALS`): its wish could outbid theirs."""
    if able(state) and fresh(state, view):
        return max(now, view.blocked_until)
    turn, peer = claimable_at(state, view, now), state.peers.get(view.holder)
    first = peer is not None and turn <= dead_at(state, peer)
    return turn - (probe_s(state, view) if first else _asking_s(state, peer))


def wants(state: State, view: VipView, now: float) -> bool:
    """Has the time of `wanting_from` come?"""
    holder = state.peers.get(view.holder)
    lives = holder is not None and dead_at(state, holder) - probe_s(state, view) > now
    if lives and not view.lapsed and not fresh(state, view):
        return False  # as nearly always: nobody's turn comes before the holder's death
    return wanting_from(state, view, now) <= now


def silent_at(state: State, view: VipView) -> float:
    """When the address counts as silent, if no more answers come: never before two probes have gone unanswered, each
    with time to be answered. After an answer the next probe is up to a gap away."""
    if view.answered_at < view.asked_at:
        return view.asked_at + _asking_s(state, state.peers.get(view.holder))
    return view.answered_at + (PROBE_SLOW_S if probes_slowly(view) else PROBE_GAP_S) + probe_s(state, view)


def probes_slowly(view: VipView) -> bool:
    """It has answered for long: the owner lives, though nothing else is heard of it."""
    return view.answered_at > view.asked_at + 5 * PROBE_S


def probe_due(view: VipView) -> float:
    """Quickly while waiting for silence, slowly once an answer shows that the owner lives on."""
    if view.probed_at == NEVER:
        return view.asked_at
    slow = probes_slowly(view) and view.answered_at >= view.probed_at
    return view.probed_at + (PROBE_SLOW_S if slow else PROBE_GAP_S)


def calm(state: State, now: float) -> float:
    """Until when nothing but heartbeats is due, as far as is known: a time not after ``now`` if something is.

    O(peers), whatever the number of VIPs.
    """
    until, peers, spans = state.calm_until, state.peers, _spans(state.timing)
    usual = spans.detection_s - spans.probing_s
    for id in state.calm_peers:
        peer = peers.get(id)
        if peer is None or peer.lost_at >= peer.heard_at:
            return NEVER
        at = peer.heard_at + (silence_s(state, peer) - _asking_silent_s(state, peer) if peer.misses else usual)
        if at < until:
            until = at
    return until


def calm_of(state: State, now: float) -> tuple[float, tuple[str, ...]]:
    """(`State.calm_until`, `State.calm_peers`) after all conclusions were drawn at ``now``."""
    living = tuple(peer for peer in state.peers if alive(state, peer, now))
    if state.gateway and state.peers and not living:
        return NEVER, ()  # the gateway is being asked
    until = math.inf
    for view in state.vips.values():
        if view.mode is Mode.WANT:
            return NEVER, ()
        if view.mode is Mode.READY:
            if view.holder not in living:
                until = min(until, wanting_from(state, view, now))
            if view.blocked_until > now:
                until = min(until, view.blocked_until)
        elif view.floor is not None and view.claim is not None and view.floor > view.claim:
            until = min(until, view.outbid_at + detection_s(state))
    return until, living


def wake_at(state: State, now: float) -> float:
    """The latest time for the next `Tick`."""
    if now < (until := calm(state, now)):
        return max(now, min(until, state.beat_at + interval_s(state)))
    wake = state.beat_at + interval_s(state) if state.beat_at != NEVER else now
    for view in state.vips.values():
        if view.mode is Mode.WANT:
            ready = max(claimable_at(state, view, now), silent_at(state, view))
            wake = min(wake, probe_due(view), ready)
        elif view.mode is Mode.READY:
            wake = min(wake, wanting_from(state, view, now))
    for peer in state.peers.values():
        if alive(state, peer.id, now):
            wake = min(wake, peer.heard_at + silence_s(state, peer))
    return max(wake, now)


def report(state: State, now: float) -> Report:
    """What the guard tells its agent."""
    held = [(k, v) for k, v in state.vips.items() if v.mode is Mode.HELD]
    return Report(
        owned=tuple(Owned(vip=k, claim=v.claim) for k, v in held if v.claim is not None),
        peers=tuple(
            PeerState(
                engine=p.id,
                alive=alive(state, p.id, now),
                heard_ms_ago=-1.0 if p.heard_at == NEVER else round((now - p.heard_at) * 1000, 1),
                session=p.session,
            )
            for p in state.peers.values()
        ),
        link=state.link,
        haproxy=state.haproxy,
        isolated=state.isolated,
        alive_members={k: v.spread.members for k, v in held if v.spread is not None},
    )
