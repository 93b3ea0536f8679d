"""What is done anew after a change, and what is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from shoal.controller.clock import SystemClock
from shoal.controller.reconciler import Reconciler
from shoal.objects import views

VSVIP = {"uuid": "vsvip-1", "name": "one", "vip": []}


class Surroundings:
    """Of a reconciler with one group: notes what is forgotten; ``referred`` says what has referrers."""

    def __init__(self) -> None:
        self.forgotten: list[tuple[str, str]] = []
        self.referred: set[str] = set()
        view = SimpleNamespace(
            referrers=lambda uuid: [("virtualservice", "vs", "vs")] if uuid in self.referred else [],
            all=lambda type: [{"uuid": "group"}] if type == "serviceenginegroup" else [],
        )
        compiler = SimpleNamespace(changed=lambda type, uuid: self.forgotten.append((type, uuid)))
        parts = (view, SimpleNamespace(vips={}), None, compiler, None, SystemClock())
        self.reconciler = Reconciler(*cast(Any, parts))
        self.reconciler.plans = cast(Any, {"group": None})

    def busy(self) -> bool:
        return self.reconciler._wanted.is_set()


@pytest.mark.parametrize("type", ["vsvip", "pool", "sslkeyandcertificate"])
async def test_an_object_that_nothing_refers_to_is_forgotten_and_causes_no_work(type: str) -> None:
    """Forgotten all the same: it may have been compiled while something referred to it, and may be again."""
    around = Surroundings()
    around.reconciler.on_document(type, "one", {})
    assert (around.forgotten, around.busy()) == ([(type, "one")], False)
    around.referred.add("one")
    around.reconciler.on_document(type, "one", {})
    assert around.busy()


async def test_a_virtual_service_causes_a_plan_whatever_refers_to_it() -> None:
    around = Surroundings()
    around.reconciler.on_document("virtualservice", "vs", {})
    assert around.busy()


def test_a_document_is_typed_once_until_it_is_replaced() -> None:
    known = views.Views(views.VsVip)
    other = {**VSVIP, "uuid": "vsvip-2"}
    first, second = known.of([VSVIP, other])
    assert known.of([VSVIP, {**other, "name": "two"}])[0] is first
    assert [vip.name for vip in known.of([{**other, "name": "two"}])] == ["two"]
    assert known.of([VSVIP])[0] is not first
    assert second.uuid == "vsvip-2"
