"""`shoal up --detach` of a controller that does not become ready: one that has ended, and one that is only slow."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shoal import system
from shoal.errors import NotReady


@pytest.mark.parametrize(
    ("script", "told", "hint"),
    [
        ("echo no room; exit 1", "It did not start: no room", "up.out"),
        ("echo starting: store; exec sleep 60", "goes on starting: starting: store", "shoal status says when it is"),
    ],
)
def test_what_is_said_is_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str, hint: str) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(system, "READY_WITHIN_S", 1.0)
    children: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(system, "_detached", children)
    with pytest.raises(NotReady, match=told) as refused:
        system.launch(system.Options.parse(tmp_path / "data", "127.0.0.1:1"), None)
    assert hint in refused.value.hint
    (child,) = children
    if child.poll() is None:
        child.send_signal(signal.SIGKILL)
    child.wait()
