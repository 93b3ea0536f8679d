"""Corners of what edits of the bounds of scale do (reference: elastic-ha 3.1); the plain rows are in test_elastic_ha.py."""

from __future__ import annotations

import msgspec
import pytest

from shoal.placement.model import Vip
from tests.scenarios.world import World


def scaled(count: int, **group: object) -> World:
    """VS on ``count`` engines, by hand beyond the minimum; and OTHER, which nobody scaled."""
    world = World(**{"max_se": 12, "buffer_se": 0, "max_scaleout_per_vs": 4, **group})
    world.add("VS", "OTHER")
    while len(world.on("VS")) < count:
        assert world.request("scaleout", "VS").ok
    return world


def stands(world: World, name: str = "VS") -> tuple[int, int]:
    """(engines, user scale factor)"""
    vip = world.vips[name]
    assert len(vip.placements) == vip.requested
    return vip.requested, vip.user_factor


def enable(world: World, on: bool) -> None:
    world.vips["VS"] = msgspec.structs.replace(world.vips["VS"], enabled=on)
    world.settle()


def test_min_raised_to_what_it_has_changes_the_factor_alone() -> None:
    """The document's example: at 2 with min 1, min becomes 2: it stays 2, factor 0."""
    world = scaled(2)
    assert stands(world) == (2, 1)
    world.edit(min_scaleout_per_vs=2)
    assert stands(world) == (2, 0)


def test_min_lowered_and_raised_again_is_as_before() -> None:
    world = scaled(3, min_scaleout_per_vs=2)
    where = world.on("VS")
    world.edit(min_scaleout_per_vs=1)
    world.edit(min_scaleout_per_vs=2)
    assert (stands(world), world.on("VS")) == ((3, 1), where)


def test_max_lowered_keeps_it_through_the_loss_of_an_engine() -> None:
    world = scaled(4)
    world.edit(max_scaleout_per_vs=3)
    world.fail(world.on("VS")[1])
    assert stands(world) == (4, 3)


def test_max_raised_moves_nothing() -> None:
    world = scaled(4)
    where = world.on("VS")
    world.edit(max_scaleout_per_vs=6)
    assert (stands(world), world.on("VS")) == ((4, 3), where)


def test_disabled_and_enabled_the_former_count_is_restored() -> None:
    world = scaled(3)
    enable(world, False)
    world.wait(31.0)
    assert world.on("VS") == []
    enable(world, True)
    assert stands(world) == (3, 2)


def test_disabled_when_over_the_new_max_it_is_capped_too() -> None:
    world = scaled(4)
    world.edit(max_scaleout_per_vs=2)
    assert stands(world) == (4, 3)
    enable(world, False)
    world.wait(31.0)
    enable(world, True)
    assert stands(world) == (2, 1)


@pytest.mark.parametrize("low", [1, 2])
def test_moved_to_another_group_it_has_that_groups_min(low: int) -> None:
    """It comes to the other group as one that nobody has planned (the controller's side: tests/unit/test_group_moves.py)."""
    other = World(max_se=12, buffer_se=0, min_scaleout_per_vs=low)
    other.vips["VS"] = Vip(id="VS", name="VS", slots=1, created=1.0)
    other.settle()
    assert stands(other, "VS") == (low, 0)


def test_min_above_what_engines_there_can_be_is_a_shortfall_and_no_lower_target() -> None:
    world = World(max_se=2, buffer_se=0)
    world.add("VS")
    world.edit(min_scaleout_per_vs=3)
    assert (world.vips["VS"].requested, len(world.on("VS"))) == (3, 2)
