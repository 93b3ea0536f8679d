"""What is explored in CI, and with ``--deep``: plans, budgets of faults, and how the engines' heartbeats lie.

The budgets stay within the known limit of `docs/decisions/0005-ownership-explored.md`.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from shoal.simulator.explored_world import Budget, When
from shoal.wire.desired import Peer, Timing, Vip
from shoal.wire.guard import Desired

NAMES = ("A", "B", "C")
VIPS = {"v": "10.0.0.100", "w": "10.0.0.101"}
PHASES = {"in step": (0, 0, 0), "spread": (0, 30_000, 70_000), "close": (0, 2_000, 99_000)}
"""When the engines are started, in microseconds: so their ticks lie to one another ever after."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """``budget`` is spent in every possible way from every phase. ``cold``: the engines are off at first."""

    name: str
    budget: Budget
    deep: Budget
    plans: tuple[Desired, ...]
    phases: tuple[str, ...] = ("in step",)
    cold: bool = False
    when: When = When.TICKS


def vip(name: str, owner: str, *succession: str, generation: int = 1, armed: bool = True, version: int = 1) -> Vip:
    return Vip(
        id=name,
        addresses=(VIPS[name],),
        generation=generation,
        owner=owner,
        members=(owner,),
        succession=succession,
        list_version=version,
        armed=armed,
    )


def plan(*vips: Vip) -> Desired:
    peers = tuple(Peer(id=n, name=n, rank=i + 1, address=n, mac=n) for i, n in enumerate(NAMES))
    return Desired(timing=Timing(), peers=peers, vips=vips, slots_max=10)


V, W = vip("v", "A", "B", "C"), vip("w", "B", "C", "A")
USUAL = plan(V, W)
MOVED = plan(vip("v", "B", "A", "C", generation=2, version=2), W)
FIRST = plan(replace(V, succession=("B",)), W)
UNARMED = plan(replace(V, succession=("C", "B"), list_version=2, armed=False), W)
ARMED = plan(replace(V, succession=("C", "B"), list_version=2), W)
OVERTAKEN = plan(
    replace(V, succession=("B",), list_version=3, armed=False, in_force=("C", "B"), in_force_version=2),
    W,
)
KEPT = plan(
    replace(V, succession=("B",), list_version=2, armed=False, in_force=("B", "C"), in_force_version=1),
    W,
)
STRUCK = plan(replace(V, succession=("B",), list_version=2), W)
REMOVED = plan(W)

SCENARIOS = (
    Scenario(
        name="killed half-way",
        plans=(USUAL,),
        budget=Budget(kills=1, starts=1, halves=1),
        deep=Budget(kills=2, starts=2, losses=1, halves=1),
        phases=tuple(PHASES),
        when=When.ALWAYS,
    ),
    Scenario(
        name="killed, with loss",
        plans=(USUAL,),
        budget=Budget(kills=1, losses=2),
        deep=Budget(kills=2, losses=2),
        phases=tuple(PHASES),
    ),
    Scenario(
        name="killed and restarted, with loss",
        plans=(USUAL,),
        budget=Budget(kills=1, starts=1, losses=1, halves=1),
        deep=Budget(kills=1, starts=1, losses=2),
    ),
    Scenario(
        name="both owners die",
        plans=(USUAL,),
        budget=Budget(kills=2, starts=1),
        deep=Budget(kills=3, starts=3, halves=1),
    ),
    Scenario(
        name="late letters",
        plans=(USUAL,),
        budget=Budget(kills=1, lates=2),
        deep=Budget(kills=1, starts=1, lates=3, losses=1),
        phases=("close", "spread"),
    ),
    Scenario(
        name="frozen",
        plans=(USUAL,),
        budget=Budget(freezes=1, halves=1),
        deep=Budget(freezes=2, halves=1),
        phases=tuple(PHASES),
        when=When.ALWAYS,
    ),
    Scenario(
        name="frozen, with loss",
        plans=(USUAL,),
        budget=Budget(freezes=1, halves=1, losses=1),
        deep=Budget(freezes=1, halves=1, losses=2),
    ),
    Scenario(
        name="cut and healed",
        plans=(USUAL,),
        budget=Budget(cuts=1),
        deep=Budget(cuts=3, losses=1),
        phases=tuple(PHASES),
        when=When.ALWAYS,
    ),
    Scenario(
        name="isolated and healed",
        plans=(USUAL,),
        budget=Budget(isolations=1, losses=1),
        deep=Budget(isolations=2, losses=1, kills=1),
        phases=tuple(PHASES),
    ),
    Scenario(
        name="killed while isolated",
        plans=(USUAL,),
        budget=Budget(isolations=1, kills=1),
        deep=Budget(isolations=1, kills=2, starts=1, losses=1),
    ),
    Scenario(
        name="sessions end without a death",
        plans=(USUAL,),
        budget=Budget(resets=1, losses=1),
        deep=Budget(resets=2, losses=2),
        phases=tuple(PHASES),
    ),
    Scenario(
        name="carrier lost",
        plans=(USUAL,),
        budget=Budget(links=1),
        deep=Budget(links=2, losses=1),
        phases=tuple(PHASES),
    ),
    Scenario(
        name="HAProxy fails",
        plans=(USUAL,),
        budget=Budget(haproxies=1),
        deep=Budget(haproxies=2, losses=1),
        phases=tuple(PHASES),
        when=When.ALWAYS,
    ),
    Scenario(
        name="planned move",
        plans=(USUAL, MOVED),
        budget=Budget(losses=1),
        deep=Budget(losses=2, lates=1),
        phases=tuple(PHASES),
    ),
    Scenario(
        name="planned move, and a kill",
        plans=(USUAL, MOVED),
        budget=Budget(kills=1),
        deep=Budget(kills=1, starts=1, losses=1, halves=1),
    ),
    Scenario(
        name="planned move, and a freeze",
        plans=(USUAL, MOVED),
        budget=Budget(freezes=1),
        deep=Budget(freezes=1, halves=1, kills=1),
        when=When.BEATS,
    ),
    Scenario(
        name="a list is armed",
        plans=(FIRST, UNARMED, ARMED),
        budget=Budget(kills=1),
        deep=Budget(kills=2, starts=1),
        phases=tuple(PHASES),
    ),
    Scenario(
        name="the word that a list is armed is overtaken",
        plans=(FIRST, UNARMED, OVERTAKEN),
        budget=Budget(kills=1),
        deep=Budget(kills=2, starts=1),
        phases=tuple(PHASES),
    ),
    Scenario(
        name="one is struck from a list",
        plans=(USUAL, KEPT, STRUCK),
        budget=Budget(kills=1),
        deep=Budget(kills=2, starts=1),
        phases=tuple(PHASES),
    ),
    Scenario(
        name="VIP removed and back",
        plans=(USUAL, REMOVED, USUAL),
        budget=Budget(),
        deep=Budget(kills=1, starts=1),
        when=When.BEATS,
    ),
    Scenario(
        name="cold start",
        plans=(USUAL,),
        budget=Budget(starts=3),
        deep=Budget(starts=4, kills=1, losses=1),
        cold=True,
    ),
    Scenario(
        name="stopped in order",
        plans=(USUAL,),
        budget=Budget(stops=1, starts=1),
        deep=Budget(stops=2, starts=2, losses=1),
    ),
)
