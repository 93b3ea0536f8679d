"""The cheap way from one desired state to the next: commands of HAProxy's runtime API, no reload. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from shoal.wire.desired import COOKIES, Pool, Server, ServerId, Service

from . import core_affinity, monitors, servers
from .escape import backend_name, word
from .server_modes import Twin

COMMANDS_MAX = 500
"""Beyond it one reload is cheaper."""


class Command(msgspec.Struct, frozen=True):
    """``answer`` is how HAProxy's answer begins when it worked."""

    text: str
    answer: str = ""


class Drain(msgspec.Struct, frozen=True):
    """A server, as HAProxy knows it, that gets no new connections. ``seconds`` until the rest is cut; -1 = never."""

    server: ServerId
    seconds: int


Lingering = Mapping[ServerId, tuple[str, int]]
"""(address, port) of servers that are removed but still in HAProxy, for connections they have; by what HAProxy knows them
by."""


class Steering(msgspec.Struct, frozen=True):
    """What leads there: the commands, then the servers to delete as soon as their last connection has ended; the drains
    that begin and those that end. Servers as HAProxy knows them (`servers.known`)."""

    commands: tuple[Command, ...]
    remove: tuple[tuple[ServerId, Server], ...] = ()
    begin: tuple[Drain, ...] = ()
    end: tuple[ServerId, ...] = ()


def server_path(id: ServerId) -> str:
    return f"{backend_name(id.service, id.pool)}/{word(id.server)}"


def cut(id: ServerId) -> tuple[Command, ...]:
    """End a drain: the server's connections are closed."""
    path = server_path(id)
    return Command(f"set server {path} state maint"), Command(f"shutdown sessions server {path}")


def delete(id: ServerId) -> Command:
    """Of a removed server; refused while it has connections."""
    return Command(f"del server {server_path(id)}", "Server deleted")


def steer(
    before: Mapping[str, Service], after: Mapping[str, Service], lingering: Lingering | None = None
) -> Steering | None:
    """The commands, in order; None when only a reload leads there. Raises Unrenderable like `render`."""
    if before.keys() != after.keys():
        return None
    commands: list[Command] = []
    remove: list[tuple[ServerId, Server]] = []
    for id, service in after.items():
        if service is before[id] or service == before[id]:
            continue
        if _bare(before[id]) != _bare(service):
            return None
        for was, pool in zip(before[id].pools, service.pools, strict=True):
            steps = _pool(service.id, was, pool, lingering or {})
            if steps is None:
                return None
            commands += steps
        kept = {one for one, _, _ in service.servers}
        gone = ((one, server) for one, _, server in before[id].servers if one not in kept)
        remove += ((servers.known(one, server), server) for one, server in gone)
    if len(commands) > COMMANDS_MAX:
        return None
    return Steering(tuple(commands), tuple(remove), *drains(before, after))


def drains(
    before: Mapping[str, Service], after: Mapping[str, Service]
) -> tuple[tuple[Drain, ...], tuple[ServerId, ...]]:
    """(those that begin, those that end), whichever way the change takes."""
    begin, end = [], []
    for key, service in after.items():
        known = before.get(key)
        old = {id: server for id, _, server in known.servers} if known is not None else {}
        for id, pool, server in service.servers:
            was, here = old.get(id), servers.known(id, server)
            if server.enabled:
                end.append(here)
            elif was is not None and was.enabled and pool.graceful_disable_s:
                begin.append(Drain(here, pool.graceful_disable_s))
    return tuple(begin), tuple(end)


def _bare(service: Service) -> Service:
    """What HAProxy's file says but for the servers: names and what becomes of disabled servers are not in it."""
    pool = _bare_pool(service.pool) if service.pool is not None else None
    return msgspec.structs.replace(service, name="", pool=pool, others=tuple(map(_bare_pool, service.others)))


def _bare_pool(pool: Pool) -> Pool:
    return msgspec.structs.replace(pool, name="", servers=(), graceful_disable_s=0, admits_kept=False)


def _pool(service: str, before: Pool, after: Pool, lingering: Lingering) -> list[Command] | None:
    old, new = ({server.name: server for server in pool.servers} for pool in (before, after))
    if len(new) != len(after.servers):
        return None
    moved = [name for name in new if name in old and _place(old[name]) != _place(new[name])]
    if moved or (old.keys() != new.keys() and after.algorithm == servers.FEWEST_SERVERS):
        return None  # there the order of the servers counts
    if not core_affinity.same_file(before, after):
        return None
    if old.keys() != new.keys() and isinstance(after, Twin):
        return None  # nobody can follow a server that came without a reload (management guide 9.3)
    if not servers.same_names(old, new) or (_named_one_by_one(after) and _enabled(old) != _enabled(new)):
        return None
    commands = [_leave(_known(service, after, old[name])) for name in old if name not in new]
    for name, server in new.items():
        id = _known(service, after, server)
        if name in old:
            commands += _change(id, after, old[name], server)
        elif id not in lingering:
            commands += _add(id, after, server)
        elif lingering[id] == _place(server):
            commands += _return(id, server)
        else:
            return None
    return commands


def _known(service: str, pool: Pool, server: Server) -> ServerId:
    return servers.known(ServerId(service, pool.id, server.name), server)


def _named_one_by_one(pool: Pool) -> bool:
    """Whether rules of the backend name each server that is enabled."""
    return pool.persistence is not None and pool.persistence.when_down == "refuse"


def _enabled(named: Mapping[str, Server]) -> set[str]:
    return {name for name, server in named.items() if server.enabled}


def admits(pool: Pool) -> bool:
    """Whether a server that is disabled may drain in HAProxy's way, which lets in those whose cookie leads there."""
    kept = pool.persistence
    return pool.admits_kept or kept is None or kept.kind not in COOKIES


def _place(server: Server) -> tuple[str, int]:
    return server.address, server.port


def _change(id: ServerId, pool: Pool, old: Server, new: Server) -> Iterator[Command]:
    path = server_path(id)
    if new.ratio != old.ratio:
        yield _weight(path, new)
    if new.enabled and not old.enabled:
        yield Command(f"set server {path} state ready")
    if old.enabled and not new.enabled:
        if pool.graceful_disable_s == 0:
            yield from cut(id)
        else:
            yield Command(f"set server {path} state {'drain' if admits(pool) else 'maint'}")


def _add(id: ServerId, pool: Pool, server: Server) -> Iterator[Command]:
    path, check = server_path(id), monitors.check(pool)
    yield Command(f"add server {path} {servers.added(pool, server, check)}", "New server registered")
    if check.server:
        yield from _checked(path, check)
    if server.enabled:
        yield Command(f"enable server {path}")


def _checked(path: str, check: monitors.Check) -> Iterator[Command]:
    if check.rules:
        yield Command(f"enable health {path}")
    if monitors.TOLD in check.server:
        yield Command(f"enable agent {path}")


def told(id: ServerId, why: str, *, failing: bool = False) -> Iterator[Command]:
    """The verdict of the agent's own monitors, "" = well. ``failing``: HAProxy's check fails, and would be overruled for a
    moment."""
    path = server_path(id)
    yield Command(f"set server {path} agent {'down' if why else 'up'}")
    if not why and failing:
        yield Command(f"set server {path} health down")


def _leave(id: ServerId) -> Command:
    """It gets nothing new; what it has goes on."""
    return Command(f"set server {server_path(id)} state maint")


def _return(id: ServerId, server: Server) -> Iterator[Command]:
    """A server that was removed and is still there."""
    path = server_path(id)
    yield _weight(path, server)
    if server.enabled:
        yield Command(f"set server {path} state ready")


def weighed(id: ServerId, weight: int) -> Command:
    return Command(f"set server {server_path(id)} weight {int(weight)}")


def _weight(path: str, server: Server) -> Command:
    return Command(f"set server {path} weight {servers.weight(server)}")
