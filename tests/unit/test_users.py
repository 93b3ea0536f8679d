"""Users, roles, tokens, lock-out: who gets in, and what for (docs/access.md)."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from shoal.api import stream
from shoal.api.routes import filled, steps_of
from shoal.controller.accounts import ADMIN_USER, WRONG
from shoal.controller.lockout import FREE_FAILURES, WAIT_S_MAX, wait_s
from shoal.controller.permissions import NONE, READ, ROLES, SYSTEM_ADMIN, WRITE, known, levels_of, of_type
from shoal.controller.tokens import TOKENS_PER_USER_MAX
from shoal.objects import load
from tests.api_world import HOST, PASSWORD, World, api_world

SECRET = "Correct horse 9!"
TYPES = load().types
NOBODYS = "00000000-0000-4000-8000-000000000000"
Document = dict[str, Any]


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(stream, "STREAM_S_MAX", 0.05)
    async with api_world(tmp_path) as world:
        yield world


async def make(world: World, name: str, role: str = "", tenant: str = "admin", **more: Any) -> Document:
    access = [{"role_ref": f"/api/role?name={role}", "tenant_ref": f"/api/tenant?name={tenant}"}] if role else []
    made: Document = await world.post("/api/user", {"name": name, "password": SECRET, "access": access, **more})
    return made


@asynccontextmanager
async def entered(
    world: World, name: str, tenant: str = "", password: str = SECRET
) -> AsyncIterator[httpx.AsyncClient]:
    async with world.stranger() as client:
        reply = await client.post("/login", data={"username": name, "password": password})
        assert reply.status_code == 200, reply.text
        client.headers.update({"X-CSRFToken": reply.cookies["csrftoken"], "X-Avi-Version": "22.1.3"})
        if tenant:
            client.headers["X-Avi-Tenant"] = tenant
        yield client


async def status(client: httpx.AsyncClient, method: str, path: str, body: Document | None = None) -> int:
    return (await client.request(method, path, json=body)).status_code


def some(path: str, **given: str) -> str:
    """A path with something in each open step."""
    usual = dict.fromkeys(steps_of(path), "0123456789abcdef")
    return filled(path, **(usual | {"type": "pool", "uuid": NOBODYS, "what": "runtime", "kind": "pool"} | given))


# --- roles ---


def test_every_type_has_a_permission_of_the_schemas() -> None:
    for type in TYPES:
        assert of_type(type) in known(), type
    plain = {type for type in TYPES if of_type(type) == "CONTROLLER"}
    assert plain == {"backup", "backupconfiguration", "cluster", "controllerproperties", "scheduler", "seproperties"}


async def test_the_usual_roles_are_there_with_every_permission_named(world: World) -> None:
    found = {role["name"]: role for role in (await world.get("/api/role"))["results"]}
    assert set(found) == {SYSTEM_ADMIN, *ROLES}
    for role in found.values():
        assert [p["resource"] for p in role["privileges"]] == [f"PERMISSION_{name}" for name in known()]
    assert all(
        p["type"] == "WRITE_ACCESS" for p in found[SYSTEM_ADMIN]["privileges"] if "INTERNAL" not in p["resource"]
    )
    operator = levels_of(found["Application-Operator"])
    assert (operator["VIRTUALSERVICE"], operator["VIRTUALSERVICE_MAINTENANCE"], operator["USER"]) == (READ, WRITE, NONE)
    path = f"/api/role/{found['Tenant-Admin']['uuid']}"
    assert "system default object" in (await world.call("DELETE", path, 405))["error"]


@pytest.mark.parametrize("role", [*ROLES, SYSTEM_ADMIN])
async def test_a_role_lets_through_what_it_names_on_every_route_and_nothing_else(world: World, role: str) -> None:
    """The matrix, from the router: 403 exactly where the role's level is too low for the method."""
    await make(world, "pat", role, is_superuser=False)
    levels = levels_of(next(r for r in (await world.get("/api/role"))["results"] if r["name"] == role))
    seen = {READ: 0, WRITE: 0}

    def wanted(route: Any, method: str, type: str, what: str) -> list[tuple[str, int]]:
        """(permission, level) of which one is enough; none = whoever is logged in."""
        level = READ if method == "GET" or not route.writes else WRITE
        if route.needs == "-":
            return []
        if route.needs == "*":
            return [("everything", WRITE)]
        if route.needs:
            return [(route.needs, level)]
        if (type, what) == ("virtualservice", "capture"):
            return [("TRAFFIC_CAPTURE", level)]
        found = [(of_type(type), level)]
        if what and level == WRITE and type in ("virtualservice", "pool"):
            found.append((f"{type.upper()}_MAINTENANCE", level))
        return found

    async with entered(world, "pat") as client:
        for route in world.app.router.routes:
            steps = steps_of(route.path)
            types = (
                [type for type in TYPES if type != "useraccount" and "-" not in type] if "type" in steps else ["pool"]
            )
            if "what" in steps:
                types = ["virtualservice", "pool", "serviceengine", "serviceenginegroup", "user"]
            whats = ["runtime", "scaleout", "capture"] if "what" in steps else [""]
            for method, type, what in itertools.product(route.methods, types, whats):
                path = some(route.path, type=type, what=what)
                reply = await client.request(method, path, json={} if method != "GET" else None)
                ways = wanted(route, method, type, what)
                may = not ways or any(levels.get(permission, NONE) >= level for permission, level in ways)
                if reply.status_code == 403:
                    everywhere = "all tenants" in reply.text
                    assert not may or everywhere, f"{role} may not {method} {path}: {reply.text}"
                else:
                    assert may, f"{role} may {method} {path}: {reply.status_code}"
                seen[max((level for _, level in ways), default=READ)] += 1
    assert seen[READ] > 60 and seen[WRITE] > 200


async def test_no_route_answers_who_is_not_logged_in(world: World) -> None:
    async with world.stranger() as client:
        for route in world.app.router.routes:
            for method in route.methods:
                path = some(route.path)
                assert await status(client, method, path) == 401, f"{method} {path}"


async def test_a_route_without_a_permission_shows_only_what_the_role_reads(world: World) -> None:
    await world.service()
    body = {"name": "narrow", "privileges": [{"resource": "PERMISSION_POOL", "type": "READ_ACCESS"}]}
    await world.post("/api/role", body)
    await make(world, "pat", "narrow")
    async with entered(world, "pat") as client:
        assert (await client.get("/api/pool")).json()["count"] == 1
        assert await status(client, "GET", "/api/virtualservice") == 403
        assert await status(client, "GET", "/api/virtualservice-inventory") == 403
        path = "/api/analytics/metrics/virtualservice?metric_id=l4_client.avg_bandwidth"
        assert (await client.get(path)).json()["series"] == []
        events = (await client.get("/api/analytics/logs?type=2&page_size=1000")).json()["results"]
        assert events and {event["obj_type"] for event in events if "obj_type" in event} == {"Pool"}
        # by way of what it reads it learns nothing of what it does not
        assert (await client.get("/api/pool?refers_to=healthmonitor:x")).json()["count"] == 0
        entry = (await client.get("/api/pool-inventory")).json()["results"][0]
        assert entry["virtualservices"] == []
        # nor by writing: macro and friends go through the same door
        tree = {"model_name": "Pool", "data": {"name": "p"}}
        assert await status(client, "POST", "/api/macro", tree) == 403
        assert await status(client, "POST", "/api/virtualservice", {"name": "v", "vsvip_ref": "x"}) == 403


# --- tenants of users ---


async def test_a_user_of_one_tenant_is_in_that_one_alone(world: World) -> None:
    for name in ("blue", "red"):
        await world.post("/api/tenant", {"name": name})
    await make(world, "pat", "Tenant-Admin", "blue")
    async with entered(world, "pat") as client:
        made = await client.post("/api/pool", json={"name": "p"})
        assert made.status_code == 201 and made.json()["tenant_ref"].endswith("#blue"), "blue is where he is at home"
        assert [t["name"] for t in (await client.get("/api/tenant")).json()["results"]] == ["blue"]
        unknown = await client.get("/api/pool", headers={"X-Avi-Tenant": "nobody"})
        for other in ("red", "admin"):
            reply = await client.get("/api/pool", headers={"X-Avi-Tenant": other})
            assert reply.status_code == unknown.status_code == 404
            assert reply.text == unknown.text.replace("nobody", other)
        assert (await client.get("/api/pool", headers={"X-Avi-Tenant": "*"})).status_code == 403
        elsewhere = {"name": "q", "tenant_ref": "/api/tenant?name=red"}
        assert await status(client, "POST", "/api/pool", elsewhere) == 400
        assert await status(client, "PUT", "/api/systemconfiguration", {}) == 403
        assert await status(client, "POST", "/api/tenant", {"name": "mine"}) == 403
    about = (await world.stranger().post("/login", data={"username": "pat", "password": SECRET})).json()
    assert [tenant["name"] for tenant in about["tenants"]] == ["blue"] and about["user"]["is_superuser"] is False


async def test_a_system_admin_of_the_admin_tenant_is_no_superuser(world: World) -> None:
    """What counts for all tenants takes access to all of them."""
    await world.post("/api/tenant", {"name": "blue"})
    await make(world, "pat", SYSTEM_ADMIN)
    async with entered(world, "pat") as client:
        assert await status(client, "POST", "/api/pool", {"name": "p"}) == 201
        assert await status(client, "PATCH", "/api/controllerproperties", {"replace": {"api_idle_timeout": 0}}) == 403
        assert await status(client, "POST", "/api/tenant", {"name": "mine"}) == 403
        assert await status(client, "POST", "/api/whatif", {}) == 403
        assert (await client.get("/api/tenant")).json()["count"] == 1


async def test_access_to_all_tenants_is_access_to_each(world: World) -> None:
    await world.post("/api/tenant", {"name": "blue"})
    await world.post("/api/pool", {"name": "theirs"}, headers={"X-Avi-Tenant": "blue"})
    body = {"access": [{"role_ref": "/api/role?name=Application-Operator", "all_tenants": True}]}
    await world.post("/api/user", {"name": "pat", "password": SECRET, **body})
    async with entered(world, "pat") as client:
        assert (await client.get("/api/pool", headers={"X-Avi-Tenant": "*"})).json()["count"] == 1
        assert await status(client, "POST", "/api/pool", {"name": "p"}) == 403
        assert await status(client, "POST", "/api/whatif", {}) == 200


# --- nobody gives away more than is his ---


async def test_a_tenant_admin_makes_users_and_roles_of_its_tenant_and_no_more(world: World) -> None:
    for name in ("blue", "red"):
        await world.post("/api/tenant", {"name": name})
    await make(world, "pat", "Tenant-Admin", "blue")
    await make(world, "other", "Tenant-Admin", "red")
    both = [{"role_ref": "/api/role?name=Tenant-Admin", "tenant_ref": f"/api/tenant?name={t}"} for t in ("blue", "red")]
    await world.post("/api/user", {"name": "both", "password": SECRET, "access": both})

    def user(name: str, role: str, **entry: Any) -> Document:
        access = [{"role_ref": f"/api/role?name={role}", **({"tenant_ref": "/api/tenant?name=blue"} | entry)}]
        return {"name": name, "password": SECRET, "access": access}

    async with entered(world, "pat") as client:
        made = await client.post("/api/user", json=user("sam", "Application-Admin"))
        assert made.status_code == 201, made.text
        for wrong in (
            user("eve", SYSTEM_ADMIN),
            user("eve", "Application-Admin", all_tenants=True),
            user("eve", "Application-Admin", tenant_ref="/api/tenant?name=red"),
            user("eve", "Application-Admin", tenant_ref="/api/tenant?name=admin"),
            {**user("eve", "Application-Admin"), "is_superuser": True},
        ):
            assert await status(client, "POST", "/api/user", wrong) == 400, wrong
        path = f"/api/user/{made.json()['uuid']}"
        assert await status(client, "PATCH", path, {"replace": {"is_superuser": True}}) == 400
        seen = {found["name"] for found in (await client.get("/api/user")).json()["results"]}
        assert seen == {"pat", "sam"}
        for hidden in (ADMIN_USER, world_user(world, "other"), world_user(world, "both")):
            assert await status(client, "PATCH", f"/api/user/{hidden}", {"replace": {"password": SECRET}}) == 404
        more = [{"resource": "PERMISSION_SYSTEMCONFIGURATION", "type": "WRITE_ACCESS"}]
        assert await status(client, "POST", "/api/role", {"name": "more", "privileges": more}) == 400
        less = [{"resource": "PERMISSION_POOL", "type": "WRITE_ACCESS"}]
        role = await client.post("/api/role", json={"name": "less", "privileges": less})
        assert role.status_code == 201
        grown = {"replace": {"privileges": less + more}}
        assert await status(client, "PATCH", f"/api/role/{role.json()['uuid']}", grown) == 400
        shared = (await client.get("/api/role?name=Tenant-Admin")).json()["results"][0]["uuid"]
        assert await status(client, "PATCH", f"/api/role/{shared}", {"replace": {"privileges": less}}) == 403


def world_user(world: World, name: str) -> str:
    return next(str(user["uuid"]) for user in world.view.all("user") if user["name"] == name)


async def test_the_last_superuser_stays(world: World) -> None:
    path = f"/api/user/{ADMIN_USER}"
    for change in ({"is_superuser": False}, {"is_active": False}):
        assert "last active superuser" in (await world.call("PATCH", path, 400, json={"replace": change}))["error"]
    await make(world, "root", is_superuser=True)
    await world.call("PATCH", path, 200, json={"replace": {"is_active": False}})
    await world.get("/api/pool", 401)
    async with entered(world, "root") as client:
        root = world_user(world, "root")
        assert await status(client, "DELETE", f"/api/user/{root}") == 400


async def test_nobody_deletes_who_may_more(world: World) -> None:
    entry = {"role_ref": "/api/role?name=System-Admin", "all_tenants": True}
    await world.post("/api/user", {"name": "pat", "password": SECRET, "access": [entry]})
    await make(world, "root", is_superuser=True)
    await make(world, "sam", "Application-Admin")
    async with entered(world, "pat") as client:
        assert await status(client, "DELETE", f"/api/user/{world_user(world, 'root')}") == 403
        assert (
            await status(client, "PATCH", f"/api/user/{world_user(world, 'root')}", {"replace": {"email": "x"}}) == 400
        )
        assert await status(client, "DELETE", f"/api/user/{world_user(world, 'sam')}") == 204


# --- passwords ---


async def test_a_password_is_stored_as_a_sealed_hash_and_never_shown(world: World) -> None:
    made = await make(world, "pat", "Tenant-Admin")
    assert "password" not in made
    path = f"/api/user/{made['uuid']}"
    assert (await world.get(path))["password"] == "<sensitive>"
    changed = "Another horse 9!"
    for body in (
        {"replace": {"password": changed}},
        {"json_patch": [{"op": "replace", "path": "/password", "value": changed + "x"}]},
    ):
        await world.call("PATCH", path, 200, json=body)
    everything = b"".join(record.value for record in (await world.store.list("")).records)
    for secret in (PASSWORD, SECRET, changed):
        assert secret.encode() not in everything
    stored = world.view.get("user", made["uuid"])
    assert stored is not None and stored["password"].startswith("enc:v1:")
    texts = [
        (await world.client.get(f"{url}?page_size=200")).text for url in ("/api/user", path, "/api/analytics/logs")
    ]
    assert not any(word in text for text in texts for word in ("argon2", "enc:v1", SECRET, changed))
    assert (await world.get("/api/user?password.contains=a"))["count"] == 0


async def test_what_only_looks_like_a_hash_is_a_password(world: World) -> None:
    stored = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b27DFWJ"
    await world.post("/api/user", {"name": "pat", "password": stored})
    async with entered(world, "pat", password=stored):
        pass
    nested = {"json_patch": [{"op": "add", "path": "", "value": {"name": "pat", "password": "plain text 9"}}]}
    assert (await world.client.patch(f"/api/user/{world_user(world, 'pat')}", json=nested)).status_code == 400


async def test_a_put_without_a_password_keeps_it(world: World) -> None:
    made = await make(world, "pat", "Tenant-Admin")
    await world.call("PUT", f"/api/user/{made['uuid']}", 200, json={"name": "pat", "email": "pat@example.org"})
    async with entered(world, "pat"):
        pass


async def test_a_whole_user_sent_again_has_no_new_password(world: World) -> None:
    """As playbooks send it. Set by itself it is refused, as one that was used before."""
    made = await make(world, "pat", "Tenant-Admin")
    access = {"role_ref": "/api/role?name=Tenant-Admin", "tenant_ref": "/api/tenant?name=admin"}
    body = {"name": "pat", "password": SECRET, "email": "pat@example.org", "access": [access]}
    async with entered(world, "pat") as client:
        await world.call("PUT", f"/api/user/{made['uuid']}", 200, json=body)
        assert await status(client, "GET", "/api/useraccount") == 200, "its session goes on"
    await world.call("PATCH", f"/api/user/{made['uuid']}", 400, json={"replace": {"password": SECRET}})


async def test_the_password_policy_is_the_system_configurations(world: World) -> None:
    user = await make(world, "patricia", "Tenant-Admin")
    path = f"/api/user/{user['uuid']}"
    strict = {"replace": {"portal_configuration": {"password_strength_check": True, "minimum_password_length": 10}}}
    await world.call("PATCH", "/api/systemconfiguration", 200, json=strict)
    for weak, why in (
        ("Short 9!", "10..1000"),
        ("all small letters", "kinds"),
        ("Patricia 9!x", "user's name"),
        ("Password 1 x" * 100, "10..1000"),
    ):
        reply = await world.call("PATCH", path, 400, json={"replace": {"password": weak}})
        assert why in reply["error"], reply
    assert "last 4" in (await world.call("PATCH", path, 400, json={"replace": {"password": SECRET}}))["error"]
    for number in range(4):
        await world.call("PATCH", path, 200, json={"replace": {"password": f"{SECRET}{number}"}})
    await world.call("PATCH", path, 200, json={"replace": {"password": SECRET}})


# --- getting in ---


async def test_guesses_wait_longer_and_longer_and_the_right_one_too(world: World) -> None:
    async with world.stranger() as client:
        guess = {"username": "admin", "password": "no"}
        for _ in range(FREE_FAILURES + 1):
            assert (await client.post("/login", data=guess)).status_code == 401
            world.clock.s += wait_s(1)
        reply = await client.post("/login", data={"username": "admin", "password": PASSWORD})
        assert reply.status_code == 429 and int(reply.headers["Retry-After"]) == 1
        world.clock.s += 1
        assert (await client.post("/login", data={"username": "admin", "password": PASSWORD})).status_code == 200
        assert (await client.post("/login", data=guess)).status_code == 401, "and all is forgotten"
    assert [wait_s(n) for n in range(FREE_FAILURES, FREE_FAILURES + 5)] == [0, 1, 2, 4, 8]
    assert wait_s(1_000) == WAIT_S_MAX


async def test_guesses_made_at_once_count_each(world: World) -> None:
    async with world.stranger() as client:
        tries = [client.post("/login", data={"username": "admin", "password": str(n)}) for n in range(12)]
        statuses = [reply.status_code for reply in await asyncio.gather(*tries)]
    assert statuses.count(401) <= FREE_FAILURES + 1 and set(statuses) == {401, 429}


async def test_an_account_is_locked_and_says_nothing_of_it_to_who_guesses(world: World) -> None:
    await make(world, "pat", "Tenant-Admin")
    async with world.stranger() as client:
        words = set()
        for name in ("pat", "nobody"):
            for _ in range(3):
                words.add((await client.post("/login", data={"username": name, "password": "no"})).text)
        right = await client.post("/login", data={"username": "pat", "password": SECRET})
        assert right.status_code == 401 and {right.text, *words} == {f'{{"error":"{WRONG}"}}'}
        world.clock.s += 31 * 60
    async with entered(world, "pat"):
        pass
    async with world.stranger() as client:
        for _ in range(2):
            await client.post("/login", data={"username": "pat", "password": "no"})
    async with entered(world, "pat"):
        pass


async def test_the_lock_is_the_profiles_and_outlives_a_restart(world: World) -> None:
    profile = {"name": "strict", "max_login_failure_count": 4, "account_lock_timeout": 1}
    await world.post("/api/useraccountprofile", profile)
    await make(world, "pat", "Tenant-Admin", user_profile_ref="/api/useraccountprofile?name=strict")
    async with world.stranger() as client:
        for _ in range(4):
            await client.post("/login", data={"username": "pat", "password": "no"})
    assert len((await world.store.list("/login/")).records) == 1
    async with world.stranger() as client:
        world.clock.s += 59
        assert (await client.post("/login", data={"username": "pat", "password": SECRET})).status_code == 401
        world.clock.s += 2
        assert (await client.post("/login", data={"username": "pat", "password": SECRET})).status_code == 200


async def test_a_session_ends_with_what_it_stood_on(world: World) -> None:
    """The password, the user's being active, the user."""
    path = f"/api/user/{(await make(world, 'pat', 'Tenant-Admin'))['uuid']}"
    for method, change in (("PATCH", {"password": SECRET + "2"}), ("PATCH", {"is_active": False}), ("DELETE", {})):
        fresh = {"is_active": True, "password": f"{SECRET}{method}{len(change)}{[*change]}"}
        await world.call("PATCH", path, 200, json={"replace": fresh})
        async with entered(world, "pat", password=str(fresh["password"])) as client:
            assert (await client.get("/api/pool")).status_code == 200
            await world.call(method, path, 204 if method == "DELETE" else 200, json={"replace": change})
            assert (await client.get("/api/pool")).status_code == 401, change
            again = await client.post("/login", data={"username": "pat", "password": str(fresh["password"])})
            assert again.status_code == 401 and WRONG in again.text


async def test_rights_count_as_they_are_now(world: World) -> None:
    made = await make(world, "pat", "Application-Admin")
    async with entered(world, "pat") as client:
        assert await status(client, "POST", "/api/pool", {"name": "p"}) == 201
        entry = {"role_ref": "/api/role?name=Application-Operator", "tenant_ref": "/api/tenant?name=admin"}
        await world.call("PATCH", f"/api/user/{made['uuid']}", 200, json={"replace": {"access": [entry]}})
        assert await status(client, "POST", "/api/pool", {"name": "q"}) == 403


async def test_the_absolute_end_and_the_number_of_sessions_are_configured(world: World) -> None:
    shorter = {"replace": {"portal_configuration": {"api_force_timeout": 1}}}
    await world.call("PATCH", "/api/systemconfiguration", 200, json=shorter)
    await world.post("/api/useraccountprofile", {"name": "one", "max_concurrent_sessions": 1})
    await make(world, "pat", "Tenant-Admin", user_profile_ref="/api/useraccountprofile?name=one")
    async with entered(world, "pat") as first, entered(world, "pat") as second:
        assert (await first.get("/api/pool")).status_code == 401
        for _ in range(5):
            world.clock.s += 700
            assert (await second.get("/api/pool")).status_code == 200
        world.clock.s += 700
        assert (await second.get("/api/pool")).status_code == 401


# --- tokens ---


async def test_a_token_signs_in_until_it_ends_and_is_never_seen_again(world: World) -> None:
    made = await world.post("/api/user-token", {"name": "ci", "hours": 2})
    token = made["token"]
    listed = await world.get("/api/user-token")
    assert listed["count"] == 1 and "token" not in listed["results"][0]
    everything = b"".join(record.value for record in (await world.store.list("")).records)
    assert token.split("_", 2)[2].encode() not in everything
    async with world.stranger() as client:
        reply = await client.post("/login", data={"username": "admin", "token": token})
        assert reply.status_code == 200
        client.headers["X-CSRFToken"] = reply.cookies["csrftoken"]
        assert await status(client, "POST", "/api/pool", {"name": "p"}) == 201
        assert await status(client, "POST", "/api/user-token", {"hours": 8_000}) == 403
        assert (await client.post("/login", data={"username": "pat", "token": token})).status_code == 401
        for _ in range(9):
            world.clock.s += 700
            assert await status(client, "GET", "/api/pool") == 200
        world.clock.s += 901
        assert await status(client, "GET", "/api/pool") == 401
    bearer = {"Authorization": f"Bearer {token}"}
    async with world.stranger() as client:
        assert (await client.get("/api/pool", headers=bearer)).status_code == 401


async def test_a_bearer_token_needs_no_cookie_and_ends_when_deleted(world: World) -> None:
    made = await world.post("/api/user-token", {})
    bearer = {"Authorization": f"Bearer {made['token']}"}
    async with world.stranger() as client:
        assert (await client.post("/api/pool", json={"name": "p"}, headers=bearer)).status_code == 201
        assert (await client.post("/api/user-token", json={}, headers=bearer)).status_code == 403
        for wrong in ("", "x", made["token"] + "x", made["token"].replace("shoal", "other"), "shoal__", "shoal_%_x"):
            reply = await client.get("/api/pool", headers={"Authorization": f"Bearer {wrong}"})
            assert reply.status_code == 401, wrong
    await world.call("DELETE", f"/api/user-token/{made['uuid']}", 204)
    async with world.stranger() as client:
        assert (await client.get("/api/pool", headers=bearer)).status_code == 401


async def test_tokens_are_the_users_own_and_bounded(world: World) -> None:
    theirs = await world.post("/api/user-token", {})
    await make(world, "pat", "Tenant-Admin")
    async with entered(world, "pat") as client:
        assert await status(client, "DELETE", f"/api/user-token/{theirs['uuid']}") == 404
        assert (await client.get("/api/user-token")).json()["count"] == 0
        for bad in ({"hours": 0}, {"hours": -1}, {"hours": 10**9}, {"hours": "1"}, {"hours": True}, {"name": "a\nb"}):
            assert await status(client, "POST", "/api/user-token", bad) == 400, bad
        for _ in range(TOKENS_PER_USER_MAX):
            assert await status(client, "POST", "/api/user-token", {"hours": 1}) == 201
        assert await status(client, "POST", "/api/user-token", {"hours": 1}) == 400
        world.clock.s += 3_601
    async with entered(world, "pat") as client:
        assert await status(client, "POST", "/api/user-token", {"hours": 1}) == 201


async def test_basic_authentication_has_the_users_rights(world: World) -> None:
    await make(world, "pat", "Application-Operator")
    allow = {"replace": {"portal_configuration": {"allow_basic_authentication": True}}}
    await world.call("PATCH", "/api/systemconfiguration", 200, json=allow)
    basic = {"Authorization": "Basic " + base64.b64encode(f"pat:{SECRET}".encode()).decode()}
    async with world.stranger() as client:
        assert (await client.get("/api/pool", headers=basic)).status_code == 200
        assert (await client.post("/api/pool", json={"name": "p"}, headers=basic)).status_code == 403


async def test_login_names_are_each_ones_own(world: World) -> None:
    await make(world, "pat")
    for body in ({"name": "admin2", "username": "admin"}, {"name": "x", "username": "pat"}, {"name": "a:b"}):
        assert (await world.client.post("/api/user", json={"password": SECRET, **body})).status_code in (400, 409), body
    made = await world.post("/api/user", {"name": "Sam Smith", "username": "sam", "password": SECRET})
    async with entered(world, "sam") as client:
        assert (await client.get("/api/useraccount")).json()["uuid"] == made["uuid"]
    assert HOST
