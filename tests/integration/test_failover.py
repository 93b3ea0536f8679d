"""Outages of real engines with real HAProxy: every kind of fault, both elastic modes, controller up and stopped.

A legacy pair takes over by the same means: of it the commonest fault stands for the others.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator

import pytest

from shoal.clouds.addressing import Addressing
from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import ELASTIC, KINDS, LEGACY, MODES, PARTIAL_KINDS, PASSWORD, Bench, Trial
from tests.integration.private_host import NETNS
from tests.integration.private_shoal import prepared
from tests.integration.story import story

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

FAULTS = 3
OUTAGE_MS_MAX = 500.0
LATE_ANSWER_MS_MAX = 20.0
DEAF_MS_MAX = 1500.0
"""An engine that hears nothing needs a silent gateway for a witness, which takes half a second."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with prepared(tmp_path_factory.mktemp("failover"), modes=tuple(MODES)) as bench:
        yield bench
    prefix = Addressing.of(bench.options.data_dir).prefix
    left = {path.name for path in NETNS.iterdir() if path.name.startswith(prefix)}
    assert not left, f"namespaces left behind: {left}"


def faults(bench: Bench, modes: tuple[str, ...], kind: str, *, controller: bool) -> dict[str, list[Trial]]:
    """By mode; each is one that anybody may look at, but for its outage."""

    async def trials() -> list[Trial]:
        lab = Lab(bench.options.data_dir)
        found = [trial for _ in range(FAULTS) for trial in await bench.trials(lab, modes, kind, controller=controller)]
        await lab.close()
        return found

    found = asyncio.run(trials())
    for trial in found:
        assert trial.late_answer_ms <= LATE_ANSWER_MS_MAX, trial
        assert trial.starts > 400, trial
    return {mode: [trial for trial in found if trial.mode == mode] for mode in modes}


@pytest.mark.parametrize(("mode", "kind"), [*((mode, kind) for kind in KINDS for mode in ELASTIC), (LEGACY, "kill")])
def test_outage_is_short_and_nobody_else_answers(bench: Bench, mode: str, kind: str) -> None:
    found = faults(bench, (mode,), kind, controller=True)[mode]
    assert statistics.median(trial.outage_ms for trial in found) <= OUTAGE_MS_MAX, found


@pytest.mark.parametrize("kind", KINDS)
def test_outage_is_short_without_a_controller(bench: Bench, kind: str) -> None:
    """It dies once for a fault in each mode."""
    for found in faults(bench, ELASTIC, kind, controller=False).values():
        assert statistics.median(trial.outage_ms for trial in found) <= OUTAGE_MS_MAX, found


@pytest.mark.parametrize("kind", PARTIAL_KINDS)
def test_outage_is_short_when_a_part_fails_or_a_whole_host(bench: Bench, kind: str) -> None:
    limit_ms = {"agent": 0.0, "deaf": DEAF_MS_MAX}.get(kind, OUTAGE_MS_MAX)

    async def trials() -> list[Trial]:
        lab = Lab(bench.options.data_dir)
        found = [await bench.trial(lab, mode, kind, controller=True) for mode in ELASTIC for _ in range(2)]
        await lab.close()
        return found

    found = asyncio.run(trials())
    assert statistics.median(trial.outage_ms for trial in found) <= limit_ms, found
    assert max(trial.late_answer_ms for trial in found) <= LATE_ANSWER_MS_MAX, found


def test_a_third_of_all_packets_lost_moves_nothing(bench: Bench) -> None:
    """Heartbeats are missed all the time; the address goes on answering, so it is never claimed."""

    async def lossy() -> tuple[str, str, str]:
        lab = Lab(bench.options.data_dir)
        async with Api(bench.url, PASSWORD) as api:
            service = bench.services["HA_MODE_SHARED"]["uuid"]
            before = (await api.placed(service, 1))["answers"]
            await lab.lose(before, to_percent=30, from_percent=30)
            await asyncio.sleep(15.0)
            await lab.mend(before)
            after = (await api.placed(service, 1))["answers"]
            told = await story(api)
        await lab.close()
        return before, after, told

    before, after, told = asyncio.run(lossy())
    assert before == after, told
