"""One look at one server, for the health monitors that the agent runs."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable

from shoal.wire.monitors import DnsQuestion, Monitor, MonitorTls, Sip

from . import directory, dns, files, mail, radius, script, sip, talk
from .connection import Wrong, connected, shown
from .ping import FAMILY, echo
from .talk import Maintenance

log = logging.getLogger("shoal.monitors.probe")

DATAGRAM_BYTES_MAX = 4096
OVER_TLS = {"SMTPS": "SMTP", "POP3S": "POP3", "IMAPS": "IMAP", "FTPS": "FTP", "LDAPS": "LDAP"}


class Ill(Exception):
    """What is wrong with the server. ``at_once``: it does not take several failures."""

    def __init__(self, why: str, *, at_once: bool = False) -> None:
        super().__init__(why)
        self.at_once = at_once


async def probe(
    monitor: Monitor, address: str, port: int, host: str = "", tls: MonitorTls | None = None, pool: str = ""
) -> int | None:
    """How many tasks the server has, where a script says so. ``host``: the server's own name, "" if it has none; ``tls``: how
    to speak TLS, where it is spoken; ``pool``: its name, for a script. Raises Ill. Takes ``monitor.timeout_s`` at most."""
    try:
        async with asyncio.timeout(max(1, monitor.timeout_s)):
            if monitor.kind == "EXTERNAL":
                return await script.external(monitor, address, port, pool)
            await _look(monitor, address, port, host, tls)
    except TimeoutError:
        raise Ill(f"no answer within {monitor.timeout_s} s") from None
    except Maintenance as error:
        raise Ill(f"maintenance: {error}", at_once=True) from None
    except Wrong as error:
        raise Ill(str(error)) from None
    except PermissionError as error:  # ours, not the server's
        log.warning("%s:%d can't be asked by %s: %s", address, port, monitor.kind, error)
    except ssl.SSLError as error:
        raise Ill(f"TLS fails: {error.reason or error}"[:200]) from None
    except OSError as error:
        raise Ill(os.strerror(error.errno) if error.errno else str(error)) from None
    except Exception as error:  # what a server says must not end the agent
        log.exception("%s:%d by %s", address, port, monitor.kind)
        raise Ill(f"can't be run: {error}"[:200]) from None
    return None


async def _look(monitor: Monitor, address: str, port: int, host: str, tls: MonitorTls | None) -> None:
    ipaddress.ip_address(address)  # a name would be looked up, which blocks
    match OVER_TLS.get(monitor.kind, monitor.kind):
        case "HTTP" | "HTTPS":
            await talk.http(monitor, address, port, host, tls)
        case "SMTP":
            await mail.smtp(monitor, address, port, tls)
        case "POP3":
            await mail.pop3(monitor, address, port, tls)
        case "IMAP":
            await mail.imap(monitor, address, port, tls)
        case "FTP":
            await files.ftp(monitor, address, port, tls)
        case "LDAP":
            await directory.ldap(monitor, address, port, tls)
        case kind if kind in PLAIN:
            await PLAIN[kind](monitor, address, port)


async def _udp(monitor: Monitor, address: str, port: int) -> None:
    """Without an answer to wait for, silence is well; a refusal (ICMP port unreachable) never is."""
    with _socket(address, socket.SOCK_DGRAM) as link:
        link.connect((address, port))
        await _send(link, text_octets(monitor.request))
        wanted, rest = text_octets(monitor.response), text_octets(monitor.maintenance)
        if not wanted:
            try:
                async with asyncio.timeout(max(0.1, monitor.timeout_s / 2)):
                    _rested(rest, await _receive(link))
            except TimeoutError:
                pass
            return
        while True:
            data = await _receive(link)
            _rested(rest, data)
            if wanted in data:
                return


def _rested(maintenance: bytes, data: bytes) -> None:
    if maintenance and maintenance in data:
        raise Maintenance(f"the answer has {shown(maintenance.decode(errors='replace'))}")


async def _ping(monitor: Monitor, address: str, port: int) -> None:
    await echo(address)


async def _dns(monitor: Monitor, address: str, port: int) -> None:
    if not isinstance(monitor.asks, DnsQuestion):
        raise Wrong("the monitor has no query_name")
    number = secrets.randbelow(1 << 16)
    with _socket(address, socket.SOCK_DGRAM) as link:
        link.connect((address, port))
        await _send(link, dns.query(number, monitor.asks))
        while True:
            found = dns.parsed(await _receive(link), number)
            if found is not None:
                if why := dns.judged(found, monitor.asks, monitor.response):
                    raise Wrong(why.removeprefix("DNS "))
                return


async def _radius(monitor: Monitor, address: str, port: int) -> None:
    asked = radius.request(monitor)
    with _socket(address, socket.SOCK_DGRAM) as link:
        link.connect((address, port))
        await _send(link, asked)
        while not radius.accepted(asked, await _receive(link), monitor):
            pass


async def _sip(monitor: Monitor, address: str, port: int) -> None:
    wanted = monitor.response.encode()
    if isinstance(monitor.asks, Sip) and monitor.asks.tcp:
        async with connected(address, port) as tcp:
            own, own_port = tcp.writer.get_extra_info("sockname")[:2]
            await tcp.send(sip.options(address, port, own, own_port, "TCP"))
            data = await tcp.some(DATAGRAM_BYTES_MAX)
    else:
        with _socket(address, socket.SOCK_DGRAM) as link:
            link.connect((address, port))
            own, own_port = link.getsockname()[:2]
            await _send(link, sip.options(address, port, own, own_port, "UDP").encode())
            data = await _receive(link)
    if wanted not in data:
        raise Wrong(f"the answer is {shown(data.decode(errors='replace'))}")


PLAIN: dict[str, Callable[[Monitor, str, int], Awaitable[None]]] = {
    "TCP": talk.tcp,
    "UDP": _udp,
    "PING": _ping,
    "DNS": _dns,
    "RADIUS": _radius,
    "SIP": _sip,
}
"""Those without TLS."""


def text_octets(text: str) -> bytes:
    """What a monitor's text stands for; line ends and other octets may be written ``\\\\r\\\\n``, ``\\\\x00``."""
    try:
        return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
    except UnicodeError:
        return text.encode(errors="replace")


def _socket(address: str, kind: int, protocol: int = 0) -> socket.socket:
    family = FAMILY[ipaddress.ip_address(address).version]  # a name would be looked up, which blocks
    link = socket.socket(family, kind, protocol)
    link.setblocking(False)
    return link


async def _send(link: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(link, data)


async def _receive(link: socket.socket) -> bytes:
    return await asyncio.get_running_loop().sock_recv(link, DATAGRAM_BYTES_MAX)
