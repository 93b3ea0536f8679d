"""``GET /api/analytics/healthscore/<type>[/<uuid>]`` (reference: api.md 7): scores over time, and what was lost to what."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import Response

from shoal.controller.health import Score
from shoal.controller.health_scores import KINDS, HealthScores
from shoal.errors import Invalid, NotFound, Problem
from shoal.objects import Registry
from shoal.objects.check import shown

from .context import Context
from .errors import json_response
from .metrics import POINTS_MAX, span, statistics, timestamp
from .objects import Objects

Document = dict[str, Any]
NAME = "healthscore.health_score_value"
AT_ONCE = 20
"""Entities before other work gets its turn."""
PARTS = {
    "": "value",
    "health_score": "value",
    "performance": "performance_value",
    "resources": "resources_penalty",
    "anomaly": "anomaly_penalty",
    "security": "security_penalty",
}
"""``hs_type`` -> the member of a point that is its ``value``."""


class Health:
    def __init__(self, scores: HealthScores, objects: Objects, registry: Registry) -> None:
        self._scores = scores
        self._objects = objects
        self._registry = registry

    async def of_type(self, context: Context, kind: str) -> Response:
        return await self._answer(context, kind, context.query.get("entity_uuid", ""))

    async def of_entity(self, context: Context, kind: str, uuid: str) -> Response:
        return await self._answer(context, kind, uuid)

    async def _answer(self, context: Context, kind: str, uuid: str) -> Response:
        if kind not in KINDS:
            hint = f"Health scores are kept of: {', '.join(KINDS)}."
            raise NotFound(f"There is nothing at {context.path[:120]!r}.", hint=hint)
        part = context.query.get("hs_type", "").lower().removeprefix("hs_type_")
        if part not in PARTS:
            hint = f"Give one of: {', '.join(name for name in PARTS if name)}."
            why = "is no part of a health score"
            raise Invalid([Problem(path="hs_type", value=shown(part), why=why, hint=hint)])
        asked = span(context.query)
        type = self._registry.type(kind)
        every = uuid in ("", "*")
        found = self._objects.seen(context, type) if every else [self._objects.found(context, type, uuid)]
        seen = [document for document in found if context.sight.sees_inside(kind, document)]
        if not every and not seen:
            raise NotFound(f"There is no {type.name} {uuid[:80]!r}.")
        if len(seen) * asked.limit > POINTS_MAX:
            raise Invalid(f"That is up to {len(seen) * asked.limit} points; at most {POINTS_MAX} are answered at once.")
        series = []
        for number, document in enumerate(seen):
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            course = self._scores.course(
                kind, document["uuid"], asked.step_s, start=asked.start, stop=asked.stop, limit=asked.limit
            )
            series.append(_series(document, course, PARTS[part], pad=asked.pad))
        times = [point["timestamp"] for one in series for point in one["data"]]
        body = {
            "metric_id": NAME,
            "start": min(times, default=""),
            "stop": max(times, default=""),
            "step": asked.step_s,
            "limit": asked.limit,
            "entity_uuid": uuid or "*",
            "series": series,
        }
        return json_response(body)


def _series(document: Document, course: list[tuple[float, Score | None]], part: str, *, pad: bool) -> Document:
    data: list[Document] = []
    for at, score in course:
        if score is not None:
            point = parts(score)
            data.append({"timestamp": timestamp(at), **point, "value": point[part], "reasons": list(score.reasons)})
        elif pad:
            data.append({"timestamp": timestamp(at), "value": 0.0, "is_null": True})
    values = [float(point["value"]) for point in data if "is_null" not in point]
    header = {
        "name": NAME,
        "units": "PERCENT",
        "entity_uuid": document["uuid"],
        "entity_name": document.get("name", ""),
        "statistics": statistics(values),
    }
    return {"header": header, "data": data}


def parts(score: Score) -> Document:
    """A score as clients know it."""
    return {
        "value": round(score.value, 1),
        "performance_value": round(score.performance, 1),
        "resources_penalty": round(score.resources, 1),
        "anomaly_penalty": round(score.anomaly, 1),
        "security_penalty": round(score.security, 1),
    }
