"""The storm breaker: when many engines vanish at once, the controller suspects itself.

No I/O and no clock. A controller that is cut off from its engines sees exactly what it would see if all of them had
died; moving what they serve would turn its own trouble into everybody's. So while a storm lasts, an engine that is out
of sight is *suspect*, not down, until its death is proven: the cloud says that nothing of it runs, or a peer has claimed
a VIP from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from shoal.placement.model import Pace

VANISHED_MIN = 3
"""Fewer are no storm, whatever share of the group they are."""
GROUP_SHARE = 3
"""More than one in so many."""
JUDGED_WITHIN_S = 11.0
"""From when an engine is missed until it would count as down, at most; see `shoal.controller.fleet.verdict`."""
PACE_STEP_S = 0.1
"""What is left of a token is waited for so long at least: a sum of small fractions may never make a whole one."""
LATECOMERS_S = 10.0
"""Once most are back, the others get so long after the last return."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Of ControllerProperties. 0 turns either off."""

    storm_window_s: int = 60
    moves_per_minute_max: int = 300


class Sighting(msgspec.Struct, frozen=True):
    """One engine at this moment. ``missing``: there is no sign of life; ``down``: by itself it would count as down;
    ``proven``: and that is no guess."""

    engine: str
    group: str
    missing: bool
    down: bool
    proven: bool


class Storm(msgspec.Struct, kw_only=True):
    """Of one group. Times are monotonic seconds, except ``at``."""

    group: str
    began: float
    at: float
    """Wall clock, for people."""
    engines: int
    """Of the group, when it began."""
    vanished: dict[str, None] = {}
    """Every engine that was out of sight in it."""
    missing: dict[str, None] = {}
    """Those that still are."""
    lost: dict[str, None] = {}
    """Those of them that are known to be dead, or were written off."""
    lost_at: float = 0.0
    eased_at: float = 0.0
    """When so many were back that it would be no storm any more, or the last return since; 0 = not yet."""
    held: int = 0
    """VIPs that wait for their turn, by the last plan."""

    @property
    def suspects(self) -> list[str]:
        return [engine for engine in self.missing if engine not in self.lost]


class News(msgspec.Struct, frozen=True):
    """``began`` or ended, to be told to people."""

    began: bool
    storm: Storm
    why: str


class Storms:
    """``spare(group)``: how many engines the group can lose by its own rule (``buffer_se``)."""

    def __init__(self, settings: Callable[[], Settings], spare: Callable[[str], int]) -> None:
        self._settings = settings
        self._spare = spare
        self._missed_at: dict[str, float] = {}
        """By engine out of sight: when that was first seen. (Its silence may be older: a controller that was stopped for
        an hour sees all of them silent for an hour.)"""
        self._written_off: dict[str, None] = {}
        """Out of sight and counted as down: nobody waits for them any more."""
        self._tokens = 0.0
        self._filled_at = 0.0
        self.active: dict[str, Storm] = {}
        """By group."""
        self.news: list[News] = []
        """Whoever tells people takes them."""

    def suspects(self, engine: str) -> bool:
        return any(engine in storm.missing and engine not in storm.lost for storm in self.active.values())

    # --- what is seen ---

    def look(self, sightings: Iterable[Sighting], now: float, at: float) -> None:
        """``sightings``: every engine that has connected once, all at the moment ``now``; ``at`` by the wall clock."""
        groups: dict[str, list[Sighting]] = {}
        missed_at: dict[str, float] = {}
        for seen in sightings:
            groups.setdefault(seen.group, []).append(seen)
            if seen.missing:
                missed_at[seen.engine] = self._missed_at.get(seen.engine, now)
        self._missed_at = missed_at
        self._written_off = {engine: None for engine in self._written_off if engine in missed_at}
        if not missed_at and not self.active:
            return
        for group in [group for group in self.active if group not in groups]:
            self._end(group, "its engines are gone")
        if len(missed_at) >= VANISHED_MIN:
            self._begin(groups, now, at)
        for group, storm in list(self.active.items()):
            self._follow(storm, groups[group], now, wide=self._wide(groups))
        for seen in (seen for group in groups.values() for seen in group):
            if seen.down and not self._open(seen):
                self._written_off[seen.engine] = None

    def _open(self, seen: Sighting) -> bool:
        storm = self.active.get(seen.group)
        return storm is not None and seen.engine in storm.missing and seen.engine not in storm.lost

    def _begin(self, groups: dict[str, list[Sighting]], now: float, at: float) -> None:
        window_s = self._settings().storm_window_s
        if not window_s:
            return
        recent = {g: [s for s in seen if self._recent(s, now, window_s)] for g, seen in groups.items()}
        sizes = {g: sum(not s.missing or s in recent[g] for s in seen) for g, seen in groups.items()}
        everywhere = [seen for group in recent.values() for seen in group]
        spare = sum(self._spare(group) for group, lost in recent.items() if lost)
        wide = _many(len(everywhere), sum(sizes.values()), spare) and any(self._news(s) for s in everywhere)
        for group, lost in recent.items():
            names = dict.fromkeys(s.engine for s in lost if s.engine not in self._written_off)
            if group in self.active or not names:
                continue
            own = _many(len(lost), sizes[group], self._spare(group)) and any(self._news(s) for s in lost)
            if own or wide:
                storm = Storm(group=group, began=now, at=at, engines=sizes[group], vanished=names, missing=dict(names))
                why = "" if own else f"{len(everywhere)} of {sum(sizes.values())} in all groups"
                if not self.active:
                    self._tokens, self._filled_at = float(self._burst), now
                self.active[group] = storm
                self.news.append(News(True, storm, why))

    def _recent(self, seen: Sighting, now: float, window_s: float) -> bool:
        return seen.missing and now - self._missed_at[seen.engine] <= window_s + JUDGED_WITHIN_S

    def _news(self, seen: Sighting) -> bool:
        """Is it about to be judged? Silence alone, while nobody would be given up for it, is no storm."""
        return seen.down and seen.engine not in self._written_off

    def _wide(self, groups: dict[str, list[Sighting]]) -> bool:
        """Are there too many out of sight over all groups?"""
        missing = sum(len(storm.missing) for storm in self.active.values())
        return _many(missing, sum(map(len, groups.values())), sum(self._spare(group) for group in self.active))

    def _follow(self, storm: Storm, sightings: list[Sighting], now: float, *, wide: bool) -> None:
        seen = {sighting.engine: sighting for sighting in sightings}
        for engine in list(storm.missing):
            if engine not in seen or not seen[engine].missing:
                del storm.missing[engine]
                storm.lost.pop(engine, None)
                if storm.eased_at:
                    storm.eased_at = now
        for engine, sighting in seen.items():
            if sighting.missing and engine not in storm.missing and engine not in self._written_off:
                storm.missing[engine] = storm.vanished[engine] = None
            if engine in storm.missing and sighting.down and sighting.proven and engine not in storm.lost:
                storm.lost[engine] = None
                storm.lost_at = now
        if storm.suspects and not wide and not _many(len(storm.missing), len(seen), self._spare(storm.group)):
            storm.eased_at = storm.eased_at or now
            if now - storm.eased_at > LATECOMERS_S:
                self._write_off(storm, now)
        elif storm.suspects:
            storm.eased_at = 0.0
        if not storm.suspects and not (storm.lost and (storm.held or now - storm.lost_at < self._quiet_s())):
            self._end(storm.group, _outcome(storm))

    def _quiet_s(self) -> float:
        """So long after the last death that is proven, moves are still paced: more may come."""
        return min(self._settings().storm_window_s, JUDGED_WITHIN_S)

    def _write_off(self, storm: Storm, now: float) -> None:
        self._written_off |= dict.fromkeys(storm.suspects)
        storm.lost |= dict.fromkeys(storm.suspects)
        storm.lost_at = now

    def _end(self, group: str, why: str) -> None:
        self.news.append(News(False, self.active.pop(group), why))

    # --- what people and plans do ---

    def end(self, group: str, now: float) -> list[str] | None:
        """Count the group's suspects as down; they are returned. None: it has no storm. Moves stay paced until all is
        mended."""
        storm = self.active.get(group)
        if storm is None:
            return None
        suspects = storm.suspects
        self._write_off(storm, now)
        return suspects

    def pace(self, group: str, now: float, at: float) -> Pace | None:
        """How fast the group may be mended now; None = no storm, or no bound. ``at``: ``now`` by the wall clock."""
        if group not in self.active or not self._settings().moves_per_minute_max:
            return None
        rate = max(1, self._settings().moves_per_minute_max - self._burst) / 60.0
        self._tokens = min(float(self._burst), self._tokens + (now - self._filled_at) * rate)
        self._filled_at = now
        return Pace(moves=int(self._tokens), next_at=at + max(PACE_STEP_S, (1.0 - self._tokens % 1.0) / rate))

    def planned(self, group: str, moves: int, held: int) -> None:
        """A plan of the group made so many moves, and so many wait."""
        self._tokens -= moves
        if group in self.active:
            self.active[group].held = held

    @property
    def _burst(self) -> int:
        """At once; over any minute there are at most ``moves_per_minute_max``."""
        return max(1, self._settings().moves_per_minute_max // 60)


def _many(lost: int, engines: int, spare: int) -> bool:
    return lost >= VANISHED_MIN and lost > spare and lost * GROUP_SHARE > engines


def told(news: News, group: str, names: Mapping[str, str]) -> str:
    """For people. ``group``: its name; ``names``: of engines."""
    if not news.began:
        return f"{group}: {news.why}"
    storm = news.storm
    vanished = ", ".join(sorted(names.get(engine, engine) for engine in storm.vanished))
    wide = f" ({news.why})" if news.why else ""
    return (
        f"{group}: {len(storm.vanished)} of {storm.engines} engines vanished at once{wide}: {vanished}. The controller "
        "suspects its own sight first: what they hold stays as it is, unless the cloud says that nothing of an engine "
        "runs or a peer has taken over from it, and moves are paced. If they are dead indeed: "
        f"endstorm serviceenginegroup {group}"
    )


def _outcome(storm: Storm) -> str:
    lost = len(storm.lost)
    back = len(storm.vanished) - lost
    if not lost:
        return f"all {back} are back, and nothing was moved for their absence"
    return f"{back} are back, {lost} were lost and what they held is placed anew as far as there is room"
