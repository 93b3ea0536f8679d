"""ICMP echo (RFC 792, RFC 4443) without raw sockets: the kernel fills in id and checksum."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import struct

FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
PROTOCOL = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
ECHO_REQUEST, ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
ANSWER_BYTES_MAX = 4096


async def echo(address: str, interface: str = "") -> None:
    """Returns when ``address`` has answered; ``interface``: where to ask a link-local one. Raises OSError."""
    version = ipaddress.ip_address(address).version  # a name would be looked up, which blocks
    loop, token = asyncio.get_running_loop(), secrets.token_bytes(16)
    with socket.socket(FAMILY[version], socket.SOCK_DGRAM, PROTOCOL[version]) as link:
        link.setblocking(False)
        scope = (0, socket.if_nametoindex(interface)) if version == 6 and interface else ()
        link.connect((address, 0, *scope))
        await loop.sock_sendall(link, struct.pack("!BBHHH", ECHO_REQUEST[version], 0, 0, 0, 1) + token)
        while True:
            answer = await loop.sock_recv(link, ANSWER_BYTES_MAX)
            if answer[:1] == bytes([ECHO_REPLY[version]]) and answer[8:] == token:
                return
