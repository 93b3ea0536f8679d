"""The view's indexes, also in drafts that lie over each other."""

from __future__ import annotations

import ipaddress

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from shoal.controller.view import View, intent_key
from shoal.objects import load
from shoal.store.memory import MemoryStore
from shoal.store.protocol import Batch, Change

FIRST = int(ipaddress.ip_address("10.9.0.0"))
LAST = FIRST + 9
WRITES = st.lists(st.tuples(st.integers(0, 4), st.sets(st.integers(0, 9), max_size=3) | st.none()), max_size=8)
"""(a VsVip, its addresses); None deletes it."""


def fresh() -> View:
    return View(MemoryStore(), load())


def write(view: View, number: int, addresses: set[int] | None) -> None:
    uuid = f"v{number}"
    value = None
    if addresses is not None:
        vips = [{"vip_id": str(n), "ip_address": {"addr": f"10.9.0.{n}", "type": "V4"}} for n in sorted(addresses)]
        value = msgspec.json.encode(
            {"uuid": uuid, "name": f"vip-{number % 2}", "tenant_ref": "/api/tenant/admin", "vip": vips}
        )
    revision = view.revision + 1
    view.take(Batch(revision, (Change(intent_key("vsvip", uuid), value, revision),)))


def said(view: View) -> object:
    """All that can be asked of it."""
    numbers = range(FIRST, LAST + 1)
    documents = sorted(view.all("vsvip"), key=lambda document: str(document["uuid"]))
    return (
        documents,
        {d["uuid"]: (view.version("vsvip", d["uuid"]), view.order("vsvip", d["uuid"])) for d in documents},
        [sorted(d["uuid"] for d in view.holders(ipaddress.ip_address(number))) for number in numbers],
        [(view.oldest_named("vsvip", name) or {}).get("uuid") for name in ("vip-0", "vip-1")],
        list(view.free(4, FIRST, LAST)),
    )


@given(WRITES)
def test_free_addresses_are_those_that_nobody_has(writes: list[tuple[int, set[int] | None]]) -> None:
    view, held = fresh(), dict[int, set[int]]()
    for number, addresses in writes:
        write(view, number, addresses)
        held[number] = addresses or set()
        taken = set().union(*held.values())
        assert list(view.free(4, FIRST, LAST)) == [FIRST + n for n in range(10) if n not in taken]
        assert list(view.free(4, FIRST + 3, LAST)) == [FIRST + n for n in range(3, 10) if n not in taken]


@given(WRITES, st.lists(WRITES, max_size=3))
def test_drafts_that_settle_are_as_if_all_had_been_written_in_one_place(
    before: list[tuple[int, set[int] | None]], drafts: list[list[tuple[int, set[int] | None]]]
) -> None:
    base, plain = fresh(), fresh()
    for one in before:
        write(base, *one)
        write(plain, *one)
    seen = said(base)
    together = base.draft()
    for writes in drafts:
        own = together.draft()
        for one in writes:
            write(own, *one)
            write(plain, *one)
            assert said(own) == said(plain)
        together.settle(own)
        assert said(together) == said(plain)
    assert said(base) == seen
