"""The BIRD process of an engine: runs while there is somebody to speak with, outlives the agent, is adopted by the next."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from shoal.wire.desired import Bgp, BgpPeer, Vip
from shoal.wire.messages import BgpPeerState

from . import control
from .config import Place, config, sessions

log = logging.getLogger("shoal.bgp")

CAPABILITIES = ("net_bind_service", "net_admin", "net_raw", "dac_read_search")
CONFINED = ("setpriv", f"--bounding-set=-all,+{',+'.join(CAPABILITIES)}", "--inh-caps=-all", "--no-new-privs")
NICENESS = -10
"""BFD's packets must leave in time on a busy machine, too."""
POLL_S = 1.0
SETTLE_POLL_S = 0.05
SETTLED_WITHIN_S = 5.0
"""After its start BIRD gets so long to reach its routers before the engine says that it serves what it announces."""
STARTED_WITHIN_S = 2.0
ENDED_WITHIN_S = 2.0
FOLLOWED_WITHIN_S = 0.5
"""So long whoever takes a VIP over gets to announce it before this engine's routes go."""
WITHDRAWN_WITHIN_S = 0.5
"""So long routers get to hear of the end of a session, and to act on it, before HAProxy closes."""
LOG_BYTES_MAX = 1_000_000
ESTABLISHED = "Established"


class Speaker:
    """``home``: for the file with secrets and the socket; ``logs``: for the log."""

    def __init__(self, secrets: Path, sockets: Path, logs: Path) -> None:
        self._config_file = secrets / "bird.conf"
        self._pid_file = sockets / "bird.pid"
        self._socket = str(sockets / "bird.ctl")
        self._log_file = logs / "bird.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._sessions: dict[str, tuple[Bgp, BgpPeer]] = {}
        self._config = ""
        self._born = 0.0
        self._turn = asyncio.Lock()
        self.problem = ""
        """Why BGP does not do what is wanted; "" while it does."""
        self.peers: tuple[BgpPeerState, ...] = ()
        """As last looked at."""

    async def apply(self, bgps: Sequence[Bgp], vips: Sequence[Vip], place: Place) -> dict[str, str]:
        """Speak with exactly these. By part id, why it can't be done: then BIRD goes on as before. Never raises."""
        async with self._turn:
            self.problem = ""
            if not any(bgp.peers for bgp in bgps):
                self._sessions, self._config, self.peers = {}, "", ()
                await self._end()
                return {}
            try:
                text = config(bgps, vips, place)
                self._sessions = sessions(bgps, place)
                if text != self._config or not self._pid():
                    await self._run(text)
            except (OSError, ValueError) as error:
                self.problem = f"BGP is not as configured: {error}."
                log.error("%s", self.problem)
                return {f"bgp/{bgp.id}": self.problem for bgp in bgps}
            return {}

    async def settled(self) -> None:
        """Until every router is reached that VIPs are announced to, or BIRD has had its time for that."""
        while self._sessions and not self.problem and time.monotonic() < self._born + SETTLED_WITHIN_S:
            await self._look()
            if all(peer.state == ESTABLISHED for peer in self.peers):
                return
            await asyncio.sleep(SETTLE_POLL_S)

    async def run(self) -> None:
        """Keep it running and look at it, until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            if not self._sessions:
                continue
            async with self._turn:
                if self._config and not self._pid():
                    log.warning("BIRD has ended; starting it again")
                    with contextlib.suppress(OSError):
                        await self._start()
            await self._look()

    async def stop(self) -> None:
        """Take leave of the routers, and give them time to act on it."""
        if self._pid():
            await asyncio.sleep(FOLLOWED_WITHIN_S)
            await self._end()
            await asyncio.sleep(WITHDRAWN_WITHIN_S)

    # --- the process ---

    async def _run(self, text: str) -> None:
        before = self._config_file.read_text() if self._config_file.exists() else ""
        _write(self._config_file, text)
        if not self._pid():
            await self._start()
        elif text != before:
            try:
                await control.ask(self._socket, "configure")
            except control.Refused:
                _write(self._config_file, before)
                raise
        self._config = text

    async def _start(self) -> None:
        if self._log_file.exists() and self._log_file.stat().st_size > LOG_BYTES_MAX:
            os.truncate(self._log_file, 0)
        command = ["bird", "-f", "-c", str(self._config_file), "-s", self._socket, "-P", str(self._pid_file)]
        with self._log_file.open("ab") as out:
            began = out.tell()
            self._child = subprocess.Popen(
                [*CONFINED, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                cwd="/",
                env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
            )
        self._born = time.monotonic()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._child.pid, NICENESS)
        while time.monotonic() < self._born + STARTED_WITHIN_S:
            if self._child.poll() is not None:
                with self._log_file.open("rb") as said:
                    said.seek(began)
                    words = said.read().decode(errors="replace").strip().splitlines()
                why = words[-1] if words else "it said nothing"
                hint = " (is Debian's package bird2 installed?)" if "bird" in why and "No such file" in why else ""
                raise ChildProcessError(f"BIRD does not start: {why}{hint}")
            with contextlib.suppress(OSError, TimeoutError):
                await control.ask(self._socket, "show status")
                return
            await asyncio.sleep(0.01)
        raise TimeoutError(f"BIRD does not answer within {STARTED_WITHIN_S:g} s; see {self._log_file.name}")

    async def _end(self) -> None:
        pid = self._pid()
        if not pid:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            end = time.monotonic() + ENDED_WITHIN_S
            while self._pid() and time.monotonic() < end:
                await asyncio.sleep(0.01)
        if self._child is not None:
            self._child.poll()

    def _pid(self) -> int:
        """Of the BIRD that runs with this engine's file, whoever started it; 0 if none does."""
        if self._child is not None:
            if self._child.poll() is None:
                return self._child.pid
            self._child = None
        try:
            pid = int(self._pid_file.read_text())
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return 0
        return pid if str(self._config_file).encode() in arguments and arguments[0].endswith(b"bird") else 0

    async def _look(self) -> None:
        try:
            protocols = await control.ask(self._socket, "show protocols all")
            bfd = await control.ask(self._socket, "show bfd sessions")
        except (OSError, TimeoutError):
            self.peers = control.peer_states([], [], self._sessions)
        else:
            self.peers = control.peer_states(protocols, bfd, self._sessions)


def _write(path: Path, text: str) -> None:
    """Secrets of routers are in it."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)
