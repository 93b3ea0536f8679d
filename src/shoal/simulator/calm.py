"""Liveness over an explored graph: left alone, every world becomes calm soon, and stays calm."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from shoal.simulator.explored_world import PAIRS, Moves, World
from shoal.simulator.kernel import Broken

CALM_INTERVALS_MAX = 10
"""Calm: each connected part has one engine answering for each VIP planned there, and all its engines know it."""
Edges = list[list[tuple[int, int]]]
"""From each world: (to which, microseconds that it takes)."""


class Calm:
    """``quiet``: the moves in which nothing goes wrong. While an engine is frozen, the fault is not over yet."""

    def __init__(self, moves: Moves, worlds: list[World], quiet: Edges, transcript: Callable[[int], str]) -> None:
        self._moves, self._worlds, self._quiet, self._transcript = moves, worlds, quiet, transcript
        self._known: dict[tuple[object, ...], bool] = {}

    def longest_unrest(self) -> int:
        """The longest time, in microseconds, from any world to its last uneasy moment on any quiet path. Raises
        `Broken` if that is too long, or without an end: an uneasy world on a cycle, or a cycle that leads to one."""
        moves, quiet = self._moves, self._quiet
        limit = CALM_INTERVALS_MAX * moves.engines.plans[0].timing.heartbeat_interval_ms * 1000
        calm = [self.is_calm(world) for world in self._worlds]
        lasts = [0] * len(calm)
        for group in components(quiet):
            if any(moves.frozen_for(self._worlds[group[0]], i) >= 0 for i in range(3)):
                continue
            members = set(group)
            for at in group:
                for to, takes in quiet[at]:
                    if to not in members and (lasts[to] or not calm[at]):
                        lasts[at] = max(lasts[at], takes + lasts[to])
            cyclic = len(group) > 1 or any(to == group[0] for to, _ in quiet[group[0]])
            uneasy = [at for at in group if not calm[at]]
            if cyclic and (uneasy or any(lasts[at] for at in group)):
                at = uneasy[0] if uneasy else group[0]
                raise Broken(f"never calm for good: {self._seen(self._worlds[at])}\n{self._transcript(at)}")
            worst = max(group, key=lambda at: lasts[at])
            if lasts[worst] > limit:
                raise Broken(f"not calm {lasts[worst] / 1000:.0f} ms after the last fault\n{self._transcript(worst)}")
        return max(lasts)

    def is_calm(self, world: World) -> bool:
        facts = [self._moves.engines.facts[n] for n in world.nodes]
        leased = tuple([f.lease > a for f, a in zip(facts, world.ages, strict=True)])
        key = (world.nodes, world.cuts, leased)
        known = self._known.get(key)
        if known is None:
            vips, parts = self._moves.vips, self._parts(world)
            known = self._known[key] = all(self._is_calm_for(world, v, part, leased) for v in vips for part in parts)
        return known

    def _is_calm_for(self, world: World, vip: str, part: list[int], leased: tuple[bool, ...]) -> bool:
        facts = [self._moves.engines.facts[n] for n in world.nodes]
        owners = [i for i in part if leased[i] and self._moves.vips[vip] in facts[i].speaks_for]
        planned = [i for i in part if facts[i].able and facts[i].views.get(vip, (None, False, ""))[1]]
        if not planned or len(owners) != 1:
            return not planned and len(owners) <= 1
        (owner,) = owners
        witnesses = [i for i in part if i != owner and facts[i].able and vip in facts[i].views]
        name = self._moves.engines.names[owner]
        return facts[owner].able and all(
            facts[i].views[vip][2] == name for i in witnesses if self._moves.connected(world, i, owner)
        )

    def _parts(self, world: World) -> list[list[int]]:
        parts = [[0], [1], [2]]
        for a, b in PAIRS:
            if self._moves.connected(world, a, b):
                one, other = (next(p for p in parts if x in p) for x in (a, b))
                if one is not other:
                    one += other
                    parts.remove(other)
        return parts

    def _seen(self, world: World) -> str:
        words = []
        for name, number in zip(self._moves.engines.names, world.nodes, strict=True):
            fact = self._moves.engines.facts[number]
            held = ", ".join(f"{v}: {h or ('itself' if c else 'nobody')}" for v, (c, _, h) in fact.views.items())
            words.append(f"{name} {'sees ' + held if fact.runs else 'does not run'}")
        return "; ".join(words)


def components(edges: Edges) -> Iterator[list[int]]:
    """Strongly connected components, each after all that it leads to (Tarjan 1972, without recursion)."""
    order, low, open_ = [0] * len(edges), [0] * len(edges), [False] * len(edges)
    stack: list[int] = []
    count = 0
    for root in range(len(edges)):
        work = [] if order[root] else [(root, 0)]
        while work:
            at, k = work.pop()
            if k == 0:
                count += 1
                order[at] = low[at] = count
                stack.append(at)
                open_[at] = True
            else:
                low[at] = min(low[at], low[edges[at][k - 1][0]])
            while k < len(edges[at]):
                to = edges[at][k][0]
                k += 1
                if not order[to]:
                    work += [(at, k), (to, 0)]
                    break
                if open_[to]:
                    low[at] = min(low[at], order[to])
            else:
                if low[at] == order[at]:
                    yield _closed(stack, at, open_)


def _closed(stack: list[int], first: int, open_: list[bool]) -> list[int]:
    group: list[int] = []
    while not group or group[-1] != first:
        group.append(stack.pop())
        open_[group[-1]] = False
    return group
