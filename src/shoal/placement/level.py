"""Placements that one plan makes, evened out before anybody hears of them (distributed placement).

Each in its turn goes onto the least loaded engine; of VIPs that take several slots, one engine can so end with a slot
more than need be. What a plan has just placed serves nobody yet, so it may take another place on paper: directly, or
that of another such one, which goes on in its turn. What stood before the plan is never touched.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .board import Board, Work
from .choose import survey

CHAIN_MAX = 4
"""Placements that make room for one another, one behind the other."""
TRIES_MAX = 20_000
"""Places looked at in one plan."""


class Item(msgspec.Struct, eq=False):
    """A placement of this plan."""

    work: Work
    slots: int
    engine: str


def level(board: Board, fresh: Iterable[tuple[Work, str]]) -> None:
    """Lower the highest load among the engines that got something, as far as that is possible by moving what they got.
    ``fresh``: placements of this plan that may go elsewhere."""
    roomy = board.standing.roomy
    items = [Item(work, work.vip.slots, engine) for work, engine in fresh if engine in roomy]
    if len({item.work.vip.id for item in items}) < 2:
        return  # one by itself is where it should be
    even = Even(board, items)
    before = even.peak
    while even.lower():
        pass
    if even.peak < before:
        _carry_out(board, items, even, before)


class Even:
    """The loads, as they would be."""

    def __init__(self, board: Board, items: list[Item]) -> None:
        self._host, self._lacks = board.host, board.lacks
        self._apart = board.group.vs_host_redundancy
        self._load = {engine: board.load[engine] for engine in board.standing.roomy.order}
        self._rank = {engine: rank for engine, (_, rank) in board.standing.roomy.order.items()}
        self._on: dict[str, list[Item]] = {}
        self.held = {item.work.vip.id: {p.engine for p in item.work.placements} for item in items}
        """VIP -> its engines."""
        self._hosts = {id: {h for e in held if (h := board.host(e))} for id, held in self.held.items()}
        self._tries = 0
        self._order: list[str] = []
        for item in items:
            self._on.setdefault(item.engine, []).append(item)

    @property
    def peak(self) -> int:
        return max(self._load[engine] for engine, items in self._on.items() if items)

    def lower(self) -> bool:
        """Bring every engine below the present peak; False, and nothing is changed, if that can't be done."""
        peak = self.peak
        loads = [load for load in self._load.values() if load <= peak]
        largest = max(item.slots for items in self._on.values() for item in items)
        if peak <= max(-(-sum(loads) // len(loads)), largest):
            return False  # no arrangement is better
        high = [engine for engine, load in self._load.items() if load == peak]
        if not all(self._on.get(engine) for engine in high):
            return False
        places = [(item, item.engine) for items in self._on.values() for item in items]
        for engine in sorted(high, key=self._rank.__getitem__):
            if not self._relieve(engine, peak - 1):
                self._undo(places)
                return False
        return True

    def _undo(self, places: list[tuple[Item, str]]) -> None:
        moved = [(item, engine) for item, engine in places if item.engine != engine]
        for item, _ in moved:
            self._take(item)
        for item, engine in moved:
            self._put(item, engine)

    def _relieve(self, engine: str, most: int) -> bool:
        """Send one placement of the engine away; no engine may then hold more than ``most``."""
        self._order = sorted(self._load, key=lambda e: (self._load[e], self._rank[e]))
        for chain in range(CHAIN_MAX + 1):
            for item in self._kinds(engine):
                if self._load[engine] - item.slots <= most and self._send(item, most, chain):
                    return True
        return False

    def _kinds(self, engine: str) -> list[Item]:
        """The engine's placements; of those that are alike, one. The largest first."""
        kinds = {(item.slots, *sorted(self._hosts[item.work.vip.id])): item for item in self._on.get(engine, ())}
        return sorted(kinds.values(), key=lambda item: -item.slots)

    def _send(self, item: Item, most: int, chain: int) -> bool:
        source, slots, load = item.engine, item.slots, self._load
        self._take(item)
        for engine in self._order:
            if self._tries >= TRIES_MAX:
                break
            self._tries += 1
            if engine == source or not self._allowed(item, engine):
                continue
            if load[engine] + slots <= most:
                self._put(item, engine)
                return True
            if not chain:
                continue
            for other in self._kinds(engine):
                if load[engine] + slots - other.slots > most:
                    break  # the rest are smaller
                if other.slots == slots and not self._apart:
                    continue  # nothing would be won
                self._put(item, engine)
                if self._send(other, most, chain - 1):
                    return True
                self._take(item)
        self._put(item, source)
        return False

    def _allowed(self, item: Item, engine: str) -> bool:
        vip = item.work.vip.id
        if self._lacks(item.work, engine):
            return False
        return engine not in self.held[vip] and not (self._apart and self._host(engine) in self._hosts[vip])

    def _take(self, item: Item) -> None:
        vip, engine = item.work.vip.id, item.engine
        self._load[engine] -= item.slots
        self._on[engine].remove(item)
        self.held[vip].discard(engine)
        self._hosts[vip] = {host for e in self.held[vip] if (host := self._host(e))}

    def _put(self, item: Item, engine: str) -> None:
        vip = item.work.vip.id
        item.engine = engine
        self._load[engine] += item.slots
        self._on.setdefault(engine, []).append(item)
        self.held[vip].add(engine)
        if host := self._host(engine):
            self._hosts[vip].add(host)


def _carry_out(board: Board, items: list[Item], even: Even, before: int) -> None:
    """Move on the board what has another engine now, with a decision in place of the one that was made in its turn."""
    ranks = {engine: rank for rank, engine in enumerate(board.engines)}
    most, after = board.group.max_vs_per_se, even.peak

    def by_rank(engines: set[str]) -> list[str]:
        return sorted(engines, key=ranks.__getitem__)

    works = {item.work.vip.id: item.work for item in items}
    moves: list[tuple[Work, str, str]] = []
    for vip, work in works.items():
        now = {placement.engine for placement in work.placements}
        gone, new = by_rank(now - even.held[vip]), by_rank(even.held[vip] - now)
        moves += [(work, one, other) for one, other in zip(gone, new, strict=True)]
    for work, one, other in moves:
        board.shift(work, one, other)
    for work, one, other in moves:
        with board.lifted(work, other):
            field = survey(board, work)
        why = (
            f"{board.name(other)} rather than {board.name(one)}: of what is placed at once, no engine so gets to more "
            f"than {after} of {most} slots, {before} otherwise"
        )
        board.retract(work.vip.id, "place", one)
        board.decide(work.vip.id, "place", why, engine=other, field=field)
