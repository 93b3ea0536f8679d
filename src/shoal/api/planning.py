"""``?plan=true``: what a write or an operation would do, and nothing is done. ``?apply=<plan id>``: do it, if that is
still what would come of it. No Avi client sends either."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.responses import Response

from shoal.controller.intent import Guard
from shoal.controller.plans import PlanChanged, Plans, Wish
from shoal.controller.sight import Sight
from shoal.controller.view import View
from shoal.errors import Invalid, Problem, Refused

from .context import Context
from .errors import json_response

Document = dict[str, Any]
PLAN, APPLY = "plan", "apply"
TRUE, FALSE = ("true", "1"), ("false", "0")
_Result = TypeVar("_Result")


class Planning:
    def __init__(self, plans: Plans, view: View) -> None:
        self._plans = plans
        self._view = view

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
        return json_response(self.shown(context.sight, planned.document))

    def none(self, context: Context) -> None:
        """For what has no plan. Raises Refused where one is wanted: it must not be done instead."""
        if not context.reads and context.query.keys() & {PLAN, APPLY}:
            raise Refused("There are no plans of this request.", hint=f"Leave {PLAN} and {APPLY} out to have it done.")

    async def done(self, context: Context, wish: Wish, write: Callable[[Guard], Awaitable[_Result]]) -> _Result:
        """Make the write; where the request names a plan, only if that still holds. Raises PlanChanged."""
        id = context.query.get(APPLY)
        if id is None:
            return await write(_free)
        try:
            return await self._plans.apply(id, wish, context.caller, write)
        except PlanChanged as changed:
            if context.sight.whole:
                raise
            raise PlanChanged([], self.shown(context.sight, changed.plan)) from None

    def shown(self, sight: Sight, plan: Document) -> Document:
        """A plan as far as it is the caller's business: in a group that tenants share, their own VIPs."""
        if sight.whole:
            return plan
        groups = [self._of_group(sight, group) for group in plan["groups"]]
        vips = [vip for group in groups for vip in group["vips"]]
        said = (f"{', '.join(vip['virtualservices']) or vip['address']}: {vip['clients']}." for vip in vips)
        sentence = " ".join(said) or "Nothing of yours moves."
        moves = any(vip["owner_before"] and vip["interruption"] != "none" for vip in vips)
        return {**plan, "sentence": sentence, "groups": groups, "moves_traffic": moves, "changes_engines": False}

    def _of_group(self, sight: Sight, group: Document) -> Document:
        document = self._view.get("serviceenginegroup", group["uuid"])
        if document is not None and sight.sees_inside("serviceenginegroup", document):
            return group

        # Every VIP that stands has its VsVip; that of a deleted one may have been anybody's.
        def mine(vip: Document) -> bool:
            vsvip = self._view.get("vsvip", vip["vip"].partition("/")[0])
            return vsvip is not None and sight.sees("vsvip", vsvip)

        kept = {name: group[name] for name in ("serviceenginegroup", "uuid", "drain_s", "messages")}
        none: Document = {"engines_made": [], "engines_deleted": [], "buffer_before": {}, "buffer_after": {}}
        return {**kept, **none, "problems": [], "vips": [vip for vip in group["vips"] if mine(vip)]}


def _free() -> None: ...
