"""How buckets are dealt, and the frames the guard speaks."""

from __future__ import annotations

import socket
from collections import Counter

from hypothesis import given
from hypothesis import strategies as some

from shoal.engine.guard.arp import BROADCAST, FRAME, announcements, answer, probe
from shoal.engine.guard.buckets import deal
from shoal.engine.guard.nft import set_batch

MAC = bytes.fromhex("020000000001")
engines = some.lists(some.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)


@given(some.lists(engines, min_size=1, max_size=5))
def test_buckets_are_even_within_one_whatever_came_before(history: list[list[str]]) -> None:
    table: tuple[str, ...] = ()
    for members in history:
        table = deal(table, members)
        shares = Counter(table)
        assert len(table) == 256
        assert set(shares) == set(members)
        assert max(shares.values()) - min(shares.values()) <= 1


@given(engines, engines)
def test_only_as_many_buckets_move_as_must(before: list[str], after: list[str]) -> None:
    old = deal((), before)
    new = deal(old, after)
    share = Counter(old)
    # an engine can keep at most its new share, rounded up for as many engines as there are odd buckets
    least, odd = divmod(256, len(after))
    kept = sorted((share[e] for e in after), reverse=True)
    most = sum(min(have, least + (i < odd)) for i, have in enumerate(kept))
    assert sum(a == b for a, b in zip(old, new, strict=True)) == most


def test_no_members_no_buckets() -> None:
    assert deal(("a",) * 256, ()) == ()


def test_announcements_are_a_request_and_a_reply_about_the_sender() -> None:
    for data, operation in zip(announcements("10.0.0.9", MAC), (1, 2), strict=True):
        to, source, kind, _, _, _, _, op, sender, address, _, target = FRAME.unpack(data)
        assert (to, source, kind, op, sender) == (BROADCAST, MAC, 0x0806, operation, MAC)
        assert address == target == socket.inet_aton("10.0.0.9")


def test_a_probe_has_no_sender_address_and_is_no_answer() -> None:
    data = probe("10.0.0.9", MAC)
    assert FRAME.unpack(data)[9] == bytes(4)
    assert answer(data) is None


def test_an_answer_names_address_and_mac_and_short_frames_are_none() -> None:
    reply = announcements("10.0.0.9", MAC)[1]
    assert answer(reply) == ("10.0.0.9", MAC)
    assert answer(reply + bytes(18)) == ("10.0.0.9", MAC)
    assert answer(reply[:30]) is None


def test_a_set_is_changed_by_its_difference_only() -> None:
    assert set_batch("vips", {"a", "b"}, {"b", "c"}) == (
        "delete element netdev shoal vips { a }\nadd element netdev shoal vips { c }\n"
    )
    assert set_batch("vips", {"a"}, {"a"}) == ""
