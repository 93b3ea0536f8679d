"""The spreading of UDP flows over a VIP's engines: by the same buckets as TCP, with a table of flows of their own.

A flow has no beginning and no end but its silence: the first packet of an unknown one goes to its bucket, and it stays
there until it has been idle for as long as its engine keeps it. After a takeover flows go by their buckets afresh. An
owner that was alone and gets company keeps the flows it has: they are read from conntrack, and from the maps of services
whose servers answer clients themselves; until that is done unknown ones stay too. A datagram in fragments is the owner's:
only its first fragment has ports, and all must come to one engine.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections import deque
from collections.abc import Callable, Collection, Iterator

from shoal.engine.fastpath import conntrack, kept, netfilter
from shoal.engine.fastpath import family as fast
from shoal.engine.guard.family import FAMILIES, IPV4, Family, of, parted
from shoal.engine.guard.flow_rules import FlowRules
from shoal.engine.guard.loop import Loop
from shoal.engine.guard.netlink import NLMSG_DONE, NLMSG_ERROR, messages
from shoal.engine.guard.nft import NAME, TABLE, Nft, address_batch, bucket_in_mark, set_batch

log = logging.getLogger("shoal.guard.datagrams")

STAY_S_MAX = 10
"""The kernel ends the staying by itself after this time."""
PIECE_BYTES = 16384
"""Of conntrack that is read in one turn of the loop: some 60 flows, less than a millisecond."""
KEEP, OVER = "datagram_keep6", "datagram_over6"
GRACE_S = 5
"""The engine's conntrack hears servers too, this table only clients."""


def rules(mac: str, idle_s: int, flows_max: int) -> str:
    """The maps and the chains that ``share`` goes to, anew. ``idle_s``: the longest idle time-out of any UDP service.

    IPv6's `KEEP` and `OVER` are chains of one rule each, made by `flow_rules`.
    """
    return "".join(_rules(family, mac, idle_s, flows_max) for family in FAMILIES)


def _rules(family: Family, mac: str, idle_s: int, flows_max: int) -> str:
    of, address, flow = family.suffix, family.address, family.flow("udp")
    keep, over = f"jump {KEEP}", f"jump {OVER}"
    if family is IPV4:
        keep = f"update @datagram_flows {{ {flow} timeout {idle_s + GRACE_S}s : ether daddr }}"
        over = f"delete @datagram_flows {{ {flow} : ether daddr }}"
    made = "" if family is IPV4 else f"chain {KEEP} {{ }}\n  chain {OVER} {{ }}"
    return f"""
table {TABLE} {{
  map datagram_flows{of} {{
    type {address} . inet_service . {address} . inet_service : ether_addr
    flags dynamic,timeout; size {flows_max};
  }}
  set staying{of} {{ type {address}; flags timeout; }}
  {made}
  chain datagram_known{of} {{ }}
  chain datagram_stays{of} {{ }}
  chain datagrams{of} {{ }}
}}
flush chain {TABLE} datagrams{of}
flush chain {TABLE} datagram_stays{of}
flush chain {TABLE} datagram_known{of}
table {TABLE} {{
  chain datagram_known{of} {{
    ether daddr != @live return
    {keep}
    goto out{of}
  }}
  chain datagram_stays{of} {{
    ether daddr set {mac}
    {keep}
    accept
  }}
  chain datagrams{of} {{
    {family.fragment} accept
    ether daddr set {flow} map @datagram_flows{of} jump datagram_known{of}
    {over}
    {family.ip} daddr @staying{of} goto datagram_stays{of}
    {bucket_in_mark("udp", family)}
    ether daddr set {family.ip} daddr . meta mark map @buckets{of}
    {keep}
    goto out{of}
  }}
}}
"""


class Keeper:
    """Makes the flows of an owner that was alone stay with it. Blocks the loop for no longer than a piece takes."""

    def __init__(self, loop: Loop, nft: Nft, mac: str) -> None:
        self._loop, self._nft, self._mac = loop, nft, mac
        self._idle_s = 0
        self._flow_rules = FlowRules(NAME, "datagram_flows6")
        self._waiting: deque[frozenset[str]] = deque()
        self._link: socket.socket | None = None
        self._asking = deque(ASKED)

    def prepare(self, idle_s: int, flows_max: int) -> None:
        """Raises `NftError`, OSError."""
        if idle_s != self._idle_s:
            self._nft.run(rules(self._mac, idle_s, flows_max).encode())
            self._flow_rules.set({KEEP: idle_s + GRACE_S, OVER: 0})
            self._idle_s = idle_s

    def stay(self, addresses: Collection[str]) -> None:
        """Call it before these are spread: from then on their flows are known, or stay for as long as they are not."""
        staying = ""
        for name, elements in parted("staying", addresses).items():
            staying += set_batch(name, (), [f"{address} timeout {STAY_S_MAX}s" for address in elements])
        if staying and self._nft.tries(staying.encode()):
            self._waiting.append(frozenset(addresses))
            if len(self._waiting) == 1:
                self._begin()

    def _begin(self) -> None:
        self._asking = deque(ASKED)
        self._ask()

    def _ask(self) -> None:
        link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, netfilter.NETLINK)
        link.send(self._asking[0][0])
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
        keys: list[tuple[str, str]] = []
        for kind, data in found:
            if kind in (NLMSG_DONE, NLMSG_ERROR):
                self._load(keys)
                self._end()
                return
            for source, port, to, own in self._asking[0][1](data[netfilter.HEAD_BYTES :]):
                if (vip := str(ipaddress.ip_address(to))) in self._waiting[0]:
                    flow = f"{ipaddress.ip_address(source)} . {port} . {vip} . {own}"
                    keys.append((of("datagram_flows", vip), f"{flow} timeout {self._idle_s + GRACE_S}s : {self._mac}"))
        self._load(keys)

    def _load(self, flows: list[tuple[str, str]]) -> None:
        """(map, element). One that a packet has made known meanwhile fails the batch: then each by itself."""
        if flows and not self._nft.tries(_add(flows)):
            for flow in flows:
                self._nft.tries(_add([flow]))

    def _end(self) -> None:
        """Of one of the answers."""
        if self._link is not None:
            self._loop.forget(self._link)
            self._link.close()
            self._link = None
        self._asking.popleft()
        if self._asking:
            self._ask()
            return
        self._nft.tries(address_batch("staying", self._waiting.popleft(), ()).encode())
        if self._waiting:
            self._begin()


def _carried(data: bytes) -> Iterator[conntrack.Ends]:
    client = conntrack.client_of(data)
    if client is not None:
        yield client


def _kept(data: bytes) -> Iterator[conntrack.Ends]:
    return (kept.ends(key) for key, _ in kept.elements(data))


ASKED: tuple[tuple[bytes, Callable[[bytes], Iterator[conntrack.Ends]]], ...] = (
    (conntrack.dump("udp"), _carried),
    *((kept.dump(family, kept.flows_map("udp")), _kept) for family in fast.FAMILIES),
)
"""What is asked, and the flows of a message of the answer. Of maps that are not there the answer is an error."""


def _add(flows: list[tuple[str, str]]) -> bytes:
    return "".join(set_batch(name, (), [element]) for name, element in flows).encode()
