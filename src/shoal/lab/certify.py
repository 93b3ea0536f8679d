"""`shoal certify`: changes that drop nothing, shown. A Shoal of its own under steady load, while its configuration and
its engines change all the time; every request that fails and every connection that is cut is counted and told."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from rich.console import Console

from shoal import __version__, system
from shoal.errors import ShoalError

from .api import Api, Document, Refusal
from .changes import Change, Changes, Service, certificate_body
from .load import Count, Failure, Plan, Report, Target
from .moves import Move, Moves
from .network import Lab

LISTEN = "127.0.0.1:0"
BACKENDS = 4
TELL_EVERY_S = 5.0
LOOK_EVERY_S = 1.0
WARM_UP_S = 2.0
SETTLE_S = 2.0
LOAD_ENDS_WITHIN_S = 60.0
FAILURES_KEPT_MAX = 500
TAKEN_OVER = " ms after"
"""Stands in the events of unplanned changes of owner, and in no others."""


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything."""

    changes: int
    reloads: int
    scale_outs: int
    migrations: int
    upgrades: int
    seconds: float
    """Of a download, upload or echo connection, on average."""
    clients: int
    """Scale of the load."""


FULL = Scale(changes=500, reloads=100, scale_outs=20, migrations=10, upgrades=2, seconds=3.0, clients=2)
QUICK = Scale(changes=60, reloads=15, scale_outs=3, migrations=2, upgrades=1, seconds=1.0, clients=1)


class Result(msgspec.Struct, kw_only=True):
    """What is stored. ``ways``: how often each way was taken, over all engines; ``kinds``: by the kind of change."""

    version: str
    seed: int
    quick: bool
    began: float
    took_s: float = 0.0
    passed: bool = False
    verdict: str = ""
    changes: dict[str, int] = {}
    ways: dict[str, int] = {}
    kinds: dict[str, dict[str, int]] = {}
    moves: dict[str, int] = {}
    requests: int = 0
    failed: int = 0
    idle_closes: int = 0
    load: dict[str, Count] = {}
    failures: list[Failure] = []
    idle: list[Failure] = []
    takeovers: list[str] = []
    """Engines that took a VIP over by themselves: no change asks for that, a starved machine may cause it."""
    change_log: list[Change] = []
    move_log: list[Move] = []


class Watch:
    """Reads the load's reports, and how the engines take their changes."""

    def __init__(self, result: Result, traffic: subprocess.Popen[bytes]) -> None:
        self.result = result
        self._traffic = traffic
        self._ways: dict[str, dict[str, int]] = {}
        self.complete = False

    async def read(self) -> None:
        """Until the load has ended."""
        assert self._traffic.stdout is not None
        while line := await asyncio.to_thread(self._traffic.stdout.readline):
            report = msgspec.json.decode(line, type=Report)
            result = self.result
            result.load = report.counts
            result.requests = sum(count.done + count.failed for count in report.counts.values())
            result.failed = sum(count.failed for count in report.counts.values())
            result.idle_closes = sum(count.idle_closes for count in report.counts.values())
            result.failures = (result.failures + report.failures)[:FAILURES_KEPT_MAX]
            result.idle = (result.idle + report.idle)[:FAILURES_KEPT_MAX]
            self.complete = report.last

    async def engines(self, api: Api) -> None:
        """Until cancelled: engines come and go, so what they have counted is kept as it was last seen."""
        while True:
            await self.look(api)
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self, api: Api) -> None:
        for engine in (await api.get("serviceengine?page_size=200"))["results"]:
            with contextlib.suppress(Refusal):  # it was retired a moment ago
                found = await api.get(f"serviceengine/{engine['uuid']}/runtime")
                self._ways[engine["uuid"]] = found["last_change"]["counts"]
        self.result.ways = {}
        for counts in self._ways.values():
            for way, count in counts.items():
                self.result.ways[way] = self.result.ways.get(way, 0) + count

    def line(self, changes: Changes, moves: Moves, scale: Scale) -> str:
        result, ways = self.result, self.result.ways
        counts = moves.counts()
        return (
            f"{time.time() - result.began:4.0f} s  changes {len(changes.log)}/{scale.changes}  "
            f"reloads {ways.get('reload', 0)}/{scale.reloads}  out {counts.get('scaleout', 0)} "
            f"in {counts.get('scalein', 0)} of {scale.scale_outs}  migrations {counts.get('migrate', 0)}/"
            f"{scale.migrations}  requests {result.requests}  failed {result.failed}  idle closes {result.idle_closes}"
        )


def main(*, quick: bool, as_json: bool, data_dir: Path | None, seed: int | None, output: Path | None) -> int:
    """Returns the exit status: 0 when nothing was dropped and everything was done."""
    console = Console(stderr=as_json, highlight=False)
    own = data_dir is None
    folder = data_dir or Path(tempfile.mkdtemp(prefix="shoal-certify-"))
    chosen = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    file = output or (Path(f"shoal-certify-{chosen}.json") if own else folder / "certify.json")
    password = secrets.token_urlsafe(9)
    result = Result(version=__version__, seed=chosen, quick=quick, began=time.time())
    try:
        console.print(f"[bold]Shoal certify[/bold]: seed {chosen}; changes under load must drop nothing.")
        started = system.launch(system.Options.parse(folder, LISTEN, (), password), None)
        asyncio.run(_certify(folder, started.url, password, console, result, QUICK if quick else FULL))
    except ShoalError as error:
        result.verdict = f"not finished: {error}"
    except ExceptionGroup as group:
        cause = _first(group)
        if not isinstance(cause, ShoalError):
            raise
        result.verdict = f"not finished: {cause}"
    except KeyboardInterrupt:
        result.verdict = "stopped"
    finally:
        _keep_logs(folder, file, wanted=not result.passed)
        system.stop(folder, None, purge=own)
        if own:
            shutil.rmtree(folder, ignore_errors=True)
    result.took_s = round(time.time() - result.began, 1)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    _tell(console, result, file)
    if as_json:
        print(msgspec.json.encode(result).decode(), flush=True)
    return 0 if result.passed else 1


def _keep_logs(folder: Path, file: Path, *, wanted: bool) -> None:
    """Beside the result: what the engines and the controller said. Engines' folders go with the engines."""
    logs = file.with_suffix(".logs")
    shutil.rmtree(logs, ignore_errors=True)
    for log in [] if not wanted else [folder / "controller.log", *folder.glob("engines/*/*.log")]:
        if log.is_file():
            logs.mkdir(exist_ok=True)
            shutil.copyfile(log, logs / (log.name if log.parent == folder else f"{log.parent.name}-{log.name}"))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _tell(console: Console, result: Result, file: Path) -> None:
    for name, count in sorted(result.load.items()):
        console.print(
            f"  {name:<16} {count.done} done, {count.failed} failed, {count.idle_closes} idle closes, "
            f"{count.connections} connections, {count.slow} slow, slowest {count.slowest_ms:.0f} ms"
        )
    for failure in (result.failures + result.idle)[:20]:
        at = time.strftime("%H:%M:%S", time.gmtime(failure.at))
        console.print(
            f"  [red]{at}.{int(failure.at % 1 * 1000):03d} {failure.target}: {failure.why} {failure.reset_by}[/red]"
        )
    for move in result.move_log:
        if move.why:
            console.print(f"  [yellow]{move.kind} {move.what}: {move.why}[/yellow]")
    if result.takeovers:
        console.print(f"  [yellow]{len(result.takeovers)} unplanned takeovers, such as: {result.takeovers[0]}[/yellow]")
    console.print(f"  ways: {result.ways}")
    console.print(f"  by kind: {result.kinds}")
    style = "green" if result.passed else "red"
    console.print(f"[{style}]{result.verdict}[/{style}] in {result.took_s:.0f} s; stored in {file}")


# --- the run ---


async def _certify(folder: Path, url: str, password: str, console: Console, result: Result, scale: Scale) -> None:
    rng = random.Random(result.seed)
    async with Lab(folder) as lab, Api(url, password) as api:
        services, changes = await _prepare(lab, api, rng)
        moves = Moves(api, lab, random.Random(rng.random()), services[:-1])
        plan = Plan(_targets(services, scale), result.seed)
        traffic = lab.start("client", "shoal.lab.load", msgspec.json.encode(plan).decode(), output=subprocess.PIPE)
        watch = Watch(result, traffic)
        reading = asyncio.create_task(watch.read())
        try:
            await asyncio.sleep(WARM_UP_S)
            async with _beside(watch.engines(api), _progress(console, watch, changes, moves, scale)):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_change(changes, scale))
                    tasks.create_task(_move(moves, scale))
                await watch.look(api)
                while result.ways.get("reload", 0) < scale.reloads:
                    await changes.one("vs_ports")
                    await watch.look(api)
            await asyncio.sleep(SETTLE_S)
        finally:
            traffic.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(LOAD_ENDS_WITHIN_S):
                    await asyncio.shield(reading)
            except TimeoutError:
                traffic.kill()
                await reading
            result.changes, result.kinds, result.moves = changes.counts(), changes.ways(), moves.counts()
            result.change_log, result.move_log = changes.log, moves.log
            with contextlib.suppress(Refusal):  # whatever has ended the run is told elsewhere
                result.takeovers = await _takeovers(api)
        result.verdict = _judge(result, scale, complete=watch.complete)
        result.passed = result.verdict.startswith("passed")


async def _takeovers(api: Api) -> list[str]:
    events = (await api.get("analytics/logs?type=2&filter=eq(event_id,[vs_add_se])&page_size=200"))["results"]
    return [text for event in events if TAKEN_OVER in (text := event["event_description"])]


@contextlib.asynccontextmanager
async def _beside(*work: object) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]  # type: ignore[call-overload]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _change(changes: Changes, scale: Scale) -> None:
    while (left := scale.changes - len(changes.log)) > 0:
        await changes.some(left)


async def _move(moves: Moves, scale: Scale) -> None:
    """Engines are taken out of service between the rounds."""
    done = 0
    for number in range(scale.upgrades):
        last = number == scale.upgrades - 1
        outs = scale.scale_outs - done if last else scale.scale_outs // scale.upgrades
        await moves.rounds(outs, scale.migrations // scale.upgrades)
        done += outs
        await moves.restart_agent()
        await moves.upgrade()
        await moves.disable_and_enable()


async def _progress(console: Console, watch: Watch, changes: Changes, moves: Moves, scale: Scale) -> None:
    with contextlib.ExitStack() as stack:
        status = stack.enter_context(console.status("...")) if console.is_terminal else None
        while True:
            line = watch.line(changes, moves, scale)
            if status is not None:
                status.update(line)
            else:
                console.print(line, soft_wrap=True)
            await asyncio.sleep(LOOK_EVERY_S if status is not None else TELL_EVERY_S)


def _judge(result: Result, scale: Scale, *, complete: bool) -> str:
    short = [
        f"{have} of {want} {what}"
        for what, have, want in (
            ("changes", len(result.change_log), scale.changes),
            ("reloads", result.ways.get("reload", 0), scale.reloads),
            ("scale outs", result.moves.get("scaleout", 0), scale.scale_outs),
            ("scale ins", result.moves.get("scalein", 0), scale.scale_outs),
            ("migrations", result.moves.get("migrate", 0), scale.migrations),
            ("engine upgrades", result.moves.get("engine_upgrade", 0), scale.upgrades),
        )
        if have < want
    ]
    idle = [name for name, count in result.load.items() if not count.done]
    if result.failed or result.idle_closes:
        return f"FAILED: {result.failed} of {result.requests} failed, {result.idle_closes} idle closes"
    if not complete:
        return "not finished: the load did not end as it should"
    if short or idle:
        return "not finished: " + "; ".join([*short, *(f"no load on {name}" for name in idle)])
    return f"passed: {result.requests} requests and connections, none failed, none cut"


# --- what it runs on ---


async def _prepare(lab: Lab, api: Api, rng: random.Random) -> tuple[list[Service], Changes]:
    """Groups, virtual services, backends. The last service is for connections that last for the whole run: it stays on
    its engine, which is reloaded like the others."""
    backends = [await lab.backend(f"web{number}") for number in range(1, BACKENDS + 1)]
    addresses = [backend.address for backend in backends]
    await lab.node("client")
    moving = {"ha_mode": "HA_MODE_SHARED", "max_se": 6, "max_vs_per_se": 30, "max_scaleout_per_vs": 4}
    group = (await api.post("serviceenginegroup", {"name": "moving", **moving}))["uuid"]
    await api.post("serviceenginegroup", {"name": "staying", "ha_mode": "HA_MODE_SHARED", "buffer_se": 0})
    certificate = (await api.post("sslkeyandcertificate", {"name": "site", **certificate_body("site.test")}))["uuid"]
    check = {"http_request": "GET /health HTTP/1.0", "http_response_code": ["HTTP_2XX"]}
    pace = {"send_interval": 3, "receive_timeout": 2, "successful_checks": 1, "failed_checks": 4}
    monitor = (
        await api.post(
            "healthmonitor",
            {"name": "patient", "type": "HEALTH_MONITOR_HTTP", "http_monitor": check, "monitor_port": 80, **pace},
        )
    )["uuid"]
    patient = {"health_monitor_refs": [f"/api/healthmonitor/{monitor}"]}
    l4 = {"application_profile_ref": "/api/applicationprofile?name=System-L4-Application"}
    tls = {"services": [{"port": 443, "enable_ssl": True}], "ssl_key_and_certificate_refs": [f"/api/sslkeyandcertificate/{certificate}"]}  # fmt: skip
    wanted: list[tuple[str, str, int, int, Document, Document]] = [
        ("web", "moving", 80, 80, {}, {}),
        ("secure", "moving", 443, 80, tls, {}),
        ("echo", "moving", 80, 81, l4, {}),
        ("steady", "staying", 80, 80, {}, {"graceful_disable_timeout": -1}),
    ]
    services = []
    for name, in_group, port, server_port, more, pool in wanted:
        made = await api.service(
            name,
            [(address, server_port) for address in addresses[:3]],
            se_group_ref=f"/api/serviceenginegroup?name={in_group}",
            pool={**patient, **pool},
            **more,
        )
        servers = [{"addr": address, "port": server_port, "ratio": 1, "enabled": True} for address in addresses[:3]]
        services.append(
            Service(
                name=name,
                uuid=made["uuid"],
                address=made["address"],
                pool=made["pool_ref"].split("#")[0].rpartition("/")[2],
                port=port,
                tls=port == 443,
                servers=servers,
            )
        )
    for service in services:
        await api.placed(service.uuid, 1)
    made_changes = Changes(api, rng, services, addresses, group=group, certificate=certificate, monitor=monitor)
    return services, made_changes


def _targets(services: list[Service], scale: Scale) -> tuple[Target, ...]:
    at = {service.name: service for service in services}
    found = []
    for name, kind, clients, pause_s, seconds in (
        ("web", "keepalive", 4, 0.06, 0.0),
        ("web", "close", 3, 0.06, 0.0),
        ("web", "download", 2, 0.1, scale.seconds),
        ("web", "upload", 2, 0.1, scale.seconds),
        ("web", "websocket", 2, 0.1, scale.seconds),
        ("secure", "keepalive", 3, 0.06, 0.0),
        ("secure", "close", 1, 0.2, 0.0),
        ("secure", "download", 1, 0.1, scale.seconds),
        ("echo", "echo", 4, 0.1, scale.seconds),
        ("steady", "keepalive", 2, 0.2, 0.0),
        ("steady", "download", 1, 0.0, 0.0),
        ("steady", "websocket", 2, 0.0, 0.0),
    ):
        service = at[name]
        found.append(
            Target(
                name=f"{name} {kind}",
                kind=kind,
                host=service.address,
                port=service.port,
                clients=clients * scale.clients,
                tls=service.tls,
                pause_s=pause_s,
                seconds=seconds,
            )
        )
    return tuple(found)
