"""What happens in a simulated run, as data: it can be drawn, left out, stored and played again.

An event names what it is about so that it still means something when earlier ones are left out: an engine by its rank
(``7``) or by its place for a service (``s-2:0`` answers for it, ``s-2:1`` is next in succession), a service, group, host
or rack by name. One that means nothing any more (a dead engine dies again) is skipped.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from shoal.errors import Invalid

KINDS = {
    "kill": "an engine's processes are killed",
    "return": "a dead engine starts again",
    "freeze": "an engine's processes stop",
    "thaw": "... and go on",
    "haproxy": "an engine's HAProxy dies, or is there again",
    "unplug": "an engine loses its only link",
    "plug": "... and has it again",
    "gateway": "an engine reaches its gateway no more, or again",
    "agent": "an engine's agent dies alone; its guard goes on, and starts it again",
    "wipe": "the disk of a dead engine is lost: claims and desired state",
    "vanish": "an engine is deleted from the cloud by somebody else",
    "lag": "an engine takes seconds to put a new state into effect, or no longer",
    "part": "an engine and the controller lose each other (one way or both)",
    "join": "... and meet again",
    "reset": "the connection of an engine and the controller breaks, with what is under way",
    "split": "two engines lose each other (one way or both)",
    "meet": "... and meet again",
    "host": "a host dies with all its engines",
    "host_return": "... and all of them start again",
    "rack": "the same with a rack of hosts",
    "rack_return": "...",
    "network": "heartbeats are lost, late or repeated",
    "cloud": "creations fail, or are slow",
    "cloudless": "the controller can't reach the cloud, or can again",
    "crash": "the controller dies, at the n-th time from now that it reaches out of its process",
    "start": "a dead controller is started",
    "stall": "the controller does not run for a while, as when its machine is paused",
    "store": "the store is slow",
    "outage": "the store takes no writes, can't be reached, or loses questions and answers; or is well again",
    "rival": "another writer touches a record: the controller's next write conflicts",
    "clock": "the wall clock jumps",
    "create": "a virtual service is created (on an address of its own, or that others had before, or another's)",
    "delete": "... is deleted",
    "address": "... gets another address",
    "enable": "... is enabled or disabled",
    "move": "... is given to another group",
    "group": "a group is edited",
    "engine": "an engine is enabled or disabled",
    "operate": "scale-out, scale-in, migrate, retry, switchover, redistribute, upgrade; reboot and forced deletion",
    "calm": "every fault ends, and all must become as intended",
    "pass": "nothing but time",
}
"""Each kind of event."""
OPERATORS = ("create", "delete", "address", "enable", "move", "group", "engine", "operate")
"""Those that ask the controller for something."""
MODES = ("HA_MODE_SHARED", "HA_MODE_SHARED_PAIR", "HA_MODE_LEGACY_ACTIVE_STANDBY")


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``wait_s`` of virtual time pass after it. Which other fields matter follows from ``do``."""

    do: str
    engine: str = ""
    other: str = ""
    service: str = ""
    target: str = ""
    """A group, host, rack, operation or record, by name."""
    way: str = ""
    """Of a partition: ``both``, ``out`` (nobody hears the engine) or ``in`` (it hears nobody)."""
    count: int = 0
    amount: float = 0.0
    fields: dict[str, Any] = {}
    """Of an edit."""
    wait_s: float = 0.0
    beside: bool = False
    """Of an operator's: what comes next does not wait for its answer."""


class Shape(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run begins with. Hosts are dealt to the racks in turn; each mode of ``modes`` is one group; without any,
    two are taken by the seed (`of`)."""

    hosts: int = 4
    racks: int = 2
    modes: tuple[str, ...] = ()
    services: int = 3
    """In each group."""
    max_se: int = 6
    max_vs_per_se: int = 4

    def of(self, seed: int) -> Shape:
        """With the modes of that run."""
        pair = (MODES[seed % len(MODES)], MODES[(seed + 1 + seed // len(MODES)) % len(MODES)])
        return self if self.modes else msgspec.structs.replace(self, modes=pair)

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(f"g-{n}" for n in range(1, len(self.modes) + 1))

    @property
    def host_names(self) -> tuple[str, ...]:
        return tuple(f"host-{n}" for n in range(1, self.hosts + 1))

    def rack(self, name: str) -> tuple[str, ...]:
        """Its hosts."""
        return tuple(h for n, h in enumerate(self.host_names) if f"rack-{n % self.racks + 1}" == name)

    @property
    def rack_names(self) -> tuple[str, ...]:
        return tuple(f"rack-{n}" for n in range(1, self.racks + 1))


class Transcript(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run that can be played again. ``broke``: the rule that was broken by it once, "" if none; ``why`` in words;
    ``commit``: of the source it was found with."""

    format: str = "shoal-transcript-1"
    seed: int
    shape: Shape
    events: tuple[Event, ...]
    broke: str = ""
    why: str = ""
    commit: str = ""
    note: str = ""
    """What was wrong, once it is known."""


def write(file: Path, transcript: Transcript) -> None:
    """As JSON, an event a line."""
    head = msgspec.to_builtins(transcript)
    head.pop("events")
    lines = ",\n  ".join(_line(event) for event in transcript.events)
    fields = [f'"{key}": {msgspec.json.encode(value).decode()}' for key, value in head.items()]
    fields = [f'"format": "{transcript.format}"', *(field for field in fields if not field.startswith('"format"'))]
    file.write_text("{\n " + ",\n ".join([*fields, f'"events": [\n  {lines}\n ]']) + "\n}\n")


def read(file: Path) -> Transcript:
    """Raises Invalid."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Transcript)
    except (OSError, msgspec.MsgspecError) as error:
        raise Invalid(f"{file} is no transcript of a simulated run: {error}") from None


def told(events: Iterable[Event]) -> str:
    """For a person: one a line, with the virtual seconds since the first."""
    at, lines = 0.0, []
    for event in events:
        lines.append(f"{at:9.2f} s  {sentence(event)}")
        at += event.wait_s
    return "\n".join(lines)


def sentence(event: Event) -> str:
    fields = msgspec.to_builtins(event)
    words = [f"{key} {value}" for key, value in fields.items() if value and key not in ("do", "wait_s", "fields")]
    words += [f"{key}={value}" for key, value in event.fields.items()]
    return f"{event.do:<11} {', '.join(words)}".rstrip()


def _line(event: Event) -> str:
    return msgspec.json.encode({key: value for key, value in msgspec.to_builtins(event).items() if value}).decode()
