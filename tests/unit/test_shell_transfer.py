"""`shoal export` and `shoal import` as people run them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.shell.transfer import export_main, import_main
from tests.api_served import Controller
from tests.api_world import PASSWORD, controlled_world
from tests.unit.test_transfer import KEY, avi_export


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("SHOAL_PASSWORD", PASSWORD)
    with Controller(tmp_path, controlled_world) as controller:
        monkeypatch.setenv("SHOAL_CONTROLLER", f"https://127.0.0.1:{controller.port}")
        yield f"https://127.0.0.1:{controller.port}"


def test_a_file_is_shown_then_taken_over_then_exported(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "avi.json"
    given.write_text(json.dumps(avi_export()))
    assert import_main([str(given)]) == 3
    shown = capsys.readouterr().out
    for words in (
        "| VirtualService",
        "Pool odd-pool (pool_ref), which is not taken over",
        "waf_policy_ref: WafPolicy strict is not taken over",
        "10.9.0.7: on new engine 1",
        "Default-Group (1 VIPs): may lose",
        "Nothing was written.",
    ):
        assert words in shown, shown
    assert import_main([str(given), "--apply", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["applied"]
    monkeypatch.setenv("SHOAL_PASSPHRASE", "a long enough one")
    out = tmp_path / "out.json"
    assert export_main([str(out), "--secrets"]) == 0
    assert "objects in" in capsys.readouterr().out
    assert out.stat().st_mode & 0o777 == 0o600
    assert KEY.splitlines()[1] not in out.read_text()
    assert import_main([str(out), "--secrets", "--all"]) == 0
    assert "0 would be created, 0 replaced" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[1]", "no json", '{"Pool": [1]}'])
def test_a_file_that_is_none_is_refused_in_words(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    file = tmp_path / "wrong.json"
    file.write_text(text)
    assert import_main([str(file)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("Error:") and "Traceback" not in told


def test_a_place_that_can_not_be_written_is_told(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert export_main(["/nowhere/at/all.json"]) == 1
    assert "can't be written" in capsys.readouterr().err
