"""The REST face on the real intent, view and in-memory store, with a runtime that only remembers what it was asked."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec

from shoal.api.app import App, Dependencies
from shoal.api.ports import Runtime
from shoal.clouds.noop import HOSTS, NoopCloud
from shoal.clouds.protocol import EngineSpec, Identity
from shoal.controller.accounts import Accounts
from shoal.controller.addresses.contents import Contents
from shoal.controller.addresses.uploads import Uploads
from shoal.controller.backup.kept import Backups
from shoal.controller.bootstrap import Options, bootstrap
from shoal.controller.capture.wish import Wish
from shoal.controller.change_state import State
from shoal.controller.clock import SystemClock
from shoal.controller.controller import Controller
from shoal.controller.engine_documents import EngineDocuments
from shoal.controller.events import Event
from shoal.controller.intent import SYSTEM, Caller, Guard, Intent
from shoal.controller.journal import Journal
from shoal.controller.ledger import Changes
from shoal.controller.metrics import Metrics
from shoal.controller.outward import Outward
from shoal.controller.pki import self_signed_default
from shoal.controller.plans import Planned, Plans
from shoal.controller.records import VipRecord
from shoal.controller.secrets import Secrets
from shoal.controller.sight import owners_of
from shoal.controller.transfer.importing import Importing
from shoal.controller.view import View
from shoal.errors import NotFound, Refused
from shoal.objects import load
from shoal.objects.views import ServiceEngineGroup, view
from shoal.placement import course
from shoal.store.memory import MemoryStore

Document = dict[str, Any]
PASSWORD = "a shoal of fish"
EPOCH = 1_700_000_000.0 - 1_000.0
HOST = "ctl.example:9443"
RUN_S_MAX = 10.0
HERE = Outward([ipaddress.ip_network("127.0.0.0/8")])
"""Servers of tests are on this machine."""
NO_IDENTITY = Identity(key_pem=b"", certificate_pem=b"", ca_pem=b"")


class Issuer:
    """Of engines' certificates; none unless a test wants some."""

    def __init__(self) -> None:
        self.issue: Callable[[str, str], Identity] = lambda id, name: NO_IDENTITY
        self.sign: Callable[[bytes, str, str], bytes] = lambda request, id, name: b""


ISSUER = Issuer()


class StillPlans:
    """Nothing ever moves."""

    async def plan(self, wish: object, caller: Caller) -> Planned:
        document = {"id": "plan-0", "sentence": "", "moves_traffic": False, "changes_engines": False, "groups": []}
        state = State(documents=(), groups=())
        return Planned(id="plan-0", wish="", edited=(), state=state, documents={}, warnings=(), document=document)

    async def apply(self, id: str, wish: object, caller: Caller, write: Callable[[Guard], Awaitable[Any]]) -> Any:
        return await write(lambda: None)


class FakeRuntime:
    """``calls`` is what operators asked for; a VIP ``nowhere`` is refused."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.calls: list[tuple[str, str, str, Mapping[str, Any]]] = []
        self.fault: Exception | None = None
        self.scale = 1
        self.wishes: list[Wish] = []
        self.wishes_ended = 0
        self.pieces = [b"head", b"packet"]
        self.endless = False

    def below(self) -> tuple[tuple[str, str], ...]:
        return (("virtualservice", "runtime"), ("virtualservice", "scaleout"))

    async def look(self, type: str, uuid: str, what: str) -> Any:
        if (type, what) == ("serviceengine", "forecast"):
            return {"uuid": uuid}
        if what.strip("/") not in ("runtime", "runtime/detail", "placement"):
            raise NotFound(f"There is no {what} of a {type}.")
        return self.summary(type, uuid)

    async def whatif(self, body: Mapping[str, Any], intent: Intent, caller: Caller) -> Document:
        return {"asked": dict(body), "user": caller.user}

    def summary(self, type: str, uuid: str) -> Document:
        if self.fault is not None:
            raise self.fault
        if type != "virtualservice":
            return {"oper_status": {"state": "OPER_UP"}}
        engines = [{"uuid": f"se-{n}", "url": f"/api/serviceengine/se-{n}#Avi-se-{n}"} for n in range(self.scale)]
        return {
            "oper_status": {"state": "OPER_UP"},
            "percent_ses_up": 100,
            "vip_summary": [{"vip_id": "0", "num_se_assigned": self.scale, "service_engine": engines}],
        }

    def beside(self, type: str, uuid: str) -> Document:
        return {}

    def plans(self, intent: Intent) -> Plans:
        return cast(Plans, StillPlans())

    def importing(self, intent: Intent) -> Importing:
        raise NotImplementedError("this world has no controller")

    async def remove_engine(self, uuid: str, guard: Guard = lambda: None) -> None:
        self.calls.append(("serviceengine", uuid, "remove", {}))

    def pulse(self) -> Document:
        return {"events": self.scale}

    def cluster_runtime(self) -> Document:
        return {"cluster_state": {"state": "CLUSTER_UP_NO_HA"}}

    def cluster_status(self) -> Document:
        return {"state": "CLUSTER_UP_NO_HA"}

    async def operate(
        self, type: str, uuid: str, operation: str, body: Mapping[str, Any], caller: Caller, guard: Guard = lambda: None
    ) -> Document:
        if body.get("vip_id") == "nowhere":
            raise Refused("There is no such VIP.")
        self.calls.append((type, uuid, operation, body))
        self.scale += {"scaleout": 1, "scalein": -1}.get(operation, 0)
        return {"status": "in progress"}

    async def incident(self, seconds: float, service: str = "") -> Document:
        return {"seconds": seconds, "service": service}

    async def capture(self, service: str, wish: Wish) -> AsyncGenerator[bytes, None]:
        self.wishes.append(wish)
        try:
            for piece in self.pieces:
                yield piece
                await asyncio.sleep(0)
            while self.endless:
                yield b"more"
                await asyncio.sleep(0.01)
        finally:
            self.wishes_ended += 1


EVENTS = tuple(
    Event(id=f"fake-{name}", at=3.0 - back, name=name, detail=f"{name}.")
    for back, name in enumerate(("SE_DOWN", "VS_UP", "SE_UP"))
)
"""Of a world without a controller."""


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.s = 1_000.0

    def __call__(self) -> float:
        return self.s

    def now(self) -> float:
        return EPOCH + self.s

    def monotonic(self) -> float:
        return self.s

    async def sleep(self, seconds: float) -> None:
        self.s += seconds


class World:
    def __init__(
        self, app: App, store: MemoryStore, view: View, runtime: FakeRuntime, clock: Clock, metrics: Metrics
    ) -> None:
        self.app, self.store, self.view, self.runtime, self.clock = app, store, view, runtime, clock
        self.metrics = metrics
        self.client = self.stranger()

    def stranger(self) -> httpx.AsyncClient:
        """A client that is not logged in."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=f"https://{HOST}")

    async def login(self) -> None:
        reply = await self.client.post("/login", data={"username": "admin", "password": PASSWORD})
        assert reply.status_code == 200, reply.text
        self.client.headers["X-CSRFToken"] = reply.cookies["csrftoken"]
        self.client.headers["X-Avi-Version"] = "22.1.3"

    async def call(self, method: str, path: str, status: int, **more: Any) -> Any:
        """The reply's document; fails the test on another status."""
        reply = await self.client.request(method, path, **more)
        assert reply.status_code == status, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    async def get(self, path: str, status: int = 200, **params: Any) -> Any:
        return await self.call("GET", path, status, **({"params": params} if params else {}))

    async def post(self, path: str, body: Document, status: int = 201, **more: Any) -> Any:
        return await self.call("POST", path, status, json=body, **more)

    async def pools(self, names: Sequence[str]) -> dict[str, Document]:
        """Pools of one server each."""
        servers = [{"ip": {"addr": f"10.0.1.{number}", "type": "V4"}} for number in range(1, len(names) + 1)]
        made = zip(names, servers, strict=True)
        return {name: await self.post("/api/pool", {"name": name, "servers": [server]}) for name, server in made}

    async def service(self, name: str = "web", address: str = "10.9.0.5", group: str = "") -> Document:
        """A pool, its VIP and the virtual service (of a ``group`` by its reference, if not the default one)."""
        server = {"ip": {"addr": "10.0.0.1", "type": "V4"}, "port": 80}
        await self.post("/api/pool", {"name": f"{name}-pool", "servers": [server]})
        vip = {"vip_id": "0", "ip_address": {"addr": address, "type": "V4"}}
        await self.post("/api/vsvip", {"name": f"{name}-vip", "vip": [vip]})
        body = {
            "name": name,
            "services": [{"port": 80}],
            "pool_ref": f"/api/pool?name={name}-pool",
            "vsvip_ref": f"/api/vsvip?name={name}-vip",
            **({"se_group_ref": group} if group else {}),
        }
        made: Document = await self.post("/api/virtualservice", body)
        return made


async def lead_to_group(world: World, service: Document, group: Document) -> None:
    """The virtual service goes to a pool group instead of its pool."""
    change = {"delete": {"pool_ref": service["pool_ref"]}, "replace": {"pool_group_ref": group["url"]}}
    await world.call("PATCH", f"/api/virtualservice/{service['uuid']}", 200, json=change)


def key_pair(name: str = "www.example.org") -> tuple[str, str]:
    """(key, certificate) in PEM."""
    key, certificate = self_signed_default(name)
    return key.decode(), certificate.decode()


def warnings_of(reply: httpx.Response) -> list[str]:
    return reply.headers.get_list("x-shoal-warning")


@asynccontextmanager
async def api_world(directory: Path) -> AsyncIterator[World]:
    """Bootstrapped and logged in as admin. ``directory`` takes the key that seals secrets."""
    async with foundation(directory) as (store, view, intent):
        runtime, clock = FakeRuntime(view), Clock()
        metrics = Metrics(clock)
        app = await _app(directory, store, view, intent, runtime, metrics, clock)
        world = World(app, store, view, runtime, clock, metrics)
        await world.login()
        yield world
        await world.client.aclose()


class StillClock(SystemClock):
    """No engine is taken for dead because the machine that runs the tests is slow."""

    def monotonic(self) -> float:
        return 1_000.0


def own(number: int) -> dict[str, str]:
    """The address and MAC of a staged engine."""
    return {"address": f"10.200.0.{number + 1}", "mac": f"02:00:00:00:00:{number + 1:02x}"}


class ControlledWorld(World):
    """The REST face on the real controller, over a cloud whose engines never speak. It plans when told to `run`."""

    controller: Controller
    intent: Intent
    cloud: NoopCloud
    directory: Path

    async def restart(self) -> None:
        """Another controller on the same store: what the last one held in memory is gone."""
        self.controller = await _controller(self.store, self.view, self.intent, self.cloud)
        self.app = await _app(
            self.directory, self.store, self.view, self.intent, self.controller, self.controller.metrics, self.clock
        )
        await self.client.aclose()
        self.client = self.stranger()
        await self.login()

    async def staged(self, engines: int, group: str = "Default-Group") -> list[str]:
        """So many engines that are up, with the group's VIPs placed and served on them: by the records, all of them
        written by hand. Their names."""
        document = self.view.named("serviceenginegroup", group)
        assert document is not None
        ledger, uuid = self.controller.ledger, document["uuid"]
        typed = view(document, ServiceEngineGroup)
        made = [ledger.new_engine(uuid, "Avi", 0.0, host=HOSTS[n % len(HOSTS)], why="staged") for n in range(engines)]
        made = [msgspec.structs.replace(engine, created=True, seen=True, **own(n)) for n, engine in enumerate(made)]
        await ledger.write(Changes(engines={engine.id: engine for engine in made}))
        for engine in made:
            spec = EngineSpec(
                id=engine.id, name=engine.name, rank=engine.rank, group=uuid, host=engine.host, identity=NO_IDENTITY
            )
            await self.cloud.create(spec)
            await EngineDocuments(self.intent, self.view).put(engine, typed, 24)
        now = SystemClock().now()
        present = self.controller.reconciler.present(uuid)
        assert present is not None
        end = course.follow(present, now).end
        records = {
            (uuid, vip.id): VipRecord(
                id=vip.id,
                group=uuid,
                placements=vip.placements,
                generation=vip.generation,
                succession=vip.succession,
                list_version=vip.list_version,
                requested=vip.requested,
                scale_state="SCALEOUT_SUCCESS",
            )
            for vip in end.vips
        }
        await ledger.write(Changes(vips=dict(records)))
        return [engine.name for engine in made]

    async def run(self, done: Callable[[], object]) -> None:
        """The controller works until ``done`` (at most `RUN_S_MAX`)."""
        task = asyncio.create_task(self.controller.run())
        try:
            async with asyncio.timeout(RUN_S_MAX):
                while not done():
                    await asyncio.sleep(0.01)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _controller(store: MemoryStore, view: View, intent: Intent, cloud: NoopCloud) -> Controller:
    controller = Controller(
        store,
        view,
        cloud,
        EngineDocuments(intent, view),
        identity=lambda id, name: ISSUER.issue(id, name),
        sign=lambda request, id, name: ISSUER.sign(request, id, name),
        unseal=lambda text, context: text,
        heartbeat_key=lambda group: b"",
        clock=StillClock(),
    )

    async def write_group(group: str, document: Mapping[str, Any]) -> None:
        await intent.replace("poolgroup", group, document, SYSTEM)

    controller.deployments.write = write_group
    await controller.load()
    view.subscribe(controller.reconciler.on_document)  # what it keeps of the documents follows them also when not run
    return controller


@asynccontextmanager
async def controlled_world(directory: Path) -> AsyncIterator[ControlledWorld]:
    async with foundation(directory) as (store, view, intent):
        cloud = NoopCloud()
        controller = await _controller(store, view, intent, cloud)
        clock = Clock()
        app = await _app(directory, store, view, intent, controller, controller.metrics, clock)
        world = ControlledWorld(app, store, view, FakeRuntime(view), clock, controller.metrics)
        world.controller, world.intent, world.cloud, world.directory = controller, intent, cloud, directory
        await world.login()
        yield world
        await world.client.aclose()


@asynccontextmanager
async def foundation(
    directory: Path, vip_networks: tuple[str, ...] = ("10.9.0.0/24", "fd00:9::/112")
) -> AsyncIterator[tuple[MemoryStore, View, Intent]]:
    registry, store = load(), MemoryStore()
    view = View(store, registry)
    await view.start()
    (directory / "keys").mkdir(exist_ok=True)
    intent = Intent(store, view, registry, Secrets.open(directory / "keys" / "secrets.key"))
    await bootstrap(intent, view, Options(vip_networks=vip_networks))
    try:
        yield store, view, intent
    finally:
        await view.stop()
        await store.close()


async def _app(
    directory: Path,
    store: MemoryStore,
    view: View,
    intent: Intent,
    runtime: Runtime,
    metrics: Metrics,
    clock: Clock,
) -> App:
    accounts = Accounts(store, view, intent, clock=clock)
    journal = Journal(None, clock, partial(owners_of, view))
    await journal.catch_up(store)
    intent.trail.on_written = journal.change
    if isinstance(runtime, Controller):
        runtime.events_log.on_added = journal.event
    else:
        for event in EVENTS:
            journal.event(event)
    await accounts.ensure_admin(PASSWORD)
    contents = runtime.contents if isinstance(runtime, Controller) else Contents(view, view, store)
    deps = Dependencies(
        view=view,
        intent=intent,
        registry=load(),
        accounts=accounts,
        runtime=runtime,
        metrics=metrics,
        journal=journal,
        backups=Backups(store, view, intent, directory),
        uploads=Uploads(contents, intent, view, clock),
    )
    return App(deps, clock)
