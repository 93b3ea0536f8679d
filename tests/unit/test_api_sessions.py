"""Login, cookies, CSRF, expiry, basic authentication (reference: api.md 2) and versions (3)."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from shoal.controller.accounts import check_first
from shoal.errors import Invalid
from shoal.store.memory import MemoryStore
from tests.api_world import HOST, PASSWORD, World, api_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


async def test_login_form_and_json_set_the_three_cookies_of_the_protocol(world: World) -> None:
    given = {"username": "admin", "password": PASSWORD}
    async with world.stranger() as client:
        for reply in (await client.post("/login", data=given), await client.post("/login", json=given)):
            assert reply.status_code == 200
            cookies = reply.headers.get_list("set-cookie")
            assert [c.partition("=")[0] for c in cookies] == ["csrftoken", "avi-sessionid", "sessionid"]
            assert "Max-Age=31449600" in cookies[0] and "HttpOnly" not in cookies[0]
            assert all("Secure" in c and "Path=/" in c for c in cookies)
            assert all("HttpOnly" in c and "Max-Age=86400" in c for c in cookies[1:])
            assert reply.cookies["sessionid"] == reply.cookies["avi-sessionid"]
            assert reply.headers["AVI_API_VERSION"] == "22.1.3"
            body = reply.json()
            assert body["session_cookie_name"] == "avi-sessionid"
            assert body["version"]["Version"] == "22.1.3"
            assert body["user"]["is_superuser"] is True
            tenant = {"uuid": "admin", "name": "admin", "url": f"https://{HOST}/api/tenant/admin", "local": True}
            assert body["tenants"] == [tenant]
            assert body["system_config"]["url"] == f"https://{HOST}/api/systemconfiguration"


@pytest.mark.parametrize(
    "content, type",
    [
        (b"username=admin&password=wrong", "application/x-www-form-urlencoded"),
        (b"username=nobody&password=x", "application/x-www-form-urlencoded"),
        (b"", "application/x-www-form-urlencoded"),
        (b"a=1&" * 300, "application/x-www-form-urlencoded"),
        (b"\xff\xfe\x00", "application/x-www-form-urlencoded"),
        (b"{", "application/json"),
        (b'{"username": 5, "password": []}', "application/json"),
        (b'{"username": "admin\\u0000", "password": "\\ud83d\\ude00"}', "application/json"),
    ],
)
async def test_a_login_that_fails_says_so_and_sets_no_cookie(world: World, content: bytes, type: str) -> None:
    async with world.stranger() as client:
        reply = await client.post("/login", content=content, headers={"Content-Type": type})
        assert reply.status_code in (400, 401)
        assert reply.json()["error"]
        assert "set-cookie" not in reply.headers


async def test_without_a_session_every_api_path_is_401_but_those_probes_need(world: World) -> None:
    async with world.stranger() as client:
        for path in ("/api/pool", "/api/pool/x", "/api/cluster", "/api/nothing", "/api/virtualservice-inventory"):
            assert (await client.get(path)).status_code == 401, path
        for path in ("/api/initial-data", "/api/cluster/runtime", "/api/cluster/status", "/"):
            assert (await client.get(path)).status_code == 200, path
        initial = (await client.get("/api/initial-data")).json()
        assert initial["version"]["Tag"].startswith("22.1.3") and "user" not in initial
        assert (await client.post("/api/cluster/runtime")).status_code == 405


async def test_a_write_needs_the_csrf_token_of_its_session_a_read_does_not(world: World) -> None:
    token = world.client.headers.pop("X-CSRFToken")
    assert (await world.client.get("/api/pool")).status_code == 200
    for wrong in ({}, {"X-CSRFToken": "wrong" + token}, {"X-CSRFToken": ""}):
        reply = await world.client.post("/api/pool", json={"name": "p"}, headers=wrong)
        assert reply.status_code == 401
        assert reply.headers["content-type"].startswith("text/plain")
        assert "CSRF token" in reply.text
    assert (await world.get("/api/pool"))["count"] == 0
    await world.post("/api/pool", {"name": "p"}, headers={"X-CSRFToken": token})


async def test_the_last_of_duplicated_cookies_counts_whatever_the_first_are(world: World) -> None:
    """The SDK sends cookies twice; the jar's copies may belong to another session of the process."""
    first, second = await _opened(world), await _opened(world)
    cookie = (
        f"csrftoken={first[1]}; avi-sessionid={first[0]}; sessionid={first[0]}; csrftoken={second[1]};"
        f" sessionid={second[0]}; avi-sessionid={second[0]}"
    )
    stale = cookie.replace(first[0], "ended-long-ago")
    async with world.stranger() as client:
        for name, header in (("p1", cookie), ("p2", stale)):
            headers = {"Cookie": header, "X-CSRFToken": second[1]}
            assert (await client.post("/api/pool", json={"name": name}, headers=headers)).status_code == 201
        other = {"Cookie": cookie, "X-CSRFToken": first[1]}
        assert (await client.post("/api/pool", json={"name": "p3"}, headers=other)).status_code == 201


async def test_every_reply_renews_the_session_and_leaves_the_csrf_token(world: World) -> None:
    for reply in (
        await world.client.get("/api/pool"),
        await world.client.get("/api/pool/none"),
        await world.client.post("/api/pool", json={"nmae": "p"}),
    ):
        names = [c.partition("=")[0] for c in reply.headers.get_list("set-cookie")]
        assert names == ["avi-sessionid", "sessionid"]


async def test_a_session_ends_after_idle_minutes_but_each_call_renews_it(world: World) -> None:
    for _ in range(3):
        world.clock.s += 14 * 60
        await world.get("/api/pool")
    world.clock.s += 16 * 60
    await world.get("/api/pool", 401)


async def test_a_session_ends_a_day_after_login_however_busy(world: World) -> None:
    for _ in range(24 * 6):
        world.clock.s += 599
        await world.get("/api/cluster/version")
    world.clock.s += 599
    await world.get("/api/cluster/version", 401)


async def test_the_idle_time_is_the_controller_propertys(world: World) -> None:
    await world.call("PUT", "/api/controllerproperties", 200, json={"api_idle_timeout": 60})
    world.clock.s += 59 * 60
    await world.get("/api/pool")


async def test_logout_ends_the_session(world: World) -> None:
    cookies = dict(world.client.cookies)
    assert (await world.client.post("/logout")).status_code == 200
    async with world.stranger() as client:
        header = "; ".join(f"{name}={value}" for name, value in cookies.items())
        assert (await client.get("/api/pool", headers={"Cookie": header})).status_code == 401


async def test_basic_authentication_is_off_until_the_system_configuration_allows_it(world: World) -> None:
    basic = {"Authorization": "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()}
    async with world.stranger() as client:
        refused = await client.get("/api/pool", headers=basic)
        assert refused.status_code == 401 and "allow_basic_authentication" in refused.json()["error"]
        body = {"replace": {"portal_configuration": {"allow_basic_authentication": True}}}
        await world.call("PATCH", "/api/systemconfiguration", 200, json=body)
        made = await client.post("/api/pool", json={"name": "p"}, headers=basic)
        assert made.status_code == 201 and "set-cookie" not in made.headers
        for wrong in ("Basic !", "Basic " + base64.b64encode(b"admin:no").decode(), "Basic /w=="):
            assert (await client.get("/api/pool", headers={"Authorization": wrong})).status_code == 401


async def test_a_password_change_keeps_this_session_and_ends_the_others(world: World) -> None:
    other = await _opened(world)
    body = {"old_password": PASSWORD, "password": "another shoal"}
    for wrong in ({"password": "x"}, {"old_password": "no", "password": "another shoal"}, {**body, "password": "x"}):
        reply = await world.client.put("/api/useraccount", json=wrong)
        assert reply.status_code in (400, 401, 403), reply.text
    reply = await world.client.put("/api/useraccount", json=body)
    assert (reply.status_code, reply.content) == (200, b"")
    await world.get("/api/pool")
    async with world.stranger() as client:
        assert (await client.get("/api/pool", headers={"Cookie": f"sessionid={other[0]}"})).status_code == 401
        old = await client.post("/login", data={"username": "admin", "password": PASSWORD})
        assert old.status_code == 401


async def test_a_wrong_old_password_does_not_look_like_an_ended_session(world: World) -> None:
    """401 makes the SDK log in again and repeat the call three times."""
    body = {"old_password": "no", "password": "another shoal"}
    assert (await world.client.put("/api/useraccount", json=body)).status_code == 403


# --- versions and tenants ---


async def test_the_version_header_is_echoed_and_absent_means_the_oldest(world: World) -> None:
    for version in ("22.1.3", "20.1.1", "18.2.6", "16.4.2"):
        reply = await world.client.get("/api/pool", headers={"X-Avi-Version": version})
        assert reply.headers["AVI_API_VERSION"] == version
    del world.client.headers["X-Avi-Version"]
    reply = await world.client.get("/api/pool")
    assert reply.headers["AVI_API_VERSION"] == "16_4_2"


@pytest.mark.parametrize("version", ["30.2.1", "99", "1.0", "x", "22.1.3.9.9.9", "22..1", "-1", "²"])
async def test_a_version_outside_ours_is_400_with_the_words_clients_look_for(world: World, version: str) -> None:
    reply = await world.client.get("/api/pool", headers={b"X-Avi-Version": version.encode("latin-1")})
    assert reply.status_code == 400
    assert "Invalid version" in reply.json()["error"]


async def test_fields_introduced_later_are_hidden_from_an_older_client(world: World) -> None:
    made = await world.service()
    path = f"/api/virtualservice/{made['uuid']}"
    assert "vsvip_ref" in await world.get(path)
    old = await world.call("GET", path, 200, headers={"X-Avi-Version": "16.4.2"})
    assert "vsvip_ref" not in old
    assert {"uuid", "name", "url", "tenant_ref", "cloud_ref"} <= old.keys()


async def test_what_an_older_client_can_not_see_it_does_not_reset(world: World) -> None:
    """It reads, changes a field and writes the whole object back."""
    made = await world.service()
    path, version = f"/api/virtualservice/{made['uuid']}", {"X-Avi-Version": "16.4.2"}
    old = await world.call("GET", path, 200, headers=version)
    old["enabled"] = False
    await world.call("PUT", path, 200, headers=version, json=old)
    now = await world.get(path)
    assert now["enabled"] is False
    assert now["vsvip_ref"] == made["vsvip_ref"].partition("#")[0]


async def test_tenants_see_their_own_objects_and_the_systems(world: World) -> None:
    await world.post("/api/tenant", {"name": "blue"})
    blue, every = {"X-Avi-Tenant": "blue"}, {"X-Avi-Tenant": "*"}
    await world.post("/api/pool", {"name": "p"})
    mine = await world.post("/api/pool", {"name": "p"}, headers=blue)
    assert mine["tenant_ref"].endswith("#blue")
    seen = await world.call("GET", "/api/pool?name=p", 200, headers=blue)
    assert [pool["uuid"] for pool in seen["results"]] == [mine["uuid"]]
    assert (await world.get("/api/pool"))["count"] == 1
    assert (await world.call("GET", "/api/pool", 200, headers=every))["count"] == 2
    by_uuid = {"X-Avi-Tenant-UUID": mine["tenant_ref"].rpartition("/")[2].partition("#")[0]}
    assert (await world.call("GET", "/api/pool", 200, headers=by_uuid))["count"] == 1
    await world.get(f"/api/pool/{mine['uuid']}", 404)
    monitors = await world.call("GET", "/api/healthmonitor?name=System-HTTP", 200, headers=blue)
    assert monitors["count"] == 1
    reply = await world.client.get("/api/pool", headers={"X-Avi-Tenant": "nobody"})
    assert reply.status_code == 404 and "nobody" in reply.json()["error"]


async def test_a_tenant_can_not_change_what_belongs_to_admin(world: World) -> None:
    await world.post("/api/tenant", {"name": "blue"})
    monitor = (await world.get("/api/healthmonitor", name="System-HTTP"))["results"][0]
    path, blue = f"/api/healthmonitor/{monitor['uuid']}", {"X-Avi-Tenant": "blue"}
    await world.call("GET", path, 200, headers=blue)
    for method in ("PUT", "PATCH", "DELETE"):
        reply = await world.client.request(method, path, json={"replace": {"send_interval": 7}}, headers=blue)
        assert reply.status_code == 403, f"{method} {reply.text}"
    assert await world.get(path) == monitor


# --- strange requests ---


@pytest.mark.parametrize("host", ["[::1", "a b", "evil.example/x", "é", '"', "a:b:c@d"])
async def test_a_strange_host_never_breaks_an_answer_nor_gets_into_urls(world: World, host: str) -> None:
    reply = await world.client.get("/api/cluster", headers={b"Host": host.encode("latin-1")})
    assert reply.status_code == 200
    assert reply.json()["url"].isascii()
    assert not set(' /"@') & set(reply.json()["url"].removeprefix("https://").partition("/api/")[0])


@pytest.mark.parametrize(
    "path", ["/api", "/api/", "/api//", "/nothing", "/api/nothing/at/all", "/api/%23", "/api/%3Fx", "/%ff"]
)
async def test_an_unknown_path_is_404_in_json(world: World, path: str) -> None:
    reply = await world.client.get(path)
    assert reply.status_code == 404
    assert reply.json()["error"]


async def test_an_unknown_type_is_404_with_what_was_meant(world: World) -> None:
    assert "virtualservice" in (await world.get("/api/virtualservise", 404))["error"]


async def test_a_fault_of_ours_is_told_by_an_id_and_without_insides(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.service()
    world.runtime.fault = RuntimeError("the secret of the house")
    reply = await world.client.get("/api/virtualservice-inventory")
    assert reply.status_code == 500
    assert "secret" not in reply.text and "Traceback" not in reply.text
    id = reply.json()["error"].rstrip(".").rpartition(" ")[2]
    assert id in caplog.text and "the secret of the house" in caplog.text


async def _opened(world: World) -> tuple[str, str]:
    """(session id, csrf token) of a session of its own."""
    async with world.stranger() as client:
        reply: httpx.Response = await client.post("/login", data={"username": "admin", "password": PASSWORD})
        return reply.cookies["sessionid"], reply.cookies["csrftoken"]


async def test_a_password_has_the_least_length_that_is_configured(world: World) -> None:
    body = {"old_password": PASSWORD, "password": "1234567"}
    reply = await world.call("PUT", "/api/useraccount", 400, json=body)
    assert reply["problems"][0] == {"path": "password", "why": "must have 8..1000 characters", "value": "", "hint": ""}
    change = {"replace": {"portal_configuration": {"minimum_password_length": 6}}}
    await world.call("PATCH", "/api/systemconfiguration", 200, json=change)
    await world.call("PUT", "/api/useraccount", 200, json=body)


async def test_a_first_admin_password_that_is_too_short_is_refused(world: World) -> None:
    store = MemoryStore()
    with pytest.raises(Invalid, match=r"SHOAL_ADMIN_PASSWORD: must have 8\.\.1000 characters"):
        await check_first(store, "short")
    await check_first(store, "long enough")
    await check_first(world.store, "short")  # there is an admin: it is ignored
    await store.close()


async def test_a_version_may_carry_a_build(world: World) -> None:
    for given in ("22.1.3-9000", "20.1.1-1"):
        await world.call("GET", "/api/pool", 200, headers={"X-Avi-Version": given})
    for odd in ("22.1.3-", "22.1.3-x", "-9000", "22.1.4-1"):
        reply = await world.call("GET", "/api/pool", 400, headers={"X-Avi-Version": odd})
        assert "Invalid version" in reply["error"]
