"""A Shoal is backed up, purged from the machine, restored from the file, and serves again."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest

from shoal import system
from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench
from shoal.shell.backup import main as backup
from tests.integration.private_shoal import launched

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

WORDS = "a long enough one"
PROBE_S = 1.0
ANEW_WITHIN_S = 40.0


def test_a_purged_shoal_serves_again_from_its_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHOAL_PASSWORD", PASSWORD)
    monkeypatch.setenv("SHOAL_PASSPHRASE", WORDS)
    file = tmp_path / "all.shoalbackup"
    with launched(tmp_path) as bench:
        service = asyncio.run(made(bench))
        assert backup(["--controller", bench.url, str(file), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"file": str(file), "bytes": file.stat().st_size}
        bench.stop()
        assert not bench.options.data_dir.exists()
        system.restore(file, WORDS, bench.options.data_dir)
        bench.launch()
        asyncio.run(serves(bench, service))
        asyncio.run(taken_back(bench, file.read_bytes()))
        asyncio.run(serves(bench, service))


async def made(bench: Bench) -> dict[str, str]:
    async with Api(bench.url, PASSWORD) as api, Lab(bench.options.data_dir) as lab:
        await bench.prepare(lab, api, ("HA_MODE_SHARED",))
        service = bench.services["HA_MODE_SHARED"]
        probed = await lab.probe("client", service["address"], 80, PROBE_S)
        assert not probed.failed()
        return service


async def taken_back(bench: Bench, data: bytes) -> None:
    """A virtual service is deleted; the running controller is asked to restore, and begins anew with what was."""
    async with Api(bench.url, PASSWORD) as api:
        (service,) = (await api.get("virtualservice"))["results"]
        await api.call("DELETE", f"virtualservice/{service['uuid']}")
        body = {"backup": base64.b64encode(data).decode(), "passphrase": WORDS}
        told = await api.post("configuration/restore", body)
    async with asyncio.timeout(ANEW_WITHIN_S):
        while not (Path(told["before"]).exists() and system.status_of(bench.options.data_dir)["ready"]):
            await asyncio.sleep(0.2)
    async with Api(bench.url, PASSWORD) as api:
        events = (await api.get("analytics/logs?type=2&filter=eq(event_id,SYSTEM_RESTORED)"))["results"]
        assert len(events) == 1 and told["before"] in events[0]["event_description"]


async def serves(bench: Bench, service: dict[str, str]) -> None:
    """By the backends of the same addresses, with the password of then."""
    async with Api(bench.url, PASSWORD) as api, Lab(bench.options.data_dir) as lab:
        for number in (1, 2, 3):
            await lab.backend(f"web{number}")
        await lab.node("client")
        await api.placed(service["uuid"], 1)
        await asyncio.sleep(1.0)  # servers that were down are asked again
        probed = await lab.probe("client", service["address"], 80, PROBE_S)
        assert probed.starts and not probed.failed()
