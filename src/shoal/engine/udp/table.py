"""Puts a `Ruleset` into the kernel, piece by piece, and reads its counters. The table is gone while there is none."""

from __future__ import annotations

import json
import logging

from shoal.engine.guard.nft import Nft, NftError

from .rules import Ruleset, timeout

log = logging.getLogger("shoal.udp.table")

TABLE = "ip shoal_udp"
NOTHING = Ruleset({}, frozenset(), frozenset())


class Table:
    """One owner. Every change is one transaction. What a former agent left is replaced by the first `put`."""

    def __init__(self) -> None:
        self._nft: Nft | None = None
        self._there = NOTHING
        self._known = False
        """Whether what is in the kernel is ours to the letter."""

    @property
    def present(self) -> bool:
        """Whether there is a table."""
        return bool(self._there.chains)

    def put(self, wanted: Ruleset) -> bool:
        """Raises NftError; then the rules of before hold. False: nothing was to be done."""
        if self._known and wanted == self._there:
            return False
        batch = _whole(wanted) if not (self._known and self.present and wanted.chains) else _step(self._there, wanted)
        self._kernel().run(batch.encode())
        self._there, self._known = wanted, True
        return True

    def counted(self) -> dict[str, tuple[int, int]]:
        """Counter -> (packets, bytes)."""
        if not self.present:
            return {}
        try:
            found = json.loads(self._kernel().ask(f"list counters table {TABLE}".encode()))
        except (NftError, ValueError) as error:
            log.warning("the counters can't be read: %s", error)
            return {}
        entries = (entry["counter"] for entry in found["nftables"] if "counter" in entry)
        return {entry["name"]: (entry["packets"], entry["bytes"]) for entry in entries}

    def _kernel(self) -> Nft:
        if self._nft is None:
            self._nft = Nft()
        return self._nft


def _whole(wanted: Ruleset) -> str:
    text = f"add table {TABLE}\ndelete table {TABLE}\n"
    return text + (f"add table {TABLE}\n{_step(NOTHING, wanted)}" if wanted.chains else "")


def _step(there: Ruleset, wanted: Ruleset) -> str:
    """What is used is made before, what is not used any more goes after."""
    text = "".join(f"add counter {TABLE} {name}\n" for name in sorted(wanted.counters - there.counters))
    text += "".join(_timeout(seconds) for seconds in sorted(wanted.timeouts - there.timeouts))
    changed = {name: chain for name, chain in wanted.chains.items() if there.chains.get(name) != chain}
    for name, (hook, _) in changed.items():
        text += f"add chain {TABLE} {name}" + (f" {{ {hook}; }}\n" if hook else "\n")
    gone = sorted(there.chains.keys() - wanted.chains.keys())
    text += "".join(f"flush chain {TABLE} {name}\n" for name in (*changed, *gone) if name in there.chains)
    rules = [f"  chain {name} {{\n        {rules}\n  }}" for name, (_, rules) in changed.items() if rules]
    if rules:
        text += f"table {TABLE} {{\n" + "\n".join(rules) + "\n}\n"
    text += "".join(f"delete chain {TABLE} {name}\n" for name in gone)
    text += "".join(f"delete counter {TABLE} {name}\n" for name in sorted(there.counters - wanted.counters))
    unused = sorted(there.timeouts - wanted.timeouts)
    return text + "".join(f"delete ct timeout {TABLE} {timeout(seconds)}\n" for seconds in unused)


def _timeout(seconds: int) -> str:
    policy = f"policy = {{ unreplied : {seconds}, replied : {seconds} }}"
    return f"table {TABLE} {{\n  ct timeout {timeout(seconds)} {{\n  protocol udp; l3proto ip; {policy}\n  }}\n}}\n"
