"""Three engines and the network between them as one value, and every move that the world can make from it.

At an instant, faults and orders come first (in any number the budget allows, each a move that takes no time); then what
is due happens, and time passes to the next instant at which anything is due.

What is due at different engines at one instant is not put in every order: a letter takes at least `DELAY` to arrive, so
nothing an engine does can reach another within the instant, and `step` touches nothing but its own engine. The orders
commute; all orders *at one engine* are explored. An overlap of speakers is measured over the time that passes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from enum import Enum
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from shoal.ownership.events import Haproxy, Link, Told
from shoal.simulator.explored_engine import DEAD, TICK, Engines, Node, Outcome
from shoal.simulator.kernel import HEAL_S_MAX, OVERLAP_S_MAX, Broken

DELAY = 1_000
"""Of every letter, in microseconds."""
LATE = 5_000
"""A late letter comes that much after it was due, in microseconds; it may be late again."""
STALL = 5_000
"""Besides the instants at which something is due anyway, a frozen engine may thaw after this (a late tick) ..."""
FREEZE_MAX = 450_000
"""... and does at the latest after this, in microseconds: past the lease and past detection."""
NEVER = -1


class Budget(msgspec.Struct, frozen=True):
    """How often each fault may befall a world. Repairs (heal, thaw, HAProxy or link up) are free, and never owed."""

    kills: int = 0
    starts: int = 0
    stops: int = 0
    freezes: int = 0
    losses: int = 0
    lates: int = 0
    resets: int = 0
    cuts: int = 0
    links: int = 0
    haproxies: int = 0
    isolations: int = 0
    """An engine is cut off from both others at once, without losing carrier; then cuts heal all at once."""
    halves: int = 0
    """How many of the kills and freezes may come between two effects of one step."""


class When(Enum):
    """See `Moves`."""

    ALWAYS = "always"
    TICKS = "ticks"
    BEATS = "beats"


FIELDS = Budget.__struct_fields__
KILLS, STARTS, STOPS, FREEZES, LOSSES, LATES, RESETS, CUTS, LINKS, HAPROXIES, ISOLATIONS, HALVES = range(len(FIELDS))
PAIRS = ((0, 1), (0, 2), (1, 2))


class World(NamedTuple):
    """``ages``: since each engine's last step. ``flight``: (due in, to, letter), in order. ``cuts``: bits of `PAIRS`.

    ``met``: since the last heal, `NEVER` if that is long ago. ``overlap``: for each VIP, how long two connected
    engines have both been answering. ``budget``: what is left of it.
    """

    nodes: tuple[int, ...]
    ages: tuple[int, ...]
    flight: tuple[tuple[int, int, int], ...]
    cuts: int
    met: int
    overlap: tuple[int, ...]
    budget: tuple[int, ...]


class Move(NamedTuple):
    """``quiet``: nothing goes wrong in it. ``notes``: (engine, what it did)."""

    what: tuple[Any, ...]
    world: World
    takes: int
    quiet: bool
    notes: tuple[tuple[int, tuple[str, ...]], ...] = ()


class Moves:
    """Every move from a world. Raises `Broken` when a move breaks a rule.

    ``when`` engines are harmed, repaired and told of plans: at every instant; or just before their own ticks, or their
    own heartbeats, which keeps the distances in time few. Letters are always harmed just before they arrive.
    """

    def __init__(self, engines: Engines, budget: Budget, vips: dict[str, str], when: When) -> None:
        self.engines, self.budget, self.vips, self.when = engines, budget, vips, when
        slow = DELAY + LATE * budget.lates
        beat = engines.plans[0].timing.heartbeat_interval_ms * 1000
        self.overlap_max = round(OVERLAP_S_MAX * 1e6) + slow
        self.heal_max = round(HEAL_S_MAX * 1e6) + slow + beat * budget.losses
        if budget.freezes:  # who freezes before it has heard cannot yield: its lease must end
            self.heal_max += engines.plans[0].timing.lease_ms * 1000
        self.overlap_seen = 0

    def first(self) -> World:
        """All engines are off; their agents know the first plan."""
        nodes = tuple(self.engines.node(Node(engine=i)) for i in range(len(self.engines.names)))
        budget = tuple(getattr(self.budget, f) for f in FIELDS)
        return World(nodes, (0,) * len(nodes), (), 0, NEVER, (0,) * len(self.vips), budget)

    def moves(self, world: World) -> Iterator[Move]:
        must_thaw = [i for i in range(3) if self.frozen_for(world, i) >= FREEZE_MAX]
        if must_thaw:
            yield from self._thaws(world, must_thaw[0])
            return
        yield from self._letters_harmed(world)
        ticking = self._ticking(world)
        for i in range(3):
            if ticking[i]:
                yield from self._engine_harmed(world, i)
                yield from self._orders(world, i)
        for pair in PAIRS:
            if ticking[pair[0]] or ticking[pair[1]]:
                yield from self._network_harmed(world, *pair)
        yield from self.go(world)

    def _ticking(self, world: World) -> list[bool]:
        """May engine i be harmed now? One without a timer is so when another's tick is due."""
        if self.when is When.ALWAYS:
            return [True] * 3
        facts = [self.engines.facts[n] for n in world.nodes]
        own = [f.beat if self.when is When.BEATS else f.wake for f in facts]
        due = [o <= a for o, a in zip(own, world.ages, strict=True)]
        clockless = any(due) or not any(f.runs for f in facts)
        return [d if f.runs else clockless for d, f in zip(due, facts, strict=True)]

    # --- what is due happens ---

    def go(self, world: World, at_most: float = math.inf) -> Iterator[Move]:
        """One move for each combination of what the engines may make of this instant; then time passes."""
        engines = self.engines
        due: list[list[int]] = [[], [], []]
        later = []
        for letter in world.flight:
            if letter[0] > 0:
                later.append(letter)
            elif self.connected(world, engines.letters[letter[2]].sender, letter[1]):
                due[letter[1]].append(letter[2])
        options: list[tuple[Outcome, ...]] = []
        half = world.budget[HALVES] > 0
        kill, freeze = half and world.budget[KILLS] > 0, half and world.budget[FREEZES] > 0
        for i in range(3):
            node, age = world.nodes[i], world.ages[i]
            if engines.facts[node].wake <= age:
                due[i].append(TICK)
            if due[i]:
                options.append(engines.react(node, age, tuple(due[i]), kill, freeze))
            else:
                options.append((Outcome(node, age, (), "", ()),))
        for outcomes in itertools.product(*options):
            faults = [o.fault for o in outcomes if o.fault]
            budget = world.budget
            for fault in faults:
                budget = _less(_less(budget, KILLS if fault == "kill" else FREEZES), HALVES)
            if min(budget) < 0:
                continue
            after = world._replace(
                nodes=tuple([o.node for o in outcomes]), ages=tuple([o.age for o in outcomes]), budget=budget
            )
            flight = later + [
                (DELAY, to, letter)
                for i, outcome in enumerate(outcomes)
                for to, letter in outcome.sent
                if self.connected(after, i, to)
            ]
            for i, outcome in enumerate(outcomes):
                if outcome.fault == "kill":
                    flight += self._sessions_end(after, i)
            notes = tuple([(i, o.notes) for i, o in enumerate(outcomes) if o.notes])
            self._check_claims(after)
            moved = self._pass_time(after._replace(flight=tuple(flight)), at_most)
            if moved is not None:
                yield Move(("go",), moved[0], moved[1], not faults, notes)

    def _pass_time(self, world: World, at_most: float) -> tuple[World, int] | None:
        takes = min((letter[0] for letter in world.flight), default=at_most)
        takes = min(takes, at_most)
        for i, number in enumerate(world.nodes):
            fact = self.engines.facts[number]
            takes = min(takes, max(fact.wake - world.ages[i], 1))
            frozen = self.frozen_for(world, i)
            if frozen >= 0:
                ends = (STALL - frozen, FREEZE_MAX - frozen, fact.lease - world.ages[i])
                takes = min(takes, *(e for e in ends if e > 0))
        if takes == math.inf:
            return None  # all are dead: nothing will ever happen
        passed = int(takes)
        overlap = tuple([self._overlap(world, vip, a, passed) for vip, a in enumerate(self.vips.values())])
        met = NEVER if world.met == NEVER or world.met + passed > self.heal_max else world.met + passed
        rested = [self.engines.rested(n, a + passed) for n, a in zip(world.nodes, world.ages, strict=True)]
        return world._replace(
            nodes=tuple([n for n, _ in rested]),
            ages=tuple([a for _, a in rested]),
            flight=self._in_order([(t - passed, to, letter) for t, to, letter in world.flight]),
            met=met,
            overlap=overlap,
        ), passed

    def _overlap(self, world: World, vip: int, address: str, passed: int) -> int:
        """How long two connected engines have answered for ``address`` when ``passed`` is over; 0 if they stopped."""
        left = {}
        for i, node in enumerate(world.nodes):
            fact = self.engines.facts[node]
            if address in fact.speaks_for and fact.lease > world.ages[i]:
                left[i] = fact.lease - world.ages[i]
        both = [min(left[a], left[b]) for a, b in PAIRS if a in left and b in left and self.connected(world, a, b)]
        if not both:
            return 0
        lasted = min(max(both), passed)
        total = world.overlap[vip] + lasted
        if world.met == NEVER or world.met + lasted > self.heal_max:
            self.overlap_seen = max(self.overlap_seen, total)
            if total > self.overlap_max:
                names = " and ".join(self.engines.names[i] for i in left)
                raise Broken(f"{names} both answer for {address} for {total / 1000:.0f} ms")
        return total if lasted == passed else 0

    def _check_claims(self, world: World) -> None:
        views = [self.engines.facts[n].views for n in world.nodes]
        for a, b in PAIRS:
            for vip, (claim, _, _) in views[a].items():
                if claim is not None and vip in views[b] and views[b][vip][0] == claim:
                    raise Broken(f"{self.engines.names[a]} and {self.engines.names[b]} hold {vip} by the same {claim}")

    # --- faults, orders, repairs: they take no time ---

    def _letters_harmed(self, world: World) -> Iterator[Move]:
        for k, (due, to, letter) in enumerate(world.flight):
            if due > 0 or not self.engines.letters[letter].lossy or (k and world.flight[k - 1] == world.flight[k]):
                continue
            rest = world.flight[:k] + world.flight[k + 1 :]
            if world.budget[LOSSES]:
                yield _at_once(("lose", letter, to), world._replace(flight=rest), LOSSES)
            if world.budget[LATES]:
                late = self._in_order([*rest, (LATE, to, letter)])
                yield _at_once(("late", letter, to), world._replace(flight=late), LATES)

    def _engine_harmed(self, world: World, i: int) -> Iterator[Move]:
        engines, number, age = self.engines, world.nodes[i], world.ages[i]
        node = engines.nodes[number]
        if node.machine == DEAD:
            together = any(
                self.engines.facts[n].runs and not age for n, age in zip(world.nodes, world.ages, strict=True)
            )
            if world.budget[STARTS] and not together:  # two starts at one instant add many orders and nothing else
                after, notes = self.started(world, i)
                yield _at_once(("start", i), after, STARTS, ((i, notes),))
            return
        if world.budget[KILLS]:
            after = _put(world, i, *engines.kill(number, age))
            yield _at_once(("kill -9", i), self._ended(after, i), KILLS)
        if node.frozen_at >= 0:
            yield from self._thaws(world, i)
            return
        if world.budget[STOPS]:
            stopped = engines.stop(number, age)
            after = self._ended(self._reacted(world, i, stopped), i)
            yield _at_once(("stop", i), after, STOPS, ((i, stopped.notes),))
        if world.budget[FREEZES]:
            yield _at_once(("freeze", i), _put(world, i, engines.freeze(number, age), age), FREEZES)
        if world.budget[ISOLATIONS] and not world.cuts:
            cuts = sum(1 << _pair(i, other) for other in range(3) if other != i)
            yield _at_once(("isolate", i), world._replace(cuts=cuts), ISOLATIONS)

    def started(self, world: World, i: int) -> tuple[World, tuple[str, ...]]:
        """A new process on an engine that was off, and what it did."""
        engines = self.engines
        outcome = engines.start(world.nodes[i])
        after = self._reacted(world, i, outcome)
        up = [
            (DELAY, to, engines.session(sender, True))
            for other in range(3)
            if other != i and engines.nodes[world.nodes[other]].machine != DEAD and self.connected(world, i, other)
            for sender, to in ((i, other), (other, i))
        ]
        return after._replace(flight=self._in_order([*after.flight, *up])), outcome.notes

    def _thaws(self, world: World, i: int) -> Iterator[Move]:
        for outcome in self.engines.thaw(world.nodes[i], world.ages[i]):
            yield Move(("thaw", i), self._reacted(world, i, outcome), 0, True, ((i, outcome.notes),))

    def _orders(self, world: World, i: int) -> Iterator[Move]:
        """The next plan, and what HAProxy and the link do."""
        engines, node = self.engines, self.engines.nodes[world.nodes[i]]
        if node.told + 1 < len(engines.plans) and self._may_be_told(world, node.told + 1):
            news = engines.told(i, node.told + 1)
            yield self._news(("tell", i), world, i, replace(node, told=node.told + 1), news)
        if node.haproxy and world.budget[HAPROXIES]:
            yield self._news(("haproxy down", i), world, i, replace(node, haproxy=False), Haproxy(False), HAPROXIES)
        elif not node.haproxy:
            yield self._news(("haproxy up", i), world, i, replace(node, haproxy=True), Haproxy(True))
        if node.link and world.budget[LINKS]:
            yield self._news(("link down", i), world, i, replace(node, link=False), Link(False), LINKS)
        elif not node.link:
            yield self._news(("link up", i), world._replace(met=0), i, replace(node, link=True), Link(True))

    def _may_be_told(self, world: World, plan: int) -> bool:
        """A list is armed only when each of its engines has acknowledged it: the plan before this one."""
        before = {v.id: v.armed for v in self.engines.plans[plan - 1].vips}
        arms = [v for v in self.engines.plans[plan].vips if v.armed and not before.get(v.id, True)]
        asked = {engine for v in arms for engine in (v.owner, *v.succession)}
        nodes = (self.engines.nodes[number] for number in world.nodes)
        return all(node.told >= plan - 1 for node in nodes if self.engines.names[node.engine] in asked)

    def _news(
        self, what: tuple[Any, ...], world: World, i: int, node: Node, event: Told | Haproxy | Link, cost: int = -1
    ) -> Move:
        outcome = self.engines.changed(self.engines.node(node), world.ages[i], event)
        return _at_once(what, self._reacted(world, i, outcome), cost, ((i, outcome.notes),))

    def _network_harmed(self, world: World, a: int, b: int) -> Iterator[Move]:
        bit = 1 << _pair(a, b)
        if world.cuts and self.budget.isolations:
            yield _at_once(("heal",), world._replace(cuts=0, met=0))
        elif world.cuts & bit:
            yield _at_once(("heal", a, b), world._replace(cuts=world.cuts & ~bit, met=0))
        elif world.budget[CUTS]:
            yield _at_once(("cut", a, b), world._replace(cuts=world.cuts | bit), CUTS)
        if world.budget[RESETS] and self.connected(world, a, b):
            ends = [(0, b, self.engines.session(a, False)), (0, a, self.engines.session(b, False))]
            yield _at_once(("reset", a, b), world._replace(flight=self._in_order([*world.flight, *ends])), RESETS)

    # --- small hands ---

    def _in_order(self, flight: list[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
        """By time, receiver and sender; what one sends another at one time stays in the order it was sent."""
        letters = self.engines.letters
        return tuple(sorted(flight, key=lambda f: (f[0], f[1], letters[f[2]].sender)))

    def connected(self, world: World, a: int, b: int) -> bool:
        if a == b:
            return True
        facts = self.engines.facts
        return not world.cuts >> _pair(a, b) & 1 and facts[world.nodes[a]].link and facts[world.nodes[b]].link

    def frozen_for(self, world: World, i: int) -> int:
        frozen_at = self.engines.nodes[world.nodes[i]].frozen_at
        return world.ages[i] - frozen_at if frozen_at >= 0 else -1

    def _reacted(self, world: World, i: int, outcome: Outcome) -> World:
        after = _put(world, i, outcome.node, outcome.age)
        sent = [(DELAY, to, letter) for to, letter in outcome.sent if self.connected(after, i, to)]
        self._check_claims(after)
        return after._replace(flight=self._in_order([*world.flight, *sent]))

    def _ended(self, world: World, i: int) -> World:
        return world._replace(flight=self._in_order([*world.flight, *self._sessions_end(world, i)]))

    def _sessions_end(self, world: World, i: int) -> list[tuple[int, int, int]]:
        ended = self.engines.session(i, False)
        return [(DELAY, other, ended) for other in range(3) if other != i and self.connected(world, i, other)]


def _pair(a: int, b: int) -> int:
    return a + b - 1  # the place in `PAIRS`, whichever comes first


def _put(world: World, i: int, node: int, age: int) -> World:
    nodes, ages = list(world.nodes), list(world.ages)
    nodes[i], ages[i] = node, age
    return world._replace(nodes=tuple(nodes), ages=tuple(ages))


def _less(budget: tuple[int, ...], fault: int) -> tuple[int, ...]:
    return (*budget[:fault], budget[fault] - 1, *budget[fault + 1 :])


def _at_once(
    what: tuple[Any, ...], world: World, cost: int = -1, notes: tuple[tuple[int, tuple[str, ...]], ...] = ()
) -> Move:
    if cost >= 0:
        world = world._replace(budget=_less(world.budget, cost))
    return Move(what, world, 0, False, notes)
