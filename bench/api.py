"""The REST API on a durable store, over TLS: macro creates a second, lists, 100 clients at once, memory with 10,000 services.

The server is a process of its own: real store (SQLite, each write flushed), view, intent, API and, with ``--controller``,
the controller that plans for what is created, over a cloud whose engines never speak. Clients are in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop
from tests.api_world import NO_IDENTITY

from shoal.api.app import App, Dependencies
from shoal.api.server import listen, serve
from shoal.clouds.noop import NoopCloud
from shoal.controller.accounts import Accounts
from shoal.controller.bootstrap import Options, bootstrap
from shoal.controller.controller import Controller
from shoal.controller.engine_documents import EngineDocuments
from shoal.controller.intent import Intent
from shoal.controller.pki import Authority
from shoal.controller.secrets import Secrets
from shoal.controller.view import View
from shoal.objects import load
from shoal.store.sqlite import SqliteStore
from shoal.system import settle_interpreter

Document = dict[str, Any]
PASSWORD = "bench-only password"
CLIENTS = 8
MANY_CLIENTS = 100
LIST_SERVICES = 1_000
PAGE_SIZE = 200
READY_WITHIN_S = 60.0
ROUNDS_EACH = 10


# --- the server's process ---


async def served(directory: Path, *, controlled: bool) -> None:
    registry = load()
    store = await SqliteStore.open(directory / "shoal.db")
    view = View(store, registry)
    await view.start()
    intent = Intent(store, view, registry, Secrets.open(directory / "key"))
    await bootstrap(intent, view, Options(vip_networks=("10.64.0.0/12",)))
    accounts = Accounts(store, view, intent)
    await accounts.ensure_admin(PASSWORD)
    controller = Controller(
        store,
        view,
        NoopCloud(),
        EngineDocuments(intent, view),
        identity=lambda id, name: NO_IDENTITY,
        unseal=lambda text, context: text,
        heartbeat_key=lambda group: b"",
    )
    await controller.load()
    deps = Dependencies(
        view=view, intent=intent, registry=registry, accounts=accounts, runtime=controller, metrics=controller.metrics
    )
    files = Authority.open(directory / "pki").api_server_files(directory / "api", ["localhost"], ["127.0.0.1"])
    certificate, key = (Path(file) for file in files)
    http = await serve(App(deps), listen("127.0.0.1", 0), certificate, key)
    tasks = [asyncio.create_task(controller.run())] if controlled else []
    settle_interpreter()
    print(http.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until the bench ends
    for task in tasks:
        task.cancel()
    await http.stop()


@contextlib.contextmanager
def server(directory: Path, *, controlled: bool) -> Iterator[tuple[int, int]]:
    """(port, pid)."""
    command = [sys.executable, "-m", "bench.api", "--serve", str(directory), *(["--controller"] if controlled else [])]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        process.stdin.close()
        process.wait(READY_WITHIN_S)


# --- a client: one kept connection, as lean as can be, so that the bench measures the server ---


class Client:
    def __init__(self, port: int) -> None:
        self._port = port
        self._context = ssl.create_default_context()
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._headers = ""

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._context)

    async def login(self) -> str:
        body = json.dumps({"username": "admin", "password": PASSWORD})
        status, head, _ = await self.call("POST", "/login", body)
        assert status == 200, head
        cookies = dict(
            line.partition(": ")[2].partition(";")[0].partition("=")[::2]
            for line in head.split("\r\n")
            if line.lower().startswith("set-cookie")
        )
        self._headers = (
            f"Cookie: avi-sessionid={cookies['avi-sessionid']}\r\nX-CSRFToken: {cookies['csrftoken']}\r\n"
            "X-Avi-Version: 22.1.3\r\n"
        )
        return self._headers

    def use(self, headers: str) -> None:
        self._headers = headers

    async def call(self, method: str, path: str, body: str = "") -> tuple[int, str, bytes]:
        """(status, head, body)."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost:{self._port}\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}{self._headers}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        lower = answer.lower()
        length = int(lower.partition("content-length: ")[2].partition("\r\n")[0] or 0)
        data = await self._reader.readexactly(length)
        return int(answer.split(" ", 2)[1]), answer, data

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(Exception):
            await self._writer.wait_closed()


def tree(number: int) -> str:
    """A virtual service with its VIP and a pool of two members."""
    servers = [{"ip": {"addr": f"10.1.{number % 250}.{n}", "type": "V4"}, "port": 80} for n in (1, 2)]
    data: Document = {
        "name": f"vs-{number}",
        "services": [{"port": 80}],
        "vsvip_ref_data": {"name": f"vip-{number}", "vip": [{"auto_allocate_ip": True}]},
        "pool_ref_data": {"name": f"pool-{number}", "servers": servers},
    }
    return json.dumps({"model_name": "VirtualService", "data": data})


async def opened(port: int, count: int) -> list[Client]:
    clients = [Client(port) for _ in range(count)]
    for client in clients:
        await client.open()
    headers = await clients[0].login()
    for client in clients:
        client.use(headers)
    return clients


# --- what is measured ---


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def creates(
    clients: list[Client], first: int, count: int, path: str = "/api/macro", tree: Callable[[int], str] = tree
) -> Document:
    numbers = iter(range(first, first + count))
    times: list[float] = []

    async def work(client: Client) -> None:
        for number in numbers:
            began = time.perf_counter()
            status, _, data = await client.call("POST", path, tree(number))
            assert status == 201, data[:500]
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(work(client) for client in clients))
    took = time.perf_counter() - began
    return {
        "creates": count,
        "clients": len(clients),
        "per_second": round(count / took, 1),
        "p50_ms": round(percentile(times, 0.5) * 1e3, 1),
        "p99_ms": round(percentile(times, 0.99) * 1e3, 1),
        "max_ms": round(max(times) * 1e3, 1),
    }


async def listed(client: Client) -> Document:
    """Whole pages of the largest size, until `LIST_SERVICES` virtual services have come."""
    times = []
    for _ in range(ROUNDS_EACH):
        began = time.perf_counter()
        got = 0
        for page in range(1, LIST_SERVICES // PAGE_SIZE + 1):
            path = f"/api/virtualservice?page_size={PAGE_SIZE}&page={page}"
            status, _, data = await client.call("GET", path)
            assert status == 200
            got += len(data)
        times.append(time.perf_counter() - began)
    size = got // LIST_SERVICES
    median = round(percentile(times, 0.5) * 1e3, 1)
    return {"services": LIST_SERVICES, "bytes_each": size, "median_ms": median, "max_ms": round(max(times) * 1e3, 1)}


async def crowd(port: int) -> Document:
    """Each client makes, reads, changes, lists and deletes a pool, ten times over."""
    clients = await opened(port, MANY_CLIENTS)
    errors = 0
    calls = 0
    times: list[float] = []

    async def call(client: Client, wanted: int, method: str, path: str, body: str = "") -> bytes:
        nonlocal errors, calls
        began = time.perf_counter()
        status, _, data = await client.call(method, path, body)
        times.append(time.perf_counter() - began)
        calls += 1
        errors += status != wanted
        return data

    async def life(number: int, client: Client) -> None:
        for turn in range(ROUNDS_EACH):
            body = json.dumps({"name": f"crowd-{number}-{turn}"})
            made = json.loads(await call(client, 201, "POST", "/api/pool", body))
            path = f"/api/pool/{made['uuid']}"
            await call(client, 200, "GET", path)
            await call(client, 200, "PATCH", path, json.dumps({"replace": {"description": "x"}}))
            await call(client, 200, "GET", f"/api/pool?name=crowd-{number}-{turn}")
            await call(client, 204, "DELETE", path)

    began = time.perf_counter()
    await asyncio.gather(*(life(number, client) for number, client in enumerate(clients)))
    took = time.perf_counter() - began
    for client in clients:
        await client.close()
    return {
        "clients": MANY_CLIENTS,
        "calls": calls,
        "errors": errors,
        "per_second": round(calls / took, 1),
        "p99_ms": round(percentile(times, 0.99) * 1e3, 1),
    }


def memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 1e6, 1)


async def measured(port: int, pid: int, services: int) -> Document:
    clients = await opened(port, CLIENTS)
    first = await creates(clients, 0, LIST_SERVICES)
    found: Document = {"creates": first, "list": await listed(clients[0]), "crowd": await crowd(port)}
    found["memory_mb"] = {str(LIST_SERVICES): memory_mb(pid)}
    if services > LIST_SERVICES:
        found["creates_later"] = await creates(clients, LIST_SERVICES, services - LIST_SERVICES)
        found["list_later"] = await listed(clients[0])
        found["memory_mb"][str(services)] = memory_mb(pid)
    for client in clients:
        await client.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--services", type=int, default=LIST_SERVICES, help="virtual services in the end (10,000 asked)"
    )
    parser.add_argument("--controller", action="store_true", help="plan for what is created, too")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(served(options.serve, controlled=options.controller))
        return
    with tempfile.TemporaryDirectory() as folder, server(Path(folder), controlled=options.controller) as (port, pid):
        print(json.dumps(asyncio.run(measured(port, pid, options.services))))


if __name__ == "__main__":
    main()
