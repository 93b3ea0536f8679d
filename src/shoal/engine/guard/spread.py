"""Puts `Spread` into the kernel: buckets, members alive, former owners."""

from __future__ import annotations

from shoal.engine.guard.buckets import deal
from shoal.engine.guard.nft import TABLE, Nft, set_batch
from shoal.ownership.events import Spread


class Spreader:
    """``macs``: engine id -> MAC, this engine's own included; set by `know`. Each change is one transaction."""

    def __init__(self, nft: Nft, engine: str, mac: str) -> None:
        self._nft = nft
        self._engine = engine
        self._macs = {engine: mac}
        self._mac = mac
        self._peers: set[str] = set()
        self._live: set[str] = {mac}
        self._spreads: dict[str, Spread] = {}
        self._alone: set[str] = set()
        self._tables: dict[str, tuple[str, ...]] = {}  # address -> MACs by bucket
        self._former: dict[str, str] = {}  # address -> MAC

    def know(self, macs: dict[str, str]) -> None:
        self._macs = {**{k: v.lower() for k, v in macs.items() if v}, self._engine: self._mac}
        peers = set(self._macs.values()) - {self._mac}
        self._run(set_batch("peers", self._peers, peers))
        self._peers = peers

    def set(self, spread: Spread) -> None:
        """A VIP that is served by this engine alone is not in the kernel's tables at all, and costs nothing."""
        mac = self._macs
        members = tuple(dict.fromkeys(mac[m] for m in spread.members if m in mac))
        others = {mac[e] for e in (*spread.members, *spread.draining, spread.former) if e in mac} - {self._mac}
        text = ""
        if not others or not members:
            if spread.vip in self._spreads:
                text = self._leave(self._spreads.pop(spread.vip))
            self._alone.add(spread.vip)
        else:
            # flows from the time it served alone are in no table: they are its own
            former = mac.get(spread.former) or (self._mac if spread.vip in self._alone else "")
            old = self._spreads.get(spread.vip)
            if old is not None:
                text += self._gone(tuple(a for a in old.addresses if a not in spread.addresses))
            for address in spread.addresses:
                text += self._table(address, deal(self._tables.get(address, ()), members))
                text += self._send_unknown_to(address, former)
            text += set_batch("spread", old.addresses if old else (), spread.addresses)
            self._spreads[spread.vip] = spread
        self._apply(text)

    def drop(self, vip: str) -> None:
        self._alone.discard(vip)
        spread = self._spreads.pop(vip, None)
        if spread is not None:
            self._apply(self._leave(spread))

    def _leave(self, spread: Spread) -> str:
        return set_batch("spread", spread.addresses, ()) + self._gone(spread.addresses)

    def _gone(self, addresses: tuple[str, ...]) -> str:
        text = ""
        for address in addresses:
            text += self._table(address, ()) + self._send_unknown_to(address, "")
        return text

    def _apply(self, text: str) -> None:
        engines = {self._engine}
        for spread in self._spreads.values():
            engines.update(spread.members, spread.draining, (spread.former,))
        live = {self._macs[e] for e in engines if e in self._macs}
        self._run(text + set_batch("live", self._live, live))
        self._live = live

    def _table(self, address: str, new: tuple[str, ...]) -> str:
        old = self._tables.get(address, ())
        changed = [i for i in range(max(len(old), len(new))) if old[i : i + 1] != new[i : i + 1]]
        text = ""
        if gone := [f"{address} . {i:#x}" for i in changed if i < len(old)]:
            text += f"delete element {TABLE} buckets {{ {', '.join(gone)} }}\n"
        if added := [f"{address} . {i:#x} : {new[i]}" for i in changed if i < len(new)]:
            text += f"add element {TABLE} buckets {{ {', '.join(added)} }}\n"
        if new:
            self._tables[address] = new
        else:
            self._tables.pop(address, None)
        return text

    def _send_unknown_to(self, address: str, mac: str) -> str:
        old = self._former.get(address, "")
        if old == mac:
            return ""
        text = f"delete element {TABLE} former {{ {address} }}\n" if old else ""
        if mac:
            self._former[address] = mac
            return text + f"add element {TABLE} former {{ {address} : {mac} }}\n"
        del self._former[address]
        return text

    def _run(self, text: str) -> None:
        if text:
            self._nft.run(text.encode())
