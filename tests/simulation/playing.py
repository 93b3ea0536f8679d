"""A story played in a world of its own, in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from shoal.simulator.system_world import SystemWorld
from shoal.simulator.virtual_time import VirtualLoop, run
from shoal.wire.desired import Settings, decode_part

_W = TypeVar("_W", bound=SystemWorld)


def play(story: Callable[[SystemWorld], Awaitable[None]], seed: int = 1) -> SystemWorld:
    """The world as the story leaves it; raises what the story or the world does."""
    return play_in(SystemWorld, story, seed)


def play_in(kind: Callable[[VirtualLoop, int], _W], story: Callable[[_W], Awaitable[None]], seed: int = 1) -> _W:
    """The same in a world of another kind."""

    async def main(loop: VirtualLoop) -> _W:
        world = kind(loop, seed)
        await world.start()
        await story(world)
        return world

    return run(main)


def settings_of(world: SystemWorld, engine: str) -> Settings:
    """What the controller would tell the engine now."""
    settings = decode_part(world.controller.compiler.parts(engine)["settings"].data)
    assert isinstance(settings, Settings)
    return settings
