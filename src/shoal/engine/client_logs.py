"""Takes HAProxy's lines of single requests: counts how long they took, keeps those the controller is to have.

Bounded everywhere: what is not read in time the kernel drops, what is over a service's rate is left out and counted.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections import deque
from collections.abc import Mapping

import msgspec

from shoal.wire import client_logs as wire
from shoal.wire.client_logs import FAILED, SAMPLED, SLOW, Line, Logged, LogPolicy, parse
from shoal.wire.counters import ServiceCounts
from shoal.wire.desired import Service
from shoal.wire.latency import Buckets, bucket_of

from .haproxy import render, server_modes, servers
from .haproxy.client_log import socket_address
from .haproxy.escape import backend_name, word

log = logging.getLogger("shoal.client_logs")

READ_MAX = 256
"""Lines of one look: 512 a second."""
SAMPLED_PER_S = 1
"""Of a service, those that are sent although nothing was wrong with them."""
SENT_PER_S_MAX = 100
"""Of the engine."""
PENDING_MAX = wire.LINES_MAX
Histogram = dict[int, int]


class Measured(msgspec.Struct):
    """Of one service: what was counted since the agent began, and what was sent in this second."""

    latency: Histogram = {}
    responses: dict[tuple[str, str], Histogram] = {}
    """By (backend, server): `backend_name`, `word`."""
    significant: int = 0
    others: int = 0


class ClientLogs:
    """One owner: the agent's measuring task. Pure but for `open` and `read`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._socket: socket.socket | None = None
        self._measured: dict[str, Measured] = {}
        self._pending: deque[Logged] = deque()
        self._left_out = 0
        self._second = 0
        self._sent = 0

    def open(self) -> None:
        """Before HAProxy writes. Nothing else of the engine depends on it."""
        found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            found.bind(socket_address(self._name))
        except OSError as error:  # an agent that is on its way out has it: see `read`
            found.close()
            log.warning("no client logs for now: %s", error)
            return
        found.setblocking(False)
        self._socket = found

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def read(self, services: Mapping[str, Service]) -> None:
        """Take what is there, `READ_MAX` at most."""
        if self._socket is None:
            self.open()
        now = time.time()
        with contextlib.suppress(BlockingIOError):
            for _ in range(READ_MAX if self._socket is not None else 0):
                assert self._socket is not None
                self.take(self._socket.recv(wire.LINE_BYTES_MAX + 1), services, now)

    def take(self, data: bytes, services: Mapping[str, Service], now: float) -> None:
        """One line that came at ``now``."""
        line = parse(data)
        service = services.get(line.frontend.removeprefix(render.FRONTEND_PREFIX)) if line is not None else None
        if line is None or service is None or service.log is None:
            return
        if int(now) != self._second:
            self._second, self._sent = int(now), 0
            for one in self._measured.values():
                one.significant = one.others = 0
        measured = self._measured.setdefault(service.id, Measured())
        why = FAILED if line.failed(service.log) else SLOW if line.slow(service.log) else SAMPLED
        if line.http:
            # What HAProxy answers itself does not come by the rule that draws: each has its line.
            alone = why == FAILED or (why == SLOW and service.log.every_slow) or line.told or not line.server
            place = _own_backend(service, line), _own_name(service, line)
            _count(measured, line, place, 1 if alone else _weight(service.log, now))
        self._keep(measured, service.log, Logged(service.id, why, data), now, full=line.told)

    def _keep(self, measured: Measured, policy: LogPolicy, logged: Logged, now: float, *, full: bool) -> None:
        """``full``: it is to be kept as where every request is."""
        significant = bool(logged.why)
        if significant:
            wanted = policy.significant and _below(measured.significant, policy.significant_per_s)
        else:
            rate = policy.full_per_s if full or _full(policy, now) else SAMPLED_PER_S
            wanted = _below(measured.others, rate)
        if not wanted or self._sent >= SENT_PER_S_MAX or len(self._pending) >= PENDING_MAX:
            self._left_out += 1
            return
        self._pending.append(logged)
        self._sent += 1
        measured.significant += significant
        measured.others += not significant

    def message(self) -> wire.ClientLogs | None:
        """What the controller has not heard yet."""
        if not self._pending:
            return None
        message = wire.ClientLogs(tuple(self._pending), self._left_out)
        self._pending.clear()
        self._left_out = 0
        return message

    def counted(self, services: tuple[ServiceCounts, ...]) -> tuple[ServiceCounts, ...]:
        """The same, with how long requests took; services that are gone are forgotten."""
        for gone in self._measured.keys() - {one.id for one in services}:
            del self._measured[gone]
        if not self._measured:
            return services
        return tuple(_timed(one, self._measured[one.id]) if one.id in self._measured else one for one in services)


def _full(policy: LogPolicy, now: float) -> bool:
    return policy.full and (policy.full_until == 0 or now < policy.full_until)


def _weight(policy: LogPolicy, now: float) -> int:
    """How many requests a line stands for that was written without a reason."""
    return 1 if _full(policy, now) else max(1, policy.sampled_of)


def _below(count: int, per_s: int) -> bool:
    return per_s == 0 or count < per_s


def _own_name(service: Service, line: Line) -> str:
    """HAProxy knows servers that are told their names by these."""
    named = (one for pool in service.pools if pool.tells_names for one in pool.servers)
    return next((word(one.name) for one in named if servers.name(one) == line.server), line.server)


def _own_backend(service: Service, line: Line) -> str:
    """Of two that are one pool's, the first."""
    split = (server_modes.backends(service.id, pool) for pool in service.pools if pool.tls_as_client)
    return next((names[0] for names in split if line.backend in names), line.backend)


def _count(measured: Measured, line: Line, place: tuple[str, str], weight: int) -> None:
    us = line.us if line.us >= 0 else whole(line.total_ms)
    if us >= 0:
        bucket = bucket_of(us)
        measured.latency[bucket] = measured.latency.get(bucket, 0) + weight
    if line.response_ms >= 0 and line.server:
        bucket = bucket_of(whole(line.response_ms))
        histogram = measured.responses.setdefault(place, {})
        histogram[bucket] = histogram.get(bucket, 0) + weight


def whole(ms: int) -> float:
    """HAProxy cuts times to milliseconds. In microseconds; negative when it is not known."""
    return (ms + 0.5) * 1000


def _timed(one: ServiceCounts, measured: Measured) -> ServiceCounts:
    known: dict[tuple[str, str], Histogram] = {}
    pools = []
    for pool in one.pools:
        back = backend_name(one.id, pool.id)
        mine = {name: found for name, _ in pool.servers if (found := measured.responses.get((back, word(name))))}
        known |= {(back, word(name)): found for name, found in mine.items()}
        responses = tuple((name, _buckets(found)) for name, found in mine.items())
        pools.append(msgspec.structs.replace(pool, responses=responses))
    measured.responses = known
    return msgspec.structs.replace(one, latency=_buckets(measured.latency), pools=tuple(pools))


def _buckets(histogram: Histogram) -> Buckets:
    return tuple(sorted(histogram.items()))
