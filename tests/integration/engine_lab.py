"""One engine for tests: a real agent, guard and HAProxy in a namespace, a scripted controller over real mutual TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from shoal.controller.pki import Authority
from shoal.wire import messages
from shoal.wire.channel import Channel, Listener, serve
from shoal.wire.desired import (
    Interfaces,
    Manifest,
    Monitor,
    Part,
    PartReference,
    Pool,
    Server,
    Service,
    Settings,
    Timing,
    Vip,
    digest,
    encode_part,
    manifest,
)
from shoal.wire.desired import Listener as Port
from shoal.wire.engine_config import EngineConfig
from shoal.wire.networks import Networks
from shoal.wire.recorded import Recall, Recorded

ENGINE = "se-one"
ADDRESS = "10.88.0.2"
VIP = "10.88.0.100"
PATIENCE_S = 10.0
QUICK = (Monitor(name="quick", kind="HTTP", interval_s=1, timeout_s=1, rise=1, fall=1, request="GET /health HTTP/1.0"),)
Link = Channel[messages.FromEngine]
Message = TypeVar("Message", bound=msgspec.Struct)


class Backend:
    """An HTTP server that answers its name; `hold` is how long it thinks."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.port = name, port
        self.seen: list[str] = []
        self.thinks_s = 0.0
        self.hold = asyncio.Event()
        self.hold.set()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", self.port, backlog=1024)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._open:
                writer.transport.abort()
            self._server = None
            await asyncio.sleep(0)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        body = self.name.encode()
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if not head.startswith("GET /health"):
                    self.seen.append(head)
                    await self.hold.wait()
                    await asyncio.sleep(self.thinks_s)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            self._open.discard(writer)
            writer.close()


class ScriptedController:
    """Says what the test wants, keeps what the engine says."""

    def __init__(self) -> None:
        self.heard: list[messages.FromEngine] = []
        self._news = asyncio.Condition()
        self._link: Link | None = None
        self._listener: Listener | None = None
        self.port = 0
        self.wanted: dict[str, bytes] = {}
        self.send_inline = True

    async def start(self, authority: Authority) -> None:
        self._listener = await serve("127.0.0.1", self.port, authority.wire_server_context(), self._attend)
        self.port = self._listener.port

    async def stop(self) -> None:
        if self._listener is not None:
            await self._listener.close()
            self._listener = None

    async def _attend(self, link: Link) -> None:
        assert link.identity == f"shoal://engine/{ENGINE}"
        try:
            while True:
                message = await link.receive()
                if isinstance(message, messages.Hello):
                    await link.send(
                        messages.Welcome(wire_version=messages.WIRE_VERSION, controller="test", client_logs=True)
                    )
                    self._link = link
                elif isinstance(message, messages.Fetch):
                    await link.send(messages.Parts(tuple((id, self.wanted[id]) for id in message.ids)))
                async with self._news:
                    self.heard.append(message)
                    self._news.notify_all()
        finally:
            self._link = None

    def manifest(self) -> Manifest:
        return manifest(PartReference(id, digest(data)) for id, data in self.wanted.items())

    async def push(self, *parts: Part) -> messages.Applied:
        """Make these the desired state; the engine's acknowledgement."""
        since = len(self.heard)
        root = await self.say(*parts)
        return await self.hear(messages.Applied, lambda m: m.root == root, since=since)

    async def say(self, *parts: Part) -> str:
        """Make these the desired state, whose root is returned, and wait for nothing."""
        self.wanted = {part_id(part): encode_part(part) for part in parts}
        assert self._link is not None
        inline = tuple(self.wanted.items()) if self.send_inline else ()
        whole = self.manifest()
        await self._link.send(messages.State(manifest=whole, inline=inline))
        return whole.root

    async def recall(self, seconds: float) -> Recorded:
        """What the engine's recorders hold."""
        assert self._link is not None
        since = len(self.heard)
        await self._link.send(Recall(since, seconds))
        return await self.hear(Recorded, lambda m: m.id == since, since=since)

    async def share(self, vips: dict[str, dict[str, int]]) -> None:
        assert self._link is not None
        await self._link.send(messages.Shares(vips))

    async def hear(
        self, kind: type[Message], accept: Callable[[Message], bool] = lambda m: True, *, since: int = 0
    ) -> Message:
        """The first such message, from the ``since``-th on; waits for it."""

        def found() -> Message | None:
            return next((m for m in self.heard[since:] if isinstance(m, kind) and accept(m)), None)

        async with asyncio.timeout(PATIENCE_S), self._news:
            while (message := found()) is None:
                await self._news.wait()
            return message

    async def hear_status(self, accept: Callable[[messages.Status], bool]) -> messages.Status:
        """A status from now on that is so."""
        return await self.hear(messages.Status, accept, since=len(self.heard))


def part_id(part: Part) -> str:
    name = type(part).__name__.lower()
    if isinstance(part, Networks):
        return f"{name}/{digest(encode_part(part))}"
    return name if isinstance(part, Settings | Interfaces) else f"{name}/{part.id}"


class Lab:
    """The engine and all round it. Everything listens in the test's own namespace."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.controller = ScriptedController()
        self.backends = {name: Backend(name, 7000 + number) for number, name in enumerate(("a", "b"))}
        self.agent: subprocess.Popen[bytes] | None = None
        self.authority = Authority.open(directory / "pki")

    def write_config(self, **more: int) -> None:
        identity = self.authority.issue_engine(ENGINE, ENGINE)
        home = self.home
        home.mkdir()
        (home / "key.pem").write_bytes(identity.key_pem)
        (home / "certificate.pem").write_bytes(identity.certificate_pem)
        (home / "ca.pem").write_bytes(identity.ca_pem)
        config = EngineConfig(
            id=ENGINE,
            name=ENGINE,
            rank=1,
            directory=str(home),
            controllers=(f"127.0.0.1:{self.controller.port}",),
            address=ADDRESS,
            prefix_length=24,
        )
        (home / "engine.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(config, **more)))

    @property
    def home(self) -> Path:
        return self.directory / "e"

    def start_agent(self) -> None:
        with (self.home / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(
                [sys.executable, "-m", "shoal.engine", str(self.home / "engine.json")],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill_agent(self) -> None:
        assert self.agent is not None
        self.agent.kill()
        self.agent.wait()

    async def terminate_agent(self) -> int:
        assert self.agent is not None
        self.agent.terminate()
        return await asyncio.to_thread(self.agent.wait, PATIENCE_S)

    def processes(self, name: str) -> list[int]:
        """Pids of this engine's processes whose command line holds ``name``."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                with contextlib.suppress(OSError):
                    line = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace")
                    if str(self.home) in line and name in line:
                        found.append(int(entry))
        return sorted(found)

    def end(self) -> None:
        """Agent and guard start each other again: what came up while the others were killed goes, too."""
        looks = 0
        while looks < 3:  # what is just being started has no command line for a moment
            pids = self.processes("")
            looks = 0 if pids else looks + 1
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        if self.agent is not None:
            self.agent.wait()

    async def get(self, path: str = "/", port: int = 80) -> tuple[int, str]:
        """(status, body) of one request through the VIP, on a connection of its own."""
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(VIP, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode())
                answer = (await reader.read()).decode()
            finally:
                writer.close()
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split(" ", 2)[1]), body

    async def is_open(self, port: int) -> bool:
        """Whether the VIP takes connections there."""
        try:
            async with asyncio.timeout(5):
                _, writer = await asyncio.open_connection(VIP, port)
        except ConnectionRefusedError:
            return False
        writer.close()
        return True

    async def until_refused(self, port: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await self.is_open(port):
                await asyncio.sleep(0.05)

    async def names(self, requests: int = 6) -> set[str]:
        """Which backends answer."""
        return {(await self.get())[1] for _ in range(requests)}


def _make_interface() -> None:
    """An ``eth0`` with carrier; there is no one on the other end."""
    for command in (
        "link add eth0 type veth peer name wire",
        "link set wire up",
        "link set eth0 up",
        f"addr add {ADDRESS}/24 dev eth0",
    ):
        subprocess.run(["ip", *command.split()], check=True)


@contextlib.asynccontextmanager
async def engine(directory: Path, **more: int) -> AsyncIterator[Lab]:
    """Inside `private_host`: a started engine whose controller has heard its hello. ``more`` is for `EngineConfig`."""
    _make_interface()
    lab = Lab(directory)
    try:
        for backend in lab.backends.values():
            await backend.start()
        await lab.controller.start(lab.authority)
        lab.write_config(**more)
        lab.start_agent()
        await lab.controller.hear(messages.Hello)
        yield lab
    finally:
        lab.end()
        await lab.controller.stop()
        for backend in lab.backends.values():
            await backend.stop()


def settings() -> Settings:
    return Settings(group="g", group_name="g", peers=(), timing=Timing(), slots_max=10)


def vip(**changes: Any) -> Vip:
    base = Vip(
        id="v",
        addresses=(VIP,),
        generation=1,
        owner=ENGINE,
        members=(ENGINE,),
        succession=(),
        list_version=1,
        armed=True,
    )
    return msgspec.structs.replace(base, **changes)


def servers(**changes: dict[str, Any]) -> tuple[Server, ...]:
    """Servers a and b; ``a={"enabled": False}`` changes one."""
    both = {name: Server(name=name, address="127.0.0.1", port=7000 + n) for n, name in enumerate(("a", "b"))}
    return tuple(msgspec.structs.replace(s, **changes.get(name, {})) for name, s in both.items())


def pool(**changes: Any) -> Pool:
    base = Pool(id="p", name="pool", algorithm="LB_ALGORITHM_ROUND_ROBIN", servers=servers(), monitors=QUICK)
    return msgspec.structs.replace(base, **changes)


def service(id: str = "one", port: int = 80, **changes: Any) -> Service:
    base = Service(
        id=id,
        name=id,
        vip="v",
        addresses=(VIP,),
        enabled=True,
        mode="http",
        listeners=(Port(port=port, port_end=port),),
        pool=pool(),
    )
    return msgspec.structs.replace(base, **changes)
