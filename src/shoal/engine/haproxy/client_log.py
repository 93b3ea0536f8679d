"""Which requests HAProxy writes a line of, and how: to the agent, by datagrams to an abstract Unix socket (it belongs to
the engine's network namespace, and needs no path that HAProxy's user could reach).

A line costs some 20 % of a request's CPU, and a decision not to write one has its price too (decision 46); so the
decision is one rule.
"""

from __future__ import annotations

from shoal.wire.client_logs import HTTP_FORMAT, LINE_BYTES_MAX, TCP_FORMAT, LogPolicy

from .escape import within, word

SOCKET_NAME_BYTES = 108
"""HAProxy pads abstract names with zeros to the whole of ``sun_path``."""
TOLD = "txn.log"
"""A rule wants the request logged."""
HOST_BYTES_MAX = 100
AGENT_BYTES_MAX = 200
STATUSES = range(100, 600)
SLOW_MS_MAX = 86_400_000
SAMPLED_MAX = 2**31 - 1
UNTIL_MAX = 2**40


def socket_address(name: str) -> bytes:
    """What the reader binds."""
    return (b"\0" + word(name).encode()).ljust(SOCKET_NAME_BYTES, b"\0")


def rules(policy: LogPolicy, socket: str, *, http: bool) -> tuple[list[str], list[str]]:
    """(of the frontend, of the backend)"""
    to = f"log abns@{word(socket)} len {LINE_BYTES_MAX} format raw local0"
    if not http:
        quiet = _unless(policy, [])
        back = [f"tcp-response content set-log-level silent{quiet}"] if quiet is not None else []
        return [to, f'log-format "{TCP_FORMAT}"'], back  # one that got nothing is one that failed
    front = [to, "option dontlognull"]
    if policy.headers:
        front += [f"capture request header {name} len {size}" for name, size in _HEADERS]
    front.append(f'log-format "{HTTP_FORMAT}{" %hr" if policy.headers else ""}"')
    slow = []
    if policy.every_slow:
        front.append("http-request set-var(txn.began) date(0,us)")
        slow = [f"!{{ date(0,us),sub(txn.began) ge {within(policy.slow_ms, 0, SLOW_MS_MAX) * 1000} }}"]
    accepted = " ".join(str(int(code)) for code in policy.accepted if code in STATUSES)
    for which in ("{ status lt 400 }", *([f"{{ status {accepted} }}"] if accepted else [])):
        quiet = _unless(policy, [which, *slow])
        if quiet is not None:
            front.append(f"http-response set-log-level silent{quiet}")
    return front, []


def told() -> str:
    """The last line of the frontend's on responses, where rules may want a line that nobody else does."""
    return f"http-response set-log-level info if {{ var({TOLD}) -m found }}"


_HEADERS = (("Host", HOST_BYTES_MAX), ("User-Agent", AGENT_BYTES_MAX))


def _unless(policy: LogPolicy, tests: list[str]) -> str | None:
    """The condition under which no line is written; None = never."""
    if policy.full and not policy.full_until:
        return None
    if policy.full:
        tests = [f"{{ date ge {within(policy.full_until, 0, UNTIL_MAX)} }}", *tests]
    if policy.sampled_of > 0:
        tests = [*tests, f"!{{ rand({within(policy.sampled_of, 1, SAMPLED_MAX)}) eq 0 }}"]
    return f" if {' '.join(tests)}" if tests else ""
