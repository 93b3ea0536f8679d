"""``shoal drill`` on a whole Shoal: it comes as foretold, all is given back, also when the drill is broken off."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal.clouds.fabric import processes_in
from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.private_shoal import prepared

pytestmark = [pytest.mark.root, pytest.mark.timeout(150)]

ONE, PAIR = "vs-ha-mode-shared", "vs-ha-mode-shared-pair"
OUTAGE_MS_MAX = 500.0
ENDED_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with prepared(tmp_path_factory.mktemp("drill")) as bench:
        yield bench


def start(bench: Bench, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "shoal", "drill", "--controller", bench.url]
    if "--data-dir" not in options:
        command += ["--data-dir", str(bench.options.data_dir)]
    return subprocess.Popen(
        [*command, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SHOAL_PASSWORD": PASSWORD, "PYTHONUNBUFFERED": "1"},
    )


def drilled(bench: Bench, *options: str, status: int = 0) -> dict[str, Any]:
    """A drill that is waited for; what it says to machines."""
    with start(bench, *options, "--json") as child:
        out, errors = child.communicate(timeout=ENDED_WITHIN_S)
    assert child.returncode == status, f"{out}\n{errors}"
    found: dict[str, Any] = json.loads(out)
    return found


def stopped(bench: Bench, engine: str) -> list[int]:
    """The engine's processes that are frozen."""
    found = []
    for pid in processes_in(Lab(bench.options.data_dir).fabric.addressing.namespace(engine)):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state == "T":
            found.append(pid)
    return found


def until(what: str, check: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.parametrize(("service", "kind"), [(ONE, "kill"), (PAIR, "cut"), (ONE, "switchover")])
def test_it_comes_as_foretold_and_all_is_whole_again(bench: Bench, service: str, kind: str) -> None:
    found = drilled(bench, service, "--kind", kind, "--yes")
    result = found["result"]
    (score,) = [one for one in result["scores"] if service in one["virtualservices"]]
    assert score["actual"] == score["predicted"] != score["former"] == found["serviceengine"]
    assert score["outage_ms"] <= OUTAGE_MS_MAX and score["starts"] > 200
    assert (score["failed"] > 0) == (kind != "switchover")
    assert result["undone"] and result["whole_after_s"] < 30 and result["trouble"] == ""
    shown = drilled(bench, service, "--dry-run", "--kind", kind)
    assert shown["serviceengine"] == score["actual"] and shown["refusals"] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_engine_is_given_back_however_the_drill_ends(bench: Bench, number: signal.Signals) -> None:
    engine = drilled(bench, ONE, "--dry-run", "--kind", "freeze")["serviceengine"]
    child = start(bench, ONE, "--kind", "freeze", "--yes")
    until("it is frozen", lambda: stopped(bench, engine))
    child.send_signal(number)
    _, errors = child.communicate(timeout=ENDED_WITHIN_S)
    until("it runs again", lambda: not stopped(bench, engine), 3.0)
    if number is not signal.SIGKILL:
        assert child.returncode == 130, errors
        assert errors.endswith("Broken off; the engine is given back.\n")

    async def whole() -> None:
        async with Api(bench.url, PASSWORD) as api:
            await api.placed(bench.services["HA_MODE_SHARED"]["uuid"], 1)
            uuid = (await api.get(f"serviceengine?name={engine}"))["results"][0]["uuid"]

            async def settled() -> bool:
                found = await api.get(f"serviceengine/{uuid}/forecast")
                up = all(e["state"] == "up" and e["connected"] for e in found["serviceengines"])
                return up and not found["unsettled"]

            await api.until("all is whole again", settled, 20.0)

    asyncio.run(whole())


def test_it_is_refused_elsewhere_unasked_and_while_a_failure_goes_on(bench: Bench, tmp_path: Path) -> None:
    found = drilled(bench, ONE, "--yes", "--data-dir", str(tmp_path), status=1)
    assert [refusal["code"] for refusal in found["refusals"]] == ["elsewhere"] and "result" not in found
    engine = found["serviceengine"]
    with start(bench, ONE) as child:
        out, errors = child.communicate(timeout=ENDED_WITHIN_S)
    assert child.returncode == 2 and "Give --yes" in errors and f"kill of {engine}" in out
    lab = Lab(bench.options.data_dir)
    lab.freeze(engine)
    try:
        until("it is known to be down", lambda: "failure" in _codes(bench, engine), 15.0)
    finally:
        lab.thaw(engine)


def _codes(bench: Bench, engine: str) -> set[str]:
    with start(bench, "--engine", engine, "--dry-run", "--json") as child:
        found = json.loads(child.communicate(timeout=ENDED_WITHIN_S)[0])
    return {refusal["code"] for refusal in found["refusals"]}
