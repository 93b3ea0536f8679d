"""What an engine reports: its HAProxy's counters by virtual service and server, its processes' cost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from shoal.wire.desired import Service
from shoal.wire.messages import ServerState, ServiceStats

from .haproxy import render, runtime
from .haproxy.escape import word

STATES = {"UP": "up", "DOWN": "down", "DRAIN": "drain", "MAINT": "maint", "NOLB": "drain", "no": "up"}
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


def server_states(services: Mapping[str, Service], rows: Iterable[runtime.Row]) -> tuple[ServerState, ...]:
    by_name = {(row.proxy, row.name): row for row in rows}
    found = []
    for service in services.values():
        for server in service.pool.servers if service.pool else ():
            row = by_name.get((render.backend_name(service.id), word(server.name)))
            if row is not None and service.pool is not None:
                found.append(
                    ServerState(
                        service=service.id,
                        pool=service.pool.id,
                        server=server.name,
                        state=STATES.get(row.status.split(" ", 1)[0], "unknown"),
                        check=row.check.lstrip("* "),
                        connections=row.current,
                        sessions_total=row.total,
                        errors_total=row.errors,
                    )
                )
    return tuple(found)


def service_stats(services: Mapping[str, Service], rows: Iterable[runtime.Row]) -> tuple[ServiceStats, ...]:
    fronts = {row.proxy: row for row in rows if row.name == "FRONTEND"}
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
