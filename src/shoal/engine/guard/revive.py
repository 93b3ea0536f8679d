"""Starts the agent again when it has died: agent and guard watch each other, so that no one death needs a helper."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

from shoal.engine.guard.loop import Loop, Timer

log = logging.getLogger("shoal.guard.revive")

ABSENCE_S_MAX = 0.5
"""An agent that was there once may be away for so long (it may be connecting anew)."""
FIRST_S_MAX = 2.0
"""So long may the one that started this guard take to connect."""
AGAIN_S = (2.0, 30.0)
"""Least and most time between two starts; doubled each time the agent does not come."""


class Revive:
    """``present()`` tells whether an agent is connected. Call `look` at the start and on each change."""

    def __init__(self, loop: Loop, command: tuple[str, ...], log_file: Path, present: Callable[[], bool]) -> None:
        self._loop, self._command, self._log_file, self._present = loop, command, log_file, present
        self._child: subprocess.Popen[bytes] | None = None
        self._timer: Timer | None = None
        self._wait_s = AGAIN_S[0]

    def look(self, absence_s_max: float = ABSENCE_S_MAX) -> None:
        if self._present():
            self._wait_s = AGAIN_S[0]
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._command and self._timer is None:
            self._timer = self._loop.at(self._loop.now() + absence_s_max, self._start)

    def stop(self) -> None:
        self._command = ()

    def _start(self) -> None:
        self._timer = None
        if self._present() or not self._command:
            return
        if self._child is not None and self._child.poll() is None:
            self._child.kill()  # it runs and does not come
        log.warning("the agent is gone; starting it again")
        try:
            with self._log_file.open("ab") as out:
                self._child = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd="/"
                )
        except OSError as error:
            log.error("it can't be started: %s", error)
        self._timer = self._loop.at(self._loop.now() + self._wait_s, self._start)
        self._wait_s = min(2 * self._wait_s, AGAIN_S[1])
