"""The spreading of UDP flows over a VIP's engines: by the same buckets as TCP, with a table of flows of their own.

A flow has no beginning and no end but its silence: the first packet of an unknown one goes to its bucket, and it stays
there until it has been idle for as long as its engine keeps it. After a takeover flows go by their buckets afresh. An
owner that was alone and gets company keeps the flows it has: they are read from conntrack, and until that is done
unknown ones stay too. A datagram in fragments is the owner's: only its first fragment has ports, and all must come to
one engine.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Collection

from shoal.engine.guard.loop import Loop
from shoal.engine.guard.netlink import NLMSG_DONE, NLMSG_ERROR, messages
from shoal.engine.guard.nft import TABLE, Nft, bucket_in_mark
from shoal.engine.udp import conntrack, netfilter

log = logging.getLogger("shoal.guard.datagrams")

FLOW = "ip saddr . udp sport . ip daddr . udp dport"
STAY_S_MAX = 10
"""The kernel ends the staying by itself after this time."""
PIECE_BYTES = 16384
"""Of conntrack that is read in one turn of the loop: some 60 flows, less than a millisecond."""
GRACE_S = 5
"""The engine's conntrack hears servers too, this table only clients."""


def rules(mac: str, idle_s: int, flows_max: int) -> str:
    """The map and the chain that ``share`` goes to, anew. ``idle_s``: the longest idle time-out of any UDP service."""
    keep = f"update @datagram_flows {{ {FLOW} timeout {idle_s + GRACE_S}s : ether daddr }}"
    return f"""
table {TABLE} {{
  map datagram_flows {{
    type ipv4_addr . inet_service . ipv4_addr . inet_service : ether_addr
    flags dynamic,timeout; size {flows_max};
  }}
  set staying {{ type ipv4_addr; flags timeout; }}
  chain datagram_known {{ }}
  chain datagrams {{ }}
}}
flush chain {TABLE} datagrams
flush chain {TABLE} datagram_known
table {TABLE} {{
  chain datagram_known {{
    ether daddr != @live return
    {keep}
    goto out
  }}
  chain datagrams {{
    ip frag-off & 0x3fff != 0 accept
    ether daddr set {FLOW} map @datagram_flows jump datagram_known
    delete @datagram_flows {{ {FLOW} : ether daddr }}
    ip daddr @staying ether daddr set {mac} {keep} accept
    {bucket_in_mark("udp")}
    ether daddr set ip daddr . meta mark map @buckets
    {keep}
    goto out
  }}
}}
"""


class Keeper:
    """Makes the flows of an owner that was alone stay with it. Blocks the loop for no longer than a piece takes."""

    def __init__(self, loop: Loop, nft: Nft, mac: str) -> None:
        self._loop, self._nft, self._mac = loop, nft, mac
        self._idle_s = 0
        self._waiting: deque[frozenset[str]] = deque()
        self._link: socket.socket | None = None

    def prepare(self, idle_s: int, flows_max: int) -> None:
        """Raises `NftError`."""
        if idle_s != self._idle_s:
            self._nft.run(rules(self._mac, idle_s, flows_max).encode())
            self._idle_s = idle_s

    def stay(self, addresses: Collection[str]) -> None:
        """Call it before these are spread: from then on their flows are known, or stay for as long as they are not."""
        addresses = [address for address in addresses if ":" not in address]  # only IPv4's are spread
        elements = ", ".join(f"{address} timeout {STAY_S_MAX}s" for address in addresses)
        if elements and self._nft.tries(f"add element {TABLE} staying {{ {elements} }}".encode()):
            self._waiting.append(frozenset(addresses))
            if len(self._waiting) == 1:
                self._begin()

    def _begin(self) -> None:
        link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, netfilter.NETLINK)
        link.send(conntrack.dump())
        self._link = link
        self._loop.on_readable(link, self._read)

    def _read(self) -> None:
        assert self._link is not None
        try:
            found = messages(self._link.recv(PIECE_BYTES))
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("UDP flows are not all known: %s", error)
            found = [(NLMSG_DONE, b"")]
        keys: list[str] = []
        for kind, data in found:
            if kind in (NLMSG_DONE, NLMSG_ERROR):
                self._load(keys)
                self._end()
                return
            client = conntrack.client_of(data[netfilter.HEAD_BYTES :])
            if client is not None and len(client[0]) == 4 and socket.inet_ntoa(client[2]) in self._waiting[0]:
                source, port, vip, own = client
                keys.append(f"{socket.inet_ntoa(source)} . {port} . {socket.inet_ntoa(vip)} . {own}")
        self._load(keys)

    def _load(self, keys: list[str]) -> None:
        """One that a packet has made known meanwhile fails the batch: then each by itself."""
        elements = [f"{key} timeout {self._idle_s + GRACE_S}s : {self._mac}" for key in keys]
        if elements and not self._nft.tries(_add(elements)):
            for element in elements:
                self._nft.tries(_add([element]))

    def _end(self) -> None:
        addresses = self._waiting.popleft()
        self._nft.tries(f"delete element {TABLE} staying {{ {', '.join(sorted(addresses))} }}".encode())
        if self._link is not None:
            self._loop.forget(self._link)
            self._link.close()
            self._link = None
        if self._waiting:
            self._begin()


def _add(elements: list[str]) -> bytes:
    return f"add element {TABLE} datagram_flows {{ {', '.join(elements)} }}".encode()
