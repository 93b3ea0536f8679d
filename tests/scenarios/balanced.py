"""A small world whose virtual services load their engines, in equal parts for each."""

from __future__ import annotations

from shoal.placement import rebalance
from shoal.placement.load import EngineLoad, Load, Marks, scaled, total
from shoal.placement.model import EngineState, PlacementState
from shoal.placement.rebalance import Action, Look
from tests.scenarios.world import World


class Balanced(World):
    """``demand``: VIP -> what it makes in all. ``silent``: engines that send no figures."""

    def __init__(self, *marks: Marks, **group: object) -> None:
        super().__init__(**group)
        self.marks = marks[0] if marks else Marks()
        self.demand: dict[str, Load] = {}
        self.silent: set[str] = set()

    def service(self, name: str, slots: int = 1, **demand: float) -> None:
        self.add(name, slots=slots)
        self.loads_with(name, **demand)

    def loads_with(self, name: str, **demand: float) -> None:
        """Packets follow the CPU unless they are named."""
        self.demand[name] = Load(**{"pps": demand.get("cpu", 0.0) * 100, **demand})

    def put_on(self, vip: str, *engines: str) -> None:
        """Where an operator's moves have brought it, settled; the first engine is the primary."""
        for engine in engines:
            if engine not in self.on(vip):
                more = len(self.on(vip)) < len(engines)
                old = next((e for e in self.on(vip) if e not in engines), "")
                where = {"to_engine": engine} if more else {"from_engine": old, "to_engine": engine}
                assert self.request("scaleout" if more else "migrate", vip, **where).ok
        assert set(self.on(vip)) == set(engines)

    def loads(self) -> dict[str, EngineLoad]:
        found: dict[str, EngineLoad] = {}
        for engine in self.engines.values():
            if engine.state is not EngineState.UP or engine.id in self.silent:
                continue
            parts: dict[str, Load] = {}
            for vip in self.vips.values():
                ready = [p.engine for p in vip.placements if p.state is PlacementState.READY]
                if engine.id in ready:
                    parts[vip.id] = scaled(self.demand.get(vip.id, Load()), 1 / len(ready))
            found[engine.id] = EngineLoad(whole=total(parts.values()), vips=parts)
        return found

    def look(self) -> Look:
        return rebalance.look(self.snapshot(), self.marks, self.loads(), self.now)

    def act(self, action: Action) -> None:
        """As the controller does: an ordinary request, until it is done."""
        done = self.request(
            action.kind.value,
            action.vip,
            from_engine=action.from_engine,
            to_engine=action.to_engine,
            to_new=action.to_new,
        )
        assert done.ok, done.message

    def rebalance(self, intervals_max: int = 40) -> list[Action]:
        """Interval after interval under steady load, until nothing is done any more."""
        done: list[Action] = []
        while (found := self.look()).action is not None:
            done.append(found.action)
            assert len(done) <= intervals_max, done
            self.act(found.action)
        return done
