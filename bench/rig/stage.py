"""Where a benchmark plays: a Shoal in a private host, with bare nodes around it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from tests.integration import private_shoal

from shoal.clouds.fabric import processes_in
from shoal.engine.haproxy import runtime
from shoal.errors import NotReady
from shoal.lab.api import Api, Document
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench

from . import contestants, pem, processes

ROOT = Path(__file__).parents[2]
INSTALL_WITHIN_S = 300
SERVICES_MAX = 1000
"""On an engine: what ``max_vs_per_se`` can be."""
FILL_WITHIN_S = 900.0
AT_ONCE = 4
"""Services made at the same time by `Stage.fill`."""
NOISE = "This machine has {cpus} cores for load, proxies and servers alike: rates are indications, paired ratios count."


class Stage:
    """A running Shoal, its API, and nodes with processes that end with it."""

    def __init__(self, bench: Bench, folder: Path, api: Api) -> None:
        self.bench, self.folder, self.api = bench, folder, api
        self.lab = Lab(bench.options.data_dir)
        self._children: list[subprocess.Popen[bytes]] = []
        self.fill_s = 0.0

    def start(self, node: str, *command: str) -> int:
        """Run a command in a node until the end; returns its pid."""
        with (self.folder / f"{node}.log").open("ab") as log:
            child = subprocess.Popen(
                self.lab.fabric.enter(f"lab-{node}", *command), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._children.append(child)
        return child.pid

    def haproxy(self, node: str, text: str) -> int:
        file = self.folder / f"{node}.cfg"
        file.write_text(text)
        return self.start(node, "haproxy", "-db", "-f", str(file))

    def collect(self) -> None:
        """Forget processes that a fault has ended."""
        self._children = [child for child in self._children if child.poll() is None]

    async def server(self) -> tuple[str, int]:
        """What contestants proxy to, and the client's node beside it. Returns the server's address and pid."""
        key, certificate = pem.self_signed("bench.example")
        file = self.folder / "bench.pem"
        file.write_text(certificate + key)
        address = await self.lab.node("server")
        await self.lab.node("client")
        return address, self.haproxy("server", contestants.backend(address, str(file)))

    async def close(self) -> None:
        for child in self._children:
            child.terminate()
        for child in self._children:
            try:
                await asyncio.to_thread(child.wait, 2)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        await self.lab.close()

    # --- Shoal's side ---

    async def group(self, name: str, engines: int = 1, **more: Any) -> str:
        """Returns its reference. ``engines`` at most, so that an overload can't breed more."""
        body = {"name": name, "max_se": engines, "buffer_se": engines - 1, "max_vs_per_se": SERVICES_MAX, **more}
        await self.api.post("serviceenginegroup", body)
        return f"/api/serviceenginegroup?name={name}"

    async def fill(self, numbers: range, servers: list[tuple[str, int]], group: str) -> list[Document]:
        """Virtual services ``fill<number>``, a few at a time, until the last of them is placed and armed. Raises
        TimeoutError after `FILL_WITHIN_S`. `fill_s` says how long it took."""
        began = time.monotonic()
        made: list[Document] = []
        left = iter(numbers)

        async def work() -> None:
            for number in left:
                made.append(await self.api.service(f"fill{number}", servers, se_group_ref=group))

        try:
            async with asyncio.timeout(FILL_WITHIN_S), asyncio.TaskGroup() as tasks:
                for _ in range(AT_ONCE):
                    tasks.create_task(work())
        except ExceptionGroup as several:
            raise NotReady(f"Only {len(made)} of {len(numbers)} services: {several.exceptions[0]!r}") from several
        for service in made[-AT_ONCE:]:
            await self.settled(service)
        self.fill_s = time.monotonic() - began
        return made

    async def settled(self, service: Document, engines: int = 1) -> Document:
        """Wait (up to a minute) until it is placed and armed."""
        for attempt in range(4):
            try:
                return await self.api.placed(service["uuid"], engines)
            except NotReady:
                if attempt == 3:
                    raise
        raise AssertionError

    def pids(self, engine: str) -> list[int]:
        """Everything that runs in an engine's namespace."""
        return processes_in(self.lab.fabric.addressing.namespace(engine))

    async def haproxy_of(self, engine: str) -> tuple[int, int]:
        """(master, worker that answers now)"""
        worker = await runtime.worker_pid(str(self.bench.options.data_dir / "engines" / engine / "admin.sock"))
        return processes.parent(worker), worker


def installed(command: str, *packages: str) -> None:
    """Have apt bring a contestant when it is not there. Its service is not started: only the bench runs it."""
    if shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
        return
    print(f"installing {' '.join(packages)} for this benchmark", file=sys.stderr)
    policy = Path("/usr/sbin/policy-rc.d")  # what Debian's installers ask before they start a service
    own = not policy.exists()
    try:
        if own:
            policy.touch(mode=0o755)
            policy.write_text("#!/bin/sh\nexit 101\n")
        asked = ["apt-get", "-o", "DPkg::Lock::Timeout=60", "install", "-y", "-qq", "--no-install-recommends"]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for line in (["apt-get", "update", "-qq"], [*asked, *packages]):
            done = subprocess.run(line, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, env=environment)
            if done.returncode:
                raise NotReady(f"`{' '.join(line)}` failed: {done.stderr.strip()[-500:]}")
    finally:
        if own:
            policy.unlink(missing_ok=True)


@contextlib.contextmanager
def launched() -> Iterator[tuple[Bench, Path]]:
    """A Shoal in a private host, gone at the end; and a folder of the bench's own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # contestants drop their privileges
        with private_shoal.launched(folder) as bench:
            yield bench, folder


def play(measure: Callable[[Stage], Awaitable[dict[str, object]]]) -> None:
    """Run a benchmark on a stage and print its JSON object."""

    async def run(bench: Bench, folder: Path) -> dict[str, object]:
        async with Api(bench.url, PASSWORD) as api:
            stage = Stage(bench, folder, api)
            try:
                return await measure(stage)
            finally:
                await stage.close()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # a time-out from outside leaves nothing behind, too
    with launched() as (bench, folder):
        figures = asyncio.run(run(bench, folder))
    print(json.dumps({**figures, "note": NOISE.format(cpus=os.cpu_count())}))
