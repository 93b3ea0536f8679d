"""Sees all that a simulated system stores, tells, claims and arms, and says which promise of the design was broken."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from shoal.controller.events import Event
from shoal.controller.records import PLACEMENTS, VipRecord, decode
from shoal.store.memory import MemoryStore
from shoal.store.protocol import Transaction
from shoal.wire.desired import Vip
from shoal.wire.messages import Claim


class WitnessedStore(MemoryStore):
    """A store that shows each transaction, once it is done, to ``on_commit``."""

    def __init__(self, *, now: Callable[[], float], on_commit: Callable[[Transaction], None]) -> None:
        super().__init__(now=now, history_revisions_max=2_000)
        self._on_commit = on_commit

    async def commit(self, transaction: Transaction) -> int:
        revision = await super().commit(transaction)
        self._on_commit(transaction)
        return revision


class Witness:
    """``broken(rule, sentence)`` is told of each broken promise. ``counts``: how often each was looked at. ``well(engine)``:
    nothing has befallen it (``""``: any engine) for so long that it can't be what the controller judges by."""

    def __init__(self, broken: Callable[[str, str], None], well: Callable[[str], bool]) -> None:
        self._broken = broken
        self._well = well
        self.counts = {"generations": 0, "plans": 0, "claims": 0, "armed lists": 0, "ranks": 0, "judged": 0}
        self.records: dict[str, VipRecord] = {}
        """The placements as stored, by VIP."""
        self._highest: dict[str, tuple[int, int]] = {}
        self._claims: dict[tuple[str, Claim], str] = {}
        self._runs: dict[tuple[str, str], int] = {}
        self._ranks: dict[int, str] = {}

    def committed(self, transaction: Transaction) -> None:
        for key in transaction.deletes:
            if key.startswith(PLACEMENTS):
                self.records.pop(_vip_of(key), None)
        for key, value in transaction.puts:
            if key.startswith(PLACEMENTS):
                self._placed(decode(value, VipRecord))

    def _placed(self, record: VipRecord) -> None:
        """What a VIP's engines know is ordered by generation and list version, also when its services were deleted and
        made anew: the engines need not have heard of that."""
        self.counts["generations"] += 1
        self.records[record.id] = record
        now = (record.generation, record.list_version)
        before = self._highest.get(record.id, (0, 0))
        if now[0] < before[0] or now[1] < before[1]:
            self._broken("generations", f"{record.id} went back from generation and list {before} to {now}")
        self._highest[record.id] = now

    def raised(self, event: Event) -> None:
        """Call at once: by the time it is stored much may have passed."""
        self.counts["plans"] += 1
        if event.name == "INVARIANT_BROKEN":
            self._broken("placement", event.detail)
        elif event.name in ("SE_DOWN", "SE_STORM_STARTED"):
            self.counts["judged"] += 1
            if self._well(event.objects.get("serviceengine", "")):
                self._broken("judged", f"what is well is given up: {event.name} {event.detail}")

    def claimed(self, engine: str, vip: str, claim: Claim) -> None:
        self.counts["claims"] += 1
        other = self._claims.setdefault((vip, claim), engine)
        if other != engine:
            self._broken("claims", f"{engine} and {other} both claim {vip} by {claim}")

    def booted(self, engine: str, rank: int) -> None:
        self.counts["ranks"] += 1
        other = self._ranks.setdefault(rank, engine)
        if other != engine:
            self._broken("ranks", f"{engine} and {other} both have the rank {rank}")

    def told(self, engine: str, vips: Iterable[Vip]) -> None:
        """An engine's guard goes by this from now on. Call before the engine acknowledges it."""
        for vip in vips:
            self._runs[engine, vip.id] = max(self._runs.get((engine, vip.id), 0), vip.list_version)
            succession, version = vip.ruling
            if not version:
                continue
            self.counts["armed lists"] += 1
            behind = [e for e in succession if self._runs.get((e, vip.id), 0) < version]
            if behind:
                what = f"{engine} may act upon list {version} of {vip.id}"
                self._broken("armed lists", f"{what}, which {behind} never had")


def _vip_of(key: str) -> str:
    return key.removeprefix(PLACEMENTS).partition("/")[2]
