"""Create, read, replace, patch, delete for every type (reference: api.md 4, 5.2 to 5.6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shoal.objects import load
from tests.api_world import HOST, World, api_world, key_pair

SERVER = {"ip": {"addr": "10.0.0.1", "type": "V4"}, "port": 80}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


async def test_post_gives_201_the_whole_object_and_where_it_is(world: World) -> None:
    reply = await world.client.post("/api/pool", json={"name": "web", "servers": [SERVER]})
    assert reply.status_code == 201
    pool = reply.json()
    assert reply.headers["Location"] == pool["url"] == f"https://{HOST}/api/pool/{pool['uuid']}#web"
    assert pool["uuid"].startswith("pool-")
    assert pool["cloud_ref"].endswith("#Default-Cloud")
    assert pool["servers"][0]["hostname"] == "10.0.0.1"
    assert pool["lb_algorithm"] == "LB_ALGORITHM_LEAST_CONNECTIONS"
    assert pool["_last_modified"].isdigit()


async def test_names_are_on_urls_of_writes_and_of_reads_that_ask_even_emptily(world: World) -> None:
    made = await world.post("/api/pool", {"name": "web"})
    path = f"/api/pool/{made['uuid']}"
    plain, named = await world.get(path), await world.get(path, include_name="")
    assert "#" not in plain["url"] + plain["tenant_ref"]
    assert named["url"].endswith("#web") and named["tenant_ref"].endswith("/api/tenant/admin#admin")
    put = await world.call("PUT", path, 200, json={"name": "web2"})
    assert put["url"].endswith("#web2") and put["tenant_ref"].endswith("#admin")
    patched = await world.call("PATCH", path, 200, json={"replace": {"name": "web3"}})
    assert patched["url"].endswith("#web3")


async def test_urls_are_https_and_use_the_name_the_client_used(world: World) -> None:
    made = await world.post("/api/pool", {"name": "web"}, headers={"Host": "shoal.lan"})
    assert made["url"].startswith("https://shoal.lan/api/pool/")
    assert made["cloud_ref"].startswith("https://shoal.lan/api/cloud/")


@pytest.mark.parametrize(
    "reference",
    [
        "/api/pool?name=web",
        "/api/pool/?name=web",
        "https://other.example/api/pool/{uuid}#web",
        "/api/pool/{uuid}",
        "{url}",
    ],
)
async def test_every_form_of_reference_is_taken(world: World, reference: str) -> None:
    pool = await world.post("/api/pool", {"name": "web"})
    vip = {"vip_id": "0", "ip_address": {"addr": "10.9.0.7", "type": "V4"}}
    await world.post("/api/vsvip", {"name": "v", "vip": [vip]})
    body = {
        "name": "s",
        "services": [{"port": 80}],
        "vsvip_ref": "/api/vsvip/?tenant=admin&name=v&cloud=Default-Cloud",
        "pool_ref": reference.format(**pool),
        "application_profile_name": "System-HTTP",
    }
    made = await world.post("/api/virtualservice", body)
    assert made["pool_ref"] == pool["url"]
    assert made["application_profile_ref"].endswith("#System-HTTP")


async def test_slug_forces_the_uuid(world: World) -> None:
    made = await world.post("/api/pool", {"name": "web"}, headers={"Slug": "pool-force-1"})
    assert made["uuid"] == "pool-force-1"
    await world.post("/api/pool", {"name": "web2"}, 409, headers={"Slug": "pool-force-1"})
    await world.post("/api/pool", {"name": "web3"}, 400, headers={"Slug": "../x"})


async def test_put_replaces_keeps_identity_and_takes_back_what_get_gave(world: World) -> None:
    made = await world.post("/api/pool", {"name": "web", "servers": [SERVER], "description": "mine"})
    path = f"/api/pool/{made['uuid']}"
    whole = await world.get(path, include_name="")
    again = await world.call("PUT", path, 200, json=whole)
    assert {k: v for k, v in again.items() if k != "_last_modified"} == {
        k: v for k, v in whole.items() if k != "_last_modified"
    }
    less = await world.call("PUT", path, 200, json={"name": "web", "default_server_port": 8080})
    assert "servers" not in less and "description" not in less
    assert (less["uuid"], less["cloud_ref"], less["tenant_ref"]) == (
        made["uuid"],
        made["cloud_ref"],
        made["tenant_ref"],
    )


async def test_every_get_is_accepted_back_by_put(world: World) -> None:
    """What we emit we accept: runtime members and read-only ones are dropped, not refused."""
    await world.service()
    for type in ("virtualservice", "vsvip", "pool", "serviceenginegroup", "cluster", "systemconfiguration", "cloud"):
        listed = await world.get(f"/api/{type}", include_name="")
        whole = listed["results"][0] if "results" in listed else listed
        path = whole["url"].partition("#")[0].removeprefix(f"https://{HOST}")
        await world.call("PUT", path, 200, json=whole)


async def test_patch_adds_replaces_deletes_and_takes_json_patch(world: World) -> None:
    made = await world.post("/api/pool", {"name": "web", "servers": [SERVER]})
    path = f"/api/pool/{made['uuid']}"
    second = {"ip": {"addr": "10.0.0.2", "type": "V4"}, "port": 80}
    both = await world.call("PATCH", path, 200, json={"add": {"servers": [second]}})
    assert [s["ip"]["addr"] for s in both["servers"]] == ["10.0.0.1", "10.0.0.2"]
    same = await world.call("PATCH", path, 200, json={"add": {"servers": [second]}})
    assert same["servers"] == both["servers"]
    body = {"replace": {"lb_algorithm": "LB_ALGORITHM_ROUND_ROBIN"}, "delete": {"servers": [SERVER]}}
    changed = await world.call("PATCH", path, 200, json=body)
    assert changed["lb_algorithm"] == "LB_ALGORITHM_ROUND_ROBIN" and len(changed["servers"]) == 1
    step = {"op": "replace", "path": "/servers/0/enabled", "value": False}
    off = await world.call("PATCH", path, 200, json={"json_patch": [step]})
    assert off["servers"][0]["enabled"] is False
    await world.call("PATCH", path, 400, json={"lb_algorithm": "LB_ALGORITHM_ROUND_ROBIN"})


async def test_delete_is_204_with_a_length_and_a_type(world: World) -> None:
    made = await world.post("/api/pool", {"name": "web"})
    reply = await world.client.delete(f"/api/pool/{made['uuid']}")
    assert reply.status_code == 204 and reply.content == b""
    assert reply.headers["content-length"] == "0"
    assert reply.headers["content-type"].startswith("application/json")
    await world.get(f"/api/pool/{made['uuid']}", 404)
    await world.call("DELETE", f"/api/pool/{made['uuid']}", 404)


async def test_deletes_that_are_refused_use_the_words_ansible_knows(world: World) -> None:
    monitor = (await world.get("/api/healthmonitor", name="System-HTTP"))["results"][0]
    reply = await world.client.delete(f"/api/healthmonitor/{monitor['uuid']}")
    assert 400 <= reply.status_code < 500 and "Cannot delete system default object" in reply.text
    for path in ("/api/systemconfiguration", "/api/cluster", "/api/controllerproperties"):
        reply = await world.client.delete(path)
        assert reply.status_code == 405 and "Method 'DELETE' not allowed" in reply.text
    await world.service()
    pool = (await world.get("/api/pool", name="web-pool"))["results"][0]
    reply = await world.client.delete(f"/api/pool/{pool['uuid']}")
    assert reply.status_code == 400
    assert "Cannot delete, object is referred by: ['VirtualService web']" in reply.json()["error"]


async def test_a_stale_write_is_412_and_changes_nothing(world: World) -> None:
    made = await world.post("/api/pool", {"name": "web"})
    path = f"/api/pool/{made['uuid']}"
    now = await world.call("PUT", path, 200, json={"name": "web", "description": "first"})
    stale = {"name": "web", "description": "second", "_last_modified": made["_last_modified"]}
    assert "Concurrent" in (await world.call("PUT", path, 412, json=stale))["error"]
    assert (await world.get(path))["description"] == "first"
    await world.call("PUT", path, 200, json={**stale, "_last_modified": now["_last_modified"]})


async def test_a_second_object_of_the_name_is_409(world: World) -> None:
    await world.post("/api/pool", {"name": "web"})
    assert "web" in (await world.post("/api/pool", {"name": "web"}, 409))["error"]
    assert (await world.get("/api/pool"))["count"] == 1


async def test_field_errors_name_the_field_the_value_and_the_way_out(world: World) -> None:
    body = {"name": "web", "lb_algoritm": "x", "servers": [SERVER, {**SERVER, "port": 70000}]}
    reply = await world.post("/api/pool", body, 400)
    problems = {problem["path"]: problem for problem in reply["problems"]}
    assert "lb_algorithm" in problems["lb_algoritm"]["hint"]
    assert problems["servers[1].port"]["value"] == "70000"
    assert "servers[1].port" in reply["error"]


async def test_secrets_are_left_out_of_post_masked_on_get_and_kept_by_put(world: World) -> None:
    key, certificate = key_pair()
    body = {"name": "k", "key": key, "key_passphrase": "very secret", "certificate": {"certificate": certificate}}
    made = await world.post("/api/sslkeyandcertificate", body)
    assert "key" not in made
    path = f"/api/sslkeyandcertificate/{made['uuid']}"
    whole = await world.get(path)
    assert whole["key"] == "<sensitive>"
    before = world.view.get("sslkeyandcertificate", made["uuid"])
    await world.call("PUT", path, 200, json=whole)
    after = world.view.get("sslkeyandcertificate", made["uuid"])
    assert before is not None and after is not None and before["key"] == after["key"]
    assert "very secret" not in str(after)


async def test_sealed_secrets_never_leave_not_even_in_the_login_answer(world: World) -> None:
    smtp = {"smtp_type": "SMTP_LOCAL_HOST", "from_email": "a@example.org", "auth_password": "very secret"}
    await world.call("PATCH", "/api/systemconfiguration", 200, json={"replace": {"email_configuration": smtp}})
    stored = world.view.all("systemconfiguration")[0]["email_configuration"]["auth_password"]
    reply = await world.client.post("/login", data={"username": "admin", "password": "a shoal of fish"})
    assert stored and stored not in reply.text
    assert reply.json()["system_config"]["email_configuration"]["auth_password"] == "<sensitive>"


async def test_singletons_are_the_object_itself_and_take_put_and_patch(world: World) -> None:
    for path in ("/api/cluster", "/api/cluster/", "/api/systemconfiguration", "/api/seproperties/"):
        document = await world.get(path)
        assert "results" not in document
        assert document["url"] == f"https://{HOST}{path.rstrip('/')}"
    assert (await world.get("/api/systemconfiguration"))["uuid"] == "default"
    assert (await world.get("/api/cluster"))["uuid"].startswith("cluster-")
    changed = await world.call("PATCH", "/api/controllerproperties", 200, json={"replace": {"api_idle_timeout": 30}})
    assert changed["api_idle_timeout"] == 30
    await world.call("POST", "/api/systemconfiguration", 405, json={})


async def test_a_write_that_will_not_have_its_effect_says_so_in_a_header(world: World) -> None:
    body = {"name": "g", "ha_mode": "HA_MODE_SHARED_PAIR", "min_scaleout_per_vs": 1}
    reply = await world.client.post("/api/serviceenginegroup", json=body)
    assert reply.status_code == 201
    assert any("min_scaleout_per_vs" in text for text in reply.headers.get_list("x-shoal-warning"))


async def test_skip_default_and_fields(world: World) -> None:
    made = await world.post("/api/pool", {"name": "web", "default_server_port": 8080})
    path = f"/api/pool/{made['uuid']}"
    short = await world.get(path, skip_default="")
    assert short["default_server_port"] == 8080 and "lb_algorithm" not in short
    few = await world.get(path, fields="lb_algorithm")
    assert few.keys() == {"uuid", "name", "url", "lb_algorithm"}


async def test_methods_that_make_no_sense_are_405_in_json(world: World) -> None:
    made = await world.post("/api/pool", {"name": "web"})
    for method, path in (
        ("PUT", "/api/pool"),
        ("DELETE", "/api/pool"),
        ("POST", f"/api/pool/{made['uuid']}"),
        ("GET", "/login"),
        ("POST", "/api/virtualservice-inventory"),
        ("POST", "/api/initial-data"),
        ("DELETE", "/api/analytics/logs"),
    ):
        reply = await world.client.request(method, path)
        assert reply.status_code == 405, f"{method} {path} {reply.status_code}"
        assert f"Method '{method}' not allowed" in reply.json()["error"]


async def test_every_type_can_be_listed_and_reached(world: World) -> None:
    registry = load()
    for word, kind in registry.types.items():
        if word == "useraccount":
            continue
        listed = await world.get(f"/api/{word}")
        assert ("uuid" in listed) if kind.singleton else (listed["count"] == len(listed["results"])), word
        if not kind.singleton:
            await world.get(f"/api/{word}/none", 404)


async def test_every_type_that_needs_only_a_name_lives_its_whole_life(world: World) -> None:
    lived = []
    for word, kind in load().types.items():
        required = {n for n, f in kind.fields.items() if f.required and not f.has_default and not f.read_only}
        if (
            kind.singleton
            or kind.read_only
            or word == "serviceengine"
            or not required <= {"name"}
            or "name" not in kind.fields
        ):
            continue
        reply = await world.client.post(f"/api/{word}", json={"name": "x"})
        if reply.status_code == 400:  # rules beyond the schema, such as a VsVip's address
            assert reply.json()["error"]
            continue
        assert reply.status_code == 201, f"{word}: {reply.text}"
        path = f"/api/{word}/{reply.json()['uuid']}"
        whole = await world.get(path)
        await world.call("PUT", path, 200, json=whole)
        await world.call("DELETE", path, 204)
        lived.append(word)
    assert len(lived) >= 30 and {"pool", "serviceenginegroup", "tenant"} <= set(lived)
