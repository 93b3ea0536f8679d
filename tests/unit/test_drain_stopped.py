"""A drain that is stopped saves a move, but not at the price of two engines on one host."""

from __future__ import annotations

from shoal.placement import plan
from shoal.placement.model import Engine, EngineState, Group, Placement, PlacementState, Role, Snapshot, Vip


def engine(rank: int, host: str, state: EngineState = EngineState.UP) -> Engine:
    return Engine(id=f"e{rank}", name=f"se-{rank}", rank=rank, host=host, state=state)


def members(*engines: Engine) -> set[str]:
    """Where a VIP of two is that loses one engine, is still up on e2 and drains on e3."""
    on = {"e1": Role.PRIMARY, "e2": Role.SECONDARY, "e3": Role.SECONDARY}
    placements = tuple(
        Placement(
            engine=id,
            role=role,
            state=PlacementState.DRAINING if id == "e3" else PlacementState.READY,
            since=0.0,
        )
        for id, role in on.items()
    )
    vip = Vip(
        id="v", name="v", slots=1, created=0.0, placements=placements, generation=1,
        succession=("e1", "e2"), list_version=1, requested=2, armed=True, claimant="e2",
    )  # fmt: skip
    group = Group(
        id="g", name="g", ha_mode="HA_MODE_SHARED", min_scaleout_per_vs=2, max_se=4, buffer_se=0, ever_used=True
    )
    (planned,) = plan(Snapshot(revision=1, group=group, engines=engines, vips=(vip,)), 1.0).vips
    return {p.engine for p in planned.placements if p.state is not PlacementState.DRAINING}


def test_a_drain_is_stopped_where_the_host_is_another_one() -> None:
    down = engine(1, "a", EngineState.DOWN)
    assert members(down, engine(2, "b"), engine(3, "c"), engine(4, "d")) == {"e2", "e3"}


def test_a_drain_goes_on_where_the_vip_is_on_that_host_already_and_another_has_room() -> None:
    down = engine(1, "a", EngineState.DOWN)
    assert members(down, engine(2, "b"), engine(3, "b"), engine(4, "d")) == {"e2", "e4"}


def test_a_drain_is_stopped_on_the_same_host_where_there_is_no_other() -> None:
    down = engine(1, "a", EngineState.DOWN)
    assert members(down, engine(2, "b"), engine(3, "b")) == {"e2", "e3"}
