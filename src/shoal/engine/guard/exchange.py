"""A new owner learns which engine has which connection: it asks all that may have any, and they look at their sockets,
and at what their kernel carries.

Until all have answered, and for `ASK_S_MIN` at least, packets of unknown flows go to every engine (`Spreader.set`), so
that no established connection is cut meanwhile. No copy of a flow table has to be kept in step for that.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from shoal.engine.guard.loop import Loop
from shoal.engine.guard.sockets import Flow, Listing, Sockets
from shoal.engine.guard.spread import Spreader

log = logging.getLogger("shoal.guard.exchange")

ASK_S_MIN = 1.0
"""So long at least, a packet that no engine has a socket for is dropped and not answered by a reset."""
ASK_S_MAX = 8.0
AGAIN_S = 0.25
"""Whoever has not answered completely is asked again."""
REVIEW_S = 0.1
FLOW_BYTES_A_MESSAGE = 1200
"""So that a message fits an Ethernet frame."""
FLOWS_A_BATCH = 100
"""Flows put into the kernel per turn of the loop: about a millisecond."""

_FLOW = {socket.AF_INET: struct.Struct("!4sHH"), socket.AF_INET6: struct.Struct("!16sHH")}


class FlowsWanted(msgspec.Struct, frozen=True, array_like=True, tag="w"):
    """Which established connections at ``addresses`` are yours? ``turn`` comes back with the answer."""

    engine: str
    vip: str
    addresses: tuple[str, ...]
    turn: int


class Flows(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """Part ``number`` of ``count`` of an engine's answer for one address (``count`` 0: more follow).

    ``flows``: 8 bytes each (IPv6: 20), in network order: the client's address and port, and our port.
    """

    engine: str
    vip: str
    address: str
    turn: int
    number: int
    count: int
    flows: bytes


class _Answer:
    """One engine's answer for one address, as it comes in."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self.count = 0

    @property
    def whole(self) -> bool:
        return 0 < self.count == len(self.numbers)


class _Collection:
    def __init__(self, turn: int, addresses: tuple[str, ...], engines: Iterable[str], began: float) -> None:
        self.turn, self.addresses, self.began, self.asked_at = turn, addresses, began, began
        self.engines = tuple(engines)
        self.last = False
        """This is the second round, for connections that came while the first was answered."""
        self.flows = 0
        self.answers: dict[tuple[str, str], _Answer] = {}
        self.forget()

    def forget(self) -> None:
        self.answers = {(engine, address): _Answer() for engine in self.engines for address in self.addresses}

    def add(self, engines: Iterable[str]) -> bool:
        """False if all are in it already. Those that are new to it are asked twice, too."""
        new = [engine for engine in dict.fromkeys(engines) if engine not in self.engines]
        self.engines += tuple(new)
        self.answers |= {(engine, address): _Answer() for engine in new for address in self.addresses}
        self.last = self.last and not new
        return bool(new)

    def missing(self) -> list[str]:
        return list(dict.fromkeys(engine for (engine, _), answer in self.answers.items() if not answer.whole))


class Exchange:
    """``carried``: lists of what the kernel carries; ``send(message, to)`` reaches another engine's guard; ``idle_s()`` is the
    life of a flow's entry."""

    def __init__(
        self,
        loop: Loop,
        engine: str,
        sockets: Sockets,
        carried: Sequence[Listing],
        spreader: Spreader,
        send: Callable[[FlowsWanted | Flows, str], None],
        idle_s: Callable[[], int],
    ) -> None:
        self._loop, self.engine, self._spreader = loop, engine, spreader
        self._sockets, self._carried = sockets, carried
        self.carried: frozenset[str] = frozenset()
        """VIPs with TCP that the kernel carries: their connections are not all sockets."""
        self._send, self._idle_s = send, idle_s
        self._collections: dict[str, _Collection] = {}
        self._to_load: deque[tuple[str, str, list[Flow]]] = deque()
        self._turn = 0

    def begin(self, vip: str, addresses: tuple[str, ...], engines: Iterable[str]) -> None:
        """Collect the flows of ``vip`` from ``engines`` (this one may be among them)."""
        self._turn += 1
        now = self._loop.now()
        collection = self._collections[vip] = _Collection(self._turn, addresses, engines, now)
        self._ask(vip, collection)
        self._loop.at(now + REVIEW_S, lambda: self._review(vip, collection))

    def join(self, vip: str, engines: Iterable[str]) -> None:
        """The VIP is spread over these now. Who was not asked yet, while others are, is asked too: it may have been left
        out because it was not heard of for a moment, and have connections all the same."""
        collection = self._collections.get(vip)
        if collection is not None and collection.add(engines):
            self._ask(vip, collection)

    def end(self, vip: str) -> None:
        """The VIP is not spread here any more."""
        self._collections.pop(vip, None)

    def hear(self, message: FlowsWanted | Flows) -> None:
        if isinstance(message, FlowsWanted):
            self._answer(message)
        else:
            self._take(message)

    # --- asking ---

    def _ask(self, vip: str, collection: _Collection) -> None:
        wanted = FlowsWanted(self.engine, vip, collection.addresses, collection.turn)
        for engine in collection.missing():
            if engine == self.engine:
                self._answer(wanted)
            else:
                self._send(wanted, engine)

    def _take(self, part: Flows) -> None:
        collection = self._collections.get(part.vip)
        answer = collection.answers.get((part.engine, part.address)) if collection else None
        if collection is None or answer is None or part.turn != collection.turn or part.number in answer.numbers:
            return
        answer.numbers.add(part.number)
        answer.count = part.count or answer.count
        flows: list[Flow] = list(_FLOW[_family(part.address)].iter_unpack(part.flows))
        collection.flows += len(flows)
        for start in range(0, len(flows), FLOWS_A_BATCH):
            self._to_load.append((part.engine, part.address, flows[start : start + FLOWS_A_BATCH]))
        if flows:
            self._loop.at(self._loop.now(), self._load)

    def _load(self) -> None:
        if self._to_load:
            engine, address, flows = self._to_load.popleft()
            family = _family(address)
            named = [(socket.inet_ntop(family, client), port, own) for client, port, own in flows]
            self._spreader.load(address, engine, named, self._idle_s())
        if self._to_load:
            self._loop.at(self._loop.now(), self._load)

    def _review(self, vip: str, collection: _Collection) -> None:
        if self._collections.get(vip) is not collection:
            return
        now, spread = self._loop.now(), self._spreader.spread(vip)
        alive = {self.engine, *(spread.members if spread else ()), *(spread.draining if spread else ())}
        missing = [engine for engine in collection.missing() if engine in alive]
        age = now - collection.began
        if (missing or self._to_load or age < ASK_S_MIN) and age < ASK_S_MAX:
            if missing and now >= collection.asked_at + AGAIN_S:
                collection.asked_at = now
                self._ask(vip, collection)
            self._loop.at(now + REVIEW_S, lambda: self._review(vip, collection))
            return
        if not collection.last and age < ASK_S_MAX:
            self._turn += 1
            collection.turn, collection.asked_at, collection.last = self._turn, now, True
            collection.flows = 0
            collection.forget()
            self._ask(vip, collection)
            self._loop.at(now + REVIEW_S, lambda: self._review(vip, collection))
            return
        if missing:
            log.warning("%s: no complete list of flows from %s", vip, ", ".join(missing))
        log.info("%s: %d flows known after %.2f s", vip, collection.flows, age)
        self._spreader.settle(vip)
        del self._collections[vip]

    # --- answering ---

    def _answer(self, wanted: FlowsWanted) -> None:
        for address in wanted.addresses:
            kinds = (self._sockets, *(self._carried if wanted.vip in self.carried else ()))
            _Speaker(self, wanted, address).speak(kinds)

    def say(self, part: Flows, to: str) -> None:
        if to == self.engine:
            self._take(part)
        else:
            self._send(part, to)


class _Speaker:
    """Cuts what the kernel lists into messages."""

    def __init__(self, exchange: Exchange, wanted: FlowsWanted, address: str) -> None:
        self._exchange, self._wanted, self._address = exchange, wanted, address
        self._packed = bytearray()
        self._number = 0

    def speak(self, kinds: Sequence[Listing]) -> None:
        kinds[0].list(self._address, self._piece, lambda: self.speak(kinds[1:]) if kinds[1:] else self._end())

    def _piece(self, flows: list[Flow]) -> None:
        flow_format = _FLOW[_family(self._address)]
        for flow in flows:
            self._packed += flow_format.pack(*flow)
        size = FLOW_BYTES_A_MESSAGE // flow_format.size * flow_format.size
        while len(self._packed) > size:
            self._say(bytes(self._packed[:size]), 0)
            del self._packed[:size]

    def _end(self) -> None:
        self._say(bytes(self._packed), self._number + 1)

    def _say(self, packed: bytes, count: int) -> None:
        wanted = self._wanted
        part = Flows(self._exchange.engine, wanted.vip, self._address, wanted.turn, self._number, count, packed)
        self._number += 1
        self._exchange.say(part, wanted.engine)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
