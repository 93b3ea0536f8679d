"""Long heartbeats: every change arrives whole, whatever is lost on the way, and what does not change costs little."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from shoal.engine.guard.claims import ClaimFile
from shoal.engine.guard.sections import Again, Contents, Hearing, Saying, Section
from shoal.ownership.events import Entry, Heartbeat, Mode
from shoal.wire.messages import Claim

FRAME = 1500


def heartbeat(count: int, **changed: Mode) -> Heartbeat:
    ids = [f"vsvip-{number:08d}-0000-4000-8000-000000000000/0" for number in range(count)]
    modes = {id: changed.get(f"n{number}", Mode.READY) for number, id in enumerate(ids)}
    entries = tuple(Entry(id, mode, Claim(1, 0, 1), 1, "se-" + "0" * 36) for id, mode in modes.items())
    return Heartbeat("se-a", "first", True, entries)


def by_vip(said: Heartbeat | None) -> dict[str, Entry]:
    assert said is not None
    return {entry.vip: entry for entry in said.entries}


def test_a_short_one_goes_as_it_is() -> None:
    said, sections = Saying().say(heartbeat(5))
    assert said == heartbeat(5)
    assert sections == ()


def test_of_a_thousand_vips_only_what_changed_is_sent() -> None:
    saying, hearing = Saying(), Hearing()
    contents, sections = saying.say(heartbeat(1000))
    assert isinstance(contents, Contents)
    assert len(msgspec.msgpack.encode(contents)) < FRAME
    for section in sections:
        assert hearing.section(section) is None
    assert by_vip(hearing.contents(contents)[0]) == by_vip(heartbeat(1000))
    contents, sections = saying.say(heartbeat(1000, n7=Mode.HELD))
    assert len(sections) == 1
    hearing.section(sections[0])
    assert isinstance(contents, Contents)
    assert by_vip(hearing.contents(contents)[0]) == by_vip(heartbeat(1000, n7=Mode.HELD))
    assert saying.say(heartbeat(1000, n7=Mode.HELD)) == (contents, ())


def test_what_is_lost_is_asked_for() -> None:
    saying, hearing = Saying(), Hearing()
    contents, _ = saying.say(heartbeat(100))
    assert isinstance(contents, Contents)
    message, lacking = hearing.contents(contents)
    assert message is None
    *but_one, last = saying.again(Again("se-b", lacking), "se-a")
    assert [hearing.section(section) for section in but_one] == [None] * len(but_one)
    assert by_vip(hearing.section(last)) == by_vip(heartbeat(100))


@pytest.mark.parametrize("seed", range(20))
def test_over_a_bad_line_the_newest_arrives(seed: int) -> None:
    """Datagrams are lost and overtake one another; with each interval the contents are said again."""
    chance, saying, hearing = random.Random(seed), Saying(), Hearing()
    heard: Heartbeat | None = None
    queue: list[Contents | Section] = []
    said = heartbeat(100)
    for turn in range(60):
        if turn < 40:
            said = heartbeat(100, **{f"n{chance.randrange(100)}": Mode.HELD})
        contents, sections = saying.say(said)
        assert isinstance(contents, Contents)
        queue += [*sections, contents]
        if chance.random() < 0.3:
            chance.shuffle(queue)
        for message in queue:
            if turn < 50 and chance.random() < 0.3:
                continue
            if isinstance(message, Section):
                heard = hearing.section(message) or heard
                continue
            whole, lacking = hearing.contents(message)
            heard = whole or heard
            for section in saying.again(Again("se-b", lacking), "se-a") if lacking else ():
                if turn >= 50 or chance.random() < 0.7:
                    heard = hearing.section(section) or heard
        queue = []
    assert by_vip(heard) == by_vip(said)


def test_many_claims_are_written_at_once_and_none_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    monkeypatch.setattr("os.fdatasync", written.append)
    file = ClaimFile(tmp_path / "claims.json")
    file.put({f"vip-{number}": Claim(2, 1, 1) for number in range(1000)})
    file.put({"vip-0": Claim(1, 9, 9)})
    assert len(written) == 1
    assert ClaimFile(tmp_path / "claims.json").claims["vip-0"] == Claim(2, 1, 1)
    assert len(file.claims) == 1000
