"""What the controller answers about how things stand: always of the present, in virtual time on the shipping code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from shoal.simulator.system_world import SystemWorld
from shoal.simulator.virtual_time import VirtualLoop, run
from shoal.wire import messages


def play(story: Callable[[SystemWorld], Awaitable[None]], seed: int = 1) -> None:
    async def main(loop: VirtualLoop) -> None:
        world = SystemWorld(loop, seed)
        await world.start()
        await story(world)

    run(main)


async def group(world: SystemWorld, **more: Any) -> str:
    body = {"name": "g", "buffer_se": 0, "vs_scalein_timeout": 30, **more}
    return str((await world.create("serviceenginegroup", body))["uuid"])


def read(world: SystemWorld, service: dict[str, Any], what: str) -> Any:
    return world.controller.read("virtualservice", service["uuid"], what)


def states(world: SystemWorld, service: dict[str, Any]) -> str:
    (status,) = read(world, service, "scaleoutstatus")
    return str(status["state"])


def test_what_is_served_otherwise_than_asked_for_is_shown() -> None:
    async def story(world: SystemWorld) -> None:
        await group(world, max_se=2, min_scaleout_per_vs=2)
        service = await world.service("s", "g")
        await world.pass_time(5.0)
        note = messages.PartProblem(f"service/{service['uuid']}", "The pool uses least connections.")
        for engine, agent in world.agents.items():
            root = world.controller.fleet.live(engine).applied
            agent._say(messages.Applied(root=root, how="none", took_ms=1.0, notes=(note,)))
        await world.pass_time(0.5)
        for what in ("runtime", "placement"):
            assert read(world, service, what)["notes"] == [note.why]
        runtime = world.controller.read("serviceengine", next(iter(world.agents)), "runtime")
        assert runtime["notes"] == {note.part: note.why}
        for agent in world.agents.values():
            agent._say(messages.Applied(root="", how="none", took_ms=1.0))
        await world.pass_time(0.5)
        assert read(world, service, "runtime")["notes"] == []

    play(story)
