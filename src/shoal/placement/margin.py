"""How many engines may fail: the worst set of K, and the largest K that each guarantee holds for.

A search over sets of engines by `Survival`, branch and bound: what a set can come to at most is a sum over its engines
(`Bounds`), so sets that can't be worse than the worst one found are never looked at. Where more sets are left than
`FOLLOWED_MAX` allows, the answer is the worst one found and the proven bound, and says so. In a group that numbers
don't describe (`Survival.exact`) each set takes a plan.

The bound: of the VIPs that end down, let s be the slots of the smallest. Then no engine left has s slots free, so those
left have taken over at least the sum of `Survival.room_below` s, and at most ``(slots orphaned - that) / s`` VIPs
are down. Who takes what, and in which order, does not matter. Placements that end missing, of VIPs that still have other
engines, are bounded likewise where running engines replace them at once: only, the engines that such a VIP has left, and
their hosts, are no place for it.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
import sys
from collections.abc import Sequence

import msgspec

from .model import Snapshot
from .survival import Loss, Survival
from .whatif import served_by, struck

FOLLOWED_MAX = 150_000
"""VIPs followed in one search, over all sets: some seconds."""
MARGIN_FOLLOWED_MAX = 20_000
"""VIPs followed for one guarantee of the margin, beyond what the bound proves: half a second."""
TABLE_MAX = 100_000
"""Engines times K, above which only the heaviest sets are looked at: the bounds of all others would not fit."""
WORK_MAX = 20_000
"""Plans times engines and VIPs, where plans are made: a second."""
ANY = sys.maxsize


class Worst(msgspec.Struct, frozen=True, kw_only=True):
    """Engines by id, the oldest first. ``down``: the VIPs that no engine left serves right after."""

    engines: tuple[str, ...]
    loss: Loss
    down: tuple[str, ...]
    exact: bool
    """No set of as many engines leaves more VIPs down."""
    down_at_most: int
    """Proven for every set of as many engines; ``loss.down`` if ``exact``."""
    sets: int
    """How many sets there are."""
    looked_at: int


class Guarantee(msgspec.Struct, frozen=True, kw_only=True):
    """It holds for any ``engines`` failures at once; ``broken_by`` are engines, one more than ``at_most``, that break
    it."""

    engines: int
    exact: bool
    """It does not hold for more; else it may hold for up to ``at_most``."""
    at_most: int
    broken_by: tuple[str, ...] = ()


class Margin(msgspec.Struct, frozen=True, kw_only=True):
    """Both guarantees for any engines, and the host whose loss is the worst ("" = no host is known)."""

    engines: int
    stays_up: Guarantee
    """Every VIP that is served is served by the engines left, without waiting for a new one."""
    keeps_capacity: Guarantee
    """And by as many engines as before."""
    worst_host: str = ""
    worst_host_loss: Loss = Loss()


class _Scaled(msgspec.Struct, frozen=True):
    """Of VIPs of ``slots`` on several engines: what is lost with each engine, and the room that goes with it, in slots.
    Where these sums and ``spare`` come to less than ``slots``, nothing is missing."""

    slots: int
    weights: list[int]
    spare: int

    @classmethod
    def all(cls, survival: Survival) -> list[_Scaled]:
        """None where what was lost may wait for an engine that is made, whatever room there is."""
        widest: dict[int, int] = {}
        for held in survival.vips:
            if len(held.members) > 1:
                widest[held.slots] = max(widest.get(held.slots, 0), len(held.members))
        if not survival.replaces_at_once:
            return []
        lost = [sum(held.slots for held in on) for on in survival.on]
        return [cls.of(survival, slots, others - 1, lost) for slots, others in sorted(widest.items())]

    @classmethod
    def of(cls, survival: Survival, slots: int, others: int, lost: list[int]) -> _Scaled:
        """``others``: engines that such a VIP still has: they, and their hosts, are no place for it."""
        room = survival.room_below(slots)
        out_of_bounds = sum(heapq.nlargest(others, survival.by_host(room)))
        weights = [gone + here for gone, here in zip(lost, room, strict=True)]
        return cls(slots, weights, survival.wanted + out_of_bounds - sum(room))


class Bounds:
    """What any set of ``count`` engines can come to at most, and any larger one if no VIP is on more than ``count``."""

    def __init__(self, survival: Survival, count: int) -> None:
        sizes = sorted({held.slots for held in survival.vips})
        self.unit = math.lcm(*(len(held.members) for held in survival.vips if len(held.members) <= count))
        held_by = [[h for h in on if len(h.members) <= count] for on in survival.on]
        orphaned = [sum(self.unit // len(h.members) * h.slots for h in on) for on in held_by]
        room = {s: [taken * self.unit for taken in survival.room_below(s)] for s in sizes}
        self.weights: list[list[int]] = [[a + g for a, g in zip(orphaned, room[s], strict=True)] for s in sizes]
        """Per size of VIP: what each engine in the set adds, in parts of a slot."""
        self._sizes = sizes
        self._base = [sum(room[s]) for s in sizes]
        self._scaled = _Scaled.all(survival)
        self.weights.append([sum(self.unit // len(h.members) for h in on) for on in held_by])
        self.weights.append([sum(len(h.members) > 1 for h in on) for on in survival.on])
        self.weights.append([sum(h.owner == n for h in on) for n, on in enumerate(survival.on)])
        self.weights += [scaled.weights for scaled in self._scaled]

    def loss(self, sums: Sequence[int]) -> Loss:
        """The worst that a set can be whose engines' weights add up to ``sums``."""
        sizes = len(self._sizes)
        slots, (whole, placements, owned), lost = sums[:sizes], sums[sizes : sizes + 3], sums[sizes + 3 :]
        if self._scaled:
            missing = max((s + one.spare) // one.slots for one, s in zip(self._scaled, lost, strict=True))
            placements = max(0, min(placements, missing))
        by_size = zip(slots, self._base, self._sizes, strict=True)
        down = max(((total - base) // (size * self.unit) for total, base, size in by_size), default=0)
        return Loss(max(0, min(down, whole // self.unit)), placements, owned)

    def most(self, count: int) -> Loss:
        """The worst that any set of so many engines can be."""
        return self.loss([sum(heapq.nlargest(count, weight)) for weight in self.weights])


def bounds_of(survival: Survival, count: int) -> Bounds:
    """Made once for all sizes that they are the same for."""
    widest = max((len(held.members) for held in survival.vips), default=1)
    size = min(count, widest)
    found = survival.bounds.get(size)
    if not isinstance(found, Bounds):
        found = survival.bounds[size] = Bounds(survival, size)
    return found


def worst(snapshot: Snapshot, count: int, now: float) -> Worst:
    """The ``count`` engines whose failure at the same moment is the worst: most VIPs down right after; of those sets,
    most engines missing; of those, most VIPs interrupted. The group must be at rest (`whatif.edited` brings it there).

    Raises ValueError unless 1 <= count <= engines that are up.
    """
    survival = Survival(snapshot, now)
    if not 1 <= count <= len(survival.engines):
        raise ValueError(f"{count} of {len(survival.engines)} engines that are up")
    if not survival.exact:
        return _worst_by_plans(snapshot, survival.engines, count, now)
    search = Search(survival, count)
    found = search.worst()
    loss = survival.loss(found)
    at_most = loss.down if search.complete else search.bounds.most(count).down
    return Worst(
        engines=tuple(survival.engines[n] for n in found),
        loss=loss,
        down=survival.down(found),
        exact=loss.down == at_most,
        down_at_most=at_most,
        sets=math.comb(len(survival.engines), count),
        looked_at=search.looked_at,
    )


def margin(snapshot: Snapshot, now: float) -> Margin:
    """Of a group at rest."""
    survival = Survival(snapshot, now)
    if not survival.exact:
        return _margin_by_plans(snapshot, survival.engines, now)
    on_host: dict[str, list[int]] = {}
    for number, host in enumerate(survival.hosts):
        if host:
            on_host.setdefault(host, []).append(number)
    hosts = {host: survival.loss(engines) for host, engines in on_host.items()}
    worst_host = max(hosts, key=lambda host: hosts[host], default="")
    return Margin(
        engines=len(survival.engines),
        stays_up=_guarantee(survival, Loss(0, ANY, ANY)),
        keeps_capacity=_guarantee(survival, Loss(0, 0, ANY)),
        worst_host=worst_host,
        worst_host_loss=hosts.get(worst_host, Loss()),
    )


def _guarantee(survival: Survival, allowed: Loss) -> Guarantee:
    """The largest K for which no set of K engines loses more than is allowed. What is proven by the bound costs a sort
    for each K that is tried; then sets are looked at."""
    engines = len(survival.engines)
    proven, first = 0, engines + 1
    while first - proven > 1:
        count = (proven + first) // 2
        if bounds_of(survival, count).most(count) > allowed:
            first = count
        else:
            proven = count
    until = survival.followed + MARGIN_FOLLOWED_MAX
    for count in range(first, engines + 1):
        search = Search(survival, count, max(0, until - survival.followed))
        found = search.worse_than(allowed)
        if found:
            broken_by = tuple(survival.engines[n] for n in found)
            return Guarantee(engines=count - 1, exact=True, at_most=count - 1, broken_by=broken_by)
        if not search.complete:
            return _unproven(survival, allowed, count - 1)
    return Guarantee(engines=engines, exact=True, at_most=engines)


def _unproven(survival: Survival, allowed: Loss, proven: int) -> Guarantee:
    """Beyond what is proven: the smallest of the heaviest sets that breaks it."""
    low, high = proven, len(survival.engines)
    broken_by: tuple[int, ...] = tuple(range(high))
    while high - low > 1:
        count = (low + high) // 2
        found = Search(survival, count, 0).worse_than(allowed)
        if found:
            high, broken_by = count, found
        else:
            low = count
    engines = tuple(survival.engines[n] for n in broken_by)
    return Guarantee(engines=proven, exact=False, at_most=high - 1, broken_by=engines)


# --- where numbers don't do: by plans ---


def _worst_by_plans(snapshot: Snapshot, engines: tuple[str, ...], count: int, now: float) -> Worst:
    sets = math.comb(len(engines), count)
    found: tuple[tuple[str, ...], Loss, tuple[str, ...]] = ((), Loss(-1), ())
    looked_at = 0
    for dead in itertools.islice(itertools.combinations(engines, count), _plans_max(snapshot)):
        loss, down = _by_plan(snapshot, dead, now)
        looked_at += 1
        if loss > found[1]:
            found = (dead, loss, down)
    served = sum(map(bool, served_by(snapshot).values()))
    at_most = found[1].down if looked_at == sets else served
    return Worst(
        engines=found[0],
        loss=found[1],
        down=found[2],
        exact=found[1].down == at_most,
        down_at_most=at_most,
        sets=sets,
        looked_at=looked_at,
    )


def _margin_by_plans(snapshot: Snapshot, engines: tuple[str, ...], now: float) -> Margin:
    limits = {"stays_up": Loss(0, ANY, ANY), "keeps_capacity": Loss(0, 0, ANY)}
    broken: dict[str, Guarantee] = {}
    left, whole = _plans_max(snapshot), 0
    for count in range(1, len(engines) + 1):
        for dead in itertools.combinations(engines, count):
            if not left or len(broken) == len(limits):
                break
            left -= 1
            loss, _ = _by_plan(snapshot, dead, now)
            for name in (name for name, allowed in limits.items() if name not in broken and loss > allowed):
                broken[name] = Guarantee(engines=count - 1, exact=True, at_most=count - 1, broken_by=dead)
        else:
            whole = count
            continue
        break
    rest = Guarantee(engines=whole, exact=whole == len(engines), at_most=len(engines))
    return Margin(
        engines=len(engines),
        stays_up=broken.get("stays_up", rest),
        keeps_capacity=broken.get("keeps_capacity", rest),
    )


def _plans_max(snapshot: Snapshot) -> int:
    return max(1, WORK_MAX // (1 + len(snapshot.engines) + len(snapshot.vips)))


def _by_plan(snapshot: Snapshot, dead: tuple[str, ...], now: float) -> tuple[Loss, tuple[str, ...]]:
    before, after = served_by(snapshot), served_by(struck(snapshot, dead, now))
    down = tuple(vip for vip, engines in before.items() if engines and not after[vip])
    missing = sum(max(0, len(engines) - len(after[vip])) for vip, engines in before.items() if after[vip])
    interrupted = sum(vip.enabled and vip.succession[:1] != () and vip.succession[0] in dead for vip in snapshot.vips)
    return Loss(len(down), missing, interrupted), down


class Search:
    """Over all sets of ``count`` engines, the heaviest first. ``complete``: none was left out that could be worse than
    what was found."""

    def __init__(self, survival: Survival, count: int, followed_max: int = FOLLOWED_MAX) -> None:
        self._survival = survival
        self._count = count
        self._until = survival.followed + followed_max
        self.bounds = bounds_of(survival, count)
        self._order = sorted(range(len(survival.engines)), key=lambda n: ([-w[n] for w in self.bounds.weights], n))
        self._rest: list[list[list[int]]] = []
        self._found: tuple[int, ...] = ()
        self._loss = Loss(-1)
        self._first = False
        """Whether the first set that is worse is enough."""
        self.looked_at = 0
        self.complete = True

    def worst(self) -> tuple[int, ...]:
        """The engines, by number."""
        self._run(Loss(-1))
        return self._found

    def worse_than(self, allowed: Loss) -> tuple[int, ...]:
        """Any engines whose loss is worse than ``allowed``; () = none was found."""
        self._first = True
        self._run(allowed)
        return self._found

    def _run(self, than: Loss) -> None:
        self._loss = than
        for weight in self.bounds.weights:
            self._look(heapq.nlargest(self._count, range(len(weight)), key=lambda n: (weight[n], -n)))
            if self._done():
                return
        if self._count * len(self._order) > TABLE_MAX or self._survival.followed >= self._until:
            self.complete = False
            return
        self._rest = [_rest([w[n] for n in self._order], self._count) for w in self.bounds.weights]
        self._walk(0, [], [0] * len(self._rest))

    def _done(self) -> bool:
        if self._first and self._found:
            return True
        return self._loss >= self.bounds.most(self._count)

    def _look(self, engines: Sequence[int]) -> None:
        self.looked_at += 1
        ranked = tuple(sorted(engines))
        loss = self._survival.loss(ranked)
        if loss > self._loss:
            self._loss, self._found = loss, ranked

    def _walk(self, start: int, chosen: list[int], sums: list[int]) -> bool:
        """Every set that begins with ``chosen``. False when the search is over."""
        missing = self._count - len(chosen)
        if not missing:
            if self._survival.followed >= self._until:
                self.complete = False
                return False
            self._look(chosen)
            return not (self._first and self._found)
        for at in range(start, len(self._order) - missing + 1):
            most = [have + rest[at][missing] for have, rest in zip(sums, self._rest, strict=True)]
            if self.bounds.loss(most) <= self._loss:
                return True
            engine = self._order[at]
            more = [have + weight[engine] for have, weight in zip(sums, self.bounds.weights, strict=True)]
            if not self._walk(at + 1, [*chosen, engine], more):
                return False
        return True


def _rest(values: list[int], count: int) -> list[list[int]]:
    """``[i][j]``: the sum of the largest j of ``values[i:]``."""
    table: list[list[int]] = []
    largest: list[int] = []
    for value in reversed(values):
        bisect.insort(largest, value)
        del largest[: max(0, len(largest) - count)]
        table.append([0, *itertools.accumulate(reversed(largest))])
    table.reverse()
    return table
