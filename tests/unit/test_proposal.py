"""Proposed writes: the errors and the documents of real ones, nothing stored, and the groups as they would be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.controller.intent import Caller
from shoal.controller.proposal import Proposal
from shoal.errors import Duplicate, InUse, Invalid, NotAllowed, NotFound, Stale
from tests.api_world import ControlledWorld, controlled_world

ADMIN = Caller(user="admin")
NOW = 1_700_000_000.0


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


def proposal(world: ControlledWorld) -> Proposal:
    return Proposal(world.intent, world.view, world.controller.reconciler)


def group_of(world: ControlledWorld) -> Any:
    return world.view.named("serviceenginegroup", "Default-Group")


async def records(world: ControlledWorld) -> dict[str, int]:
    return {record.key: record.version for record in (await world.store.list("")).records}


def body(name: str, port: int = 80) -> dict[str, Any]:
    return {
        "name": name,
        "services": [{"port": port}],
        "pool_ref": "/api/pool?name=web-pool",
        "vsvip_ref": "/api/vsvip?name=web-vip",
    }


async def test_nothing_is_stored_and_the_next_write_sees_the_last(world: ControlledWorld) -> None:
    service = await world.service()
    before, documents = await records(world), dict(world.view.get("virtualservice", service["uuid"]) or {})
    tried = proposal(world)
    group = group_of(world)["uuid"]
    await tried.patch("serviceenginegroup", group, {"replace": {"max_se": 7}}, ADMIN)
    await tried.patch("virtualservice", service["uuid"], {"replace": {"enabled": False}}, ADMIN)
    made = await tried.create("virtualservice", body("shop", 81), ADMIN)
    await tried.replace("serviceenginegroup", group, {"name": "Default-Group", "max_se": 8}, ADMIN)
    await tried.delete("virtualservice", service["uuid"], ADMIN)
    assert (tried.view.get("serviceenginegroup", group) or {})["max_se"] == 8
    assert tried.view.get("virtualservice", service["uuid"]) is None
    with pytest.raises(Duplicate):
        await tried.create("virtualservice", body("shop", 82), ADMIN)
    assert await records(world) == before
    assert world.view.get("virtualservice", service["uuid"]) == documents
    assert world.view.get("virtualservice", made.doc["uuid"]) is None
    assert world.view.referrers(group) and not tried.stale


@pytest.mark.parametrize(
    ("error", "method", "type", "uuid", "content"),
    [
        (Invalid, "patch", "serviceenginegroup", "group", {"replace": {"max_se": -1}}),
        (Invalid, "patch", "serviceenginegroup", "group", {"replace": {"nonsense": 1}}),
        (Invalid, "patch", "serviceenginegroup", "group", {"replace": {"min_scaleout_per_vs": 9}}),
        (Stale, "replace", "serviceenginegroup", "group", {"name": "Default-Group", "_last_modified": "1"}),
        (InUse, "delete", "serviceenginegroup", "other", None),
        (NotAllowed, "delete", "serviceenginegroup", "group", None),
        (NotFound, "delete", "virtualservice", "none", None),
        (Duplicate, "create", "virtualservice", "", body("web")),
        (Duplicate, "create", "virtualservice", "", body("same-port")),
        (Invalid, "create", "virtualservice", "", body("x") | {"vsvip_ref": "/api/vsvip?name=none"}),
    ],
)
async def test_a_proposal_is_refused_in_the_words_of_the_write(
    world: ControlledWorld, error: type[Exception], method: str, type: str, uuid: str, content: Any
) -> None:
    other = await world.post("/api/serviceenginegroup", {"name": "other"})
    service = await world.service()
    second = {"vip_id": "0", "ip_address": {"addr": "10.9.0.6", "type": "V4"}}
    vsvip = await world.post("/api/vsvip", {"name": "second-vip", "vip": [second]})
    await world.post("/api/virtualservice", body("second") | {"se_group_ref": other["url"], "vsvip_ref": vsvip["url"]})
    known = {"group": group_of(world)["uuid"], "other": other["uuid"], "vs": service["uuid"]}
    words = [type] + ([known.get(uuid, uuid)] if uuid else []) + ([content] if content is not None else [])
    before = await records(world)
    with pytest.raises(error) as proposed:
        await getattr(proposal(world), method)(*words, ADMIN)
    with pytest.raises(error) as real:
        await getattr(world.intent, method)(*words, ADMIN)
    assert str(proposed.value) == str(real.value)
    assert await records(world) == before


async def test_the_groups_concerned_are_shown_before_and_after(world: ControlledWorld) -> None:
    service = await world.service()
    group = group_of(world)["uuid"]
    tried = proposal(world)
    await tried.patch("pool", world.view.all("pool")[0]["uuid"], {"replace": {"graceful_disable_timeout": 3}}, ADMIN)
    await tried.patch("virtualservice", service["uuid"], {"replace": {"description": "of no weight"}}, ADMIN)
    assert tried.concerned(NOW) == []
    await tried.patch("vsvip", world.view.all("vsvip")[0]["uuid"], {"replace": {"name": "renamed"}}, ADMIN)
    assert tried.concerned(NOW) == []
    await tried.create("virtualservice", body("shop", 81) | {"vsvip_ref": "/api/vsvip?name=renamed"}, ADMIN)
    await tried.patch("serviceenginegroup", group, {"replace": {"buffer_se": 2}}, ADMIN)
    (found,) = tried.concerned(NOW)
    assert found.group == group and found.before is not None and found.after is not None
    assert [vip.slots for vip in found.before.vips] == [1] and [vip.slots for vip in found.after.vips] == [2]
    assert (found.before.group.buffer_se, found.after.group.buffer_se) == (1, 2)
    assert tried.snapshot(group, NOW) == found.after


async def test_a_group_that_is_made_or_deleted_has_one_side_only(world: ControlledWorld) -> None:
    spare = await world.post("/api/serviceenginegroup", {"name": "spare"})
    tried = proposal(world)
    await tried.delete("serviceenginegroup", spare["uuid"], ADMIN)
    made = await tried.create("serviceenginegroup", {"name": "new"}, ADMIN)
    gone, fresh = tried.concerned(NOW)
    assert gone.before is not None and gone.after is None
    assert fresh.before is None and fresh.after is not None and fresh.after.group.id == made.doc["uuid"]
    with pytest.raises(NotFound):
        tried.snapshot(spare["uuid"], NOW)


async def test_a_proposal_knows_that_the_documents_have_moved_on(world: ControlledWorld) -> None:
    tried = proposal(world)
    await world.post("/api/serviceenginegroup", {"name": "another"})
    assert tried.stale and not proposal(world).stale


async def test_what_rules_fill_in_does_not_reach_the_client_s_body(world: ControlledWorld) -> None:
    wanted: dict[str, Any] = {"name": "v", "vip": [{"vip_id": "0", "auto_allocate_ip": True}]}
    tried = proposal(world)
    first = (await tried.create("vsvip", wanted, ADMIN)).doc
    second = (await tried.create("vsvip", wanted | {"name": "w"}, ADMIN)).doc
    assert wanted == {"name": "v", "vip": [{"vip_id": "0", "auto_allocate_ip": True}]}
    assert first["vip"][0]["ip_address"] != second["vip"][0]["ip_address"]
    assert (await world.intent.create("vsvip", wanted, ADMIN)).doc["vip"] == first["vip"]
