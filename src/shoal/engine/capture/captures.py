"""The agent's side of packet capture: one child process per capture, its chunks passed on as far as they are granted."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable

import msgspec

from shoal.errors import ShoalError
from shoal.wire.capture import CHUNK_BYTES, SNAP_BYTES_MAX, Captured, CaptureMore, CaptureStart, CaptureStop

log = logging.getLogger("shoal.capture")

CAPTURES_AT_ONCE_MAX = 4
FRAME_BYTES_MAX = 2 * (CHUNK_BYTES + SNAP_BYTES_MAX)
END_WITHIN_S = 2.0
"""A child that was told to stop gets this long to hand over what it has."""

Send = Callable[[Captured], Awaitable[None]]


class Captures:
    """``command`` is the child's, for tests."""

    def __init__(self, interface: str, command: tuple[str, ...] = ()) -> None:
        self._command = command or (sys.executable, "-m", "shoal.engine.capture.child", interface)
        self._running: dict[str, Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, asked: CaptureStart | CaptureMore | CaptureStop, send: Send) -> None:
        """``send`` brings a message to the controller that asked."""
        match asked:
            case CaptureStart():
                self._start(asked, send)
            case CaptureMore(id=id, chunks=chunks) if id in self._running:
                self._running[id].grant(chunks)
            case CaptureStop(id=id) if id in self._running:
                self._running[id].stop()

    async def end(self) -> None:
        """All of them, at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, asked: CaptureStart, send: Send) -> None:
        if len(self._running) >= CAPTURES_AT_ONCE_MAX or asked.id in self._running:
            refused = Captured(id=asked.id, ended=f"refused: {len(self._running)} captures run on this engine")
            self._spawn(_tell(refused, send))
            return
        running = self._running[asked.id] = Running(asked, send, self._command)
        self._spawn(self._run(running)).add_done_callback(lambda _: self._running.pop(asked.id, None))

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, running: Running) -> None:
        try:
            await running.run()
        except (OSError, ValueError, asyncio.IncompleteReadError, ShoalError) as error:
            log.warning("capture %s: %s", running.id, error)
            await _tell(Captured(id=running.id, ended=f"failed: {error}"), running.send)


async def _tell(message: Captured, send: Send) -> None:
    try:
        await send(message)
    except (OSError, ShoalError) as error:
        log.info("capture %s: nobody takes its end: %s", message.id, error)


class Running:
    def __init__(self, asked: CaptureStart, send: Send, command: tuple[str, ...]) -> None:
        self.id = asked.id
        self.send = send
        self._asked = asked
        self._command = command
        self._granted = asyncio.Semaphore(asked.chunks)
        self._stopped = asyncio.Event()

    def grant(self, chunks: int) -> None:
        for _ in range(chunks):
            self._granted.release()

    def stop(self) -> None:
        self._stopped.set()
        self.grant(1)  # whoever waits for a grant

    async def run(self) -> None:
        """Until the child has said why it ended. Raises OSError, IncompleteReadError when it died, ShoalError when the
        link did; the child is gone then, too."""
        pipe = subprocess.PIPE
        child = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, start_new_session=True)
        assert child.stdin is not None and child.stdout is not None
        out = asyncio.StreamReader()
        stopping = asyncio.create_task(self._stop(child))
        transport: asyncio.ReadTransport | None = None
        try:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(out), child.stdout
            )
            body = msgspec.msgpack.encode(self._asked)
            child.stdin.write(len(body).to_bytes(4, "big") + body)  # a new pipe has room for it
            child.stdin.flush()
            while not (message := await self._read(out)).ended:
                await self.send(message)
            await self.send(message)
        finally:
            stopping.cancel()
            child.kill()
            for end in (transport, child.stdin, child.stdout):
                if end is not None:
                    end.close()
            await asyncio.to_thread(child.wait)

    async def _read(self, out: asyncio.StreamReader) -> Captured:
        """The next chunk, as soon as one more is granted; after the stop what is left needs no grant."""
        if not self._stopped.is_set():
            await self._granted.acquire()
        size = int.from_bytes(await out.readexactly(4), "big")
        if size > FRAME_BYTES_MAX:
            raise ValueError(f"a chunk of {size} bytes")
        return msgspec.msgpack.decode(await out.readexactly(size), type=Captured)

    async def _stop(self, child: subprocess.Popen[bytes]) -> None:
        await self._stopped.wait()
        assert child.stdin is not None
        child.stdin.close()
        await asyncio.sleep(END_WITHIN_S)
        child.kill()
