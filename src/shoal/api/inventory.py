"""Dashboards' view: configuration, runtime and what belongs together in one entry; and the event log (api.md 7)."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from shoal.controller.health import Score
from shoal.controller.health_scores import KINDS, HealthScores
from shoal.controller.pool_groups import users_of
from shoal.controller.view import View
from shoal.errors import Invalid, Problem
from shoal.objects import ObjectType, Registry
from shoal.objects.check import shown
from shoal.objects.views import uuid_of

from .ports import Runtime
from .present import Look, Present

Document = dict[str, Any]
CONFIGS = {
    "virtualservice": "VsInventoryConfig",
    "pool": "PoolConfig",
    "poolgroup": "PoolGroupConfig",
    "serviceengine": "ServiceEngineConfig",
    "serviceenginegroup": "ServiceEngineGroup",
    "vsvip": "VsvipConfig",
    "network": "NetworkConfig",
    "cloud": "CloudConfig",
}
"""Type -> the message whose fields an entry's ``config`` has."""
IDENTITY = frozenset(["uuid", "url", "name", "tenant_ref", "cloud_ref"])
LINKS = {
    "serviceenginegroup": {"serviceengins": "serviceengine", "virtualservices": "virtualservice"},
}
"""Type -> member (spelled as clients expect) -> type of the objects that refer to it."""


class Inventory:
    def __init__(
        self, view: View, registry: Registry, runtime: Runtime, present: Present, scores: HealthScores
    ) -> None:
        self._scores = scores
        self._view = view
        self._registry = registry
        self._runtime = runtime
        self._present = present

    def entry(self, kind: ObjectType, stored: Document, look: Look) -> Document:
        """References carry no ``#name`` here: clients split ``tenant_ref`` on ``/tenant/`` and take the rest."""
        whole = self._present.document(kind, stored, look.plain())
        shown_fields = self._registry.messages[CONFIGS[kind.endpoint]].fields
        config = {name: value for name, value in whole.items() if name in IDENTITY or name in shown_fields}
        inside = look.sight.sees_inside(kind.endpoint, stored)
        runtime = self._runtime.summary(kind.endpoint, stored["uuid"]) if inside else {}
        entry: Document = {
            "uuid": stored["uuid"],
            "url": self._present.url(kind.endpoint, stored["uuid"], look, str(stored.get("name", ""))),
            "config": config,
            "runtime": self._present.runtime(runtime, look),
            "health_score": self._health(kind, stored["uuid"], runtime),
            "alert": {"level": "ALERT_LOW"},
        }
        if kind.endpoint == "virtualservice":
            self._service(entry, stored, whole, look)
        if kind.endpoint in ("pool", "poolgroup"):
            entry["virtualservices"] = self._refs("virtualservice", users_of(self._view, stored["uuid"]), look)
        for member, type in LINKS.get(kind.endpoint, {}).items():
            found = (uuid for t, uuid, _ in self._view.referrers(stored["uuid"]) if t == type)
            entry[member] = self._refs(type, found, look)
        return entry

    def _refs(self, type: str, uuids: Iterable[str], look: Look) -> list[Document]:
        """Of those that he sees."""
        seen = (uuid for uuid in uuids if look.sight.sees(type, self._view.get(type, uuid) or {}))
        return [{"ref": self._present.url(type, uuid, look.plain())} for uuid in seen]

    def _health(self, kind: ObjectType, uuid: str, runtime: Document) -> Document:
        """Of types that have no score of their own: whether it is up."""
        up = 100.0 if runtime.get("oper_status", {}).get("state") == "OPER_UP" else 0.0
        score = self._scores.now(kind.endpoint, uuid) if kind.endpoint in KINDS and runtime else Score(performance=up)
        return {
            "health_score": round(score.value, 1),
            "performance_score": round(score.performance, 1),
            "resources_penalty": round(score.resources, 1),
            "anomaly_penalty": round(score.anomaly, 1),
            "security_penalty": round(score.security, 1),
            "reasons": list(score.reasons),
        }

    def _service(self, entry: Document, stored: Document, whole: Document, look: Look) -> None:
        entry["pools"] = [{"ref": whole["pool_ref"]}] if "pool_ref" in whole else []
        entry["poolgroups"] = [{"ref": whole["pool_group_ref"]}] if "pool_group_ref" in whole else []
        vsvip = self._view.get("vsvip", uuid_of(stored.get("vsvip_ref", "")))
        if vsvip is not None and look.sight.sees("vsvip", vsvip):
            shown_vip = self._present.document(self._registry.type("vsvip"), vsvip, look.plain())
            entry["config"]["vip"] = shown_vip.get("vip", [])


def moment(name: str, text: str) -> float:
    try:
        # A "+" before the zone arrives as a space when it was not quoted.
        moment = datetime.datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except ValueError:
        return number(name, text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def number(name: str, text: str) -> float:
    """Of seconds. Raises Invalid."""
    digits = text.removesuffix("Z").replace(".", "", 1)
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise Invalid([Problem(path=name, value=shown(text), why="must be seconds since the epoch, or ISO 8601")])
    return float(text.removesuffix("Z"))
