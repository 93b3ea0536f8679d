"""The quick form of `shoal certify`: changes, reloads, scaling, migrations and an engine upgrade drop nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shoal.clouds.addressing import Addressing
from shoal.lab import certify
from tests.integration.private_host import NETNS, private_host

pytestmark = [pytest.mark.root, pytest.mark.beside, pytest.mark.timeout(400)]

SEED = 20
"""Others are tried by hand, and by the full run."""


def test_changes_under_load_drop_nothing(tmp_path: Path) -> None:
    file, data = tmp_path / "result.json", tmp_path / "data"
    with private_host():
        status = certify.main(quick=True, as_json=False, data_dir=data, seed=SEED, output=file)
    left = [path.name for path in NETNS.iterdir() if path.name.startswith(Addressing.of(data).prefix)]
    result = msgspec.json.decode(file.read_bytes(), type=certify.Result)
    assert (result.failed, result.failures, result.idle_closes, result.idle) == (0, [], 0, [])
    assert result.passed, result.verdict
    assert status == 0
    assert not left, f"namespaces left behind: {left}"
    servers = {way for kind, ways in result.kinds.items() if kind.startswith("server_") for way in ways}
    assert "runtime" in servers
    assert all(count.done for count in result.load.values()), result.load
