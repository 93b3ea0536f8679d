"""Virtual hosting: what is refused, and what engines are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shoal.engine.haproxy import render
from shoal.engine.haproxy.escape import Unrenderable
from shoal.wire.desired import Listener, Pool, Service, decode_part
from tests.api_world import ControlledWorld, controlled_world, key_pair

CHILD = {"type": "VS_TYPE_VH_CHILD", "vh_parent_vs_ref": "/api/virtualservice?name=web", "vh_domain_name": ["a.test"]}
FACTS = render.Facts(directory="/d", sockets="/d", descriptors_max=20_000)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        key, certificate = key_pair("a.test")
        body = {"name": "cert", "key": key, "certificate": {"certificate": certificate}}
        await world.post("/api/sslkeyandcertificate", body)
        made = await world.service()
        parent = {
            "type": "VS_TYPE_VH_PARENT",
            "services": [{"port": 80}, {"port": 443, "enable_ssl": True}],
            "ssl_key_and_certificate_refs": ["/api/sslkeyandcertificate?name=cert"],
        }
        reply = await world.client.patch(f"/api/virtualservice/{made['uuid']}", json={"replace": parent})
        assert reply.status_code == 200, reply.text
        yield world


async def child(world: ControlledWorld, status: int = 201, name: str = "child", **fields: Any) -> dict[str, Any]:
    certificate = {"ssl_key_and_certificate_refs": ["/api/sslkeyandcertificate?name=cert"]}
    body = {"name": name, "pool_ref": "/api/pool?name=web-pool", **CHILD, **certificate, **fields}
    found: dict[str, Any] = await world.post("/api/virtualservice", body, status)
    return found


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"vh_domain_name": []}, "vh_domain_name"),
        ({"vh_domain_name": ["a b"]}, "vh_domain_name[0]"),
        ({"services": [{"port": 81}]}, "services"),
        ({"ssl_key_and_certificate_refs": []}, "ssl_key_and_certificate_refs"),
    ],
)
async def test_a_child_that_nobody_could_reach_is_refused(
    world: ControlledWorld, fields: dict[str, Any], path: str
) -> None:
    reply = await child(world, 400, **fields)
    assert [problem["path"] for problem in reply["problems"]] == [path]


async def test_a_child_is_where_its_parent_is_and_follows_it(world: ControlledWorld) -> None:
    made = await child(world)
    parent = world.view.named("virtualservice", "web")
    assert parent is not None and made["vsvip_ref"].partition("#")[0].endswith(parent["vsvip_ref"])
    taken = await child(world, 400, name="other", vh_domain_name=["A.test"])
    assert "is that of child already" in taken["problems"][0]["why"]
    await world.staged(1)
    (engine,) = world.controller.ledger.engines

    def told(uuid: str) -> Service | None:
        part = world.controller.compiler.parts(engine).get(f"service/{uuid}")
        found = decode_part(part.data) if part is not None else None
        return found if isinstance(found, Service) else None

    await world.run(lambda: told(made["uuid"]))
    found = told(made["uuid"])
    assert found is not None and (found.parent, found.hosts) == (parent["uuid"], ("a.test",))
    assert [one.port for one in found.listeners] == [443]
    ports = {"replace": {"services": [{"port": 8443, "enable_ssl": True}]}}
    url = f"/api/virtualservice/{parent['uuid']}"
    assert (await world.client.patch(url, json=ports)).status_code == 200
    await world.run(lambda: (now := told(made["uuid"])) is not None and now.listeners[0].port == 8443)
    for change in ({"type": "VS_TYPE_NORMAL"}, {"services": [{"port": 80}]}):
        assert (await world.client.patch(url, json={"replace": change})).status_code == 400
    detail = await world.get(f"/api/virtualservice/{made['uuid']}/runtime/detail")
    assert [one["type"] for one in detail] == ["VS_TYPE_VH_CHILD"]
    assert (await world.client.delete(url)).status_code >= 400, "it has a child"


def test_a_child_without_a_name_is_set_aside_alone() -> None:
    parent = Service(
        id="p",
        name="p",
        vip="v",
        addresses=("192.0.2.1",),
        enabled=True,
        mode="http",
        listeners=(Listener(port=443, port_end=443, tls=True),),
        certificates=("c",),
        pool=Pool(id="x", name="x"),
    )
    good = msgspec.structs.replace(parent, id="g", parent="p", hosts=("g.test",))
    bad = msgspec.structs.replace(good, id="b", hosts=("b.test' }\n",))
    with pytest.raises(Unrenderable):
        render.service_fragment(bad, FACTS)
    text = render.service_fragment(parent, FACTS, [good, bad]).text
    assert "use_backend to_g if { req.ssl_sni -m str -i -- 'g.test' }" in text and "to_b" not in text
    assert "bind 192.0.2.1:443\n" in text


ENHANCED = {"vh_type": "VS_TYPE_VH_ENHANCED"}


def matching(host: str = "a.test", **matches: Any) -> dict[str, Any]:
    path = {"path": {"match_criteria": "BEGINS_WITH", "match_str": ["/a"]}}
    return {"vh_matches": [{"host": host, "rules": [{"name": "r", "matches": matches or path}]}]}


async def enhanced(world: ControlledWorld) -> str:
    parent = world.view.named("virtualservice", "web")
    assert parent is not None
    url = f"/api/virtualservice/{parent['uuid']}"
    change = {"replace": {**ENHANCED, "services": [{"port": 80}]}}
    await world.call("PATCH", url, 200, json=change)
    return url


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"vh_matches": []}, "vh_matches"),
        (matching("a b"), "vh_matches[0].host"),
        (
            matching(
                geo_matches=[{"attribute": "ATTRIBUTE_COUNTRY_CODE", "match_operation": "IS_IN", "values": ["A"]}]
            ),
            "vh_matches[0].rules[0].matches",
        ),
        (matching(path={"match_criteria": "REGEX_MATCH", "match_str": ["("]}), "vh_matches[0].rules[0].matches.path"),
        ({**matching(), "vh_type": "VS_TYPE_VH_SNI"}, "vh_type"),
        (
            {**matching(), "application_profile_ref": "/api/applicationprofile?name=System-L4-Application"},
            "application",
        ),
    ],
)
async def test_a_child_by_request_that_nobody_could_reach_is_refused(
    world: ControlledWorld, fields: dict[str, Any], path: str
) -> None:
    await enhanced(world)
    reply = await child(world, 400, vh_domain_name=[], **fields)
    assert [problem["path"].startswith(path) for problem in reply["problems"]] == [True], reply


async def test_a_child_by_request_needs_no_certificate_and_is_told_all_ports(world: ControlledWorld) -> None:
    url = await enhanced(world)
    made = await child(world, vh_domain_name=[], ssl_key_and_certificate_refs=[], **matching())
    assert made["vh_type"] == ENHANCED["vh_type"]
    await world.staged(1)
    (engine,) = world.controller.ledger.engines

    def part() -> Service | None:
        found = world.controller.compiler.parts(engine).get(f"service/{made['uuid']}")
        told = decode_part(found.data) if found is not None else None
        return told if isinstance(told, Service) else None

    await world.run(part)
    found = part()
    assert found is not None and found.by_request and [one.port for one in found.listeners] == [80]
    assert [[test.of for test in tests] for tests in found.matches] == [["host", "path"]]
    back = await world.client.patch(url, json={"replace": {"vh_type": "VS_TYPE_VH_SNI"}})
    assert back.status_code == 400, "it has a child"
    await world.call("PATCH", url, 200, json={"replace": {"traffic_enabled": False}})
    await world.run(lambda: (now := part()) is not None and not now.enabled)
    told = await world.get(f"/api/virtualservice/{made['uuid']}/runtime")
    assert told["oper_status"]["state"] in ("OPER_DOWN", "OPER_INITIALIZING")


async def test_a_parent_of_another_tenant_is_like_none_at_all(world: ControlledWorld) -> None:
    await world.post("/api/tenant", {"name": "blue"})

    async def asked(name: str) -> str:
        body = {"name": "child", **CHILD, "vh_parent_vs_ref": f"/api/virtualservice?name={name}"}
        headers = {"X-Avi-Tenant": "blue"}
        reply = await world.client.post("/api/virtualservice", json=body, headers=headers)
        assert reply.status_code == 400
        return reply.text.replace(name, "NAME")

    assert await asked("web") == await asked("there-is-none")


async def test_a_limit_on_connections_of_a_child_is_said_to_have_no_effect(world: ControlledWorld) -> None:
    made = await child(world)
    limit = {"add": {"performance_limits": {"max_concurrent_connections": 100}}}
    reply = await world.client.patch(f"/api/virtualservice/{made['uuid']}", json=limit)
    assert "performance_limits has no effect on a child" in reply.headers["x-shoal-warning"]
