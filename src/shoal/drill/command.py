"""``shoal drill``."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from shoal.clouds.fabric import NETNS, Fabric
from shoal.clouds.faults import Faults
from shoal.errors import Refused, ShoalError
from shoal.shell.client import Client
from shoal.shell.layout import on_screen
from shoal.shell.options import EXIT_FAILED, EXIT_INTERRUPTED, with_client
from shoal.shell.tables import box

from . import guards
from .forecast import KINDS, Forecast
from .run import Drill, Report, document, forecast_of, unreachable

DATA_DIR = "/var/lib/shoal"
EXIT_DIFFERENT = 3
EXIT_NOT_WHOLE = 4
Document = dict[str, Any]


class Api:
    """The shell's client, in threads: it waits, the drill must not."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self, path: str) -> Any:
        return await asyncio.to_thread(self._client.call, "GET", path)

    async def post(self, path: str, body: Document) -> Any:
        return await asyncio.to_thread(self._client.call, "POST", path, body)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@with_client
@click.argument("name", metavar="[VS]", required=False)
@click.option("--engine", metavar="SE", help="Drill this engine, instead of the one that answers for VS.")
@click.option("--kind", type=click.Choice(KINDS), default="kill", show_default=True, help="What is done to it.")
@click.option("--dry-run", is_flag=True, help="Say what should happen, and what speaks against it; do nothing.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--force", is_flag=True, help="Also when the group is left without margin.")
@click.option(
    "--max-seconds", type=click.FloatRange(min=10, max=3600), default=120.0, show_default=True, help="Break off then."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DATA_DIR,
    show_default=True,
    envvar="SHOAL_DATA_DIR",
    help="Of the Shoal whose engines run on this machine.",
)
def command(client: Client, name: str | None, engine: str | None, data_dir: Path, as_json: bool, **options: Any) -> int:
    """Let an engine fail, on purpose: foretold, guarded, watched, undone, and judged by what was foretold.

    \b
    kill        kill -9 of all its processes; started again afterwards
    freeze      all of them stopped, and continued afterwards
    cut         its link loses its carrier, and gets it back afterwards
    switchover  its virtual services, or VS alone, move by plan; they are not moved back

    The first three are done on the machine the engines run on, as root. Exit status: 0 as foretold, 1 refused, 3
    otherwise than foretold, 4 not whole again in time, 130 broken off by Ctrl-C (the engine is given back).
    """
    if bool(name) == bool(engine):
        raise click.UsageError("Give a virtual service, or --engine SE.")
    client.login()
    try:
        return asyncio.run(_drill(client, name or "", engine or "", data_dir, as_json=as_json, **options))
    except asyncio.CancelledError:
        click.echo("Broken off; the engine is given back.", err=True)
        return EXIT_INTERRUPTED


async def _drill(
    client: Client,
    name: str,
    engine: str,
    data_dir: Path,
    *,
    kind: str,
    dry_run: bool,
    yes: bool,
    force: bool,
    max_seconds: float,
    as_json: bool,
) -> int:
    api = Api(client)
    service, uuid = await _what(client, name, engine)
    forecast = await forecast_of(api, uuid)
    found = [*_here(kind, data_dir, forecast), *guards.refusals(forecast, kind, service)]
    blind = await unreachable(forecast.concerned(kind, service)) if not found else []
    for vip in blind:
        how = f"no connection to port {vip.probed.port} can be made from here" if vip.probed else "it has no TCP port"
        why = f"{vip.label} can't be watched: {how}"
        found.append(guards.Refusal(code="unreachable", why=why, forcible=True))
    against = guards.in_the_way(found, force=force)
    if not as_json:
        _foretell(forecast, kind, service, found)
    if dry_run or against:
        if as_json:
            click.echo(json.dumps(_foretold(forecast, kind, service, found)))
        return EXIT_FAILED if against else 0
    if not yes and not _confirmed(forecast, kind):
        return EXIT_FAILED
    say = (lambda text: click.echo(text, err=True)) if as_json else click.echo
    faults = Faults(Fabric.existing(data_dir.resolve())) if kind != "switchover" else None
    drill = Drill(
        api, forecast, kind, service, faults, data_dir=data_dir.resolve(), blind=blind, max_seconds=max_seconds, say=say
    )
    with _alone(data_dir if faults is not None else None):
        report = await _guarded(drill)
    if as_json:
        click.echo(json.dumps({**_foretold(forecast, kind, service, found), "result": document(report)}))
    else:
        _tell(report)
    if report.trouble or report.whole_after_s is None:
        return EXIT_NOT_WHOLE
    return 0 if report.as_planned else EXIT_DIFFERENT


async def _guarded(drill: Drill) -> Report:
    """Signals break it off, once; giving back is not broken off."""
    task = asyncio.ensure_future(drill.run())
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    return await task


async def _what(client: Client, name: str, engine: str) -> tuple[str, str]:
    """(uuid of the virtual service or "", uuid of the engine). Raises NotFound, Refused."""
    if engine:
        return "", str(client.object("serviceengine", engine)["uuid"])
    found = client.object("virtualservice", name)
    vips = client.call("GET", f"virtualservice/{found['uuid']}/placement")["vips"]
    owner = next((vip["answers"] for vip in vips if vip["answers"]), "")
    known = client.named("serviceengine", owner) if owner else None
    if known is None:
        raise Refused(f"Nobody answers for {name}: there is no failover to drill.", hint="See its placement.")
    return str(found["uuid"]), str(known["uuid"])


def _here(kind: str, data_dir: Path, forecast: Forecast) -> list[guards.Refusal]:
    """Whether the fault can be done from this machine."""
    if kind == "switchover":
        return []
    why = ""
    if os.geteuid() != 0:
        why = f"{kind} needs root"
    else:
        try:
            fabric = Fabric.existing(data_dir.resolve())
            if not (NETNS / fabric.addressing.namespace(forecast.serviceengine)).exists():
                why = f"{forecast.serviceengine} does not run on this machine under {data_dir}"
        except ShoalError as error:
            why = str(error).rstrip(".")
    hint = "Run it as root where the engines are, with their --data-dir, or use --kind switchover."
    return [guards.Refusal(code="elsewhere", why=why, hint=hint)] if why else []


def _confirmed(forecast: Forecast, kind: str) -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError("Give --yes to do it, or --dry-run to see what should happen.")
    return click.confirm(f"Do it ({kind} of {forecast.serviceengine})?")


@contextlib.contextmanager
def _alone(data_dir: Path | None) -> Iterator[None]:
    """One drill at a time. Raises Refused."""
    if data_dir is None:
        yield
        return
    lock = os.open(data_dir / "drill.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Refused("Another drill is going on here.", hint="Wait for its end.") from None
    finally:
        os.close(lock)


# --- what people and machines see ---


def _foretold(forecast: Forecast, kind: str, service: str, found: list[guards.Refusal]) -> Document:
    vips = [
        {
            "vip": vip.vip,
            "address": vip.address,
            "virtualservices": [one.name for one in vip.virtualservices],
            "from": vip.answers,
            "to": forecast.taker(vip, kind),
            "armed": vip.armed,
            "outage_ms": forecast.outage_ms(kind),
        }
        for vip in forecast.concerned(kind, service)
    ]
    return {
        "serviceengine": forecast.serviceengine,
        "group": forecast.group,
        "kind": kind,
        "foretold": vips,
        "outcome": msgspec.to_builtins(forecast.outcome),
        "refusals": [msgspec.to_builtins(refusal) for refusal in found],
    }


def _foretell(forecast: Forecast, kind: str, service: str, found: list[guards.Refusal]) -> None:
    click.echo(f"{kind} of {forecast.serviceengine} (group {forecast.group}) should come to this:")
    rows = [
        (
            vip.label,
            vip.answers or "nobody",
            forecast.taker(vip, kind) or "nobody",
            f"{forecast.outage_ms(kind):.0f} ms",
        )
        for vip in forecast.concerned(kind, service)
    ]
    if rows:
        click.echo(on_screen(box(("VIP", "Answers now", "Answers then", "Not answered"), rows)))
    lines = []
    if kind != "switchover":
        lines.append(f"Then: {forecast.outcome.sentence}.")
        lines.append(f"Without a successor until it is back: {', '.join(forecast.outcome.exposed) or 'none'}.")
    lines += [f"Against it: {refusal.sentence()}" for refusal in found]
    if lines:
        click.echo(on_screen("\n".join(lines)))


def _tell(report: Report) -> None:
    rows = [
        (
            f"{one.address} ({', '.join(one.virtualservices)})",
            one.predicted or "nobody",
            one.actual or "nobody",
            f"{one.predicted_ms:.0f} ms",
            f"{one.outage_ms:.0f} ms",
            f"{one.late_answer_ms:.0f} ms",
        )
        for one in report.scores
    ]
    lines = [box(("VIP", "Should answer", "Answers", "Outage foretold", "Outage", "Late answer"), rows)] if rows else []
    for one in report.scores:
        lines += [f"{one.address}: {text}" for text in (*(f"differs: {d}" for d in one.differences), one.why) if text]
    if report.trouble:
        lines.append(f"Trouble: {report.trouble}.")
    if report.whole_after_s is not None:
        lines.append(f"Whole and armed again {report.whole_after_s:.1f} s after the fault.")
    lines.append("As foretold." if report.as_planned else "Not as foretold.")
    click.echo(on_screen("\n".join(lines)))
