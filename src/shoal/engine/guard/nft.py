"""nftables without a fork: the fence that silences the dead, and the spreading of flows over an engine's peers.

Source of the mechanisms and their figures: docs/architecture.md, "The data path".
"""

from __future__ import annotations

import ctypes
import logging
import time
from collections.abc import Iterable

from shoal.engine.guard import kernel
from shoal.engine.guard.buckets import BUCKETS
from shoal.engine.guard.family import FAMILIES, IPV4, IPV6, Family, parted

log = logging.getLogger("shoal.guard.nft")

NAME = "shoal"
TABLE = f"netdev {NAME}"
RESETS = "inet shoal"
LIFE, LIFE6 = "arp shoal_life", "ip6 shoal_life"
"""Owned by this process (``flags owner``): the kernel removes them the moment it is gone, however it ends."""
ALIVE = 0x5A0B
"""The mark of ARP and neighbour discovery that leave while the process lives: the kernel's by a rule, the guard's own
by its sockets."""
LEASED = 0x5A0C
"""What the lease is held for (`lease.py`): the only key of its set, compared with a packet's mark."""
ASKED = 0x5A0A
"""The mark of a packet that was handed to every member: whoever has no socket for it keeps quiet."""
NEIGHBOUR_DISCOVERY = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }"
"""What says of its source who has it: an advertisement is of its source, a question gives the asker's MAC away."""
FENCE = f"""\
    arp saddr ip @vips goto speaks
    ip6 saddr @vips6 {NEIGHBOUR_DISCOVERY} goto speaks
"""
INGRESS = f"""\
    ether saddr @askers meta mark set {ASKED:#x} accept
    ip daddr @spread ether saddr != @peers goto share
    ip6 daddr @spread6 ether saddr != @peers goto share6
"""
CHAINS = ("share", "known", "fresh", "pick", "out")
SYN_S = 30
"""How long a flow's entry lives after its SYN, until a second packet comes: a SYN flood does not fill the table."""
FIN_S = 20
"""How long a flow's entry stays after FIN or RST."""
SEED = 0xBEEF
RUN_SOON_TRIES = 20
RUN_SOON_GAP_S = 0.01


class NftError(OSError):
    """The kernel refused a batch; nothing of it was applied."""


class Nft:
    """libnftables in this process. A batch is one transaction: all or nothing."""

    def __init__(self) -> None:
        library = ctypes.CDLL("libnftables.so.1")
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        self._run = library.nft_run_cmd_from_buffer
        self._run.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._error = library.nft_ctx_get_error_buffer
        self._error.argtypes = [ctypes.c_void_p]
        self._error.restype = ctypes.c_char_p
        for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        self._context = ctypes.c_void_p(library.nft_ctx_new(0))
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)

    def run(self, batch: bytes) -> None:
        """Raises `NftError`."""
        if self._run(self._context, batch):
            raise NftError((self._error(self._context) or b"").decode(errors="replace").strip())

    def run_soon(self, batch: bytes) -> None:
        """As `run`, but a table that a process which just died still owns gets a moment to go."""
        for _ in range(RUN_SOON_TRIES - 1):
            if self.tries(batch):
                return
            time.sleep(RUN_SOON_GAP_S)
        self.run(batch)

    def tries(self, batch: bytes) -> bool:
        """Did the batch apply? For compare-and-set."""
        return not self._run(self._context, batch)


def asker(mac: str) -> str:
    """The source MAC of packets that an engine hands to every member because it does not know whose they are: its own
    with one bit turned, so that a switch learns it on the right port and the members can tell."""
    first, rest = mac.split(":", 1)
    return f"{int(first, 16) ^ 0x04:02x}:{rest}"


def ruleset(interface: str, mac: str, idle_s: int, flows_max: int) -> str:
    """All tables, made anew in one transaction; the lease's rules come after it.

    ``fence`` sits behind everything that can leave the interface, raw sockets too: ARP and neighbour discovery whose
    sender is a VIP pass only while the process exists and the lease lives. So a killed engine is silent at once, a
    frozen one when its lease has run out. ``share`` sees packets for spread VIPs unless another engine has forwarded them
    already, so that two engines that both think they own a VIP never play ping-pong. A packet that came by asking is
    marked, its answer bears the mark too (``fwmark_reflect``), and if that is a reset it is dropped: another engine
    may have the connection.
    """
    return f"""
table {TABLE}
delete table {TABLE}
table {TABLE} {{
  set lease {{ type mark; flags dynamic,timeout; size 64; }}
  set peers {{ type ether_addr; }}
  set askers {{ type ether_addr; }}
  set live {{ type ether_addr; elements = {{ {mac} }}; }}
{"".join(_sets(family, idle_s, flows_max) for family in FAMILIES)}
  chain speaks {{
    meta mark != {ALIVE:#x} drop
    meta mark set {LEASED:#x} meta mark @lease accept
    drop
  }}
  chain fence {{
    type filter hook egress device "{interface}" priority 0; policy accept;
{FENCE}  }}
  chain ingress {{
    type filter hook ingress device "{interface}" priority 0; policy accept;
{INGRESS}  }}
}}
{sharing(mac, idle_s)}
{_life(LIFE)}
{_life(LIFE6, NEIGHBOUR_DISCOVERY) if kernel.has_ipv6() else ""}
table {RESETS}
delete table {RESETS}
table {RESETS} {{
  chain output {{
    type filter hook output priority 0; policy accept;
    meta mark {ASKED:#x} tcp flags & rst == rst drop
  }}
}}
"""


def beside(interface: str, index: int) -> str:
    """The same hooks on another interface of the engine's, with the MAC of the first; what they lead to is shared. Their
    names go by ``index``, the interface's."""
    return f"""
table {TABLE} {{
  chain fence_{index} {{ type filter hook egress device "{interface}" priority 0; policy accept; }}
  chain ingress_{index} {{ type filter hook ingress device "{interface}" priority 0; policy accept; }}
}}
flush chain {TABLE} fence_{index}
flush chain {TABLE} ingress_{index}
table {TABLE} {{
  chain fence_{index} {{
{FENCE}  }}
  chain ingress_{index} {{
{INGRESS}  }}
}}
"""


def not_beside(index: int) -> str:
    return f"delete chain {TABLE} fence_{index}\ndelete chain {TABLE} ingress_{index}\n"


def bucket_in_mark(protocol: str, family: Family = IPV4) -> str:
    """Rules that put a new flow's bucket into the packet's mark: of the table by load, or of the steady one behind it."""
    of, ip = family.suffix, family.ip
    by_both, seed = f"jhash {ip} saddr . {protocol} sport mod {BUCKETS}", f"seed {SEED:#x}"
    service = f"{ip} daddr . {protocol} dport"
    return f"""meta mark set {by_both} {seed}
    {service} @by_source_and_port{of} meta mark set {by_both} {seed} offset {BUCKETS}
    {service} @by_source{of} meta mark set jhash {ip} saddr mod {BUCKETS} {seed} offset {BUCKETS}"""


def _life(table: str, what: str = "") -> str:
    return f"""
table {table} {{
  flags owner;
  chain output {{
    type filter hook output priority -10; policy accept;
    {what} meta mark set {ALIVE:#x}
  }}
}}
"""


def _sets(family: Family, idle_s: int, flows_max: int) -> str:
    """What the rules of one family look up."""
    of, address = family.suffix, family.address
    names = [f"{chain}{of}" for chain in (*CHAINS, "datagrams")]
    if family is IPV6:
        names += map(flow_chain, lifetimes(idle_s))
    chains = "\n  ".join(f"chain {name} {{ }}" for name in names)
    return f"""
  set vips{of} {{ type {address}; }}
  set spread{of} {{ type {address}; }}
  set asking{of} {{ type {address}; flags timeout; }}
  set by_source{of} {{ type {address} . inet_service; flags interval; }}
  set by_source_and_port{of} {{ type {address} . inet_service; flags interval; }}
  map ask{of} {{ type {address} : verdict; }}
  map buckets{of} {{ type {address} . mark : ether_addr; }}
  map flows{of} {{
    type {address} . inet_service . {address} . inet_service : ether_addr
    flags dynamic,timeout; size {flows_max}; timeout {idle_s}s;
  }}
  {chains}
"""


def lifetimes(idle_s: int) -> dict[str, int]:
    """Turn of a flow's life -> how many seconds its entry lives from then on without a packet; 0: it ends."""
    return {"data": idle_s, "syn": SYN_S, "fin": FIN_S, "over": 0}


def flow_chain(turn: str) -> str:
    """The chain of the rule of `shoal.engine.guard.flow_rules` for this turn."""
    return f"flow_{turn}6"


def sharing(mac: str, idle_s: int) -> str:
    """The rules of the spreading itself; packets leave where they came in. ``idle_s``: how long a flow lives without a packet; a SYN's only `SYN_S`.

    While flows are being asked for the table is not believed: it may know them from an earlier time. Each address has
    two tables of buckets (`shoal.engine.guard.buckets`): the first by load, the second for ports of ``by_source`` and
    ``by_source_and_port``.
    """
    return "".join(_sharing(family, mac, idle_s) for family in FAMILIES)


def _sharing(family: Family, mac: str, idle_s: int) -> str:
    of, ip, flow = family.suffix, family.ip, family.flow("tcp")

    def entry(turn: str) -> str:
        """The flow's entry at this turn of its life."""
        if family is IPV6:
            return f"jump {flow_chain(turn)}"
        seconds = lifetimes(idle_s)[turn]
        return (
            f"update @flows {{ {flow} timeout {seconds}s : ether daddr }}"
            if seconds
            else f"delete @flows {{ {flow} : ether daddr }}"
        )

    def to_its_bucket(turn: str) -> str:
        return f"""
    {bucket_in_mark("tcp", family)}
    ether daddr set {ip} daddr . meta mark map @buckets{of}
    {entry(turn)}
    goto out{of}"""

    flushed = "\n".join(f"flush chain {TABLE} {chain}{of}" for chain in CHAINS)
    return f"""
{flushed}
table {TABLE} {{
  chain share{of} {{
    {family.errors} {ip} daddr vmap @ask{of}
    {family.udp} goto datagrams{of}
    {family.fragment} {ip} daddr vmap @ask{of}
    meta l4proto != tcp accept
    tcp flags & (syn|ack) == syn goto fresh{of}
    {ip} daddr @asking{of} {ip} daddr vmap @ask{of}
    ether daddr set {flow} map @flows{of} goto known{of}
    goto pick{of}
  }}
  chain known{of} {{
    ether daddr != @live goto fresh{of}
    {entry("data")}
    goto out{of}
  }}
  chain fresh{of} {{
    {entry("over")}{to_its_bucket("syn")}
  }}
  chain pick{of} {{{to_its_bucket("data")}
  }}
  chain out{of} {{
    meta mark set 0
    tcp flags & (fin|rst) != 0 {entry("fin")}
    ether daddr {mac} accept
    ether saddr set {mac} fwd to meta iif
  }}
}}
"""


def set_batch(name: str, old: Iterable[str], new: Iterable[str], table: str = TABLE) -> str:
    """Turn the elements of a set (or map: "key : value") from ``old`` into ``new``."""
    before, after = set(old), set(new)
    text = ""
    if gone := sorted(before - after):
        text += f"delete element {table} {name} {{ {', '.join(gone)} }}\n"
    if added := sorted(after - before):
        text += f"add element {table} {name} {{ {', '.join(added)} }}\n"
    return text


def address_batch(name: str, old: Iterable[str], new: Iterable[str]) -> str:
    """`set_batch` of addresses: each in the set of its family."""
    after = parted(name, new)
    return "".join(set_batch(set_of, before, after[set_of]) for set_of, before in parted(name, old).items())
