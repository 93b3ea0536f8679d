"""TCP connections of fast paths outlive their engine where their network profile says so (``connection_mirror``).

The agent of a VIP's owner looks at its connections again and again, and tells those of the successors of each: twice when
it is new, and every `AGAIN_S` while it lives. They have their own kernel know it for `KEPT_S`; what nobody speaks of any
more is forgotten by itself. So there is no state to be kept in step, and a lost datagram is made up for. Whoever
takes the VIP over has the connections already.

A connection goes on elsewhere only if its server sees an address that moves with the VIP (`plan.mirrored`).
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import ipaddress
import logging
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import msgspec

from shoal.wire.desired import Service, Settings, Vip

from . import conntrack
from .conntrack import Connection
from .plan import KEEPS_CLIENT, Target, mirrored
from .rules import CLOSING_S

log = logging.getLogger("shoal.fastpath.mirror")

PORT = 7947
"""UDP, of agents on the data network."""
LOOK_S = 0.5
LOOKING_SHARE_MAX = 0.1
"""Of the time, where a look takes long."""
AGAIN_S = 20.0
KEPT_S = 60
TOLD_AT_FIRST = 2
FAILURE_RETRY_S = 1.0
CONNECTIONS_MAX = 65_536
"""Of an engine that are told of, and as many that wait to be put into the kernel."""
ADDRESSES_KEPT = 1_024
FLOWS_BYTES_MAX = 1_200
"""So that a datagram fits an Ethernet frame."""
DATAGRAM_BYTES_MAX = 2_048
DATAGRAMS_AT_ONCE = 32
"""Sent or read in one turn of the loop."""
RECEIVE_BYTES = 4 * 1024 * 1024
SO_RCVBUFFORCE = 33
SIGNATURE_BYTES = 16
SIGNED_AS = b"shoal mirror"
TIMEOUTS = Path("/proc/sys/net/netfilter")
FLOW = {4: struct.Struct("!I4sH4sH4sH4sH"), 6: struct.Struct("!I16sH16sH16sH16sH")}
"""By version of IP: a `Connection`."""


class Mirrored(msgspec.Struct, frozen=True, array_like=True):
    """What a datagram says: connections of one version of IP that ``engine`` has."""

    engine: str
    version: int
    flows: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Mirrored)


def packed(connections: Iterable[Connection]) -> Iterator[tuple[int, bytes]]:
    """(version of IP, connections) of each datagram."""
    by_version: dict[int, list[bytes]] = {}
    for mark, client, server in connections:
        version = 4 if len(client[0]) == 4 else 6
        by_version.setdefault(version, []).append(FLOW[version].pack(mark, *client, *server))
    for version, flows in by_version.items():
        most = FLOWS_BYTES_MAX // FLOW[version].size
        for start in range(0, len(flows), most):
            yield version, b"".join(flows[start : start + most])


def unpacked(said: Mirrored) -> Iterator[Connection]:
    """Raises ValueError."""
    flow = FLOW.get(said.version)
    if flow is None or len(said.flows) % flow.size:
        raise ValueError("These are no connections.")
    for mark, *ends in flow.iter_unpack(said.flows):
        yield Connection(mark, (ends[0], ends[1], ends[2], ends[3]), (ends[4], ends[5], ends[6], ends[7]))


def fits(service: Service, target: Target, one: Connection) -> bool:
    """Whether this engine would have made the same of a client's SYN: nothing else is put into its kernel."""
    (client, port, vip, own), (server, server_port, source, _) = one.client, one.server
    return (
        vip in _packed(*service.addresses)
        and any(ports.mirrored and ports.port <= own <= ports.port_end for ports in service.listeners)
        and (server,) == _packed(target.address)
        and server_port == (target.port or own)
        and (source == client if target.mark & KEEPS_CLIENT else source in _packed(*service.sources))
        and port > 0
    )


@functools.lru_cache(ADDRESSES_KEPT)
def _packed(*addresses: str) -> tuple[bytes, ...]:
    return tuple(ipaddress.ip_address(address).packed for address in addresses)


class Mirror:
    """``owned()``: ids of the VIPs that this engine answers for; ``targets()``: its servers by mark."""

    def __init__(
        self,
        engine: str,
        address: str,
        owned: Callable[[], Collection[str]],
        targets: Callable[[], Mapping[int, Target]],
    ) -> None:
        self._engine, self._address = engine, address
        self._owned, self._targets = owned, targets
        self._services: dict[str, Service] = {}
        self._key = b""
        self._peers: dict[str, str] = {}
        self._ways: dict[str, tuple[str, ...]] = {}
        """VIP -> its successors' addresses."""
        self._draining: frozenset[str] = frozenset()
        self._told: dict[Connection, tuple[int, float]] = {}
        """How often, and when last."""
        self._had: frozenset[str] = frozenset()
        self._set_s = 0
        self._heard: list[Connection] = []
        self._wanted = asyncio.Event()
        self._arrived = asyncio.Event()

    def want(self, settings: Settings | None, vips: Iterable[Vip], services: Iterable[Service]) -> None:
        """What the engine serves now."""
        vips = tuple(vips)
        self._services = {one.id: one for one in services if mirrored(one)} if settings is not None else {}
        self._key = settings.heartbeat_key if settings is not None else b""
        self._peers = {one.id: one.address for one in settings.peers} if settings is not None else {}
        ways = {
            vip.id: tuple(self._peers[id] for id in vip.succession if id != self._engine and id in self._peers)
            for vip in vips
        }
        if ways != self._ways:
            self._ways = ways
            self._told.clear()
        self._draining = frozenset(vip.id for vip in vips if self._engine in vip.draining)
        if self._services:
            self._wanted.set()
        else:
            self._wanted.clear()

    @property
    def elsewhere(self) -> frozenset[str]:
        """Services whose connections in this kernel may all be another engine's."""
        here = {*self._owned(), *self._draining}
        return frozenset(id for id, one in self._services.items() if one.vip not in here)

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wanted.wait()
            try:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
                    link.setblocking(False)
                    link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
                    link.bind((self._address, PORT))
                    loop.add_reader(link, self._hear, link)
                    try:
                        async with asyncio.TaskGroup() as group:
                            putting = group.create_task(self._put())
                            await self._tell(link)
                            putting.cancel()
                    finally:
                        loop.remove_reader(link)
            except* OSError as errors:
                log.warning("connections are not mirrored: %s", errors.exceptions[0])
                await asyncio.sleep(FAILURE_RETRY_S)

    # --- telling ---

    async def _tell(self, link: socket.socket) -> None:
        """While there is anything to mirror. Raises OSError; what was taken over meanwhile is seen to the next time."""
        loop = asyncio.get_running_loop()
        while self._services:
            began = loop.time()
            self._set_timeouts()
            owned = frozenset(self._owned())
            marks = {mark: vip for mark, vip in self._marks() if vip in owned}
            found = await asyncio.to_thread(_look, frozenset(marks)) if marks else []
            if taken := owned - self._had:
                await self._keep([one for one in found if marks.get(one.mark) in taken])
            self._had = owned
            for vip in set(marks.values()):
                await self._send(link, vip, self._due([one for one in found if marks.get(one.mark) == vip], began))
            alive = set(found)
            self._told = {one: said for one, said in self._told.items() if one in alive}
            await asyncio.sleep(max(LOOK_S, (loop.time() - began) / LOOKING_SHARE_MAX))

    def _marks(self) -> Iterator[tuple[int, str]]:
        """(mark, VIP) of each server whose connections are mirrored."""
        for mark, target in self._targets().items():
            service = self._services.get(target.service)
            if service is not None:
                yield mark, service.vip

    def _due(self, connections: Iterable[Connection], now: float) -> list[Connection]:
        """Those that are to be told of."""
        due = []
        for one in connections:
            times, at = self._told.get(one, (0, now))
            if times < TOLD_AT_FIRST or now - at >= AGAIN_S:
                self._told[one] = times + 1, now
                due.append(one)
        return due

    async def _send(self, link: socket.socket, vip: str, connections: list[Connection]) -> None:
        ways = self._ways.get(vip, ())
        for number, (version, flows) in enumerate(packed(connections) if ways else ()):
            data = _encoder.encode(Mirrored(self._engine, version, flows))
            for address in ways:
                try:
                    link.sendto(self._signature(data) + data, (address, PORT))
                except OSError as error:  # it is told of again
                    log.debug("to %s: %s", address, error)
            if number % DATAGRAMS_AT_ONCE == DATAGRAMS_AT_ONCE - 1:
                await asyncio.sleep(0)

    async def _keep(self, connections: list[Connection]) -> None:
        """Of a VIP that was taken over: they may be silent for as long as the service lets them."""
        if connections:
            log.info("%d connections are this engine's now", len(connections))
            await asyncio.to_thread(conntrack.renew, connections, self._idle_s)

    @property
    def _idle_s(self) -> int:
        return max((p.idle_s for s in self._services.values() for p in s.listeners if p.mirrored), default=KEPT_S)

    def _set_timeouts(self) -> None:
        """Of connections that came from another engine: no rule has set theirs."""
        if self._idle_s == self._set_s:
            return
        self._set_s = self._idle_s
        for state, seconds in {**CLOSING_S, "established": self._idle_s}.items():
            try:
                (TIMEOUTS / f"nf_conntrack_tcp_timeout_{state}").write_text(str(seconds))
            except OSError as error:
                log.warning("connections that are taken over may live too long: %s", error)

    # --- hearing ---

    def _hear(self, link: socket.socket) -> None:
        for _ in range(DATAGRAMS_AT_ONCE):
            try:
                data, (address, _) = link.recvfrom(DATAGRAM_BYTES_MAX)
            except BlockingIOError:
                break
            except OSError as error:  # an ICMP answer to something sent
                log.debug("datagrams: %s", error)
                continue
            self._heard += islice(self.judged(data, address), CONNECTIONS_MAX - len(self._heard))
        if self._heard:
            self._arrived.set()

    def judged(self, data: bytes, address: str) -> list[Connection]:
        """The connections that a datagram from ``address`` tells of, and that may be put into this kernel."""
        if address not in self._peers.values():  # before anything that costs
            return []
        signature, body = data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:]
        if not self._key or not hmac.compare_digest(signature, self._signature(body)):
            log.debug("%s: not signed by this group", address)
            return []
        try:
            said = _decoder.decode(body)
            connections = list(unpacked(said))
        except ValueError as error:
            log.warning("nonsense from %s: %s", address, error)
            return []
        if self._peers.get(said.engine) != address:
            return []
        targets, elsewhere = self._targets(), self.elsewhere
        return [
            one
            for one in connections
            if (target := targets.get(one.mark)) is not None
            and target.service in elsewhere
            and fits(self._services[target.service], target, one)
        ]

    async def _put(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            heard, self._heard = self._heard, []
            try:
                await asyncio.to_thread(conntrack.put, heard, KEPT_S)
            except OSError as error:
                log.warning("%d connections are not mirrored here: %s", len(heard), error)

    def _signature(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, key=self._key, digest_size=SIGNATURE_BYTES, person=SIGNED_AS).digest()


def _look(marks: Collection[int]) -> list[Connection]:
    """Raises OSError."""
    return list(islice(conntrack.established(marks), CONNECTIONS_MAX))
