"""Operations on what runs: scaling, moving, placing anew, restarting (reference: elastic-ha 8.5)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from shoal.errors import Invalid, NotReady, Problem, Refused, ShoalError

from .command import NUMBER, WORD, Choice, Command, Known, Option, Said, next_option, options_of
from .tables import box

if TYPE_CHECKING:
    from .session import Session

Document = dict[str, Any]
SERVICE, ENGINE, GROUP = "virtualservice", "serviceengine", "serviceenginegroup"
VIP_ID = Option("vip_id", "which VIP of it, 0 if not given", WORD)
TO_SE = Option("to_se_ref", "onto this service engine", ENGINE)
FROM_SE = Option("from_se_ref", "away from this service engine", ENGINE)
TO_NEW_SE = Option("to_new_se", "onto a service engine that is made for it")
TO_HOST = Option("to_host_ref", "make that engine on this host", WORD)
VCPUS = Option("new_vcpus", "CPUs of the engine that is made", NUMBER)
ASKED = ("scalein", "migrate", "switchover", "redistribute", "forcedelete")
"""Operations that take traffic off an engine."""
LOADS = {"cpu": "CPU %", "pps": "Packets/s", "mbps": "Mbit/s", "open_conns": "Open", "cps": "New/s"}
REBALANCE = (
    Option("interval", "look so often, in minutes", NUMBER),
    Option("se_group_ref", "the group (required)", GROUP),
)
GOES_ON = "in progress"
EMPTY_WITHIN_S = 60.0
POLL_S = 0.2


class Operation:
    """An operation of the API on one object: ``<name> <type> <object> [options]``."""

    def __init__(self, name: str, summary: str, types: tuple[str, ...], options: tuple[Option, ...] = ()) -> None:
        self.name = name
        self._types = types
        self._options = options
        rest = " [options]" if options else ""
        self.command = Command(
            summary=summary,
            usage=tuple(f"{name} {type} <name>{rest}" for type in types),
            run=self.run,
            next=self.next,
            options=options,
        )

    def run(self, session: Session, words: list[str]) -> Said:
        if not words:
            hint = f"Use {' or '.join(self.command.usage)}."
            raise Invalid([Problem(path=self.name, why="the type and the name are required", hint=hint)])
        kind, name = session.two(words, self.name)
        if kind.endpoint not in self._types:
            why = f"is for {' or '.join(self._types)}"
            raise Invalid([Problem(path=self.name, value=kind.endpoint, why=why)])
        body: Document = {"vip_id": "0"} if kind.endpoint == SERVICE else {}
        body |= options_of(self.name, self._options if kind.endpoint == self._types[0] else (), words[2:])
        path = f"{kind.endpoint}/{session.object(kind, name)['uuid']}/{self.name}"
        if self.name in ASKED:
            answer = session.change(kind, "POST", path, body)
        else:
            answer = session.client.call("POST", path, body)
        return _answered(self.name, kind.endpoint, name, answer)

    def next(self, known: Known, words: list[str]) -> Iterable[Choice]:
        if not words:
            return [Choice(type) for type in self._types]
        if words[0] not in self._types:
            return ()
        if len(words) == 1:
            return known.names(words[0])
        return next_option(known, self._options if words[0] == self._types[0] else (), words[2:])


def _answered(operation: str, type: str, name: str, answer: Document) -> Said:
    status = str(answer["status"])
    if status == GOES_ON:
        status = f"{operation} of {name} is in progress; show {type} {name} placement has more."
    return Said(status, answer)


def _of_one(type: str, after: Callable[[Known, list[str]], Iterable[Choice]] | None = None) -> Any:
    """Completion of ``<command> <type> <name> ...``."""

    def next(known: Known, words: list[str]) -> Iterable[Choice]:
        if not words:
            return [Choice(type)]
        if words[0] != type:
            return ()
        if len(words) == 1:
            return known.names(type)
        return after(known, words[2:]) if after else ()

    return next


# --- those the API has no single call for ---


def _initial_placement(session: Session, words: list[str]) -> Said | str:
    match words:
        case [first, service, second, engine] if (first, second) == (SERVICE, ENGINE):
            pass
        case _:
            usage = "Use initialplacement virtualservice <name> serviceengine <name>."
            raise Invalid(
                [Problem(path="initialplacement", why="a virtual service and an engine are required", hint=usage)]
            )
    kind = session.kind(SERVICE)
    uuid = session.object(kind, service)["uuid"]
    vips = session.client.call("GET", f"{SERVICE}/{uuid}/runtime").get("vip_summary", [])
    if any(vip.get("num_se_assigned") for vip in vips):
        raise Refused(f"{service} is placed already.", hint="Use scaleout or migrate.")
    answer = session.client.call("POST", f"{SERVICE}/{uuid}/scaleout", {"vip_id": "0", "to_se_ref": engine})
    return _answered("initialplacement", SERVICE, service, answer)


def _initial_next(known: Known, words: list[str]) -> Iterable[Choice]:
    if not words:
        return [Choice(ENGINE)]
    return known.names(ENGINE) if words == [ENGINE] else ()


def _restart(session: Session, words: list[str]) -> Said | str:
    kind, name = session.two(words, "restart")
    if kind.endpoint != SERVICE or words[2:]:
        raise Invalid([Problem(path="restart", why="use restart virtualservice <name>")])
    stored = session.object(kind, name)
    path = f"{SERVICE}/{stored['uuid']}"
    if not stored.get("enabled", True):
        raise Refused(f"{name} is disabled.", hint=f"Enable it: configure {SERVICE} {name} enabled, save.")
    session.change(kind, "PATCH", path, {"replace": {"enabled": False}})
    try:
        _until_empty(session, path)
    finally:  # also when the operator has had enough of waiting: it must not stay off
        _enable(session, path, name)
    return f"{name} was disabled and is enabled again."


def _enable(session: Session, path: str, name: str) -> None:
    try:
        session.client.call("PATCH", path, {"replace": {"enabled": True}})
    except ShoalError as error:
        hint = f"It stays DISABLED. Enable it: configure {SERVICE} {name} enabled, save."
        raise NotReady(f"{name} could not be enabled again: {error.message}", hint=hint) from None


def _until_empty(session: Session, path: str) -> None:
    deadline = time.monotonic() + EMPTY_WITHIN_S
    while time.monotonic() < deadline:
        vips = session.client.call("GET", f"{path}/runtime").get("vip_summary", [])
        if not any(vip.get("num_se_assigned") for vip in vips):
            return
        time.sleep(POLL_S)
    raise NotReady(f"Its engines have not let go within {EMPTY_WITHIN_S:.0f} s; it is enabled again.")


def _reboot(session: Session, words: list[str]) -> Said | str:
    match words:
        case []:
            why = "of everything at once is not offered: it would end all traffic"
            raise Invalid([Problem(path="reboot", why=why, hint="Name one: reboot serviceengine <name>.")])
        case [*_, "clean"]:
            hint = "forcedelete serviceengine <name> removes the engine, and a new one is made where it is wanted."
            raise Invalid([Problem(path="reboot", value="clean", why="engines keep nothing to wipe", hint=hint)])
    return REBOOT.run(session, words)


def _rebalance(session: Session, words: list[str]) -> Said:
    given = options_of("rebalance", REBALANCE, words)
    if "se_group_ref" not in given:
        usage = "Use rebalance se_group_ref <group> [interval <minutes>]."
        raise Invalid([Problem(path="rebalance", why="se_group_ref is required", hint=usage)])
    kind = session.kind(GROUP)
    uuid = session.object(kind, given["se_group_ref"])["uuid"]
    body = {"interval": given["interval"]} if "interval" in given else {}
    found = session.client.call("POST", f"{GROUP}/{uuid}/rebalance", body)
    return Said("\n".join([found["status"], *_last_look(found["auto_rebalance"])]), found)


def _last_look(found: Document) -> list[str]:
    """The engines of the last look and their loads, as a table."""
    rows = [
        (
            engine["name"],
            engine["level"],
            *(f"{engine['load'].get(name, 0):.0f}" if engine["load"] else "" for name in LOADS),
            ", ".join(f"{name} {percent:.0f} %" for name, percent in engine["percent"].items()),
        )
        for engine in found.get("engines", ())
    ]
    return [box(("Engine", "Level", *LOADS.values(), "Of its capacity"), rows)] if rows else []


REBOOT = Operation("reboot", "start a service engine anew", (ENGINE,))
_PLAIN = (
    Operation(
        "scaleout",
        "one service engine more for a virtual service",
        (SERVICE,),
        (TO_SE, TO_NEW_SE, TO_HOST, VCPUS, VIP_ID),
    ),
    Operation(
        "scalein",
        "one service engine less for a virtual service",
        (SERVICE,),
        (FROM_SE, Option("scalein_primary", "the primary itself goes"), VIP_ID),
    ),
    Operation(
        "migrate",
        "move a virtual service to another service engine",
        (SERVICE,),
        (FROM_SE, TO_SE, TO_NEW_SE, TO_HOST, VCPUS, VIP_ID),
    ),
    Operation(
        "switchover",
        "of a legacy pair: the standby becomes active",
        (SERVICE, ENGINE),
        (Option("se_uuid", "the engine that becomes active", ENGINE), VIP_ID),
    ),
    Operation("redistribute", "of a legacy pair: each service back to its own side", (GROUP,)),
    Operation("retryplacement", "try again now to place a virtual service", (SERVICE,), (VIP_ID,)),
    Operation("forcedelete", "remove a service engine, whatever is on it moves", (ENGINE,)),
    Operation("endstorm", "engines that vanished in a storm count as down", (GROUP,)),
    Operation(
        "upgrade",
        "engines of a group start anew in turn, by what is installed",
        (GROUP,),
        (
            Option("all", "also those that run it already"),
            Option("stop", "no further one; `upgrade` again goes on"),
        ),
    ),
)
COMMANDS = {
    **{operation.name: operation.command for operation in _PLAIN},
    "initialplacement": Command(
        summary="the first engine of a virtual service that has none",
        usage=("initialplacement virtualservice <name> serviceengine <name>",),
        run=_initial_placement,
        next=_of_one(SERVICE, _initial_next),
    ),
    "restart": Command(
        summary="disable a virtual service and enable it again",
        usage=("restart virtualservice <name>",),
        run=_restart,
        next=_of_one(SERVICE),
    ),
    "reboot": REBOOT.command._replace(run=_reboot),
    "rebalance": Command(
        summary="how often a group's balance is looked at; the last look",
        usage=("rebalance se_group_ref <group> [interval <minutes>]",),
        run=_rebalance,
        next=lambda known, words: next_option(known, REBALANCE, words),
        options=REBALANCE,
    ),
}
