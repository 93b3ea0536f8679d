"""What an observer has noted: the records of an engine's guard or agent, or of the prober."""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One thing that happened.

    ``number`` counts the records of one writer. ``monotonic_ns`` is the writer's machine's CLOCK_MONOTONIC, ``wall_ns``
    its clock's time since the epoch. ``about`` is an engine's id or a MAC, ``ms`` a duration that belongs to the kind.
    """

    number: int
    monotonic_ns: int
    wall_ns: int
    kind: str
    vip: str = ""
    about: str = ""
    text: str = ""
    ms: float = 0.0


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """One writer's records, oldest first, and what is needed to put them on another clock.

    ``writer``: ``guard``, ``agent``, ``prober``. ``boot`` names the boot of its machine: with the same one monotonic
    times compare. ``alive_ns``: monotonic time at which the writer last showed that it runs (0 = it never did).
    """

    writer: str
    boot: str
    alive_ns: int
    records: tuple[Record, ...]


class Recall(msgspec.Struct, frozen=True, tag="recall"):
    """Controller to engine: send what your recorders hold of the last ``seconds``. ``id`` comes back in the answer."""

    id: int
    seconds: float


class Recorded(msgspec.Struct, frozen=True, tag="recorded"):
    """The answer. ``monotonic_ns`` and ``wall_ns``: the engine's clocks when it was made."""

    id: int
    monotonic_ns: int
    wall_ns: int
    recordings: tuple[Recording, ...]
