"""How the whole system stands, for `shoal top` and `shoal status`: groups, engines, virtual services, their load."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from shoal.errors import NotFound

from .client import Client
from .tables import one_line

Document = dict[str, Any]
HISTORY = 30
"""Points of a sparkline, of `STEP_S` each."""
STEP_S = 5
UP, DISABLED = "OPER_UP", "OPER_DISABLED"
COMING = ("OPER_CREATING", "OPER_INITIALIZING")
QUIET = (UP, DISABLED, "OPER_DISABLING")
SERVICE_METRICS = {
    "l4_client.avg_bandwidth": "bits_per_s",
    "l4_client.avg_complete_conns": "connections_per_s",
    "l7_client.avg_total_requests": "requests_per_s",
    "l7_client.pct_response_errors": "errors_percent",
}
ENGINE_METRICS = {"se_stats.avg_cpu_usage": "cpu_percent", "se_if.avg_bandwidth": "bits_per_s"}
SERVICE_HISTORY, ENGINE_HISTORY = "l4_client.avg_bandwidth", "se_stats.avg_cpu_usage"
STATES = {"up": "up", "coming": "coming up", "disabled": "disabled", "down": "DOWN"}
PROBLEMS_MAX = 10
SPARED = 10
"""What takes long is asked for so much more seldom: at most a tenth of the time is spent on it."""


class Group(msgspec.Struct, kw_only=True):
    name: str
    ha_mode: str
    engines: int
    engines_up: int
    max_se: int
    virtualservices: int
    slots: int = 0
    used: int = 0
    free: int = 0
    needed: int = 0
    kept: bool = True
    last_plan: str = ""


class Engine(msgspec.Struct, kw_only=True):
    uuid: str
    name: str
    group: str
    host: str
    state: str
    reason: str = ""
    vips: int = 0
    load: dict[str, float] = {}
    history: list[float] = []

    @property
    def trouble(self) -> bool:
        return self.state not in QUIET


class Service(msgspec.Struct, kw_only=True):
    uuid: str
    name: str
    group: str
    state: str
    reason: str = ""
    address: str = ""
    ports: list[int] = []
    engines: list[str] = []
    requested: int = 0
    assigned: int = 0
    load: dict[str, float] = {}
    history: list[float] = []

    @property
    def trouble(self) -> bool:
        return self.state not in QUIET or (self.state == UP and self.assigned < self.requested)

    @property
    def rank(self) -> int:
        """0 = nobody serves it, 1 = less than wanted, 2 = as wanted."""
        return 2 if not self.trouble else 1 if self.assigned else 0


class Overview(msgspec.Struct, kw_only=True):
    at: float
    url: str
    state: str
    trouble: str = ""
    """Of the controller itself."""
    groups: list[Group] = []
    engines: list[Engine] = []
    virtualservices: list[Service] = []

    def counts(self) -> Document:
        services = self.virtualservices
        return {
            "virtualservices": len(services),
            "up": sum(one.state == UP for one in services),
            "disabled": sum(one.state == DISABLED for one in services),
            "coming": sum(one.state in COMING for one in services),
            "down": sum(one.state not in (UP, DISABLED, *COMING) for one in services),
            "engines": len(self.engines),
            "engines_up": sum(one.state == UP for one in self.engines),
        }

    def problems(self) -> list[str]:
        """One sentence each, what is worst first."""
        found = [self.trouble] if self.trouble else []
        found += [
            f"{one.name} is not served: {_why(one)}" for one in self.virtualservices if one.trouble and not one.assigned
        ]
        found += [
            f"{one.name} {_short(one)}: {_why(one)}" for one in self.virtualservices if one.trouble and one.assigned
        ]
        found += [
            f"{one.name} has lost its buffer: {one.free} free slots, {one.needed} needed"
            for one in self.groups
            if not one.kept
        ]
        found += [f"{one.name} is {words_of(one.state)}: {one.reason}" for one in self.engines if one.trouble]
        return [one_line(sentence).rstrip(": ") + "." for sentence in found]


def told(found: Overview) -> list[tuple[str, str]]:
    """The lines of `shoal status`."""
    counts = found.counts()
    states = ", ".join(f"{counts[name]} {word}" for name, word in STATES.items() if counts[name])
    rows = [("services", f"{counts['virtualservices']}" + (f": {states}" if states else ""))]
    for group in found.groups:
        mode = group.ha_mode.removeprefix("HA_MODE_").lower().replace("_", " ")
        buffer = f", {group.free} slots free ({group.needed} needed as buffer)" if group.needed else ""
        text = (
            f"{group.name}: {mode}, {group.engines_up} of {group.engines} engines up (at most {group.max_se}){buffer}"
        )
        rows.append(("group", text))
    problems = found.problems()
    rows += [("problem", sentence) for sentence in problems[:PROBLEMS_MAX]]
    if len(problems) > PROBLEMS_MAX:
        rows.append(("problem", f"... and {len(problems) - PROBLEMS_MAX} more (shoal top)."))
    return rows


def _short(service: Service) -> str:
    """What is wrong with one that is on an engine at least."""
    if service.assigned >= service.requested:
        return f"is {words_of(service.state)}"
    return f"has {service.assigned} of {service.requested} engines"


def _why(service: Service) -> str:
    return service.reason.rstrip(".") or ("" if service.state == UP else words_of(service.state))


def words_of(state: str) -> str:
    """``OPER_DOWN`` -> ``down``."""
    if state == "OPER_RESOURCES":
        return "no room"
    return state.removeprefix("OPER_").lower().replace("_", " ")


class Watcher:
    """Asks again and again; a large fleet's virtual services are asked for less often than their load."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._services: list[Service] = []
        self._services_due = 0.0

    def look(self, *, load: bool = True) -> Overview:
        """Raises what `Client.call` raises."""
        client = self._client
        cluster = client.call("GET", "cluster/runtime")["cluster_state"]
        found = Overview(
            at=time.time(), url=client.url, state=cluster["state"], trouble=cluster.get("reason", "").rstrip(".")
        )
        for document in client.all("serviceenginegroup", "name,max_se,ha_mode"):
            try:
                drawn = client.call("GET", f"serviceenginegroup/{document['uuid']}/placement/map")
            except NotFound:  # deleted meanwhile
                continue
            self._group(found, drawn, document)
        if time.monotonic() >= self._services_due:
            began = time.monotonic()
            rows = client.call("GET", "console/virtualservices")["results"]
            self._services = [msgspec.convert(row, Service, strict=False) for row in rows]
            self._services_due = time.monotonic() + SPARED * (time.monotonic() - began)
        found.virtualservices = self._services
        if load:
            self._measure(found)
        return found

    def _group(self, found: Overview, drawn: Document, document: Mapping[str, Any]) -> None:
        vips = [0] * len(drawn["engines"])
        for vip in drawn["vips"]:
            for place in vip["placements"]:
                vips[place] += 1
        engines = [
            Engine(
                uuid=one["uuid"], name=one["name"], group=drawn["name"], host=one["host"], state=one["state"],
                reason=one["reason"], vips=count, load={"cpu_percent": one["cpu_percent"]},
            )
            for one, count in zip(drawn["engines"], vips, strict=True)
        ]  # fmt: skip
        found.engines += engines
        found.groups.append(
            Group(
                name=drawn["name"],
                ha_mode=drawn["ha_mode"],
                engines=len(engines),
                engines_up=sum(one.state == UP for one in engines),
                max_se=int(document.get("max_se", 0)),
                virtualservices=len({service for vip in drawn["vips"] for service in vip["services"]}),
                last_plan=drawn["last_plan"],
                **drawn["buffer"],
            )
        )

    def _measure(self, found: Overview) -> None:
        requests = [
            {"id": "services", "metric_id": ",".join(SERVICE_METRICS), "step": STEP_S, "limit": 1, "entity_uuid": "*"},
            {
                "id": "engines",
                "metric_id": ",".join(ENGINE_METRICS),
                "step": STEP_S,
                "limit": 1,
                "serviceengine_uuid": "*",
            },
        ]
        series = self._series(requests)
        _loads(found.virtualservices, series.get("services", {}), SERVICE_METRICS)
        _loads(found.engines, series.get("engines", {}), ENGINE_METRICS)

    def history(self, services: Iterable[Service], engines: Iterable[Engine]) -> None:
        """What their sparklines are drawn of; for those that are shown."""
        wanted: dict[str, tuple[str, list[Any]]] = {
            "services": (SERVICE_HISTORY, list(services)),
            "engines": (ENGINE_HISTORY, list(engines)),
        }
        requests = [
            {
                "id": id,
                "metric_id": metric,
                "step": STEP_S,
                "limit": HISTORY,
                "entity_uuid": ",".join(one.uuid for one in ones),
            }
            for id, (metric, ones) in wanted.items()
            if ones
        ]
        series = self._series(requests) if requests else {}
        for id, (metric, ones) in wanted.items():
            for one in ones:
                items = series.get(id, {}).get(one.uuid, [])
                one.history = next((_values(item) for item in items if item["header"]["name"] == metric), [])

    def _series(self, requests: list[Document]) -> Document:
        path = "analytics/metrics/collection?pad_missing_data=false"
        try:
            found: Document = self._client.call("POST", path, {"metric_requests": requests})["series"]
        except NotFound:  # one of them was deleted meanwhile
            return {}
        return found


def _loads(ones: Iterable[Service] | Iterable[Engine], series: Document, names: Mapping[str, str]) -> None:
    for one in ones:
        for item in series.get(one.uuid, ()):
            values = _values(item)
            if values and item["header"]["name"] in names:
                one.load[names[item["header"]["name"]]] = values[-1]


def _values(item: Document) -> list[float]:
    return [float(point["value"]) for point in item["data"]]
