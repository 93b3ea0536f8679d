"""Decisions that were written down are made again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from shoal.controller import decision_log
from shoal.controller.decision_log import DecisionLog
from shoal.errors import Invalid
from shoal.placement import plan
from shoal.placement.model import Engine, EngineState, Group, Plan, Snapshot, Vip
from shoal.simulator.replay import command, replayed
from shoal.simulator.system_world import SystemWorld
from tests.simulation.playing import play


def snapshot(*vips: str, engines: int = 2, revision: int = 1) -> Snapshot:
    return Snapshot(
        revision=revision,
        group=Group(id="g", name="web", ever_used=True),
        engines=tuple(
            Engine(id=f"e{n}", name=f"se-{n}", rank=n, host=f"h{n}", state=EngineState.UP)
            for n in range(1, engines + 1)
        ),
        vips=tuple(Vip(id=vip, name=vip, slots=1, created=float(n)) for n, vip in enumerate(vips)),
    )


async def written(file: Path, *snapshots: Snapshot) -> DecisionLog:
    log = DecisionLog(file)
    for number, one in enumerate(snapshots):
        log.note(one, plan(one, 100.0 + number), 100.0 + number)
    writing = asyncio.create_task(log.run())
    while log.waiting:
        await asyncio.sleep(0.01)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    return log


async def test_what_changed_is_written_and_every_snapshot_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "decisions.log"
    stories = (snapshot("a"), snapshot("a", "b", revision=2), snapshot("b", engines=3, revision=3), snapshot("b"))
    await written(file, *stories)
    records = [msgspec.json.decode(line) for line in file.read_bytes().splitlines()]
    assert [len(record.get("vips", ())) for record in records] == [1, 1, 1, 0], "b is another in the third"
    assert [len(record.get("engines", ())) for record in records] == [2, 0, 1, 0]
    found = list(replayed(file))
    assert [one.snapshot if one else None for one in found] == list(stories)
    assert {one.state for one in found if one} == {"reproduced"}
    assert file.stat().st_mode & 0o77 == 0


async def test_a_decision_that_is_made_otherwise_now_is_told_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "decisions.log"
    one = snapshot("a")
    log = await written(file, one)
    other = plan(snapshot("a", engines=1), 101.0)
    record = decision_log.record(one, one, other, 101.0)
    with file.open("ab") as opened:
        opened.write(msgspec.json.encode(record) + b"\n")
    assert command.main([str(tmp_path)], standalone_mode=False) == 1
    told = capsys.readouterr().out
    assert "1970-01-01 00:01:40.000  web: reproduced" in told
    assert "1970-01-01 00:01:41.000  web: differs" in told and "  then:" in told and "  now:" in told
    assert "a place se-1: se-1 is up and idle" in told
    assert "1 plans reproduced, 1 differ." in told
    assert log.waiting == 0


async def test_a_torn_line_costs_itself_and_a_new_controller_begins_with_the_whole(tmp_path: Path) -> None:
    file = tmp_path / "decisions.log"
    await written(file, snapshot("a"))
    with file.open("ab") as opened:
        opened.write(b'{"at": 100.5, "ver')
    await written(file, snapshot("a", "b"))
    found = list(replayed(file))
    assert [one.state if one else "torn" for one in found] == ["reproduced", "torn", "reproduced"]
    assert found[2] is not None and found[2].record.whole


async def test_the_file_is_bounded_and_each_one_stands_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_log, "FILE_BYTES_MAX", 1)
    file = tmp_path / "decisions.log"
    log = DecisionLog(file)
    for number in range(4):
        log.write([(snapshot("a"), plan(snapshot("a"), float(number)), float(number), 0)])
    assert {path.name for path in tmp_path.iterdir()} == {"decisions.log", "decisions.log.1"}
    for path in tmp_path.iterdir():
        assert [one.state for one in replayed(path) if one] == ["reproduced"]


async def test_what_can_not_be_kept_up_with_is_counted(tmp_path: Path) -> None:
    one = snapshot("a")
    many = [one] * (decision_log.WAITING_MAX + 3)
    log = await written(tmp_path / "decisions.log", *many)
    log.write([(one, plan(one, 1.0), 1.0, 3)])
    found = [one for one in replayed(tmp_path / "decisions.log") if one]
    assert len(found) == decision_log.WAITING_MAX + 1 and found[-1].record.missed == 3


def test_every_decision_of_a_failover_is_reproduced(tmp_path: Path) -> None:
    """Of a whole controller, over creations, a death, a replacement and an edit."""
    noted = 0
    log = DecisionLog(tmp_path / "decisions.log")

    def decided(snapshot: Snapshot, plan: Plan, now: float) -> None:
        nonlocal noted
        noted += 1
        log.write([(snapshot, plan, now, 0)])

    async def story(world: SystemWorld) -> None:
        world.controller.reconciler.on_decided = decided
        await world.create("serviceenginegroup", {"name": "g", "max_se": 4})
        for number in range(3):
            await world.service(f"s-{number}", "g")
        await world.settle()
        world.kill(next(iter(world.agents)))
        await world.settle()
        group = world.running.view.named("serviceenginegroup", "g")
        assert group is not None
        await world.patch("serviceenginegroup", group["uuid"], min_scaleout_per_vs=2)
        await world.settle()

    play(story)
    found = [one for one in replayed(tmp_path / "decisions.log") if one]
    assert len(found) == noted > 8
    assert [one.state for one in found] == ["reproduced"] * len(found)


def test_a_file_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("{}")
    with pytest.raises(Invalid, match="is no transcript"):
        command.main([str(file)], standalone_mode=False)
    with pytest.raises(Invalid, match="There is no"):
        command.main([str(tmp_path)], standalone_mode=False)
