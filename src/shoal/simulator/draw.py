"""Random histories: each event is drawn from what there is at that moment. Everything comes from one seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from .deeds import ANY
from .history import MODES, OPERATORS, Event, Shape
from .process import OUTAGES
from .system_world import SystemWorld

PAUSES_S = (0.0, 0.0, 0.01, 0.05, 0.1, 0.3, 0.6, 1.5)
"""Drawn alike: half of them fall into the midst of what the one before has set off."""
CALM_EACH = 80
"""After so many events, on the average, every fault ends and all must become as intended."""
LULL_S = 12.0
SERVICES_MAX = 8
CREATE_S = (0.0, 0.0, 8.0, 40.0)
STALLS_S = (0.5, 2.0, 5.0, 20.0)
RESTARTS_S = (0.05, 0.3, 1.0)
LAGS_S = (0.0, 0.0, 1.0, 5.0, 15.0)
JUMPS_S = (-7200.0, -60.0, -1.0, 1.0, 60.0, 7200.0)
ENABLE_STATES = (
    *("SE_STATE_ENABLED", "SE_STATE_ENABLED"),
    *("SE_STATE_DISABLED", "SE_STATE_DISABLED_FOR_PLACEMENT", "SE_STATE_DISABLED_FORCE"),
)
WAYS = ("both", "out", "in")
DOORS_MAX = 60
GROUP_OPERATIONS = ("redistribute", "upgrade", "upgrade")
ADDRESSES = tuple(f"10.9.63.{n}" for n in range(1, 6))
"""So few that one which was given up is soon given away again."""

Drawer = Callable[[], Event | None]


class Draw:
    """At least half of the engines stay well most of the time, so that there is something to break."""

    def __init__(self, world: SystemWorld, shape: Shape) -> None:
        self._world, self._shape = world, shape
        self._random = random.Random(f"{world.seed}/history")
        self._named = shape.services * len(shape.modes)
        self._hurry = self._random.choice((0.0, 0.2, 0.7))
        """How many of the operators' calls are made beside others."""
        drawers: dict[Drawer, int] = {
            self._kill: 4,
            self._return: 4,
            self._freeze: 2,
            self._thaw: 3,
            self._haproxy: 2,
            self._unplug: 2,
            self._plug: 3,
            self._gateway: 2,
            self._agent: 2,
            self._wipe: 1,
            self._vanish: 1,
            self._lag: 2,
            self._part: 2,
            self._join: 3,
            self._reset: 2,
            self._split: 3,
            self._meet: 4,
            self._host: 1,
            self._rack: 1,
            self._network: 1,
            self._cloud: 2,
            self._cloudless: 1,
            self._crash: 4,
            self._start: 8,
            self._stall: 1,
            self._store: 1,
            self._outage: 1,
            self._outage_end: 4,
            self._rival: 2,
            self._clock: 1,
            self._create: 3,
            self._delete: 3,
            self._address: 1,
            self._enable: 2,
            self._move: 1,
            self._group: 4,
            self._engine: 2,
            self._operate: 8,
            self._lull: 1,
        }
        # Each run has a mixture of its own: what is rare in the average one is frequent in some (Groce et al., Swarm
        # Testing, 2012).
        self._drawers = list(drawers)
        self._weights = [weight * self._random.choice((0.25, 1.0, 1.0, 3.0)) for weight in drawers.values()]

    def next(self) -> Event:
        if self._random.random() < 1 / CALM_EACH:
            return Event(do="calm", count=self._random.randint(0, 1), wait_s=1.0)
        while True:
            (drawer,) = self._random.choices(self._drawers, self._weights)
            event = drawer()
            if event is not None:
                return self._beside(event) if event.do in OPERATORS else event

    def _beside(self, event: Event) -> Event:
        return replace(event, beside=True) if self._random.random() < self._hurry else event

    # --- choices ---

    def _event(self, do: str, engine: str = "", **fields: Any) -> Event:
        return Event(do=do, engine=engine, wait_s=self._random.choice(PAUSES_S), **fields)

    def _which(self, fits: Callable[[str], bool]) -> str | None:
        """An engine by rank; None if none fits."""
        engines = self._world.segment.engines
        found = sorted(engines[id].rank for id in self._world.agents if fits(id))
        return str(self._random.choice(found)) if found else None

    def _well(self) -> str | None:
        """One that may fail."""
        if self._random.random() < 0.5 and (services := self._services()):
            return f"{self._random.choice(services)}:{self._random.choice((0, 0, 0, 1, 2))}"
        return self._which(self._is_well)

    def _is_well(self, id: str) -> bool:
        machine = self._world.segment.engines[id]
        return machine.running and not machine.frozen and machine.link and machine.haproxy

    def _may_fail(self) -> bool:
        agents = list(self._world.agents)
        return 2 * sum(not self._is_well(id) for id in agents) < len(agents) or self._random.random() < 0.05

    def _services(self) -> list[str]:
        process = self._world.process
        if process is None:
            return []
        return [str(document["name"]) for document in process.view.all("virtualservice")]

    def _alive(self) -> bool:
        return self._world.process is not None

    # --- engines ---

    def _fail(self, do: str, **fields: Any) -> Event | None:
        engine = self._well() if self._may_fail() else None
        return self._event(do, engine, **fields) if engine else None

    def _end(self, do: str, fits: Callable[[str], bool], **fields: Any) -> Event | None:
        engine = self._which(fits)
        return self._event(do, engine, **fields) if engine else None

    def _kill(self) -> Event | None:
        return self._fail("kill")

    def _return(self) -> Event | None:
        return self._end("return", lambda id: not self._world.segment.engines[id].running)

    def _freeze(self) -> Event | None:
        return self._fail("freeze")

    def _thaw(self) -> Event | None:
        return self._end("thaw", lambda id: self._world.segment.engines[id].frozen)

    def _haproxy(self) -> Event | None:
        down = self._end("haproxy", lambda id: not self._world.segment.engines[id].haproxy, count=1)
        return down or self._fail("haproxy")

    def _unplug(self) -> Event | None:
        return self._fail("unplug")

    def _plug(self) -> Event | None:
        return self._end("plug", lambda id: not self._world.segment.engines[id].link)

    def _gateway(self) -> Event | None:
        agents = self._world.agents
        lost = self._end("gateway", lambda id: not agents[id].gateway, count=1) if self._random.random() < 0.5 else None
        return lost or self._fail("gateway")

    def _agent(self) -> Event | None:
        return self._fail("agent", amount=self._random.choice(RESTARTS_S))

    def _wipe(self) -> Event | None:
        return self._end("wipe", lambda id: not self._world.segment.engines[id].running)

    def _vanish(self) -> Event | None:
        return self._fail("vanish")

    def _lag(self) -> Event | None:
        return self._end("lag", self._is_well, amount=self._random.choice(LAGS_S))

    def _part(self) -> Event | None:
        engine = self._which(lambda id: id not in self._world.unreachable)
        return self._event("part", engine, way=self._random.choice(WAYS)) if engine else None

    def _join(self) -> Event | None:
        return self._end("join", lambda id: id in self._world.unreachable)

    def _reset(self) -> Event | None:
        return self._end("reset", self._is_well)

    def _split(self) -> Event | None:
        one, other = self._well(), self._well()
        if one is None or other is None or one == other:
            return None
        return self._event("split", one, other=other, way=self._random.choice(WAYS))

    def _meet(self) -> Event | None:
        """All that is apart, by the first of them."""
        segment = self._world.segment
        pairs = sorted({*(tuple(sorted(pair)) for pair in segment.cuts), *segment.mutes})
        pairs = [pair for pair in pairs if all(name in self._world.agents for name in pair)]
        if not pairs:
            return None
        one, other = (segment.engines[name].rank for name in self._random.choice(pairs))
        return self._event("meet", str(one), other=str(other))

    def _host(self) -> Event | None:
        if self._random.random() < 0.5:
            return self._event("host_return", target=self._random.choice(self._shape.host_names))
        return self._event("host", target=self._random.choice(self._shape.host_names)) if self._may_fail() else None

    def _rack(self) -> Event | None:
        if self._random.random() < 0.6:
            return self._event("rack_return", target=self._random.choice(self._shape.rack_names))
        return self._event("rack", target=self._random.choice(self._shape.rack_names)) if self._may_fail() else None

    # --- what they stand on ---

    def _network(self) -> Event | None:
        return self._event("network", amount=self._random.choice((0.0, 0.1, 0.3)), count=self._random.randint(0, 1))

    def _cloud(self) -> Event | None:
        return self._event("cloud", count=self._random.choice((0, 1, 3)), amount=self._random.choice(CREATE_S))

    def _cloudless(self) -> Event | None:
        lost = self._world.outside.cloudless
        if not lost and self._random.random() < 0.5:
            return None
        return self._event("cloudless", count=int(not lost))

    def _crash(self) -> Event | None:
        count = self._random.choice((0, self._random.randint(1, 6), self._random.randint(1, DOORS_MAX)))
        return self._event("crash", count=count) if self._alive() else None

    def _start(self) -> Event | None:
        if self._alive():
            return None
        return self._event("start", count=self._random.choice((0, 0, 0, self._random.randint(1, DOORS_MAX))))

    def _stall(self) -> Event | None:
        may = self._alive() and not self._world.stopped
        return self._event("stall", amount=self._random.choice(STALLS_S)) if may else None

    def _store(self) -> Event | None:
        return self._event("store", amount=self._random.choice((0.0, 0.0, 0.02, 0.5)))

    def _outage(self) -> Event | None:
        if self._world.outside.outage:
            return None
        return self._event("outage", target=self._random.choice(OUTAGES), count=self._random.randint(0, 200))

    def _outage_end(self) -> Event | None:
        return self._event("outage") if self._world.outside.outage else None

    def _rival(self) -> Event | None:
        return self._event(
            "rival", target=self._random.choice(("placement", "placement", "engine")), count=self._random.randint(0, 30)
        )

    def _clock(self) -> Event | None:
        return self._event("clock", amount=self._random.choice(JUMPS_S))

    # --- operators ---

    def _group_name(self) -> str:
        return self._random.choice(self._shape.groups)

    def _create(self) -> Event | None:
        services = self._services()
        if not self._alive() or len(services) >= SERVICES_MAX:
            return None
        self._named += 1
        fields, count = {}, 0
        if services and self._random.random() < 0.3:
            fields, count = {"vip": self._random.choice(services)}, self._named
        elif self._random.random() < 0.8:
            fields = {"address": self._random.choice((*ADDRESSES, ANY))}
        return self._event("create", service=f"s-{self._named}", target=self._group_name(), fields=fields, count=count)

    def _one(self, do: str, **fields: Any) -> Event | None:
        services = self._services()
        return self._event(do, service=self._random.choice(services), **fields) if services else None

    def _delete(self) -> Event | None:
        return self._one("delete") if len(self._services()) > 2 else None

    def _address(self) -> Event | None:
        return self._one("address", target=self._random.choice((*ADDRESSES, ANY)))

    def _enable(self) -> Event | None:
        return self._one("enable", count=self._random.choice((0, 1, 1)))

    def _move(self) -> Event | None:
        return self._one("move", target=self._group_name())

    def _group(self) -> Event | None:
        if not self._alive():
            return None
        chance = self._random
        edit = chance.choice(
            (
                {"ha_mode": chance.choice(MODES)},
                {"algo": chance.choice(("PLACEMENT_ALGO_PACKED", "PLACEMENT_ALGO_DISTRIBUTED"))},
                {"min_scaleout_per_vs": chance.choice((1, 1, 2)), "max_scaleout_per_vs": chance.randint(2, 4)},
                {"buffer_se": chance.randint(0, 2)},
                {"max_se": chance.randint(3, self._shape.max_se)},
                {"max_vs_per_se": chance.randint(2, self._shape.max_vs_per_se)},
                {"vs_host_redundancy": chance.choice((True, False))},
                {"aggressive_failure_detection": chance.choice((True, False))},
                {"dp_hb_frequency": chance.choice((20, 100, 500)), "dp_hb_timeout_count": chance.choice((3, 10))},
                {"vs_scaleout_timeout": chance.choice((2, 600)), "vs_switchover_timeout": chance.choice((2, 300))},
                {"min_se": chance.randint(0, 3)},
                {"per_app": chance.choice((True, False, False))},
                {
                    "distribute_load_active_standby": chance.choice((True, False)),
                    "auto_redistribute_active_standby_load": chance.choice((True, False)),
                },
                {"se_deprovision_delay": chance.choice((0, 1, 120))},
                {
                    "vs_scalein_timeout": (drain_s := chance.choice((5, 30))),
                    "vs_scalein_timeout_for_upgrade": 35 - drain_s,
                },
            )
        )
        return self._event("group", target=self._group_name(), fields=edit)

    def _engine(self) -> Event | None:
        engine = self._which(lambda id: True) if self._alive() else None
        return self._event("engine", engine, target=self._random.choice(ENABLE_STATES)) if engine else None

    def _operate(self) -> Event | None:
        chance = self._random
        if chance.random() < 0.12:
            engine = self._which(lambda id: True)
            target = chance.choice(("reboot", "forcedelete", "switchover"))
            return self._event("operate", engine, target=target) if engine else None
        if chance.random() < 0.04:
            return self._event("operate", target=chance.choice(GROUP_OPERATIONS), other=self._group_name())
        operation = chance.choice(("scaleout", "scalein", "migrate", "migrate", "switchover", "retryplacement"))
        to = self._which(self._is_well) if operation in ("scaleout", "migrate") and chance.random() < 0.4 else None
        return self._one("operate", target=operation, engine=to or "")

    def _lull(self) -> Event | None:
        return Event(do="pass", wait_s=LULL_S)
