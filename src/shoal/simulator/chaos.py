"""Seeded faults, edits and operations against a `SystemWorld`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from shoal.errors import ShoalError

from .system_world import SystemWorld

PAUSES_S = (0.05, 0.3, 1.0, 3.0, 10.0)


class Chaos:
    """At least half of the engines stay well, so that what must be served can be."""

    def __init__(self, world: SystemWorld) -> None:
        self._world = world
        self._random = world.random
        self._killed: set[str] = set()
        self._frozen: set[str] = set()
        self._cut: set[str] = set()
        self._actions: tuple[Callable[[], Awaitable[None]], ...] = (
            self._kill_or_mend,
            self._kill_or_mend,
            self._freeze_or_thaw,
            self._cut_or_heal,
            self._part,
            self._controller,
            self._cloud,
            self._edit,
            self._operate,
            self._operate,
        )

    async def once(self) -> None:
        """One action and a pause."""
        await self._random.choice(self._actions)()
        await self._world.pass_time(self._random.choice(PAUSES_S))

    async def mend(self) -> None:
        """Every fault is over; what was killed stays dead (the controller starts it again after a while)."""
        world = self._world
        if world.process is None:
            await world.start_controller()
        for engine in sorted(self._frozen & set(world.agents)):
            world.thaw(engine)
        for engine in sorted(self._cut & set(world.agents)):
            world.heal(engine)
        for engine in sorted(world.unreachable):
            world.join(engine)
        world.cloud.failures = 0

    # --- actions ---

    def _pick(self) -> str | None:
        engines = sorted(self._world.agents)
        return self._random.choice(engines) if engines else None

    def _may_fail(self) -> bool:
        agents = set(self._world.agents)
        ill = (self._killed | self._frozen | self._cut) & agents
        return len(ill) + 1 <= len(agents) // 2

    async def _kill_or_mend(self) -> None:
        engine = self._pick()
        if engine is None:
            return
        machine = self._world.segment.engines[engine]
        if not machine.running:
            await self._world.cloud.restart(engine)
            self._killed.discard(engine)
        elif self._may_fail():
            self._frozen.discard(engine)
            self._killed.add(engine)
            self._world.kill(engine)

    async def _freeze_or_thaw(self) -> None:
        engine = self._pick()
        if engine is None or not self._world.segment.engines[engine].running:
            return
        if engine in self._frozen:
            self._frozen.discard(engine)
            self._world.thaw(engine)
        elif self._may_fail():
            self._frozen.add(engine)
            self._world.freeze(engine)

    async def _cut_or_heal(self) -> None:
        engine = self._pick()
        if engine is None:
            return
        if engine in self._cut:
            self._cut.discard(engine)
            self._world.heal(engine)
        elif self._may_fail():
            self._cut.add(engine)
            self._world.cut(engine)

    async def _part(self) -> None:
        engine = self._pick()
        if engine is None or engine in self._cut:
            return
        if engine in self._world.unreachable:
            self._world.join(engine)
        else:
            self._world.part(engine)

    async def _controller(self) -> None:
        if self._world.process is None:
            await self._world.start_controller()
        else:
            await self._world.kill_controller()

    async def _cloud(self) -> None:
        self._world.cloud.failures = self._random.randint(0, 2)
        self._world.cloud.create_s = self._random.choice(((0.05, 0.3), (1.0, 8.0)))

    async def _edit(self) -> None:
        if self._world.process is None:
            return
        groups = [g for g in self._world.running.view.all("serviceenginegroup") if g["name"] != "Default-Group"]
        group = self._random.choice(groups)
        edit = self._random.choice(
            (
                {"ha_mode": self._random.choice(("HA_MODE_SHARED", "HA_MODE_SHARED_PAIR"))},
                {"algo": self._random.choice(("PLACEMENT_ALGO_PACKED", "PLACEMENT_ALGO_DISTRIBUTED"))},
                {"min_scaleout_per_vs": self._random.randint(1, 2)},
                {"buffer_se": self._random.randint(0, 2)},
            )
        )
        self._world.note(f"edit of {group['name']}: {edit}")
        await self._world.patch("serviceenginegroup", group["uuid"], **edit)

    async def _operate(self) -> None:
        if self._world.process is None:
            return
        services = self._world.running.view.all("virtualservice")
        service = self._random.choice(services)
        operation = self._random.choice(("scaleout", "scalein", "migrate", "retryplacement"))
        try:
            answer = await self._world.operate(service["uuid"], operation)
        except ShoalError as refusal:
            answer = {"status": f"refused: {refusal}"}
        self._world.note(f"{operation} of {service['name']}: {answer['status']}")
