"""POST ``serviceenginegroup/<uuid>/rebalance``: how often the group is inspected, in minutes (reference: elastic-ha 8.5),
and what the last look came to."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from shoal.controller.intent import Intent
from shoal.errors import Invalid, Problem

from .context import Context
from .errors import json_response
from .limits import decode_object, read_body
from .ports import Runtime

MEMBERS = ("interval", "se_group_ref")
MINUTES_MAX = 7 * 24 * 60


class Rebalancing:
    def __init__(self, intent: Intent, runtime: Runtime) -> None:
        self._intent = intent
        self._runtime = runtime

    async def answer(self, context: Context, uuid: str) -> Response:
        """``interval`` (minutes) is kept as the group's ``auto_rebalance_interval``; without it nothing is changed.
        Raises Invalid."""
        data = await read_body(context.request)
        minutes = interval(decode_object(data) if data.strip() else {})
        if minutes is not None:
            change = {"replace": {"auto_rebalance_interval": 60 * minutes}}
            written = await self._intent.patch("serviceenginegroup", uuid, change, context.caller)
            context.warnings += written.warnings
        found = await self._runtime.look("serviceenginegroup", uuid, "runtime")
        last = found.get("auto_rebalance", {})
        return json_response({"status": _status(last), "auto_rebalance": last})


def interval(body: dict[str, Any]) -> int | None:
    problems = [
        Problem(path=name, why="unknown member of a rebalance request", hint=f"Known: {', '.join(MEMBERS)}.")
        for name in body
        if name not in MEMBERS
    ]
    minutes = body.get("interval")
    if isinstance(minutes, str) and minutes.isdecimal():
        minutes = int(minutes)
    if minutes is not None and (type(minutes) is not int or not 1 <= minutes <= MINUTES_MAX):
        why = f"must be a whole number of minutes, 1 to {MINUTES_MAX}"
        problems.append(Problem(path="interval", value=str(minutes)[:40], why=why))
    if problems:
        raise Invalid(problems)
    return minutes


def _status(last: dict[str, Any]) -> str:
    if last.get("next_look_in_s") is None:
        return str(last.get("why", "")).capitalize() + "."
    every = last["interval_s"] / 60
    state = "on" if last["enabled"] else "off (auto_rebalance): a look moves nothing"
    return f"Inspected every {every:g} min; auto-rebalance is {state}. Last look: {last['why']}."
