"""Counts the packets of each VIP that this engine serves, both ways, in the kernel (HAProxy knows bytes only).

One lookup a packet and direction, at the IP layer: what a primary forwards at layer 2 does not come by here, so it is
counted where it is served. The table is there only while the counters are wanted. Without them the engine serves all the
same.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import Collection, Mapping

from shoal.wire.counters import VipPackets
from shoal.wire.desired import Vip

from .fastpath.table import counters
from .guard.family import FAMILIES, of
from .guard.nft import Nft, NftError, set_batch

log = logging.getLogger("shoal.packets")

TABLE = "inet shoal_vips"
INET = 1
"""NFPROTO_INET of linux/netfilter.h."""
NONE = f"add table {TABLE}\ndelete table {TABLE}\n"
RULES = f"""{NONE}
table {TABLE} {{
  map vips {{ type ipv4_addr : counter; }}
  map vips6 {{ type ipv6_addr : counter; }}
  chain came {{
    type filter hook prerouting priority raw; policy accept;
    counter name ip daddr map @vips
    counter name ip6 daddr map @vips6
  }}
  chain went {{
    type filter hook postrouting priority srcnat + 10; policy accept;
    counter name ip saddr map @vips
    counter name ip6 saddr map @vips6
  }}
}}
"""
"""Before the NAT of UDP on the way in and after it on the way out: a VIP's packets bear its address there."""


class PacketCounters:
    """One owner, the agent."""

    def __init__(self) -> None:
        self._nft: Nft | None = None
        self._there: dict[str, Vip] | None = None
        """VIPs that are counted, without any there is no table; None = what there is is a former agent's."""
        self._alone = threading.Lock()
        """libnftables' context is for one thread at a time."""

    async def want(self, vips: Collection[Vip]) -> None:
        """Count exactly these. What the kernel refuses is logged and not counted."""
        wanted = {vip.id: vip for vip in vips}
        try:
            if self._there is None and not wanted:
                self._there = {} if not await asyncio.to_thread(_read) else None
            if self._there is None or _addresses(wanted) != _addresses(self._there):
                await asyncio.to_thread(self._put, wanted)
        except (NftError, OSError) as error:
            log.warning("the packets of VIPs are not counted: %s", error)
            self._there = None

    async def counted(self) -> tuple[VipPackets, ...]:
        """Totals since the VIP came."""
        there = self._there
        if not there:
            return ()
        try:
            found = await asyncio.to_thread(_read)
        except OSError as error:
            log.warning("the packets of VIPs can't be read: %s", error)
            return ()
        return tuple(VipPackets(id, found.get(_name(id), (0, 0))[0]) for id in there)

    def _put(self, wanted: Mapping[str, Vip]) -> None:
        with self._alone:
            if self._nft is None:
                self._nft = Nft()
            batch = NONE
            if wanted:
                batch = _step(self._there, wanted) if self._there else RULES + _step({}, wanted)
            self._nft.run(batch.encode())
            self._there = dict(wanted)


def _read() -> dict[str, tuple[int, int]]:
    return dict(counters(TABLE, INET))


def _step(there: Mapping[str, Vip], wanted: Mapping[str, Vip]) -> str:
    """A counter is made before it is used and goes when it is not used any more."""
    come, gone = sorted(wanted.keys() - there.keys()), sorted(there.keys() - wanted.keys())
    return (
        "".join(f"add counter {TABLE} {_name(id)}\n" for id in come)
        + _elements(there, wanted)
        + "".join(f"delete counter {TABLE} {_name(id)}\n" for id in gone)
    )


def _elements(there: Mapping[str, Vip], wanted: Mapping[str, Vip]) -> str:
    before, after = _addresses(there), _addresses(wanted)
    names = [f"vips{family.suffix}" for family in FAMILIES]
    return "".join(set_batch(name, before.get(name, ()), after.get(name, ()), TABLE) for name in names)


def _addresses(vips: Mapping[str, Vip]) -> dict[str, list[str]]:
    """Map -> its elements."""
    found: dict[str, list[str]] = {}
    for vip in vips.values():
        for address in vip.addresses:
            found.setdefault(of("vips", address), []).append(f'{address} : "{_name(vip.id)}"')
    return found


def _name(vip: str) -> str:
    return f"v{hashlib.blake2b(vip.encode(), digest_size=8).hexdigest()}"
