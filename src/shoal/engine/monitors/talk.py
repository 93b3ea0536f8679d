"""TCP and HTTP, for monitors that ask for more than HAProxy's checks can."""

from __future__ import annotations

import base64
import re

from shoal.wire.monitors import Monitor, MonitorTls

from .connection import Connection, Wrong, connected, shown

HEAD = re.compile(rb"HTTP/1\.[01] (?P<status>[1-5][0-9]{2})\b")
HEAD_BYTES_MAX = 16_384
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]{1,9})\r\n")
ANY = "HTTP_ANY"


class Maintenance(Exception):
    """The server says it is to be left alone."""


async def tcp(monitor: Monitor, address: str, port: int) -> None:
    """Raises Wrong, Maintenance, OSError."""
    async with connected(address, port) as link:
        if monitor.request:
            await link.send(monitor.request)
        wanted, rest = monitor.response.encode(), monitor.maintenance.encode()
        if not wanted and not rest:
            return
        data = b""
        while len(data) < monitor.answer_bytes:
            more = await link.some(monitor.answer_bytes - len(data))
            data += more
            if rest and rest in data:
                raise Maintenance(f"the server's answer has {shown(monitor.maintenance)}")
            if wanted in data and (wanted or data):
                return
            if not more:
                break
        if wanted:
            raise Wrong(f"the answer is {shown(data.decode(errors='replace'))}")


async def http(monitor: Monitor, address: str, port: int, host: str, tls: MonitorTls | None) -> None:
    """Raises Wrong, Maintenance, OSError."""
    async with connected(address, port, tls) as link:
        await link.send(request(monitor, host or address))
        data = await _answer(link, monitor)
    head = HEAD.match(data)
    if head is None:
        raise Wrong(f"no HTTP answer but {shown(data.decode(errors='replace'))}" if data else "an empty answer")
    status = int(head["status"])
    if status in monitor.maintenance_codes:
        raise Maintenance(f"the server answers {status}")
    if monitor.maintenance and monitor.maintenance.encode() in data:
        raise Maintenance(f"the server's answer has {shown(monitor.maintenance)}")
    wanted = monitor.codes or ("HTTP_2XX",)
    if ANY not in wanted and f"HTTP_{status // 100}XX" not in wanted:
        raise Wrong(f"the status is {status}")
    if monitor.response.encode() not in data:
        raise Wrong(f"the answer lacks {shown(monitor.response)}")


def request(monitor: Monitor, host: str) -> str:
    """The request as configured, and what is added to it."""
    lines = (monitor.request or "GET / HTTP/1.0").replace("\\r\\n", "\n").replace("\r\n", "\n").rstrip("\n").split("\n")
    lines = [lines[0].strip(), *(line for line in lines[1:] if line.strip())]
    if " HTTP/1." not in lines[0]:
        lines[0] += " HTTP/1.0"
    named = {line.partition(":")[0].strip().lower() for line in lines[1:]}
    added = {}
    if lines[0].endswith("/1.1"):
        added = {"Host": host, "Connection": "close"}
    if monitor.user:
        token = base64.b64encode(f"{monitor.user}:{monitor.password}".encode()).decode()
        added["Authorization"] = f"Basic {token}"
    if monitor.body:
        added["Content-Length"] = str(len(monitor.body.encode()))
    lines += [
        f"{name}: {value}"
        for name, value in added.items()
        if name.lower() not in named and not (monitor.exact and name in ("Host", "Connection"))
    ]
    return "\r\n".join(lines) + "\r\n\r\n" + monitor.body


async def _answer(link: Connection, monitor: Monitor) -> bytes:
    """The answer's beginning: as much as is looked at, or all there is."""
    data = b""
    while len(data) < monitor.answer_bytes:
        more = await link.some(HEAD_BYTES_MAX)
        if not more:
            break
        data += more
        head, found, body = data.partition(b"\r\n\r\n")
        length = LENGTH.search(head + b"\r\n")
        if found and ((length is not None and len(body) >= int(length[1])) or monitor.request.startswith("HEAD ")):
            break
    return data[: monitor.answer_bytes]
