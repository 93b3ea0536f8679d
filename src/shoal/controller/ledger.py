"""The controller's own durable records, held in memory and written through. One writer: the leading controller."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from shoal.store.patience import patiently
from shoal.store.protocol import TRANSACTION_OPERATIONS_MAX, Condition, Conflict, Store, Transaction, Unavailable

from . import records
from .clock import FreshId, fresh_uuid
from .records import EngineRecord, Floor, RebalanceRecord, RequestRecord, UpgradeRecord, VipRecord

log = logging.getLogger("shoal.ledger")

_R = TypeVar("_R")

NAME_LETTERS = 5
CONFLICTS_MAX = 9
"""In a row, with one change that is insisted on."""
OPERATIONS_A_TRANSACTION = TRANSACTION_OPERATIONS_MAX // 2
"""Each put brings its condition along."""


class Changes(msgspec.Struct):
    """What to write together. A value of None deletes."""

    engines: dict[str, EngineRecord | None] = {}
    engine_fields: dict[str, dict[str, Any]] = {}
    """Engine id -> fields to change in its record as it is at the time of writing (two tasks may touch one engine)."""
    vips: dict[tuple[str, str], VipRecord | None] = {}
    requests: dict[tuple[str, str], RequestRecord | None] = {}
    rebalances: dict[str, RebalanceRecord | None] = {}
    upgrades: dict[str, UpgradeRecord | None] = {}
    floors_gone: tuple[str, ...] = ()
    """VIPs that are no more, so that nobody needs to know any longer where they would go on counting."""

    def __bool__(self) -> bool:
        of_groups = (self.vips, self.requests, self.rebalances, self.upgrades)
        return any((self.engines, self.engine_fields, *of_groups, self.floors_gone))


def engine_name(prefix: str, id: str) -> str:
    """``<prefix>-se-<five letters>``, the letters from the engine's id."""
    number = int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big")
    letters = ""
    for _ in range(NAME_LETTERS):
        number, letter = divmod(number, 26)
        letters += chr(ord("a") + letter)
    return f"{prefix}-se-{letters}" if prefix else f"se-{letters}"


class Ledger:
    """Engines, placements and requests by id. Read freely; write through `write`."""

    def __init__(self, store: Store, fresh_id: FreshId = fresh_uuid) -> None:
        self._store = store
        self._fresh_id = fresh_id
        self._versions: dict[str, int] = {}
        self._rank = 0
        self._rank_written = 0
        self._rank_loaded = 0
        """Others may have given the ranks up to this one."""
        self.unsure = False
        """A write may have been applied, or not: what is here may be older than what is stored until `load`."""
        self._writing = asyncio.Lock()
        self.engines: dict[str, EngineRecord] = {}
        self.vips: dict[str, dict[str, VipRecord]] = {}
        self.requests: dict[str, dict[str, RequestRecord]] = {}
        self.rebalances: dict[str, RebalanceRecord] = {}
        self.upgrades: dict[str, UpgradeRecord] = {}
        self.floors: dict[str, Floor] = {}
        """Of VIPs without a placement that had one."""
        self.vips_written = 0
        """Grows whenever any of ``vips`` may have changed."""
        self.on_written: Callable[[Changes], None] = lambda changes: None
        """Called with all that was written, once it can be read here."""
        self.on_loaded: Callable[[Sequence[EngineRecord]], None] = lambda gone: None
        """Called when everything was read afresh, with the engines that were known and are stored no more."""
        self._ranked: dict[str, list[EngineRecord]] = {}
        """By group, in order of rank; those that were asked for since an engine has changed."""
        self._naming: dict[str, dict[tuple[str, str], VipRecord]] = {}
        """Engine -> the placements that name it, by group and VIP."""

    async def load(self) -> None:
        """Read everything afresh (at start, and after a conflict). Nobody sees it half read."""
        async with self._writing:
            engines = (await self._store.list(records.ENGINES)).records
            vips = (await self._store.list(records.PLACEMENTS)).records
            requests = (await self._store.list(records.REQUESTS)).records
            rebalances = (await self._store.list(records.REBALANCES)).records
            upgrades = (await self._store.list(records.UPGRADES)).records
            floors = (await self._store.list(records.FLOORS)).records
            rank = await self._store.get(records.RANK)
            found = (*engines, *vips, *requests, *rebalances, *upgrades, *floors)
            self._versions = {record.key: record.version for record in found}
            self._rank_written = self._rank_loaded = int(rank.value) if rank else 0
            self._versions[records.RANK] = rank.version if rank else 0
            self._rank = max(self._rank, self._rank_loaded)  # what a plan has given away may be written yet
            known = self.engines
            self.engines = {e.id: e for e in (records.decode(record.value, EngineRecord) for record in engines)}
            self.vips = {}
            for vip in (records.decode(record.value, VipRecord) for record in vips):
                self.vips.setdefault(vip.group, {})[vip.id] = vip
            self.requests = {}
            for record in requests:
                request = records.decode(record.value, RequestRecord)
                group = record.key.removeprefix(records.REQUESTS).split("/", 1)[0]
                self.requests.setdefault(group, {})[request.request.id] = request
            self.rebalances = {r.group: r for r in (records.decode(o.value, RebalanceRecord) for o in rebalances)}
            self.upgrades = {u.group: u for u in (records.decode(o.value, UpgradeRecord) for o in upgrades)}
            self.floors = {f.vip: f for f in (records.decode(record.value, Floor) for record in floors)}
            self.vips_written += 1
            self._ranked.clear()
            self._naming.clear()
            for of_group in self.vips.values():
                for placement in of_group.values():
                    self._index(placement)
            self.unsure = False
            self.on_loaded([engine for id, engine in known.items() if id not in self.engines])

    def engines_of(self, group: str) -> list[EngineRecord]:
        """By rank. Not to be changed."""
        if group not in self._ranked:
            self._ranked[group] = sorted((e for e in self.engines.values() if e.group == group), key=lambda e: e.rank)
        return self._ranked[group]

    def naming(self, engine: str) -> Collection[VipRecord]:
        """The placements that name the engine: it serves the VIP, will, drains, may take it over, or did before the last list."""
        return self._naming.get(engine, {}).values()

    def fresh_vip(self, group: str, vip: str) -> VipRecord:
        """For a VIP that the group has no record of: nowhere, and newer than all that any engine knows of it."""
        known: list[Floor | VipRecord] = [of_group[vip] for of_group in self.vips.values() if vip in of_group]
        if vip in self.floors:
            known.append(self.floors[vip])
        return VipRecord(
            id=vip,
            group=group,
            generation=max((k.generation for k in known), default=0),
            list_version=max((k.list_version for k in known), default=0),
            elsewhere=any(k.generation for k in known),
        )

    def new_engine(
        self, group: str, prefix: str, now: float, *, host: str, why: str, avoid_hosts: tuple[str, ...] = ()
    ) -> EngineRecord:
        """A record with an id, name and rank never used before (written by the next `write`)."""
        self._rank += 1
        id = f"se-{self._fresh_id()}"
        return EngineRecord(
            id=id,
            name=engine_name(prefix, id),
            rank=self._rank,
            group=group,
            host=host,
            avoid_hosts=avoid_hosts,
            created_at=now,
            why=why,
        )

    async def forget_engine(self, engine: str) -> None:
        """Drop its record; placements that name it are dropped by the next plan."""
        await self.insist(Changes(engines={engine: None}))

    async def insist(self, changes: Changes) -> None:
        """`write` what is so whoever else has written meanwhile, and however long the store can't be used: an engine was
        made, has connected, is gone. Raises `Conflict` only when another writer comes first again and again."""
        await patiently(partial(self.repeat, changes), "what is so")

    async def repeat(self, changes: Changes) -> None:
        """The same, for a caller who is to hear of it at once when the store can't be used (`Unavailable`)."""
        for _ in range(CONFLICTS_MAX):
            try:
                if self.unsure:
                    await self.load()
                await self.write(msgspec.structs.replace(changes, engines=dict(changes.engines)))
                return
            except Conflict as conflict:
                log.warning("%s; written again", conflict)
                await self.load()
        await self.write(msgspec.structs.replace(changes, engines=dict(changes.engines)))

    async def write(self, changes: Changes) -> None:
        """Write all of ``changes``; all or nothing up to `OPERATIONS_A_TRANSACTION` keys, beyond that in pieces that
        are each whole (a VIP's placement is one key). Raises `Conflict` if another controller wrote meanwhile, `Unavailable`;
        after either nothing is written before `load`, and nothing should be concluded.
        """
        async with self._writing:
            for engine, fields in changes.engine_fields.items():
                if engine in self.engines and engine not in changes.engines:
                    changes.engines[engine] = msgspec.structs.replace(self.engines[engine], **fields)
            floors = self._floors_after(changes)
            wanted = self._keyed(changes, floors)
            keys = list(wanted)
            for start in range(0, len(keys), OPERATIONS_A_TRANSACTION):
                await self._commit({key: wanted[key] for key in keys[start : start + OPERATIONS_A_TRANSACTION]})
            self._remember(changes, floors)

    def _keyed(self, changes: Changes, floors: Mapping[str, Floor | None]) -> dict[str, msgspec.Struct | None]:
        wanted: dict[str, msgspec.Struct | None] = {}
        for vip, floor in floors.items():
            if floor is not None:
                wanted[records.floor_key(vip)] = floor  # before what it stands for goes
        for engine, record in changes.engines.items():
            wanted[records.engine_key(engine)] = record
        for (group, vip), placement in changes.vips.items():
            wanted[records.placement_key(group, vip)] = placement
        for (group, id), request in changes.requests.items():
            wanted[records.request_key(group, id)] = request
        for group, rebalance in changes.rebalances.items():
            wanted[records.rebalance_key(group)] = rebalance
        for group, upgrade in changes.upgrades.items():
            wanted[records.upgrade_key(group)] = upgrade
        for vip, floor in floors.items():
            if floor is None:
                wanted[records.floor_key(vip)] = None
        return wanted

    def _floors_after(self, changes: Changes) -> dict[str, Floor | None]:
        """The floors that ``changes`` make necessary (the old placement goes) or not (there is a new one)."""
        floors: dict[str, Floor | None] = dict.fromkeys((v for v in changes.floors_gone if v in self.floors), None)
        for (group, vip), placement in changes.vips.items():
            if placement is not None:
                if vip in self.floors:
                    floors[vip] = None
            elif vip in self.vips.get(group, {}):
                before = self.fresh_vip(group, vip)
                if before.generation:
                    floors[vip] = Floor(vip=vip, generation=before.generation, list_version=before.list_version)
        return floors

    async def _commit(self, wanted: dict[str, msgspec.Struct | None]) -> None:
        puts = [(key, records.encode(record)) for key, record in wanted.items() if record is not None]
        keys, rank = list(wanted), self._rank
        if self.unsure:
            raise Unavailable("Whether the last change was stored is not known yet.", hint="Try again in a second.")
        if any(isinstance(r, EngineRecord) and self._is_taken(key, r.rank) for key, r in wanted.items()):
            raise Conflict((records.RANK,))
        if rank != self._rank_written:  # another controller may give ranks, too
            puts.append((records.RANK, str(rank).encode()))
            keys.append(records.RANK)
        transaction = Transaction(
            conditions=tuple(Condition(key, self._versions.get(key, 0)) for key in keys),
            puts=tuple(puts),
            deletes=tuple(key for key, record in wanted.items() if record is None),
        )
        try:
            revision = await self._store.commit(transaction)
        except (Unavailable, asyncio.CancelledError):
            self.unsure = True
            raise
        if rank != self._rank_written:
            self._rank_written, self._versions[records.RANK] = rank, revision
        for key, record in wanted.items():
            if record is None:
                self._versions.pop(key, None)
            else:
                self._versions[key] = revision

    def _is_taken(self, key: str, rank: int) -> bool:
        """Whether another engine may have the rank of one that is to be made. The first one is 1."""
        return key not in self._versions and 0 < rank <= self._rank_loaded

    def _remember(self, changes: Changes, floors: Mapping[str, Floor | None]) -> None:
        if changes.vips:
            self.vips_written += 1
        for vip, floor in floors.items():
            _put(self.floors, vip, floor)
        for engine, record in changes.engines.items():
            for known in (self.engines.get(engine), record):
                if known is not None:
                    self._ranked.pop(known.group, None)
            _put(self.engines, engine, record)
        for (group, vip), placement in changes.vips.items():
            of_group = self.vips.setdefault(group, {})
            self._unindex(of_group.get(vip))
            _put(of_group, vip, placement)
            if placement is not None:
                self._index(placement)
        for (group, id), request in changes.requests.items():
            _put(self.requests.setdefault(group, {}), id, request)
        for group, rebalance in changes.rebalances.items():
            _put(self.rebalances, group, rebalance)
        for group, upgrade in changes.upgrades.items():
            _put(self.upgrades, group, upgrade)
        self.on_written(changes)

    def _index(self, placement: VipRecord) -> None:
        for engine in _named(placement):
            self._naming.setdefault(engine, {})[placement.group, placement.id] = placement

    def _unindex(self, placement: VipRecord | None) -> None:
        for engine in _named(placement) if placement is not None else ():
            naming = self._naming[engine]
            del naming[placement.group, placement.id]  # type: ignore[union-attr]
            if not naming:
                del self._naming[engine]


def _named(placement: VipRecord) -> frozenset[str]:
    return frozenset([*(p.engine for p in placement.placements), *placement.succession, *placement.in_force])


def _put(records: dict[str, _R], key: str, record: _R | None) -> None:
    """None takes it out."""
    if record is None:
        records.pop(key, None)
    else:
        records[key] = record
