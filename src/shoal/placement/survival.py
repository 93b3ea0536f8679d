"""What is left right after engines have failed, for many sets of engines: the planner's answer without a plan.

`Survival` reads a group once; `Survival.loss` then follows one set of engines through what the other engines do by
themselves (`whatif.takeovers`) and what the controller does at once (the planner's elect and fill), on numbers alone.
It costs what was on the dead engines, not what is in the group. A property test holds it to the planner's answer.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence, Set

import msgspec

from . import reach
from .board import ENABLED, LEAVING_STATES, SERVING
from .choose import PACKED
from .model import EngineState, PlacementState, Role, Snapshot, Vip
from .presets import SHARED, SHARED_PAIR

Left = dict[int, list[int]]
"""Of each VIP that is hit, the engines that serve it."""


class Loss(msgspec.Struct, frozen=True, order=True):
    """Ordered by how bad it is."""

    down: int = 0
    """VIPs that were served and that no engine left serves."""
    missing: int = 0
    """Engines that VIPs which stay up have fewer than before."""
    interrupted: int = 0
    """VIPs that lose their owner."""


class Held(msgspec.Struct, frozen=True):
    """A VIP that is served, or should be. Engines by number. ``members``: who serves it, the owner first."""

    order: int
    slots: int
    requested: int
    known: bool
    """It was served once."""
    owner: int
    members: tuple[int, ...]
    armed: bool
    succession: tuple[int, ...]


class Survival:
    """``engines``: the ids of those that are up, by rank; elsewhere here they go by their number in it.

    ``exact`` says whether `loss` is what the planner would answer: the group is of a mode that is known here, at rest
    (nothing to plan), and nothing waits to leave an engine.
    """

    def __init__(self, snapshot: Snapshot, now: float) -> None:
        group = self._group = snapshot.group
        ranked = sorted(snapshot.engines, key=lambda e: (e.rank, e.id))
        up = [e for e in ranked if e.state is EngineState.UP]
        self.engines: tuple[str, ...] = tuple(e.id for e in up)
        self.hosts: tuple[str, ...] = tuple(e.host for e in up)
        number = {e.id: n for n, e in enumerate(up)}
        most = group.max_vs_per_se
        load = [0] * len(up)
        vips = sorted(snapshot.vips, key=lambda v: (v.created, v.id))
        self._order = [vip.id for vip in vips]
        self.vips: list[Held] = []
        self.on: list[list[Held]] = [[] for _ in up]
        """The VIPs that each engine serves."""
        self.bounds: dict[int, object] = {}
        """Kept for `margin.bounds_of`."""
        self.followed = 0
        """How many VIPs have been followed: what `loss` costs."""
        self._sums: list[int] = []
        self._short: list[Held] = []
        """VIPs that have fewer engines than they should: with those that failures hit they compete for new ones."""
        leaving = {e.id for e in up if e.enable_state in LEAVING_STATES}
        making = any(e.state not in (EngineState.UP, EngineState.DOWN) for e in snapshot.engines)
        self.exact = group.ha_mode in (SHARED, SHARED_PAIR) and not snapshot.requests and not making
        vlans = {vlan for engine in snapshot.engines for vlan in engine.vlans}
        self.exact &= not any(reach.needs(vip, vlans) for vip in vips)  # engines are not alike then
        for order, vip in enumerate(vips):
            for placement in vip.placements:
                if placement.engine in number:
                    load[number[placement.engine]] += vip.slots
                self.exact &= placement.engine not in leaving and placement.state is PlacementState.READY
            self._add(vip, order, number)
        self.usable = [e.enable_state == ENABLED for e in up]
        self.free = [most - used if ok else 0 for used, ok in zip(load, self.usable, strict=True)]
        self.idle = [not used and ok for used, ok in zip(load, self.usable, strict=True)]
        self._refused = not group.can_create or now < group.create_retry_at

    def _add(self, vip: Vip, order: int, number: dict[str, int]) -> None:
        placed = [p for p in vip.placements if p.state in SERVING and p.engine in number]
        if not vip.enabled:
            return
        placed.sort(key=lambda p: p.role is not Role.PRIMARY)
        held = Held(
            order=order,
            slots=vip.slots,
            requested=vip.requested,
            known=vip.generation > 0,
            owner=number[placed[0].engine] if placed and placed[0].role is Role.PRIMARY else -1,
            members=tuple(number[p.engine] for p in placed),
            armed=vip.armed,
            succession=tuple(number[e] for e in vip.succession if e in number),
        )
        if placed:
            self.vips.append(held)
        if len(placed) < vip.requested:
            self._short.append(held)
        for member in held.members:
            self.on[member].append(held)

    @property
    def replaces_at_once(self) -> bool:
        """What was lost goes to running engines that have room, rather than wait for one that is made."""
        return self._group.algo == PACKED or self._refused

    def room_below(self, slots: int) -> list[int]:
        """For each engine, what it must take at least before it has fewer than ``slots`` free: VIPs come whole."""
        if not self._sums:
            self._sums = _sums({held.slots for held in (*self.vips, *self._short)}, max(self.free, default=0))
        return [self._sums[free - slots + 1] if free >= slots else 0 for free in self.free]

    @property
    def wanted(self) -> int:
        """Slots that VIPs want beyond those they have."""
        return sum(held.slots * (held.requested - len(held.members)) for held in self._short)

    def by_host(self, values: Sequence[int]) -> list[int]:
        """Sums for what counts as one place: a host, or an engine."""
        places: dict[str, int] = {}
        for number, value in enumerate(values):
            host = self.hosts[number] if self._group.vs_host_redundancy else ""
            place = host or f"/{number}"
            places[place] = places.get(place, 0) + value
        return list(places.values())

    def loss(self, dead: Iterable[int]) -> Loss:
        """What is left right after these engines have failed, as good as at the same moment, in this order."""
        return self._after(dead)[0]

    def down(self, dead: Iterable[int]) -> tuple[str, ...]:
        """The ids of the VIPs that no engine left serves."""
        return tuple(self._order[order] for order in self._after(dead)[1])

    def _after(self, dead: Iterable[int]) -> tuple[Loss, list[int]]:
        order_of = {engine: n for n, engine in enumerate(dead)}
        lost = frozenset(order_of)
        hit = sorted({held.order: held for engine in lost for held in self.on[engine]}.items())
        reach = sorted({**dict(hit), **{held.order: held for held in self._short}}.items()) if self._short else hit
        self.followed += len(reach)
        field = _Field(self, lost, self._group.max_se - (len(self.engines) - len(lost)), self._refused)
        orphans = [held for _, held in hit if held.owner in lost]
        left = {order: [m for m in held.members if m not in lost] for order, held in reach}
        field.take_over(sorted(orphans, key=lambda held: (order_of[held.owner], held.order)), left)
        field.elect(orphans, left)
        field.fill([held for _, held in reach], left)
        down = [order for order, _ in hit if not left[order]]
        missing = sum(max(0, len(held.members) - len(left[order])) for order, held in hit if left[order])
        return Loss(len(down), missing, len(orphans)), down


def _sums(sizes: Set[int], most: int) -> list[int]:
    """``[n]``: the least that VIPs of these sizes come to together and is not below n; up to ``most``."""
    sums, largest = {0}, most + max(sizes, default=1)
    for total in range(1, largest + 1):
        if any(total - size in sums for size in sizes):
            sums.add(total)
    ordered = sorted(sums)
    return [ordered[bisect_left(ordered, n)] for n in range(most + 1)] if sizes else [0] * (most + 1)


class _Field:
    """The engines left, as one set of failures finds them. ``may_make``: how many engines could be made."""

    def __init__(self, survival: Survival, lost: frozenset[int], may_make: int, refused: bool) -> None:
        self._s = survival
        self._lost = lost
        self._may_make = 0 if refused else max(0, may_make)
        self._taken: dict[int, int] = {}
        self._new: list[int] = []
        """Free slots of each engine that is being made."""
        self._most = survival._group.max_vs_per_se
        self._packed = survival._group.algo == PACKED

    def room(self, engine: int) -> int:
        return self._s.free[engine] - self._taken.get(engine, 0)

    def _put(self, held: Held, engine: int, left: Left) -> None:
        self._taken[engine] = self._taken.get(engine, 0) + held.slots
        left[held.order].append(engine)

    def _fits(self, held: Held, engine: int) -> bool:
        return engine not in self._lost and self._s.usable[engine] and self.room(engine) >= held.slots

    # --- by themselves ---

    def take_over(self, orphans: Sequence[Held], left: Left) -> None:
        """See `whatif.takeovers`; a member that takes over needs no room."""
        vacant = [(held, [e for e in held.succession if e not in self._lost]) for held in orphans if held.armed]
        turn = 0
        while vacant:
            still = []
            for held, heirs in vacant:
                if turn >= len(heirs):
                    continue
                heir = heirs[turn]
                if heir in held.members:
                    continue
                if self.room(heir) >= held.slots:
                    self._put(held, heir, left)
                else:
                    still.append((held, heirs))
            vacant, turn = still, turn + 1

    # --- the controller, at once ---

    def elect(self, orphans: Sequence[Held], left: Left) -> None:
        """The first of the list that can, for those that nobody has taken."""
        for held in orphans:
            if left[held.order]:
                continue
            heir = next((e for e in held.succession if self._fits(held, e)), None)
            if heir is not None:
                self._put(held, heir, left)

    def fill(self, works: Sequence[Held], left: Left) -> None:
        """As `shoal.placement.fill`: those without any engine first, then those below their target; the largest first."""
        works = sorted(works, key=lambda held: (-held.slots, -held.requested))
        works = [held for held in works if held.slots <= self._most]
        ample = self._ample(works, left)
        waits: dict[int, set[int]] = {held.order: set() for held in works}
        stuck: set[int] = set()
        for held in works:
            if not left[held.order] and not self._place_one(held, left, waits[held.order], urgent=True):
                stuck.add(held.order)
            if ample and held.order not in stuck:
                self._complete(held, left, waits[held.order], stuck)
        for held in works:
            if held.order not in stuck:
                self._complete(held, left, waits[held.order], stuck)

    def _complete(self, held: Held, left: Left, waiting: set[int], stuck: set[int]) -> None:
        while len(left[held.order]) + len(waiting) < held.requested:
            if not self._place_one(held, left, waiting, urgent=False):
                stuck.add(held.order)
                return

    def _ample(self, works: Sequence[Held], left: Left) -> bool:
        """See `shoal.placement.fill`."""
        missing = [(held.slots, more) for held in works if (more := held.requested - len(left[held.order])) > 0]
        sizes = {slots for slots, _ in missing}
        if len(sizes) < 2:
            return False
        usable = [n for n, ok in enumerate(self._s.usable) if ok and n not in self._lost]
        urgent = any(held.known and not left[held.order] for held in works)
        may_make = 0 if urgent else self._may_make
        engines = len(usable) + may_make
        free = sum(self.room(n) for n in usable) + may_make * self._most
        return sum(slots * more for slots, more in missing) + engines * (max(sizes) - 1) <= free

    def _place_one(self, held: Held, left: Left, waiting: set[int], *, urgent: bool) -> bool:
        """On an engine that runs where the algorithm wants that, or nothing else can be; else it waits for one that is
        made. ``urgent``: it has none at all."""
        mine = left[held.order]
        redundant = self._s._group.vs_host_redundancy
        hosts = frozenset(h for e in mine if (h := self._s.hosts[e])) if redundant else frozenset()
        best = self._best(held, hosts, mine)
        idle = best is not None and self._s.idle[best] and best not in self._taken
        if best is None or not (idle or self._packed or urgent):
            if self._wait(held, waiting):
                return True
            best = best if best is not None else self._best(held, frozenset(), mine)
        if best is None:
            return False
        self._put(held, best, left)
        return True

    def _best(self, held: Held, hosts: frozenset[str], mine: Sequence[int] = ()) -> int | None:
        """The emptiest engine with room, the oldest of several."""
        best, most = None, -math.inf
        free, taken, usable = self._s.free, self._taken, self._s.usable
        for engine in range(len(free)):
            room = free[engine] - taken.get(engine, 0)
            if room > most and room >= held.slots and usable[engine] and engine not in self._lost:
                if engine in mine or (hosts and self._s.hosts[engine] in hosts):
                    continue
                best, most = engine, room
        return best

    def _wait(self, held: Held, waiting: set[int]) -> bool:
        """Whether an engine that is being made, or can be, takes it; a VIP is on each of them once. What was lost waits
        for one that is being made rather than have one made for it."""
        able = [n for n, room in enumerate(self._new) if room >= held.slots and n not in waiting]
        patient = self._packed or not self._lost.isdisjoint(held.members)
        if self._may_make > len(self._new) and not (able and patient):
            self._new.append(self._most)
            chosen = len(self._new) - 1
        elif able:
            chosen = max(able, key=lambda n: self._new[n])
        else:
            return False
        self._new[chosen] -= held.slots
        waiting.add(chosen)
        return True
