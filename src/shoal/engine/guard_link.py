"""The agent's side of the guard: start or adopt it, tell it the desired ownership, hear what it took."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

from shoal.wire.guard import Changed, Desired, FromGuard, GuardStart, Heard, Report, Stop, ToGuard, Unready
from shoal.wire.messages import Shares

log = logging.getLogger("shoal.guard_link")

CONNECT_RETRY_S = 0.01
RESTART_AFTER_S = 2.0
LINE_BYTES_MAX = 4 * 1024 * 1024
STOP_WITHIN_S = 2.0
DONE_WITHIN_S = 3.0


class GuardLink:
    """The functions are called on the loop."""

    def __init__(
        self,
        start: GuardStart,
        on_changed: Callable[[Changed], None],
        on_report: Callable[[Report], None],
        on_heard: Callable[[Heard], None],
    ) -> None:
        self._start = start
        self._directory = Path(start.directory)
        self._on_changed = on_changed
        self._on_report = on_report
        self._on_heard = on_heard
        self._desired: Desired | None = None
        self._done = asyncio.Event()
        self.shares = Shares({})
        """What was told last."""
        self._unready = Unready(())
        self._writer: asyncio.StreamWriter | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._decoder = msgspec.json.Decoder(FromGuard)

    async def want(self, desired: Desired) -> None:
        """Tell the guard now, and again whenever it is connected anew; returns when it has done what it was told.

        Raises TimeoutError after `DONE_WITHIN_S`: whether it was done is not known then.
        """
        self._desired = msgspec.structs.replace(desired, turn=uuid.uuid4().hex)
        self._done.clear()
        self._tell(self._desired)
        try:
            async with asyncio.timeout(DONE_WITHIN_S):
                await self._done.wait()
        except TimeoutError:
            raise TimeoutError(f"the guard has not answered within {DONE_WITHIN_S:g} s; see guard.log") from None

    def share(self, shares: Shares) -> None:
        """Tell the guard now, and again whenever it is connected anew."""
        self.shares = shares
        self._tell(shares)

    def unready(self, vips: tuple[str, ...]) -> None:
        """Tell the guard now, if that is news, and again whenever it is connected anew."""
        if vips != self._unready.vips:
            self._unready = Unready(vips)
            self._tell(self._unready)

    def _tell(self, message: ToGuard) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(message) + b"\n")

    @property
    def pid(self) -> int:
        """The guard's, by the kernel's word; 0 while there is no connection."""
        found = self._writer.get_extra_info("socket") if self._writer is not None else None
        if found is None:
            return 0
        pid, _, _ = struct.unpack("3i", found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        return int(pid)

    async def run(self) -> None:
        """Keep the guard running and listen to it, until cancelled or `stop`."""
        while not self._stopping.is_set():
            try:
                await self._session()
            except (OSError, ValueError, asyncio.IncompleteReadError) as error:
                if self._stopping.is_set():
                    break
                log.warning("the guard's socket: %s", error)
                await asyncio.sleep(CONNECT_RETRY_S)
        self._ended.set()

    async def _session(self) -> None:
        reader, writer = await self._connect()
        self._writer = writer
        try:
            if self._unready.vips:
                self._tell(self._unready)
            if self._desired is not None:
                self._tell(self._desired)
            if self.shares.vips:
                self._tell(self.shares)
            while line := await reader.readline():
                message = self._decoder.decode(line)
                match message:
                    case Changed():
                        self._on_changed(message)
                    case Heard():
                        self._on_heard(message)
                    case Report():
                        self._on_report(message)
                        if self._desired is not None and message.told == self._desired.turn:
                            self._done.set()
        finally:
            self._writer = None
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Adopt the guard that runs, or start one; OSError once this stops: what it started then, nobody would end, and it
        would start the agent again."""
        loop = asyncio.get_running_loop()
        started = 0.0
        while True:
            try:
                return await asyncio.open_unix_connection(str(self._directory / "guard.sock"), limit=LINE_BYTES_MAX)
            except OSError:
                if self._stopping.is_set():
                    raise
                ended = self._child is not None and self._child.poll() is not None
                if not started or (ended and loop.time() - started > RESTART_AFTER_S):
                    self._launch()
                    started = loop.time()
                await asyncio.sleep(CONNECT_RETRY_S)

    def _launch(self) -> None:
        file = self._directory / "guard.json"
        file.write_bytes(msgspec.json.encode(self._start))
        with (self._directory / "guard.out").open("ab") as out:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "shoal.engine.guard", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    async def stop(self) -> None:
        """Have it resign every VIP and end. A guard that does not is killed: its kernel leases end by themselves."""
        self._stopping.set()
        if self._writer is not None:
            self._tell(Stop())
            try:
                async with asyncio.timeout(STOP_WITHIN_S):
                    await self._ended.wait()
            except TimeoutError:
                log.warning("the guard did not end within %g s", STOP_WITHIN_S)
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
