"""Copies of what goes between an engine and servers, for a machine that listens: as nftables rules. Pure.

The kernel sends a copy as it is, addressed to the listener's MAC alone, as a mirror port of a switch would. A flow is known by
its server: of one that several virtual services have, the packets of all of them are copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from shoal.wire.desired import Service

from .family import Family, address_of
from .gate import joined
from .rules import Ruleset

FIRST, LAST = -310, 310
"""Before all else that is done to what comes, after all that is done to what goes: a copy is what servers see."""


def added(rules: Ruleset, services: Iterable[Service], family: Family) -> Ruleset:
    """The rules with those that copy. Addresses that are none are passed over: they have been refused elsewhere."""
    wanted = [
        (sockets, to) for one in services if (to := _listeners(one, family)) and (sockets := _sockets(one, family))
    ]
    if not wanted:
        return rules
    chains = {
        f"copied_{way}": (
            f"type filter hook {hook} priority {priority}",
            "\n        ".join(
                f"meta l4proto {{ tcp, udp }} {family.ip} {end}addr . th {end}port {{ {sockets} }} dup to {to}"
                for sockets, to in wanted
            ),
        )
        for way, hook, priority, end in (("in", "prerouting", FIRST, "s"), ("out", "postrouting", LAST, "d"))
    }
    return msgspec.structs.replace(rules, chains={**rules.chains, **chains})


def _listeners(service: Service, family: Family) -> str:
    """Who gets a packet: both ways of a flow the same one."""
    found = [
        str(one) for one in map(address_of, service.copies_to) if one is not None and one.version == family.version
    ]
    if len(found) < 2:
        return found[0] if found else ""
    return f"symhash mod {len(found)} map {{ {', '.join(f'{number} : {one}' for number, one in enumerate(found))} }}"


def _sockets(service: Service, family: Family) -> str:
    """Ranges of several pools may overlap, and a kernel set takes none that do."""
    ports: dict[str, list[tuple[int, int]]] = {}
    for address, first, last in _servers(service, family):
        ports.setdefault(address, []).append((first, last))
    return ", ".join(f"{address} . {text}" for address, found in ports.items() for text in joined(found))


def _servers(service: Service, family: Family) -> Iterator[tuple[str, int, int]]:
    for _, pool, server in service.servers:
        address = address_of(server.address)
        if address is None or address.version != family.version:
            continue
        if not pool.service_port:
            yield str(address), int(server.port), int(server.port)
        else:
            for one in service.listeners:
                yield str(address), int(one.port), int(one.port_end)
