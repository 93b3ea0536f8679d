"""The agent's end of the socket to its guard."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shoal.engine import guard_link
from shoal.engine.guard_link import GuardLink
from shoal.wire.guard import GuardStart


class Ended:
    """A guard that ends at once."""

    def poll(self) -> int:
        return 1


async def test_an_agent_that_stops_starts_no_guard_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would end it, and it would start the agent again."""
    launched: list[Any] = []

    def popen(*command: Any, **_: Any) -> Ended:
        launched.append(command)
        return Ended()

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(guard_link, "RESTART_AFTER_S", 0.0)
    start = GuardStart(
        engine="e", rank=1, directory=str(tmp_path), interface="eth0", address="10.0.0.1", haproxy_socket=""
    )
    link = GuardLink(start, lambda changed: None, lambda report: None, lambda heard: None)
    async with asyncio.timeout(5):
        running = asyncio.create_task(link.run())
        while len(launched) < 2:
            await asyncio.sleep(0)
        await link.stop()
        count = len(launched)
        await running
    assert len(launched) == count
