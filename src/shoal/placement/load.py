"""What placement is told of measured load, and how it compares with a group's marks (reference: elastic-ha 4)."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import msgspec

CPU = "SE_AUTO_REBALANCE_CPU"
FIELDS = {
    CPU: "cpu",
    "SE_AUTO_REBALANCE_PPS": "pps",
    "SE_AUTO_REBALANCE_MBPS": "mbps",
    "SE_AUTO_REBALANCE_OPEN_CONNS": "open_conns",
    "SE_AUTO_REBALANCE_CPS": "cps",
}
"""Criterion -> the figure of `Load` it looks at."""
UNITS = {
    "cpu": "% CPU",
    "pps": "packets/s",
    "mbps": "Mbit/s",
    "open_conns": "open connections",
    "cps": "new connections/s",
}


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the time looked at: percent of the CPU HAProxy may use there, packets and megabits a second in both
    directions, open connections, new connections a second."""

    cpu: float = 0.0
    pps: float = 0.0
    mbps: float = 0.0
    open_conns: float = 0.0
    cps: float = 0.0


class EngineLoad(msgspec.Struct, frozen=True, kw_only=True):
    """``vips``: VIP -> its part of ``whole``."""

    whole: Load
    vips: dict[str, Load] = {}


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a group that say when an engine is over or under. ``capacity``: figure of `Load` -> how much of it
    is 100 %; a figure that is not in it is not looked at."""

    high: float = 80.0
    low: float = 30.0
    capacity: dict[str, float] = msgspec.field(default_factory=lambda: {"cpu": 100.0})

    def percent(self, load: Load) -> Percent:
        return {name: 100 * float(getattr(load, name)) / most for name, most in self.capacity.items()}

    def highest(self, load: Load) -> tuple[str, float]:
        """The figure that is the nearest to its capacity, and its percentage."""
        return max(self.percent(load).items(), key=lambda item: item[1])

    def top(self, load: Load) -> float:
        """The highest percentage."""
        return max([100 * float(getattr(load, name)) / most for name, most in self.capacity.items()])

    def is_over(self, load: Load) -> bool:
        return self.top(load) > self.high

    def is_under(self, load: Load) -> bool:
        return self.top(load) < self.low

    def words(self, load: Load, name: str = "") -> str:
        """``85 % CPU`` or ``36 open connections (72 % of 50)``; of the highest figure when none is named."""
        name = name or self.highest(load)[0]
        value, most = float(getattr(load, name)), self.capacity[name]
        if name == "cpu" and most == 100:
            return f"{value:.0f} {UNITS[name]}"
        return f"{value:.0f} {UNITS[name]} ({100 * value / most:.0f} % of {most:g})"


Percent = dict[str, float]
"""Figure of `Load` -> percent of its capacity."""


def marks(high: float, low: float, criteria: tuple[str, ...], capacity: tuple[int, ...]) -> tuple[Marks, str]:
    """From a group's fields, and what is wrong with them ("" = nothing). No criteria means CPU. A criterion other than
    CPU without a capacity can't be judged: it is left out."""
    wanted = criteria or (CPU,)
    found: dict[str, float] = {}
    missing: list[str] = []
    for at, criterion in enumerate(wanted):
        most = float(capacity[at]) if at < len(capacity) else 0.0
        name = FIELDS.get(criterion, "")
        if name == "cpu":
            found[name] = min(most, 100.0) if most > 0 else 100.0
        elif name and most > 0:
            found[name] = most
        else:
            missing.append(criterion)
    problem = ""
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        names = ", ".join(missing)
        problem = f"{names} {verb} not looked at: auto_rebalance_capacity_per_se has no capacity for it"
    return Marks(high=high, low=low, capacity=found), problem


def plus(a: Load, b: Load) -> Load:
    return Load(
        cpu=a.cpu + b.cpu,
        pps=a.pps + b.pps,
        mbps=a.mbps + b.mbps,
        open_conns=a.open_conns + b.open_conns,
        cps=a.cps + b.cps,
    )


def scaled(load: Load, by: float) -> Load:
    return Load(
        cpu=load.cpu * by,
        pps=load.pps * by,
        mbps=load.mbps * by,
        open_conns=load.open_conns * by,
        cps=load.cps * by,
    )


def less(load: Load, part: Load) -> Load:
    return plus(load, scaled(part, -1))


def total(loads: Iterable[Load]) -> Load:
    return functools.reduce(plus, loads, Load())


def packet_share(loads: Mapping[str, Load], vip: str) -> float:
    """The VIP's part of the packets of all VIPs there, 0..1."""
    whole = sum(load.pps for load in loads.values())
    return loads[vip].pps / whole if whole > 0 else 0.0
