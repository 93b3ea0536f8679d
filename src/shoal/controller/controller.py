"""The controller, assembled: everything between intent in the store and engines that serve it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any

from shoal.clouds.protocol import Cloud, Identity
from shoal.objects.views import ServiceEngineGroup, Views, uuid_of
from shoal.placement.model import Plan, Snapshot
from shoal.placement.presets import SHARED
from shoal.store.noted import NotedStore, Trouble
from shoal.store.protocol import Store
from shoal.wire import messages
from shoal.wire.counters import Counters

from . import engine_timers
from .addresses.contents import Contents
from .answering import Engines
from .balance import Balance
from .bgp import ESTABLISHED
from .bootstrap import PROPERTIES
from .capacity import Capacities
from .capture.captures import Captures
from .capture.wish import Wish
from .client_logs import ClientLogStore
from .clock import Clock, FreshId, SystemClock, WakingClock, fresh_uuid
from .compiler import Compiler
from .decision_log import DecisionLog
from .deployments import Deployments
from .desired import engines_of
from .events import EventLog
from .expiry import Expiry
from .fine_history import FineHistory
from .fleet import Fleet, Link, unplanned
from .freed import Freed
from .health_scores import HealthScores
from .incident import Incidents, vsvip_of
from .intent import Caller, Guard, Intent
from .joining import Joining, Sign
from .journal import Journal
from .ledger import Ledger
from .lifecycle import Lifecycle
from .loads import Loads
from .log_streams import LogStreams
from .making import Documents
from .metric_file import MetricFile
from .metric_ids import POOL
from .metrics import CONTROLLER, Metrics
from .names.names import Names
from .observer import Observer, Place
from .operations import KINDS, CallerLike, Operations
from .outward import Outward
from .plans import Aside, Plans
from .primaries import Primaries
from .reconciler import Reconciler
from .runtime import Runtime
from .shares import LOAD_AWARE, Shares
from .stapling import Stapling
from .storm import Settings as StormSettings
from .storm import Storms
from .targets import targets
from .tickets import Tickets
from .transfer.importing import Importing
from .upgrade import Upgrades
from .view import View
from .whatif.answer import WhatIfs
from .whatif.margins import Margins
from .zones.publisher import Publisher

ACME_PORT = 80
"""Where an authority looks for its proof (RFC 8555, 8.3)."""
STALL_TOLD_S = 2.0
"""Shorter ones are in the log."""
TROUBLE_TOLD_AGAIN_S = 60.0


def _plain(service: Mapping[str, Any]) -> bool:
    ports = service.get("services", ())
    return any(
        one["port"] <= ACME_PORT <= (one.get("port_range_end") or one["port"]) and not one["enable_ssl"]
        for one in ports
    )


class Controller:
    """Owns no socket: the API calls `read`, `operate` and `events`; the wire server calls `attend` for each engine.

    ``identity(engine id, name)`` issues an engine's certificate, ``token`` what a new one joins with (None = a
    certificate at once), ``sign`` certifies the key it has made; ``unseal(text, context)`` opens private keys;
    ``heartbeat_key(group)`` is the secret its engines' heartbeats are signed with;
    ``account(management profile)`` is the thumbprint of an ACME account;
    ``derive(purpose)`` makes the secrets of TLS session tickets (None = HAProxy makes its own);
    ``gateway`` is the data network's; ``metric_file`` is where measured history is kept over a restart;
    ``decision_log`` is where plans are written down with what they were made from;
    ``history_folder`` is where a day of its finest step is (None = it is not kept);
    ``journal`` is where events and decisions are kept for good;
    ``client_logs`` is where the requests engines tell of are kept (None = they are not asked for);
    ``probe_from`` is where the VIPs are probed from (None = they are not); ``freed`` are the addresses that whoever
    writes VsVips has seen given up; ``outward`` says where users may have something sent or asked.
    """

    def __init__(
        self,
        store: Store,
        view: View,
        cloud: Cloud,
        documents: Documents,
        *,
        identity: Callable[[str, str], Identity],
        token: Callable[[str, str], Identity] | None = None,
        sign: Sign | None = None,
        unseal: Callable[[str, str], str],
        heartbeat_key: Callable[[str], bytes],
        account: Callable[[str], str] = lambda profile: "",
        derive: Callable[[str], bytes] | None = None,
        gateway: str = "",
        metric_file: MetricFile | None = None,
        decision_log: DecisionLog | None = None,
        history_folder: Path | None = None,
        client_logs: ClientLogStore | None = None,
        journal: Journal | None = None,
        probe_from: Place | None = None,
        freed: Freed | None = None,
        outward: Outward | None = None,
        clock: Clock | None = None,
        fresh_id: FreshId = fresh_uuid,
    ) -> None:
        clock = self._clock = clock or SystemClock()
        self.view = view
        self._store = store
        self._trouble_told: Trouble | None = None
        self.metrics = Metrics(clock, self._known)
        self._metric_file = metric_file
        self.history = FineHistory(history_folder, self.metrics)
        self._keeps_history = history_folder is not None
        self.client_logs = client_logs
        self.loads = Loads(clock)
        self._groups, self._storm_views = Views(ServiceEngineGroup), Views(StormSettings)
        self.events_log = EventLog(store, clock)
        outward = outward or Outward()
        self._log_streams = LogStreams(view, self.events_log.add, clock.monotonic, outward)
        if client_logs is not None:
            client_logs.on_written = self._log_streams.take
        self._journal = journal
        self.ledger = Ledger(store, fresh_id)
        self.shares = Shares(
            clock,
            self.ledger,
            free_cpu=self.metrics.free_cpu,
            by_load=self._by_load,
            push=lambda engine: self.fleet.push(engine),
        )
        storms = Storms(self._storm_settings, self._spare)
        self._waking = WakingClock(clock, self._stalled)
        self._stall_told_at = -math.inf
        self.fleet = Fleet(
            self._waking,
            record=lambda engine: self.ledger.engines.get(engine),
            desired=lambda engine, having: self.compiler.parts(engine, having),
            on_change=self._engine_changed,
            on_ownership=self._ownership,
            on_vips=lambda vips: self.reconciler.on_vips(vips),
            on_counters=self._counters,
            on_client_logs=client_logs.take if client_logs is not None else None,
            on_join=Joining(self.ledger, sign, self.events_log).certificate if sign is not None else None,
            on_captured=lambda engine, message: self._captures.take(engine, message),
            on_router=self._on_router,
            on_gateway=self._on_gateway,
            shares=self.shares,
            storms=storms,
        )
        self.names = Names(view, store, self.events_log, clock, lambda pool: self._servers_changed(pool))
        self.capacities = Capacities(
            view, self.names, self.metrics, clock, up=lambda pool: self._runtime.servers_up(pool)
        )
        self.deployments = Deployments(
            self.names,
            view,
            store,
            self.metrics,
            self.events_log,
            clock,
            state=lambda pool: self._runtime.pool_state(pool),
            health=lambda pool: self._scores.now(POOL, pool).value,
            on_change=lambda group: self._group_changed(group),
        )
        self.primaries = Primaries(
            self.deployments,
            view,
            store,
            self.events_log,
            clock,
            state=lambda pool: self._runtime.pool_state(pool),
            on_change=lambda group: self._group_changed(group),
        )
        self._tickets = Tickets(derive, clock) if derive is not None else None
        self.zones = Publisher(view, store, self.events_log, clock, unseal)
        self.contents = Contents(self.primaries, view, store)
        self.compiler = Compiler(
            self.contents,
            self.ledger,
            self.fleet,
            unseal=unseal,
            heartbeat_key=heartbeat_key,
            account=account,
            answer=lambda certificate: self.stapling.answer(certificate),
            tickets=self._tickets.secrets if self._tickets is not None else lambda group: None,
            networks=self.contents.part,
            gateway=gateway,
        )
        self._captures = Captures(view, self.ledger, self.fleet, self.compiler, clock)
        self.reconciler = Reconciler(view, self.ledger, self.fleet, self.compiler, self.events_log, clock)
        self.ledger.on_written, self.ledger.on_loaded = self.reconciler.on_written, self.reconciler.on_loaded
        self.lifecycle = Lifecycle(
            cloud,
            self.ledger,
            self.fleet,
            self.events_log,
            clock,
            documents,
            identity=token or identity,
            group=self._group,
            timers=lambda: engine_timers.in_force(self.view.get("controllerproperties", PROPERTIES)),
            mark=self.reconciler.mark,
        )
        self.reconciler.lifecycle = self.lifecycle
        self._freed = self.reconciler.freed = freed if freed is not None else Freed(clock)
        self.compiler.going = self.lifecycle.going
        self._freed.answering = Engines(self.ledger, self.fleet, self.compiler, self.lifecycle.going)
        self.lifecycle.hurry(self.reconciler.waits_for)
        self._decision_log = decision_log
        self.reconciler.on_decided = self._decided
        self.reconciler.balance = Balance(clock, self.ledger, self.loads, self.events_log, fresh_id)
        self.incidents = Incidents(
            self.ledger,
            self.fleet,
            cloud,
            self.compiler,
            self.events_log,
            clock,
            probe_from.file if probe_from else None,
        )
        self._observer: Observer | None = None
        if probe_from is not None:
            self._observer = Observer(
                probe_from,
                lambda: targets(self.ledger, self.compiler, self.view),
                self.events_log,
                self.incidents.names,
            )
            self.reconciler.on_planned = self._observer.tell
        self.margins = Margins(self.reconciler, clock)
        self._upgrades = Upgrades(
            view,
            self.ledger,
            self.reconciler,
            self.fleet,
            cloud,
            self.events_log,
            clock,
            documents,
            switchovers=lambda engine: self._operations.switchovers(engine),
            takes_over_still=self.compiler.takes_over_still,
        )
        self._runtime = Runtime(
            view,
            self.names,
            self.primaries,
            self.zones,
            self.ledger,
            self.fleet,
            self.compiler,
            self.reconciler,
            self.margins,
            self._upgrades,
            clock,
            self.loads,
            self.capacities,
            self.deployments,
        )
        self._scores = HealthScores(self.metrics, view, self._runtime, clock)
        self._whatifs = WhatIfs(self._runtime.sources, self.metrics)
        self.expiry = Expiry(view, self.events_log, clock)
        self.stapling = Stapling(view, store, self.events_log, clock, self._stapled, outward)
        self._operations = Operations(
            view,
            self.ledger,
            self.reconciler,
            self.fleet,
            cloud,
            self.events_log,
            clock,
            fresh_id,
            identity=identity,
            upgrades=self._upgrades,
            gateway=gateway,
        )
        self._operations.make_primary = self.primaries.make_primary

    def watch(self, store: NotedStore) -> None:
        """Tell of its troubles from now on."""
        store.on_change = self._store_changed
        self._runtime.store_trouble = lambda: store.trouble
        self._store_changed(None, store.trouble)

    def _store_changed(self, before: Trouble | None, now: Trouble | None) -> None:
        """A store that comes and goes is told of once a minute; at the end of it if it is gone then."""
        told = self._trouble_told
        if now is None:
            if before is not None and before is told:
                after_s = self._clock.now() - before.since
                self.events_log.add("STORE_AVAILABLE", f"The store takes changes again, after {after_s:.0f} s.")
        elif told is not None and 0.0 <= (since_s := now.since - told.since) < TROUBLE_TOLD_AGAIN_S:
            asyncio.get_running_loop().call_later(TROUBLE_TOLD_AGAIN_S - since_s, self._tell_if_still, now)
        else:
            self._tell_trouble(now)

    def _tell_if_still(self, trouble: Trouble) -> None:
        if self._runtime.store_trouble() is trouble:
            self._tell_trouble(trouble)

    def _tell_trouble(self, trouble: Trouble) -> None:
        self._trouble_told = trouble
        what = f"{trouble.why} Meanwhile nothing can be changed or placed anew; engines go on by themselves."
        self.events_log.add("STORE_UNAVAILABLE", what, level="error")

    async def load(self) -> None:
        """Pick up where the last controller was: records, events, and the cloud's engines. Call once, before `run`."""
        await self.ledger.load()
        await self._freed.load(self._store)
        await self.events_log.load()
        await self.names.load()
        await self.primaries.load()
        await self.deployments.load()
        await self.contents.load()
        await self.stapling.load()
        await self.zones.load()
        if self._journal is not None:
            self.events_log.on_added = self._journal.event
        await self.lifecycle.adopt()
        if self._metric_file is not None:
            self._metric_file.load(self.metrics)

    async def run(self) -> None:
        """Plan, carry out, watch: until cancelled."""
        unsubscribe = [self.view.subscribe(one.on_document) for one in (self.reconciler, self.names, self.zones)]
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._waking.run(), name="waking")
                tasks.create_task(self.names.run(), name="names")
                tasks.create_task(self.primaries.run(), name="primaries")
                tasks.create_task(self.deployments.run(), name="deployments")
                tasks.create_task(self.contents.run(), name="contents")
                tasks.create_task(self.zones.run(), name="zones")
                tasks.create_task(self.reconciler.run(), name="reconciler")
                tasks.create_task(self.lifecycle.run(), name="lifecycle")
                tasks.create_task(self._upgrades.run(), name="upgrades")
                tasks.create_task(self.events_log.run(), name="events")
                tasks.create_task(self.metrics.run(self._metric_file), name="metrics")
                tasks.create_task(self.capacities.run(), name="capacities")
                if self._keeps_history:
                    tasks.create_task(self.history.run(), name="history")
                if self._journal is not None:
                    tasks.create_task(self._journal.run(), name="journal")
                if self.client_logs is not None:
                    tasks.create_task(self.client_logs.run(), name="client logs")
                    tasks.create_task(self._log_streams.run(), name="client log streams")
                if self._decision_log is not None:
                    tasks.create_task(self._decision_log.run(), name="decisions")
                if self._observer is not None:
                    tasks.create_task(self._observer.run(), name="observer")
                tasks.create_task(self.shares.run(), name="shares")
                tasks.create_task(self.expiry.run(), name="expiry")
                tasks.create_task(self.stapling.run(), name="stapling")
                if self._tickets is not None:
                    tasks.create_task(self._tickets.run(self.fleet.push_all), name="tickets")
        finally:
            for leave in unsubscribe:
                leave()

    def _stalled(self, seconds: float) -> None:
        now = self._clock.monotonic()
        if seconds >= STALL_TOLD_S and now >= self._stall_told_at + TROUBLE_TOLD_AGAIN_S:
            self._stall_told_at = now
            what = f"the controller did not run for {seconds:.1f} s: it was stopped, or its machine was paused or busy"
            self.events_log.add("CONTROLLER_STALLED", f"{what}; engines went on serving", level="warning")

    async def attend(self, link: Link, identity: str, certificate: str = "") -> None:
        """Serve one engine's connection until it ends."""
        await self.fleet.attend(link, identity, certificate)

    # --- the API's side ---

    def below(self) -> tuple[tuple[str, str], ...]:
        return (*self._runtime.kinds, *KINDS)

    def read(self, type: str, uuid: str, what: str) -> Any:
        return self._runtime.read(type, uuid, what)

    async def look(self, type: str, uuid: str, what: str) -> Any:
        return await self._runtime.look(type, uuid, what)

    async def whatif(self, body: Mapping[str, Any], intent: Intent, caller: Caller) -> dict[str, Any]:
        return await self._whatifs.answer(body, intent, caller)

    def summary(self, type: str, uuid: str) -> dict[str, Any]:
        return self._runtime.summary(type, uuid)

    def pulse(self) -> Mapping[str, Any]:
        """By topic, something that is another one when what clients are shown of it is."""
        return {**self._runtime.pulse(), "events": self.events_log.last}

    def cluster_runtime(self) -> dict[str, Any]:
        return self._runtime.cluster_runtime()

    def cluster_status(self) -> dict[str, Any]:
        return self._runtime.cluster_status()

    async def operate(
        self,
        type: str,
        uuid: str,
        operation: str,
        body: Mapping[str, Any],
        caller: CallerLike,
        guard: Guard = lambda: None,
    ) -> dict[str, Any]:
        return await self._operations.operate(type, uuid, operation, body, caller, guard)

    def plans(self, intent: Intent, aside: Aside = asyncio.to_thread) -> Plans:
        """Plans of what would be written through ``intent``; ``aside`` runs what takes long."""
        return Plans(intent, self.view, self.reconciler, self._operations, self._clock, aside)

    def importing(self, intent: Intent) -> Importing:
        return Importing(intent, self.view, self.reconciler, self.plans(intent), self._clock)

    def capture(self, service: str, wish: Wish) -> AsyncGenerator[bytes, None]:
        return self._captures.open(service, wish)

    async def remove_engine(self, uuid: str, guard: Guard = lambda: None) -> None:
        await self._operations.remove_idle(uuid, guard)

    def beside(self, type: str, uuid: str) -> dict[str, Any]:
        return self.stapling.shown(uuid) if type == "sslkeyandcertificate" else self._runtime.beside(type, uuid)

    async def incident(self, seconds: float, service: str = "") -> dict[str, Any]:
        """What happened in the last ``seconds``, in order; ``service``: to this virtual service (a uuid) only."""
        document = self.view.get("virtualservice", service) if service else None
        return await self.incidents.report(seconds, vsvip_of(document) if document else "")

    def on_renew(self, renew: Callable[[str], dict[str, Any]]) -> None:
        """Who is asked for a certificate anew."""
        self._operations.renew = renew

    def proves(self, certificate: str) -> str:
        """Why an ACME authority would not find its proof at the address of a certificate's virtual services; "" if it would."""
        users = [uuid for type, uuid, _ in self.view.referrers(certificate) if type == "virtualservice"]
        if not users:
            return "No virtual service has the certificate."
        vips = {vsvip_of(found) for uuid in users if (found := self.view.get("virtualservice", uuid)) is not None}
        for document in self.view.all("virtualservice"):
            if vsvip_of(document) in vips and document["enabled"] and _plain(document) and self._in_line(document):
                return ""
        return "No virtual service of that VIP serves HTTP on port 80, or its engines do not run it yet."

    def _in_line(self, service: Mapping[str, Any]) -> bool:
        """Whether all engines of a virtual service run it as it is to be."""
        part = f"service/{service['uuid']}"
        records = self.ledger.vips.get(uuid_of(service["se_group_ref"]), {}).values()
        engines = {id for vip in records if vip.id.startswith(f"{vsvip_of(service)}/") for id in engines_of(vip)}
        for engine in sorted(engines):
            wanted = self.compiler.parts(engine).get(part)
            if wanted is None or self.fleet.live(engine).runs.hashes.get(part) != wanted.hash:
                return False
        return bool(engines)

    # --- the engines' side ---

    def _stapled(self, certificate: str) -> None:
        self.reconciler.on_document(
            "sslkeyandcertificate", certificate, self.view.get("sslkeyandcertificate", certificate)
        )

    def _decided(self, snapshot: Snapshot, plan: Plan, now: float) -> None:
        if self._decision_log is not None:
            self._decision_log.note(snapshot, plan, now)
        if self._journal is not None:
            self._journal.decided(snapshot, plan, now)

    def _on_gateway(self, engine: str, gateway: messages.GatewayState) -> None:
        name, why = self._engine_name(engine), gateway.why
        said = f"{name}: gateway {gateway.address} {f'does not answer ({why})' if why else 'answers again'}"
        event = "SE_GATEWAY_HEARTBEAT_FAILED" if why else "SE_GATEWAY_HEARTBEAT_SUCCESS"
        self.events_log.add(event, said, level="warning" if why else "info", serviceengine=engine)

    def _engine_name(self, engine: str) -> str:
        record = self.ledger.engines.get(engine)
        return record.name if record else engine

    def _on_router(self, engine: str, peer: messages.BgpPeerState) -> None:
        name = self._engine_name(engine)
        if peer.state == ESTABLISHED:
            self.events_log.add("SE_BGP_PEER_STATE_CHANGE", f"{name}: {peer.address} is reached", serviceengine=engine)
        else:
            why = f": {peer.why}" if peer.why else ""
            detail = f"{name}: {peer.address} is not reached by BGP ({peer.state}{why})"
            self.events_log.add("SE_BGP_PEER_DOWN", detail, level="warning", serviceengine=engine)

    def _known(self, kind: str, id: str) -> bool:
        if kind == "serviceengine":
            return id in self.ledger.engines
        return kind == CONTROLLER or self.view.get(kind, id) is not None

    def _group(self, uuid: str) -> ServiceEngineGroup | None:
        document = self.view.get("serviceenginegroup", uuid)
        return self._groups.one(document) if document else None

    def _storm_settings(self) -> StormSettings:
        properties = self.view.get("controllerproperties", PROPERTIES)
        return self._storm_views.one(properties) if properties else StormSettings()

    def _spare(self, group: str) -> int:
        typed = self._group(group)
        return typed.buffer_se if typed is not None and typed.ha_mode == SHARED else 0

    def _by_load(self, group: str, vip: str) -> bool:
        intent = self.compiler.intent(group, vip)
        return intent is None or any(service.flow_dist == LOAD_AWARE for service in intent.enabled)

    def _counters(self, engine: str, message: Counters) -> None:
        self.metrics.take(engine, message)
        self.loads.take(engine, message)

    def _engine_changed(self, engine: str) -> None:
        self.lifecycle.kick(engine)
        self.reconciler.on_engine(engine)

    def _servers_changed(self, pool: str) -> None:
        self.reconciler.on_document("pool", pool, self.view.get("pool", pool))

    def _group_changed(self, group: str) -> None:
        self.reconciler.on_document("poolgroup", group, self.view.get("poolgroup", group))

    def _ownership(self, engine: str, message: messages.Ownership) -> None:
        record = self.ledger.engines.get(engine)
        if record is None:
            return
        if message.owner and unplanned(message):
            former = self.ledger.engines.get(message.from_engine)
            self.events_log.add(
                "VS_ADD_SE",
                f"{record.name} took over {message.vip} from {former.name if former else 'an unknown engine'}: "
                f"{self._named(message.why)} ({message.detected_ms:.0f} ms after its last sign of life)",
                level="warning",
                vip=message.vip,
                serviceengine=engine,
                from_serviceengine=message.from_engine,
            )
        self._engine_changed(engine)

    def _named(self, text: str) -> str:
        """Engine ids in a guard's words replaced by names."""
        for engine in self.ledger.engines.values():
            text = text.replace(engine.id, engine.name)
        return text
