"""When a drill is not done, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .forecast import Forecast, Vip


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """``code`` for machines; ``forcible``: --force does it all the same."""

    code: str
    why: str
    hint: str = ""
    forcible: bool = False

    def sentence(self) -> str:
        forced = "--force drills all the same." if self.forcible else ""
        return " ".join(part for part in (f"{self.why}.", self.hint, forced) if part)


def refusals(forecast: Forecast, kind: str, service: str = "") -> list[Refusal]:
    """All reasons against it. ``service``: see `Forecast.concerned`."""
    vips = forecast.concerned(kind, service)
    return [*_engines(forecast), *_changes(forecast), *_vips(forecast, kind, vips), *_margin(forecast, kind)]


def in_the_way(found: list[Refusal], *, force: bool) -> list[Refusal]:
    return [refusal for refusal in found if not (force and refusal.forcible)]


def _engines(forecast: Forecast) -> Iterator[Refusal]:
    for engine in forecast.serviceengines:
        what = "this engine" if engine.uuid == forecast.uuid else "another engine of the group"
        if engine.state != "up" or not engine.connected:
            state = "not connected" if engine.state == "up" else {"creating": "being made"}.get(engine.state, "down")
            yield Refusal(
                code="failure",
                why=f"A failure is going on: {engine.name}, {what}, is {state}",
                hint="Wait until all are up (show serviceengine).",
            )


def _changes(forecast: Forecast) -> Iterator[Refusal]:
    if forecast.requests:
        yield Refusal(
            code="busy",
            why=f"{forecast.requests} operations (scale out or in, migrate) are in progress in group {forecast.group}",
            hint="Wait for their end.",
        )
    concerned = {vip.label for vip in forecast.vips}
    others = [label for label in forecast.unsettled if label not in concerned]
    if others:
        yield Refusal(
            code="busy",
            why=f"The group is not at rest: {_list(others)}",
            hint="See their placement; wait until settled.",
        )


def _vips(forecast: Forecast, kind: str, vips: list[Vip]) -> Iterator[Refusal]:
    if not vips:
        what = "answers for nothing" if kind == "switchover" else "serves nothing"
        yield Refusal(code="nothing", why=f"{forecast.serviceengine} {what}: there is nothing to drill")
    for vip in vips:
        if not vip.answers:
            yield Refusal(code="failure", why=f"Nobody answers for {vip.label}")
        elif vip.answers != vip.owner:
            why = f"A takeover is going on: {vip.answers} answers for {vip.label}, planned is {vip.owner or 'nobody'}"
            yield Refusal(code="failure", why=why, hint="Wait until the controller has adopted it.")
        elif any(p.state != "ready" for p in vip.placements) or len(vip.placements) < vip.requested:
            yield Refusal(code="busy", why=f"{vip.label} is being moved, or has fewer engines than it should")
        elif not vip.armed:
            yield Refusal(
                code="not_armed",
                why=f"The succession of {vip.label} is not armed: its engines have not all acknowledged it",
                hint="Wait a second; if it stays so, an engine's problems say why (show serviceengine SE).",
            )
        elif not forecast.taker(vip, kind):
            yield _without_taker(forecast, kind, vip)


def _without_taker(forecast: Forecast, kind: str, vip: Vip) -> Refusal:
    if kind == "switchover":
        return Refusal(
            code="stays_down",
            why=f"{vip.label} can't be switched over: no prepared engine beside those that serve it",
            hint="Raise max_se, or max_vs_per_se, of its group.",
        )
    rest = vip.succession[1:]
    who = f"none of its successors ({_list(rest)}) lives and has room" if rest else "it has no successor"
    return Refusal(
        code="stays_down",
        why=f"{vip.label} would stay down: {who}",
        hint="Raise buffer_se or max_se of its group, or scale it out.",
    )


def _margin(forecast: Forecast, kind: str) -> Iterator[Refusal]:
    """Also for VIPs that are not on the engine: the room they would fail over to may be taken."""
    if kind == "switchover":
        return
    outcome = forecast.outcome
    if outcome.down:
        yield Refusal(code="stays_down", why=f"These would stay down: {_list(outcome.down)}")
    if not outcome.buffer.kept:
        yield Refusal(
            code="no_margin",
            why=f"The group would be left without its buffer: {outcome.buffer.free} of {outcome.buffer.needed} slots free",
            hint="Raise max_se, so that an engine can be made meanwhile.",
            forcible=True,
        )
    if outcome.exposed:
        yield Refusal(
            code="no_margin",
            why=f"Without {forecast.serviceengine} nobody could take over next: {_list(outcome.exposed)}",
            hint="Add an engine to the group (max_se, buffer_se).",
            forcible=True,
        )


def _list(names: list[str] | tuple[str, ...]) -> str:
    more = len(names) - 5
    return ", ".join(names[:5]) + (f" and {more} more" if more > 0 else "")
