"""Where users have the controller send or ask something: what it never does, and how much of an answer it takes.

A certificate names OCSP responders, a management profile an ACME directory, an action group a webhook, a profile a syslog
server. Who may write one of these does not thereby reach what only this machine reaches. A name is looked up once, what
it means is judged, and exactly that is connected to: that the name means something else a moment later is of no use.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import httpx

ANSWER_BYTES_MAX = 1_000_000
WITHIN_S = 20.0
"""Of a whole answer. A server that trickles is waited for at most so long again as between two of its words."""
NAT64 = ipaddress.ip_network("64:ff9b::/96")
OPTION = "--may-ask"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class NotAsked(OSError):
    """Why somebody is not asked, in words. It names no address: what a name means here is not for everybody to know."""


class Outward:
    """``allowed`` networks may be reached whatever they are; ``own_ports`` of this machine never."""

    def __init__(self, allowed: Iterable[Network] = (), own_ports: Iterable[int] = ()) -> None:
        self._allowed = tuple(allowed)
        self._own_ports = frozenset(own_ports)

    def why_not(self, text: str, port: int) -> str:
        """What hinders a connection to an address; "" = nothing."""
        address = _meant(ipaddress.ip_address(text))
        if port in self._own_ports and _is_here(address):
            return "it is the controller's own port"
        if any(address in network for network in self._allowed if network.version == address.version):
            return ""
        if address.is_loopback or address.is_unspecified:
            return f"it is the controller's own machine (shoal up {OPTION} allows it)"
        if address.is_link_local:
            return f"it is link-local, where a machine's own secrets may be (shoal up {OPTION} allows it)"
        if address.is_multicast or (address.version == 4 and int(address) == 2**32 - 1):
            return "it is no address of one machine"
        return ""

    def addresses(self, host: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> list[str]:
        """Those of a host that may be connected to. Blocks. Raises NotAsked, OSError for a name that nobody knows."""
        return self._judged(host, port, socket.getaddrinfo(host, port, type=kind))

    async def addresses_soon(self, host: str, port: int) -> list[str]:
        """The same, without blocking. Raises TimeoutError, too."""
        async with asyncio.timeout(WITHIN_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return self._judged(host, port, found)

    def datagrams(self, host: str, port: int) -> socket.socket:
        """One that sends there alone. Blocks. Raises OSError."""
        address = self.addresses(host, port, socket.SOCK_DGRAM)[0]
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.connect((address, port))
        except OSError:
            made.close()
            raise
        return made

    def connected(self, host: str, port: int, within_s: float) -> socket.socket:
        """Blocks. Raises OSError."""
        failure: OSError | None = None
        for address in self.addresses(host, port):
            try:
                return socket.create_connection((address, port), timeout=within_s)
            except OSError as error:
                failure = error
        raise failure or OSError(f"{host} has no address")

    def asking(self, verify: ssl.SSLContext | bool = True) -> httpx.AsyncClient:
        """For requests of which the answer is read. No redirect is followed and no proxy of the environment is asked."""
        return httpx.AsyncClient(transport=_Asking(self, verify), timeout=WITHIN_S, headers=PLAIN)

    def telling(self, within_s: float) -> httpx.Client:
        """For requests of which only the status is of interest: to be used with `stream`. Blocks."""
        return httpx.Client(transport=_Telling(self), timeout=within_s, headers=PLAIN)

    def _judged(self, host: str, port: int, found: Sequence[tuple[Any, ...]]) -> list[str]:
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        allowed = [address for address in addresses if not self.why_not(address, port)]
        if addresses and not allowed:
            raise NotAsked(f"{host} is not asked: {self.why_not(addresses[0], port)}")
        return allowed


PLAIN = {"accept-encoding": "identity"}
PACKED = b"content-encoding"
"""An answer that is packed all the same is not unpacked: it would be larger than what was counted."""
FRESH = httpx.Limits(max_keepalive_connections=0)
"""A connection is verified for one name: another one at the same address gets a connection of its own."""


class _Asking(httpx.AsyncHTTPTransport):
    def __init__(self, outward: Outward, verify: ssl.SSLContext | bool) -> None:
        super().__init__(verify=verify, trust_env=False, limits=FRESH)
        self._outward = outward

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        until = time.monotonic() + WITHIN_S
        failure = httpx.ConnectError(f"{request.url.host} has no address", request=request)
        try:
            addresses = await self._outward.addresses_soon(request.url.host, _port(request))
        except OSError as error:
            raise httpx.ConnectError(str(error) or "its name is not found in time", request=request) from error
        for address in addresses:
            try:
                answer = await super().handle_async_request(_to(request, address))
            except httpx.ConnectError as error:
                failure = error
            else:
                assert isinstance(answer.stream, httpx.AsyncByteStream)
                return httpx.Response(
                    answer.status_code,
                    headers=[(name, value) for name, value in answer.headers.raw if name.lower() != PACKED],
                    stream=_Bounded(answer.stream, until),
                    extensions=answer.extensions,
                )
        raise failure


class _Telling(httpx.HTTPTransport):
    def __init__(self, outward: Outward) -> None:
        super().__init__(trust_env=False, limits=FRESH)
        self._outward = outward

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        failure = httpx.ConnectError(f"{request.url.host} has no address", request=request)
        try:
            addresses = self._outward.addresses(request.url.host, _port(request))
        except OSError as error:
            raise httpx.ConnectError(str(error), request=request) from error
        for address in addresses:
            try:
                return super().handle_request(_to(request, address))
            except httpx.ConnectError as error:
                failure = error
        raise failure


class _Bounded(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, until: float) -> None:
        self._stream = stream
        self._until = until

    async def __aiter__(self) -> AsyncIterator[bytes]:
        taken = 0
        async for part in self._stream:
            taken += len(part)
            if taken > ANSWER_BYTES_MAX:
                raise httpx.ReadError(f"the answer has more than {ANSWER_BYTES_MAX} octets")
            if time.monotonic() > self._until:
                raise httpx.ReadTimeout(f"the answer takes longer than {WITHIN_S:.0f} s")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


def _to(request: httpx.Request, address: str) -> httpx.Request:
    """The request to this address of its host: the certificate is still the host's."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )


def _port(request: httpx.Request) -> int:
    return request.url.port or {"http": 80, "https": 443}.get(request.url.scheme, 0)


def _meant(address: Address) -> Address:
    """An IPv4 address in the clothes of an IPv6 one is the IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_here(address: Address) -> bool:
    """Whether it is an address of this machine: only such a one can be bound."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
