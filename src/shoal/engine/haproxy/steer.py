"""The cheap way from one desired state to the next: commands of HAProxy's runtime API, no reload. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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


Lingering = Mapping[tuple[str, str], tuple[str, int]]
"""(service, server) -> (address, port) of servers that are removed but still in HAProxy, for connections they have."""


class Steering(msgspec.Struct, frozen=True):
    """What leads there: the commands, then the servers to delete as soon as their last connection has ended; the drains
    that begin and those that end."""

    commands: tuple[Command, ...]
    remove: tuple[tuple[str, Server], ...] = ()
    begin: tuple[Drain, ...] = ()
    end: tuple[tuple[str, str], ...] = ()


def server_path(service: str, server: str) -> str:
    return f"{render.backend_name(service)}/{word(server)}"


def cut(service: str, server: str) -> tuple[Command, ...]:
    """End a drain: the server's connections are closed."""
    path = server_path(service, server)
    return Command(f"set server {path} state maint"), Command(f"shutdown sessions server {path}")


def delete(service: str, server: str) -> Command:
    """Of a removed server; refused while it has connections."""
    return Command(f"del server {server_path(service, server)}", "Server deleted")


def steer(
    before: Mapping[str, Service], after: Mapping[str, Service], lingering: Lingering | None = None
) -> Steering | None:
    """The commands, in order; None when only a reload leads there. Raises Unrenderable like `render`."""
    if before.keys() != after.keys():
        return None
    commands: list[Command] = []
    remove: list[tuple[str, Server]] = []
    for id, service in after.items():
        if service is before[id] or service == before[id]:
            continue
        steps = _service(before[id], service, lingering or {})
        if steps is None:
            return None
        commands += steps
        kept = _servers(service)
        remove += [(id, server) for name, server in _servers(before[id]).items() if name not in kept]
    if len(commands) > COMMANDS_MAX:
        return None
    return Steering(tuple(commands), tuple(remove), *drains(before, after))


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


def _service(before: Service, after: Service, lingering: Lingering) -> list[Command] | None:
    if before.pool is None or after.pool is None or _bare(before) != _bare(after):
        return None
    old, new = _servers(before), _servers(after)
    if len(new) != len(after.pool.servers):
        return None
    moved = [name for name in new if name in old and _place(old[name]) != _place(new[name])]
    if moved or (old.keys() != new.keys() and after.pool.algorithm == "LB_ALGORITHM_FEWEST_SERVERS"):
        return None  # there the order of the servers counts
    commands = [_leave(after.id, name) for name in old if name not in new]
    for name, server in new.items():
        if name in old:
            commands += _change(after, old[name], server)
        elif (after.id, name) not in lingering:
            commands += _add(after.id, after.pool, server)
        elif lingering[after.id, name] == _place(server):
            commands += _return(after.id, server)
        else:
            return None
    return commands


def _bare(service: Service) -> Service:
    """What HAProxy's file says but for the servers: names and the patience with disabled servers are not in it."""
    assert service.pool is not None
    pool = msgspec.structs.replace(service.pool, name="", servers=(), graceful_disable_s=0)
    return msgspec.structs.replace(service, name="", pool=pool)


def _place(server: Server) -> tuple[str, int]:
    return server.address, server.port


def _change(service: Service, old: Server, new: Server) -> Iterator[Command]:
    path = server_path(service.id, new.name)
    if new.ratio != old.ratio:
        yield _weight(path, new)
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
        yield from _enabled(path, check)
    if server.enabled:
        yield Command(f"enable server {path}")


def _enabled(path: str, check: monitors.Check) -> Iterator[Command]:
    if check.rules:
        yield Command(f"enable health {path}")
    if monitors.TOLD in check.server:
        yield Command(f"enable agent {path}")


def told(service: str, server: str, why: str, *, failing: bool = False) -> Iterator[Command]:
    """The verdict of the agent's own monitors, "" = well. ``failing``: HAProxy's check fails, and would be overruled for a
    moment."""
    path = server_path(service, server)
    yield Command(f"set server {path} agent {'down' if why else 'up'}")
    if not why and failing:
        yield Command(f"set server {path} health down")


def _leave(service: str, server: str) -> Command:
    """It gets nothing new; what it has goes on."""
    return Command(f"set server {server_path(service, server)} state maint")


def _return(service: str, server: Server) -> Iterator[Command]:
    """A server that was removed and is still there."""
    path = server_path(service, server.name)
    yield _weight(path, server)
    if server.enabled:
        yield Command(f"set server {path} state ready")


def _weight(path: str, server: Server) -> Command:
    return Command(f"set server {path} weight {render.weight(server)}")
