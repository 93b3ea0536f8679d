"""What is done anew after a change, and what is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from shoal.controller.clock import SystemClock
from shoal.controller.kept import Fresh
from shoal.controller.planning import Planning
from shoal.controller.reconciler import REVIEW_INTERVAL_S, Reconciler
from shoal.controller.records import VipRecord
from shoal.objects import views
from shoal.placement.model import Plan, Snapshot
from shoal.simulator.silence import silence
from shoal.simulator.system_world import SystemWorld
from tests.simulation.playing import play

VSVIP: dict[str, Any] = {
    "uuid": "vsvip-1",
    "name": "one",
    "vip": [{"vip_id": "0", "enabled": True, "ip_address": {"addr": "10.0.0.1", "type": "V4"}}],
}
SERVICE: dict[str, Any] = {
    "uuid": "vs",
    "name": "vs",
    "vsvip_ref": "/api/vsvip/vsvip-1",
    "se_group_ref": "/api/serviceenginegroup/g",
}
RECORD = VipRecord(id="vsvip-1/0", group="g", succession=("e-1", "e-2"))


class Surroundings:
    """Of a reconciler with one group: notes what is forgotten; ``referred`` says what has referrers."""

    def __init__(self) -> None:
        self.forgotten: list[tuple[str, str]] = []
        self.pushed: list[str] = []
        self.referred: set[str] = set()
        self.documents: dict[tuple[str, str], Any] = {("vsvip", "vsvip-1"): VSVIP, ("virtualservice", "vs"): SERVICE}
        view = SimpleNamespace(
            referrers=lambda uuid: [("virtualservice", "vs", "vs")] if uuid in self.referred else [],
            all=lambda type: [document for (kind, _), document in self.documents.items() if kind == type],
            get=lambda type, uuid: self.documents.get((type, uuid)),
            order=lambda type, uuid: list(self.documents).index((type, uuid)),
        )
        fleet = SimpleNamespace(push_all=lambda: self.pushed.append("all"), push=self.pushed.append)
        ledger = SimpleNamespace(vips={"g": {"vsvip-1/0": RECORD}}, floors={}, engines={})
        parts = (view, ledger, fleet, SimpleNamespace(changed=self._forget), None, SystemClock())
        self.reconciler = Reconciler(*cast(Any, parts))
        self.reconciler._intents.of("g")

    def _forget(self, type: str, uuid: str) -> tuple[str, ...] | None:
        self.forgotten.append((type, uuid))
        return None if type == "sslkeyandcertificate" else ("vs",)

    def busy(self) -> bool:
        return self.reconciler._wanted.is_set() or bool(self.pushed)


def test_a_group_is_planned_anew_when_something_changed_or_all_is_reviewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine's word that changes nothing is no reason; a failure is, and the time a plan gave, and each review."""
    planned: list[str] = []
    plan = Planning.plan

    def noted(self: Planning, snapshot: Snapshot, now: float, fresh: Fresh | None = None) -> Plan:
        planned.append(snapshot.group.name)
        return plan(self, snapshot, now, fresh)

    monkeypatch.setattr(Planning, "plan", noted)

    async def story(world: SystemWorld) -> None:
        group = await world.create("serviceenginegroup", {"name": "g"})
        await world.service("one", "g")
        await world.settle()
        await world.pass_time(REVIEW_INTERVAL_S)
        while "g" not in planned:  # the next review is a whole interval away
            await world.pass_time(0.5)
        planned.clear()
        for _ in range(5):
            world.controller.reconciler.mark(group["uuid"])
            await world.pass_time(0.2)
        assert not planned
        record = world.record_of("one")
        assert record is not None
        world.kill(record.succession[0])
        await world.pass_time(2.0)
        assert planned.count("g") >= 2
        await world.settle()
        planned.clear()
        await world.pass_time(2 * REVIEW_INTERVAL_S)
        assert "g" in planned

    with silence():
        play(story)


@pytest.mark.parametrize("type", ["pool", "sslkeyandcertificate", "httppolicyset", "stringgroup"])
async def test_an_object_that_nothing_refers_to_is_forgotten_and_causes_no_work(type: str) -> None:
    """Forgotten all the same: it may have been compiled while something referred to it, and may be again."""
    around = Surroundings()
    around.reconciler.on_document(type, "one", {})
    assert (around.forgotten, around.busy()) == ([(type, "one")], False)
    around.referred.add("one")
    around.reconciler.on_document(type, "one", {})
    assert around.busy()


async def test_a_virtual_service_that_is_another_one_causes_a_plan_of_its_group_alone() -> None:
    around = Surroundings()
    around.documents["virtualservice", "vs"] = {**SERVICE, "enabled": False}
    around.reconciler.on_document("virtualservice", "vs", around.documents["virtualservice", "vs"])
    assert list(around.reconciler._dirty) == ["g"]
    around.documents["virtualservice", "vs"] = {**SERVICE, "se_group_ref": "/api/serviceenginegroup/h"}
    around.reconciler.on_document("virtualservice", "vs", around.documents["virtualservice", "vs"])
    assert list(around.reconciler._dirty) == ["g", "h"]


async def test_a_vsvip_causes_a_plan_where_it_is_used_if_its_addresses_are_others() -> None:
    around = Surroundings()
    for number, (uuid, document, planned) in enumerate(
        (
            ("vsvip-2", {**VSVIP, "uuid": "vsvip-2"}, []),
            ("vsvip-1", {**VSVIP, "name": "other"}, []),
            ("vsvip-1", {**VSVIP, "vip": []}, ["g"]),
        )
    ):
        around.documents["vsvip", uuid] = document
        around.reconciler.on_document("vsvip", uuid, document)
        assert list(around.reconciler._dirty) == planned
        assert around.forgotten[number] == ("vsvip", uuid)
    assert not around.reconciler._stale, "engines hear of it once the plan is made"


async def test_what_only_a_configuration_is_made_of_reaches_the_engines_of_its_services_without_a_plan() -> None:
    around = Surroundings()
    around.referred.add("pool-1")
    around.reconciler.on_document("pool", "pool-1", {})
    assert not around.reconciler._dirty
    around.reconciler._recompile(around.reconciler._stale)
    assert around.pushed == ["e-1", "e-2"]


def test_a_document_is_typed_once_until_it_is_replaced() -> None:
    known = views.Views(views.VsVip)
    other = {**VSVIP, "uuid": "vsvip-2"}
    first, second = known.of([VSVIP, other])
    assert known.of([VSVIP, {**other, "name": "two"}])[0] is first
    assert [vip.name for vip in known.of([{**other, "name": "two"}])] == ["two"]
    assert known.of([VSVIP])[0] is not first
    assert second.uuid == "vsvip-2"
