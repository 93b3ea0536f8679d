"""Pools that grow and shrink by alerts and load (``autoscale_policy_ref``), without a cloud: a pool's disabled servers are its reserve.

An alert of ``scaleout_alertconfig_refs`` about a pool, or about a virtual service that uses it, enables some of them; one of
``scalein_alertconfig_refs`` disables as many again, which finish what they have for the pool's ``graceful_disable_timeout``.
With ``intelligent_autoscale`` what its servers can take (`capacity`) does so, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from shoal.errors import ShoalError, Stale
from shoal.objects.views import uuid_of

from .capacity import Capacities, Whole
from .clock import Clock
from .events import EventLog
from .intent import SYSTEM, Intent
from .pool_groups import users_of
from .view import View

log = logging.getLogger("shoal.autoscale")

POLICY = "serverautoscalepolicy"
OUT, IN = "scaleout", "scalein"
EVENTS = {OUT: "SERVER_AUTOSCALE_OUT", IN: "SERVER_AUTOSCALE_IN"}
FAILED = "SERVER_AUTOSCALE_FAILED"
COOLDOWN_S = 300
MARGINS = {OUT: 20, IN: 40}
"""The schema's, in percent of the load."""
TRIES = 3
"""Somebody else may write the pool at the same time."""
Document = Mapping[str, Any]


class Autoscale:
    """`alert` never waits; `run` carries out."""

    def __init__(self, view: View, intent: Intent, events: EventLog, clock: Clock) -> None:
        self._view = view
        self._intent = intent
        self._events = events
        self._clock = clock
        self._wanted: dict[tuple[str, str], str] = {}
        """(pool, direction) -> why."""
        self._some = asyncio.Event()
        self._last: dict[tuple[str, str], float] = {}

    def alert(self, config: str, objects: Mapping[str, str]) -> None:
        """An alert was raised. ``config``: the uuid of its AlertConfig; ``objects``: what it is about."""
        for policy in self._view.all(POLICY):
            for direction in (OUT, IN):
                if config in map(uuid_of, policy.get(f"{direction}_alertconfig_refs") or ()):
                    for type, pool, _ in self._view.referrers(policy["uuid"]):
                        if type == "pool" and self._is_about(objects, pool):
                            self._want(pool, direction, "")

    def look(self, capacities: Capacities) -> None:
        """At the load of pools that are scaled by it."""
        for document in self._view.all("pool"):
            policy = self._view.get(POLICY, uuid_of(document.get("autoscale_policy_ref") or ""))
            if policy is not None and policy.get("intelligent_autoscale"):
                direction, why = by_load(policy, capacities.whole(document["uuid"]), enabled_servers(document))
                if direction:
                    self._want(document["uuid"], direction, why)

    def _want(self, pool: str, direction: str, why: str) -> None:
        self._wanted[pool, direction] = why
        self._some.set()

    def _is_about(self, objects: Mapping[str, str], pool: str) -> bool:
        return objects.get("pool") == pool or objects.get("virtualservice") in users_of(self._view, pool)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._wanted:
                pool, direction = next(iter(self._wanted))
                await self.scale(pool, direction, self._wanted.pop((pool, direction)))

    async def scale(self, pool: str, direction: str, said: str = "") -> int:
        """How many servers were enabled or disabled; 0 in the cooldown after the last time, and at the policy's bounds. ``said``:
        why, for the event."""
        document = self._view.get("pool", pool) or {}
        policy = self._view.get(POLICY, uuid_of(document.get("autoscale_policy_ref") or ""))
        now, last = self._clock.now(), self._last.get((pool, direction))
        if policy is None or (last is not None and now - last < policy.get(f"{direction}_cooldown", COOLDOWN_S)):
            return 0
        self._last[pool, direction] = now
        self._last = {key: at for key, at in self._last.items() if self._view.get("pool", key[0]) is not None}
        for _ in range(TRIES):
            document = self._view.get("pool", pool) or {}
            chosen, why = chosen_servers(document, policy, direction)
            if not chosen:
                break
            servers = [
                {**one, "enabled": direction == OUT} if number in chosen else one
                for number, one in enumerate(document["servers"])
            ]
            try:
                await self._intent.replace("pool", pool, {**document, "servers": servers}, SYSTEM)
            except Stale:
                continue
            except ShoalError as error:
                why = str(error)
                break
            named = ", ".join(servers[number]["ip"]["addr"] for number in chosen)
            verb = "gets" if direction == OUT else "does without"
            text = f"Pool {document['name']} {verb} {named}, by {policy['name']}{f': {said}' if said else ''}."
            self._events.add(EVENTS[direction], text, pool=pool, serverautoscalepolicy=policy["uuid"])
            return len(chosen)
        text = f"Pool {document.get('name', pool)} stays as it is ({direction}): {why or 'it is written all the time'}."
        self._events.add(FAILED, text, level="warning", pool=pool, serverautoscalepolicy=policy["uuid"])
        return 0


def enabled_servers(pool: Document) -> int:
    return sum(bool(one.get("enabled", True)) for one in pool.get("servers") or ())


def by_load(policy: Document, found: Whole, servers: int) -> tuple[str, str]:
    """(direction or "", why). ``servers``: so many are enabled. Nothing is taken away that the load would call back at once."""
    load, capacity = found
    if capacity is None:
        return "", ""
    margins = {one: load * policy.get(f"intelligent_{one}_margin", least) / 100 for one, least in MARGINS.items()}
    said = f"{load:.4g} a second of the {capacity:.4g} that its servers can take"
    if capacity - load < margins[OUT]:
        return OUT, said
    step = max(1, policy.get(f"max_{IN}_adjustment_step", 1))
    left = capacity * max(0, servers - step) / max(1, servers)
    return (IN, said) if capacity - load > margins[IN] and left - load >= margins[OUT] else ("", "")


def chosen_servers(pool: Document, policy: Document, direction: str) -> tuple[list[int], str]:
    """(positions of the servers that change, why there are none)"""
    servers = pool.get("servers") or ()
    enabled = [number for number, one in enumerate(servers) if one.get("enabled", True)]
    step = max(1, policy.get(f"max_{direction}_adjustment_step", 1))
    if direction == OUT:
        reserve = [number for number in range(len(servers)) if number not in enabled]
        most = policy.get("max_size") or len(servers)
        found = reserve[: max(0, min(step, most - len(enabled)))]
        return found, "" if found else f"max_size is {most}" if reserve else "it has no disabled server left"
    least = max(1, policy.get("min_size") or 0)
    count = max(0, min(step, len(enabled) - least))
    found = enabled[len(enabled) - count :]
    return found, "" if found else f"min_size is {least}"
