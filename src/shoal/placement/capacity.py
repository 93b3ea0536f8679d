"""Engines of the group as a whole: the N+M buffer in slots, and idle engines that may go."""

from __future__ import annotations

import math

from . import succession
from .board import Board
from .model import Buffer, Group
from .presets import SHARED


def demand(board: Board) -> int:
    """P of elastic-ha 1.1 in slots, as it will be when drains and migrates are over. What stays on engines that are
    disabled for placement needs no room elsewhere."""
    return board.standing.demand + sum(
        board.standing.share_of(work.vip.slots, work.placements, work.requested) - board.standing.share(work.vip.id)
        for work in board.works.values()
    )


def buffer_slots(group: Group, used: int) -> int:
    """How many slots are to be free while so many are used: M engines' worth in N+M, none elsewhere."""
    return group.buffer_se * group.max_vs_per_se if group.ha_mode == SHARED and used else 0


def keep_buffer(board: Board) -> Buffer:
    """Keep M engines' worth of free slots (N+M only): ``(running + creating) * m - P >= M * m``."""
    group = board.group
    used = demand(board)
    needed = buffer_slots(group, used)

    def free() -> int:
        return (board.reckoned_count + board.creating_count) * group.max_vs_per_se - used

    while needed and free() < needed and not board.create_refusal():
        board.create(f"the N+M buffer is short: {free()} of {needed} free slots (buffer_se {group.buffer_se})")
    if needed and free() < needed:
        _compromised(board, max(0, free()), needed)
    return Buffer(slots=free() + used, used=used, free=max(0, free()), needed=needed)


def _compromised(board: Board, free: int, needed: int) -> None:
    why = f"{free} of {needed} buffer slots are free and {board.create_refusal()}"
    board.tell("VS_SE_HA_COMPROMISED", why)
    board.decide("", "none", why)


def keep_successors(board: Board) -> None:
    """Slots in fragments are no margin for VIPs that take several: in N+M, where a VIP that lives on one engine alone
    has no successor for want of room, one more engine is made."""
    group = board.group
    if group.ha_mode != SHARED or not group.buffer_se or board.creating_count or board.create_refusal():
        return
    if board.suspects:
        return  # lists that name them stand as they are
    bare = (work for work in succession.without_any(board) if not board.made_lacks(work))
    first = next((work.vip for work in bare if work.vip.slots <= group.max_vs_per_se), None)
    if first is not None:
        board.create(f"no engine has the {first.slots} slots to take {first.name} over")


def retire(board: Board) -> tuple[list[str], float | None]:
    """Idle engines past the deprovision delay that neither ceil(P/m)+M nor a succession needs; and when to look again."""
    group = board.group
    if group.se_deprovision_delay_s <= 0 or board.suspects or board.standing.pace is not None:
        return [], None
    used = demand(board)
    spare = group.buffer_se if group.ha_mode == SHARED else 0
    needed = math.ceil(used / group.max_vs_per_se) + spare if used else 0
    idle = (board.engines[id] for id in board.standing.idle if not board.load[id])
    retired: list[str] = []
    wake: float | None = None
    for engine in sorted(idle, key=lambda e: (-e.rank, e.id)):
        if engine.idle_since is None or board.usable_count - len(retired) <= needed:
            continue
        due = engine.idle_since + group.se_deprovision_delay_s
        if due > board.now:
            wake = due if wake is None else min(wake, due)
        elif not spare or succession.spared(board, (*retired, engine.id)):
            retired.append(engine.id)
            why = (
                f"{engine.name} has been idle for {group.se_deprovision_delay_s:.0f} s and the buffer does not need it"
            )
            board.decide("", "retire_engine", why, engine=engine.id)
    return retired, wake
