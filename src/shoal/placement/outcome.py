"""What a what-if asks (`Changes`) and what it answers (`Outcome`): frozen values, nothing else."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from .model import Buffer, Snapshot


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """Engines by id. ``proposed``: the group with other fields or VIPs. ``add``: so many new VIPs with one virtual
    service each.

    ``drain``: disabled, so that all that is on them moves. ``remove``: drained, and deleted when empty.
    ``fail``: dead at the same moment, after all else has settled.
    """

    fail: tuple[str, ...] = ()
    proposed: Snapshot | None = None
    add: int = 0
    drain: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


class How(StrEnum):
    """What ends (or spares) a VIP the interruption when its owner dies."""

    KEPT = "kept"  # its owner lives
    TAKEN = "taken"  # an armed successor takes it over by itself
    PLACED = "placed"  # the controller gives it to a running engine
    MADE = "made"  # it waits for an engine that is made for it
    NEVER = "never"  # nobody can take it, and no engine can be made


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one VIP. Engines by id, the owner first; those that are made are called ``made-<rank>``."""

    vip: str
    name: str
    origin: tuple[str, ...]
    """Who serves it now."""
    before: tuple[str, ...]
    """Who serves it before the failures (and after the edits)."""
    at_once: tuple[str, ...]
    """Who serves it right after them, before any new engine is up."""
    after: tuple[str, ...]
    """Who serves it in the end."""
    planned: tuple[tuple[str, str], ...] = ()
    """(from, to) of placements that the edits move, without an interruption; "" = none (a scale out, or in)."""
    how: How = How.KEPT
    turns: int = 0
    """How many living engines stand before its taker and have no room: each costs a heartbeat's interval."""
    ends_on: tuple[str, ...] = ()
    """Engines that die: the connections on them end."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What it comes to. VIPs by id, in the snapshot's order."""

    engines: tuple[str, ...]
    """The engines that fail."""
    fates: tuple[Fate, ...]
    """Of every VIP that anything happens to."""
    interrupted: tuple[str, ...]
    """VIPs that lose their owner: a short interruption each."""
    waiting: tuple[str, ...]
    """VIPs that were served and that no engine left can take: down until a new engine is there."""
    down: tuple[str, ...]
    """VIPs that were served and stay down."""
    weakened: tuple[str, ...]
    """VIPs that stay up, with fewer engines than before until new ones are there."""
    reduced: tuple[str, ...]
    """VIPs that stay up with fewer engines than requested."""
    exposed: tuple[str, ...]
    """VIPs that stay up with no successor: down when their engine fails next."""
    unplaced: tuple[str, ...] = ()
    """VIPs that were not served before and aren't in the end; those that are added, too."""
    stuck: tuple[str, ...] = ()
    """Engines that can't be drained."""
    moves: int
    """Placements made anew."""
    engines_made: int
    engines_deleted: tuple[str, ...] = ()
    """Those removed."""
    engines_idle: tuple[str, ...] = ()
    """Those that are idle then, and go after the group's ``se_deprovision_delay``: gone in the end."""
    before: Buffer
    left: Buffer
    """Right after the failures, before any new engine is up."""
    buffer: Buffer
    """Capacity when all is done."""
    start: Snapshot
    """The group when the edits have settled, before the failures."""
    end: Snapshot
    """The group when all is done."""

    @property
    def stays_up(self) -> bool:
        """No VIP that was served has to wait for a new engine, or for ever."""
        return not (self.waiting or self.down)

    @property
    def keeps_capacity(self) -> bool:
        """And none has fewer engines than before, not even until new ones are made."""
        return self.stays_up and not (self.weakened or self.reduced)

    @property
    def restored(self) -> bool:
        """In the end every VIP has all its engines, and the buffer is whole."""
        return not (self.down or self.reduced) and self.buffer.kept

    @property
    def sentence(self) -> str:
        vips, moves, made = len(self.interrupted), self.moves, self.engines_made
        return (
            f"{vips} {'VIP loses its' if vips == 1 else 'VIPs lose their'} owner, {len(self.waiting)} wait for a new engine, "
            f"{len(self.down)} stay down, {len(self.reduced)} stay reduced; "
            f"{moves} placement{' moves' if moves == 1 else 's move'}, "
            f"{made} engine{' is' if made == 1 else 's are'} made, {self.buffer.free} slots are free in the end "
            f"({self.buffer.needed} needed)"
        )
