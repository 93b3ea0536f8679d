"""One whole Shoal in one process: store, controller, namespaces cloud, API; and starting and stopping it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import ipaddress
import json
import logging
import logging.handlers
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from rich.console import Console

from shoal import data_directory
from shoal.api.app import App, Dependencies
from shoal.api.server import Served, listen, serve
from shoal.clouds import memory
from shoal.clouds.addressing import Addressing, Network
from shoal.clouds.fabric import Fabric, alive
from shoal.clouds.namespaces import NamespacesCloud, engines_in
from shoal.controller import bootstrap, outward, pki
from shoal.controller.accounts import Accounts, check_first
from shoal.controller.acme.profile import account_key
from shoal.controller.acme.renewals import Renewals
from shoal.controller.addresses.uploads import Uploads
from shoal.controller.alerts.watch import Alerts
from shoal.controller.autoscale import Autoscale
from shoal.controller.backup import replacing
from shoal.controller.backup.contents import Contents
from shoal.controller.backup.kept import Backups
from shoal.controller.backup.restoring import restore as restored
from shoal.controller.client_logs import ClientLogStore
from shoal.controller.clock import SystemClock
from shoal.controller.controller import Controller
from shoal.controller.decision_log import DecisionLog
from shoal.controller.engine_documents import EngineDocuments
from shoal.controller.intent import SYSTEM, Intent
from shoal.controller.journal import Journal
from shoal.controller.metric_file import MetricFile
from shoal.controller.observer import Place
from shoal.controller.outward import Outward
from shoal.controller.rules import Rules
from shoal.controller.secrets import Secrets
from shoal.controller.sight import owners_of
from shoal.controller.view import View
from shoal.errors import Invalid, NotReady, Problem, ShoalError
from shoal.objects import load
from shoal.observe.ring import PROBER_FILE
from shoal.store import large
from shoal.store.noted import NotedStore
from shoal.store.sqlite import SqliteStore
from shoal.wire import messages
from shoal.wire.channel import Channel
from shoal.wire.channel import serve as serve_wire

log = logging.getLogger("shoal.system")

WIRE_PORT = 9444
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0
POLL_S = 0.05
RUNNING_BYTES = 256
LOG_BYTES_MAX = 10_000_000
COLLECTED_AFTER = (2_000, 5, 200)
"""Objects more than before until the youngest are looked at, and how often until the next older ones are: all of them when
there are two million more."""
SWITCH_INTERVAL_S = 0.001
"""So long a thread computes while another one waits. With Python's 5 ms the store's thread, which has a handful of statements for
each commit, waits up to so long for each of them while a plan is made."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    data_dir: Path
    host: str
    port: int
    vip_networks: tuple[str, ...] = ()
    admin_password: str | None = None
    probe: bool = True
    """Whether VIPs are probed."""
    may_ask: tuple[str, ...] = ()
    """Networks that are asked on users' behalf though they are this machine's own, or link-local."""

    @classmethod
    def parse(
        cls,
        data_dir: Path,
        listen: str,
        vip_networks: Sequence[str] = (),
        admin_password: str | None = None,
        *,
        probe: bool = True,
        may_ask: Sequence[str] = (),
    ) -> Options:
        """Raises Invalid naming the option that is wrong."""
        host, colon, port = listen.rpartition(":")
        if not colon or not port.isdigit() or not 0 <= int(port) <= 65535:
            hint = "Give HOST:PORT, such as 127.0.0.1:9443."
            raise Invalid([Problem(path="--listen", value=listen, why="is no address and port", hint=hint)])
        Addressing.of(data_dir, vip_networks)
        _networks(may_ask)
        return cls(
            data_dir=data_dir.resolve(),
            host=host.strip("[]"),
            port=int(port),
            vip_networks=tuple(vip_networks),
            admin_password=admin_password,
            probe=probe,
            may_ask=tuple(may_ask),
        )


def _networks(texts: Iterable[str]) -> list[outward.Network]:
    """Raises Invalid."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError as error:
            hint = "Such as 127.0.0.1/32."
            raise Invalid(
                [Problem(path=outward.OPTION, value=text, why=f"is no network ({error})", hint=hint)]
            ) from None
    return found


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """``controller.pid``: what `down`, `status` and the shell need to find it."""

    pid: int
    url: str
    started: float


Progress = Callable[[str], None]
_detached: list[subprocess.Popen[bytes]] = []
"""Controllers started by `launch`: held so that they can be collected when they end."""


@contextlib.asynccontextmanager
async def running(
    options: Options, progress: Progress = lambda step: None, anew: asyncio.Event | None = None
) -> AsyncIterator[tuple[Served, str | None]]:
    """A Shoal that serves, until the block ends (engines go on). Yields (the API, the admin password if new). ``anew`` is set
    when a backup is to take the place of all that is there: then the block is to end, and the next one begins with that."""
    data_directory.make(options.data_dir)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(data_directory.claim(Addressing.of(options.data_dir).id, options.data_dir))
        listener = stack.enter_context(listen(options.host, options.port))  # before anything is made on the machine
        restored: _Restored | None = None
        if replacing.is_staged(options.data_dir):
            progress("restore")
            await _destroy(options.data_dir)  # engines of what was there
            before = await asyncio.to_thread(replacing.finish, options.data_dir)
            restored = _Restored(before)
            stack.push(restored.failed)
        progress("store")
        store = NotedStore(await SqliteStore.open(options.data_dir / "shoal.db"), SystemClock().now)
        stack.push_async_callback(store.close)
        await large.finish(store)  # before anybody reads
        await check_first(store, options.admin_password)
        (options.data_dir / "keys").mkdir(mode=0o700, exist_ok=True)
        secrets = Secrets.open(options.data_dir / "keys" / "secrets.key")
        authority = pki.Authority.open(options.data_dir / "pki")
        registry = load()
        view = View(store, registry)
        await view.start()
        stack.push_async_callback(view.stop)
        progress("network")
        fabric = Fabric(options.data_dir, Addressing.of(options.data_dir, options.vip_networks))
        fresh = not fabric.namespaces()
        try:
            await fabric.start()
        except ShoalError:
            if fresh:
                await fabric.destroy()
            raise
        names = fabric.addressing
        rules = Rules(view, lambda address: any(ipaddress.ip_address(address) in nodes for nodes in names.nodes))
        intent = Intent(store, view, registry, secrets, rules)
        journal = Journal(options.data_dir / "logs", SystemClock(), partial(owners_of, view))
        await journal.catch_up(store)
        intent.trail.on_written = journal.change
        await _bootstrap(intent, view, names.vip_networks if fabric.ipv6 else names.vip_networks[:1])
        accounts = Accounts(store, view, intent)
        new_password = await accounts.ensure_admin(options.admin_password)
        progress("engines")
        reach = Outward(_networks(options.may_ask), [listener.getsockname()[1], WIRE_PORT])
        cloud = NamespacesCloud(options.data_dir, fabric, [f"{names.gateway}:{WIRE_PORT}"])
        await cloud.start()
        controller = Controller(
            store,
            view,
            cloud,
            EngineDocuments(intent, view),
            identity=authority.issue_engine,
            token=authority.issue_join,
            sign=authority.sign_engine,
            unseal=secrets.unseal,
            heartbeat_key=lambda group: secrets.derived(f"heartbeat/{group}"),
            account=lambda profile: account_key(secrets.derived, profile).thumbprint(),
            derive=secrets.derived,
            gateway=names.gateway,
            metric_file=MetricFile(options.data_dir / "metrics.bin"),
            decision_log=DecisionLog(options.data_dir / "decisions.log"),
            history_folder=options.data_dir / "logs",
            journal=journal,
            client_logs=ClientLogStore(options.data_dir / "logs", SystemClock()),
            probe_from=_place(options, names) if options.probe else None,
            freed=rules.freed,
            outward=reach,
        )
        controller.watch(store)
        await controller.load()
        accounts.note = controller.events_log.add

        async def write_group(group: str, document: Mapping[str, Any]) -> None:
            await intent.replace("poolgroup", group, document, SYSTEM)

        controller.deployments.write = write_group
        alerts = Alerts(view, intent, controller.events_log, controller.metrics, SystemClock(), reach)
        alerts.listen()
        autoscale = Autoscale(view, intent, controller.events_log, SystemClock())
        alerts.on_alert = autoscale.alert
        controller.capacities.on_look = partial(autoscale.look, controller.capacities)
        wire = await serve_wire(names.gateway, WIRE_PORT, authority.wire_server_context(), _attend(controller))
        stack.push_async_callback(wire.close)
        task = asyncio.create_task(controller.run(), name="controller")
        task.add_done_callback(_ended)
        stack.push_async_callback(_cancelled, task)
        margins = asyncio.create_task(controller.margins.run(), name="margins")
        margins.add_done_callback(_ended)
        stack.push_async_callback(_cancelled, margins)
        alerting = asyncio.create_task(alerts.run(), name="alerts")
        alerting.add_done_callback(_ended)
        stack.push_async_callback(_cancelled, alerting)
        scaling = asyncio.create_task(autoscale.run(), name="autoscale")
        scaling.add_done_callback(_ended)
        stack.push_async_callback(_cancelled, scaling)
        renewals = Renewals(
            view,
            intent,
            controller.events_log,
            SystemClock(),
            derive=secrets.derived,
            serves=controller.proves,
            outward=reach,
        )
        controller.on_renew(renewals.ask)
        renewing = asyncio.create_task(renewals.run(), name="renewals")
        renewing.add_done_callback(_ended)
        stack.push_async_callback(_cancelled, renewing)
        progress("API")
        certificate, key = authority.api_server_files(
            options.data_dir / "api", ["localhost", "shoal"], ["127.0.0.1", names.gateway, *_listed(options.host)]
        )
        deps = Dependencies(
            view=view,
            intent=intent,
            registry=registry,
            accounts=accounts,
            runtime=controller,
            metrics=controller.metrics,
            client_logs=controller.client_logs,
            history=controller.history,
            journal=journal,
            backups=Backups(store, view, intent, options.data_dir, anew.set if anew is not None else None),
            uploads=Uploads(controller.contents, intent, view, SystemClock()),
        )
        served = await serve(App(deps), listener, Path(certificate), Path(key))
        stack.push_async_callback(served.stop)
        settle_interpreter()
        if restored is not None:
            restored.serves = True
            controller.events_log.add(*restored.told(), level="info" if restored.is_new else "warning")
        yield served, new_password


class _CalledBack(NotReady):
    """What was restored did not start, so what was there before is staged."""


class _Restored:
    """What took the place of ``before``. That is called back, once, when this fails before it ``serves``."""

    def __init__(self, before: Path) -> None:
        self.before = before
        self.serves = False
        self.is_new = replacing.is_former(before)
        """Else it is what was called back."""

    def told(self) -> tuple[str, str]:
        """An event's name and words."""
        if self.is_new:
            return "SYSTEM_RESTORED", f"a backup has taken the place of what is now in {self.before}"
        return "SYSTEM_RESTORE_FAILED", f"a backup, now in {self.before}, did not start: what was there serves again"

    def failed(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not self.serves and self.is_new:
            replacing.call_back(self.before)
            raise _CalledBack(f"What was restored does not start ({error}), so what was there before is called back.")


def settle_interpreter() -> None:
    """The collector of cycles stops the loop while it looks. What is there now stays, so it need not look at that again; and
    with Python's thresholds (700, 10, 10) it would look at all the rest after a few hundred objects are made through the
    API, for 30 to 130 ms each. What it is for comes seldom: nearly everything goes without it, when nobody refers to it. A look at
    the young ones takes 1 ms, at those a little older 2 to 4."""
    gc.unfreeze()  # what an earlier controller of this process left
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def _place(options: Options, names: Addressing) -> Place:
    """Through the host's own end of the data network, as a neighbour of its own."""
    folder = memory.folder(names.namespace("prober")) or str(options.data_dir)
    return Place(
        interface=names.host_link, address=names.prober, mac=names.mac(names.prober), file=Path(folder) / PROBER_FILE
    )


def _listed(host: str) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        return []


async def _bootstrap(intent: Intent, view: View, vip_networks: Iterable[Network]) -> None:
    missing = not view.all("sslkeyandcertificate")
    certificates = {
        name: tuple(pem.decode() for pem in pki.self_signed_default(name))
        for name in ("System-Default-Cert", "System-Default-Portal-Cert")
        if missing
    }
    options = bootstrap.Options(vip_networks=tuple(map(str, vip_networks)), certificates=certificates)  # type: ignore[arg-type]
    await bootstrap.bootstrap(intent, view, options)


def _attend(controller: Controller) -> Callable[[Channel[messages.FromEngine]], Awaitable[None]]:
    async def attend(channel: Channel[messages.FromEngine]) -> None:
        await controller.attend(channel, channel.identity, channel.certificate)

    return attend


def _ended(task: asyncio.Task[None]) -> None:
    """The controller's task ends by cancellation only; anything else is a fault of ours, and the process goes with it
    (engines keep serving, and whoever supervises it starts it again)."""
    if not task.cancelled() and task.exception() is not None:
        log.critical("the controller has failed", exc_info=task.exception())
        os.kill(os.getpid(), signal.SIGTERM)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# --- the commands ---


def run(options: Options, console: Console) -> None:
    """`shoal up` in the foreground."""
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(_run(options, console))


async def _run(options: Options, console: Console) -> None:
    data_directory.make(options.data_dir)
    _log_to(options.data_dir / "controller.log")
    stop, anew = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    while not stop.is_set():
        anew.clear()
        try:
            await _serving(options, console, stop, anew)
        except _CalledBack as error:
            log.error("%s", error)
            _say(console, str(error))


async def _serving(options: Options, console: Console, stop: asyncio.Event, anew: asyncio.Event) -> None:
    """Until one of the two is set."""
    pid_file = options.data_dir / "controller.pid"
    began = time.monotonic()
    say = partial(_say, console)
    async with running(options, lambda step: say(f"  starting: {step}"), anew) as (served, password):
        host = f"[{options.host}]" if ":" in options.host else options.host
        url = f"https://{host}:{served.port}"
        _put_down(Running(pid=os.getpid(), url=url, started=time.time()), pid_file)
        say(f"Shoal is up after {time.monotonic() - began:.1f} s: [bold]{url}[/bold]")
        if password:
            say(f"The password of user admin is [bold]{password}[/bold] (shown this once).")
        say(f"Try: shoal shell --controller {url}")
        try:
            await _first(stop, anew)
        finally:
            pid_file.unlink(missing_ok=True)
        say("Stopping; engines keep serving." if stop.is_set() else "Beginning anew, with what is restored.")


def _say(console: Console, text: str) -> None:
    """A full disk costs the words, where they go to a file."""
    try:
        console.print(text)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def _put_down(running: Running, file: Path) -> None:
    """In the place of what a killed controller has left, which takes no room on a full disk."""
    data = msgspec.json.encode(running).ljust(RUNNING_BYTES)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(handle, data, 0)
        os.ftruncate(handle, len(data))
    finally:
        os.close(handle)


async def _first(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def _log_to(file: Path) -> None:
    handler = logging.handlers.RotatingFileHandler(file, maxBytes=LOG_BYTES_MAX, backupCount=2)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def found(data_dir: Path) -> Running | None:
    """The controller that runs on this data directory, if one does."""
    try:
        record = msgspec.json.decode((data_dir / "controller.pid").read_bytes(), type=Running)
    except (OSError, ValueError):
        return None
    return record if alive(record.pid) else None


def launch(options: Options, console: Console | None) -> Running:
    """`shoal up --detach`: returns when ready. Raises NotReady with the end of its output when it fails."""
    present = found(options.data_dir)
    if present is not None:
        raise NotReady(f"A Shoal runs on {options.data_dir} already: {present.url}.", hint="Stop it with shoal down.")
    data_directory.make(options.data_dir)
    command = [sys.executable, "-m", "shoal", "up", "--data-dir", str(options.data_dir)]
    command += ["--listen", f"{options.host}:{options.port}"]
    command += [word for network in options.vip_networks for word in ("--vip-network", network)]
    command += [] if options.probe else ["--no-probe"]
    command += [word for network in options.may_ask for word in (outward.OPTION, network)]
    environment = dict(os.environ)
    if options.admin_password:
        environment["SHOAL_ADMIN_PASSWORD"] = options.admin_password
    output = options.data_dir / "up.out"
    with output.open("wb") as out:
        output.chmod(0o600)
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd="/", env=environment
        )
    _detached.append(child)
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        present = found(options.data_dir)
        if present is not None:
            if console is not None:
                console.print(output.read_text().strip())
            return present
        if child.poll() is not None:
            break
        time.sleep(POLL_S)
    why = (
        output.read_text().strip()[-500:] or f"{shutil.disk_usage(options.data_dir).free:,} bytes are free on its disk."
    )
    if child.poll() is None:
        slow = f"It is not ready after {READY_WITHIN_S:.0f} s and goes on starting: {why}"
        raise NotReady(slow, hint=f"shoal status says when it is, shoal down ends it; see {output}.")
    raise NotReady(f"It did not start: {why}", hint=f"See {output}.")


def stop(data_dir: Path, console: Console | None, *, purge: bool = False) -> None:
    """`shoal down`. Safe to repeat; no error when nothing runs. Raises NotReady if ``purge`` is wrong here."""
    data_dir = data_dir.resolve()
    if purge and data_dir.exists() and not data_directory.is_ours(data_dir):
        data_directory.purge(data_dir)  # says why not, before anything is stopped
    present = found(data_dir)
    pid = present.pid if present else data_directory.holder(Addressing.of(data_dir).id)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_WITHIN_S
        while alive(pid):
            _collect()
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                deadline = time.monotonic() + STOP_WITHIN_S
            time.sleep(POLL_S)
    _collect()  # one of this process's own has ended since the last look
    removed = asyncio.run(_destroy(data_dir))
    if purge:
        data_directory.purge(data_dir)
    if console is not None:
        left = f"its {removed} namespaces are removed" if removed else "nothing of it was left on this machine"
        console.print("Shoal is down." if pid else f"No controller was running on {data_dir}; {left}.")


def restore(file: Path, words: str, data_dir: Path) -> Contents:
    """`shoal restore`: a backup becomes the data directory. Raises Invalid, NotReady."""
    pid = data_directory.holder(Addressing.of(data_dir).id)
    if pid is not None:
        raise NotReady(f"A Shoal runs on {data_dir} (process {pid}).", hint="Stop it with shoal down.")
    return asyncio.run(restored(file, words, data_dir.resolve()))


def _collect() -> None:
    _detached[:] = [child for child in _detached if child.poll() is None]


async def _destroy(data_dir: Path) -> int:
    """Remove all that carries the data directory's id, whether or not the directory remembers it."""
    fabric = Fabric.of(data_dir)
    namespaces = len(fabric.namespaces())
    await NamespacesCloud(data_dir, fabric, []).destroy()
    return namespaces


def status_of(data_dir: Path) -> dict[str, Any]:
    """What `shoal status` prints: ``ready``, ``state``, ``url``, ``pid``, ``engines``, ``namespaces``."""
    import httpx

    present = found(data_dir)
    engines: list[str] = []
    namespaces: list[str] = []
    with contextlib.suppress(ShoalError):
        fabric = Fabric.existing(data_dir.resolve())
        namespaces, engines = fabric.namespaces(), engines_in(data_dir, fabric)
    state = "DOWN"
    if present is not None:
        try:
            answer = httpx.get(f"{present.url}/api/cluster/runtime", verify=_unverified(), timeout=5.0)
            state = json.loads(answer.text)["cluster_state"]["state"]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            state = f"not answering: {error}"
    return {
        "ready": state == "CLUSTER_UP_NO_HA",
        "state": state,
        "url": present.url if present else "",
        "pid": present.pid if present else 0,
        "data_dir": str(data_dir),
        "engines": engines,
        "namespaces": namespaces,
    }


def _unverified() -> ssl.SSLContext:
    """For the local status only: the certificate is our own CA's and nothing secret is sent."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
