"""The kernel lease that fences a frozen guard: what the engine says as a VIP's owner leaves only while it lives.

It is an element with a time-out in an nftables set. Packets renew it, not transactions: the guard sends itself a datagram
over ``lo`` whose mark says what to do, and a rule of the egress hook does it before the system call returns. That takes
a few microseconds and no lock of nftables, so nothing else that works on the tables, and no load, can make a renewal
late (docs/decisions/0008-packets-renew-the-lease.md).
"""

from __future__ import annotations

import errno
import logging
import socket

from shoal.engine.guard.nft import LEASED, TABLE, Nft
from shoal.observe import frames

log = logging.getLogger("shoal.guard.lease")

ACQUIRE, RENEW, DROP = 0x5A10, 0x5A11, 0x5A12
"""Marks of the datagrams."""
IP_RECVERR = 11
NOTHING = ((0x06, 0, 0, 0),)
"""Classic BPF: keep no byte of what comes."""


def rules(lease_ms: int) -> str:
    """The chain anew. The set's one key is `LEASED`: each rule turns the packet's mark into it first."""
    renew = f"update @lease {{ meta mark timeout {lease_ms}ms }} accept"
    return f"""
add chain {TABLE} renewal {{ type filter hook egress device "lo" priority 0; policy accept; }}
flush chain {TABLE} renewal
add rule {TABLE} renewal meta mark {ACQUIRE:#x} meta mark set {LEASED:#x} {renew}
add rule {TABLE} renewal meta mark {RENEW:#x} meta mark set {LEASED:#x} meta mark @lease {renew}
add rule {TABLE} renewal meta mark {DROP:#x} meta mark set {LEASED:#x} delete @lease {{ meta mark }} accept
add rule {TABLE} renewal meta mark {{ {ACQUIRE:#x}, {RENEW:#x}, {LEASED:#x} }} drop
"""


class Lease:
    """One lease for the whole engine: the cost of renewing it does not depend on the number of VIPs."""

    def __init__(self, nft: Nft) -> None:
        self._nft = nft
        self._length = 0
        self._acquire, self._renew, self._drop = (_marked(mark) for mark in (ACQUIRE, RENEW, DROP))
        self.set_length(200)

    def set_length(self, lease_ms: int) -> None:
        """From the next renewal on. Raises `NftError`."""
        if lease_ms != self._length:
            self._nft.run(rules(lease_ms).encode())
            self._length = lease_ms

    def acquire(self) -> None:
        """Whether or not there is one. Raises OSError."""
        self._acquire.send(b"")

    def renew(self) -> bool:
        """Compare and set in the kernel: False, and nothing is changed, if the lease has ended."""
        try:
            self._renew.send(b"")
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # ENOBUFS: a rule has dropped the datagram
                log.error("lease not renewed: %s", error)
            return False
        return True

    def drop(self) -> None:
        """One that has ended already is fine. Raises OSError."""
        self._drop.send(b"")


def _marked(mark: int) -> socket.socket:
    """Connected to itself. Not a packet socket: the kernel takes some 15 ms to close one, and when a killed guard's
    descriptors are closed, the end of its sessions must come at once."""
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    datagrams.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)  # else a drop is not told
    frames.attach(datagrams, NOTHING)
    datagrams.bind(("127.0.0.1", 0))
    datagrams.connect(datagrams.getsockname())
    return datagrams
