"""The controller's disk is full: what serves goes on, what is asked for is refused with the reason, and nothing is lost."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal import system
from shoal.errors import ShoalError
from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.private_shoal import prepared

pytestmark = [pytest.mark.root, pytest.mark.beside, pytest.mark.timeout(120)]

MODE = "HA_MODE_SHARED"
DISK = "96m"
PROBE_S = 2.5
OUTAGE_MS_MAX = 500.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "shoal-test", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(file: Path) -> None:
    """To the last byte."""
    with file.open("wb", buffering=0) as out, pytest.raises(OSError, match="No space left"):
        for piece in (1 << 20, 4096):
            while True:
                try:
                    out.write(bytes(piece))
                except OSError:
                    if piece == 4096:
                        raise
                    break


def running(bench: Bench) -> int:
    found = system.found(bench.options.data_dir)
    assert found is not None, "no controller runs"
    return found.pid


def test_a_full_disk_stops_changes_and_nothing_else(disk: Path) -> None:
    with prepared(disk, modes=(MODE,)) as bench:
        asyncio.run(story(bench, disk / "ballast"))


async def story(bench: Bench, ballast: Path) -> None:
    service, pid = bench.services[MODE], running(bench)
    async with Api(bench.url, PASSWORD) as api, Lab(bench.options.data_dir) as lab:
        owner = (await api.placed(service["uuid"], 1))["answers"]
        fill(ballast)
        with pytest.raises(ShoalError, match=r"full.*Free space"):
            await api.post("pool", {"name": "more"})
        probing = asyncio.create_task(lab.probe("client", service["address"], 80, PROBE_S))
        await asyncio.sleep(0.5)
        lab.kill(owner)
        probed = await probing
        assert probed.failed() and probed.outage_ms() <= OUTAGE_MS_MAX, "its successor takes over by itself"
        await asyncio.sleep(2.0)
        cluster = (await api.get("cluster/runtime"))["cluster_state"]
        assert cluster["state"] == "CLUSTER_UP_NO_HA" and "has taken no changes since" in cluster["reason"]
        assert "shoal.db" not in cluster["reason"]
        assert (await api.get("pool?name=more"))["count"] == 0

        ballast.unlink()

        async def whole() -> bool:
            placement = await api.placement(service["uuid"])
            ready = [p for p in placement["placements"] if p["state"] == "ready"]
            return bool(placement["armed"] and placement["answers"] not in ("", owner) and len(ready) == 1)

        await api.until("all that waited is done", whole, 30.0)
        await api.post("pool", {"name": "more"})
        assert "reason" not in (await api.get("cluster/runtime"))["cluster_state"]
        names = ("STORE_UNAVAILABLE", "STORE_AVAILABLE")
        told = {name: (await api.get(f"analytics/logs?type=2&filter=eq(event_id,{name})"))["results"] for name in names}
        assert all(len(events) == 1 for events in told.values()), told
        assert "shoal.db" in told["STORE_UNAVAILABLE"][0]["event_description"]
        assert not (await lab.probe("client", service["address"], 80, 1.0)).failed()
    assert running(bench) == pid, "the controller has started anew"
    fill(ballast)
    bench.kill_controller()
    await asyncio.to_thread(bench.launch)
    async with Api(bench.url, PASSWORD) as api:
        await api.placed(service["uuid"], 1)
        with pytest.raises(ShoalError, match=r"full.*Free space"):
            await api.post("pool", {"name": "another"})
        ballast.unlink()
        await api.post("pool", {"name": "another"})
