"""``purge``: the engines that nobody needs go now, not after ``se_deprovision_delay``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from shoal.errors import Invalid, Problem, ShoalError

from .command import Choice, Command, Known, Said
from .plan import Declined

if TYPE_CHECKING:
    from .session import Session

Document = dict[str, Any]
GROUP, ENGINE = "serviceenginegroup", "serviceengine"


def _purge(session: Session, words: list[str]) -> Said:
    if len(words) != 2 or words[0] != GROUP:
        hint = f"Use purge {GROUP} <name>; everything on this machine: `shoal down --purge`."
        raise Invalid([Problem(path="purge", why="is for the idle engines of a group", hint=hint)])
    kind, name = session.two(words, "purge")
    group = session.object(kind, name)
    picture = session.client.call("GET", f"{GROUP}/{group['uuid']}/placement/map")
    busy = {place for vip in picture["vips"] for place in (*vip["placements"], *vip["succession"])}
    idle = [engine for place, engine in enumerate(picture["engines"]) if place not in busy]
    gone: list[str] = []
    kept: list[tuple[str, str]] = []
    if idle and session.confirm is not None:
        named = ", ".join(engine["name"] for engine in idle)
        if not session.confirm(f"Nothing is on {named}. Those that the buffer does not need would be deleted."):
            raise Declined
    for engine in idle:
        why = _deleted(session, engine["uuid"])
        if why:
            kept.append((engine["name"], why))
        else:
            gone.append(engine["name"])
    lines = [f"{one} is deleted." for one in gone] + [f"{one} stays: {why}" for one, why in kept]
    if not idle:
        lines = [f"No engine of {name} is without a virtual service, nor spared as a successor. Nothing was done."]
    return Said("\n".join(lines), {"deleted": gone, "kept": [{"name": one, "why": why} for one, why in kept]})


def _deleted(session: Session, uuid: str) -> str:
    """Deletes it, if nothing comes of that but that it is gone; else why not."""
    path = f"{ENGINE}/{uuid}"
    try:
        plan = session.client.call("DELETE", f"{path}?plan=true")
        made = [engine["why"] for group in plan["groups"] for engine in group["engines_made"]]
        problems = [problem for group in plan["groups"] for problem in group["problems"]]
        if plan["moves_traffic"] or made or problems:
            return f"{(problems or made or [plan['sentence']])[0].rstrip('.')}."
        session.client.call("DELETE", f"{path}?apply={plan['id']}")
    except ShoalError as error:
        return str(error)
    return ""


def _next(known: Known, words: list[str]) -> Iterable[Choice]:
    if not words:
        return [Choice(GROUP, "its idle engines")]
    return known.names(GROUP) if words == [GROUP] else ()


COMMAND = Command(
    summary="a group's idle engines go now, unless its buffer needs them",
    usage=(f"purge {GROUP} <name>",),
    run=_purge,
    next=_next,
)
