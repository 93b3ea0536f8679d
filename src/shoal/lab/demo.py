"""`shoal demo`: the main job on real traffic. Two virtual services, one in N+M and one in active/active; their engines
are killed; the outage is measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from shoal import system
from shoal.errors import ShoalError

from .api import Api, engine_name
from .network import Lab
from .traffic import Second

BACKENDS = 3
RATE_PER_S = 200.0
WARM_UP_S = 3.0
PROBE_S = 4.0
KILL_AFTER_S = 1.0
LISTEN = "127.0.0.1:0"
GROUP = "Active-Active"
MODES = {"shop": "N+M (HA_MODE_SHARED)", "news": "active/active (HA_MODE_SHARED_PAIR)"}


class Figures(msgspec.Struct):
    """What ``--json`` prints."""

    requests: int = 0
    errors: int = 0
    first_200_ms: float = 0.0
    failures: list[dict[str, Any]] = []


class Board:
    """The live table, fed by the traffic generator."""

    def __init__(self, targets: dict[str, str]) -> None:
        self._names = {f"{address}:80": name for name, address in targets.items()}
        self.latest: dict[str, Second] = {}
        self.requests = 0
        self.errors = 0
        self.owners: dict[str, str] = {}

    def take(self, line: bytes) -> None:
        second = msgspec.json.decode(line, type=Second)
        self.latest[self._names[second.target]] = second
        self.requests += second.requests
        self.errors += second.errors

    def table(self) -> Table:
        table = Table("virtual service", "mode", "requests/s", "errors", "p99", "served by", "answers for the VIP")
        for name, mode in MODES.items():
            second = self.latest.get(name)
            table.add_row(
                name,
                mode,
                str(second.requests) if second else "-",
                str(second.errors) if second else "-",
                f"{second.p99_ms:.1f} ms" if second else "-",
                ", ".join(f"{server} {count}" for server, count in sorted(second.servers.items())) if second else "-",
                self.owners.get(name, "-"),
            )
        return table


def main(*, once: bool, as_json: bool, data_dir: Path | None) -> int:
    """Returns the exit status: 0 when every service survived."""
    console = Console(stderr=as_json, highlight=False)
    own = data_dir is None
    folder = data_dir or Path(tempfile.mkdtemp(prefix="shoal-demo-"))
    password = secrets.token_urlsafe(9)
    leave_running = False
    try:
        console.print("[bold]Shoal demo[/bold]: engines are network namespaces on this machine, running HAProxy.")
        options = system.Options.parse(folder, LISTEN, (), password)
        started = system.launch(options, None)
        console.print(f"1. Controller up: {started.url}")
        figures = asyncio.run(_demo(folder, started.url, password, console, once=once))
        survived = all(failure["to"] for failure in figures.failures)
        if as_json:
            print(json.dumps(msgspec.to_builtins(figures)), flush=True)
        leave_running = not once
        if leave_running:
            _leave(console, started.url, password, folder)
        return 0 if survived else 1
    except ShoalError as error:
        console.print(f"[red]The demo failed:[/red] {error}")
        return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    finally:
        if not leave_running:
            system.stop(folder, None, purge=own)
            if own:
                shutil.rmtree(folder, ignore_errors=True)


def _leave(console: Console, url: str, password: str, folder: Path) -> None:
    console.print(f"\nIt goes on running: [bold]{url}[/bold]  user admin  password [bold]{password}[/bold]")
    console.print("Three commands to try:")
    shell = f"SHOAL_PASSWORD={password} .venv/bin/shoal shell --controller {url}"
    console.print(f"  {shell} -c 'show virtualservice shop placement'", soft_wrap=True)
    console.print(f"  {shell} -c 'show serviceenginegroup Default-Group'", soft_wrap=True)
    console.print(
        f"  .venv/bin/shoal down --purge --data-dir {folder}   # stops it and removes everything", soft_wrap=True
    )


async def _demo(folder: Path, url: str, password: str, console: Console, *, once: bool) -> Figures:
    figures = Figures()
    async with contextlib.AsyncExitStack() as stack:
        lab = Lab(folder)
        if once:
            stack.push_async_callback(lab.close)
        api = await stack.enter_async_context(Api(url, password))
        backends = [await lab.backend(f"web{number}") for number in range(1, BACKENDS + 1)]
        await lab.node("client")
        console.print(f"2. {BACKENDS} backends: {', '.join(f'{b.name} {b.address}' for b in backends)}")
        await api.post("serviceenginegroup", {"name": GROUP, "ha_mode": "HA_MODE_SHARED_PAIR", "vs_scalein_timeout": 5})
        servers = [(backend.address, backend.port) for backend in backends]
        health = {"pool": {"health_monitor_refs": ["/api/healthmonitor?name=System-HTTP"]}}
        began = time.monotonic()
        services = {"shop": await api.service("shop", servers, **health)}
        figures.first_200_ms = await _first_200(lab, services["shop"]["address"], began)
        services["news"] = await api.service(
            "news", servers, se_group_ref=f"/api/serviceenginegroup?name={GROUP}", **health
        )
        board = Board({name: service["address"] for name, service in services.items()})
        for name, service in services.items():
            placed = await api.placed(service["uuid"], 2 if name == "news" else 1)
            engines = ", ".join(engine_name(p["se_ref"]) for p in placed["placements"])
            board.owners[name] = placed["answers"]
            console.print(
                f"3. {name}: {MODES[name]}, VIP {service['address']} on {engines}; {placed['answers']} answers"
            )
        console.print(
            f"   first 200 of shop {figures.first_200_ms:.0f} ms after its creation began (two engines were made)"
        )
        traffic = lab.start(
            "client", "shoal.lab.traffic", str(RATE_PER_S), *(f"{s['address']}:80" for s in services.values()),
            output=subprocess.PIPE,
        )  # fmt: skip
        reader = asyncio.create_task(_read(traffic, board))
        try:
            with Live(board.table(), console=console, refresh_per_second=4, transient=not console.is_terminal) as live:
                refresher = asyncio.create_task(_refresh(live, board))
                await asyncio.sleep(WARM_UP_S)
                for name, service in services.items():
                    figures.failures.append(await _kill(lab, api, board, name, service))
                await asyncio.sleep(1.5)
                refresher.cancel()
                live.update(board.table())
        finally:
            traffic.kill()
            await reader
        figures.requests, figures.errors = board.requests, board.errors
        for failure in figures.failures:
            console.print(
                f"4. kill -9 of {failure['from']} ({failure['mode']}, {failure['virtualservice']}): outage "
                f"[bold]{failure['outage_ms']:.0f} ms[/bold], noticed after {failure['detected_ms']:.0f} ms, "
                f"now on {failure['to']}: {failure['why']}"
            )
        console.print(f"   {figures.requests} requests, {figures.errors} errors in all")
    return figures


async def _first_200(lab: Lab, address: str, began: float) -> float:
    for _ in range(20):
        probed = await lab.probe("client", address, 80, 0.5)
        good = next((start for start in probed.starts if start.ok), None)
        if good is not None:
            return round((good.at + good.took - began) * 1000, 1)
    return float("nan")


async def _read(traffic: subprocess.Popen[bytes], board: Board) -> None:
    assert traffic.stdout is not None
    while line := await asyncio.to_thread(traffic.stdout.readline):
        board.take(line)


async def _refresh(live: Live, board: Board) -> None:
    while True:
        live.update(board.table())
        await asyncio.sleep(0.25)


async def _kill(lab: Lab, api: Api, board: Board, name: str, service: dict[str, Any]) -> dict[str, Any]:
    """kill -9 of every process of the engine that answers, under the outage probe."""
    engines = 2 if name == "news" else 1
    owner = (await api.placed(service["uuid"], engines))["answers"]
    probing = asyncio.create_task(lab.probe("client", service["address"], 80, PROBE_S))
    await asyncio.sleep(KILL_AFTER_S)
    lab.kill(owner)
    probed = await probing

    async def moved() -> dict[str, Any] | None:
        found = await api.placement(service["uuid"])
        return found if found["answers"] not in ("", owner) else None

    placed = await api.until(f"{name} has moved", moved)
    board.owners[name] = placed["answers"]
    detail = await _takeover(api, placed["answers"])
    return {
        "mode": MODES[name],
        "kind": "kill -9 of all processes",
        "virtualservice": name,
        "from": owner,
        "to": placed["answers"],
        "outage_ms": round(probed.outage_ms(), 1),
        "detected_ms": detail[0],
        "why": detail[1],
    }


async def _takeover(api: Api, engine: str) -> tuple[float, str]:
    """(detection in ms, why) of the last takeover by this engine."""
    events = (await api.get("analytics/logs?type=2&filter=eq(event_id,[vs_add_se])&page_size=20"))["results"]
    text = next((e["event_description"] for e in events if e["event_description"].startswith(engine)), "")
    found = re.search(r"\((\d+) ms after", text)
    why = text.split(": ", 1)[-1].rsplit(" (", 1)[0]
    return float(found[1]) if found else 0.0, why or "planned successor"
