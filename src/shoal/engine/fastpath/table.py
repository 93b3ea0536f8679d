"""Puts a `Ruleset` into the kernel, piece by piece, and reads its counters. The table is gone while there is none."""

from __future__ import annotations

import logging
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from shoal.engine.guard.flow_rules import FlowRules
from shoal.engine.guard.netlink import attribute
from shoal.engine.guard.nft import Nft, NftError

from . import kept
from .family import IPV4, Family
from .netfilter import answers, nested, request
from .rules import Ruleset, Timeouts

log = logging.getLogger("shoal.fastpath.table")

GETCHAIN, GETSET, GETOBJ = 10 << 8 | 4, 10 << 8 | 10, 10 << 8 | 19
"""And below: linux/netfilter/nf_tables.h."""
NFTA_TABLE = 1
"""Whose a chain, a set or an object is."""
NFTA_CHAIN_NAME, NFTA_SET_NAME, NFTA_SET_FLAGS = 3, 2, 3
NFT_SET_ANONYMOUS, NFT_SET_MAP = 1, 8
NFTA_OBJ_NAME, NFTA_OBJ_TYPE, NFTA_OBJ_DATA = 2, 3, 4
OBJECT_COUNTER, COUNTER_BYTES, COUNTER_PACKETS, OBJECT_LIMIT = 1, 1, 2, 4
NOTHING = Ruleset({}, frozenset(), frozenset())


class Table:
    """One owner. Every change is one transaction. What a former agent left is replaced by the first `put`, but for the flows in
    its maps, if some are wanted. ``name``: with nft's word for its family; ``number``: the kernel's."""

    def __init__(self, family: Family = IPV4, name: str = "", number: int = 0) -> None:
        self.family = family
        self._name, self._number = name or family.table, number or family.number
        self._nft: Nft | None = None
        self._there = NOTHING
        self._known = False
        """Whether what is in the kernel is ours to the letter."""
        self._alone = threading.Lock()
        """A thread whose waiter was cancelled goes on, and libnftables' context is for one at a time."""

    @property
    def present(self) -> bool:
        """Whether there is a table."""
        return bool(self._there.chains)

    def put(self, wanted: Ruleset) -> bool:
        """Raises NftError; then the rules of before hold. False: nothing was to be done."""
        with self._alone:
            return self._put(wanted)

    def _put(self, wanted: Ruleset) -> bool:
        if self._known and wanted == self._there:
            return False
        if not self._steps(wanted) and not self._clears(wanted):
            self._kernel().run(_whole(self._name, self.family, wanted).encode())
            self._keep(wanted.keeping)
        self._there, self._known = wanted, True
        return True

    def _steps(self, wanted: Ruleset) -> bool:
        """Changes what differs. False: nothing was done."""
        there = self._there
        if not (self._known and self.present and wanted.chains) or there.interfaces != wanted.interfaces:
            return False
        if not self._kernel().tries(_step(self._name, self.family, there, wanted).encode()):
            return False
        self._keep({chain: what for chain, what in wanted.keeping.items() if chain not in there.keeping})
        return True

    def _clears(self, wanted: Ruleset) -> bool:
        """All anew but the flows in its maps: they are an agent's before this one, or an interface has been made anew, or is gone
        and has taken its chain with it. False: nothing was done."""
        left = self._left() if wanted.maps else NOTHING
        if not left.maps:
            return False
        text = _cleared(self._name, left) + _step(
            self._name,
            self.family,
            msgspec.structs.replace(NOTHING, maps={name: wanted.maps.get(name, "") for name in left.maps}),
            wanted,
        )
        if not self._kernel().tries(text.encode()):
            return False
        self._keep(wanted.keeping)
        return True

    def _keep(self, chains: Mapping[str, tuple[str, int]]) -> None:
        """Their rules. A flow that is not kept follows the hash. Raises NftError; then what is there is not known."""
        for flows in {flows for flows, _ in chains.values()}:
            try:
                FlowRules(self._name.split()[1], flows, by_mark=True).set(
                    {chain: seconds for chain, (of, seconds) in chains.items() if of == flows}
                )
            except OSError as error:
                self._known = False
                raise NftError(error.errno, str(error)) from None

    def _left(self) -> Ruleset:
        """The names of what is there."""
        table = self._name.split()[1]
        try:
            chains = [_text(one, NFTA_CHAIN_NAME) for one in self._all(GETCHAIN, table)]
            sets = {_text(one, NFTA_SET_NAME): int.from_bytes(one[NFTA_SET_FLAGS]) for one in self._all(GETSET, table)}
            objects = [(int.from_bytes(o[NFTA_OBJ_TYPE]), _text(o, NFTA_OBJ_NAME)) for o in self._all(GETOBJ, table)]
        except (OSError, KeyError) as error:
            log.warning("%s: what was there is not known: %s", table, error)
            return NOTHING
        named = {name: flags for name, flags in sets.items() if not flags & NFT_SET_ANONYMOUS}
        return Ruleset(
            dict.fromkeys(chains, ("", "?")),
            frozenset(name for kind, name in objects if kind == OBJECT_COUNTER),
            frozenset(),
            {name: "" for name, flags in named.items() if not flags & NFT_SET_MAP},
            {name: "" for kind, name in objects if kind == OBJECT_LIMIT},
            {name: "" for name, flags in named.items() if flags & NFT_SET_MAP},
        )

    def _all(self, asked: int, table: str) -> Iterator[dict[int, bytes]]:
        """The chains, sets or objects of the table."""
        for data in answers(request(asked, b"", dump=True, family=self._number)):
            found = nested(data)
            if _text(found, NFTA_TABLE) == table:
                yield found

    def counted(self) -> dict[str, tuple[int, int]]:
        """Counter -> (packets, bytes)."""
        if not self.present:
            return {}
        try:
            return dict(counters(self._name, self._number))
        except OSError as error:
            log.warning("the counters can't be read: %s", error)
            return {}

    def flows(self) -> Counter[int]:
        """Mark -> how many flows its maps keep. Raises OSError."""
        return sum((kept.count(self.family, one) for one in self._there.maps), Counter())

    def _kernel(self) -> Nft:
        if self._nft is None:
            self._nft = Nft()
        return self._nft


def counters(table: str, family: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """(name, (packets, bytes)) of a table's (``ip shoal_fast``) named counters. Raises OSError.

    By netlink: libnftables would read every table of the namespace first, a guard's 100,000 flows too.
    """
    name = table.split()[1].encode()
    asked = attribute(NFTA_TABLE, name + b"\0") + attribute(NFTA_OBJ_TYPE, struct.pack("!I", OBJECT_COUNTER))
    for data in answers(request(GETOBJ, asked, dump=True, family=family)):
        found = nested(data)
        counts = nested(found.get(NFTA_OBJ_DATA, b""))
        octets, packets = (int.from_bytes(counts.get(kind, b"")) for kind in (COUNTER_BYTES, COUNTER_PACKETS))
        yield _text(found, NFTA_OBJ_NAME), (packets, octets)


def _text(found: Mapping[int, bytes], kind: int) -> str:
    return found.get(kind, b"").rstrip(b"\0").decode()


def _whole(table: str, family: Family, wanted: Ruleset) -> str:
    text = f"add table {table}\ndelete table {table}\n"
    return text + (f"add table {table}\n{_step(table, family, NOTHING, wanted)}" if wanted.chains else "")


def _cleared(table: str, there: Ruleset) -> str:
    """Without all but its maps."""
    text = "".join(f"flush chain {table} {name}\n" for name in there.chains)
    text += "".join(f"delete chain {table} {name}\n" for name in there.chains)
    for kind, names in (("counter", there.counters), ("limit", there.limits), ("set", there.sets)):
        text += "".join(f"delete {kind} {table} {name}\n" for name in names)
    return text


def _step(table: str, family: Family, there: Ruleset, wanted: Ruleset) -> str:
    """What is used is made before, what is not used any more goes after."""
    text = "".join(f"add counter {table} {name}\n" for name in sorted(wanted.counters - there.counters))
    text += "".join(_timeout(table, family, one) for one in sorted(wanted.timeouts - there.timeouts))
    text += "".join(f"add set {table} {name} {{ {wanted.sets[name]} }}\n" for name in _new(there.sets, wanted.sets))
    text += "".join(f"add map {table} {name} {{ {wanted.maps[name]} }}\n" for name in _new(there.maps, wanted.maps))
    text += "".join(
        f"add limit {table} {name} {{ {wanted.limits[name]} }}\n" for name in _new(there.limits, wanted.limits)
    )
    changed = {name: chain for name, chain in wanted.chains.items() if there.chains.get(name) != chain}
    for name, (hook, _) in changed.items():
        text += f"add chain {table} {name}" + (f" {{ {hook}; }}\n" if hook else "\n")
    gone = sorted(there.chains.keys() - wanted.chains.keys())
    text += "".join(f"flush chain {table} {name}\n" for name in (*changed, *gone) if name in there.chains)
    rules = [f"  chain {name} {{\n        {rules}\n  }}" for name, (_, rules) in changed.items() if rules]
    if rules:
        text += f"table {table} {{\n" + "\n".join(rules) + "\n}\n"
    text += "".join(f"delete chain {table} {name}\n" for name in gone)
    text += "".join(f"delete counter {table} {name}\n" for name in sorted(there.counters - wanted.counters))
    text += "".join(f"delete set {table} {name}\n" for name in _new(wanted.sets, there.sets))
    text += "".join(f"delete map {table} {name}\n" for name in _new(wanted.maps, there.maps))
    text += "".join(f"delete limit {table} {name}\n" for name in _new(wanted.limits, there.limits))
    unused = sorted(there.timeouts - wanted.timeouts)
    return text + "".join(f"delete ct timeout {table} {one.name}\n" for one in unused)


def _new(there: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """The name of a set or a limit says what it is: one that is there stays, with what it has counted."""
    return sorted(wanted.keys() - there.keys())


def _timeout(table: str, family: Family, one: Timeouts) -> str:
    head = (
        f"ct timeout {one.name} {{\n  protocol {one.protocol}; l3proto {family.ip}; policy = {{ {one.policy} }}\n  }}"
    )
    return f"table {table} {{\n  {head}\n}}\n"
