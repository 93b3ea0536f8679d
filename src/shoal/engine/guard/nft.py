"""nftables without a fork: the kernel lease that fences the dead, and the spreading of flows over an engine's peers.

Source of the mechanisms and their figures: docs/architecture.md, "The data path".
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterable

log = logging.getLogger("shoal.guard.nft")

TABLE = "netdev shoal"
BUCKETS = 256
FLOWS_MAX = 262144
FIN_S = 20
"""How long a flow's entry stays after FIN or RST."""
SEED = 0xBEEF

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

    def tries(self, batch: bytes) -> bool:
        """Did the batch apply? For compare-and-set."""
        return not self._run(self._context, batch)


def ruleset(interface: str, mac: str, idle_s: int) -> str:
    """The whole table, made anew in one transaction.

    ``fence`` sits behind everything that can leave the interface, raw sockets too: ARP whose sender is a VIP passes
    only while the lease lives. ``share`` sees packets for spread VIPs unless another engine has forwarded them
    already, so that two engines that both think they own a VIP never play ping-pong.
    """
    flow = f"update @flows {{ {FLOW} timeout {idle_s}s : ether daddr }}"
    return f"""
table {TABLE}
delete table {TABLE}
table {TABLE} {{
  set lease {{ type ifname; flags timeout; }}
  set vips {{ type ipv4_addr; }}
  set spread {{ type ipv4_addr; }}
  set peers {{ type ether_addr; }}
  set live {{ type ether_addr; elements = {{ {mac} }}; }}
  map buckets {{ type ipv4_addr . mark : ether_addr; }}
  map former {{ type ipv4_addr : ether_addr; }}
  map flows {{
    type ipv4_addr . inet_service . ipv4_addr . inet_service : ether_addr
    flags dynamic,timeout; size {FLOWS_MAX}; timeout {idle_s}s;
  }}
  chain fence {{
    type filter hook egress device "{interface}" priority 0; policy accept;
    arp saddr ip @vips oifname != @lease drop
  }}
  chain ingress {{
    type filter hook ingress device "{interface}" priority 0; policy accept;
    ip daddr @spread ip protocol tcp ether saddr != @peers goto share
  }}
  chain share {{
    tcp flags & (syn|ack) == syn goto fresh
    ether daddr set {FLOW} map @flows goto known
    ether daddr set ip daddr map @former goto known
    goto pick
  }}
  chain known {{
    ether daddr != @live goto fresh
    {flow}
    goto out
  }}
  chain fresh {{
    delete @flows {{ {FLOW} : ether daddr }}
    goto pick
  }}
  chain pick {{
    meta mark set jhash ip saddr . tcp sport mod {BUCKETS} seed {SEED:#x}
    ether daddr set ip daddr . meta mark map @buckets
    {flow}
    goto out
  }}
  chain out {{
    meta mark set 0
    tcp flags & (fin|rst) != 0 update @flows {{ {FLOW} timeout {FIN_S}s : ether daddr }}
    ether daddr {mac} accept
    ether saddr set {mac} fwd to "{interface}"
  }}
}}
"""


class Lease:
    """One element for the whole engine: the cost of renewing it does not depend on the number of VIPs (75 µs)."""

    def __init__(self, nft: Nft, interface: str) -> None:
        self._nft = nft
        self._interface = interface
        self.set_length(200)

    def set_length(self, lease_ms: int) -> None:
        element = f'element {TABLE} lease {{ "{self._interface}" }}'
        new = f'add element {TABLE} lease {{ "{self._interface}" timeout {lease_ms}ms }}'
        # `add` first, so that `delete` finds something: adding again would not refresh the time-out
        self._acquire = f"add {element}; delete {element}; {new}".encode()
        self._renew = f"delete {element}; {new}".encode()
        self._drop = f"add {element}; delete {element}".encode()

    def acquire(self) -> None:
        self._nft.run(self._acquire)

    def renew(self) -> bool:
        """Compare and set in the kernel: False, and nothing is changed, if the lease has ended."""
        return self._nft.tries(self._renew)

    def drop(self) -> None:
        self._nft.run(self._drop)


def set_batch(name: str, old: Iterable[str], new: Iterable[str]) -> str:
    """Turn a set's elements from ``old`` into ``new``."""
    before, after = set(old), set(new)
    text = ""
    if gone := sorted(before - after):
        text += f"delete element {TABLE} {name} {{ {', '.join(gone)} }}\n"
    if added := sorted(after - before):
        text += f"add element {TABLE} {name} {{ {', '.join(added)} }}\n"
    return text
