"""What each engine's load was over the last half minute, and which part of it each virtual service makes.

Made of the totals that engines send every 5 s. In memory only, and short: silence is never taken for calm.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from shoal.placement.load import EngineLoad, Load, plus
from shoal.wire.counters import INTERVAL_S, Counters

from .clock import Clock

WINDOW_S = 30.0
"""How far back a look goes (reference: elastic-ha 4)."""
KEPT_MAX = int(WINDOW_S / INTERVAL_S) + 2
STALE_S = 2 * INTERVAL_S + 1
"""An engine that has sent nothing for so long is not known any more."""
COVERED = 0.8
"""Of the time asked for: what must be known at least."""


class Sample(msgspec.Struct, frozen=True):
    """Totals at ``at`` (the engine's clock), without what nobody asks for: 10 numbers and 4 a virtual service. Of
    each of ``services`` in turn: connections, bytes both ways, open ones; of each of ``vips`` its packets."""

    at: float
    came: float
    cpu_ms: int
    threads: int
    packets: int
    octets: int
    services: tuple[str, ...]
    counted: array[int]
    vips: tuple[str, ...]
    counted_packets: array[int]


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Of one virtual service on one engine, over its last two reports."""

    connections_per_s: float
    bits_per_s: float
    """Both ways."""
    open_connections: int


class Loads:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._epochs: dict[str, str] = {}
        self._samples: dict[str, deque[Sample]] = {}

    def take(self, engine: str, message: Counters) -> None:
        """Late and repeated messages change nothing; a new life of the agent begins anew."""
        kept = self._samples.setdefault(engine, deque(maxlen=KEPT_MAX))
        if self._epochs.get(engine) != message.epoch:
            kept.clear()
            self._epochs[engine] = message.epoch
        before = kept[-1] if kept else None
        if before is None or message.at_ms / 1000 > before.at:
            kept.append(_sample(message, before, self._clock.monotonic()))

    def forget(self, known: Iterable[str]) -> None:
        """Engines that are not ``known`` are no more."""
        for engine in self._samples.keys() - set(known):
            del self._samples[engine]
            self._epochs.pop(engine, None)

    def of(self, engine: str, vips_of: Callable[[str], Iterable[str]], seconds: float = WINDOW_S) -> EngineLoad | None:
        """The means over about the last ``seconds``; None when they are not known. ``vips_of``: virtual service -> its
        VIPs in this group.

        What the engine as a whole has of CPU, packets and bytes is laid on the VIPs by their parts of the packets and
        bytes of clients (by bytes alone where the kernel counts no packets); a virtual service with several VIPs
        counts in equal parts for each.
        """
        kept = self._samples.get(engine)
        if not kept or self._clock.monotonic() - kept[-1].came > STALE_S:
            return None
        last = kept[-1]
        recent = [sample for sample in kept if last.at - sample.at <= seconds + INTERVAL_S / 2]
        first = recent[0]
        if last.at - first.at < COVERED * seconds:
            return None
        return _load(first, recent[1:], vips_of)

    def traffic(self, engine: str, service: str) -> Traffic | None:
        """None where it is not known."""
        kept = self._samples.get(engine)
        if not kept or len(kept) < 2 or self._clock.monotonic() - kept[-1].came > STALE_S:
            return None
        before, last = kept[-2], kept[-1]
        if service not in before.services or service not in last.services:
            return None
        begun, at = 3 * before.services.index(service), 3 * last.services.index(service)
        grown = [max(0, last.counted[at + n] - before.counted[begun + n]) / (last.at - before.at) for n in (0, 1)]
        return Traffic(connections_per_s=grown[0], bits_per_s=8 * grown[1], open_connections=last.counted[at + 2])


def _sample(message: Counters, before: Sample | None, now: float) -> Sample:
    services = tuple(service.id for service in message.services)
    vips = tuple(vip.id for vip in message.vips)
    if before is not None:  # the same tuples again and again: keep one
        services = before.services if services == before.services else services
        vips = before.vips if vips == before.vips else vips
    counts = [service.counts for service in message.services]
    figures = message.engine
    return Sample(
        at=message.at_ms / 1000,
        came=now,
        cpu_ms=figures.haproxy_cpu_ms,
        threads=max(1, figures.threads),
        packets=figures.rx_packets + figures.tx_packets,
        octets=figures.rx_bytes + figures.tx_bytes,
        services=services,
        counted=array("q", [v for c in counts for v in (c.connections, c.bytes_in + c.bytes_out, c.open)]),
        vips=vips,
        counted_packets=array("q", [vip.packets for vip in message.vips]),
    )


def _load(first: Sample, later: list[Sample], vips_of: Callable[[str], Iterable[str]]) -> EngineLoad:
    last, seconds = later[-1], later[-1].at - first.at

    def rate(name: str) -> float:
        return float(max(0, getattr(last, name) - getattr(first, name))) / seconds

    begun = dict(zip(first.services, range(0, len(first.counted), 3), strict=True))
    open_conns: dict[str, float] = {}
    for sample in later:
        for at, service in enumerate(sample.services):
            open_conns[service] = open_conns.get(service, 0.0) + sample.counted[3 * at + 2] / len(later)
    cps: dict[str, float] = {}
    octets: dict[str, float] = {}
    opened: dict[str, float] = {}
    for at, service in enumerate(last.services):
        found = begun.get(service)
        connections, whole = last.counted[3 * at], last.counted[3 * at + 1]
        if found is not None:
            connections, whole = connections - first.counted[found], whole - first.counted[found + 1]
        vips = tuple(vips_of(service))
        for vip in vips:
            cps[vip] = cps.get(vip, 0.0) + max(0, connections) / seconds / len(vips)
            octets[vip] = octets.get(vip, 0.0) + max(0, whole) / len(vips)
            opened[vip] = opened.get(vip, 0.0) + open_conns[service] / len(vips)
    packets = _packets(first, last)
    by_octets = _parts(octets, cps)
    by_packets = _parts(packets, cps) if any(packets.values()) else by_octets
    whole_load = Load(
        cpu=100 * rate("cpu_ms") / 1000 / last.threads, pps=rate("packets"), mbps=rate("octets") * 8 / 1e6
    )
    parts = {
        vip: Load(
            cpu=whole_load.cpu * by_packets[vip],
            pps=whole_load.pps * by_packets[vip],
            mbps=whole_load.mbps * by_octets[vip],
            open_conns=opened[vip],
            cps=cps[vip],
        )
        for vip in cps
    }
    served = Load(open_conns=sum(opened.values()), cps=sum(cps.values()))
    return EngineLoad(whole=plus(whole_load, served), vips=parts)


def _packets(first: Sample, last: Sample) -> dict[str, float]:
    begun = dict(zip(first.vips, first.counted_packets, strict=True))
    now = zip(last.vips, last.counted_packets, strict=True)
    return {vip: float(max(0, packets - begun.get(vip, 0))) for vip, packets in now}


def _parts(amounts: dict[str, float], of: Iterable[str]) -> dict[str, float]:
    """Each one's part 0..1 of the sum over ``of``; nothing of nothing is 0."""
    whole = sum(amounts.get(vip, 0.0) for vip in of)
    return {vip: amounts.get(vip, 0.0) / whole if whole else 0.0 for vip in of}
