"""`shoal status`: engines are engines, and every namespace of ours is named."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shoal import system
from shoal.clouds import fabric as fabrics
from shoal.clouds.addressing import Addressing
from shoal.clouds.namespaces import RECORD, Record


def test_status_tells_engines_from_the_labs_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Addressing.of(tmp_path)
    for name in ("Avi-se-one", "lab-se-two", "gone"):
        record = Record(id=name, name=name, host="host-1", index=1, address="", mac="")
        file = tmp_path / "engines" / name / RECORD
        file.parent.mkdir(parents=True)
        file.write_bytes(msgspec.json.encode(record))
    engines = ["Avi-se-one", "lab-se-two"]
    there = [*map(names.namespace, engines), names.namespace("lab-client"), names.fabric, "shoal-of-others"]
    (tmp_path / "netns").mkdir()
    for name in there:
        (tmp_path / "netns" / name).touch()
    monkeypatch.setattr(fabrics, "NETNS", tmp_path / "netns")
    kept = {"subnet": names.subnet, "vip_network": names.vip_network}
    (tmp_path / "fabric.json").write_bytes(msgspec.json.encode(kept))
    found = system.status_of(tmp_path)
    assert found["engines"] == engines
    assert found["namespaces"] == [*sorted(there[:3]), names.fabric]
    assert (found["ready"], found["state"]) == (False, "DOWN")
