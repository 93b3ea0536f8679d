"""A group as it stands, indexed, so that a plan looks only at what may have to change.

`Standing` is a function of the group's snapshot and nothing else: entering the same engines and VIPs one by one, in
any order, or all at once comes to the same. What a plan does to it is taken back when the plan is made (`Board.close`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from . import reach
from .model import Engine, EngineState, Group, Need, Placement, PlacementState, Request, Role, Snapshot, Vip
from .ranking import Ranking, Times

ACTIVE = (PlacementState.WAITING, PlacementState.ASSIGNED, PlacementState.READY)
ENABLED = "SE_STATE_ENABLED"
FOR_PLACEMENT = "SE_STATE_DISABLED_FOR_PLACEMENT"
FORCE = "SE_STATE_DISABLED_FORCE"
NO_GATEWAY = "NO_GATEWAY"
"""No state of the schema: the engine does not reach a gateway that others of the group reach, and is emptied in grace."""
LEAVING_STATES = ("SE_STATE_DISABLED", FORCE, NO_GATEWAY)
AWAITING_EVENT_AFTER_S = 60.0
"""The schema's default of ``vs_awaiting_se_timeout``."""


def turn(vip: Vip) -> tuple[float, str]:
    """The order in which VIPs have their turn."""
    return vip.created, vip.id


def scale_bounds(group: Group) -> tuple[int, int]:
    """(least, most) engines of a VIP."""
    most = max(1, group.max_scaleout_per_vs)
    return min(max(1, group.min_scaleout_per_vs), most), most


class Standing:
    """One group. Read its fields, change them by its methods only."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.revision = snapshot.revision
        self.group = snapshot.group
        self.pace = snapshot.pace
        self.requests: tuple[Request, ...] = ()
        self.engines: dict[str, Engine] = {}
        """By rank."""
        self.vips: dict[str, Vip] = {}
        self.load: dict[str, int] = {}
        """Engine -> slots in use; also of engines that are gone, while a VIP is on them."""
        self.states: dict[EngineState, int] = dict.fromkeys(EngineState, 0)
        """How many engines are in each state."""
        self.suspects: dict[str, None] = {}
        """Engines that are out of sight."""
        self.vlans: dict[str, int] = {}
        """Networks that engines are in by a VLAN -> how many are."""
        self.disabled = 0
        """How many are up and may not get placements."""
        self.roomy = Ranking()
        """Engines that may get placements, by slots in use."""
        self.arriving = Ranking()
        """Engines being created that may get placements, by slots waiting for them."""
        self.heirs = Ranking()
        """Engines with a free slot, by slots in use and counted on."""
        self.counted: dict[str, int] = {}
        """Engine -> slots of VIPs whose succession counts on it."""
        self.on_host: dict[str, dict[str, None]] = {}
        """Host -> its engines that may get placements."""
        self.held: dict[str, dict[str, None]] = {}
        """Engine -> VIPs that have a placement on it."""
        self.owned: dict[str, dict[str, None]] = {}
        """Engine -> VIPs whose owner it is."""
        self.unsettled: dict[str, None] = {}
        """VIPs that a plan may have to do something for."""
        self.leaving: dict[str, None] = {}
        """Engines that are being disabled, or were."""
        self.idle: dict[str, None] = {}
        """Engines that may get placements and have had none for some time."""
        self.drains = Times()
        """VIPs by the begin of their first drain."""
        self.awaiting = Times()
        """VIPs that no engine serves, by since when."""
        self.demand = 0
        """Slots that placements take, by the targets; see `capacity.demand`."""
        self._shares: dict[str, int] = {}
        self.deals = Deals()
        for engine in sorted(snapshot.engines, key=lambda e: (e.rank, e.id)):
            self.put_engine(engine)
        for vip in sorted(snapshot.vips, key=turn):
            self.put_vip(vip)
        self.put_requests(snapshot.requests)

    def snapshot(self) -> Snapshot:
        """What it is made of."""
        return Snapshot(
            revision=self.revision,
            group=self.group,
            engines=tuple(self.engines.values()),
            vips=tuple(sorted(self.vips.values(), key=turn)),
            requests=self.requests,
            pace=self.pace,
        )

    # --- changes ---

    def follow(self, snapshot: Snapshot) -> None:
        """Enter whatever differs in this snapshot. Takes a comparison for each engine and VIP, at the least."""
        self.revision, self.pace = snapshot.revision, snapshot.pace
        self.put_group(snapshot.group)
        for gone in self.engines.keys() - {engine.id for engine in snapshot.engines}:
            self.drop_engine(gone)
        for gone in self.vips.keys() - {vip.id for vip in snapshot.vips}:
            self.drop_vip(gone)
        for engine in snapshot.engines:
            self.put_engine(engine)
        for vip in snapshot.vips:
            self.put_vip(vip)
        self.put_requests(snapshot.requests)

    def follow_some(
        self, snapshot: Snapshot, engines: Mapping[str, Engine | None], vips: Mapping[str, Vip | None]
    ) -> None:
        """As `follow`, by someone who knows which engines and VIPs differ; None: it is gone. Takes as long as they are
        many."""
        self.revision, self.pace = snapshot.revision, snapshot.pace
        self.put_group(snapshot.group)
        for id, engine in engines.items():
            if engine is None:
                self.drop_engine(id)
        for id, vip in vips.items():
            if vip is None:
                self.drop_vip(id)
        for engine in engines.values():
            if engine is not None:
                self.put_engine(engine)
        for vip in vips.values():
            if vip is not None:
                self.put_vip(vip)
        self.put_requests(snapshot.requests)

    def put_group(self, group: Group) -> None:
        """The group's fields. Cheap for those that only the group as a whole depends on."""
        was = self.group
        self.group = group
        if _for_vips(was) != _for_vips(group):
            self.__init__(self.snapshot())  # type: ignore[misc]

    def put_requests(self, requests: Iterable[Request]) -> None:
        self.requests = tuple(sorted(requests, key=lambda r: (r.at, r.id)))

    def put_engine(self, engine: Engine) -> None:
        """A new engine, or one that is no longer as it was."""
        was = self.engines.get(engine.id)
        if was is engine or was == engine:
            return
        if was is not None:
            self._forget_engine(was)
        for vlan in engine.vlans:
            self.vlans[vlan] = self.vlans.get(vlan, 0) + 1
        last = next(reversed(self.engines.values()), None)
        self.engines[engine.id] = engine
        moved = was.rank != engine.rank if was is not None else last is not None and last.rank > engine.rank
        if moved:
            self.engines = dict(sorted(self.engines.items(), key=lambda item: (item[1].rank, item[0])))
        self.states[engine.state] += 1
        load = self.load.setdefault(engine.id, 0)
        if engine.state is EngineState.UP and engine.enable_state == ENABLED:
            self.roomy.put(engine.id, engine.rank, load)
            self.on_host.setdefault(engine.host, {})[engine.id] = None
            self._rank_heir(engine.id)
            if engine.idle_since is not None:
                self.idle[engine.id] = None
        elif engine.state is EngineState.UP:
            self.disabled += 1
        elif engine.state is EngineState.SUSPECT:
            self.suspects[engine.id] = None
        elif engine.state is EngineState.CREATING and engine.enable_state == ENABLED:
            self.arriving.put(engine.id, engine.rank, load)
        if engine.enable_state in LEAVING_STATES or engine.migrate_state:
            self.leaving[engine.id] = None
        if was is None or _role(was) != _role(engine):
            self._engine_changed(engine.id)
        if engine.vlans != (was.vlans if was is not None else ()):
            self._vlans_changed()

    def _vlans_changed(self) -> None:
        """Any VIP may need other engines to take it over."""
        for owner in self.owned:
            self.deals.ask(owner)

    def drop_engine(self, engine: str) -> None:
        was = self.engines.pop(engine, None)
        if was is None:
            return
        self._forget_engine(was)
        if not self.load[engine] and not self.held.get(engine):
            del self.load[engine]
        self._engine_changed(engine)
        if was.vlans:
            self._vlans_changed()

    def put_vip(self, vip: Vip) -> None:
        """A new VIP, or one that is no longer as it was."""
        was = self.vips.get(vip.id)
        if was is vip or was == vip:
            return
        if was is not None and was == msgspec.structs.replace(vip, created=was.created):
            self.vips[vip.id] = vip
            self.deals.stale = True  # those that are open depend on turns
            return
        if was is not None:
            self._forget_vip(was)
        self.vips[vip.id] = vip
        for placement in vip.placements:
            self.held.setdefault(placement.engine, {})[vip.id] = None
        self._occupy(was, vip)
        owner = owner_among(vip.placements)
        if owner:
            self.owned.setdefault(owner, {})[vip.id] = None
            self.deals.ask(owner)
        for engine in counted_on(vip):
            self.count_on(engine, vip.slots)
        self.drains.put(vip.id, min((p.since for p in vip.placements if _draining(p)), default=None))
        self.awaiting.put(vip.id, vip.awaiting_since)
        self._look_at(vip)

    def drop_vip(self, vip: str) -> None:
        was = self.vips.pop(vip, None)
        if was is None:
            return
        self._forget_vip(was)
        self._occupy(was, None)
        self.drains.put(vip, None)
        self.awaiting.put(vip, None)
        self.unsettled.pop(vip, None)
        self.demand -= self._shares.pop(vip)

    def _occupy(self, was: Vip | None, vip: Vip | None) -> None:
        """Slots move from where the VIP was to where it is."""
        self.deals.stale = True
        before = {p.engine: was.slots for p in was.placements} if was else {}
        after = {p.engine: vip.slots for p in vip.placements} if vip else {}
        for engine in {**before, **after}:
            more = after.get(engine, 0) - before.get(engine, 0)
            if more:
                self.set_load(engine, self.load.get(engine, 0) + more)
                for owner in self.deals.short(engine, self.free(engine)):
                    self.deals.ask(owner)

    def _forget_vip(self, was: Vip) -> None:
        for placement in was.placements:
            _discard(self.held, placement.engine, was.id)
        owner = owner_among(was.placements)
        if owner:
            _discard(self.owned, owner, was.id)
            self.deals.ask(owner)
        for engine in counted_on(was):
            self.count_on(engine, -was.slots)

    def _forget_engine(self, was: Engine) -> None:
        self.states[was.state] -= 1
        for vlan in was.vlans:
            self.vlans[vlan] -= 1
            if not self.vlans[vlan]:
                del self.vlans[vlan]
        self.roomy.drop(was.id)
        self.arriving.drop(was.id)
        self.heirs.drop(was.id)
        self.idle.pop(was.id, None)
        self.leaving.pop(was.id, None)
        self.suspects.pop(was.id, None)
        _discard(self.on_host, was.host, was.id)
        if was.state is EngineState.UP and was.enable_state != ENABLED:
            self.disabled -= 1

    def _engine_changed(self, engine: str) -> None:
        """Whatever depends on the engine's state has to be looked at."""
        self.deals.stale = True
        self.deals.ask(engine)
        for owner in self.deals.counting_on(engine):
            self.deals.ask(owner)
        for id in self.held.get(engine, ()):
            vip = self.vips[id]
            self.deals.ask(owner_among(vip.placements))
            self._look_at(vip)

    def _look_at(self, vip: Vip) -> None:
        share = self.share_of(vip.slots, vip.placements, vip.requested)
        self.demand += share - self._shares.get(vip.id, 0)
        self._shares[vip.id] = share
        if self._settled(vip):
            self.unsettled.pop(vip.id, None)
        else:
            self.unsettled[vip.id] = None

    def check(self) -> None:
        """Raises AssertionError if any index is not what its snapshot comes to. Takes as long as making all anew."""
        fresh = Standing(self.snapshot())
        for name, made in vars(fresh).items():
            if name != "deals":
                kept = getattr(self, name)
                assert kept == made, f"{name}: {kept} is not {made}"

    # --- what a plan changes while it is made, too ---

    def set_load(self, engine: str, slots: int) -> None:
        self.load[engine] = slots
        if engine in self.roomy:
            self.roomy.score(engine, slots)
            self._rank_heir(engine)
        elif engine in self.arriving:
            self.arriving.score(engine, slots)
        elif not slots and engine not in self.engines and engine not in self.held:
            del self.load[engine]

    def count_on(self, engine: str, slots: int) -> None:
        """``slots`` more of the engine are counted on by successions."""
        counted = self.counted.get(engine, 0) + slots
        if counted:
            self.counted[engine] = counted
        else:
            self.counted.pop(engine, None)
        if engine in self.roomy:
            self._rank_heir(engine)

    def _rank_heir(self, engine: str) -> None:
        if self.free(engine) > 0:
            score = self.load[engine] + self.counted.get(engine, 0)
            self.heirs.put(engine, self.engines[engine].rank, score)
        else:
            self.heirs.drop(engine)

    # --- reading ---

    def needs(self, vip: Vip) -> tuple[Need, ...]:
        """Networks that an engine must be in to serve the VIP."""
        return reach.needs(vip, self.vlans)

    def free(self, engine: str) -> int:
        return self.group.max_vs_per_se - self.load.get(engine, 0)

    def share(self, vip: str) -> int:
        """The VIP's part of `demand` as it stands."""
        return self._shares[vip]

    def in_question(self, now: float) -> dict[str, None]:
        """VIPs that a plan may have to do something for, now."""
        found = dict(self.unsettled)
        for since, vip in self.drains:
            if now - since < self.group.drain_s_least:
                break
            found[vip] = None
        for since, vip in self.awaiting:
            if now - since < AWAITING_EVENT_AFTER_S:
                break
            found[vip] = None
        found.update((request.vip, None) for request in self.requests if request.vip in self.vips)
        return found

    def share_of(self, slots: int, placements: Iterable[Placement], requested: int) -> int:
        """Slots that one VIP will take when its drains and migrates are over."""
        held = sum(p.state in ACTIVE and not self._stays(p.engine) for p in placements)
        return slots * min(held, requested)

    def _stays(self, engine: str) -> bool:
        found = self.engines.get(engine)
        return found is not None and found.enable_state == FOR_PLACEMENT

    def _settled(self, vip: Vip) -> bool:
        """Nothing that a plan does concerns the VIP, whatever else happens in the group, but for the ends of its
        drains and requests for it. When in doubt, it is not: that costs time only."""
        least, most = scale_bounds(self.group)
        if vip.requested < least or vip.user_factor != vip.requested - least:
            return False
        if not vip.enabled:
            nowhere = not vip.placements and not vip.succession and not vip.claimant
            return nowhere and vip.awaiting_since is None and vip.requested <= most
        active = ready = 0
        primaries: list[str] = []
        taken_on = True
        for placement in vip.placements:
            engine = self.engines.get(placement.engine)
            if engine is None or engine.state is not EngineState.UP or engine.enable_state in LEAVING_STATES:
                return False
            if placement.state is PlacementState.DRAINING:
                if placement.drained:
                    return False
                continue
            if placement.state is PlacementState.WAITING:
                return False
            active += 1
            ready += placement.state is PlacementState.READY
            if placement.role is Role.PRIMARY:
                primaries.append(placement.engine)
                taken_on = placement.state is PlacementState.READY
        return (
            active == vip.requested
            and vip.succession[:1] == tuple(primaries)
            and vip.claimant in ("", *primaries)
            and bool(ready) == (vip.awaiting_since is None)
            and (taken_on or not ready)
        )


class Deals:
    """Of whose succession is it known that it stands, and what on.

    A deal is the succession of all the VIPs of one owner. It stands while the room it counts on does.
    """

    def __init__(self) -> None:
        self.asked: dict[str, None] = {}
        """Owners whose deal has to be made anew."""
        self.open: dict[str, None] = {}
        """Owners whose deal stands and leaves something to wish: any change elsewhere may better it."""
        self.stale = True
        """Something has changed since the open ones were made."""
        self._needs: dict[str, Mapping[str, int]] = {}
        self._counting: dict[str, dict[str, int]] = {}

    def ask(self, owner: str) -> None:
        if owner:
            self.asked[owner] = None

    def stands(self, owner: str, needs: Mapping[str, int], complete: bool) -> None:
        """``needs``: engine -> free slots without which it falls."""
        self.asked.pop(owner, None)
        self.open.pop(owner, None)
        for engine in self._needs.pop(owner, {}):
            counting = self._counting[engine]
            del counting[owner]
            if not counting:
                del self._counting[engine]
        if not complete:
            self.open[owner] = None
        if needs:
            self._needs[owner] = needs
            for engine, slots in needs.items():
                self._counting.setdefault(engine, {})[owner] = slots

    def counting_on(self, engine: str) -> Iterable[str]:
        """Owners whose deal counts on the engine."""
        return self._counting.get(engine, {})

    def short(self, engine: str, free: int) -> list[str]:
        """Owners whose deal needs more of the engine than ``free`` slots."""
        return [owner for owner, slots in self._counting.get(engine, {}).items() if slots > free]

    def wishing(self, room: bool) -> list[str]:
        """Owners whose open deal may become another one. ``room``: some engine has a free slot; without any, those
        that have nothing get nothing."""
        return [owner for owner in self.open if room or owner in self._needs]


def owner_among(placements: Iterable[Placement]) -> str:
    """The engine of the primary, unless that is still being created; "" = none."""
    for placement in placements:
        if placement.role is Role.PRIMARY and placement.state in ACTIVE:
            return "" if placement.state is PlacementState.WAITING else placement.engine
    return ""


def counted_on(vip: Vip) -> Iterator[str]:
    """Engines that are to take the VIP over and do not hold it yet."""
    held = {p.engine for p in vip.placements}
    return (engine for engine in vip.succession if engine not in held)


def _draining(placement: Placement) -> bool:
    return placement.state is PlacementState.DRAINING


def _role(engine: Engine) -> tuple[EngineState, str, str, int, tuple[str, ...]]:
    """What plans for VIPs depend on."""
    return engine.state, engine.enable_state, engine.host, engine.rank, engine.networks


def _for_vips(group: Group) -> Group:
    """The group, but for what no VIP by itself depends on."""
    return msgspec.structs.replace(
        group,
        name="",
        buffer_se=0,
        max_se=0,
        min_se=0,
        se_deprovision_delay_s=0.0,
        vs_scaleout_timeout_s=0.0,
        vs_scalein_timeout_s=0.0,
        vs_scalein_timeout_for_upgrade_s=0.0,
        upgrading="",
        can_create=True,
        create_retry_at=0.0,
        ever_used=False,
    )


def _discard(index: dict[str, dict[str, None]], key: str, entry: str) -> None:
    entries = index.get(key)
    if entries is not None:
        entries.pop(entry, None)
        if not entries:
            del index[key]
