"""Auto-rebalance: at most one change of a group each interval, from measured load (reference: elastic-ha 4).

Pure. What an engine's load will be after a change is estimated from the measured parts of the VIPs. No ping-pong:

- a change for an engine over the high mark leaves its target `MARGIN` below the mark;
- a change for an engine under the low mark leaves every other at most at `settle`, well below the high mark; so it never
  makes what the first kind would undo;
- consolidation empties the engine with the fewer slots into ones with as many or more. The sum of the squares of the
  slots grows with each such move, so they end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from . import capacity
from . import choose as choosing
from .board import ENABLED, Board, Work
from .load import EngineLoad, Load, Marks, less, packet_share, plus, scaled, total
from .model import (
    Candidate,
    Decision,
    Engine,
    EngineState,
    Judgement,
    PlacementState,
    Rejection,
    RequestKind,
    Snapshot,
)
from .presets import LEGACY, SHARED
from .rules import judge

PACKET_SHARE = 0.7
"""Beyond this part of an engine's packets a VIP is scaled out rather than migrated."""
MARGIN = 5.0
"""Percent below the high mark that a target must stay; and what a change must take off an engine at least, if it does
not bring it below the mark."""
SPREAD = 0.5
"""A VIP is scaled out further only when each of its engines has at least this part of the mean: one more gets no more
than the others do (long-lived connections stay, a source-IP hash of one client moves nothing)."""
EMPTIED_TRIED_MAX = 4
"""Engines that a look tries to empty; each costs a judgement of the whole group for each of its VIPs."""
JUDGED_MAX = 100
"""Such judgements for engines over the mark, in one look."""
EVENTS = {
    RequestKind.SCALE_OUT: "REBALANCE_VS_SCALEOUT",
    RequestKind.SCALE_IN: "REBALANCE_VS_SCALEIN",
    RequestKind.MIGRATE: "REBALANCE_VS_MIGRATE",
}


class EngineLook(msgspec.Struct, frozen=True, kw_only=True):
    """``level``: over, under, between, idle (holds nothing) or unknown (no or stale figures)."""

    engine: str
    level: str
    load: Load | None = None
    percent: dict[str, float] = {}


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """A scale out (``to_engine`` or ``to_new``), a scale in (``from_engine``) or a migrate (both) of one VIP."""

    kind: RequestKind
    vip: str
    from_engine: str = ""
    to_engine: str = ""
    to_new: bool = False


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen and what follows. ``why`` is one sentence; ``notes`` say of each engine over or under why nothing
    is done for it (or nothing else first)."""

    engines: tuple[EngineLook, ...] = ()
    action: Action | None = None
    decision: Decision | None = None
    judged: Judgement | None = None
    """The engines that were looked at for the action: those it could go to, the best first, and why not each other."""
    why: str = ""
    notes: tuple[str, ...] = ()

    def at(self, level: str) -> list[str]:
        return [engine.engine for engine in self.engines if engine.level == level]


def look(snapshot: Snapshot, marks: Marks, loads: Mapping[str, EngineLoad], now: float) -> Look:
    """``loads``: engine -> what was measured; an engine whose figures are missing or stale must not be in it, and
    nothing is done to it or estimated of it. Raises ValueError for legacy groups."""
    if snapshot.group.ha_mode == LEGACY:
        raise ValueError("legacy active/standby groups are not rebalanced")
    return _Rebalance(Board(snapshot, now), marks, loads).look()


def settle(marks: Marks) -> float:
    """Percent that no engine may pass by a scale in or a consolidation."""
    return min((marks.high + marks.low) / 2, marks.high - 2 * MARGIN)


class _Rebalance:
    def __init__(self, board: Board, marks: Marks, loads: Mapping[str, EngineLoad]) -> None:
        self._board = board
        self._marks = marks
        self._loads = loads
        self._notes: list[str] = []
        self._judged = 0
        self._coolest: dict[str, float] = {}
        """Figure -> percent where it is lowest, of the engines that may get placements."""
        for engine in (e.id for e in board.usable()):
            for figure, percent in marks.percent(loads[engine].whole).items() if engine in loads else ():
                self._coolest[figure] = min(percent, self._coolest.get(figure, percent))
        on_the_way, refusal = board.creating(), board.create_refusal()
        self._no_new = f"none can be made: {refusal}" if refusal else ""
        """Why no engine is made for a change."""
        if on_the_way:
            self._no_new = f"{board.name(on_the_way[0])} is being created"
        self._held: dict[str, list[Work]] = {}
        """By engine."""
        for work in board.works.values():
            for placement in work.placements:
                self._held.setdefault(placement.engine, []).append(work)

    def look(self) -> Look:
        engines = tuple(self._seen(e) for e in self._board.engines.values() if e.state is EngineState.UP)
        over = [e for e in engines if e.level == "over"]
        under = [e for e in engines if e.level == "under"]
        found = None
        why = ""
        if over or under:
            why = self._in_motion()
        if not why and over:
            found = self._first_over(over)
        elif not why and under:
            found = self._first_under(under)
        if found is not None:
            why = found.why
        elif not why:
            unknown = [self._board.name(e.engine) for e in engines if e.level == "unknown"]
            why = "; ".join(self._notes) or "every engine is between the marks"
            if unknown:
                why += f"; the load of {', '.join(unknown)} is not known"
        seen = Look(engines=engines, why=why, notes=tuple(self._notes))
        if found is None:
            return seen
        decision = _decision(found)
        return msgspec.structs.replace(seen, action=found.action, decision=decision, judged=found.judged)

    def _seen(self, engine: Engine) -> EngineLook:
        load = self._loads.get(engine.id)
        if load is None:
            return EngineLook(engine=engine.id, level="unknown")
        level = "between"
        if not self._board.load[engine.id]:
            level = "idle"
        elif self._marks.is_over(load.whole):
            level = "over"
        elif self._marks.is_under(load.whole):
            level = "under"
        return EngineLook(engine=engine.id, level=level, load=load.whole, percent=self._marks.percent(load.whole))

    def _in_motion(self) -> str:
        """Why the figures are not those of a settled group; "" if they are."""
        board = self._board
        if board.suspects or board.standing.pace is not None:
            return "many engines were lost at once: nothing moves that need not"
        for request in board.open.values():
            work = board.works.get(request.vip)
            if work is not None:
                return f"an operation on {work.vip.name} is under way"
        for work in board.works.values():
            for placement in work.placements:
                if not board.is_up(placement.engine) or placement.state is not PlacementState.READY:
                    return f"{work.vip.name} is being moved ({board.name(placement.engine)}: {placement.state.value})"
        return ""

    # --- over the high mark ---

    def _first_over(self, over: list[EngineLook]) -> _Found | None:
        for at, seen in enumerate(sorted(over, key=lambda e: -max(e.percent.values()))):
            if self._judged >= JUDGED_MAX:
                self._note(f"{len(over) - at} more engines are over the mark")
                return None
            found = self._relieve(seen)
            if found is not None:
                return found
        return None

    def _relieve(self, seen: EngineLook) -> _Found | None:
        """Only one VIP there, or one with most of the packets: scale it out; otherwise migrate one. A VIP that can't be
        scaled out is migrated, if that helps."""
        assert seen.load is not None
        figure, _ = self._marks.highest(seen.load)
        name = self._board.name(seen.engine)
        head = f"{name} has {self._marks.words(seen.load)}, above {self._marks.high:.0f} %"
        parts = self._loads[seen.engine].vips
        there = self._held.get(seen.engine, [])
        held = [work for work in there if work.vip.id in parts]
        held.sort(key=lambda w: -getattr(parts[w.vip.id], figure))
        case = _Case(seen.engine, figure, head)
        if not held or getattr(parts[held[0].vip.id], figure) <= 0:
            self._note(f"{head}, and no virtual service on it makes any of it")
            return None
        before = len(self._notes)
        most = max(held, key=lambda w: (packet_share(parts, w.vip.id), -held.index(w)))
        share = packet_share(parts, most.vip.id)
        alone = len(there) == 1
        if alone or share > PACKET_SHARE:
            why = "is alone on it" if alone else f"makes {100 * share:.0f} % of its packets"
            found = self._scale_out(case, most, f"{most.vip.name} {why}")
            if found is not None:
                return found
        found = self._migrate_one(case, held)
        if found is None and len(self._notes) == before:
            self._note(f"{head}, and no change would help")
        return found

    def _scale_out(self, case: _Case, work: Work, because: str) -> _Found | None:
        board = self._board
        head = f"{case.head}: {because}"
        limit = board.group.max_scaleout_per_vs
        if work.requested >= limit:
            self._note(f"{head}, and has {work.requested} engines of max_scaleout_per_vs {limit}")
            return None
        parts = self._parts(work)
        if parts is None:
            self._note(f"{head}, and its load on its other engines is not known")
            return None
        count = len(parts)
        whole = total(parts.values())
        mean = getattr(whole, case.figure) / count
        least = min(parts, key=lambda e: getattr(parts[e], case.figure))
        if getattr(parts[least], case.figure) < SPREAD * mean:
            few = self._marks.words(parts[least], case.figure)
            self._note(f"{head}, and {board.name(least)} has only {few} of it: one more engine would not help")
            return None
        share = scaled(whole, 1 / (count + 1))
        if not self._helps(case, less(parts[case.engine], share)):
            self._note(f"{head}, and one more engine would take too little off it")
            return None
        judged = self._targets(work, share, idle_may_pass=True)
        return self._go(case, work, RequestKind.SCALE_OUT, head, share, judged)

    def _migrate_one(self, case: _Case, held: list[Work]) -> _Found | None:
        """The heaviest that an engine can take, on a running one if there is one for any, else on a new one."""
        engine = self._board.engines[case.engine]
        if engine.enable_state != ENABLED:
            self._note(f"{case.head}, and is {engine.enable_state}: nothing is migrated from it")
            return None
        parts = self._loads[case.engine].vips
        able = [w for w in held if self._settled(w) and self._helps(case, parts[w.vip.id])]
        for to_new in (False, True):
            for work in able:
                part = parts[work.vip.id]
                if to_new and (len(held) == 1 or self._top(part) > self._marks.high - MARGIN):
                    continue
                if not to_new and self._none_is_cool_enough(part):
                    continue
                judged = Judgement() if to_new and self._no_new else self._targets(work, part, leaving=case.engine)
                if judged.candidates or to_new:
                    head = f"{case.head}: {work.vip.name} makes {self._marks.words(part, case.figure)} of it"
                    return self._go(case, work, RequestKind.MIGRATE, head, part, judged)
        if able:
            names = ", ".join(work.vip.name for work in able)
            self._note(f"{case.head}, and no engine can take {names} and stay below the mark")
        return None

    def _helps(self, case: _Case, relief: Load) -> bool:
        """Whether taking this off the engine is worth a move."""
        off = self._marks.percent(relief)[case.figure]
        left = less(self._loads[case.engine].whole, relief)
        return off >= MARGIN or (off > 0 and not self._marks.is_over(left))

    def _targets(self, work: Work, part: Load, *, leaving: str = "", idle_may_pass: bool = False) -> Judgement:
        """The running engines that stay below the mark, the one that will have the least first, and why the others are
        out. ``idle_may_pass``: an engine with nothing on it may go above, as the load is shared."""
        self._judged += 1
        judged = judge(self._board, work, besides=[leaving] if leaving else [])
        good: list[tuple[float, Candidate]] = []
        rejections = list(judged.rejections)
        for candidate in judged.candidates:
            known = self._loads.get(candidate.engine)
            if known is None:
                rejections.append(Rejection(engine=candidate.engine, rule="no_load", detail="its load is not known"))
                continue
            after = self._top(plus(known.whole, part))
            if after > self._marks.high - MARGIN and not (idle_may_pass and candidate.idle):
                rejections.append(self._too_hot(candidate.engine, after))
            else:
                good.append((after, candidate))
        good.sort(key=lambda item: item[0])
        return Judgement(candidates=tuple(candidate for _, candidate in good), rejections=tuple(rejections))

    def _none_is_cool_enough(self, part: Load) -> bool:
        limit = self._marks.high - MARGIN
        return any(self._coolest.get(f, 100.0) + more > limit for f, more in self._marks.percent(part).items())

    def _too_hot(self, engine: str, after: float) -> Rejection:
        limit = self._marks.high - MARGIN
        detail = f"it would have {after:.0f} %, more than {limit:.0f} % ({MARGIN:.0f} below the high mark)"
        return Rejection(engine=engine, rule="would_be_over", detail=detail)

    def _go(
        self, case: _Case, work: Work, kind: RequestKind, head: str, part: Load, judged: Judgement
    ) -> _Found | None:
        """The action, to the first of the candidates or, when there is none, to a new engine; None when none can be
        made. ``part``: what the target gets."""
        board = self._board
        to = judged.candidates[0].engine if judged.candidates else ""
        if to:
            known = self._loads[to].whole
            change = f"{board.name(to)} goes from {self._top(known):.0f} % to {self._top(plus(known, part)):.0f} %"
        else:
            refusal = self._no_new or choosing.too_big(board, work)
            if refusal:
                self._note(f"{head}, no running engine can take it and {refusal}")
                return None
            change = f"no running engine can take it, so one is made; it gets {self._top(part):.0f} %"
        verb = "scale it out" if kind is RequestKind.SCALE_OUT else "migrate it"
        leaving = case.engine if kind is RequestKind.MIGRATE else ""
        action = Action(kind=kind, vip=work.vip.id, from_engine=leaving, to_engine=to, to_new=not to)
        return _Found(action, f"{head}: {verb}; {change}", judged)

    # --- under the low mark ---

    def _first_under(self, under: list[EngineLook]) -> _Found | None:
        """Scale in first: it moves nothing. Then empty the engine with the fewest slots used, the youngest of them."""
        board = self._board
        age = {engine: at for at, engine in enumerate(board.engines)}
        order = sorted(under, key=lambda e: (board.load[e.engine], -age[e.engine]))
        for seen in order:
            found = self._scale_in(seen)
            if found is not None:
                return found
        room = self._may_go()
        if room:
            self._note(room)
            return None
        for seen in order[:EMPTIED_TRIED_MAX]:
            found = self._consolidate(seen, age)
            if found is not None:
                return found
        return None

    def _head(self, seen: EngineLook) -> str:
        assert seen.load is not None
        name = self._board.name(seen.engine)
        return f"{name} has {self._marks.words(seen.load)}, below {self._marks.low:.0f} %"

    def _scale_in(self, seen: EngineLook) -> _Found | None:
        board, low = self._board, max(1, self._board.group.min_scaleout_per_vs)
        for work in self._held.get(seen.engine, ()):
            if not self._settled(work) or work.requested <= low:
                continue
            parts = self._parts(work)
            if parts is None or len(parts) < 2:
                continue
            more = scaled(parts[seen.engine], 1 / (len(parts) - 1))
            after = {e: self._top(plus(self._loads[e].whole, more)) for e in parts if e != seen.engine}
            hot = max(after, key=lambda e: after[e])
            if after[hot] > settle(self._marks):
                self._note(
                    f"{self._head(seen)}, but without it {board.name(hot)} would have {after[hot]:.0f} % "
                    f"(at most {settle(self._marks):.0f} %)"
                )
                continue
            why = (
                f"{self._head(seen)}: scale {work.vip.name} in, which has {work.requested} engines and needs {low}; "
                f"{board.name(hot)} goes to {after[hot]:.0f} %"
            )
            action = Action(kind=RequestKind.SCALE_IN, vip=work.vip.id, from_engine=seen.engine)
            return _Found(action, why)
        return None

    def _may_go(self) -> str:
        """Why no further engine may be emptied; "" if one may: all that are idle could be deleted with it."""
        board, group = self._board, self._board.group
        usable = board.usable()
        idle = sum(not board.load[engine.id] for engine in usable)
        buffer = group.buffer_se if group.ha_mode == SHARED else 0
        needed = math.ceil(capacity.demand(board) / group.max_vs_per_se) + buffer
        keep = max(needed, group.min_se)
        if idle + 1 <= len(usable) - keep:
            return ""
        held = f"min_se {group.min_se}" if group.min_se >= needed else f"its virtual services and buffer_se {buffer}"
        return f"nothing is consolidated: the group needs {keep} of its {len(usable)} engines for {held}"

    def _consolidate(self, seen: EngineLook, age: Mapping[str, int]) -> _Found | None:
        """The first move that empties the engine, if all that it holds has a place on others in use."""
        board = self._board
        if board.engines[seen.engine].enable_state != ENABLED:
            return None
        parts = self._loads[seen.engine].vips
        held = list(self._held.get(seen.engine, ()))
        held.sort(key=lambda w: (-w.vip.slots, w.vip.created, w.vip.id))
        slots, loads = dict(board.load), {engine: load.whole for engine, load in self._loads.items()}
        own = (board.load[seen.engine], -age[seen.engine])
        first: tuple[Work, str, Judgement] | None = None
        for work in held:
            part = parts.get(work.vip.id)
            if part is None or not self._settled(work):
                self._note(f"{self._head(seen)}, but {work.vip.name} there is not settled or its load is not known")
                return None
            good: list[Candidate] = []
            judged = judge(board, work, besides=[seen.engine])
            rejections = list(judged.rejections)
            for candidate in judged.candidates:
                no = self._no_place(candidate, work, part, slots, loads, own, age)
                if no is None:
                    good.append(candidate)
                else:
                    rejections.append(no)
            if not good:
                self._note(f"{self._head(seen)}, but {work.vip.name} has no place on the other engines in use")
                return None
            good.sort(key=lambda c: (-slots[c.engine], age[c.engine]))
            target = good[0].engine
            slots[target] += work.vip.slots
            loads[target] = plus(loads[target], part)
            first = first or (work, target, Judgement(candidates=tuple(good), rejections=tuple(rejections)))
        if first is None:
            return None
        work, target, judged = first
        after = self._top(plus(self._loads[target].whole, parts[work.vip.id]))
        rest = f", then {len(held) - 1} more" if len(held) > 1 else ""
        why = (
            f"{self._head(seen)}: migrate {work.vip.name} from it{rest}, so that it can go; "
            f"{board.name(target)} goes to {after:.0f} %"
        )
        action = Action(kind=RequestKind.MIGRATE, vip=work.vip.id, from_engine=seen.engine, to_engine=target)
        return _Found(action, why, judged)

    def _no_place(
        self,
        candidate: Candidate,
        work: Work,
        part: Load,
        slots: Mapping[str, int],
        loads: Mapping[str, Load],
        own: tuple[int, int],
        age: Mapping[str, int],
    ) -> Rejection | None:
        """Why an engine can't take a VIP of one that is being emptied, after those it takes already."""
        engine, most = candidate.engine, self._board.group.max_vs_per_se
        if candidate.idle:
            return Rejection(engine=engine, rule="idle", detail="it is idle: moving there empties nothing")
        if (self._board.load[engine], -age[engine]) < own:
            return Rejection(engine=engine, rule="lighter", detail="it holds less: it would be emptied first")
        if slots[engine] + work.vip.slots > most:
            detail = f"{slots[engine]} of max_vs_per_se {most} slots used, {work.vip.slots} needed"
            return Rejection(engine=engine, rule="no_room", detail=detail)
        if engine not in loads:
            return Rejection(engine=engine, rule="no_load", detail="its load is not known")
        after = self._top(plus(loads[engine], part))
        if after > settle(self._marks):
            detail = f"it would have {after:.0f} %, more than {settle(self._marks):.0f} %"
            return Rejection(engine=engine, rule="would_be_over", detail=detail)
        return None

    # --- both ---

    def _top(self, load: Load) -> float:
        return self._marks.top(load)

    def _settled(self, work: Work) -> bool:
        return work.vip.enabled and len(work.ready) == len(work.placements) == work.requested

    def _parts(self, work: Work) -> dict[str, Load] | None:
        """Engine -> the VIP's part there; None unless all are known."""
        if not self._settled(work):
            return None
        found: dict[str, Load] = {}
        for placement in work.placements:
            part = self._loads[placement.engine].vips.get(work.vip.id) if placement.engine in self._loads else None
            if part is None:
                return None
            found[placement.engine] = part
        return found

    def _note(self, sentence: str) -> None:
        if sentence not in self._notes:
            self._notes.append(sentence)


class _Case(msgspec.Struct, frozen=True):
    """An engine over the mark, the figure that puts it there, and both in words."""

    engine: str
    figure: str
    head: str


class _Found(msgspec.Struct, frozen=True):
    action: Action
    why: str
    judged: Judgement = Judgement()


def _decision(found: _Found) -> Decision:
    action, judged = found.action, found.judged
    counts: dict[str, int] = {}
    for no in judged.rejections:
        counts[no.rule] = counts.get(no.rule, 0) + 1
    return Decision(
        vip=action.vip,
        what=f"rebalance_{action.kind.value}",
        engine=action.to_engine or ("" if action.to_new else action.from_engine),
        why=found.why,
        runner_up=judged.candidates[1].engine if len(judged.candidates) > 1 else "",
        eligible=len(judged.candidates),
        excluded=tuple(sorted(counts.items())),
    )
