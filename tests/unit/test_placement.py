"""The parts of placement that transcripts don't show: presets, explanations, joint succession, what-if, refusals."""

from __future__ import annotations

import msgspec
import pytest

from shoal.placement import choose as choosing
from shoal.placement import fill, plan
from shoal.placement.board import Board, Field, Work
from shoal.placement.carry import applied, progressed
from shoal.placement.explain import records, sentences
from shoal.placement.invariants import violations
from shoal.placement.model import (
    Candidate,
    Decision,
    Engine,
    EngineState,
    Group,
    Judgement,
    Need,
    Placement,
    PlacementState,
    Plan,
    Rejection,
    Request,
    RequestKind,
    Role,
    Snapshot,
    Vip,
)
from shoal.placement.presets import contradictions, preset
from shoal.placement.whatif import fail


def engines(*names: str) -> tuple[Engine, ...]:
    return tuple(
        Engine(id=name, name=name, rank=rank, host="", state=EngineState.UP) for rank, name in enumerate(names)
    )


def on(engine: str, name: str, slots: int, created: float = 0.0) -> Vip:
    """A VIP that has been living on one engine."""
    held = Placement(engine=engine, role=Role.PRIMARY, state=PlacementState.READY, since=0.0)
    return Vip(
        id=name, name=name, slots=slots, created=created, placements=(held,), generation=1, requested=1,
        succession=(engine,), list_version=1,
    )  # fmt: skip


def settled(snapshot: Snapshot) -> Snapshot:
    for _ in range(20):
        result = plan(snapshot, 10.0)
        if result.empty:
            return snapshot
        snapshot = progressed(applied(snapshot, result), 10.0)
    raise AssertionError("no fixpoint")


def test_the_mode_is_a_preset() -> None:
    bounds = {"max_scaleout_per_vs": 4, "max_se": 10}
    pair = {"min_scaleout_per_vs": 2, "algo": "PLACEMENT_ALGO_DISTRIBUTED", "buffer_se": 0, **bounds}
    assert preset("HA_MODE_SHARED_PAIR") == pair
    shared = {"min_scaleout_per_vs": 1, "algo": "PLACEMENT_ALGO_PACKED", "buffer_se": 1, **bounds}
    assert preset("HA_MODE_SHARED") == shared


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"ha_mode": "HA_MODE_SHARED_PAIR", "min_scaleout_per_vs": 1}, "min_scaleout_per_vs 1"),
        ({"ha_mode": "HA_MODE_SHARED_PAIR", "buffer_se": 1}, "is not used"),
        ({"ha_mode": "HA_MODE_SHARED", "min_scaleout_per_vs": 2}, "like active/active"),
        ({"ha_mode": "HA_MODE_SHARED_PAIR", "algo": "PLACEMENT_ALGO_PACKED"}, "to spread the load"),
        ({"ha_mode": "HA_MODE_SHARED_PAIR", "min_scaleout_per_vs": 2, "max_se": 1}, "below min_scaleout_per_vs 2"),
        ({"ha_mode": "HA_MODE_SHARED", "buffer_se": 2, "max_se": 2}, "set max_se to 3 or more"),
        ({"ha_mode": "HA_MODE_SHARED", "max_se": 0, "buffer_se": 1}, "no engine be made"),
        ({"ha_mode": "HA_MODE_LEGACY_ACTIVE_STANDBY", "max_se": 1}, "no engine for the standby"),
        (
            {"ha_mode": "HA_MODE_LEGACY_ACTIVE_STANDBY", "max_se": 9, "buffer_se": 1},
            "buffer_se 1, max_se 9 are not used",
        ),
        ({"ha_mode": "HA_MODE_SHARED", "distribute_load_active_standby": True}, "HA_MODE_LEGACY_ACTIVE_STANDBY only"),
    ],
)
def test_an_explicit_value_against_the_mode_gets_a_warning(fields: dict[str, object], word: str) -> None:
    (warning,) = contradictions(fields)
    assert word in warning


@pytest.mark.parametrize("mode", ["HA_MODE_SHARED", "HA_MODE_SHARED_PAIR"])
def test_the_presets_contradict_nothing(mode: str) -> None:
    assert contradictions({"ha_mode": mode, **preset(mode)}) == []


def test_an_engines_services_are_dealt_together_so_that_all_fit() -> None:
    """B has three slots free and C has two: the large VIP must get B, whatever came first."""
    snapshot = Snapshot(
        revision=1,
        group=Group(id="g", name="g", max_vs_per_se=5, max_se=3, buffer_se=0),
        engines=engines("A", "B", "C"),
        vips=(
            on("A", "small-1", 1, 1.0),
            on("A", "small-2", 1, 2.0),
            on("A", "large", 3, 3.0),
            on("B", "b", 2, 4.0),
            on("C", "c", 3, 5.0),
        ),
    )
    heirs = {vip.id: vip.succession[1] for vip in settled(snapshot).vips[:3]}
    assert heirs == {"large": "B", "small-1": "C", "small-2": "C"}
    outcome = fail(settled(snapshot), ["A"], 10.0)
    assert outcome.stays_up and outcome.moves == 3 and outcome.engines_made == 0


def test_a_successor_stays_while_it_is_good() -> None:
    snapshot = settled(
        Snapshot(
            revision=1,
            group=Group(id="g", name="g", buffer_se=0),
            engines=engines("A", "B", "C"),
            vips=(on("A", "a", 1), on("B", "b", 1, 1.0)),
        )
    )
    before = snapshot.vips[0].succession
    crowded = msgspec.structs.replace(snapshot, vips=(*snapshot.vips, on(before[1], "more", 5, 9.0)))
    assert settled(crowded).vips[0].succession == before


def test_what_if_tells_staying_up_from_keeping_capacity() -> None:
    group = Group(id="g", name="g", max_vs_per_se=4, max_se=2, buffer_se=1)
    snapshot = settled(
        Snapshot(
            revision=1,
            group=group,
            engines=engines("A", "B"),
            vips=(on("A", "a", 2), on("B", "b", 1, 1.0), on("B", "late", 2, 2.0)),
        )
    )
    one = fail(snapshot, ["A"], 10.0)
    assert one.interrupted == ("a",) and one.waiting == ("a",) and one.down == ()
    assert not one.stays_up
    fixed = msgspec.structs.replace(snapshot, group=msgspec.structs.replace(group, can_create=False))
    assert fail(fixed, ["A"], 10.0).down == ("a",)
    with pytest.raises(KeyError):
        fail(snapshot, ["nobody"], 10.0)


def test_a_decision_reads_as_sentences() -> None:
    decision = Decision(
        vip="v", what="place", engine="e2", why="two is the least loaded with room", runner_up="e3", eligible=2,
        excluded=(("down", 1), ("no_room", 37)),
    )  # fmt: skip
    names = {"v": "shop", "e1": "one", "e2": "two", "e3": "three"}
    assert sentences(decision, names=names) == [
        "shop is placed on two: two is the least loaded with room.",
        "Next best of 2: three.",
        "Not: 1 down, 37 no room.",
    ]
    judged = Judgement(
        candidates=(Candidate(engine="e2", load=1, capacity=8, idle=False),),
        rejections=(Rejection(engine="e1", rule="no_room", detail="8 of 8 slots used"),),
    )
    assert sentences(decision, judged, names)[1:] == [
        "Ranked by slots used, then age: two 1/8.",
        "Not one: 8 of 8 slots used (no_room).",
    ]


def test_a_decision_stays_small_however_many_engines_are_looked_at() -> None:
    def decided(count: int) -> bytes:
        group = Group(id="g", name="g", max_se=count, buffer_se=0)
        vips = (Vip(id="v", name="v", slots=1, created=1.0),)
        full = engines(*(f"e{n}" for n in range(count)))
        snapshot = Snapshot(revision=7, group=group, engines=full, vips=vips)
        (decision,) = plan(snapshot, 10.0).decisions
        (record,) = records(snapshot, 10.0, "v")
        assert record.decision == decision and record.judged is not None
        assert len(record.judged.candidates) == count == decision.eligible
        return msgspec.json.encode(decision)

    assert len(decided(300)) - len(decided(3)) < 10


def test_broken_states_are_named() -> None:
    twice = on("A", "v", 9)
    twice = msgspec.structs.replace(twice, placements=twice.placements * 2)
    group = Group(id="g", name="g", max_vs_per_se=10, max_se=1)
    found = "\n".join(violations(Snapshot(revision=1, group=group, engines=engines("A", "B"), vips=(twice,))))
    for word in ("twice on one engine", "2 primaries", "holds 18 of max_vs_per_se 10", "2 engines, max_se is 1"):
        assert word in found


def test_a_move_to_the_host_that_is_being_left_breaks_no_rule() -> None:
    hosts = {"A": "h1", "B": "h1", "C": "h2"}
    known = tuple(msgspec.structs.replace(engine, host=hosts[engine.id]) for engine in engines("A", "B", "C"))
    leaving = (msgspec.structs.replace(known[0], enable_state="SE_STATE_DISABLED"), *known[1:])
    snapshot = Snapshot(
        revision=1,
        group=Group(id="g", name="g", buffer_se=0, algo="PLACEMENT_ALGO_DISTRIBUTED", max_se=3),
        engines=leaving,
        vips=(on("A", "v", 1), on("C", "w", 1)),
    )
    result = plan(snapshot, 10.0)
    moved = next(vip for vip in result.vips if vip.id == "v")
    assert [p.engine for p in moved.placements] == ["A", "B"]
    assert violations(snapshot, result) == []
    member = msgspec.structs.replace(snapshot, engines=known)
    assert any("placed twice on host h1" in sentence for sentence in violations(member, result))


def test_a_migration_to_the_host_that_it_leaves_breaks_no_rule() -> None:
    """Its engine dies before it has begun; the successor is on the host that the migration goes to."""
    hosts = {"A": "h1", "B": "h1", "C": "h2", "D": "h3"}
    known = tuple(msgspec.structs.replace(engine, host=hosts[engine.id]) for engine in engines(*hosts))
    dead = msgspec.structs.replace(known[3], state=EngineState.DOWN, down_since=5.0)
    vip = msgspec.structs.replace(on("D", "v", 1), succession=("D", "A"), list_version=1, armed=True)
    asked = Request(id="r", kind=RequestKind.MIGRATE, vip="v", at=8.0, to_engine="B")
    snapshot = Snapshot(
        revision=1,
        group=Group(id="g", name="g", buffer_se=0, max_se=4),
        engines=(*known[:3], dead),
        vips=(vip,),
        requests=(asked,),
    )
    result = plan(snapshot, 10.0)
    assert [p.engine for p in result.vips[0].placements] == ["A", "B"]
    assert violations(snapshot, result) == []
    more = msgspec.structs.replace(asked, kind=RequestKind.SCALE_OUT)
    found = violations(msgspec.structs.replace(snapshot, requests=(more,)), result)
    assert any("placed twice on host h1" in sentence for sentence in found)


def test_the_host_that_a_migration_goes_to_is_taken_for_others_as_well() -> None:
    """A member dies meanwhile: its successor shares a host with one that stays, as it would with the one that comes."""
    hosts = {"A": "h1", "B": "h2", "C": "h3", "D": "h1", "E": "h3", "F": "h4"}
    alive = tuple(msgspec.structs.replace(engine, host=hosts[engine.id]) for engine in engines(*hosts))
    dead = msgspec.structs.replace(alive[-1], state=EngineState.DOWN, down_since=5.0)
    first, second, ready = Role.PRIMARY, Role.SECONDARY, PlacementState.READY
    held = (("A", first, ""), ("B", second, ""), ("F", second, ""), ("C", second, "r"))
    placed = tuple(Placement(engine=e, role=r, state=ready, since=0.0, request=q) for e, r, q in held)
    vip = msgspec.structs.replace(on("A", "v", 1), placements=placed, requested=3, user_factor=2, armed=True)
    asked = Request(id="r", kind=RequestKind.MIGRATE, vip="v", at=8.0, to_engine="C", from_engine="B")
    snapshot = Snapshot(
        revision=1,
        group=Group(id="g", name="g", buffer_se=0, max_se=5, algo="PLACEMENT_ALGO_DISTRIBUTED"),
        engines=(*alive[:-1], dead),
        vips=(vip,),
        requests=(asked,),
    )
    result = plan(snapshot, 10.0)
    assert "D" in {p.engine for p in result.vips[0].placements}
    assert violations(snapshot, result) == []


def left(enable_state: str, kind: RequestKind) -> tuple[Snapshot, Plan]:
    """A VIP on A and B, ready on both, of which B is left in the moment in which the request would rely on it."""
    known = engines("A", "B")
    known = (known[0], msgspec.structs.replace(known[1], enable_state=enable_state))
    migrates, ready = kind is RequestKind.MIGRATE, PlacementState.READY
    held = (
        Placement(engine="A", role=Role.PRIMARY, state=ready, since=0.0),
        Placement(engine="B", role=Role.SECONDARY, state=ready, since=1.0, request="r" if migrates else ""),
    )
    requested = 1 if migrates else 2
    vip = msgspec.structs.replace(
        on("A", "v", 1), placements=held, requested=requested, user_factor=requested - 1, armed=True
    )
    asked = Request(id="r", kind=kind, vip="v", at=8.0, from_engine="" if migrates else "A")
    group = Group(id="g", name="g", buffer_se=0, max_se=2)
    snapshot = Snapshot(revision=1, group=group, engines=known, vips=(vip,), requests=(asked,))
    return snapshot, plan(snapshot, 10.0)


@pytest.mark.parametrize("enable_state", ["SE_STATE_DISABLED", "SE_STATE_DISABLED_FORCE"])
def test_a_migration_does_not_end_on_an_engine_that_is_left(enable_state: str) -> None:
    """Seed 62 of 10,000 events: by force, and the VIP had let go of the engine it came from in the same plan."""
    snapshot, result = left(enable_state, RequestKind.MIGRATE)
    assert violations(snapshot, result) == []
    (placement, *others) = result.vips[0].placements
    assert (placement.engine, placement.state, placement.since) == ("A", PlacementState.READY, 0.0)
    assert [p.state for p in others] == ([] if "FORCE" in enable_state else [PlacementState.DRAINING])
    (answer,) = result.results
    assert not answer.ok and "B is disabled" in answer.message


@pytest.mark.parametrize("enable_state", ["SE_STATE_DISABLED", "SE_STATE_DISABLED_FORCE"])
def test_a_scale_in_does_not_leave_it_to_an_engine_that_is_left(enable_state: str) -> None:
    snapshot, result = left(enable_state, RequestKind.SCALE_IN)
    assert violations(snapshot, result) == []
    assert result.vips[0].placements[0].state is PlacementState.READY
    (answer,) = result.results
    assert not answer.ok and "no other engine of v is ready yet" in answer.message


def test_a_running_engine_on_another_host_is_better_than_waiting_for_one_on_the_same() -> None:
    hosts = {"A": "h1", "B": "h2", "C": "h1"}
    found = tuple(msgspec.structs.replace(engine, host=hosts[engine.id]) for engine in engines(*hosts))
    coming = msgspec.structs.replace(found[2], state=EngineState.CREATING)
    group = Group(id="g", name="g", ha_mode="HA_MODE_SHARED_PAIR", buffer_se=0, max_se=3, max_vs_per_se=4,
                  algo="PLACEMENT_ALGO_DISTRIBUTED", min_scaleout_per_vs=1)  # fmt: skip
    lost = Vip(id="v", name="v", slots=1, created=1.0, generation=2, user_factor=1, requested=2)
    vips = (on("A", "w", 1), on("B", "x", 2), lost)
    snapshot = Snapshot(revision=1, group=group, engines=(*found[:2], coming), vips=vips)
    result = plan(snapshot, 10.0)
    assert {p.engine for vip in result.vips if vip.id == "v" for p in vip.placements} == {"A", "B"}
    assert violations(snapshot, result) == []


def test_who_has_no_engine_left_comes_before_who_has_fewer_whatever_could_be_made() -> None:
    """A large VIP that lost one of two engines would otherwise take the room that a small one needs at once."""
    first, second = Role.PRIMARY, Role.SECONDARY

    def vip(name: str, slots: int, *on: tuple[str, Role]) -> Vip:
        placed = tuple(Placement(engine=e, role=role, state=PlacementState.READY, since=0.0) for e, role in on)
        return Vip(
            id=name,
            name=name,
            slots=slots,
            created=0.0,
            placements=placed,
            generation=1,
            succession=(on[0][0],),
            list_version=1,
            requested=len(on),
            user_factor=len(on) - 1,
        )

    snapshot = Snapshot(
        revision=1,
        group=Group(id="g", name="g", max_vs_per_se=4, buffer_se=0, ever_used=True),
        engines=tuple(
            Engine(id=f"e{n}", name=f"e{n}", rank=n, host="", state=EngineState.UP if n else EngineState.DOWN)
            for n in range(3)
        ),
        vips=(
            vip("large", 2, ("e1", first), ("e0", second)),
            vip("small", 1, ("e0", first)),
            vip("one", 2, ("e1", first)),
            vip("two", 2, ("e2", first)),
        ),
    )
    after = {vip.id: [(p.engine, p.state) for p in vip.placements] for vip in plan(snapshot, 1000.0).vips}
    assert after["small"] == [("e2", PlacementState.ASSIGNED)]
    assert after["large"][1] == ("new-1", PlacementState.WAITING)


def test_who_took_over_and_must_leave_at_once_is_not_adopted_while_the_planned_owner_serves() -> None:
    """A controller that was away comes back: the taker has been disabled by force since, and the owner it took from, by
    its plan, is there and ready. To adopt the claim would put the VIP on nobody who serves it."""
    planned = on("a", "v", 1)
    taken = msgspec.structs.replace(planned, succession=("a", "b"), claimant="b")
    group = Group(id="g", name="g", can_create=False, buffer_se=0)
    a, b, c = engines("a", "b", "c")
    forced = msgspec.structs.replace(b, enable_state="SE_STATE_DISABLED_FORCE")
    snapshot = Snapshot(revision=1, group=group, engines=(a, forced, c), vips=(taken,))
    result = plan(snapshot, 10.0)
    (after,) = result.vips
    assert after.placements == planned.placements and after.succession == ("a", "c")
    assert after.generation == taken.generation + 1, "b's claim must lose"
    assert not violations(snapshot, result)
    assert plan(applied(snapshot, result), 10.0).empty
    (adopted,) = plan(msgspec.structs.replace(snapshot, engines=(a, b, c)), 10.0).vips
    assert next(p.engine for p in adopted.placements if p.role is Role.PRIMARY) == "b", "and else it is"


def test_many_that_wait_for_room_are_judged_as_one_with_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a full group all of them are looked at in each plan; they differ in size, in having served, in a place
    held, and in the networks they need."""
    group = Group(
        id="g", name="g", max_vs_per_se=4, max_se=2, buffer_se=0, min_scaleout_per_vs=1, max_scaleout_per_vs=2
    )
    nowhere = [
        Vip(
            id=f"w{n:02}", name=f"w{n:02}", slots=1 + n % 3, created=9.0 + n, generation=n % 2, requested=1,
            list_version=1, needs=(Need("lan", ("10.0.0.0/24",)),) if n < 4 else (),
        )
        for n in range(40)
    ]  # fmt: skip
    more = msgspec.structs.replace(on("a", "wants two", 1), requested=2, user_factor=1)
    full = [on("a", "first", 3), on("b", "second", 3), more, *nowhere]
    near = tuple(msgspec.structs.replace(one, home="10.1.0.0/24") for one in engines("a", "b"))
    snapshot = Snapshot(revision=1, group=group, engines=near, vips=tuple(full))
    surveys: list[str] = []
    survey = choosing.survey

    def counted(board: Board, work: Work, *rest: object) -> Field:
        surveys.append(work.vip.id)
        return survey(board, work, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(choosing, "survey", counted)
    together = plan(snapshot, 10.0)
    looked_at, surveys[:] = len(surveys), []
    monkeypatch.setattr(fill, "_alike", lambda board, work: None)
    assert together == plan(snapshot, 10.0)
    assert sum(decision.what == "none" for decision in together.decisions) >= 38
    assert {d.excluded for d in together.decisions if d.vip == "w01"} != {
        d.excluded for d in together.decisions if d.vip == "w07"
    }, "as large, and served as it was, but for the network"
    assert looked_at <= 16 < 40 <= len(surveys)
