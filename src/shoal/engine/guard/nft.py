"""nftables without a fork: the fence that silences the dead, and the spreading of flows over an engine's peers.

Source of the mechanisms and their figures: docs/architecture.md, "The data path".
"""

from __future__ import annotations

import ctypes
import logging
import time
from collections.abc import Iterable

from shoal.engine.guard.buckets import BUCKETS

log = logging.getLogger("shoal.guard.nft")

TABLE = "netdev shoal"
RESETS = "inet shoal"
LIFE = "arp shoal_life"
"""Owned by this process (``flags owner``): the kernel removes it the moment the process is gone, however it ends."""
ALIVE = 0x5A0B
"""The mark of ARP that leaves while the process lives: the kernel's by a rule, the guard's own by its socket."""
LEASED = 0x5A0C
"""What the lease is held for (`lease.py`): the only key of its set, compared with a packet's mark."""
ASKED = 0x5A0A
"""The mark of a packet that was handed to every member: whoever has no socket for it keeps quiet."""
SYN_S = 30
"""How long a flow's entry lives after its SYN, until a second packet comes: a SYN flood does not fill the table."""
FIN_S = 20
"""How long a flow's entry stays after FIN or RST."""
SEED = 0xBEEF
RUN_SOON_TRIES = 20
RUN_SOON_GAP_S = 0.01

FLOW = "ip saddr . tcp sport . ip daddr . tcp dport"


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

    ``fence`` sits behind everything that can leave the interface, raw sockets too: ARP whose sender is a VIP passes
    only while the process exists and the lease lives. So a killed engine is silent at once, a frozen one when its
    lease has run out. ``share`` sees packets for spread VIPs unless another engine has forwarded them
    already, so that two engines that both think they own a VIP never play ping-pong. A packet that came by asking is
    marked, its answer bears the mark too (``fwmark_reflect``), and if that is a reset it is dropped: another engine
    may have the connection.
    """
    return f"""
table {TABLE}
delete table {TABLE}
table {TABLE} {{
  set lease {{ type mark; flags dynamic,timeout; size 64; }}
  set vips {{ type ipv4_addr; }}
  set spread {{ type ipv4_addr; }}
  set peers {{ type ether_addr; }}
  set askers {{ type ether_addr; }}
  set live {{ type ether_addr; elements = {{ {mac} }}; }}
  set asking {{ type ipv4_addr; flags timeout; }}
  set by_source {{ type ipv4_addr . inet_service; flags interval; }}
  set by_source_and_port {{ type ipv4_addr . inet_service; flags interval; }}
  map ask {{ type ipv4_addr : verdict; }}
  map buckets {{ type ipv4_addr . mark : ether_addr; }}
  map flows {{
    type ipv4_addr . inet_service . ipv4_addr . inet_service : ether_addr
    flags dynamic,timeout; size {flows_max}; timeout {idle_s}s;
  }}
  chain datagrams {{ }}
  chain share {{ }}
  chain known {{ }}
  chain fresh {{ }}
  chain pick {{ }}
  chain out {{ }}
  chain speaks {{
    arp saddr ip != @vips accept
    meta mark != {ALIVE:#x} drop
    meta mark set {LEASED:#x} meta mark @lease accept
    drop
  }}
  chain fence {{
    type filter hook egress device "{interface}" priority 0; policy accept;
    ether type arp goto speaks
  }}
  chain ingress {{
    type filter hook ingress device "{interface}" priority 0; policy accept;
    ether saddr @askers meta mark set {ASKED:#x} accept
    ip daddr @spread ether saddr != @peers goto share
  }}
}}
{sharing(interface, mac, idle_s)}
table {LIFE} {{
  flags owner;
  chain output {{
    type filter hook output priority -10; policy accept;
    meta mark set {ALIVE:#x}
  }}
}}
table {RESETS}
delete table {RESETS}
table {RESETS} {{
  chain output {{
    type filter hook output priority 0; policy accept;
    meta mark {ASKED:#x} tcp flags & rst == rst drop
  }}
}}
"""


def bucket_in_mark(protocol: str) -> str:
    """Rules that put a new flow's bucket into the packet's mark: of the table by load, or of the steady one behind it."""
    by_both, seed = f"jhash ip saddr . {protocol} sport mod {BUCKETS}", f"seed {SEED:#x}"
    service = f"ip daddr . {protocol} dport"
    return f"""meta mark set {by_both} {seed}
    {service} @by_source_and_port meta mark set {by_both} {seed} offset {BUCKETS}
    {service} @by_source meta mark set jhash ip saddr mod {BUCKETS} {seed} offset {BUCKETS}"""


def sharing(interface: str, mac: str, idle_s: int) -> str:
    """The rules of the spreading itself. ``idle_s``: how long a flow lives without a packet; a SYN's only `SYN_S`.

    While flows are being asked for the table is not believed: it may know them from an earlier time. Each address has
    two tables of buckets (`shoal.engine.guard.buckets`): the first by load, the second for ports of ``by_source`` and
    ``by_source_and_port``.
    """

    def to_its_bucket(timeout_s: int) -> str:
        return f"""
    {bucket_in_mark("tcp")}
    ether daddr set ip daddr . meta mark map @buckets
    update @flows {{ {FLOW} timeout {timeout_s}s : ether daddr }}
    goto out"""

    flushed = "\n".join(f"flush chain {TABLE} {name}" for name in ("share", "known", "fresh", "pick", "out"))
    return f"""
{flushed}
table {TABLE} {{
  chain share {{
    ip protocol icmp icmp type {{ destination-unreachable, time-exceeded, parameter-problem }} ip daddr vmap @ask
    ip protocol udp goto datagrams
    ip frag-off & 0x3fff != 0 ip daddr vmap @ask
    ip protocol != tcp accept
    tcp flags & (syn|ack) == syn goto fresh
    ip daddr @asking ip daddr vmap @ask
    ether daddr set {FLOW} map @flows goto known
    goto pick
  }}
  chain known {{
    ether daddr != @live goto fresh
    update @flows {{ {FLOW} timeout {idle_s}s : ether daddr }}
    goto out
  }}
  chain fresh {{
    delete @flows {{ {FLOW} : ether daddr }}{to_its_bucket(SYN_S)}
  }}
  chain pick {{{to_its_bucket(idle_s)}
  }}
  chain out {{
    meta mark set 0
    tcp flags & (fin|rst) != 0 update @flows {{ {FLOW} timeout {FIN_S}s : ether daddr }}
    ether daddr {mac} accept
    ether saddr set {mac} fwd to "{interface}"
  }}
}}
"""


def set_batch(name: str, old: Iterable[str], new: Iterable[str]) -> str:
    """Turn a set's elements from ``old`` into ``new``."""
    before, after = set(old), set(new)
    text = ""
    if gone := sorted(before - after):
        text += f"delete element {TABLE} {name} {{ {', '.join(gone)} }}\n"
    if added := sorted(after - before):
        text += f"add element {TABLE} {name} {{ {', '.join(added)} }}\n"
    return text
