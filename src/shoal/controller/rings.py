"""Ring buffers of what was measured of one entity, at three steps. Bounded, and only what was ever non-zero takes room.

A slot holds amounts (what was counted in it; for a gauge value x seconds) and the seconds it covers, so that a rate
is right in a slot that was covered in part. Values are 32-bit floats: counts are exact to 16,777,216 a slot.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence

import msgspec

FLOAT_BYTES = 4


class Resolution(msgspec.Struct, frozen=True):
    step_s: int
    slots: int


FULL = (Resolution(5, 720), Resolution(300, 288), Resolution(3600, 336))
"""1 hour by 5 s, 1 day by 5 minutes, 14 days by the hour: 5.4 kB a series."""
SHORT = (Resolution(5, 120), Resolution(300, 288))
"""Of a server: 10 minutes by 5 s, 1 day by 5 minutes: 1.6 kB a series."""

BRIEF = (Resolution(5, 120), Resolution(300, 288), Resolution(3600, 168))
"""Of how long requests took, a series a bucket: 2.3 kB each."""

Pieces = list[list[tuple[int, float]]]
"""By resolution: (slot, seconds of the interval that fall into it)."""
Amounts = Sequence[tuple[str, float]]


def pieces(begin: float, end: float) -> Pieces:
    """How an interval falls into the slots. ``begin`` < ``end``, in seconds of one time scale."""
    found: Pieces = []
    for resolution in FULL:
        step = resolution.step_s
        slots = range(int(begin // step), int(end // step) + 1)
        cut = [(slot, min(end, (slot + 1) * step) - max(begin, slot * step)) for slot in slots]
        found.append([(slot, seconds) for slot, seconds in cut if seconds > 0])
    return found


class Window:
    """One slot as it is read, or several in a row. ``at``: its begin; ``seconds``: how much of it is covered. ``times``
    has how long requests took."""

    def __init__(self, rings: Rings, resolution: int, slots: range, times: Rings | None = None) -> None:
        self._times = times
        self._rings = rings
        self._resolution = resolution
        self._slots = slots
        self.at = slots.start * rings.resolutions[resolution].step_s
        self.seconds = sum(rings.covered(resolution, slot) for slot in slots)

    def total(self, *names: str) -> float:
        """What was counted, of all these together."""
        return sum(self._rings.value(name, self._resolution, slot) for name in names for slot in self._slots)

    def times(self, names: Sequence[str]) -> list[float]:
        """How many requests took how long, in the order of ``names``."""
        times = self._times
        if times is None or self._resolution >= len(times.resolutions):
            return [0.0] * len(names)
        return [sum(times.value(name, self._resolution, slot) for slot in self._slots) for name in names]

    def rate(self, *names: str) -> float:
        """Per second; for a gauge its mean."""
        return self.total(*names) / self.seconds if self.seconds else 0.0

    def top(self, name: str) -> float:
        """The largest value, of a series that holds maxima."""
        return max(self._rings.value(name, self._resolution, slot) for slot in self._slots)


class Saved(msgspec.Struct, array_like=True):
    """A `Rings` on disk, without the finest step. Arrays are 32-bit floats in the machine's byte order."""

    heads: list[int]
    covered: list[bytes]
    values: dict[str, list[bytes]]
    order: str = sys.byteorder


class Rings:
    """Of one entity. Times are seconds of a scale that never jumps."""

    __slots__ = ("_covered", "_heads", "_values", "resolutions", "until")

    def __init__(self, resolutions: tuple[Resolution, ...] = FULL) -> None:
        self.resolutions = resolutions
        self.until = 0.0
        """The end of what is covered."""
        self._heads = [-1] * len(resolutions)
        self._covered = self._zeros()
        self._values: dict[str, list[array[float]]] = {}

    @property
    def size(self) -> int:
        """Bytes of the arrays."""
        arrays = [*self._covered, *(part for parts in self._values.values() for part in parts)]
        return sum(len(part) * FLOAT_BYTES for part in arrays)

    # --- writing ---

    def add(self, begin: float, end: float, cut: Pieces, amounts: Amounts, maxima: Amounts = ()) -> None:
        """Spread the amounts over ``begin``..``end`` (``cut`` is `pieces` of it). Several sources of one entity may
        each add their share of a time: it is covered once."""
        for name, value in (*amounts, *maxima):
            if value and name not in self._values:
                self._values[name] = self._zeros()
        news = cut if begin >= self.until else pieces(self.until, end) if end > self.until else []
        self.until = max(self.until, end)
        whole = end - begin
        shares: list[tuple[int, int, float]] = []
        lasts: list[tuple[int, int]] = []
        for number, parts in enumerate(cut[: len(self.resolutions)]):
            slots = self.resolutions[number].slots
            self._advance(number, parts[-1][0])
            oldest = self._heads[number] - slots
            shares += [(number, slot % slots, seconds / whole) for slot, seconds in parts if slot > oldest]
            lasts += [(number, slot % slots) for slot, _ in parts[-1:] if slot > oldest]
        for name, amount in amounts:
            if amount:
                rings = self._values[name]
                for number, at, share in shares:
                    rings[number][at] += amount * share
        for name, value in maxima:
            if value:
                rings = self._values[name]
                for number, at in lasts:
                    rings[number][at] = max(rings[number][at], value)
        for number, parts in enumerate(news[: len(self.resolutions)]):
            slots = self.resolutions[number].slots
            for slot, seconds in parts:
                if slot > self._heads[number] - slots:
                    self._covered[number][slot % slots] += seconds

    def _advance(self, number: int, slot: int) -> None:
        """Slots that come into use hold what was there a whole turn ago."""
        head, slots = self._heads[number], self.resolutions[number].slots
        if slot <= head:
            return
        self._heads[number] = slot
        if head < 0:
            return
        stale: Iterable[int] = range(head + 1, slot + 1) if slot - head < slots else range(slots)
        arrays = [self._covered[number], *(parts[number] for parts in self._values.values())]
        for old in stale:
            for ring in arrays:
                ring[old % slots] = 0.0

    def _zeros(self) -> list[array[float]]:
        return [array("f", bytes(FLOAT_BYTES * resolution.slots)) for resolution in self.resolutions]

    # --- reading ---

    def covered(self, number: int, slot: int) -> float:
        """Seconds of the slot that are known; 0 outside of what is kept."""
        return self._covered[number][slot % self.resolutions[number].slots] if self._holds(number, slot) else 0.0

    def value(self, name: str, number: int, slot: int) -> float:
        parts = self._values.get(name)
        if parts is None or not self._holds(number, slot):
            return 0.0
        return parts[number][slot % self.resolutions[number].slots]

    def course(self, amount: str, per: str = "") -> tuple[float, ...]:
        """The 5-minute values of the last day but for the newest slot: rates, or ``per`` another amount; slots without
        any are left out."""
        ring = self._values.get(amount)
        below = self._values[per][1] if per in self._values else self._covered[1] if not per else None
        if below is None:
            return ()
        newest = self._heads[1] % self.resolutions[1].slots
        above = ring[1] if ring is not None else [0.0] * len(below)
        pairs = enumerate(zip(above, below, strict=True))
        return tuple(value / whole for slot, (value, whole) in pairs if whole and slot != newest)

    def oldest(self, number: int) -> int:
        """The oldest slot that is kept."""
        return self._heads[number] - self.resolutions[number].slots + 1

    def quiet(self, number: int, slot: int) -> float:
        """Seconds of the slot that are known, if nothing was counted in it; else 0."""
        counted = any(self.value(name, number, slot) for name in self._values)
        return 0.0 if counted else self.covered(number, slot)

    # --- parts of them ---

    def cut(self, number: int, first: int, count: int) -> tuple[bytes, dict[str, bytes]] | None:
        """(covered, values) of slots in a row as 32-bit floats; None when nothing was counted in them."""
        slots = range(first, first + count)
        held = [slot % self.resolutions[number].slots if self._holds(number, slot) else -1 for slot in slots]

        def row(ring: array[float]) -> array[float]:
            return array("f", [ring[at] if at >= 0 else 0.0 for at in held])

        rows = ((name, row(parts[number])) for name, parts in self._values.items())
        values = {name: found.tobytes() for name, found in rows if any(found)}
        return (row(self._covered[number]).tobytes(), values) if values else None

    def begin(self, head: int) -> None:
        """Make ``head`` the newest slot of rings that are empty."""
        self._heads = [head] * len(self.resolutions)

    def paste(self, number: int, first: int, covered: bytes, values: dict[str, bytes], wanted: range) -> None:
        """Put what `cut` gave where it was, as far as it is ``wanted``; what was there is replaced."""
        slots = self.resolutions[number].slots
        for name, data in (("", covered), *values.items()):
            if name and name not in self._values:
                self._values[name] = self._zeros()
            ring = self._values[name][number] if name else self._covered[number]
            for slot, value in enumerate(array("f", data), first):
                if slot in wanted:
                    ring[slot % slots] = value

    def cover(self, number: int, slots: range, seconds: float) -> None:
        """Nothing was counted in these."""
        for slot in slots:
            self._covered[number][slot % self.resolutions[number].slots] = seconds

    def _holds(self, number: int, slot: int) -> bool:
        head = self._heads[number]
        return head - self.resolutions[number].slots < slot <= head

    # --- the disk ---

    def saved(self) -> Saved:
        return Saved(
            self._heads[1:],
            [part.tobytes() for part in self._covered[1:]],
            {name: [part.tobytes() for part in parts[1:]] for name, parts in self._values.items()},
        )

    @classmethod
    def restored(cls, saved: Saved, resolutions: tuple[Resolution, ...]) -> Rings:
        """Raises ValueError when it is of another machine or another version."""
        rings = cls(resolutions)
        sizes = [FLOAT_BYTES * resolution.slots for resolution in resolutions[1:]]
        rows = [saved.covered, *saved.values.values()]
        if saved.order != sys.byteorder or any([len(part) for part in row] != sizes for row in rows):
            raise ValueError("the rings are of another shape")
        rings._heads[1:] = saved.heads
        rings._covered[1:] = [array("f", part) for part in saved.covered]
        fine = resolutions[0].slots * FLOAT_BYTES
        for name, parts in saved.values.items():
            rings._values[name] = [array("f", bytes(fine)), *(array("f", part) for part in parts)]
        return rings
