"""Measured history (reference: api.md 7): one entity's, a type's, or several requests at once; and which metrics exist."""

from __future__ import annotations

import asyncio
import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from shoal.controller.fine_history import FineHistory
from shoal.controller.metric_ids import CONTROLLER, ENGINE, ENTITY_TYPES, METRICS, POOL, Metric
from shoal.controller.metrics import Metrics, step_allowed
from shoal.controller.rings import Window
from shoal.errors import Forbidden, Invalid, NotFound, Problem
from shoal.objects import Registry
from shoal.objects.check import meant, shown

from .context import Context
from .errors import json_response
from .inventory import moment
from .limits import decode_object, read_body
from .objects import Objects
from .present import Present

Document = dict[str, Any]
STEP_DEFAULT_S = 300
LIMIT_DEFAULT = 12
LIMIT_MAX = 1_000
"""Points of one series."""
METRIC_IDS_MAX = 100
REQUESTS_MAX = 50
POINTS_MAX = 200_000
"""Of one answer."""
SERIES_AT_ONCE = 200
"""Made before other work gets its turn."""
EVERY = ("", "*")


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Which points: the newest ``limit`` between two times (seconds since the epoch), ``pad``: those without values, too."""

    step_s: int
    limit: int
    start: float | None = None
    stop: float | None = None
    pad: bool


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One request, understood. ``entities``: uuids; empty = all. ``servers``: names; None = of the whole pool."""

    id: str = ""
    metrics: tuple[Metric, ...]
    entities: tuple[str, ...] = ()
    servers: tuple[str, ...] | None = None
    span: Span
    references: bool


class Analytics:
    def __init__(
        self, metrics: Metrics, history: FineHistory, objects: Objects, registry: Registry, present: Present
    ) -> None:
        self._metrics = metrics
        self._history = history
        self._objects = objects
        self._registry = registry
        self._present = present

    async def listed(self, context: Context) -> Response:
        """Every metric there is."""
        return json_response(listed())

    async def collection(self, context: Context) -> Response:
        body = decode_object(await read_body(context.request))
        return json_response({"series": await self._collection(context, body)})

    async def of_type(self, context: Context, kind: str) -> Response:
        return await self._of_type(context, kind, context.query.get("entity_uuid", ""))

    async def of_entity(self, context: Context, kind: str, uuid: str) -> Response:
        return await self._of_type(context, kind, uuid)

    async def _of_type(self, context: Context, kind: str, uuid: str) -> Response:
        if kind not in ENTITY_TYPES:
            kinds = ", ".join(ENTITY_TYPES)
            raise NotFound(f"There is nothing at {context.path[:120]!r}.", hint=f"Metrics are kept of: {kinds}.")
        question = understood({**context.query, "entity_uuid": uuid}, "", kind)
        series = [item for _, items in await self._series(context, [question]) for item in items]
        times = [point["timestamp"] for item in series for point in item["data"]]
        body = {
            "metric_id": ",".join(metric.name for metric in question.metrics),
            "start": min(times, default=""),
            "stop": max(times, default=""),
            "step": question.span.step_s,
            "limit": question.span.limit,
            "entity_uuid": uuid or "*",
            "series": series,
        }
        return json_response(body)

    async def _collection(self, context: Context, body: Document) -> Document:
        requests = body.get("metric_requests")
        if not isinstance(requests, list) or not requests or len(requests) > REQUESTS_MAX:
            why = f"must be a list of 1 to {REQUESTS_MAX} requests"
            raise Invalid([Problem(path="metric_requests", value=shown(requests), why=why)])
        questions = []
        for number, request in enumerate(requests):
            where = f"metric_requests[{number}]."
            if not isinstance(request, dict):
                raise Invalid([Problem(path=where[:-1], value=shown(request), why="must be an object")])
            given = {**context.query, **{name: _text(value) for name, value in request.items()}}
            question = understood(given, where, "")
            questions.append(msgspec.structs.replace(question, id=given.get("id") or str(number)))
        if len({question.id for question in questions}) < len(questions):
            raise Invalid([Problem(path="metric_requests", why="two of them have the same id")])
        found: dict[str, dict[str, list[Document]]] = {question.id: {} for question in questions}
        for (id, entity), items in await self._series(context, questions):
            found[id].setdefault(entity, []).extend(items)
        return found

    async def _series(
        self, context: Context, questions: Sequence[Question]
    ) -> list[tuple[tuple[str, str], list[Document]]]:
        """((question, entity), its series). Raises Invalid past `POINTS_MAX`, NotFound for an unknown entity."""
        servers: dict[str, list[str]] = {}
        if any(question.servers is not None for question in questions):
            for pool, _, name in (id.partition("/") for id in self._metrics.keys("server")):
                servers.setdefault(pool, []).append(name)
        wanted = [
            (question, kind, uuid, server)
            for question in questions
            for kind in dict.fromkeys(metric.kind for metric in question.metrics)
            for uuid in self._entities(context, question, kind)
            for server in _servers(question, kind, servers.get(uuid, []))
        ]
        points = sum(len(question.metrics) * question.span.limit for question, *_ in wanted)
        if points > POINTS_MAX:
            raise Invalid(f"That is up to {points} values; at most {POINTS_MAX} are answered at once. Lower the limit.")
        found = []
        for number, (question, kind, uuid, server) in enumerate(wanted):
            if number % SERIES_AT_ONCE == SERIES_AT_ONCE - 1:
                await asyncio.sleep(0)
            entity, id = ("server", f"{uuid}/{server}") if server else (kind, uuid)
            windows = await self._history.read(
                entity,
                id,
                question.span.step_s,
                start=question.span.start,
                stop=question.span.stop,
                limit=question.span.limit,
            )
            header = self._header(context, question, kind, uuid, server)
            metrics = [metric for metric in question.metrics if metric.kind == kind]
            items = [series(metric, windows, header, pad=question.span.pad) for metric in metrics]
            found.append(((question.id, uuid), items))
        return found

    def _entities(self, context: Context, question: Question, kind: str) -> list[str]:
        if kind == CONTROLLER:
            if not context.sight.whole:
                raise Forbidden("The controller's figures are of all tenants.", hint="Look from tenant admin.")
            return [CONTROLLER]
        type = self._registry.type(kind)
        if question.entities:
            return [self._objects.inside(context, type, uuid)["uuid"] for uuid in question.entities]
        seen = self._objects.seen(context, type)
        return [document["uuid"] for document in seen if context.sight.sees_inside(kind, document)]

    def _header(self, context: Context, question: Question, kind: str, uuid: str, server: str) -> Document:
        header: Document = {"entity_uuid": uuid}
        if server:
            header |= {"obj_id": server, "obj_id_type": "METRICS_OBJ_TYPE_SERVER"}
        if question.references and kind != CONTROLLER:
            name = self._objects.found(context, self._registry.type(kind), uuid).get("name", "")
            header[f"{kind}_ref"] = self._present.url(kind, uuid, context.look, str(name))
        return header


def _servers(question: Question, kind: str, known: Sequence[str]) -> list[str]:
    """Of a pool, whose series are asked for; "" = its own."""
    if kind != POOL or question.servers is None:
        return [""]
    return [name for name in known if not question.servers or name in question.servers]


def listed() -> Document:
    """Every metric there is."""
    results = [
        {
            "name": metric.name,
            "entity_types": [ENTITY_TYPES[metric.kind]],
            "metric_units": metric.units,
            "description": metric.description,
        }
        for metric in METRICS.values()
    ]
    return {"count": len(results), "results": results}


def series(metric: Metric, windows: Sequence[Window], header: Document, *, pad: bool) -> Document:
    """One series. A time of which nothing is known is left out, or with ``pad`` a zero with ``is_null``."""
    data: list[Document] = []
    values: list[float] = []
    for window in windows:
        point: Document = {"timestamp": timestamp(window.at), "value": 0.0}
        value = metric.value(window) if window.seconds else None
        if value is not None:
            point["value"] = round(value, 6)
            values.append(point["value"])
        elif pad:
            point["is_null"] = True
        else:
            continue
        data.append(point)
    named = {"name": metric.name, "units": metric.units, "metric_description": metric.description}
    return {"header": {**named, **header, "statistics": statistics(values)}, "data": data}


def statistics(values: Sequence[float]) -> Document:
    return {
        "min": min(values, default=0.0),
        "max": max(values, default=0.0),
        "mean": math.fsum(values) / len(values) if values else 0.0,
        "num_samples": len(values),
    }


def span(given: Mapping[str, str], where: str = "", problems: list[Problem] | None = None) -> Span:
    """``where`` is the path of the request for its problems, which follow those given. Raises Invalid."""
    problems = problems or []
    step = _number(given, "step", STEP_DEFAULT_S, where, problems)
    if not step_allowed(step):
        why = "must be a multiple of 5 s, a day at most"
        problems.append(Problem(path=f"{where}step", value=str(step), why=why, hint="Common are 5, 300 and 3600."))
    limit = _number(given, "limit", LIMIT_DEFAULT, where, problems)
    if not 1 <= limit <= LIMIT_MAX:
        problems.append(Problem(path=f"{where}limit", value=str(limit), why=f"must be 1 to {LIMIT_MAX}"))
    if problems:
        raise Invalid(problems)
    return Span(
        step_s=step,
        limit=limit,
        start=moment("start", given["start"]) if given.get("start") else None,
        stop=moment("stop", given["stop"]) if given.get("stop") else None,
        pad=_flag(given, "pad_missing_data", default=True),
    )


def understood(given: Mapping[str, str], where: str, kind: str) -> Question:
    """``where`` is the path of the request for its problems. Raises Invalid with all that is wrong."""
    problems = list(_unsupported(given, where))
    metrics = _metrics(given.get("metric_id", ""), where, kind, problems)
    when = span(given, where, problems)
    entities = given.get("entity_uuid", "")
    if entities in EVERY and metrics[0].kind == "serviceengine":
        entities = given.get("serviceengine_uuid", "")
    object = given.get("obj_id", "")
    return Question(
        metrics=metrics,
        entities=() if entities in EVERY else tuple(entities.split(",")),
        servers=None if not object else () if object == "*" else tuple(object.split(",")),
        span=when,
        references="include_refs" in given and _flag(given, "include_refs", default=True),
    )


def _metrics(text: str, where: str, kind: str, problems: list[Problem]) -> tuple[Metric, ...]:
    names = list(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    path = f"{where}metric_id"
    if not names or len(names) > METRIC_IDS_MAX:
        hint = "GET /api/analytics/metric_id lists them."
        problems.append(Problem(path=path, why=f"must name 1 to {METRIC_IDS_MAX} metrics", hint=hint))
        return ()
    for name in names:
        metric = METRICS.get(name)
        if metric is None:
            hint = meant(name, METRICS) or "GET /api/analytics/metric_id lists them."
            problems.append(Problem(path=path, value=shown(name), why="is no metric of Shoal's", hint=hint))
        elif kind and metric.kind != kind:
            why = f"belongs to a {metric.kind}, not to a {kind}"
            problems.append(Problem(path=path, value=name, why=why, hint=f"Ask metrics/{metric.kind}."))
    return tuple(METRICS[name] for name in names if name in METRICS)


def _unsupported(given: Mapping[str, str], where: str) -> Iterator[Problem]:
    names = given.get("metric_id", "")
    engine = given.get("serviceengine_uuid", "")
    asked = (METRICS.get(name.strip().lower()) for name in names.split(","))
    if engine not in EVERY and any(metric is not None and metric.kind != ENGINE for metric in asked):
        why = "is no filter of these metrics: they are kept summed over all engines"
        yield Problem(path=f"{where}serviceengine_uuid", value=shown(engine), why=why, hint='Leave it out or give "*".')


def _number(given: Mapping[str, str], name: str, default: int, where: str, problems: list[Problem]) -> int:
    text = given.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        problems.append(Problem(path=f"{where}{name}", value=shown(text), why="must be a whole number"))
        return default
    return int(text)


def _flag(given: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = given.get(name, "").lower()
    return default if not text else text in ("true", "1", "yes")


def _text(value: object) -> str:
    """A member of a request as it would stand in a query."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return "" if value is None else str(value)


def timestamp(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
