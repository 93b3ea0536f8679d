"""The guards' own network: heartbeats by UDP, one TCP session per pair whose end is the kernel's notice of a death.

Every message is signed with the group's key (BLAKE2b, RFC 7693, keyed), so that an engine whose plan does not name
this one yet, or no longer, is known for one of the group all the same: a stranger is answered as long as it speaks.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from shoal.engine.guard import ENGINE_PORT
from shoal.engine.guard.exchange import Flows, FlowsWanted
from shoal.engine.guard.loop import Loop, Timer
from shoal.engine.guard.loss import Loss
from shoal.engine.guard.sections import Again, Contents, Hearing, Saying, Section
from shoal.ownership.events import Heartbeat, PeerMessage, Resign
from shoal.ownership.state import STRANGER_S
from shoal.wire.desired import Peer

log = logging.getLogger("shoal.guard.peers")

DATAGRAM_BYTES_MAX = 65000
RECONNECT_S = 0.1
ACCEPTED_MAX = 256
KEEPALIVE_S = 5
USER_TIMEOUT_MS = 10_000
SO_RCVBUFFORCE = 33
LENGTH = struct.Struct("!H")
NUMBER = struct.Struct("!Q")
SIGNATURE_BYTES = 16
EVERYBODY = "255.255.255.255"
"""On the segment."""
STRANGERS_MAX = 64
READ_BYTES = 256 * 1024
"""Of a session at once: what a thousand resigned VIPs are."""
RECEIVE_BYTES = 4 * 1024 * 1024
"""Room for the flows of several engines at once."""

Message = PeerMessage | FlowsWanted | Flows
Sent = Message | Section | Contents | Again
"""What datagrams carry: a long heartbeat goes as its contents and sections."""


class PeerNetwork:
    """``on_messages(messages that were read at once)``, ``on_session(peer id, up)`` and ``on_loss(peer id, misses)`` are called on the loop.

    The lower id connects. ``misses``: how many of its heartbeats in a row must be missing to mean something.
    """

    def __init__(
        self,
        loop: Loop,
        engine: str,
        address: str,
        on_messages: Callable[[Sequence[Message]], None],
        on_session: Callable[[str, bool], None],
        on_loss: Callable[[str, int], None],
    ) -> None:
        self._loop, self._engine, self._address = loop, engine, address
        self._on_messages, self._on_session, self._on_loss = on_messages, on_session, on_loss
        self._peers: dict[str, Peer] = {}
        self._by_address: dict[str, str] = {}
        self._strangers: dict[str, tuple[str, float]] = {}
        self._sent: Counter[str] = Counter()
        """Datagrams by peer, as each counts the gaps in its own: who is left out for a moment has lost nothing."""
        self._losses: dict[str, Loss] = {}
        self._key = b""
        self._vips: frozenset[str] = frozenset()
        self._sessions: dict[str, socket.socket] = {}
        self._connecting: dict[str, socket.socket] = {}
        self._buffers: dict[socket.socket, bytes] = {}
        self._round: Timer | None = None
        self._accepted: dict[socket.socket, str] = {}
        self._encoder = msgspec.msgpack.Encoder()
        self._encoded: tuple[Message | None, bytes] = (None, b"")
        self._saying = Saying()
        self._hearing: dict[str, Hearing] = {}
        """By address."""
        self._decoded: dict[str, tuple[bytes, Message]] = {}
        """By address, what came last: heartbeats repeat themselves."""
        self._decoder: msgspec.msgpack.Decoder[Sent] = msgspec.msgpack.Decoder(Sent)
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.setblocking(False)
        self._datagrams.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
        self._datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._datagrams.bind((address, ENGINE_PORT))
        loop.on_readable(self._datagrams, self._receive)
        self._listener = socket.create_server((address, ENGINE_PORT), backlog=64)
        self._listener.setblocking(False)
        loop.on_readable(self._listener, self._accept)

    def know(self, peers: tuple[Peer, ...], key: bytes, vips: frozenset[str]) -> None:
        """The peers in force, the group's key, and the VIPs that are served here; sessions with others end."""
        self._key, self._vips = key, vips
        for new in {p.id for p in peers} - set(self._peers):  # what it said meanwhile was not counted, and not lost
            self._losses.pop(new, None)
        self._peers = {p.id: p for p in peers if p.id != self._engine}
        self._by_address = {p.address: p.id for p in self._peers.values()}
        addresses = {address for _, address in self._addresses()}
        self._hearing = {address: one for address, one in self._hearing.items() if address in addresses}
        self._decoded = {address: one for address, one in self._decoded.items() if address in addresses}
        for peer in tuple(self._sessions):
            if peer not in self._peers:
                self._end(self._sessions[peer])

    def meet(self) -> None:
        """Sessions with the peers that are known now. Apart from `know`: the machine must know them first."""
        for connection, address in tuple(self._accepted.items()):  # it may have called before the plan named it
            if address in self._by_address and connection not in self._sessions.values():
                self._begin(self._by_address[address], connection)
        self.connect()

    def send(self, message: Message, to: str = "") -> None:
        if self._encoded[0] is not message:
            self._encoded = (message, self._encode(message))
        for peer, address in self._addresses():
            if to and peer != to:
                continue
            self._sent[peer] += 1
            data = self._signed(NUMBER.pack(self._sent[peer]) + self._encoded[1])
            if len(data) > DATAGRAM_BYTES_MAX:
                log.error("a message of %d bytes is too long for a datagram", len(data))
                return
            try:
                self._datagrams.sendto(data, (address, ENGINE_PORT))
            except OSError as error:  # unreachable for now; silence is noticed by the peer
                log.debug("to %s: %s", peer, error)
            session = self._sessions.get(peer)
            if session is not None and isinstance(message, Resign):
                try:
                    session.send(LENGTH.pack(len(data)) + data)
                except OSError as error:
                    log.info("session with %s: %s", peer, error)

    def call(self, data: bytes) -> None:
        """Signed, to everybody on the segment."""
        try:
            self._datagrams.sendto(self._signed(data), (EVERYBODY, ENGINE_PORT))
        except OSError as error:
            log.debug("to everybody: %s", error)

    def opened(self, data: bytes) -> bytes | None:
        """What this group has signed; None for anything else."""
        body = data[SIGNATURE_BYTES:]
        return body if hmac.compare_digest(self._signed(body), data) else None

    def meet_stranger(self, engine: str, address: str) -> None:
        """It is sent heartbeats for a while, if it is one; whoever spoke longest ago makes room for it."""
        if engine in self._peers:
            return
        if engine not in self._strangers and len(self._strangers) >= STRANGERS_MAX:
            del self._strangers[min(self._strangers, key=lambda other: self._strangers[other][1])]
        self._strangers[engine] = (address, self._loop.now())

    def _encode(self, message: Message) -> bytes:
        """As it goes out each time. The new sections of a long heartbeat go before it, once, and uncounted."""
        if not isinstance(message, Heartbeat):
            return self._encoder.encode(message)
        said, fresh = self._saying.say(message)
        for _, address in self._addresses() if fresh else ():
            for section in fresh:
                self._put(section, address)
        return self._encoder.encode(said)

    def _put(self, message: Section | Again, address: str) -> None:
        try:
            data = self._signed(NUMBER.pack(0) + self._encoder.encode(message))
            self._datagrams.sendto(data, (address, ENGINE_PORT))
        except OSError as error:  # it asks again
            log.debug("to %s: %s", address, error)

    def _addresses(self) -> list[tuple[str, str]]:
        if self._strangers:
            now = self._loop.now()
            self._strangers = {e: s for e, s in self._strangers.items() if now - s[1] < STRANGER_S}
        strangers = [(engine, address) for engine, (address, _) in self._strangers.items()]
        return [*((peer.id, peer.address) for peer in self._peers.values()), *strangers]

    def _signed(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, key=self._key, digest_size=SIGNATURE_BYTES).digest() + data

    # --- datagrams ---

    def _receive(self) -> None:
        messages: list[Message] = []
        while True:
            try:
                data, (address, _) = self._datagrams.recvfrom(DATAGRAM_BYTES_MAX)
            except BlockingIOError:
                break
            except OSError as error:  # an ICMP answer to something sent
                log.debug("datagrams: %s", error)
                continue
            messages += self._take(data, address, counts=True)
        self._on_messages(messages)

    def _take(self, data: bytes, address: str, *, counts: bool = False) -> tuple[Message, ...]:
        """The message it is, or completes. ``counts``: gaps in its numbers are datagrams that were lost."""
        body = self.opened(data)
        if body is None:
            log.debug("%s: not signed by this group", address)
            return ()
        content = body[NUMBER.size :]
        last = self._decoded.get(address)
        try:
            sent: Sent = last[1] if last is not None and last[0] == content else self._decoder.decode(content)
            known = sent.engine in self._peers
            if sent.engine == self._engine or (known and self._by_address.get(address) != sent.engine):
                return ()
            message = self._whole(sent, address)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.warning("nonsense from %s: %s", address, error)
            return ()
        if counts and known:
            self._count(sent.engine, NUMBER.unpack_from(body)[0])
        if message is None:
            return ()
        if not known and self._concerns(message):
            self.meet_stranger(message.engine, address)
        repeats = isinstance(message, Heartbeat) and not isinstance(sent, Section)
        if repeats and self._has_room(self._decoded, address):
            self._decoded[address] = (content, message)
        return (message,)

    def _has_room(self, by_address: Mapping[str, object], address: str) -> bool:
        """Always for a peer; for strangers as long as they are few."""
        if address in self._by_address or address in by_address:
            return True
        return len(by_address) < len(self._by_address) + STRANGERS_MAX

    def _concerns(self, message: Message) -> bool:
        """Two that share no VIP would answer each other's heartbeats for ever."""
        return not isinstance(message, Heartbeat) or any(entry.vip in self._vips for entry in message.entries)

    def _whole(self, sent: Sent, address: str) -> Message | None:
        """None for a piece of a heartbeat that is not complete yet; what it lacks is asked for."""
        match sent:
            case Again():
                for section in self._saying.again(sent, self._engine):
                    self._put(section, address)
                return None
            case Section() | Contents():
                if not self._has_room(self._hearing, address):
                    return None
                hearing = self._hearing.setdefault(address, Hearing())
                if isinstance(sent, Section):
                    return hearing.section(sent)
                message, lacking = hearing.contents(sent)
                if lacking:
                    self._put(Again(self._engine, lacking), address)
                return message
            case _:
                return sent

    def _count(self, engine: str, number: int) -> None:
        """``number`` 0 is not counted."""
        if not number:
            return
        loss = self._losses.setdefault(engine, Loss())
        before = loss.misses
        loss.hear(number, self._loop.now())
        if loss.misses != before:
            log.info("%s loses %.0f %%: %d missed heartbeats mean death", engine, loss.share * 100, loss.misses)
            self._on_loss(engine, loss.misses)

    # --- sessions ---

    def connect(self) -> None:
        """Call those that this engine has to call and that are not there. Repeated by `connect_later`."""
        for peer in self._peers.values():
            if self._engine < peer.id and peer.id not in self._sessions and peer.id not in self._connecting:
                self._call(peer)

    def _call(self, peer: Peer) -> None:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.bind((self._address, 0))
            connection.connect_ex((peer.address, ENGINE_PORT))
        except OSError as error:
            log.info("cannot call %s: %s", peer.id, error)
            connection.close()
            self._call_later()
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2000)
        self._connecting[peer.id] = connection
        self._loop.on_readable(connection, lambda: None)
        self._loop.on_writable(connection, lambda: self._called(peer.id, connection))

    def _called(self, peer: str, connection: socket.socket) -> None:
        self._connecting.pop(peer, None)
        self._loop.forget(connection)
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or peer not in self._peers:
            connection.close()
            self._call_later()
            return
        self._watch(connection)
        self._begin(peer, connection)

    def _call_later(self) -> None:
        """One round for all that are away, however many they are."""
        if self._round is None or self._round.call is None:
            self._round = self._loop.at(self._loop.now() + RECONNECT_S, self._call_again)

    def _call_again(self) -> None:
        self._round = None
        self.connect()

    def _accept(self) -> None:
        while True:
            try:
                connection, (address, _) = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                log.info("accept: %s", error)
                return
            if len(self._accepted) >= ACCEPTED_MAX:
                connection.close()
                continue
            connection.setblocking(False)
            self._accepted[connection] = address
            self._watch(connection)
            if address in self._by_address:
                self._begin(self._by_address[address], connection)

    def _watch(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        self._buffers[connection] = b""
        self._loop.on_readable(connection, lambda: self._read(connection))

    def _begin(self, peer: str, connection: socket.socket) -> None:
        old = self._sessions.get(peer)
        self._sessions[peer] = connection
        if old is not None and old is not connection:
            self._close(old)
        self._on_session(peer, True)

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(connection)
            return
        data = self._buffers[connection] + data
        address = connection.getpeername()[0]
        messages: list[Message] = []
        while len(data) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(data)
            if len(data) < LENGTH.size + size:
                break
            messages += self._take(data[LENGTH.size : LENGTH.size + size], address)
            data = data[LENGTH.size + size :]
        self._buffers[connection] = data
        self._on_messages(messages)

    def _end(self, connection: socket.socket) -> None:
        self._close(connection)
        for peer, session in tuple(self._sessions.items()):
            if session is connection:
                del self._sessions[peer]
                self._on_session(peer, False)
                self._call_later()

    def _close(self, connection: socket.socket) -> None:
        if self._buffers.pop(connection, None) is not None:
            self._loop.forget(connection)
        self._accepted.pop(connection, None)
        connection.close()
