"""The HAProxy process: started once in master-worker mode, reloaded without dropping a connection, adopted after an
agent's restart."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

from . import runtime
from .render import Facts, admin_socket

CONFIRM_WITHIN_S = 10.0
POLL_INTERVAL_S = 0.004


class Broken(Exception):
    """The configuration was refused; the text is HAProxy's."""


class Process:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._directory = Path(facts.directory)
        self._pid_file = self._directory / "haproxy.pid"
        self.config_file = self._directory / "haproxy.cfg"
        self._child: subprocess.Popen[bytes] | None = None
        self._master = 0
        self.worker = 0

    def running(self) -> bool:
        """Whether the master lives."""
        if self._child is not None:
            return self._child.poll() is None
        return self._master > 0 and _is_haproxy(self._master)

    def adopt(self) -> bool:
        """Take over an HAProxy that an earlier agent left serving."""
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            return False
        self._master = pid if _is_haproxy(pid) else 0
        return self._master > 0

    async def check(self, config: str) -> None:
        """Raises Broken with HAProxy's own words."""
        candidate = self._directory / "haproxy.cfg.candidate"
        candidate.write_text(config)
        checking = await asyncio.create_subprocess_exec(
            "haproxy", "-c", "-q", "-f", str(candidate), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output, _ = await checking.communicate()
        if checking.returncode != 0:
            raise Broken(_reason(output.decode(errors="replace")))

    def write(self, config: str) -> None:
        candidate = self._directory / "haproxy.cfg.new"
        candidate.write_text(config)
        candidate.chmod(0o600)
        candidate.replace(self.config_file)

    async def start(self, config: str) -> None:
        """Start it and wait until it answers. Raises Broken if it ends instead."""
        self.write(config)
        with (self._directory / "haproxy.log").open("ab") as log:
            self._child = subprocess.Popen(
                ["haproxy", "-W", "-db", "-f", str(self.config_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._master = self._child.pid
        self._pid_file.write_text(str(self._master))
        await self._confirm(0)

    async def reload(self, config: str) -> None:
        """A new worker takes the listeners over; the old one finishes what it has."""
        before = self.worker or await self._worker_or_none()
        self.write(config)
        os.kill(self._master, signal.SIGUSR2)
        await self._confirm(before)

    async def _worker_or_none(self) -> int:
        try:
            return await runtime.worker_pid(admin_socket(self._facts))
        except runtime.RuntimeFailure:
            return 0

    async def _confirm(self, before: int) -> None:
        """A worker with another pid answers (the master's own answer to a reload is empty in 2.6)."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CONFIRM_WITHIN_S
        while loop.time() < deadline:
            pid = await self._worker_or_none()
            if pid and pid != before:
                self.worker = pid
                return
            if not self.running():
                raise Broken("HAProxy ended right after its start; see haproxy.log")
            await asyncio.sleep(POLL_INTERVAL_S)
        raise Broken(f"no new HAProxy worker answered within {CONFIRM_WITHIN_S:.0f} s")

    def stop(self) -> None:
        """Softly: listeners close, connections end by themselves."""
        if self.running():
            os.kill(self._master, signal.SIGTERM)


def _is_haproxy(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "haproxy"
    except OSError:
        return False


def _reason(output: str) -> str:
    """The first alert, without the file's path and the process's."""
    for line in output.splitlines():
        if "[ALERT]" in line:
            return line.split(" : ", 1)[-1].split("]: ", 1)[-1].split("haproxy.cfg.candidate:")[-1].strip()[:300]
    return output.strip()[:300] or "refused without a reason"
