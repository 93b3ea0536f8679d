"""A change that would move traffic is shown first, and made when the operator says yes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from shoal.errors import NotReady

from .client import TIMEOUT_S, Client, Document, PlanMoved
from .tables import box

Confirm = Callable[[str], bool]
"""Shows a text and asks; False = no."""

PLANNED = ("serviceenginegroup", "serviceengine", "virtualservice", "vsvip")
"""Types whose changes can move traffic."""
OF_ENGINES = ("serviceenginegroup", "serviceengine")
"""Types whose changes are shown also when they only make or delete engines."""
ROWS_MAX = 20
REASONS_MAX = 5
ATTEMPTS_MAX = 10
NOTICED = {
    "down": "DOWN",
    "wait": "DOWN until made",
    "cut": "connections CUT",
    "stop": "DOWN, as asked for",
    "handover": "hand-over, drain",
    "drain": "drain",
    "none": "nothing",
}
"""The worst first, and so they are listed."""
LEGEND = {
    "drain": "drain: open connections on the engine it leaves may last {s} s more.",
    "handover": "hand-over: another engine answers at once; open connections may last {s} s more.",
    "cut": "CUT: open connections on the engine that goes are lost; new ones are taken by the next.",
    "wait": "DOWN until made: nobody answers until a new engine is up.",
}


class Declined(Exception):
    """The operator said no."""


def change(
    client: Client,
    confirm: Confirm | None,
    type: str,
    method: str,
    path: str,
    body: Document | None,
    *,
    within_s: float = TIMEOUT_S,
) -> Any:
    """Make a write or an operation. With ``confirm``, one that would move traffic is shown and asked about first, and
    again when what would come of it has changed while the operator thought. Raises Declined, and what `call` raises."""
    if confirm is None or type not in PLANNED:
        return client.call(method, path, body, within_s=within_s)
    plan = client.call(method, f"{path}?plan=true", body, within_s=within_s)
    changed: list[str] = []
    for _ in range(ATTEMPTS_MAX):
        if plan is None or "moves_traffic" not in plan:
            return plan  # a controller that makes no plans has done it
        shown = asks(plan, type)
        if shown and not confirm(told(plan, changed)):
            raise Declined
        try:
            done = client.call(method, f"{path}?apply={plan['id']}", body, within_s=within_s)
        except PlanMoved as moved:
            plan, changed = moved.plan, moved.changed
            continue
        if not shown:
            client.warnings += [problem for group in plan["groups"] for problem in group["problems"]]
        return done
    raise NotReady("What would come of it keeps changing.", hint="Try again, or use --yes.")


def asks(plan: Document, type: str) -> bool:
    return bool(plan["moves_traffic"] or (type in OF_ENGINES and plan["changes_engines"]))


def told(plan: Document, changed: list[str]) -> str:
    """The plan for a person; ``changed``: why an earlier one does not hold any more."""
    lines = ["Things have changed meanwhile, and nothing was done:", *(f"  {s}" for s in changed)] if changed else []
    lines.append("With this change:")
    for group in plan["groups"]:
        lines += _group(group)
    return "\n".join(lines)


def _group(group: Document) -> Iterator[str]:
    yield group["sentence"]
    worst = list(NOTICED)
    vips = sorted(
        group["vips"], key=lambda vip: worst.index(vip["interruption"]) if vip["interruption"] in worst else 0
    )
    if vips:
        rows = [_row(vip) for vip in vips[:ROWS_MAX]]
        yield box(("VIP", "From", "To", "Clients notice"), rows)
        if len(vips) > ROWS_MAX:
            yield f"... and {len(vips) - ROWS_MAX} more VIPs."
        noticed = {vip["interruption"] for vip in vips}
        yield from (LEGEND[one].format(s=group["drain_s"]) for one in LEGEND if one in noticed)
    if 0 < len(vips) <= REASONS_MAX:
        yield from (f"{_services(vip)}: {vip['why']}." for vip in vips if vip["why"])
    for engine in group["engines_made"]:
        yield f"Made: {engine['serviceengine']}: {engine['why']}."
    for engine in group["engines_deleted"]:
        if not engine["after_s"]:
            yield f"Deleted: {engine['serviceengine']}: {engine['why']}."
    idle: dict[int, list[str]] = {}
    for engine in group["engines_deleted"]:
        if engine["after_s"]:
            idle.setdefault(round(engine["after_s"] / 60), []).append(engine["serviceengine"])
    for minutes, names in idle.items():
        yield f"Deleted when idle for {minutes} min: {', '.join(names)}."
    yield from (f"Problem: {problem}" for problem in group["problems"])


def _row(vip: Document) -> tuple[str, str, str, str]:
    to = vip["to"]
    if not to and vip["owner_after"] not in ("", vip["owner_before"]):
        to = [f"{vip['owner_after']} (is there)"]
    short = f", {vip['lacks']} engine{'s' * (vip['lacks'] > 1)} SHORT" if vip["lacks"] else ""
    noticed = str(NOTICED.get(vip["interruption"], vip["interruption"])) + short
    return f"{vip['address']} {_services(vip)}", ", ".join(vip["from"]) or "-", ", ".join(to) or "-", noticed


def _services(vip: Document) -> str:
    return ", ".join(vip["virtualservices"]) or str(vip["vip"])
