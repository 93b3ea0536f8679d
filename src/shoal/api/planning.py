"""``?plan=true``: what a write or an operation would do, and nothing is done. ``?apply=<plan id>``: do it, if that is
still what would come of it. No Avi client sends either."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.responses import Response

from shoal.controller.intent import Guard
from shoal.controller.plans import Plans, Wish
from shoal.errors import Invalid, Problem, Refused

from .context import Context
from .errors import json_response

PLAN, APPLY = "plan", "apply"
TRUE, FALSE = ("true", "1"), ("false", "0")
_Result = TypeVar("_Result")


class Planning:
    def __init__(self, plans: Plans) -> None:
        self._plans = plans

    async def asked(self, context: Context, wish: Wish) -> Response | None:
        """The plan, if that is what the request wants."""
        given = context.query.get(PLAN)
        if given is None or given.lower() in FALSE:
            return None
        if given.lower() not in TRUE:
            raise Invalid([Problem(path=PLAN, value=given[:40], why="must be true or false")])
        if APPLY in context.query:
            raise Invalid([Problem(path=APPLY, why="does not go with plan=true", hint="First plan, then apply.")])
        planned = await self._plans.plan(wish, context.caller)
        context.warnings += planned.warnings
        return json_response(planned.document)

    def none(self, context: Context) -> None:
        """For what has no plan. Raises Refused where one is wanted: it must not be done instead."""
        if not context.reads and context.query.keys() & {PLAN, APPLY}:
            raise Refused("There are no plans of this request.", hint=f"Leave {PLAN} and {APPLY} out to have it done.")

    async def done(self, context: Context, wish: Wish, write: Callable[[Guard], Awaitable[_Result]]) -> _Result:
        """Make the write; where the request names a plan, only if that still holds. Raises PlanChanged."""
        id = context.query.get(APPLY)
        if id is None:
            return await write(_free)
        return await self._plans.apply(id, wish, context.caller, write)


def _free() -> None: ...
