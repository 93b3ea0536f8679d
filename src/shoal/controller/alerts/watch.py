"""The alerts that are raised: which AlertConfig an event or a figure sets off, how often, and to whom it goes."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shoal.controller import audit
from shoal.controller.clock import Clock
from shoal.controller.events import Event, EventLog
from shoal.controller.intent import Intent
from shoal.controller.metric_ids import CONTROLLER, METRICS, Metric
from shoal.controller.metrics import Metrics
from shoal.controller.outward import Outward
from shoal.controller.sight import ADMIN, Sight
from shoal.controller.stapling import chain_of
from shoal.controller.view import View
from shoal.objects.views import uuid_of

from . import rules, senders
from .messages import Alert

log = logging.getLogger("shoal.alerts")

CONFIG, GROUP = "alertconfig", "actiongroupconfig"
RAISED, NOT_SENT = "ALERT_RAISED", "ALERT_NOT_SENT"
OWN = (RAISED, NOT_SENT)
"""Events that come of alerts, and set none off."""
WAITING_MAX = 1_000
SENDING_AT_ONCE_MAX = 8
_threads = ThreadPoolExecutor(SENDING_AT_ONCE_MAX, thread_name_prefix="alerts")
"""Of their own: a mail server that is away must not hold up what else runs in threads."""
TRIES = (0.0, 2.0, 10.0)
"""Seconds before each try to send."""
LOOK_INTERVAL_S = 15.0
STEP_S = 5
POINTS_MAX = 720
RAISED_KEPT_MAX = 5_000
Document = dict[str, Any]
Send = Callable[[], None]


class Alerts:
    """`event` never waits; `run` sends, and looks at figures."""

    def __init__(
        self, view: View, intent: Intent, events: EventLog, metrics: Metrics, clock: Clock, outward: Outward
    ) -> None:
        self._view = view
        self._intent = intent
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._outward = outward
        self._waiting: deque[tuple[Alert, str]] = deque()
        self._some = asyncio.Event()
        self._last: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._times: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()
        self._turn = asyncio.Semaphore(SENDING_AT_ONCE_MAX)
        self.missed = 0
        self.on_alert: Callable[[str, Mapping[str, str]], None] = lambda config, objects: None
        """Hears of each that is raised: the uuid of its AlertConfig, and what it is about."""

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_on(), name="figures")
            while True:
                await self._some.wait()
                self._some.clear()
                while self._waiting:
                    alert, group = self._waiting.popleft()
                    await self._turn.acquire()
                    task = tasks.create_task(self._carried_out(alert, group))
                    task.add_done_callback(lambda task: self._turn.release())

    # --- what sets them off ---

    def listen(self) -> None:
        """Hear of events and configuration changes, besides whoever hears of them already."""
        added, written = self._events.on_added, self._intent.trail.on_written

        def on_added(event: Event) -> None:
            added(event)
            self.event(event)

        def on_written(key: str, record: audit.Record) -> None:
            written(key, record)
            if record.user != audit.SYSTEM_USER:
                self.event(_change(key, record), record.tenant)

        self._events.on_added, self._intent.trail.on_written = on_added, on_written

    def event(self, event: Event, tenant: str = "") -> None:
        """Something happened. ``tenant``: whose it is, where that is known."""
        if event.name in OWN:
            return
        for config in self._configs(rules.EVENTS):
            try:
                if self._concerned(config, event, tenant) and rules.holds(config, event):
                    self._hit(config, event.name, event.detail, event.objects, event.at)
            except Exception as error:  # one odd rule must not cost the others, nor the event
                log.warning("alert %s can't be judged: %s", config.get("name"), error)

    async def _look_on(self) -> None:
        while True:
            await self._clock.sleep(LOOK_INTERVAL_S)
            await self.look()

    async def look(self) -> None:
        """At the figures, once."""
        for config in self._configs(rules.FIGURES):
            wanted = config["alert_rule"].get("metrics_rule") or ()
            metrics = [METRICS.get(str(rule.get("metric_id", ""))) for rule in wanted]
            if not metrics or any(metric is None for metric in metrics):
                continue
            kinds = {metric.kind for metric in metrics if metric is not None}
            if len(kinds) != 1:
                continue
            kind = kinds.pop()
            for uuid, name in self._entities(config, kind):
                found = [
                    self._values(metric, kind, uuid, int(rule.get("duration") or rules.DURATION_S))
                    for metric, rule in zip(metrics, wanted, strict=True)
                    if metric is not None
                ]
                if rules.exceeds(config["alert_rule"], found):
                    said = ", ".join(f"{m.name} is {v[-1]:g}" for m, v in zip(metrics, found, strict=True) if m and v)
                    self._hit(config, "METRIC", f"{kind} {name}: {said}", {kind: uuid}, self._clock.now())
            await asyncio.sleep(0)

    def _values(self, metric: Metric, kind: str, uuid: str, seconds: int) -> list[float]:
        """Of the last so many seconds; empty while less than that is known: an alert does not come of a start."""
        points = max(1, min(POINTS_MAX, seconds // STEP_S))
        windows = self._metrics.read(kind, uuid, STEP_S, limit=points)
        values = [metric.value(window) for window in windows if window.seconds]
        known = [value for value in values if value is not None]
        return known if len(known) >= points else []

    def _entities(self, config: Document, kind: str) -> Iterator[tuple[str, str]]:
        sight = _sight(config)
        if kind == CONTROLLER:
            if sight.provider:
                yield CONTROLLER, CONTROLLER
            return
        wanted = config.get("obj_uuid")
        for document in self._view.all(kind):
            if wanted in (None, "", document["uuid"]) and sight.sees_inside(kind, document):
                yield document["uuid"], document["name"]

    def _configs(self, source: str) -> list[Document]:
        return [c for c in self._view.all(CONFIG) if c.get("source") == source and c.get("enabled", True)]

    def _concerned(self, config: Document, event: Event, tenant: str) -> bool:
        wanted = config.get("obj_uuid")
        if wanted and wanted not in event.objects.values():
            return False
        return _sight(config).sees_event(self._view, event.objects, tenant)

    # --- thresholds ---

    def _hit(self, config: Document, event_id: str, detail: str, objects: Mapping[str, str], at: float) -> None:
        """Counted; an alert where that is often enough and not too soon after the last one."""
        key = (config["uuid"], ",".join(objects.values()))
        if not self._often_enough(config, key, at):
            return
        last = self._last.get(key)
        if last is not None and at - last < int(config.get("throttle", 600)):
            return
        _put(self._last, key, at)
        self.on_alert(config["uuid"], objects)
        group = self._view.get(GROUP, uuid_of(config.get("action_group_ref", ""))) or {}
        tenant = self._view.name_of("tenant", uuid_of(config.get("tenant_ref", "")))
        alert = Alert(
            name=config["name"],
            level=group.get("level", "ALERT_LOW"),
            summary=config.get("summary", ""),
            detail=detail,
            event_id=event_id,
            objects=dict(objects),
            tenant=tenant,
            at=at,
        )
        if not group.get("external_only"):
            level = "warning" if alert.level != "ALERT_LOW" else "info"
            self._events.add(
                RAISED, f"{alert.name}: {detail}", level=level, alertconfig=config["uuid"], **_safe(objects)
            )
        if group:
            if len(self._waiting) >= WAITING_MAX:
                self.missed += 1
                return
            self._waiting.append((alert, group["uuid"]))
            self._some.set()

    def _often_enough(self, config: Document, key: tuple[str, str], at: float) -> bool:
        wanted = int(config.get("threshold", 1))
        if wanted <= 1:
            return True
        times = self._times.get(key) or deque()
        times.append(at)
        while times and at - times[0] > int(config.get("rolling_window", 300)):
            times.popleft()
        while len(times) > wanted:
            times.popleft()
        _put(self._times, key, times)
        if len(times) < wanted:
            return False
        times.clear()
        return True

    # --- sending ---

    async def _carried_out(self, alert: Alert, group: str) -> None:
        for what, send in self._sends(alert, self._view.get(GROUP, group) or {}):
            why = ""
            for wait_s in TRIES:
                await asyncio.sleep(wait_s)
                try:
                    await asyncio.get_running_loop().run_in_executor(_threads, send)
                    why = ""
                    break
                except senders.NotSent as error:
                    why = str(error)
                except Exception as error:  # a fault of ours must not end the alerts
                    log.error("%s of alert %s failed", what, alert.name, exc_info=error)
                    why = "a fault inside the controller; see its log"
                    break
            if why:
                self._events.add(NOT_SENT, f"{what} of alert {alert.name} was not sent: {why}", level="warning")

    def _sends(self, alert: Alert, group: Document) -> Iterator[tuple[str, Send]]:
        opened = self._intent.opened
        registry = self._intent.registry
        if to := self._view.get("alertemailconfig", uuid_of(group.get("email_config_ref", ""))):
            server = opened(registry.type("systemconfiguration"), self._system()).get("email_configuration") or {}
            yield "The mail", lambda: senders.send_mail(alert, to, server)
        if group.get("syslog_config_ref"):
            syslog = self._view.get("alertsyslogconfig", uuid_of(group["syslog_config_ref"])) or {}
            sender = syslog.get("sender_hostname") or self._node()
            for server in syslog.get("syslog_servers") or ():
                profile = self._view.get("pkiprofile", uuid_of(server.get("pkiprofile_ref", ""))) or {}
                authorities = [ca["certificate"] for ca in profile.get("ca_certs") or () if ca.get("certificate")]

                own = self._certificate(server.get("ssl_key_and_certificate_ref", ""))

                def send(server: Document = server, authorities: list[str] = authorities, own: str = own) -> None:
                    senders.send_syslog(alert, server, sender, authorities, self._outward, own)

                yield "The syslog message", send
        if traps_to := self._view.get("snmptrapprofile", uuid_of(group.get("snmp_trap_profile_ref", ""))):
            system, cluster = self._system(), str(self._cluster().get("uuid", ""))
            for server in opened(registry.type("snmptrapprofile"), traps_to).get("trap_servers") or ():

                def trap(server: Document = server) -> None:
                    senders.send_trap(alert, server, system, cluster, self._outward)

                yield "The trap", trap
        if group.get("webhook_url"):
            secret = opened(registry.type(GROUP), group).get("webhook_secret", "")
            yield "The webhook", lambda: senders.send_webhook(alert, group["webhook_url"], secret, self._outward)

    def _certificate(self, reference: str) -> str:
        """With its chain and its key; "" for none."""
        found = self._view.get("sslkeyandcertificate", uuid_of(reference)) if reference else None
        if found is None:
            return ""
        opened = self._intent.opened(self._intent.registry.type("sslkeyandcertificate"), found)
        return f"{chain_of(self._view, found)}\n{opened.get('key', '')}"

    def _system(self) -> Document:
        return next(iter(self._view.all("systemconfiguration")), {})

    def _cluster(self) -> Document:
        return next(iter(self._view.all("cluster")), {})

    def _node(self) -> str:
        nodes = self._cluster().get("nodes") or [{"name": "shoal"}]
        return str(nodes[0]["name"])


def _change(key: str, record: audit.Record) -> Event:
    return Event(
        id=key,
        at=record.at,
        name=audit.EVENT_NAMES[record.operation],
        detail=record.sentence(),
        objects={record.type.lower(): record.uuid or ""},
    )


def _sight(config: Document) -> Sight:
    """What a config's alerts may tell of: what is seen from its tenant."""
    tenant = uuid_of(config.get("tenant_ref", "")) or ADMIN
    return Sight(tenant=tenant, provider=tenant == ADMIN)


def _safe(objects: Mapping[str, str]) -> dict[str, str]:
    return {
        role: uuid for role, uuid in objects.items() if role not in ("name", "detail", "level", "self", "alertconfig")
    }


def _put(table: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    table[key] = value
    table.move_to_end(key)
    while len(table) > RAISED_KEPT_MAX:
        table.popitem(last=False)
