"""A Shoal is backed up, purged from the machine, restored from the file, and serves again."""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from pathlib import Path

import msgspec
import pytest

from shoal import system
from shoal.controller.backup import sealed
from shoal.controller.backup.contents import Contents
from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench
from shoal.shell.backup import main as backup
from tests.integration.private_shoal import launched

pytestmark = [pytest.mark.root, pytest.mark.beside, pytest.mark.timeout(120)]

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
        asyncio.run(called_back(bench))
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


async def called_back(bench: Bench) -> None:
    """A backup that opens, and that no controller starts with, is restored: what was there serves again, and says so."""
    hopeless = Contents(format=1, shoal="0", made_at=0.0, revision=1, files={}, records=[("/intent/pool/x", b"{")])
    data = sealed.seal(zlib.compress(msgspec.msgpack.encode(hopeless)), WORDS)
    async with Api(bench.url, PASSWORD) as api:
        await restored(bench, api, data, "failed-restore-*")
    async with Api(bench.url, PASSWORD) as api:
        assert len(await told(api, "SYSTEM_RESTORE_FAILED")) == 1


async def restored(bench: Bench, api: Api, data: bytes, left: str) -> None:
    """By the running controller, until it answers anew."""
    await api.post("configuration/restore", {"backup": base64.b64encode(data).decode(), "passphrase": WORDS})
    directory = bench.options.data_dir
    async with asyncio.timeout(ANEW_WITHIN_S):
        while not (any(directory.glob(left)) and system.status_of(directory)["ready"]):
            await asyncio.sleep(0.2)


async def told(api: Api, event: str) -> list[str]:
    events = (await api.get(f"analytics/logs?type=2&filter=eq(event_id,{event})"))["results"]
    return [one["event_description"] for one in events]


async def taken_back(bench: Bench, data: bytes) -> None:
    """A virtual service is deleted; the running controller is asked to restore, and begins anew with what was."""
    async with Api(bench.url, PASSWORD) as api:
        (service,) = (await api.get("virtualservice"))["results"]
        await api.call("DELETE", f"virtualservice/{service['uuid']}")
        await restored(bench, api, data, "before-restore-*")
    async with Api(bench.url, PASSWORD) as api:
        assert len(await told(api, "SYSTEM_RESTORED")) == 1


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
