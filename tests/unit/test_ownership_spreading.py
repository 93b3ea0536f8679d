"""How buckets are dealt, and how sets of the kernel are changed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as some

from shoal.engine.guard.buckets import deal
from shoal.engine.guard.nft import set_batch

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


def test_a_set_is_changed_by_its_difference_only() -> None:
    assert set_batch("vips", {"a", "b"}, {"b", "c"}) == (
        "delete element netdev shoal vips { a }\nadd element netdev shoal vips { c }\n"
    )
    assert set_batch("vips", {"a"}, {"a"}) == ""
