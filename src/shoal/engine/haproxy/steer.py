"""The cheap way from one desired state to the next: commands of HAProxy's runtime API, no reload. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from shoal.wire.desired import Pool, Server, Service

from . import monitors, render
from .escape import word

COMMANDS_MAX = 500
"""Beyond it one reload is cheaper."""


class Command(msgspec.Struct, frozen=True):
    """``answer`` is how HAProxy's answer begins when it worked."""

    text: str
    answer: str = ""


class Drain(msgspec.Struct, frozen=True):
    """A server that gets no new connections. ``seconds`` until the rest is cut; -1 = never."""

    service: str
    server: str
    seconds: int


class Steering(msgspec.Struct, frozen=True):
    """What leads there: the commands, the drains that begin and those that end."""

    commands: tuple[Command, ...]
    begin: tuple[Drain, ...] = ()
    end: tuple[tuple[str, str], ...] = ()


def server_path(service: str, server: str) -> str:
    return f"{render.backend_name(service)}/{word(server)}"


def cut(service: str, server: str) -> tuple[Command, ...]:
    """End a drain: the server's connections are closed."""
    path = server_path(service, server)
    return Command(f"set server {path} state maint"), Command(f"shutdown sessions server {path}")


def steer(before: Mapping[str, Service], after: Mapping[str, Service]) -> Steering | None:
    """The commands, in order; None when only a reload leads there."""
    if before.keys() != after.keys():
        return None
    commands: list[Command] = []
    for id, service in after.items():
        if service is before[id] or service == before[id]:
            continue
        steps = _service(before[id], service)
        if steps is None:
            return None
        commands += steps
    if len(commands) > COMMANDS_MAX:
        return None
    return Steering(tuple(commands), *drains(before, after))


def drains(
    before: Mapping[str, Service], after: Mapping[str, Service]
) -> tuple[tuple[Drain, ...], tuple[tuple[str, str], ...]]:
    """(those that begin, those that end), whichever way the change takes."""
    begin, end = [], []
    for id, service in after.items():
        old = _servers(before.get(id))
        for name, server in _servers(service).items():
            was = old.get(name)
            if server.enabled:
                end.append((id, name))
            elif was is not None and was.enabled and service.pool is not None and service.pool.graceful_disable_s:
                begin.append(Drain(id, name, service.pool.graceful_disable_s))
    return tuple(begin), tuple(end)


def _servers(service: Service | None) -> dict[str, Server]:
    return {server.name: server for server in service.pool.servers} if service and service.pool else {}


def _service(before: Service, after: Service) -> list[Command] | None:
    if before.pool is None or after.pool is None or _bare(before) != _bare(after):
        return None
    old, new = _servers(before), _servers(after)
    if len(new) != len(after.pool.servers):
        return None
    moved = [name for name in new if name in old and _place(old[name]) != _place(new[name])]
    if moved or (old.keys() != new.keys() and after.pool.algorithm == "LB_ALGORITHM_FEWEST_SERVERS"):
        return None  # there the order of the servers counts
    commands = [c for name in old if name not in new for c in _remove(after.id, name)]
    for name, server in new.items():
        commands += _change(after, old[name], server) if name in old else _add(after.id, after.pool, server)
    return commands


def _bare(service: Service) -> Service:
    assert service.pool is not None
    return msgspec.structs.replace(service, name="", pool=msgspec.structs.replace(service.pool, servers=()))


def _place(server: Server) -> tuple[str, int]:
    return server.address, server.port


def _change(service: Service, old: Server, new: Server) -> Iterator[Command]:
    path = server_path(service.id, new.name)
    if new.ratio != old.ratio:
        yield Command(f"set server {path} weight {int(new.ratio)}")
    if new.enabled and not old.enabled:
        yield Command(f"set server {path} state ready")
    if old.enabled and not new.enabled:
        assert service.pool is not None
        if service.pool.graceful_disable_s == 0:
            yield from cut(service.id, new.name)
        else:
            yield Command(f"set server {path} state drain")


def _add(service: str, pool: Pool, server: Server) -> Iterator[Command]:
    path, check = server_path(service, server.name), monitors.check(pool)
    yield Command(f"add server {path} {render.server_arguments(pool, server, check)}", "New server registered")
    if check.server:
        yield Command(f"enable health {path}")
    if server.enabled:
        yield Command(f"enable server {path}")


def _remove(service: str, server: str) -> Iterable[Command]:
    """Refused while the server has connections; the reload that follows lets them finish."""
    path = server_path(service, server)
    return Command(f"set server {path} state maint"), Command(f"del server {path}", "Server deleted")
