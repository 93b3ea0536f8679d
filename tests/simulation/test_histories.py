"""Random histories of the whole system by seed, and those that once broke a promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from shoal.controller.planning import Planning
from shoal.errors import Invalid
from shoal.main import cli
from shoal.placement import plan
from shoal.placement.model import Plan, Snapshot
from shoal.simulator import history
from shoal.simulator.fleet import fleet
from shoal.simulator.history import MODES, Event, Shape, Transcript
from shoal.simulator.results import Done, Results
from shoal.simulator.shrink import shrunk
from shoal.simulator.silence import silence
from shoal.simulator.trial import drawn, played

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.json"))
EVENTS = 60
"""In each of fifty runs: what this machine does in a minute."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with silence():
        yield


@pytest.mark.parametrize("seed", range(50))
def test_a_random_history_breaks_no_promise(seed: int) -> None:
    outcome = drawn(seed, Shape(), EVENTS)
    assert not outcome.broke, f"shoal simulate --seed {seed} --events {EVENTS}: {outcome.broke}: {outcome.why}"


@pytest.mark.parametrize("file", TRANSCRIPTS, ids=lambda file: str(file.stem))
def test_what_broke_once_does_not_again(file: Path) -> None:
    transcript = history.read(file)
    assert transcript.broke and transcript.note, "a transcript says what was wrong"
    outcome = played(transcript.seed, transcript.shape, transcript.events)
    assert not outcome.broke, f"{transcript.note}: {outcome.why}"


def test_a_run_is_repeated_by_its_seed_in_any_process() -> None:
    """Not by the order of sets, which differs from process to process."""
    code = "from shoal.simulator.trial import *; print(drawn(2, Shape(), 20).digest)"

    def digest(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        return done.stdout

    assert digest("1") == digest("2")


def test_a_drawn_history_played_again_is_the_same() -> None:
    one = drawn(3, Shape(), 20)
    assert played(3, Shape(), one.events).digest == one.digest


def test_a_transcript_is_read_as_it_was_written(tmp_path: Path) -> None:
    events = (Event(do="kill", engine="s-1:0", wait_s=0.5), Event(do="group", target="g-1", fields={"max_se": 2}))
    transcript = Transcript(seed=4, shape=Shape(hosts=3), events=events, broke="liveness", why='a "b"', commit="c0ffee")
    history.write(tmp_path / "t.json", transcript)
    assert history.read(tmp_path / "t.json") == transcript


def test_a_history_is_shrunk_to_what_matters() -> None:
    tried: list[list[int]] = []

    def breaks(events: list[int]) -> bool:
        tried.append(events)
        return 17 in events and 93 in events

    assert shrunk(range(100), breaks) == [17, 93]
    assert len(tried) < 60
    assert shrunk(range(100), lambda events: True) == []


def test_an_event_that_lost_its_meaning_is_skipped() -> None:
    events = (
        Event(do="delete", service="never-there"),
        Event(do="kill", engine="s-1:0"),
        Event(do="thaw", engine="1"),
        Event(do="operate", service="s-2", target="migrate", engine="77", wait_s=1.0),
        Event(do="start"),
        Event(do="plug", engine="2"),
    )
    outcome = played(1, Shape(modes=MODES[:2]), events)
    assert not outcome.broke and outcome.kinds == {"calm": 1, "kill": 1, "operate": 1}


# --- what a broken promise looks like ---


def test_a_plan_that_breaks_a_rule_is_found_shrunk_and_written_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def without_generation(self: Planning, snapshot: Snapshot, now: float, fresh: object = None) -> Plan:
        """A planted fault: an owner that died is followed in the same generation."""
        result = plan(snapshot, now)
        known = {vip.id: vip.generation for vip in snapshot.vips if vip.generation}
        vips = tuple(replace(vip, generation=known.get(vip.id, vip.generation)) for vip in result.vips)
        return replace(result, vips=vips)

    monkeypatch.setattr(Planning, "plan", without_generation)
    asked = ["simulate", "--seed", "1", "--events", "60", "--shrink-s", "20", "--output", str(tmp_path)]
    assert cli(asked, standalone_mode=False) == 1, "the exit status"
    told = capsys.readouterr().out
    assert "Seed 1, commit " in told and "without a new generation" in told
    transcript = history.read(tmp_path / "shoal-seed-1.json")
    assert transcript.broke == "placement" and len(transcript.events) <= 4
    assert played(transcript.seed, transcript.shape, transcript.events).broke == "placement"


def test_the_command_answers_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli(["simulate", "--seeds", "1-2", "--events", "15", "--json"])
    assert end.value.code == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["seeds"] == 2 and document["events"] == 32 and document["failures"] == []
    assert document["checked"]["owners"] > 0 and document["checked"]["settled"] >= 4


def test_a_series_that_was_ended_goes_on_where_it_stood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "series.jsonl"

    def run(seeds: str) -> dict[str, Any]:
        cli(["simulate", "--seeds", seeds, "--events", "8", "--results", str(file), "--json"], standalone_mode=False)
        return dict(json.loads(capsys.readouterr().out))

    first = run("1-2")
    assert (first["seeds"], first["seeds_done_before"]) == (2, 0)
    file.write_bytes(file.read_bytes() + b'{"commit":"cut short by a full disk')
    whole = run("1-3")
    assert (whole["seeds"], whole["seeds_done_before"], whole["events"]) == (3, 2, 27)
    assert sorted(msgspec.json.decode(line)["outcome"]["seed"] for line in _whole_lines(file)) == [1, 2, 3]
    again = run("1-3")
    assert again["seeds_done_before"] == 3 and again["checked"] == whole["checked"] and again["kinds"] == whole["kinds"]
    assert len(_whole_lines(file)) == 3


def _whole_lines(file: Path) -> list[bytes]:
    return [line for line in file.read_bytes().split(b"\n") if line.endswith(b"}")]


def test_a_killed_command_leaves_nothing_running() -> None:
    command = [sys.executable, "-m", "shoal", "simulate", "--seed", "1", "--events", "100000", "--jobs", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as parent:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        until = time.monotonic() + 30.0
        while not (found := children.read_text().split()) and time.monotonic() < until:
            time.sleep(0.1)
        parent.kill()
    (child,) = found
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists()


def test_a_run_that_broke_a_promise_is_run_again(tmp_path: Path) -> None:
    outcome = replace(drawn(1, Shape(), 1), events=(), broke="placement")
    with Results(tmp_path / "series.jsonl") as results:
        results.add(Done(commit="c0ffee", asked=1, count=2, enough=1, outcome=outcome))
    with Results(tmp_path / "series.jsonl") as results:
        assert results.find(1, Shape(), 1) is None
        mended = Done(commit="c0ffee", asked=1, count=2, outcome=replace(outcome, broke=""))
        results.add(mended)
        assert results.find(1, Shape(), 1) == mended
        assert results.find(1, Shape(), 2) is None and results.find(1, Shape(hosts=3), 1) is None


def test_results_are_of_one_writer_and_no_other_file_is_taken_for_them(tmp_path: Path) -> None:
    with Results(tmp_path / "series.jsonl"), pytest.raises(Invalid, match="Another run writes"):
        Results(tmp_path / "series.jsonl").__enter__()
    other = tmp_path / "notes.txt"
    other.write_text("not ours")
    with pytest.raises(Invalid, match="no file of simulated runs"):
        Results(other).__enter__()
    assert other.read_text() == "not ours"


def test_a_fleet_is_placed_and_mended_again_and_again() -> None:
    done = fleet(0, engines=12, services=60, events=8, progress=lambda text: None)
    assert [step["what"] for step in done.steps[:4]] == ["made", "placed and served", "kill", "create"]
    assert done.steps[1]["plans"] and done.checked["armed lists"] > 60 and done.checked["settled"] == 9


def test_every_mode_is_among_the_shapes() -> None:
    shapes = [Shape().of(seed).modes for seed in range(9)]
    assert {mode for modes in shapes for mode in modes} == set(MODES) and len(set(shapes)) > 4
    assert Shape(modes=("HA_MODE_SHARED",)).of(5).modes == ("HA_MODE_SHARED",)
