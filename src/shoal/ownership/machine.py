"""The ownership state machine: `step(state, event, now) -> (state, effects)`.

Every event first changes what is known (`_Turn.on_...`), then `settle` draws all conclusions from it. Conclusions
depend on the state and the time only, so a lost or repeated event costs time, never correctness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import assert_never

from msgspec.structs import replace

from shoal.ownership import state as known
from shoal.ownership.events import (
    AcquireLease,
    Announce,
    ArpAnswered,
    ArpProbe,
    DropLease,
    Effect,
    Entry,
    Event,
    Haproxy,
    Heard,
    Heartbeat,
    LeaseLost,
    Link,
    Loss,
    Mode,
    PeerMessage,
    PersistClaim,
    ReleaseVip,
    RenewLease,
    Resign,
    Send,
    Session,
    Spread,
    Started,
    Stopping,
    TakeVip,
    Tell,
    Tick,
    Together,
    Told,
)
from shoal.ownership.state import NEVER, PeerView, State, VipView
from shoal.wire.desired import Vip
from shoal.wire.messages import Claim, Ownership


def step(state: State, event: Event, now: float) -> tuple[State, list[Effect]]:
    """The next state, and what to do, in order. ``now``: monotonic seconds, never going back."""
    if isinstance(event, Together):
        while event.events and isinstance(first := event.events[0], Heard):
            if (after := _without_conclusions(state, first.message, now)) is None:
                break
            state, event = after, Together(event.events[1:])
        if not event.events:
            return state, []
    if isinstance(event, Heard) and (after := _without_conclusions(state, event.message, now)) is not None:
        return after, []
    if isinstance(event, Tick) and _is_calm(state, now):
        return _beaten(state, now)
    turn = _Turn(state, now)
    turn.thaw()
    turn.take_in(event)
    turn.settle()
    return turn.state, turn.effects


def _without_conclusions(state: State, message: PeerMessage, now: float) -> State | None:
    """The state after a message that there is nothing to conclude from, as from nearly all; None if there may be."""
    if _is_old_news(state, message, now):
        return _still_alive(state, message, now)
    return state if _is_none_of_ours(state, message, now) else None


def _is_none_of_ours(state: State, message: PeerMessage, now: float) -> bool:
    """A stranger speaks of VIPs that are not served here: what time alone changes has a `Tick` of its own."""
    return (
        isinstance(message, Heartbeat)
        and message.engine not in state.peers
        and now - state.stepped_at <= known.lease_s(state)
        and not any(entry.vip in state.vips for entry in message.entries)
    )


def _is_old_news(state: State, message: PeerMessage, now: float) -> bool:
    """A living peer repeats what all conclusions were drawn from: nearly every heartbeat, so it must cost little."""
    peer = state.peers.get(message.engine)
    return (
        peer is not None
        and isinstance(message, Heartbeat)
        and now < state.beat_at + known.interval_s(state)
        and now - state.stepped_at <= known.lease_s(state)
        and now < peer.heard_at + known.silence_s(state, peer)
        and known.repeats_itself(state, peer, message)
    )


def _still_alive(state: State, message: PeerMessage, now: float) -> State:
    peer = replace(state.peers[message.engine], heard_at=now)
    return replace(state, stepped_at=now, peers={**state.peers, peer.id: peer})


def _is_calm(state: State, now: float) -> bool:
    """Time has passed and changes nothing: nearly every `Tick`, so it must cost little."""
    return now - state.stepped_at <= known.lease_s(state) and now < known.calm(state, now) and state.said is not None


def _beaten(state: State, now: float) -> tuple[State, list[Effect]]:
    """The lease and the heartbeat, as before."""
    if state.said is None or now < state.beat_at + known.interval_s(state):
        return replace(state, stepped_at=now), []
    renewed: list[Effect] = [RenewLease()] if state.asks else []
    return replace(state, stepped_at=now, beat_at=now), [*renewed, Send(state.said)]


def breathe(state: State, now: float) -> tuple[State, list[Effect]]:
    """In the midst of what a step has ordered, where that takes long: lease and heartbeat as they stand. Nothing is concluded,
    whatever is due; the next step does that. After more than a lease there is nothing to do but that either: it is a freeze."""
    return _beaten(state, now) if now - state.stepped_at <= known.lease_s(state) else (state, [])


class _Turn:
    """One step in the making. ``say`` asks for a heartbeat at the end of it."""

    def __init__(self, state: State, now: float) -> None:
        self.before = state
        self.state = replace(state, peers=dict(state.peers), vips=dict(state.vips), stepped_at=now)
        self.now = now
        self.effects: list[Effect] = []
        self.say = False
        self.leased = False
        """The lease was begun in this step."""

    # --- small hands ---

    def set(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)

    def put(self, view: VipView, **changes: object) -> VipView:
        if any(changes[k] != getattr(view, k) for k in ("mode", "holder", "vip") if k in changes):
            self.set(epoch=self.state.epoch + 1)
        view = replace(view, **changes)
        self.count_slots(self.state.vips.get(view.vip.id), view)
        self.state.vips[view.vip.id] = view
        return view

    def count_slots(self, before: VipView | None, after: VipView | None) -> None:
        more = known.slots_taken(self.state, after) - known.slots_taken(self.state, before)
        if more:
            self.set(slots_used=self.state.slots_used + more)

    def do(self, *effects: Effect) -> None:
        self.effects.extend(effects)

    def drop_lease(self) -> None:
        self.leased = False
        self.do(DropLease())

    def holds_any(self) -> bool:
        return any(v.mode is Mode.HELD for v in self.state.vips.values())

    def speaks_or_asks(self) -> bool:
        return any(v.mode is not Mode.READY for v in self.state.vips.values())

    # --- events ---

    def take_in(self, event: Event) -> None:
        match event:
            case Tick():
                pass
            case Started():
                self.set(
                    engine=event.engine,
                    rank=event.rank,
                    mac=event.mac,
                    incarnation=event.incarnation,
                    floors=dict(event.claims),
                )
            case Told():
                self.on_told(event)
            case Heard():
                self.on_heard(event.message)
            case Session():
                self.on_session(event)
            case Loss():
                if event.peer in self.state.peers:
                    self.state.peers[event.peer] = replace(self.state.peers[event.peer], misses=event.misses)
            case ArpAnswered():
                self.on_answers({event.address: event.mac})
            case Together():
                self.on_answers({e.address: e.mac for e in event.events if isinstance(e, ArpAnswered)})
                for each in event.events:
                    if isinstance(each, Heard):
                        self.on_heard(each.message)
            case Haproxy():
                self.say |= event.up != self.state.haproxy
                self.set(haproxy=event.up)
            case Link():
                self.on_link(event.up)
            case LeaseLost():
                self.lapse("the lease had ended before it was renewed")
            case Stopping():
                self.set(stopping=True)
                self.say = True
            case _:
                assert_never(event)

    def thaw(self) -> None:
        """A gap longer than the lease means this process was frozen: what it holds has lapsed, what it did not hear
        in its sleep proves nothing."""
        before, gap = self.before.stepped_at, self.now - self.before.stepped_at
        if before == NEVER or gap <= known.lease_s(self.state):
            return
        for peer in self.before.peers.values():
            if known.alive(self.before, peer.id, before):
                self.state.peers[peer.id] = replace(peer, heard_at=peer.heard_at + gap)
        self.lapse(f"frozen for {gap * 1000:.0f} ms")

    def lapse(self, why: str) -> None:
        """Fall silent, then ask before speaking again."""
        for view in tuple(self.state.vips.values()):
            if view.mode is Mode.HELD:
                self.give_up(view, why, lapsed=True)
            elif view.mode is Mode.WANT:
                self.put(view, mode=Mode.READY)
        self.drop_lease()
        self.say = True

    def on_told(self, event: Told) -> None:
        desired = event.desired
        first = not self.state.configured and not self.state.vips
        self.set(timing=desired.timing, slots_max=desired.slots_max, gateway=desired.gateway, configured=desired.peers)
        if first:
            self.set(listen_until=self.now + known.detection_s(self.state))
        wanted = {v.id for v in desired.vips}
        old = self.state.peers
        peers = {p.id: old.get(p.id, PeerView(id=p.id)) for p in desired.peers if p.id != self.state.engine}
        strangers = {
            p.id: p for p in old.values() if known.alive(self.state, p.id, self.now) and p.entries.keys() & wanted
        }
        self.set(peers={**strangers, **peers})
        for view in tuple(self.state.vips.values()):
            if view.vip.id not in wanted:
                if view.mode is Mode.HELD:
                    self.give_up(view, "not served here any more")
                elif view.spread is not None:
                    self.do(Spread(view.vip.id, view.vip.addresses, (self.state.engine,)))
                self.count_slots(self.state.vips.pop(view.vip.id), None)
        for vip in desired.vips:
            self.tell_vip(vip)
        for view in tuple(self.state.vips.values()):
            if view.holder not in self.state.peers:
                self.without(view, view.holder)
        if desired.gateway:
            self.probe_gateway()
        self.say = True

    def tell_vip(self, vip: Vip) -> None:
        view = self.state.vips.get(vip.id)
        is_new = view is None
        if view is None:
            floor = self.state.floors.get(vip.id)
            view = VipView(vip=vip, floor=floor, vacant_at=self.now + known.detection_s(self.state))
            for peer in self.state.peers.values():  # a heartbeat may have come before the plan
                entry = peer.entries.get(vip.id)
                if entry is not None:
                    view = self.learn(view, peer.id, entry)
        if view.mode is Mode.HELD and view.vip.addresses != vip.addresses:
            view = self.readdress(view, vip.addresses)
        if not is_new and view is self.state.vips.get(vip.id) and view.vip == vip:
            return  # as before, as nearly all are: its list is armed already, or still is not
        changes: dict[str, object] = {"vip": vip}
        succession, version = vip.ruling
        if vip.armed or version > view.list_version:  # the word that one is armed may have been overtaken by the next
            changes |= {"succession": succession, "list_version": version}
        self.put(view, **changes)

    def readdress(self, view: VipView, addresses: tuple[str, ...]) -> VipView:
        """New ones are taken without asking, so the first word of a stranger that has one, too, is enough to give way."""
        gone = tuple(a for a in view.vip.addresses if a not in addresses)
        new = tuple(a for a in addresses if a not in view.vip.addresses)
        if gone:
            self.do(ReleaseVip(view.vip.id, gone))
        if new:
            self.do(RenewLease(), TakeVip(view.vip.id, new), Announce(view.vip.id, new))
            view = self.put(view, taken_at=self.now, disputed_at=self.now - known.PROBE_S)
        return view

    def on_session(self, event: Session) -> None:
        peer = self.state.peers.get(event.peer)
        if peer is None:
            return
        lost = peer.session and not event.up
        peer = replace(peer, session=event.up, lost_at=self.now if lost else peer.lost_at)
        self.state.peers[peer.id] = peer
        self.say |= event.up

    def on_answers(self, macs: Mapping[str, str]) -> None:
        """``macs``: address -> who has it, as it says."""
        if not macs:
            return
        if self.state.gateway in macs:
            self.set(gateway_answered_at=self.now)
        peers = {peer.mac for peer in self.state.configured}
        for view in tuple(self.state.vips.values()):
            if view.mode is Mode.READY:
                continue
            others = {macs[address] for address in view.vip.addresses if address in macs}
            if others and view.mode is Mode.WANT:
                self.put(view, answered_at=self.now)
            elif strangers := others - peers:
                self.dispute(view, min(strangers))

    def dispute(self, view: VipView, mac: str) -> None:
        """An engine of another plan, or of another group, holds it too, and neither hears the other's heartbeats, so no claim
        decides. Of two that have just taken it the lower MAC stays; one that has held it for longer stays, and says so."""
        again = view.disputed_at != NEVER
        if again and self.now < view.disputed_at + known.PROBE_S:
            return  # the same word: one of each family
        if self.now < view.taken_at + known.DISPUTED_S and (again or mac < self.state.mac):
            self.give_up(view, f"{mac}, which is no peer's, has the address, too")
        elif not again or self.now >= view.disputed_at + known.DEFEND_S:
            self.put(view, disputed_at=self.now)
            self.do(Announce(view.vip.id, view.vip.addresses))

    def on_link(self, up: bool) -> None:
        if up and not self.state.link:
            self.set(link=True, listen_until=self.now + known.detection_s(self.state))
            self.say = True
        elif not up and self.state.link:
            self.set(link=False)
            self.fall_silent("no carrier")

    def fall_silent(self, why: str) -> None:
        for view in tuple(self.state.vips.values()):
            if view.mode is Mode.HELD:
                self.give_up(view, why)
            else:
                self.put(view, mode=Mode.READY, lapsed=False)
        self.drop_lease()

    # --- what peers say ---

    def on_heard(self, message: PeerMessage) -> None:
        if isinstance(message, Heartbeat):
            self.on_heartbeat(message)
        else:
            self.on_resign(message)

    def on_heartbeat(self, message: Heartbeat) -> None:
        peer = self.state.peers.get(message.engine)
        if peer is None:  # a stranger counts if it speaks of a VIP that is served here: its plan is another one
            if message.engine == self.state.engine or not any(e.vip in self.state.vips for e in message.entries):
                return
            peer = PeerView(id=message.engine)
            self.state.peers[peer.id] = peer
        returned = not known.alive(self.state, peer.id, self.now)
        restarted = peer.incarnation not in ("", message.incarnation)
        entries = {e.vip: e for e in message.entries}
        self.state.peers[peer.id] = replace(
            peer,
            incarnation=message.incarnation,
            heard_at=self.now,
            able=message.able,
            said=message.entries,
            entries=entries,
        )
        for view in tuple(self.state.vips.values()):
            if restarted and view.holder == peer.id:
                ended = peer.heard_at + known.lease_s(self.state) + known.LEASE_MARGIN_S
                view = self.put(view, holder="", vacant_at=max(self.now, ended))
            entry = entries.get(view.vip.id)
            if entry is None:
                self.without(view, peer.id)
                continue
            self.learn(view, peer.id, entry)
        if returned:
            self.say = True
            for view in self.state.vips.values():
                if view.mode is Mode.HELD:  # neighbours may have learnt another answer on the other side
                    self.do(Announce(view.vip.id, view.vip.addresses))

        if not any(self.needs_repeating(e) for e in message.entries):
            self.state.peers[peer.id] = replace(self.state.peers[peer.id], settled_at=self.state.epoch)

    def needs_repeating(self, entry: Entry) -> bool:
        view = self.state.vips.get(entry.vip)
        if view is None:
            return False
        contested = entry.mode is Mode.HELD and view.mode is Mode.HELD
        hearsay = entry.holder not in ("", self.state.engine, view.holder)
        return entry.mode is Mode.WANT or contested or hearsay

    def without(self, view: VipView, peer: str) -> None:
        """``peer`` does not speak of this VIP. If it held it, it let go without a word: give the plan time to come."""
        if peer and view.holder == peer:
            self.put(view, holder="", vacant_at=self.now + known.detection_s(self.state))

    def learn(self, view: VipView, peer: str, entry: Entry) -> VipView:
        if entry.mode is not Mode.WANT and entry.claim is not None and (view.floor is None or entry.claim > view.floor):
            outbid = view.outbid_at if view.outbid_at != NEVER else self.now
            view = self.put(view, floor=entry.claim, outbid_at=outbid)
        if entry.mode is Mode.HELD and entry.claim is not None:
            return self.learn_held(view, peer, entry.claim)
        self.without(view, peer)
        view = self.state.vips.get(view.vip.id, view)
        if entry.mode is Mode.READY and entry.holder not in ("", self.state.engine, view.holder):
            view = self.learn_hearsay(view, peer, entry)
        if entry.mode is Mode.WANT and entry.claim is not None and self.state.peers[peer].able:
            return self.learn_wanted(view, peer, entry.claim)
        return view

    def learn_held(self, view: VipView, peer: str, claim: Claim) -> VipView:
        if view.mode is Mode.HELD and view.claim is not None:
            if claim < view.claim:  # it yields on hearing this
                self.do(Announce(view.vip.id, view.vip.addresses))
                self.say = True
                return view
            view = self.give_up(view, f"{peer} holds it by a higher claim")
        elif view.mode is Mode.WANT and not (
            known.fresh(self.state, view) and claim < known.wanted_claim(self.state, view)
        ):
            view = self.put(view, mode=Mode.READY)
        if view.holder not in ("", peer) and known.alive(self.state, view.holder, self.now):
            rival = self.state.peers[view.holder].entries.get(view.vip.id)
            if rival is not None and rival.claim is not None and claim < rival.claim:
                return view
        return self.put(view, holder=peer, lapsed=False)

    def learn_hearsay(self, view: VipView, peer: str, entry: Entry) -> VipView:
        """``peer`` hears an engine hold it that this one does not hear: leave it to the higher claim all the same.

        A holder whose death this engine saw itself is no hearsay (it is ``view.holder``): a peer that notices the death
        a moment later must not delay the takeover.
        """
        if entry.claim is None or (view.floor is not None and entry.claim < view.floor):
            return view
        if view.mode is Mode.HELD and view.claim is not None and entry.claim > view.claim:
            view = self.give_up(view, f"{peer} hears {entry.holder} hold it by a higher claim")
        if view.mode is not Mode.HELD:
            until = self.now + 1.5 * known.interval_s(self.state)
            view = self.put(view, blocked_until=max(view.blocked_until, until), lapsed=False)
        return view

    def learn_wanted(self, view: VipView, peer: str, claim: Claim) -> VipView:
        if view.mode is Mode.HELD and view.claim is not None:
            if claim.generation > view.claim.generation:
                self.resign(view, peer, f"planned change of owner to {peer}")
            else:
                self.say = True
            return self.state.vips[view.vip.id]
        if claim > known.wanted_claim(self.state, view):
            return self.put(view, mode=Mode.READY, blocked_until=self.now + 1.5 * known.interval_s(self.state))
        return view

    def on_resign(self, message: Resign) -> None:
        view = self.state.vips.get(message.vip)
        if view is None or view.mode is Mode.HELD or (view.floor is not None and message.claim < view.floor):
            return
        vacant = self.now if message.to == self.state.engine else self.now + known.interval_s(self.state)
        view = self.put(view, floor=message.claim, holder="", vacant_at=vacant)
        peer = self.state.peers.get(message.engine)
        if peer is not None and not message.able:  # until it says otherwise
            self.state.peers[peer.id] = replace(peer, able=False)
        mine = message.to == self.state.engine and known.has_slots(self.state, view)
        if known.able(self.state) and (mine or known.fresh(self.state, view)):
            self.want(view)
            self.claim(self.state.vips[message.vip], f"{message.engine} resigned", former=message.engine)

    # --- conclusions ---

    def settle(self) -> None:
        self.judge_isolation()
        for view in tuple(self.state.vips.values()):
            if view.mode is Mode.HELD:
                self.keep_or_resign(view)
            else:
                self.want_or_claim(view)
        for view in tuple(self.state.vips.values()):
            self.share(view)
        if not self.speaks_or_asks() and any(v.mode is not Mode.READY for v in self.before.vips.values()):
            self.drop_lease()
        if self.state.engine and (self.say or self.now >= self.state.beat_at + known.interval_s(self.state)):
            self.beat()
        elif self.state.said is not None and self.state.said != self.heartbeat():
            self.set(said=None)  # the next one is made afresh
        until, peers = known.calm_of(self.state, self.now)
        self.set(calm_until=until, calm_peers=peers)

    def judge_isolation(self) -> None:
        """Silent peers alone convict nobody: the last survivor of a group hears none. The gateway is the witness."""
        state = self.state
        if not state.gateway or not state.peers or any(known.alive(state, p, self.now) for p in state.peers):
            if state.isolated or state.alone_since != math.inf:
                self.set(isolated=False, alone_since=math.inf)
            return
        alone_since = min(state.alone_since, self.now)
        if self.now >= state.gateway_probed_at + known.GATEWAY_PROBE_S:
            self.probe_gateway()
        deaf = (
            state.gateway_answered_at != NEVER
            and self.now - max(state.gateway_answered_at, alone_since) > known.GATEWAY_SILENT_S
        )
        if deaf and not state.isolated:
            self.fall_silent("isolated: neither a peer nor the gateway answers")
        elif state.isolated and not deaf:
            self.set(listen_until=self.now + known.detection_s(state))
        self.set(isolated=deaf, alone_since=alone_since)

    def probe_gateway(self) -> None:
        self.set(gateway_probed_at=self.now)
        self.do(ArpProbe((self.state.gateway,)))

    def keep_or_resign(self, view: VipView) -> None:
        claim = view.claim
        assert claim is not None
        if not self.state.haproxy or self.state.stopping:
            why = "stopping" if self.state.stopping else "HAProxy does not answer"
            heirs = [e for e in known.candidates(self.state, view, self.now) if e != self.state.engine]
            if heirs:
                self.resign(view, heirs[0], f"{why}; resigned to {heirs[0]}")
            elif self.state.stopping:
                self.give_up(view, f"{why}; no successor lives")
            return
        adopted = view.vip.owner == self.state.engine and view.vip.generation > claim.generation
        outbid = view.floor is not None and view.floor > claim
        stale = outbid and self.now >= view.outbid_at + known.detection_s(self.state)
        if adopted or stale:  # go on under a claim above all that was ever heard
            claim = known.wanted_claim(self.state, view)
            view = self.persist(view, claim)
            self.put(view, claim=claim, floor=claim, outbid_at=NEVER)
            self.say = True

    def want_or_claim(self, view: VipView) -> None:
        due = known.wants(self.state, view, self.now)
        if view.mode is Mode.READY:
            if not due:
                return
            self.want(view)
        elif not due and not self.waits_for_answer(view):
            self.put(view, mode=Mode.READY)
            return
        view = self.state.vips[view.vip.id]
        view = self.persist(view, known.wanted_claim(self.state, view))  # what is heard while asking may raise it
        if known.claimable_at(self.state, view, self.now) <= self.now and known.silent_at(self.state, view) <= self.now:
            self.claim(view, self.why_vacant(view))
        elif known.probe_due(view) <= self.now:
            self.put(view, probed_at=self.now)
            self.do(ArpProbe(view.vip.addresses))

    def waits_for_answer(self, view: VipView) -> bool:
        """A later candidate came alive while this engine was asking: go on only if its turn is still near."""
        return (
            known.claimable_at(self.state, view, self.now)
            <= self.now + known.probe_s(self.state, view) + known.PROBE_GAP_S
        )

    def want(self, view: VipView) -> None:
        """Begin to ask: a lease (harmless: this engine has no address yet), the claim on disk, a probe."""
        if view.mode is Mode.WANT:
            return
        if not self.leased and not self.holds_any():
            self.leased = True
            self.do(AcquireLease())
        claim = known.wanted_claim(self.state, view)
        view = self.persist(view, claim)
        self.put(view, mode=Mode.WANT, asked_at=self.now, probed_at=NEVER, answered_at=NEVER)
        self.say = True

    def persist(self, view: VipView, claim: Claim) -> VipView:
        if view.persisted == claim:
            return view
        self.do(PersistClaim(view.vip.id, claim))
        self.set(floors={**self.state.floors, view.vip.id: claim})  # a VIP may leave this engine, and come back
        return self.put(view, persisted=claim)

    def why_vacant(self, view: VipView) -> str:
        if known.fresh(self.state, view):
            return f"planned owner of generation {view.vip.generation}"
        if view.lapsed:
            return "resumed: the lease had lapsed and nobody took over"
        peer = self.state.peers.get(view.holder)
        if peer is None:
            return "nobody holds it"
        ms = (self.now - peer.heard_at) * 1000
        if peer.lost_at >= peer.heard_at:
            return f"{peer.id} died: its process ended, last heard {ms:.0f} ms ago"
        return f"{peer.id} is silent: last heard {ms:.0f} ms ago"

    def claim(self, view: VipView, why: str, former: str = "") -> None:
        claim = known.wanted_claim(self.state, view)
        view = self.persist(view, claim)
        peer = self.state.peers.get(view.holder)
        detected = 0.0 if peer is None else (self.now - peer.heard_at) * 1000
        held = self.put(
            view,
            mode=Mode.HELD,
            claim=claim,
            floor=claim,
            holder="",
            lapsed=False,
            former=former,
            outbid_at=NEVER,
            taken_at=self.now,
            disputed_at=NEVER,
        )
        self.share(held)  # before the first packet comes: one of a flow kept elsewhere would be reset here
        self.do(RenewLease(), TakeVip(view.vip.id, view.vip.addresses), Announce(view.vip.id, view.vip.addresses))
        self.tell(view, True, claim, why, former or view.holder, detected)
        self.say = True

    def resign(self, view: VipView, to: str, why: str) -> None:
        """Silent first, then say so: at no moment do two engines speak."""
        claim = view.claim
        assert claim is not None
        self.give_up(view, why)
        self.do(Send(Resign(self.state.engine, view.vip.id, claim, to, known.able(self.state))))

    def give_up(self, view: VipView, why: str, *, lapsed: bool = False) -> VipView:
        claim = view.claim
        assert claim is not None
        self.do(ReleaseVip(view.vip.id, view.vip.addresses))
        self.tell(view, False, claim, why, self.state.engine, 0.0)
        self.say = True
        wait = 0.0 if lapsed else known.detection_s(self.state)
        return self.put(
            view,
            mode=Mode.READY,
            lapsed=lapsed,
            claim=None,
            spread=None,
            former="",
            vacant_at=self.now + wait,
            blocked_until=self.now + wait,
        )

    def tell(self, view: VipView, owner: bool, claim: Claim, why: str, was: str, detected_ms: float) -> None:
        self.do(
            Tell(
                Ownership(
                    vip=view.vip.id,
                    owner=owner,
                    claim=claim,
                    why=why,
                    from_engine=was,
                    detected_ms=round(detected_ms, 1),
                )
            )
        )

    def share(self, view: VipView) -> None:
        """Spread new flows of a held VIP over its living members."""
        if view.mode is not Mode.HELD:
            self.keep_apart(view)
            return
        state, vip, known_spread = self.state, view.vip, view.spread
        if (
            known_spread is not None
            and (state.engine,) == vip.members == known_spread.members
            and not (vip.draining or known_spread.draining or known_spread.former)
            and known_spread.addresses == vip.addresses
        ):
            return  # served by this engine alone, as nearly all are, and as before

        def ready(engine: str) -> bool:
            return known.alive_and_able(state, engine, self.now) and vip.id in state.peers[engine].entries

        replaced = (
            "" if state.engine in (*vip.members, *vip.draining) else vip.owner
        )  # whose place this engine took, back or not
        away = (state.engine, replaced, *vip.draining)
        others = [m for m in vip.members if m not in away and ready(m)]
        here = state.engine not in vip.draining or not others
        if vip.ecmp and here:
            others = []  # the network has chosen this engine
        leaving = tuple(d for d in vip.draining if d != state.engine and known.alive(state, d, self.now))
        former = view.former if view.former in leaving or view.former in others else ""
        members = (state.engine, *others) if here else tuple(others)
        spread = Spread(vip.id, vip.addresses, members, leaving, former)
        if spread != view.spread:
            self.put(view, spread=spread)
            self.do(spread)

    def keep_apart(self, view: VipView) -> None:
        """Where the network spreads, routers send the packets of who drains to the others: each hands them back while
        that lasts, and takes new flows itself."""
        state, vip = self.state, view.vip
        leaving: tuple[str, ...] = ()
        if vip.ecmp and vip.draining and known.draws(state, view):
            leaving = tuple(d for d in vip.draining if d != state.engine and known.alive(state, d, self.now))
        if leaving or view.spread is not None:
            spread = Spread(vip.id, vip.addresses, (state.engine,), leaving)
            if spread != view.spread:
                self.put(view, spread=spread if leaving else None)
                self.do(spread)

    def beat(self) -> None:
        """The lease first, then the word: a lease never outlives the last heartbeat by more than its length."""
        said, asks = self.heartbeat(), self.speaks_or_asks()
        self.set(beat_at=self.now, said=said, asks=asks)
        if asks:
            self.do(RenewLease())
        self.do(Send(said))

    def heartbeat(self) -> Heartbeat:
        entries = tuple(self.entry(v) for v in self.state.vips.values())
        return Heartbeat(self.state.engine, self.state.incarnation, known.able(self.state), entries)

    def entry(self, view: VipView) -> Entry:
        claim = view.floor
        if view.mode is Mode.HELD:
            claim = view.claim
        elif view.mode is Mode.WANT:
            claim = known.wanted_claim(self.state, view)
        living = view.mode is Mode.READY and view.holder and known.alive(self.state, view.holder, self.now)
        return Entry(view.vip.id, view.mode, claim, view.list_version, view.holder if living else "")
