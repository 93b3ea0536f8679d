"""Puts `Spread` into the kernel: buckets, members alive, flows, and whom to ask for flows that nobody knows."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from shoal.engine.guard.buckets import BUCKETS, deal, settled
from shoal.engine.guard.family import of, parted
from shoal.engine.guard.nft import ASKED, TABLE, Nft, NftError, address_batch, asker, set_batch
from shoal.engine.guard.steady import Steady
from shoal.ownership.events import Spread
from shoal.wire.guard import Sharing

log = logging.getLogger("shoal.guard.spread")

ASK_S_MAX = 10
"""The kernel ends the asking by itself after this time."""

Macs = set[str]
Flow = tuple[str, int, int]
"""(client's address, client's port, the VIP's port)."""


class Spreader:
    """``macs``: engine id -> MAC, this engine's own included; set by `know`. Each change is one transaction."""

    def __init__(self, nft: Nft, engine: str, mac: str) -> None:
        self._nft = nft
        self._engine = engine
        self._macs = {engine: mac}
        self._mac = mac
        self._peers: set[str] = set()
        self._askers: set[str] = set()
        self._live: set[str] = {mac}
        self._spreads: dict[str, Spread] = {}
        self._steady = Steady()
        self._weights: dict[str, dict[str, int]] = {}  # VIP -> engine -> thousandths of an equal share
        self.changes = 0
        self._tables: dict[str, tuple[str, ...]] = {}  # address -> MACs by bucket
        self._asked: dict[str, tuple[str, ...]] = {}  # address -> MACs that get what nobody knows

    def know(self, macs: dict[str, str]) -> None:
        self._macs = {**{k: v.lower() for k, v in macs.items() if v}, self._engine: self._mac}
        peers = set(self._macs.values()) - {self._mac}
        askers = {asker(mac) for mac in peers}
        self._run(set_batch("peers", self._peers, peers) + set_batch("askers", self._askers, askers))
        self._peers, self._askers = peers, askers

    def set(self, spread: Spread) -> bool:
        """A VIP that is served by this engine alone is not in the kernel's tables at all, and costs nothing.

        True if spreading begins: until all engines concerned have said which flows are theirs, and `settle` is
        called, packets of unknown flows go to each of them.
        """
        mac = self._macs
        members = self._members(spread)
        others = tuple(
            dict.fromkeys(mac[e] for e in (*spread.members, *spread.draining) if mac.get(e, "") != self._mac)
        )
        old = self._spreads.get(spread.vip)
        if not others or not members:
            self._apply(self._leave(self._spreads.pop(spread.vip)) if old is not None else "")
            return False
        text = self._gone(tuple(a for a in old.addresses if a not in spread.addresses)) if old is not None else ""
        for address in spread.addresses:
            text += self._deal(spread, address) + self._ask(address, others)
        text += address_batch("spread", old.addresses if old else (), spread.addresses)
        begins = old is None
        if begins:
            for name, addresses in parted("asking", spread.addresses).items():
                elements = ", ".join(f"{address} timeout {ASK_S_MAX}s" for address in addresses)
                text += f"add element {TABLE} {name} {{ {elements} }}\n" if elements else ""
        self._spreads[spread.vip] = spread
        self._apply(text)
        return begins

    def share(self, wanted: Iterable[Sharing]) -> None:
        """Which ports' flows are not shared by load. Of a VIP that is spread now it counts for new flows at once."""
        self._deal_anew(self._steady.want(wanted))

    def weigh(self, weights: dict[str, dict[str, int]]) -> None:
        """VIP -> engine -> thousandths of an equal share of new flows by load. At once, also for VIPs spread later."""
        before, self._weights = self._weights, weights
        self._deal_anew(vip for vip in {**before, **weights} if before.get(vip) != weights.get(vip))

    def _deal_anew(self, vips: Iterable[str]) -> None:
        for vip in vips:
            spread = self._spreads.get(vip)
            if spread is not None:
                try:
                    self._run("".join(self._deal(spread, address) for address in spread.addresses))
                except NftError as error:  # flows go on by the shares they had
                    log.error("%s: shares can't be changed: %s", vip, error)

    def spread(self, vip: str) -> Spread | None:
        return self._spreads.get(vip)

    def drop(self, vip: str) -> None:
        spread = self._spreads.pop(vip, None)
        if spread is not None:
            self._apply(self._leave(spread))

    def load(self, address: str, engine: str, flows: Iterable[Flow], idle_s: int) -> None:
        """These flows to ``address`` are ``engine``'s, whatever the table says: what it knows of the time before this
        engine spread the VIP is stale, and a socket is not."""
        mac = self._macs.get(engine)
        if mac is None:
            return
        keys = [f"{client} . {port} . {address} . {service}" for client, port, service in flows]
        table = f"{TABLE} {of('flows', address)}"
        if keys and not self._adds(table, mac, keys, idle_s):
            for key in keys:
                if not self._adds(table, mac, [key], idle_s):
                    self._nft.tries(f"delete element {table} {{ {key} }}".encode())
                    self._adds(table, mac, [key], idle_s)

    def _adds(self, table: str, mac: str, keys: list[str], idle_s: int) -> bool:
        elements = ", ".join(f"{key} timeout {idle_s}s : {mac}" for key in keys)
        return self._nft.tries(f"add element {table} {{ {elements} }}".encode())

    def settle(self, vip: str) -> None:
        """The asking is over: a packet of a flow nobody has spoken of gets the answer it deserves."""
        spread = self._spreads.get(vip)
        for address in spread.addresses if spread is not None else ():
            self._nft.tries(f"delete element {TABLE} {of('asking', address)} {{ {address} }}".encode())

    def _leave(self, spread: Spread) -> str:
        return address_batch("spread", spread.addresses, ()) + self._gone(spread.addresses)

    def _gone(self, addresses: tuple[str, ...]) -> str:
        return "".join(
            self._table(address, ()) + self._ask(address, ()) + self._steady.batch("", address) for address in addresses
        )

    def prune(self, change: int) -> None:
        """Flows of engines that are in no spread any more are dealt anew, unless something changed since ``change``.

        Called a moment after the change: an engine that only seemed dead keeps its connections.
        """
        if change == self.changes:
            live = self._present()
            self._run(set_batch("live", self._live, live))
            self._live = live

    def _apply(self, text: str) -> None:
        self.changes += 1
        live = self._live | self._present()
        self._run(text + set_batch("live", self._live, live))
        self._live = live

    def _present(self) -> Macs:
        engines = {self._engine}
        for spread in self._spreads.values():
            engines.update(spread.members, spread.draining)
        return {self._macs[e] for e in engines if e in self._macs}

    def _members(self, spread: Spread) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._macs[m] for m in spread.members if m in self._macs))

    def _deal(self, spread: Spread, address: str) -> str:
        members = self._members(spread)
        weights = {self._macs[e]: w for e, w in self._weights.get(spread.vip, {}).items() if e in self._macs}
        table = deal(self._tables.get(address, ())[:BUCKETS], members, weights)
        if self._steady.any(spread.vip):
            table += settled(members)
        return self._table(address, table) + self._steady.batch(spread.vip, address)

    def _table(self, address: str, new: tuple[str, ...]) -> str:
        old = self._tables.get(address, ())
        changed = [i for i in range(max(len(old), len(new))) if old[i : i + 1] != new[i : i + 1]]
        text = ""
        if gone := [f"{address} . {i:#x}" for i in changed if i < len(old)]:
            text += f"delete element {TABLE} {of('buckets', address)} {{ {', '.join(gone)} }}\n"
        if added := [f"{address} . {i:#x} : {new[i]}" for i in changed if i < len(new)]:
            text += f"add element {TABLE} {of('buckets', address)} {{ {', '.join(added)} }}\n"
        if new:
            self._tables[address] = new
        else:
            self._tables.pop(address, None)
        return text

    def _ask(self, address: str, others: tuple[str, ...]) -> str:
        """A chain of its own for each address: a copy to every other engine, the packet itself to this one."""
        old = self._asked.get(address, ())
        if old == others:
            return ""
        chain, ask = f"ask_{address.replace('.', '_').replace(':', '_')}", f"{TABLE} {of('ask', address)}"
        if not others:
            del self._asked[address]
            gone = f"delete element {ask} {{ {address} : goto {chain} }}\n"
            return gone + f"flush chain {TABLE} {chain}\ndelete chain {TABLE} {chain}\n"
        self._asked[address] = others
        copies = [f"ether daddr set {mac} dup to meta iif" for mac in others]
        rules = [f"ether saddr set {asker(self._mac)}", *copies, f"meta mark set {ASKED:#x} accept"]
        text = f"add chain {TABLE} {chain}\nflush chain {TABLE} {chain}\n"
        text += "".join(f"add rule {TABLE} {chain} {rule}\n" for rule in rules)
        return text + ("" if old else f"add element {ask} {{ {address} : goto {chain} }}\n")

    def _run(self, text: str) -> None:
        if text:
            self._nft.run(text.encode())
