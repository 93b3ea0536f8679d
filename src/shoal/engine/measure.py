"""What an engine reports: its HAProxy's counters by virtual service and server, its processes' cost."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from shoal.wire.desired import ServerId, Service
from shoal.wire.messages import ServerState, ServiceStats

from .haproxy import render, server_modes, servers
from .haproxy.stats import FRONTEND, Row

STATES = {"UP": "up", "DOWN": "down", "DRAIN": "drain", "MAINT": "maint", "NOLB": "drain", "no": "up"}
"""HAProxy's words; ``no check`` counts as up."""
NOTHING = Row("", "", "", "")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


def server_states(services: Mapping[str, Service], rows: Iterable[Row]) -> tuple[ServerState, ...]:
    by_name = {(row.proxy, row.name): row for row in rows}
    found = []
    for service in services.values():
        for id, pool, server in service.servers:
            own, *twin = server_modes.backends(service.id, pool)
            name = servers.name(server)
            row = by_name.get((own, name))
            more = by_name.get((twin[0], name), NOTHING) if twin else NOTHING
            if row is not None:
                found.append(
                    ServerState(
                        service=service.id,
                        pool=id.pool,
                        server=server.name,
                        state=STATES.get(row.status.split(" ", 1)[0], "unknown"),
                        check=row.check,
                        connections=row.current + more.current,
                        sessions_total=row.total + more.total,
                        errors_total=row.errors + more.errors,
                    )
                )
    return tuple(found)


def with_monitors(states: tuple[ServerState, ...], ill: Mapping[ServerId, str]) -> tuple[ServerState, ...]:
    """The same, where servers that the agent's own monitors find ``ill`` are down, by what they say is wrong."""
    if not ill:
        return states
    return tuple(
        msgspec.structs.replace(one, state="down", check=ill[mine])
        if one.state in ("up", "down") and (mine := ServerId(one.service, one.pool, one.server)) in ill
        else one
        for one in states
    )


def service_stats(services: Mapping[str, Service], rows: Iterable[Row]) -> tuple[ServiceStats, ...]:
    fronts = {row.proxy: row for row in rows if row.name == FRONTEND}
    return tuple(
        ServiceStats(
            service=id,
            connections=row.current,
            connections_total=row.total,
            requests_total=row.requests,
            errors_total=row.errors,
            bytes_in=row.bytes_in,
            bytes_out=row.bytes_out,
        )
        for id in services
        if (row := fronts.get(render.frontend_name(id))) is not None
    )


CONNECTED = frozenset({"01", "03", "04", "05", "08", "09", "0B"})
"""TCP states of /proc/net/tcp in which a client still has something of us: all but closed, waiting and listening."""


def connected_addresses() -> frozenset[str]:
    """Local addresses that have a TCP connection in this network namespace, old HAProxy workers' too (their
    connections are in no statistics)."""
    found: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:  # a kernel without IPv6
            continue
        found |= {line.split(None, 2)[1].split(":")[0] for line in lines if line.split(None, 4)[3] in CONNECTED}
    return frozenset(map(_address, found))


def _address(digits: str) -> str:
    """The kernel prints an address as 32-bit words of its own byte order (proc(5))."""
    words = [bytes.fromhex(digits[at : at + 8]) for at in range(0, len(digits), 8)]
    octets = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return plain(socket.inet_ntop(socket.AF_INET if len(octets) == 4 else socket.AF_INET6, octets))


def plain(address: str) -> str:
    """One spelling of each address; an IPv4 address in IPv6 clothes is IPv4. Text that is none stays as it is."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


class Cost:
    """CPU share and memory of some processes, from /proc."""

    def __init__(self) -> None:
        self._ticks = 0
        self._at = time.monotonic()

    def read(self, pids: Iterable[int]) -> tuple[float, float]:
        """(percent of one core since the last call, megabytes)."""
        ticks, memory = 0, 0.0
        for pid in pids:
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            ticks += int(fields[11]) + int(fields[12])
            memory += int(fields[21]) * PAGE_MB
        now = time.monotonic()
        elapsed, self._at = now - self._at, now
        used, self._ticks = max(0, ticks - self._ticks), ticks
        return 100 * used / TICKS_PER_S / max(elapsed, 1e-3), memory
