"""Shares of a data link that is full, by the weights of virtual services, in what they send to their clients.

The kernel's HTB on the data interface: a class for each service, whose turn is as long as its weight, and one that goes first for all
else: heartbeats, health checks, what servers get. A rule after NAT tells packets by the VIP and the port that they come from.
Nothing of this is there while all weights are the same.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from shoal.wire.desired import Service

from .fastpath.family import address_of
from .fastpath.gate import joined
from .guard.nft import Nft, NftError

log = logging.getLogger("shoal.weights")

TABLE = "inet shoal_weights"
NONE = f"add table {TABLE}\ndelete table {TABLE}\n"
HANDLE = "5a0:"
TOP, ELSE, FIRST = 1, 2, 0x10
"""Classes: what the link carries, all else, the first service's."""
LINK_MBIT_MAX = 400_000
TURN_BYTES = 65_536
"""Of the lightest service: what the kernel hands on as one packet at most. HTB takes a packet in each turn, however short."""
WEIGHT_MAX = 128
QUEUE_PACKETS = 100
OWN_RATE = "8kbit"
"""What a class has of its own is next to nothing: the rest is shared by turns."""
COMMAND_WITHIN_S = 5.0


class Share(msgspec.Struct, frozen=True):
    """``sockets``: (version of IP, protocol) -> the VIP's addresses and ports there, for a set."""

    weight: int
    sockets: dict[tuple[int, str], str]


class Weights:
    """One owner, the agent. ``interface``: the data interface."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._nft: Nft | None = None
        self._there: tuple[tuple[Share, ...], int] | None = None
        """None = what there is is a former agent's."""
        self._alone = threading.Lock()

    async def want(self, services: Iterable[Service], link_mbit: int) -> str:
        """Have these share. ``link_mbit``: what the link carries, 0 = nobody knows: then they don't, for where a link is full
        beyond the interface, nothing waits here. Returns why not, "" if so."""
        wanted = tuple(shares(services)) if link_mbit > 0 else (), min(max(0, link_mbit), LINK_MBIT_MAX)
        if wanted == self._there:
            return ""
        try:
            await asyncio.to_thread(self._put, *wanted)
        except (NftError, OSError, subprocess.SubprocessError) as error:
            log.warning("the link is not shared by weights: %s", error)
            self._there = None
            return f"Weights have no effect: the kernel refuses the classes of traffic ({error})."
        self._there = wanted
        return ""

    def _put(self, wanted: tuple[Share, ...], link_mbit: int) -> None:
        with self._alone:
            if self._nft is None:
                self._nft = Nft()
            if wanted or self._there is None or self._there[0]:
                self._nft.run(NONE.encode())
                found = _tc(f"qdisc show dev {self._interface}\n")
                if f"qdisc htb {HANDLE} " in found:
                    _tc(f"qdisc del dev {self._interface} root\n")
            if wanted:
                _tc("\n".join(classes(self._interface, wanted, link_mbit)) + "\n")
                self._nft.run(rules(wanted).encode())


def shares(services: Iterable[Service]) -> Iterator[Share]:
    """None while all weigh the same."""
    found = sorted(services, key=lambda service: service.id)
    if len({service.weight for service in found}) < 2:
        return
    for service in found:
        kinds = ((version, protocol) for version in (4, 6) for protocol in ("tcp", "udp"))
        sockets = {kind: text for kind in kinds if (text := _sockets(service, *kind))}
        if sockets and not service.parent:
            yield Share(min(max(1, service.weight), WEIGHT_MAX), sockets)


def classes(interface: str, wanted: Sequence[Share], link_mbit: int) -> Iterator[str]:
    """Lines for ``tc``."""
    link = f"{link_mbit}mbit"
    yield f"qdisc add dev {interface} root handle {HANDLE} htb default {ELSE:x}"
    yield f"class add dev {interface} parent {HANDLE} classid {HANDLE}{TOP:x} htb rate {link} quantum {TURN_BYTES}"
    below = f"class add dev {interface} parent {HANDLE}{TOP:x} classid {HANDLE}"
    yield f"{below}{ELSE:x} htb rate {OWN_RATE} ceil {link} prio 0 quantum {TURN_BYTES}"
    lightest = min(share.weight for share in wanted)
    for number, share in enumerate(wanted, start=FIRST):
        yield f"{below}{number:x} htb rate {OWN_RATE} ceil {link} prio 1 quantum {TURN_BYTES * share.weight // lightest}"
        yield f"qdisc add dev {interface} parent {HANDLE}{number:x} pfifo limit {QUEUE_PACKETS}"


def rules(wanted: Iterable[Share]) -> str:
    lines = [
        f"{'ip' if version == 4 else 'ip6'} saddr . {protocol} sport {{ {sockets} }} meta priority set {HANDLE}{number:x}"
        for number, share in enumerate(wanted, start=FIRST)
        for (version, protocol), sockets in share.sockets.items()
    ]
    text = "\n    ".join(lines)
    return f"table {TABLE} {{\n  chain leaving {{\n    type filter hook postrouting priority srcnat + 20;\n    {text}\n  }}\n}}\n"


def _sockets(service: Service, version: int, protocol: str) -> str:
    """Addresses that are none are passed over: they have been refused elsewhere."""
    ports = joined((int(one.port), int(one.port_end)) for one in service.listeners if one.protocol == protocol)
    addresses = (address_of(one) for one in service.addresses)
    mine = [str(one) for one in addresses if one is not None and one.version == version]
    return ", ".join(f"{address} . {port}" for address in mine for port in ports)


def _tc(lines: str) -> str:
    """Raises OSError, subprocess.SubprocessError."""
    done = subprocess.run(
        ("tc", "-batch", "-"), input=lines, text=True, capture_output=True, timeout=COMMAND_WITHIN_S, check=False
    )
    if done.returncode != 0:
        raise OSError(
            done.stderr.strip().splitlines()[0] if done.stderr.strip() else f"tc ended with {done.returncode}"
        )
    return done.stdout
