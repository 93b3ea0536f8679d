"""The captures that run: started on the engines, followed as engines come and go, ended with the one who reads.

An engine that may take over is captured, too: its first packets are the ones after a failover.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Collection, Coroutine
from typing import Any

import msgspec

from shoal.controller.clock import Clock, woken
from shoal.controller.compiler import Compiler
from shoal.controller.desired import engines_of, service_part
from shoal.controller.fleet import Fleet
from shoal.controller.ledger import Ledger
from shoal.controller.view import View
from shoal.errors import Invalid, NotFound, Problem, Refused
from shoal.objects import views
from shoal.objects.views import uuid_of, view
from shoal.wire.capture import Captured, CaptureMore, CaptureStart, CaptureStop, Endpoint, Selection
from shoal.wire.desired import Service

from . import file
from .endpoints import client_side, server_side
from .merge import Feed, Merge
from .wish import Wish

CAPTURES_AT_ONCE_MAX = 4
ENGINES_MAX = 64
CHUNKS_GRANTED = 256
"""Of one capture, over all its engines: 16 MB of packets may be on their way or waiting for their turn."""
CHUNKS_AN_ENGINE_MAX = 64
CHUNKS_AN_ENGINE_MIN = 4
WAITING_PACKETS_MAX = 200_000
"""While so many wait for a slower engine, the others are granted no more."""
LOOK_INTERVAL_S = 0.1
STATISTICS_INTERVAL_S = 0.25
"""So old are the counts of a file whose reader leaves."""
STATISTICS_REPEATED_S = 5.0
"""Also when nothing has changed, so that the one who reads knows that it goes on."""
LAST_WORDS_S = 1.5
"""Engines that were told to stop get this long to say what they dropped."""
INSTRUCTIONS_MAX = 880
"""Of an engine's filter, for addresses and ports."""
INSTRUCTIONS_OF = {4: 2, 6: 18}
INSTRUCTIONS_OF_PORTS = 20
"""An address costs so much; each port, or range of ports, this."""


class Captures:
    """`open` one, `stream` it; the fleet hands over what engines send (`take`)."""

    def __init__(self, view: View, ledger: Ledger, fleet: Fleet, compiler: Compiler, clock: Clock) -> None:
        self._view = view
        self._ledger = ledger
        self.fleet = fleet
        self._compiler = compiler
        self.clock = clock
        self._running: dict[str, Capture] = {}
        self._tasks: set[asyncio.Task[bool]] = set()

    def open(self, service: str, wish: Wish) -> AsyncGenerator[bytes, None]:
        """The file as it grows. Raises NotFound, Invalid, Refused, the last also when the first piece is asked for;
        until then nothing runs. It ends when the generator is closed."""
        selection = self._selection(service, wish)
        wish = msgspec.structs.replace(wish, engines=tuple(map(self._engine, wish.engines)))
        if not self.engines(service, wish):
            raise Refused("No engine that serves it is connected.", hint="See its placement: is it placed?")
        return self._run(Capture(self, service, wish, selection))

    async def _run(self, capture: Capture) -> AsyncGenerator[bytes, None]:
        if len(self._running) >= CAPTURES_AT_ONCE_MAX:
            raise Refused(f"{len(self._running)} captures run already.", hint="End one of them, or wait.")
        self._running[capture.id] = capture
        try:
            async for data in capture.stream():
                yield data
        finally:
            del self._running[capture.id]
            capture.stop()

    def take(self, engine: str, message: Captured) -> None:
        """An engine sent a chunk."""
        capture = self._running.get(message.id)
        if capture is not None:
            capture.take(engine, message)
        elif not message.ended:
            self.tell(engine, CaptureStop(message.id))

    def tell(self, engine: str, message: CaptureStart | CaptureMore | CaptureStop) -> None:
        """Without waiting for a slow link."""
        self._spawn(self.fleet.tell(engine, message))

    def _spawn(self, work: Coroutine[Any, Any, bool]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="capture")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- what and where ---

    def engines(self, service: str, wish: Wish) -> list[str]:
        """Connected engines that serve it or may take it over, of those wished for."""
        document = self._view.get("virtualservice", service)
        if document is None:
            return []
        vsvip = f"{uuid_of(document['vsvip_ref'])}/"
        records = self._ledger.vips.get(uuid_of(document["se_group_ref"]), {})
        found = sorted({e for id, record in records.items() if id.startswith(vsvip) for e in engines_of(record)})
        live = ((engine, self.fleet.live(engine)) for engine in found if not wish.engines or engine in wish.engines)
        return [e for e, one in live if one.session is not None and one.hello is not None and one.hello.captures]

    def name(self, engine: str) -> tuple[str, str]:
        """(name, description)"""
        record = self._ledger.engines.get(engine)
        return (record.name, f"{record.address} on host {record.host}") if record else (engine, "")

    def _engine(self, reference: str) -> str:
        wanted = reference.rpartition("name=")[2] if "name=" in reference else uuid_of(reference)
        for engine in self._ledger.engines.values():
            if wanted in (engine.id, engine.name):
                return engine.id
        raise Invalid([Problem(path="se_params.se_refs", value=reference[:80], why="no such service engine")])

    def _selection(self, service: str, wish: Wish) -> Selection:
        parts = self._parts(service)
        selection = wish.selection(client_side(parts), server_side(parts))
        if not selection.endpoints:
            raise Refused(f"There is nothing on its {wish.side} side to capture.", hint="Has it a VIP and a pool?")
        if cost(selection.endpoints) > INSTRUCTIONS_MAX:
            raise Refused(
                f"Its {len(selection.endpoints)} addresses and ports are more than a filter can hold.",
                hint="Capture the client side only.",
            )
        return selection

    def _parts(self, service: str) -> list[Service]:
        document = self._view.get("virtualservice", service)
        if document is None:
            raise NotFound(f"There is no virtual service {service[:80]}.")
        typed = view(document, views.VirtualService)
        group, vsvip = uuid_of(typed.se_group_ref), uuid_of(typed.vsvip_ref)
        ids = (id for id in self._ledger.vips.get(group, {}) if id.startswith(f"{vsvip}/"))
        intents = (self._compiler.intent(group, id) for id in ids)
        return [service_part(self._view, typed, intent) for intent in intents if intent is not None]


def cost(endpoints: Collection[Endpoint]) -> int:
    """In instructions, at most."""
    ports = {(end.port, end.port_end, ":" in end.address) for end in endpoints}
    addresses = sum(INSTRUCTIONS_OF[6 if ":" in end.address else 4] for end in endpoints)
    return addresses + len(ports) * INSTRUCTIONS_OF_PORTS


class Capture:
    """One of them. Its feeds are by engine; an interface stays that engine's if its agent starts anew."""

    def __init__(self, captures: Captures, service: str, wish: Wish, selection: Selection) -> None:
        self.id = uuid.uuid4().hex
        self._of = captures
        self._service = service
        self._wish = wish
        self._selection = selection
        self._merge = Merge()
        self._sessions: dict[str, object] = {}
        self._interfaces: dict[str, int] = {}
        self._news = asyncio.Event()
        self._deadline = captures.clock.monotonic() + wish.seconds
        self._packets = 0
        self._bytes = 0
        self._stopping_since: float | None = None
        self._told: dict[int, tuple[int, int, str]] = {}
        self._to_grant: dict[str, int] = {}

    # --- from the engines ---

    def take(self, engine: str, message: Captured) -> None:
        feed = self._merge.feeds.get(engine)
        if feed is None or feed.ended:
            return
        feed.heard_at = self._of.clock.monotonic()
        feed.until_ns = max(feed.until_ns, message.until_ns)
        feed.received, feed.dropped = message.received, message.dropped
        try:
            self._merge.add(feed, message.data)
        except file.Malformed as error:
            feed.ended = f"failed: it sent garbage ({error})"
            self._of.tell(engine, CaptureStop(self.id))
        feed.ended = feed.ended or message.ended
        self._to_grant[engine] = self._to_grant.get(engine, 0) + 1
        self._news.set()

    def stop(self) -> None:
        for engine, feed in self._merge.feeds.items():
            if not feed.ended:
                self._of.tell(engine, CaptureStop(self.id))

    # --- to the one who reads ---

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Ends by a bound, or when every engine has ended."""
        yield self._follow(head=True)
        statistics_due = repeated_due = 0.0
        while not self._over():
            await woken(self._news, LOOK_INTERVAL_S)
            now = self._of.clock.monotonic()
            data = self._follow() + self._packets_ready(now)
            if now >= statistics_due:
                statistics_due = now + STATISTICS_INTERVAL_S
                data += self._statistics(all=now >= repeated_due)
                repeated_due = now + STATISTICS_REPEATED_S if now >= repeated_due else repeated_due
            if data:
                yield data
                self._merge.held(now, self._of.clock.monotonic())
            self._grant()
        yield self._packets_ready(self._of.clock.monotonic(), rest=True) + self._statistics(all=True, last=True)

    def _over(self) -> bool:
        now = self._of.clock.monotonic()
        if self._stopping_since is None and (now >= self._deadline or self._full()):
            self._stopping_since = now
            if self._full():
                self.stop()  # at the deadline they end by themselves
        if all(feed.ended for feed in self._merge.feeds.values()):
            # Each reached its own bound, or left; one that comes (back) may still be captured until the deadline.
            done = all(not feed.ended.startswith("lost") for feed in self._merge.feeds.values())
            return done or self._stopping_since is not None
        return self._stopping_since is not None and now - self._stopping_since > LAST_WORDS_S

    def _full(self) -> bool:
        return self._packets >= self._wish.packets or self._bytes >= self._wish.bytes

    def _follow(self, *, head: bool = False) -> bytes:
        """Start on engines that have come, let go of those that are gone; the blocks that describe new interfaces."""
        data = b""
        now = self._of.clock.monotonic()
        if head:
            data = file.section() if self._wish.pcapng else file.pcap_header(self._wish.snap)
        for engine, feed in self._merge.feeds.items():
            if self._of.fleet.live(engine).session is not self._sessions[engine] and not feed.ended:
                feed.ended = "lost: the engine's connection with the controller ended"
        if self._stopping_since is not None:
            return data
        for engine in self._of.engines(self._service, self._wish)[:ENGINES_MAX]:
            known = self._merge.feeds.get(engine)
            if known is None or known.ended.startswith("lost"):
                data += self._start(engine, now)
        return data

    def _start(self, engine: str, now: float) -> bytes:
        name, description = self._of.name(engine)
        number = self._interfaces.setdefault(engine, len(self._interfaces))
        before = self._merge.feeds.get(engine)
        self._merge.feeds[engine] = Feed(
            name=name,
            interface=number,
            heard_at=now,
            late=before.late if before else 0,
        )
        self._sessions[engine] = self._of.fleet.live(engine).session
        self._of.tell(
            engine,
            CaptureStart(
                id=self.id,
                interface=number,
                selection=self._selection,
                snap=self._wish.snap,
                packets=self._wish.packets - self._packets,
                bytes=self._wish.bytes - self._bytes,
                seconds=round(max(0.1, self._deadline - now), 2),
                chunks=self._chunks(),
            ),
        )
        return file.interface(name, description, self._wish.snap) if self._wish.pcapng and before is None else b""

    def _chunks(self) -> int:
        engines = max(1, len(self._of.engines(self._service, self._wish)))
        return max(CHUNKS_AN_ENGINE_MIN, min(CHUNKS_AN_ENGINE_MAX, CHUNKS_GRANTED // engines))

    def _packets_ready(self, now: float, *, rest: bool = False) -> bytes:
        pieces = []
        for packet in self._merge.ready(now, rest=rest):
            if self._full():
                break
            self._packets += 1
            self._bytes += packet.size
            pieces.append(packet.block if self._wish.pcapng else file.pcap_record(packet))
        return b"".join(pieces)

    def _grant(self) -> None:
        """What was taken from the engines may be sent anew; while much waits for an engine, only by that one."""
        last = self._merge.last() if self._merge.waiting > WAITING_PACKETS_MAX else ""
        for engine in [last] if last else list(self._to_grant):
            if chunks := self._to_grant.pop(engine, 0):
                self._of.tell(engine, CaptureMore(self.id, chunks))

    def _statistics(self, *, all: bool, last: bool = False) -> bytes:
        if not self._wish.pcapng:
            return b""
        data = b""
        for feed in self._merge.feeds.values():
            comment = _comment(feed) if last or feed.ended else ""
            told = (feed.received, feed.dropped, comment)
            if all or self._told.get(feed.interface) != told:
                self._told[feed.interface] = told
                data += file.statistics(feed.interface, time.time_ns(), feed.received, feed.dropped, comment)
        return data


def _comment(feed: Feed) -> str:
    late = f"; {feed.late} packets came too late for their place" if feed.late else ""
    return f"ended: {feed.ended or 'the capture was full'}{late}"
