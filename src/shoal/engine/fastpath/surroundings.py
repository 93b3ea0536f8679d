"""The networks that an engine is in."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
from collections.abc import Iterable

from shoal.engine.guard.returns import reach4, reach6
from shoal.wire.desired import Interface

from .plan import Near

log = logging.getLogger("shoal.fastpath")


def numbers(interfaces: Iterable[str]) -> dict[str, int]:
    """The kernel's number of each that is there."""
    found = {}
    for name in interfaces:
        with contextlib.suppress(OSError):
            found[name] = socket.if_nametoindex(name)
    return found


def near(interface: str, beside: Iterable[Interface]) -> tuple[Near, ...]:
    """Those of its data interface, as the kernel has them, and those of other interfaces that are there. The narrowest come
    first."""
    found = [(network, interface) for network in reach6(interface).networks]
    try:
        found += [(network, interface) for network in reach4(interface, "").networks]
    except OSError as error:
        log.warning("%s has no IPv4 address: %s", interface, error)
    there = numbers(one.name for one in beside)
    found += [(text, one.name) for one in beside if one.name in there for text in one.addresses]
    parsed = [Near(ipaddress.ip_interface(text).network, name) for text, name in found]
    return tuple(sorted(parsed, key=lambda one: -one.network.prefixlen))
