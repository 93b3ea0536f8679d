"""Every interleaving of a scenario, by search: the real `ownership.step`, all orders, all ways to spend a fault budget.

Breadth first over whole worlds (`explored_world`). There is no horizon: times are relative and what is long past is
forgotten (`canonical`), so the space closes on itself, and a run without faults is a cycle. Then liveness: in the graph
of quiet moves every path, from every world, must reach calm within `CALM_INTERVALS_MAX` and stay there.

``python -m shoal.simulator.explore`` prints the counts of all scenarios; see ``--help``.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import sys
from collections.abc import Iterator

import msgspec

from shoal import ownership
from shoal.simulator.calm import Calm
from shoal.simulator.explored_engine import Engines, Step, described
from shoal.simulator.explored_scenarios import NAMES, PHASES, SCENARIOS, VIPS, Scenario
from shoal.simulator.explored_world import FIELDS, Move, Moves, When, World
from shoal.simulator.kernel import Broken

STATES_MAX = 3_000_000
"""About 1.5 kB each."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What was explored. ``depth``: the most moves from a start to a state by the shortest way.

    ``overlap_ms_max`` is the longest that two connected engines both answered, other than just after a heal;
    ``calm_ms_max`` the longest that it took, after a fault, until all was well for good.
    """

    scenario: str
    budget: dict[str, int]
    phases: tuple[str, ...]
    states: int
    transitions: int
    machine_states: int
    steps: int
    depth: int
    overlap_ms_max: float
    calm_ms_max: float
    truncated: bool
    violation: str = ""


def explore(
    scenario: Scenario,
    *,
    deep: bool = False,
    step: Step = ownership.step,
    lease_ms: int = 0,
    states_max: int = STATES_MAX,
) -> Result:
    """Explore it all, or to the first violation (by the shortest path). ``step`` and ``lease_ms`` (what kernels really
    grant; 0: as planned) are there to show that a faulty machine is found out."""
    collects = gc.isenabled()
    gc.disable()  # millions of tuples, no cycles among them: walking them would take a third of the time
    try:
        return _Search(scenario, deep, step, lease_ms, states_max).run()
    finally:
        if collects:
            gc.enable()


class _Search:
    def __init__(self, scenario: Scenario, deep: bool, step: Step, lease_ms: int, states_max: int) -> None:
        self.scenario, self.states_max = scenario, states_max
        self.budget = scenario.deep if deep else scenario.budget
        self.engines = Engines(NAMES, scenario.plans, step, lease_ms or scenario.plans[0].timing.lease_ms)
        self.moves = Moves(
            self.engines, self.budget, VIPS, When.TICKS if deep and scenario.when is When.BEATS else scenario.when
        )
        self.worlds: list[World] = []
        self.numbers: dict[World, int] = {}
        self.parents: list[int] = []
        self.depths: list[int] = []
        self.quiet: list[list[tuple[int, int]]] = []
        self.transitions = 0

    def run(self) -> Result:
        violation, calm_max = "", 0
        try:
            for phase in self.scenario.phases:
                self._number(self._start(phase), -1)
            self._breadth_first()
            if not self.truncated():
                calm_max = Calm(self.moves, self.worlds, self.quiet, self._transcript).longest_unrest()
        except Broken as broken:
            violation = str(broken)
        return Result(
            scenario=self.scenario.name,
            budget={f: getattr(self.budget, f) for f in FIELDS if getattr(self.budget, f)},
            phases=self.scenario.phases,
            states=len(self.worlds),
            transitions=self.transitions,
            machine_states=len(self.engines.states),
            steps=self.engines.steps,
            depth=max(self.depths, default=0),
            overlap_ms_max=self.moves.overlap_seen / 1000,
            calm_ms_max=calm_max / 1000,
            truncated=self.truncated(),
            violation=violation,
        )

    def truncated(self) -> bool:
        return len(self.worlds) > self.states_max

    def _start(self, phase: str) -> World:
        """Started one after the other and left alone for a second; or all off."""
        world = self.moves.first()
        if self.scenario.cold:
            return world
        offsets, now = PHASES[phase], 0
        for i in sorted(range(len(NAMES)), key=lambda i: offsets[i]):
            world = self._left_alone(world, offsets[i] - now)
            now = offsets[i]
            world = self.moves.started(world, i)[0]
        return self._left_alone(world, 1_000_000)

    def _left_alone(self, world: World, time: int) -> World:
        while time > 0:
            move = next(self.moves.go(world, time))
            world, time = move.world, time - move.takes
        return world

    def _breadth_first(self) -> None:
        at = 0
        while at < len(self.worlds) and not self.truncated():
            quiet = []
            try:
                for move in self.moves.moves(self.worlds[at]):
                    self.transitions += 1
                    number = self._number(move.world, at)
                    if move.quiet:
                        quiet.append((number, move.takes))
            except Broken as broken:
                raise Broken(f"{broken}\n{self._transcript(at)}") from None
            self.quiet.append(quiet)
            at += 1

    def _number(self, world: World, parent: int) -> int:
        number = self.numbers.setdefault(world, len(self.worlds))
        if number == len(self.worlds):
            self.worlds.append(world)
            self.parents.append(parent)
            self.depths.append(self.depths[parent] + 1 if parent >= 0 else 0)
        return number

    # --- telling ---

    def _transcript(self, at: int) -> str:
        path = [at]
        while self.parents[path[-1]] >= 0:
            path.append(self.parents[path[-1]])
        path.reverse()
        lines: list[str] = []
        now = 0
        for here, there in itertools.pairwise(path):
            move = next(m for m in self.moves.moves(self.worlds[here]) if m.world == self.worlds[there])
            lines += self._told(move, now)
            now += move.takes
        return "\n".join([*lines, f"{now / 1000:8.1f} here"])

    def _told(self, move: Move, now: int) -> Iterator[str]:
        kind, *about = move.what
        if kind in ("lose", "late"):
            letter = self.engines.letters[about[0]]
            words = f"{described(letter.event)} from {NAMES[letter.sender]} to {NAMES[about[1]]}"
            yield f"{now / 1000:8.1f} *** {kind} {words}"
        elif kind != "go":
            yield f"{now / 1000:8.1f} *** {kind} {' '.join(NAMES[i] for i in about)}"
        for i, notes in move.notes:
            for note in notes:
                if not note.endswith(": -"):
                    yield f"{now / 1000:8.1f} {NAMES[i]} {note}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m shoal.simulator.explore", description="Explore VIP ownership.")
    parser.add_argument("scenario", nargs="*", help="names; all without")
    parser.add_argument("--deep", action="store_true", help="larger budgets: hours, and gigabytes")
    parser.add_argument("--json", action="store_true", help="one object with all counts")
    parser.add_argument("--most", type=int, default=STATES_MAX, help="states; a run that meets it is truncated")
    asked = parser.parse_args()
    chosen = [s for s in SCENARIOS if not asked.scenario or s.name in asked.scenario]
    results = []
    for scenario in chosen:
        result = explore(scenario, deep=asked.deep, states_max=asked.most)
        results.append(result)
        if not asked.json:
            print(line(result), flush=True)
            print(result.violation, end="\n" if result.violation else "")
    if asked.json:
        totals = {n: sum(getattr(r, n) for r in results) for n in ("states", "transitions", "steps")}
        whole = {"engines": len(NAMES), "vips": len(VIPS), "totals": totals, "scenarios": results}
        print(msgspec.json.format(msgspec.json.encode(whole), indent=2).decode())
    sys.exit(any(r.violation or r.truncated for r in results))


def line(result: Result) -> str:
    """A result in a line."""
    return (
        f"{result.scenario}: {result.states} states, {result.transitions} transitions, depth {result.depth}, "
        f"{result.steps} steps to {result.machine_states} machine states, overlap {result.overlap_ms_max:.0f} ms, "
        f"calm after {result.calm_ms_max:.0f} ms{', TRUNCATED' if result.truncated else ''}"
    )


if __name__ == "__main__":
    main()
