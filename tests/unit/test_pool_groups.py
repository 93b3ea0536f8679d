"""Pool groups and switching: what is refused, what each pool shows, and what becomes of a change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shoal.controller.pool_groups import group_part, in_order
from shoal.wire import messages
from shoal.wire.desired import Service, decode_part
from tests.api_world import ControlledWorld, controlled_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


def switch(**action: Any) -> dict[str, Any]:
    rule = {"name": "switch", "index": 1, "enable": True, "switching_action": action}
    return {"name": "set", "http_request_policy": {"rules": [rule]}}


async def pool(world: ControlledWorld, name: str, **fields: Any) -> dict[str, Any]:
    servers = [{"ip": {"addr": "10.0.0.9", "type": "V4"}}]
    made: dict[str, Any] = await world.post("/api/pool", {"name": name, "servers": servers, **fields})
    return made


@pytest.mark.parametrize(
    ("type", "body", "path"),
    [
        ("poolgroup", {"members": [{"pool_ref": "?name=a", "priority_label": "top"}]}, "members[0].priority_label"),
        (
            "pool",
            {"servers": [{"ip": {"addr": "10.0.0.1", "type": "V4"}, "prst_hdr_val": "a\nb"}]},
            "servers[0].prst_hdr_val",
        ),
        ("poolgroup", {"members": [{"pool_ref": "?name=a"}, {"pool_ref": "?name=a"}]}, "members[1].pool_ref"),
        ("poolgroup", {"fail_action": {"type": "FAIL_ACTION_HTTP_REDIRECT"}}, "fail_action.redirect"),
        (
            "httppolicyset",
            switch(action="HTTP_SWITCHING_SELECT_POOL"),
            "http_request_policy.rules[0].switching_action.pool_ref",
        ),
        (
            "l4policyset",
            {
                "l4_connection_policy": {
                    "rules": [
                        {
                            "name": "r",
                            "index": 1,
                            "action": {"select_pool": {"action_type": "L4_RULE_ACTION_SELECT_POOLGROUP"}},
                        }
                    ]
                }
            },
            "l4_connection_policy.rules[0].action.select_pool.pool_group_ref",
        ),
    ],
)
async def test_what_leads_nowhere_is_refused(
    world: ControlledWorld, type: str, body: dict[str, Any], path: str
) -> None:
    await pool(world, "a")
    text = msgspec.json.encode({"name": "x", **body}).replace(b'"?name', b'"/api/pool?name')
    reply = await world.post(f"/api/{type}", msgspec.json.decode(text), 400)
    assert [problem["path"] for problem in reply["problems"]] == [path]


def test_labels_rank_by_themselves_where_that_is_asked_for() -> None:
    ranked = in_order(["v9", "v10", "", "v10", "blue", "3", "20"])["equivalent_labels"]
    assert [one["labels"][0] for one in ranked] == ["20", "3", "v10", "v9", "blue"]


async def test_a_group_may_rank_labels_by_themselves(world: ControlledWorld) -> None:
    made = await world.service()
    old, new = await pool(world, "old"), await pool(world, "new")
    members = [
        {"pool_ref": old["url"], "priority_label": "v9"},
        {"pool_ref": new["url"], "priority_label": "v10"},
    ]
    body = {"name": "g", "members": members, "implicit_priority_labels": True}
    group = await world.post("/api/poolgroup", body)
    url = f"/api/virtualservice/{made['uuid']}"
    change = {"replace": {"pool_group_ref": group["url"]}, "delete": {"pool_ref": made["pool_ref"]}}
    assert (await world.client.patch(url, json=change)).status_code == 200
    part = group_part(world.view, group["uuid"])
    assert part is not None
    assert {one.pool: one.priority for one in part.members} == {old["uuid"]: 1, new["uuid"]: 2}


async def test_a_service_has_one_default_and_a_server_is_one_of_the_pool(world: ControlledWorld) -> None:
    made = await world.service()
    canary = await pool(world, "canary")
    group = await world.post("/api/poolgroup", {"name": "g", "members": [{"pool_ref": canary["url"]}]})
    url = f"/api/virtualservice/{made['uuid']}"
    reply = await world.client.patch(url, json={"replace": {"pool_group_ref": group["url"]}})
    assert reply.status_code == 400 and "beside pool_ref" in reply.text
    server = {"ip": {"addr": "10.0.0.8", "type": "V4"}}
    body = switch(action="HTTP_SWITCHING_SELECT_POOL", pool_ref=canary["url"], server=server)
    reply = await world.client.post("/api/httppolicyset", json=body)
    assert "canary has no server 10.0.0.8:80" in reply.headers["x-shoal-warning"]


async def test_every_pool_a_service_may_use_is_told_to_engines_and_shown(world: ControlledWorld) -> None:
    made = await world.service()
    await world.staged(1)
    (engine,) = world.controller.ledger.engines
    first = (await world.get("/api/pool"))["results"][0]
    second, third = await pool(world, "second"), await pool(world, "third")
    members = [{"pool_ref": first["url"], "ratio": 9}, {"pool_ref": second["url"]}]
    group = await world.post("/api/poolgroup", {"name": "g", "members": members})
    rules = await world.post("/api/httppolicyset", switch(action="HTTP_SWITCHING_SELECT_POOL", pool_ref=third["url"]))
    linked = {
        "delete": {"pool_ref": first["url"]},
        "replace": {
            "pool_group_ref": group["url"],
            "http_policies": [{"index": 1, "http_policy_set_ref": rules["url"]}],
        },
    }
    reply = await world.client.patch(f"/api/virtualservice/{made['uuid']}", json=linked)
    assert reply.status_code == 200, reply.text

    def told() -> Service | None:
        parts = world.controller.compiler.parts(engine)
        part = parts.get(f"service/{made['uuid']}")
        found = decode_part(part.data) if part is not None else None
        return found if isinstance(found, Service) else None

    await world.run(lambda: (found := told()) is not None and len(found.pools) == 3)
    service = told()
    assert service is not None and service.pool is None and service.group == group["uuid"]
    assert {one.id for one in service.pools} == {first["uuid"], second["uuid"], third["uuid"]}
    assert [(one.pool, one.ratio) for one in service.groups[0].members] == [(first["uuid"], 9), (second["uuid"], 1)]

    # A change of what is used at second hand reaches engines, too.
    off: dict[str, Any] = {"replace": {"http_request_policy": {"rules": []}}}
    assert (await world.client.patch(f"/api/httppolicyset/{rules['uuid']}", json=off)).status_code == 200
    await world.run(lambda: (found := told()) is not None and len(found.pools) == 2)

    live = world.controller.fleet.live(engine)
    for states in (("up", "down"), ("down", "down")):
        servers = tuple(
            messages.ServerState(service=made["uuid"], pool=one.id, server=one.servers[0].name, state=state)
            for one, state in zip(service.pools, states, strict=False)
        )
        world.controller.fleet.reported(live, messages.Status(root="", haproxy=True, link=True, servers=servers))
        shown = await world.get(f"/api/poolgroup/{group['uuid']}/runtime")
        expected = "OPER_UP" if "up" in states else "OPER_DOWN"
        assert shown["oper_status"]["state"] == expected
        assert [one["num_servers_up"] for one in shown["members"]] == [int(state == "up") for state in states]
        runtime = await world.get(f"/api/virtualservice/{made['uuid']}/runtime")
        assert runtime["oper_status"]["state"] == expected, runtime
    entry = (await world.get(f"/api/pool-inventory/{second['uuid']}"))["virtualservices"]
    assert [one["ref"].rpartition("/")[2] for one in entry] == [made["uuid"]]
    reply = await world.client.delete(f"/api/pool/{second['uuid']}")
    assert reply.status_code >= 400 and "g" in reply.text, "it is used by the group"
