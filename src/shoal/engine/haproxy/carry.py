"""Servers' states across a reload: HAProxy would take each server for up again until its first checks have failed.

``show servers state`` of the old worker becomes the new one's ``server-state-file`` (management guide 9.3), with only
the rows that still say something true of the servers wanted, and the administrative state as it is wanted now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec

from shoal.wire.desired import Monitor, Pool, Server, ServerId, Service

from . import servers, steer
from .escape import backend_name
from .server_modes import Twin

EMPTY = "1\n"
VERSION_LINES = 2
READY, FORCED_MAINTENANCE, CONFIGURED_MAINTENANCE, FORCED_DRAIN = 0, 1, 4, 8
"""srv_admin_state is a sum of these. A server disabled in the file has the two maintenance bits; with the configured
one alone the reload brings it back to work, to drain."""


Kept = Mapping[tuple[str, str], int]
"""(backend, server), in HAProxy's names -> administrative state, of each server whose row is still true."""


def carried(state: str, kept: Kept) -> str:
    """The file for the new worker."""
    lines = state.splitlines()
    if len(lines) < VERSION_LINES or lines[0].strip() != "1":
        return EMPTY
    at = {name: index for index, name in enumerate(lines[1].lstrip("# ").split())}
    out = lines[:VERSION_LINES]
    for line in lines[VERSION_LINES:]:
        cells = line.split(" ")
        if len(cells) < len(at):
            continue
        admin = kept.get((cells[at["be_name"]], cells[at["srv_name"]]))
        if admin is not None:
            cells[at["srv_admin_state"]] = str(admin)
            if "srv_iweight" in at:  # weights that came after the file are given anew
                cells[at["srv_uweight"]] = cells[at["srv_iweight"]]
            out.append(" ".join(cells))
    return "\n".join(out) + "\n"


def kept(before: Mapping[str, Service], after: Mapping[str, Service], draining: Collection[ServerId]) -> Kept:
    """Empty when nothing that HAProxy has found out needs to be carried over."""
    return dict(_kept(before, after, draining))


def _kept(
    before: Mapping[str, Service], after: Mapping[str, Service], draining: Collection[ServerId]
) -> Iterator[tuple[tuple[str, str], int]]:
    for service in after.values():
        old = before.get(service.id)
        was = {id: (pool, server) for id, pool, server in old.servers} if old is not None else {}
        # Who follows a server that the file disables is in maintenance, until that one leaves it: to drain is another state.
        followed = {pool.of for pool in service.pools if isinstance(pool, Twin)}
        for id, pool, server in service.servers:
            if isinstance(pool, Twin):  # HAProxy gives them what those that they follow have
                continue
            drains = servers.known(id, server) in draining and not server.enabled
            former = was.get(id)
            if former is not None and (drains or _same(*former, pool, server)):
                admin = READY
                if not server.enabled:
                    to_drain = drains and steer.admits(pool) and pool.id not in followed
                    admin = CONFIGURED_MAINTENANCE | (FORCED_DRAIN if to_drain else FORCED_MAINTENANCE)
                yield (backend_name(id.service, id.pool), servers.name(server)), admin


def _same(old_pool: Pool, old: Server, pool: Pool, server: Server) -> bool:
    """Whether what the old checks found holds for the new ones."""
    if old is server and old_pool is pool:
        return bool(pool.monitors)
    place = (old.address, old.port) == (server.address, server.port)
    return place and bool(pool.monitors) and (_asked(old_pool), old_pool.tls) == (_asked(pool), pool.tls)


def _asked(pool: Pool) -> list[Monitor]:
    """What the monitors look at; how often and how patiently does not matter here."""
    pace = Monitor(name="", kind="")
    return [
        msgspec.structs.replace(
            monitor, name="", interval_s=pace.interval_s, timeout_s=pace.timeout_s, rise=pace.rise, fall=pace.fall
        )
        for monitor in pool.monitors
    ]


def present(state: str, backend: str) -> Iterator[tuple[str, tuple[str, int]]]:
    """(name in HAProxy, (address, port)) of the servers that HAProxy has in a backend."""
    lines = state.splitlines()
    at = {name: index for index, name in enumerate(lines[1].lstrip("# ").split())} if len(lines) > 1 else {}
    for line in lines[VERSION_LINES:]:
        cells = line.split(" ")
        if len(cells) >= len(at) and cells[at["be_name"]] == backend:
            yield cells[at["srv_name"]], (cells[at["srv_addr"]], int(cells[at["srv_port"]]))


def failing(state: str) -> frozenset[tuple[str, str]]:
    """(backend, server), in HAProxy's names, of servers whose check fails."""
    return _that_have_none(state, "srv_check_health")


def down(state: str) -> frozenset[tuple[str, str]]:
    """The same of those that get no connections, whatever the reason."""
    return _that_have_none(state, "srv_op_state")


def _that_have_none(state: str, column: str) -> frozenset[tuple[str, str]]:
    lines = state.splitlines()
    at = {name: index for index, name in enumerate(lines[1].lstrip("# ").split())} if len(lines) > 1 else {}
    rows = (line.split(" ") for line in lines[VERSION_LINES:])
    return frozenset(
        (cells[at["be_name"]], cells[at["srv_name"]])
        for cells in rows
        if len(cells) >= len(at) and cells[at[column]] == "0"
    )
