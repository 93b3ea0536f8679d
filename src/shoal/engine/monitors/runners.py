"""Which monitors of a pool HAProxy runs, and which the agent. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from shoal.wire.desired import Pool, with_port
from shoal.wire.monitors import AGENT_KINDS, HAPROXY_KINDS, Monitor, asks_for_more


def by_haproxy(pool: Pool) -> tuple[Monitor, ...]:
    """HTTP monitors and bare TCP connections run one after another in one check; a TCP monitor that talks only where there
    is no HTTP one. None where some may fail, for a check fails as a whole; nor where connections to servers are limited, for
    HAProxy's checks would count among them."""
    if some_suffice(pool) or pool.rate is not None:
        return ()
    mine = [
        m for m in pool.monitors if m.kind in HAPROXY_KINDS and not asks_for_more(m) and not _each_its_host(pool, m)
    ]
    web = [m for m in mine if m.kind != "TCP"]
    if not web:
        return tuple(mine)
    return (*web, *_bare(web, mine)[:1])


def some_suffice(pool: Pool) -> bool:
    """Whether a server is up although one of its monitors says otherwise."""
    return 0 < pool.monitors_min < len(pool.monitors)


def by_agent(pool: Pool) -> tuple[Monitor, ...]:
    taken = by_haproxy(pool)
    return tuple(m for m in pool.monitors if m not in taken and m not in _implied(pool, taken))


def not_run(pool: Pool) -> tuple[Monitor, ...]:
    return tuple(m for m in pool.monitors if m.kind not in HAPROXY_KINDS and m.kind not in AGENT_KINDS)


def _each_its_host(pool: Pool, monitor: Monitor) -> bool:
    """Whether an HTTP request goes to each server with another Host header: HAProxy's check has one for all."""
    if monitor.kind == "TCP" or monitor.exact or "HTTP/1.1" not in monitor.request:
        return False
    lines = monitor.request.replace("\\r\\n", "\n").replace("\r\n", "\n").split("\n")[1:]
    if any(line.partition(":")[0].strip().lower() == "host" for line in lines):
        return False
    named = (server for server in pool.servers if server.hostname != server.address)
    return len({with_port(one.hostname, monitor.port or one.port, pool.tells_port) for one in named}) > 1


def _talks(monitor: Monitor) -> bool:
    return bool(monitor.request or monitor.response)


def _bare(web: list[Monitor], mine: list[Monitor]) -> list[Monitor]:
    """TCP monitors that only connect, to a port that no HTTP monitor asks."""
    asked = {m.port for m in web}
    return [m for m in mine if m.kind == "TCP" and not _talks(m) and m.port not in asked]


def _implied(pool: Pool, taken: tuple[Monitor, ...]) -> list[Monitor]:
    """A bare connection to a port that HAProxy's HTTP monitors ask proves nothing more."""
    return list(_covered(pool, {m.port for m in taken if m.kind != "TCP"}))


def _covered(pool: Pool, ports: set[int]) -> Iterator[Monitor]:
    return (m for m in pool.monitors if m.kind == "TCP" and not asks_for_more(m) and not _talks(m) and m.port in ports)
