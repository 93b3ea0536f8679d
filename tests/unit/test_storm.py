"""When the controller suspects itself, and when no longer. Pure: sightings and times in, storms and news out."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from shoal.controller.storm import JUDGED_WITHIN_S, LATECOMERS_S, Settings, Sighting, Storms

QUIET = 5.0
"""So long silent that an engine would count as down."""


class Sky:
    """Engines of groups, as the controller sees them. ``gone``: proven dead."""

    def __init__(self, sizes: dict[str, int], spare: int = 1, **settings: int) -> None:
        self.now = 1000.0
        self.engines = {f"{group}{n}": group for group, size in sizes.items() for n in range(1, size + 1)}
        self.since: dict[str, float] = {}
        self.gone: set[str] = set()
        self.storms = Storms(lambda: Settings(**settings), lambda group: spare)

    def lose(self, *names: str, gone: bool = False) -> None:
        for name in names:
            self.since[name] = self.now
            if gone:
                self.gone.add(name)

    def back(self, names: Iterable[str]) -> None:
        for name in names:
            self.since.pop(name, None)
            self.gone.discard(name)

    def wait(self, seconds: float = QUIET) -> None:
        self.now += seconds
        seen = []
        for name, group in self.engines.items():
            since = self.since.get(name)
            gone = name in self.gone
            down = since is not None and (gone or self.now - since >= 3.0)
            seen.append(Sighting(name, group, since is not None, down, gone))
        self.storms.look(seen, self.now, self.now)

    def suspects(self) -> list[str]:
        return [name for name in self.engines if self.storms.suspects(name)]

    def told(self) -> list[bool]:
        return [news.began for news in self.storms.news]


def names(group: str, first: int, last: int) -> list[str]:
    return [f"{group}{n}" for n in range(first, last + 1)]


@pytest.mark.parametrize(
    ("why", "size", "lost", "spare", "storm"),
    [
        ("all of many", 20, 20, 1, True),
        ("two are too few, whatever their share", 2, 2, 0, False),
        ("three of three", 3, 3, 1, True),
        ("a third is not more than a third", 9, 3, 1, False),
        ("more than a third", 8, 3, 1, True),
        ("no more than the buffer is for", 9, 4, 4, False),
        ("one more than the buffer is for", 9, 5, 4, True),
    ],
)
def test_what_is_a_storm(why: str, size: int, lost: int, spare: int, storm: bool) -> None:
    sky = Sky({"g": size}, spare=spare)
    sky.lose(*names("g", 1, lost))
    sky.wait()
    assert sky.suspects() == (names("g", 1, lost) if storm else []), why


def test_silence_that_gives_nobody_up_is_no_storm() -> None:
    sky = Sky({"g": 20})
    sky.lose(*names("g", 1, 20))
    sky.wait(2.5)
    assert not sky.told()


def test_small_groups_that_vanish_together_are_a_storm() -> None:
    """A controller that is cut off from ten groups of two sees no group lose three."""
    sky = Sky({"a": 2, "b": 2, "c": 2})
    sky.lose(*sky.engines)
    sky.wait()
    assert sky.suspects() == [*sky.engines]
    assert sky.told() == [True, True, True]
    sky.wait(600.0)
    assert sky.suspects() == [*sky.engines]
    within = Sky({"a": 2, "b": 2, "c": 2})
    within.lose("a1", "b1", "c1")
    within.wait()
    assert not within.told(), "no group has lost more than its buffer"


def test_a_group_of_which_nobody_is_missed_any_more_has_no_storm_of_others() -> None:
    """Its dead were given up one by one, and count with those of a group that loses one now; a storm of nobody would begin and
    end at each look."""
    sky = Sky({"a": 3, "b": 4})
    for name in ("a1", "a2", "b1"):
        sky.lose(name, gone=True)
        sky.wait()
    sky.lose("b2")
    for _ in range(20):
        sky.wait(0.5)
    assert sky.suspects() == ["b2"]
    assert [(news.began, news.storm.group) for news in sky.storms.news] == [(True, "b")]


def test_one_group_of_many_does_not_make_the_others_suspect() -> None:
    sky = Sky({"a": 4, "b": 20})
    sky.lose(*names("a", 1, 4), "b1")
    sky.wait()
    assert sky.suspects() == names("a", 1, 4)


def test_those_that_vanish_one_after_another_count_within_the_window() -> None:
    sky = Sky({"g": 6}, storm_window_s=60)
    for name in names("g", 1, 3):
        sky.lose(name)
        sky.wait(20.0)
    assert sky.suspects() == ["g3"], "the first two were given up before it was a storm"
    slow = Sky({"g": 6}, storm_window_s=15)
    for name in names("g", 1, 3):
        slow.lose(name)
        slow.wait(20.0)
    assert not slow.told()


def test_proof_ends_suspicion_engine_by_engine_and_moves_are_paced() -> None:
    sky = Sky({"g": 8})
    sky.lose(*names("g", 1, 8))
    sky.wait()
    assert sky.storms.pace("g", sky.now, sky.now) is not None
    sky.gone = {"g1", "g2"}
    sky.wait(1.0)
    assert sky.suspects() == names("g", 3, 8)
    sky.gone = set(names("g", 1, 8))
    sky.wait(1.0)
    assert sky.suspects() == []
    assert sky.storms.pace("g", sky.now, sky.now) is not None, "a real mass death is mended in order, too"
    sky.storms.planned("g", 5, held=7)
    sky.wait(JUDGED_WITHIN_S + 1.0)
    assert sky.told() == [True], "some still wait for their turn"
    sky.storms.planned("g", 5, held=0)
    sky.wait(1.0)
    assert sky.told() == [True, False]
    assert sky.storms.pace("g", sky.now, sky.now) is None


def test_a_storm_is_over_at_once_when_all_are_back() -> None:
    sky = Sky({"g": 5})
    sky.lose(*names("g", 1, 5))
    for _ in range(10):
        sky.wait(60.0)
        assert sky.suspects() == names("g", 1, 5), "as long as it takes"
    sky.back(names("g", 1, 5))
    sky.wait(0.1)
    assert sky.told() == [True, False]
    assert "nothing was moved" in sky.storms.news[-1].why


def test_a_controller_that_was_stopped_for_an_hour_suspects_itself() -> None:
    sky = Sky({"g": 5})
    sky.wait(1.0)
    sky.lose(*names("g", 1, 5))
    sky.wait(3600.0)
    assert sky.suspects() == names("g", 1, 5)


def test_the_last_ones_get_time_to_come_back() -> None:
    sky = Sky({"g": 10})
    sky.lose(*names("g", 1, 10))
    sky.wait()
    for n in range(1, 9):
        sky.back([f"g{n}"])
        sky.wait(LATECOMERS_S - 1.0)
        assert sky.suspects() == names("g", n + 1, 10)
    sky.wait(LATECOMERS_S + 1.0)
    assert sky.suspects() == [], "two of ten that stay away are dead, not a storm"
    sky.wait(1.0)
    assert sky.suspects() == []


def test_one_that_was_given_up_stays_so_in_a_storm() -> None:
    sky = Sky({"g": 8})
    sky.lose("g1")
    sky.wait(30.0)
    sky.lose(*names("g", 2, 8))
    sky.wait()
    assert sky.suspects() == names("g", 2, 8)
    sky.back(["g1"])
    sky.wait(1.0)
    sky.lose("g1")
    sky.wait(1.0)
    assert sky.suspects() == names("g", 1, 8), "it was back: now it is out of sight like the others"


def test_an_operator_ends_it() -> None:
    sky = Sky({"g": 5})
    assert sky.storms.end("g", sky.now) is None
    sky.lose(*names("g", 1, 5))
    sky.wait()
    assert sky.storms.end("g", sky.now) == names("g", 1, 5)
    sky.wait(1.0)
    assert sky.suspects() == []
    assert sky.storms.pace("g", sky.now, sky.now) is not None
    sky.wait(JUDGED_WITHIN_S)
    sky.wait(100.0)
    assert sky.told() == [True, False], "and it does not begin again"


def test_it_can_be_turned_off() -> None:
    sky = Sky({"g": 20}, storm_window_s=0)
    sky.lose(*names("g", 1, 20))
    sky.wait()
    assert not sky.told()


@pytest.mark.parametrize("most", [1, 2, 60, 300, 1000])
def test_no_minute_has_more_moves_than_allowed(most: int) -> None:
    sky = Sky({"g": 20}, moves_per_minute_max=most)
    sky.lose(*names("g", 1, 20), gone=True)
    sky.wait()
    made: list[float] = []
    for _ in range(3000):
        sky.now += 0.1
        wall = sky.now + 1_700_000_000.0
        pace = sky.storms.pace("g", sky.now, wall)
        assert pace is not None
        assert pace.next_at > wall + 0.05, "or plans would follow one another without any time between"
        sky.storms.planned("g", pace.moves, held=1)
        made += [sky.now] * pace.moves
    for at in made:
        assert sum(at <= other < at + 60.0 for other in made) <= most + (most == 1)
    assert len(made) >= most * 2, "nor far fewer"


def test_without_a_bound_moves_are_not_paced() -> None:
    sky = Sky({"g": 20}, moves_per_minute_max=0)
    sky.lose(*names("g", 1, 20))
    sky.wait()
    assert sky.suspects() and sky.storms.pace("g", sky.now, sky.now) is None
