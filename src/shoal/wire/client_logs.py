"""What an engine tells of single requests: HAProxy's own lines, their format and how they are read."""

from __future__ import annotations

import msgspec

LINE_BYTES_MAX = 2048
LINES_MAX = 500
"""Of one message."""
COMMON = "%f %b/%s %ci %cp %fi %fp %Ts.%ms"
HTTP_FORMAT = f"h%[var(txn.log)] {COMMON} %ST %ts %TR %Tw %Tc %Tr %Ta %U %B %rc %[date(0,us),sub(txn.began)] %r"
TCP_FORMAT = f"t {COMMON} 0 %ts -1 %Tw %Tc -1 %Tt %U %B %rc -1 -"
"""The first word says of a request, by a 1 behind it, that a rule wants it logged."""
LOCAL = "L"
"""HAProxy's word for a response of its own, such as a redirect."""
FAILED, SLOW, SAMPLED = "failed", "slow", ""
"""Why a line was written."""


class Logged(msgspec.Struct, frozen=True, array_like=True):
    """One request, or TCP connection, of a virtual service."""

    service: str
    why: str
    line: bytes


class ClientLogs(msgspec.Struct, frozen=True, tag="client_logs"):
    """In the order they came. ``left_out``: what the throttles held back since the message before."""

    logged: tuple[Logged, ...]
    left_out: int = 0


class LogPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests of a virtual service its engines log: those that failed, and one in ``sampled_of`` of the others
    (for connections of TCP services likewise); with ``every_slow`` those that were slow, too. ``accepted`` statuses are
    no failures. Rates are per engine and second, 0 = unlimited."""

    sampled_of: int = 128
    slow_ms: int = 500
    """Until the response begins."""
    every_slow: bool = False
    """Costs as much again as all the rest; times are in microseconds then, else in milliseconds."""
    accepted: tuple[int, ...] = ()
    significant: bool = True
    """Whether failed and slow ones are sent to the controller; they count for the percentiles all the same."""
    significant_per_s: int = 10
    full: bool = False
    """Every request is logged."""
    full_until: int = 0
    """Then no longer (seconds since the epoch; 0 = for ever)."""
    full_per_s: int = 10
    headers: bool = False
    """Host and User-Agent, too."""


class Line(msgspec.Struct, frozen=True):
    """One of them. Times in ms, -1 = it did not come to that; ``us`` to the response's end. ``rest``: method, URI,
    version, and with `LogPolicy.headers` ``{host|user agent}``."""

    http: bool
    frontend: str
    backend: str
    """As HAProxy calls it."""
    server: str
    """"" when none was chosen."""
    client: str
    client_port: int
    vip: str
    vip_port: int
    at: float
    """Seconds since the epoch, when it was accepted."""
    status: int
    termination: str
    """HAProxy's two characters, ``--`` = as it should."""
    request_ms: int
    queue_ms: int
    connect_ms: int
    response_ms: int
    total_ms: int
    bytes_in: int
    bytes_out: int
    retries: int
    us: int
    rest: str
    told: bool = False
    """A rule wants it logged."""

    def begun_ms(self) -> int:
        """Until the response began."""
        return sum(max(0, ms) for ms in (self.request_ms, self.queue_ms, self.connect_ms, self.response_ms))

    def failed(self, policy: LogPolicy) -> bool:
        """It has an error status, or ended in another way than it should."""
        if self.status >= 400:
            return self.status not in policy.accepted
        return self.termination[:1] not in ("-", LOCAL)

    def slow(self, policy: LogPolicy) -> bool:
        return self.http and self.begun_ms() >= policy.slow_ms


def parse(line: bytes) -> Line | None:
    """None for what is no line of ours (HAProxy also tells here that a frontend has stopped)."""
    cells = line.decode("utf-8", "replace").rstrip("\n").split(" ", 19)
    if len(cells) != 20 or cells[0][:1] not in ("h", "t"):
        return None
    kind, front, place, client, cport, vip, vport, at, status, end, *figures, rest = cells
    try:
        numbers = [int(figure) if figure != "-" else -1 for figure in (cport, vport, status, *figures)]
        moment = float(at)
    except ValueError:
        return None
    backend, _, server = place.rpartition("/")
    client_port, vip_port, code, request, queue, connect, response, total, received, sent, retries, us = numbers
    return Line(
        http=kind.startswith("h"),
        frontend=front.rstrip("~"),
        backend=backend,
        server="" if server.startswith("<") else server,
        client=client,
        client_port=client_port,
        vip=vip,
        vip_port=vip_port,
        at=moment,
        status=max(0, code),
        termination=end,
        request_ms=request,
        queue_ms=queue,
        connect_ms=connect,
        response_ms=response,
        total_ms=total,
        bytes_in=received,
        bytes_out=sent,
        retries=retries,
        us=us,
        rest=rest,
        told=kind.endswith("1"),
    )
