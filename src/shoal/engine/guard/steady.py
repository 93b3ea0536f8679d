"""Ports whose new flows are shared by who the client is, whatever the engines' load: what of it is in the kernel."""

from __future__ import annotations

from collections.abc import Iterable

from shoal.engine.guard.family import of
from shoal.engine.guard.nft import set_batch
from shoal.wire.guard import PortRange, Sharing

NONE = Sharing(vip="")
SETS = ("by_source", "by_source_and_port")


class Steady:
    """``wanted``: VIP -> its ports. Makes batches; the caller runs them."""

    def __init__(self) -> None:
        self._wanted: dict[str, Sharing] = {}
        self._elements: dict[tuple[str, str], tuple[str, ...]] = {}  # (set, address) -> what is in the kernel

    def want(self, wanted: Iterable[Sharing]) -> list[str]:
        """The VIPs for which something changed."""
        before, self._wanted = self._wanted, {sharing.vip: sharing for sharing in wanted}
        vips = dict.fromkeys((*before, *self._wanted))
        return [vip for vip in vips if before.get(vip, NONE) != self._wanted.get(vip, NONE)]

    def any(self, vip: str) -> bool:
        return vip in self._wanted

    def batch(self, vip: str, address: str) -> str:
        """Brings the address's ports into the kernel; of a VIP that is not wanted, or "", takes them out."""
        sharing = self._wanted.get(vip, NONE)
        text = ""
        for name in SETS:
            new = _elements(address, getattr(sharing, name))
            text += set_batch(of(name, address), self._elements.pop((name, address), ()), new)
            if new:
                self._elements[name, address] = new
        return text


def _elements(address: str, ports: tuple[PortRange, ...]) -> tuple[str, ...]:
    return tuple(f"{address} . {first}" if first == last else f"{address} . {first}-{last}" for first, last in ports)
