"""The kernel under a guard, as both simulations model it, and the rules that hold at every single effect."""

from __future__ import annotations

from collections.abc import Iterable

from shoal.ownership.events import (
    AcquireLease,
    Announce,
    ArpProbe,
    DropLease,
    Effect,
    Heartbeat,
    Mode,
    PersistClaim,
    ReleaseVip,
    RenewLease,
    Send,
    Spread,
    TakeVip,
    Tell,
)
from shoal.wire.messages import Claim

OVERLAP_S_MAX = 0.020
"""Two engines may both answer on one segment at most this long after a claim."""
HEAL_S_MAX = 0.100 + OVERLAP_S_MAX
"""... and this long after two sides of a partition meet again: one heartbeat."""


class Broken(AssertionError):
    """An invariant does not hold. The text says which, when, and what led there; ``rule`` is a stable word for it."""

    def __init__(self, text: str, rule: str = "ownership") -> None:
        super().__init__(text)
        self.rule = rule


class Kernel:
    """What outlives the guard's process: addresses on the interface, a lease that runs out by itself, the disk.

    ``lease_until`` is in the seconds of whoever calls; an address is answered for only while the lease lives.
    """

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        self.lease_until = -1.0
        self.disk: dict[str, Claim] = {}
        self.spreads: dict[str, Spread] = {}

    def answers(self, address: str, now: float) -> bool:
        return address in self.addresses and now < self.lease_until

    def carry_out(
        self, effects: Iterable[Effect], now: float, lease_s: float, *, lost: bool = False
    ) -> tuple[list[Effect], bool]:
        """Do ``effects`` in order. Returns those that reach beyond this kernel, and whether the lease was ``lost`` on
        the way: then nothing that speaks for a VIP was done after it. Raises `Broken`."""
        going: list[Effect] = []
        for effect in effects:
            match effect:
                case AcquireLease():
                    if self.addresses:
                        raise Broken("acquires a lease blindly while it has addresses")
                    self.lease_until = now + lease_s
                case RenewLease():
                    if now >= self.lease_until:
                        lost = True
                    else:
                        self.lease_until = now + lease_s
                case DropLease():
                    self.lease_until = -1.0
                case PersistClaim():
                    self._persist(effect)
                case TakeVip():
                    if not lost:
                        self.addresses.update(dict.fromkeys(effect.addresses, effect.vip))
                case ReleaseVip():
                    for address in effect.addresses:
                        self.addresses.pop(address, None)
                    self.spreads.pop(effect.vip, None)
                case Send():
                    if not isinstance(effect.message, Heartbeat):
                        going.append(effect)
                    elif not lost:
                        self._check_spoken(effect.message)
                        going.append(effect)
                case Spread():
                    self.spreads[effect.vip] = effect
                    going.append(effect)
                case Announce():
                    if not lost:
                        going.append(effect)
                case ArpProbe() | Tell():
                    going.append(effect)
        return going, lost

    def _persist(self, effect: PersistClaim) -> None:
        known = self.disk.get(effect.vip)
        if known is not None and effect.claim < known:
            raise Broken(f"claims {effect.vip} by {effect.claim}, below {known} on its disk")
        self.disk[effect.vip] = effect.claim

    def _check_spoken(self, message: Heartbeat) -> None:
        for entry in message.entries:
            if entry.mode is not Mode.READY and entry.claim is not None:
                known = self.disk.get(entry.vip)
                if known is None or known < entry.claim:
                    raise Broken(f"says {entry.mode.name} {entry.vip} by {entry.claim}; its disk has {known}")
