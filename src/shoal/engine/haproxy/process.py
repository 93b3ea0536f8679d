"""The HAProxy process: started once in master-worker mode, reloaded without dropping a connection, adopted after an
agent's restart."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from . import carry, runtime
from .render import Facts, admin_socket, chroot_folder, state_file

log = logging.getLogger("shoal.haproxy")

CONFIRM_WITHIN_S = 10.0
POLL_INTERVAL_S = 0.004
LISTENING_WITHIN_S = 1.0
GIVEN_UP = "Loading failure!"
"""The last word of a master whose reload has failed."""
GIVEN_UP_WITHIN_S = 1.0
RELOAD_DEFERRED_MAX_S = 30.0
"""How long reloads wait for room among the old workers; then the oldest one is ended, with what it still has."""
SOFT_STOP_WITHIN_S = 1.0
"""After it, connections that are still open are cut."""
ALERT_CHARACTERS_MAX = 300
LOG_BYTES_MAX = 4_000_000
"""HAProxy tells of servers going up and down; beyond this the file is begun anew."""
CAPABILITIES = ("net_bind_service", "setuid", "setgid", "sys_chroot", "kill", "dac_read_search")
"""All that the master may do beyond others: open low ports, give its workers another user and root directory, and end
them. The last one finds the files below a directory that is not root's. Workers, which talk to clients, have none."""
CONFINED = ("setpriv", f"--bounding-set=-all,+{',+'.join(CAPABILITIES)}", "--inh-caps=-all", "--no-new-privs")
_START_FAILURE = re.compile(r"\bconfig : |\bBinding |\bcan(no|')t |\[haproxy\.main\(\)\]", re.IGNORECASE)


class Broken(Exception):
    """The configuration was refused; the text is HAProxy's."""


class Crowded(Exception):
    """As many old workers as may be still have connections: a reload has to wait. Nothing was changed."""


class Record(msgspec.Struct):
    """``haproxy.json``: what an earlier agent left running. ``digest`` is of the file the worker runs."""

    pid: int
    digest: str


class Process:
    """One owner at a time; `ended` may be awaited beside it."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._directory = Path(facts.directory)
        self._record_file = self._directory / "haproxy.json"
        self.config_file = self._directory / "haproxy.cfg"
        self.log_file = self._directory / "haproxy.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._digest = ""
        self.master = 0
        self.worker = 0
        self._crowded_since = 0.0
        self._master_born = 0
        """When an adopted master was started. Its command line can't tell: it is empty while a reload runs the master
        anew, and a master taken for dead then would leave a change half made."""
        self.begun = asyncio.Event()
        """Set while there is a master to watch."""

    def running(self) -> bool:
        """Whether the master lives."""
        if self._child is not None:
            return self._child.poll() is None
        return self.master > 0 and _born(self.master) == self._master_born

    async def adopt(self) -> bool:
        """Take over an HAProxy that an earlier agent left serving; False when there is none."""
        try:
            record = msgspec.json.decode(self._record_file.read_bytes(), type=Record)
        except (OSError, ValueError):
            return False
        if not self._is_ours(record.pid):
            return False
        worker = await self._worker_or_none()
        if not worker:
            os.kill(record.pid, signal.SIGKILL)  # a master whose worker does not answer serves no one
            return False
        self.master, self.worker, self._digest = record.pid, worker, record.digest
        self._master_born = _born(record.pid)
        self.begun.set()
        return True

    def runs(self, config: str) -> bool:
        """Whether that is the file the worker was confirmed to run (runtime changes included)."""
        return self._digest == _digest(config)

    async def check(self, config: str) -> None:
        """Raises Broken with HAProxy's own words."""
        if not Path(state_file(self._facts)).exists():
            Path(state_file(self._facts)).write_text(carry.EMPTY)
        candidate = self._directory / "haproxy.cfg.candidate"
        _write(candidate, config)
        checking = await asyncio.create_subprocess_exec(
            "haproxy", "-c", "-f", str(candidate), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output, _ = await checking.communicate()
        if checking.returncode != 0:
            raise Broken(_reason(output.decode(errors="replace"), self._facts.directory))

    def write(self, config: str) -> None:
        """Make it the file of the next start or reload, where runtime commands have brought the worker already."""
        self._place(config)
        self._confirmed(config)

    def _place(self, config: str) -> None:
        fresh = self._directory / "haproxy.cfg.new"
        _write(fresh, config)
        fresh.replace(self.config_file)

    def _confirmed(self, config: str) -> None:
        self._digest = _digest(config)
        fresh = self._record_file.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(Record(self.master, self._digest)))
        fresh.replace(self._record_file)

    async def start(self, config: str) -> None:
        """Start it and wait until it answers. Raises Broken if it ends instead."""
        await self._end_orphan()
        Path(state_file(self._facts)).write_text(carry.EMPTY)
        self._place(config)
        logged = self._log_size()
        Path(chroot_folder(self._facts)).mkdir(mode=0o555, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._child = subprocess.Popen(
                [*CONFINED, "haproxy", "-W", "-db", "-f", str(self.config_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        self.master, self.worker = self._child.pid, 0
        try:
            await self._confirm(0, logged)
        except Broken:
            self._child.kill()  # it may be on its way out: the next start must not meet it
            await asyncio.to_thread(self._child.wait)
            raise
        self._confirmed(config)
        self.begun.set()

    def old_workers(self) -> list[int]:
        """Pids of the workers that only finish what they have, the oldest first."""
        try:
            children = Path(f"/proc/{self.master}/task/{self.master}/children").read_text().split()
        except OSError:
            return []
        return sorted((pid for pid in map(int, children) if pid != self.worker and self._is_ours(pid)), key=_born)

    def make_room(self) -> None:
        """For one more old worker. Raises Crowded while there is none.

        HAProxy's own ``mworker-max-reloads`` counts how many reloads a worker has seen, not how many workers live: it
        would cut a long download at the n-th change, however few old workers there are.
        """
        old = self.old_workers()
        if len(old) < self._facts.old_workers_max:
            self._crowded_since = 0.0
            return
        now = time.monotonic()
        self._crowded_since = self._crowded_since or now
        if now - self._crowded_since < RELOAD_DEFERRED_MAX_S:
            raise Crowded(f"{len(old)} old HAProxy workers still have connections.")
        self._crowded_since = 0.0
        log.warning("the oldest of %d old HAProxy workers is ended: reloads have waited long enough", len(old))
        with contextlib.suppress(ProcessLookupError):
            os.kill(old[0], signal.SIGTERM)

    async def reload(self, config: str) -> None:
        """A new worker takes the listeners over; the old one finishes what it has.

        Raises Broken when no new worker comes up; the old one then goes on serving.
        """
        before = self.worker or await self._worker_or_none()
        self._place(config)
        logged = self._log_size()
        await self._listening()
        os.kill(self.master, signal.SIGUSR2)
        try:
            await self._confirm(before, logged)
        except Broken:
            await self._given_up(logged)
            raise
        self._confirmed(config)

    async def _listening(self) -> None:
        """Until the master takes the signal for a reload: it ignores it for a moment after its worker answers."""
        deadline = time.monotonic() + LISTENING_WITHIN_S
        while not _catches(self.master, signal.SIGUSR2) and time.monotonic() < deadline:
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _given_up(self, logged: int) -> None:
        """Until a master that can't load its file has said so to the end: the rest must not be taken for what it says
        of the next one."""
        deadline = time.monotonic() + GIVEN_UP_WITHIN_S
        while GIVEN_UP not in self._said_since(logged) and time.monotonic() < deadline:
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _worker_or_none(self) -> int:
        try:
            return await runtime.worker_pid(admin_socket(self._facts))
        except runtime.RuntimeFailure:
            return 0

    async def _confirm(self, before: int, logged: int) -> None:
        """A worker with another pid answers (the master's own answer to a reload is empty in 2.6)."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CONFIRM_WITHIN_S
        while loop.time() < deadline:
            pid = await self._worker_or_none()
            if pid and pid != before:
                self.worker = pid
                return
            said = self._said_since(logged)
            if any(_alerts(said)):
                raise Broken(_reason(said, self._facts.directory))
            if not self.running():
                raise Broken("HAProxy ended right after its start and said nothing; see haproxy.log.")
            await asyncio.sleep(POLL_INTERVAL_S)
        raise Broken(f"no new HAProxy worker answered within {CONFIRM_WITHIN_S:.0f} s")

    async def _end_orphan(self) -> None:
        """A worker whose master was killed must not share the listeners with a new one."""
        worker = await self._worker_or_none()
        if worker and self._is_ours(worker):
            os.kill(worker, signal.SIGKILL)

    async def ended(self) -> None:
        """Until the master of the moment has ended; at once, by the kernel's word, not by asking again and again."""
        await self.begun.wait()
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        try:
            fd = os.pidfd_open(self.master)
        except OSError:  # it has ended already
            self.begun.clear()
            return
        loop.add_reader(fd, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(fd)
            os.close(fd)
        self.begun.clear()

    async def stop(self) -> None:
        """Listeners close at once; connections may end by themselves for a moment, then they are cut."""
        if not self.running():
            return
        os.kill(self.master, signal.SIGUSR1)
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                async with asyncio.timeout(SOFT_STOP_WITHIN_S):
                    await self.ended()
                return
            except TimeoutError:
                if self.running():
                    os.kill(self.master, number)

    # --- what the kernel and the log say ---

    def _is_ours(self, pid: int) -> bool:
        """An HAProxy with this engine's file; another process may have got the pid."""
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return b"haproxy" in arguments[0] and str(self.config_file).encode() in arguments

    def _log_size(self) -> int:
        size = self.log_file.stat().st_size if self.log_file.exists() else 0
        if size <= LOG_BYTES_MAX:
            return size
        os.truncate(self.log_file, 0)
        return 0

    def _said_since(self, size: int) -> str:
        with self.log_file.open("rb") as log:
            log.seek(size)
            return log.read().decode(errors="replace")


def _born(pid: int) -> int:
    """Its start, in clock ticks since boot; 0 for none that runs."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return 0 if after_name[0] == "Z" else int(after_name[19])
    except (OSError, IndexError):
        return 0


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal (proc(5), SigCgt)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


def _digest(config: str) -> str:
    return hashlib.blake2b(config.encode(), digest_size=16).hexdigest()


def _write(path: Path, config: str) -> None:
    path.touch(mode=0o600)
    path.write_text(config)


def _alerts(output: str) -> Iterator[str]:
    """Lines that say why HAProxy can't start; it also alerts of dead servers and ended workers."""
    return (line for line in output.splitlines() if "[ALERT]" in line and _START_FAILURE.search(line))


def _reason(output: str, directory: str) -> str:
    """The first alert, without the places in files that only the engine has."""
    for line in _alerts(output):
        text = line.split(" : ", 1)[-1].removeprefix("config : ").replace(f"{directory}/", "")
        return re.sub(r"^(parsing )?\[haproxy\.cfg[^]]*\] : ", "", text).strip()[:ALERT_CHARACTERS_MAX]
    return output.strip()[:ALERT_CHARACTERS_MAX] or "HAProxy refuses it without a reason."
