"""How the process and its network namespace are set up before it answers for anything."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
from pathlib import Path

log = logging.getLogger("shoal.guard.kernel")

REAL_TIME_PRIORITY = 10
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4

SYSCTLS = {
    "net/ipv4/conf/all/arp_ignore": "1",  # answer only for addresses on the interface that was asked: `lo` is silent
    "net/ipv4/conf/all/arp_announce": "2",  # never speak of a VIP in a question of one's own
    "net/ipv4/fwmark_reflect": "1",  # the answer to a marked packet bears its mark
    "net/ipv4/ip_nonlocal_bind": "1",  # HAProxy binds VIPs before they are here
    "net/ipv6/fwmark_reflect": "1",
    "net/ipv6/ip_nonlocal_bind": "1",
    "net/ipv6/conf/all/keep_addr_on_down": "1",  # as IPv4 does: a VIP outlives its interface's going down and up
    # IPv6 asks and answers for addresses of the interface alone: `lo` is silent by itself (measured, Linux 6.18)
}


def has_ipv6() -> bool:
    return Path("/proc/sys/net/ipv6").exists()


def set_sysctls() -> None:
    for name, value in SYSCTLS.items():
        if name.startswith("net/ipv6/") and not has_ipv6():
            continue
        try:
            Path("/proc/sys", name).write_text(value)
        except OSError as error:
            log.error("cannot set %s=%s: %s; a VIP on lo may be answered for", name.replace("/", "."), value, error)


def prefer() -> None:
    """Real-time priority and memory that stays: a busy machine must not look like a dead one. Without the right to
    it, the guard runs as any process (measured: 100 ms heartbeats hold without it, 20 ms ones do not). Guards of one
    machine's engines take turns (sched(7), SCHED_RR): what one has to do for a thousand VIPs does not hold up the others."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(REAL_TIME_PRIORITY))
    except OSError as error:
        log.warning("no real-time priority (%s)", error)
    if ctypes.CDLL(None).mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT):
        log.info("memory is not locked")
    gc.collect()
    gc.freeze()
