"""``attach``: a Linux shell inside a service engine of this machine, or beside its controller."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from shoal.errors import Invalid, NotFound, Problem, Refused

from .command import Choice, Command, Known

if TYPE_CHECKING:
    from .session import Session

NAMESPACES = Path("/run/netns")
LOCAL = ("127.0.0.1", "localhost", "[::1]")
USAGE = ("attach serviceengine <name>", "attach controller")


def _run(session: Session, words: list[str]) -> str:
    match words:
        case ["controller"]:
            _here(session)
            return _shell([], "controller")
        case ["serviceengine", name]:
            session.object(session.kind("serviceengine"), name)
            _here(session)
            return _shell(["nsenter", f"--net={_namespace(name)}"], name)
    raise Invalid([Problem(path="attach", why=f"use {' or '.join(USAGE)}")])


def _here(session: Session) -> None:
    host = session.client.url.partition("://")[2].rpartition(":")[0]
    if host not in LOCAL:
        hint = f"Log in there (ssh {host}), and use shoal shell on it."
        raise Refused(f"The controller runs on {host}; a Linux shell is opened on this machine only.", hint=hint)
    if not sys.stdin.isatty():
        raise Refused("A Linux shell needs a terminal.")


def _namespace(engine: str) -> Path:
    found = sorted(path for path in NAMESPACES.glob("shoal-*") if path.name.endswith(f"-{engine}"))
    if len(found) != 1:
        why = "no network namespace of it" if not found else f"{len(found)} namespaces of that name"
        raise NotFound(f"There is {why} on this machine.", hint="`ip netns` lists them.")
    if os.geteuid() != 0:
        raise Refused("Entering a network namespace needs root.", hint="Start the shell with sudo.")
    return found[0]


def _shell(prefix: list[str], where: str) -> str:
    shell = os.environ.get("SHELL", "/bin/sh")
    print(f"A Linux shell in {where}; exit comes back.", flush=True)
    status = subprocess.call([*prefix, shell], env={**os.environ, "SHOAL_ATTACHED": where})
    return "" if status == 0 else f"It ended with status {status}."


def _next(known: Known, words: list[str]) -> Iterable[Choice]:
    match words:
        case []:
            return [Choice("serviceengine", "of this machine"), Choice("controller", "where it runs")]
        case ["serviceengine"]:
            return known.names("serviceengine")
    return ()


COMMAND = Command(
    summary="a Linux shell in a service engine of this machine",
    usage=USAGE,
    run=_run,
    next=_next,
)
