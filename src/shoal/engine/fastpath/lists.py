"""Lists of networks as sets of the kernel's, for rules on connections that it looks at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from shoal.wire.desired import Service
from shoal.wire.networks import Networks, networks

from .family import FAMILIES, Family
from .gate import PHASES, set_of
from .rules import Ruleset

NETWORKS_MAX = 100_000
"""Of one set: libnftables takes 1.5 s and 80 MB for so many, and ten times that for five times as many."""
Texts = dict[tuple[str, int], str]
"""(a set's name, version of IP) -> what the set is."""


async def texts(services: Iterable[Service], lists: Mapping[str, Networks], known: Texts) -> Texts:
    """Of the sets that rules on connections of these name, but for those that are too large; those that are ``known`` are
    made no more."""
    wanted = {set_of(ids): ids for service in services for ids in _named(service)}
    found: Texts = {}
    for name, ids in wanted.items():
        if (name, FAMILIES[0].version) in known:
            found |= {(name, one.version): known[name, one.version] for one in FAMILIES}
        else:
            parts = [lists[id] for id in ids if id in lists]
            found |= await asyncio.to_thread(_made, name, parts) if len(parts) == len(ids) else {}
    return found


def _named(service: Service) -> Iterator[tuple[str, ...]]:
    return (t.lists for rule in service.rules if rule.phase in PHASES for t in rule.tests if t.lists)


def refused(services: Mapping[str, Service], sets: Texts) -> dict[str, str]:
    """Service -> why the kernel can't look at its connections."""
    made = {name for name, _ in sets}
    why = f"Its rules on connections name lists of networks that are not here, or of more than {NETWORKS_MAX} together."
    return {id: why for id, service in services.items() if any(set_of(ids) not in made for ids in _named(service))}


def added(rules: Ruleset, sets: Texts, family: Family) -> Ruleset:
    """The rules with these sets: a rule may name each."""
    mine = {name: text for (name, version), text in sets.items() if version == family.version}
    return msgspec.structs.replace(rules, sets={**rules.sets, **mine}) if mine and rules.chains else rules


def _made(name: str, parts: Iterable[Networks]) -> Texts:
    found = dict.fromkeys(text for part in parts for text in networks(part))
    made: Texts = {}
    if len(found) > NETWORKS_MAX:
        return made
    for family in FAMILIES:
        mine = [text for text in found if (":" in text) == (family.version == 6)]
        elements = f" elements = {{ {', '.join(mine)} }}" if mine else ""
        made[name, family.version] = f"type {family.address}; flags interval; auto-merge;{elements}"
    return made
