"""What the ownership machine hears (events), what it wants done (effects), and what guards say to one another."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from shoal.wire.guard import Desired
from shoal.wire.messages import Claim, Ownership

# --- between guards ---


class Mode(IntEnum):
    """What an engine does with a VIP."""

    READY = 0
    """It could serve it (HAProxy is bound), and does not speak for it."""
    WANT = 1
    """It is about to claim it, or asks the holder to resign (its claim is of a higher generation)."""
    HELD = 2
    """It answers for the address."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One VIP in a heartbeat. ``claim`` is the one held or wanted, or the highest the engine has heard of.

    ``holder``: the living engine it hears hold it, so that two that do not hear each other learn of it from a third.
    """

    vip: str
    mode: Mode
    claim: Claim | None
    list_version: int
    holder: str = ""


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag="h"):
    """Said to every peer each interval, and at once on a change.

    ``able``: HAProxy answers and the link is up, so the engine may take VIPs over. The lease of a holder was renewed
    just before its heartbeat left: it ends at most ``lease_ms`` after the last heartbeat that was sent.
    """

    engine: str
    incarnation: str
    able: bool
    entries: tuple[Entry, ...]


class Resign(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """The holder has fallen silent for ``vip`` on purpose; ``to`` may claim it without waiting.

    ``able`` as in a heartbeat: who makes way for a planned owner goes on serving its other VIPs.
    """

    engine: str
    vip: str
    claim: Claim
    to: str
    able: bool = False


PeerMessage = Heartbeat | Resign


# --- events ---


class Tick(msgspec.Struct, frozen=True):
    """Time has passed. Due at `wake_at(state)` at the latest."""


class Started(msgspec.Struct, frozen=True):
    """First event. ``claims``: VIP id -> highest claim this engine ever made, from disk. ``mac``: of the data interface."""

    engine: str
    rank: int
    incarnation: str
    claims: dict[str, Claim]
    mac: str = ""


class Told(msgspec.Struct, frozen=True):
    """The agent's `Desired`."""

    desired: Desired


class Heard(msgspec.Struct, frozen=True):
    message: PeerMessage


class Session(msgspec.Struct, frozen=True):
    """The TCP session with a peer came up, or ended: the kernel's notice of a dead process."""

    peer: str
    up: bool


class Loss(msgspec.Struct, frozen=True):
    """What the peer sends is partly lost: so many heartbeats in a row must be missing to mean its death."""

    peer: str
    misses: int


class ArpAnswered(msgspec.Struct, frozen=True):
    """Another MAC answers for ``address``, or announces it."""

    address: str
    mac: str


class Haproxy(msgspec.Struct, frozen=True):
    up: bool
    why: str = ""


class Link(msgspec.Struct, frozen=True):
    """Carrier on the data interface."""

    up: bool


class LeaseLost(msgspec.Struct, frozen=True):
    """The lease had expired in the kernel before it could be renewed: this engine was too late, or frozen."""


class Stopping(msgspec.Struct, frozen=True):
    """Resign everything; the process ends next."""


class Together(msgspec.Struct, frozen=True):
    """What has come since the last step, in its order: conclusions are drawn once, after all of it. A thousand VIPs
    that are resigned, or whose addresses answer, would take the time of a thousand steps otherwise."""

    events: tuple[Heard | ArpAnswered, ...]


Event = Tick | Started | Told | Heard | Session | Loss | ArpAnswered | Together | Haproxy | Link | LeaseLost | Stopping


# --- effects, to be carried out in the order given ---


class AcquireLease(msgspec.Struct, frozen=True):
    """Start a lease, whether or not one lives. Only given while this engine holds no VIP."""


class RenewLease(msgspec.Struct, frozen=True):
    """Compare and set: fails if the lease has ended. On failure drop the effects that follow and feed `LeaseLost`."""


class DropLease(msgspec.Struct, frozen=True):
    pass


class PersistClaim(msgspec.Struct, frozen=True):
    """Must be on disk before the effects that follow."""

    vip: str
    claim: Claim


class TakeVip(msgspec.Struct, frozen=True):
    """Put the addresses on the data interface."""

    vip: str
    addresses: tuple[str, ...]


class ReleaseVip(msgspec.Struct, frozen=True):
    """Take the addresses off the data interface (they stay on ``lo``, so that connections survive)."""

    vip: str
    addresses: tuple[str, ...]


class Announce(msgspec.Struct, frozen=True):
    """Gratuitous ARP, now and repeated."""

    vip: str
    addresses: tuple[str, ...]


class ArpProbe(msgspec.Struct, frozen=True):
    addresses: tuple[str, ...]


class Send(msgspec.Struct, frozen=True):
    """To one peer (``to``), or to all ("")."""

    message: PeerMessage
    to: str = ""


class Spread(msgspec.Struct, frozen=True):
    """Share new flows of a held VIP evenly over ``members`` (this engine may be one).

    ``draining`` engines keep the flows they have. ``former``, if given, had the flows this engine knows nothing of.
    """

    vip: str
    addresses: tuple[str, ...]
    members: tuple[str, ...]
    draining: tuple[str, ...] = ()
    former: str = ""


class Tell(msgspec.Struct, frozen=True):
    """To the agent: a VIP was taken or given up (``ownership.at`` is left for the shell to fill)."""

    ownership: Ownership


Effect = (
    AcquireLease
    | RenewLease
    | DropLease
    | PersistClaim
    | TakeVip
    | ReleaseVip
    | Announce
    | ArpProbe
    | Send
    | Spread
    | Tell
)
