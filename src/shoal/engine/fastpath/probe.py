"""One look at one server, for the health monitors that HAProxy has none of: UDP, PING, DNS."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import secrets
import socket
import struct

from shoal.wire.desired import Monitor

from . import dns

log = logging.getLogger("shoal.fastpath.probe")

DATAGRAM_BYTES_MAX = 4096
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
ICMP_PROTOCOL = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
ECHO_REQUEST, ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}


async def probe(monitor: Monitor, address: str, port: int) -> str:
    """ "" when the server is well, else what is wrong with it. Takes ``monitor.timeout_s`` at most."""
    look = {"UDP": _udp, "PING": _ping, "DNS": _dns}.get(monitor.kind)
    if look is None:
        return ""
    try:
        async with asyncio.timeout(max(1, monitor.timeout_s)):
            return await look(monitor, address, port)
    except TimeoutError:
        return f"{monitor.kind} no answer within {monitor.timeout_s} s"
    except PermissionError as error:  # ours, not the server's
        log.warning("%s:%d can't be asked by %s: %s", address, port, monitor.kind, error)
        return ""
    except OSError as error:
        return f"{monitor.kind} {os.strerror(error.errno) if error.errno else error}"


async def _udp(monitor: Monitor, address: str, port: int) -> str:
    """Without an answer to wait for, silence is well; a refusal (ICMP port unreachable) never is."""
    with _socket(address, socket.SOCK_DGRAM) as link:
        link.connect((address, port))
        await _send(link, text_octets(monitor.request))
        wanted = text_octets(monitor.response)
        if not wanted:
            try:
                async with asyncio.timeout(max(0.1, monitor.timeout_s / 2)):
                    await _receive(link)
            except TimeoutError:
                pass
            return ""
        while True:
            if wanted in await _receive(link):
                return ""


async def _ping(monitor: Monitor, address: str, port: int) -> str:
    version = ipaddress.ip_address(address).version
    token = secrets.token_bytes(16)
    with _socket(address, socket.SOCK_DGRAM, ICMP_PROTOCOL[version]) as link:  # the kernel fills id and checksum
        link.connect((address, 0))
        await _send(link, struct.pack("!BBHHH", ECHO_REQUEST[version], 0, 0, 0, 1) + token)
        while True:
            answer = await _receive(link)
            if answer[:1] == bytes([ECHO_REPLY[version]]) and answer[8:] == token:
                return ""


async def _dns(monitor: Monitor, address: str, port: int) -> str:
    if monitor.dns is None:
        return "DNS the monitor has no query_name"
    number = secrets.randbelow(1 << 16)
    with _socket(address, socket.SOCK_DGRAM) as link:
        link.connect((address, port))
        await _send(link, dns.query(number, monitor.dns))
        while True:
            found = dns.parsed(await _receive(link), number)
            if found is not None:
                return dns.judged(found, monitor.dns, monitor.response)


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
