"""Nothing of one tenant is seen from another, at any endpoint: the router says which there are.

Two tenants have the same things under the same addresses' neighbours. Everything that *red* has is marked by a word that
appears nowhere else; everything there is to ask is asked as *blue*, and neither the word nor a uuid of red's may come
back. A new route is asked too; one with a step that this test can't fill fails it until it is told how.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest

from shoal.api import stream
from shoal.api.planning import Planning
from shoal.api.routes import Route, Shows, filled, steps_of
from shoal.controller.metric_ids import ENTITY_TYPES, METRICS
from shoal.controller.plans import Plans
from shoal.controller.sight import Sight
from shoal.objects import Field, ObjectType, load
from shoal.wire.counters import Counters, Counts, EngineCounts, PoolCounts, ServiceCounts
from tests.api_world import ControlledWorld, controlled_world

Document = dict[str, Any]
Question = tuple[str, str, Document | None]
MARK = "zebra"
NOWHERE = "00000000-0000-4000-8000-000000000000"
READ_TYPES_MIN = 25
"""So many types must have an object of red's, or the test shows nothing."""
TYPES = load().types
BLUE, RED = {"X-Avi-Tenant": "blue"}, {"X-Avi-Tenant": MARK}
MOVING = re.compile(
    r'"(_last_modified|report_timestamp|timestamp|start|stop|up_since|since|until|secs|usecs|planned_at)":"?[^,"}]*"?'
)


class Zoo(msgspec.Struct):
    """``red``: type -> uuid of an object of red's; ``names``: their names."""

    world: ControlledWorld
    red: dict[str, str]
    names: dict[str, str]


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ControlledWorld]:
    monkeypatch.setattr(stream, "STREAM_S_MAX", 0.2)
    async with controlled_world(tmp_path) as world:
        for name in ("blue", MARK):
            await world.post("/api/tenant", {"name": name})
        yield world


def least(field: Field, mark: str) -> Any:
    """Some value that the field takes."""
    if field.kind == "message" and field.message is not None:
        return {n: least(f, mark) for n, f in field.message.fields.items() if f.required and not f.has_default}
    if field.kind == "array" and field.item is not None:
        return [least(field.item, mark)]
    if field.enum:
        return field.enum[0]
    if field.kind == "boolean":
        return False
    return int(field.range[0]) if field.range else 1 if field.kind in ("integer", "number") else f"{mark}-text"


def body_of(kind: ObjectType, mark: str) -> Document:
    required = {n: f for n, f in kind.fields.items() if f.required and not f.has_default and not f.read_only}
    body = {name: least(field, mark) for name, field in required.items() if not field.ref}
    if "description" in kind.fields:
        body["description"] = f"a {mark}"
    return body | ({"name": f"{mark}-{kind.endpoint}"} if "name" in kind.fields else {})


async def settle(world: ControlledWorld, name: str, headers: Mapping[str, str], address: str) -> dict[str, str]:
    """One object of as many types as can be, a virtual service among them. (type -> uuid)"""
    made: dict[str, str] = {}

    async def make(type: str, body: Document) -> None:
        reply = await world.client.post(f"/api/{type}", json=body, headers=headers)
        if reply.status_code == 201:
            made[type] = reply.json()["uuid"]

    server = {"ip": {"addr": "10.0.0.1", "type": "V4"}, "port": 80, "hostname": f"{name}.example"}
    await make("healthmonitor", {"name": f"{name}-monitor", "type": "HEALTH_MONITOR_TCP"})
    monitors = [f"/api/healthmonitor?name={name}-monitor", "/api/healthmonitor?name=System-TCP"]
    await make("pool", {"name": f"{name}-pool", "servers": [server], "health_monitor_refs": monitors})
    vip = {"vip_id": "0", "ip_address": {"addr": address, "type": "V4"}}
    await make("vsvip", {"name": f"{name}-vip", "vip": [vip]})
    service = {
        "name": f"{name}-service",
        "services": [{"port": 80}],
        "pool_ref": f"/api/pool?name={name}-pool",
        "vsvip_ref": f"/api/vsvip?name={name}-vip",
    }
    await make("virtualservice", service)
    for type, kind in TYPES.items():
        if type not in made and not kind.read_only and not kind.singleton and kind.tenant_scoped:
            await make(type, body_of(kind, name))
    assert {"pool", "vsvip", "virtualservice", "healthmonitor"} <= made.keys()
    return made


def traffic(world: ControlledWorld, service: str, pool: str) -> None:
    engine = world.view.all("serviceengine")[0]["uuid"]
    for number in range(4):
        counts = Counts(connections=50 * number, requests=100 * number, bytes_in=1_000 * number)
        served = ServiceCounts(service, counts, (PoolCounts(pool, (("10.0.0.1:80", counts),)),))
        busy = EngineCounts(rx_bytes=1_000 * number, cpu_ms=10 * number)
        message = Counters(epoch="e", number=number + 1, at_ms=5_000 * number, engine=busy, services=(served,))
        world.controller.metrics.take(engine, message)


def happen(world: ControlledWorld, red: Mapping[str, str]) -> None:
    events, vip = world.controller.events_log, f"{red['vsvip']}/0"
    events.add("VS_ADD_SE", f"{MARK}: an engine took over", virtualservice=red["virtualservice"], vip=vip)
    events.add("VS_UP", f"{MARK} is up", virtualservice=red["virtualservice"])
    events.add("SERVER_DOWN", f"a server of {MARK} is down", pool=red["pool"])
    events.add("VS_DOWN", f"{MARK}, which is deleted", virtualservice=f"virtualservice-{NOWHERE}")
    events.add(
        "SE_DOWN", f"an engine that served {MARK} is down", serviceengine=world.view.all("serviceengine")[0]["uuid"]
    )


async def zoo_of(world: ControlledWorld) -> Zoo:
    red = await settle(world, MARK, RED, "10.9.0.7")
    await world.staged(2)
    traffic(world, red["virtualservice"], red["pool"])
    happen(world, red)
    names = {type: str((world.view.get(type, uuid) or {}).get("name", "")) for type, uuid in red.items()}
    assert len(red) >= READ_TYPES_MIN, sorted(red)
    return Zoo(world, red, names)


# --- what there is to ask ---


def paths(world: ControlledWorld, route: Route, objects: Mapping[str, str], others: Mapping[str, str]) -> Iterator[str]:
    """Every path of the route, with each uuid of ``objects``, and ``others`` (shared infrastructure) besides."""
    below = [*world.controller.below(), ("virtualservice", "capture"), ("serviceenginegroup", "rebalance")]
    either = [*objects.items(), *others.items()]
    match steps_of(route.path):
        case []:
            yield route.path
        case ["type"]:
            yield from (filled(route.path, type=type) for type in TYPES)
        case ["type", "uuid"]:
            yield from (filled(route.path, type=type, uuid=uuid) for type, uuid in either)
        case ["file"]:
            yield filled(route.path, file="backup-1.shoalbackup")
        case ["type", "uuid", "what"]:
            for type, uuid in either:
                whats = [what for owner, what in below if owner == type]
                yield from (filled(route.path, type=type, uuid=uuid, what=what) for what in whats)
        case ["uuid"]:
            type = route.path.removeprefix("/api/").partition("-inventory")[0].partition("/")[0]
            yield from (filled(route.path, uuid=uuid) for owner, uuid in either if owner == type)
        case ["kind"]:
            yield from (filled(route.path, kind=kind) for kind in ENTITY_TYPES)
        case ["kind", "uuid"]:
            yield from (filled(route.path, kind=kind, uuid=uuid) for kind, uuid in either if kind in ENTITY_TYPES)
        case ["token"]:
            yield filled(route.path, token="0123456789abcdef")
        case steps:
            pytest.fail(f"Say here how to fill {steps} of {route.path}: then its isolation is tested like the others'.")


def shared(world: ControlledWorld) -> dict[str, str]:
    """Infrastructure that all tenants use."""
    types = ("serviceengine", "serviceenginegroup", "cloud", "network", "vrfcontext")
    return {type: found[0]["uuid"] for type in types if (found := world.view.all(type))}


def metric_names(kind: str) -> str:
    return ",".join([metric.name for metric in METRICS.values() if metric.kind == kind][:5])


def queries(zoo: Zoo, path: str) -> list[str]:
    """Ways to ask for more than one's own."""
    kind = path.removeprefix("/api/analytics/metrics/").partition("/")[0]
    if kind in ENTITY_TYPES:
        names = f"?metric_id={metric_names(kind)}&step=5&limit=3"
        return [names, names + "&include_refs=true", *(f"{names}&entity_uuid={uuid}" for uuid in zoo.red.values())][:12]
    type = path.removeprefix("/api/").removesuffix("-inventory")
    if type not in TYPES:
        return [
            "",
            "?include_name=&page_size=200",
            "?type=2&page_size=1000",
            "?since=3000",
            f"?virtualservice={MARK}-service",
        ]
    found = [
        "?include_name=&page_size=200",
        "?join_subresources=runtime&page_size=200",
        f"?search={MARK}",
        f"?name.contains={MARK}",
        f"?description.contains={MARK}",
        "?exclude=name&name=nothing&page_size=200",
        *(
            f"?refers_to={owner}:{uuid}"
            for owner, uuid in zoo.red.items()
            if owner in ("pool", "healthmonitor", "vsvip")
        ),
        f"?referred_by=virtualservice:{zoo.red['virtualservice']}",
        f"?referred_by=pool:{zoo.red['pool']}",
        f"?tenant_ref.name={MARK}",
        f"?pool_ref.name={MARK}-pool",
    ]
    if type in zoo.red:
        found += [f"?name={zoo.names[type]}", f"?uuid={zoo.red[type]}", f"?uuid.in={zoo.red[type]}"]
    return found


def bodies(zoo: Zoo, path: str) -> list[Document]:
    everything = ",".join(zoo.red.values())
    return [
        {},
        {"group": "Default-Group", "fail_any": 1},
        {"set": {f"virtualservice:{MARK}-service.enabled": False}},
        {"set": {"virtualservice:nothing.enabled": False}},
        {"vip_id": "0"},
        {"name": "sniff", "tenant_ref": f"/api/tenant?name={MARK}"},
        {"name": "sniff", "pool_ref": f"/api/pool/{zoo.red['pool']}", "vsvip_ref": f"/api/vsvip/{zoo.red['vsvip']}"},
        {"name": "sniff", "pool_ref": "/api/pool?name=nothing", "vsvip_ref": "/api/vsvip?name=nothing"},
        {"metric_requests": [{"entity_uuid": "*", "metric_id": metric_names(k), "step": 5} for k in ("pool",)]},
        {"metric_requests": [{"entity_uuid": everything, "metric_id": metric_names("virtualservice"), "step": 5}]},
    ]


async def asked(client: httpx.AsyncClient, method: str, url: str, body: Document | None, uuids: list[str]) -> str:
    """What came back, without what was said in the question."""
    reply = await client.request(method, url, json=body, headers=BLUE)
    text = "\n".join([str(reply.status_code), *(f"{k}: {v}" for k, v in reply.headers.items()), reply.text])
    assert reply.status_code != 500, f"{method} {url}: {text}"
    told = url + (msgspec.json.encode(body).decode() if body else "")
    for word in (*uuids, *re.findall(rf"{MARK}[a-z-]*", told)):
        if word in told:
            text = text.replace(word, "*")
    return text


async def test_nothing_of_another_tenant_comes_back_from_any_route(world: ControlledWorld) -> None:
    blue = await settle(world, "blue", BLUE, "10.9.0.6")
    zoo = await zoo_of(world)
    uuids = list(zoo.red.values())
    leaks, questions = [], 0
    for route in world.app.router.routes:
        urls: list[Question] = []
        for path in paths(world, route, blue | zoo.red, shared(world)):
            if "GET" in route.methods:
                urls += [("GET", path + query, None) for query in ("", *queries(zoo, path))]
            if "POST" in route.methods:
                urls += [("POST", path, body) for body in bodies(zoo, path)]
        others = [*paths(world, route, zoo.red, shared(world))] if {"PUT", "DELETE"} & {*route.methods} else []
        for path, method in itertools.product(others, ("PUT", "PATCH", "DELETE")):
            if method in route.methods and not path.endswith("useraccount"):
                urls.append((method, path, {"replace": {"description": "x"}} if method == "PATCH" else {"name": "x"}))
        assert urls, f"nothing was asked of {route.path}"
        for method, url, body in urls:
            text = await asked(world.client, method, url, body, uuids)
            if url.startswith("/api/useraccount"):  # which tenants one may enter is one's own account
                text = re.sub(r'"tenants":\[[^]]*\]', "", text)
            questions += 1
            if MARK in text or any(uuid in text for uuid in uuids):
                at = next(text.index(w) for w in (MARK, *uuids) if w in text)
                leaks.append(f"{method} {url} {body}: ...{text[max(0, at - 150) : at + 100]}")
    assert not leaks, f"{len(leaks)} of {questions}:\n" + "\n".join(leaks[:10])
    for type, uuid in zoo.red.items():
        assert world.view.get(type, uuid) is not None, f"blue deleted red's {type}"
        assert (world.view.get(type, uuid) or {}).get("description", "") != "x", f"blue changed red's {type}"


async def test_an_object_of_another_tenant_is_like_none_at_all(world: ControlledWorld) -> None:
    """By uuid: the same status and the same words for red's as for one that never was."""
    zoo = await zoo_of(world)
    for route in world.app.router.routes:
        if "uuid" not in steps_of(route.path):
            continue
        for (type, uuid), method in itertools.product(zoo.red.items(), route.methods):
            none = f"{type}-{NOWHERE}"
            theirs = list(paths(world, route, {type: uuid}, {}))
            for path, ghost in zip(theirs, paths(world, route, {type: none}, {}), strict=True):
                query = f"?metric_id={metric_names(type)}" if "metrics" in path else ""
                body = None if method == "GET" else {"name": "x"}
                answers = [await asked(world.client, method, p + query, body, [uuid, none]) for p in (path, ghost)]
                assert _timeless(answers[0]) == _timeless(answers[1]), f"{method} {path}"


async def test_filters_by_reference_are_silent_about_another_tenants_objects(world: ControlledWorld) -> None:
    zoo = await zoo_of(world)
    none = f"pool-{NOWHERE}"
    for type, kind in TYPES.items():
        for filter in ("referred_by", "refers_to") if not kind.singleton else ():
            for owner in ("pool", "virtualservice", "vsvip"):
                paths = [f"/api/{type}?{filter}={owner}:{uuid}" for uuid in (zoo.red[owner], none)]
                answers = [await asked(world.client, "GET", path, None, [zoo.red[owner], none]) for path in paths]
                assert _timeless(answers[0]) == _timeless(answers[1]), paths[0]


async def test_what_another_tenant_does_changes_no_answer(world: ControlledWorld) -> None:
    """Counts, pages, hints of error texts, summaries: all the same before and after red has moved in."""
    blue = await settle(world, "blue", BLUE, "10.9.0.6")
    await world.staged(2)
    empty = Zoo(world, dict.fromkeys(blue, f"pool-{NOWHERE}"), dict.fromkeys(blue, MARK))
    urls: list[Question] = [
        ("GET", path + query, None)
        for route in world.app.router.routes
        for path in paths(world, route, blue, {})
        if "GET" in route.methods
        for query in ("", *queries(empty, path))
    ]
    writes: list[Question] = [
        ("POST", "/api/pool", {"name": "p", "health_monitor_refs": ["/api/healthmonitor?name=nothing"]}),
        ("POST", "/api/virtualservice", {"name": "v", "vsvip_ref": "/api/vsvip?name=nothing"}),
        ("POST", "/api/virtualservice", {"name": "v", "pool_ref": "/api/pool?name=nothing", "vsvip_ref": "nothing"}),
    ]
    questions = [*urls, *writes]
    before = [_timeless(await asked(world.client, *question, [])) for question in questions]
    red = await settle(world, MARK, RED, "10.9.0.7")
    traffic(world, red["virtualservice"], red["pool"])
    happen(world, red)
    after = [_timeless(await asked(world.client, *question, [])) for question in questions]
    for question, was, now in zip(questions, before, after, strict=True):
        assert was == now, f"{question}"


async def test_names_may_repeat_and_each_tenant_finds_its_own(world: ControlledWorld) -> None:
    made = [await world.post("/api/pool", {"name": "same"}, headers=headers) for headers in (BLUE, RED, {})]
    for headers, one in zip((BLUE, RED, {}), made, strict=True):
        found = await world.call("GET", "/api/pool?name=same", 200, headers=headers)
        assert [pool["uuid"] for pool in found["results"]] == [one["uuid"]]


async def test_no_tenant_is_told_of_by_what_admin_may_not_delete(world: ControlledWorld) -> None:
    monitor = await world.post("/api/healthmonitor", {"name": "m", "type": "HEALTH_MONITOR_TCP"})
    await world.post("/api/pool", {"name": f"{MARK}-p", "health_monitor_refs": [monitor["url"]]}, headers=RED)
    reply = await world.call("DELETE", f"/api/healthmonitor/{monitor['uuid']}", 400)
    assert "objects of other tenants" in reply["error"] and MARK not in reply["error"]
    reply = await world.call("DELETE", f"/api/healthmonitor/{monitor['uuid']}", 400, headers={"X-Avi-Tenant": "*"})
    assert f"Pool {MARK}-p" in reply["error"]


async def test_an_address_in_use_says_not_by_whom(world: ControlledWorld) -> None:
    vip = {"vip_id": "0", "ip_address": {"addr": "10.9.0.7", "type": "V4"}}
    await world.post("/api/vsvip", {"name": f"{MARK}-vip", "vip": [vip]}, headers=RED)
    reply = await world.post("/api/vsvip", {"name": "v", "vip": [vip]}, 409, headers=BLUE)
    assert MARK not in reply["error"]


async def test_plans_tell_a_tenant_of_its_own_vips_only(world: ControlledWorld) -> None:
    await settle(world, "blue", BLUE, "10.9.0.6")
    await zoo_of(world)
    service = (await world.call("GET", "/api/virtualservice", 200, headers=BLUE))["results"][0]
    off = {"replace": {"enabled": False}}
    path = f"/api/virtualservice/{service['uuid']}"
    plan = await world.call("PATCH", f"{path}?plan=true", 200, json=off, headers=BLUE)
    assert "blue-service" in str(plan) and MARK not in str(plan)
    stale = await world.call("PATCH", f"{path}?apply=plan-none", 412, json=off, headers=BLUE)
    assert MARK not in str(stale)
    await world.call("PATCH", f"{path}?apply={plan['id']}", 200, json=off, headers=BLUE)


async def test_a_plan_for_one_tenant_leaves_out_the_vips_and_engines_of_others(world: ControlledWorld) -> None:
    """Where an edit of its own moves others': no such edit is known, but placement may change."""
    blue, red = await settle(world, "blue", BLUE, "10.9.0.6"), await settle(world, MARK, RED, "10.9.0.7")

    def vip(name: str, vsvip: str) -> Document:
        said = {
            "virtualservices": [f"{name}-service"],
            "clients": "nothing",
            "owner_before": "e",
            "interruption": "none",
        }
        return {"vip": f"{vsvip}/0", "address": "", **said}

    group: Document = {"serviceenginegroup": "Default-Group", "uuid": shared(world)["serviceenginegroup"]}
    group |= {"vips": [vip("blue", blue["vsvip"]), vip(MARK, red["vsvip"]), vip(MARK, f"vsvip-{NOWHERE}")]}
    group |= {"drain_s": 0, "messages": [], "problems": [MARK], "engines_made": [MARK], "sentence": MARK}
    plan = {"id": "plan-0", "sentence": MARK, "moves_traffic": True, "changes_engines": True, "groups": [group]}
    whole = {"id": "plan-1", "sentence": "", "moves_traffic": True, "changes_engines": True, "groups": [group]}
    planning = Planning(cast(Plans, None), world.view)
    assert planning.shown(Sight(tenant="admin", provider=True), whole) is whole
    seen = planning.shown(Sight(tenant=await uuid_of_tenant(world, "blue")), plan)
    assert MARK not in str(seen) and [v["virtualservices"] for v in seen["groups"][0]["vips"]] == [["blue-service"]]


async def uuid_of_tenant(world: ControlledWorld, name: str) -> str:
    return str((await world.get("/api/tenant", name=name))["results"][0]["uuid"])


async def test_a_scraper_of_one_tenant_gets_its_own_services_and_no_engines_figures(world: ControlledWorld) -> None:
    blue = await settle(world, "blue", BLUE, "10.9.0.6")
    await world.staged(1)
    traffic(world, blue["virtualservice"], blue["pool"])
    text = (await world.client.get("/metrics", headers=BLUE)).text
    assert 'shoal_virtualservice_requests_total{serviceengine="Avi-se-' in text
    path = f"/api/analytics/metrics/serviceengine?metric_id={metric_names('serviceengine')}&step=5"
    assert (await world.call("GET", path, 200, headers=BLUE))["series"] == []
    assert (await world.call("GET", path, 200))["series"] != []
    assert "shoal_serviceengine_received_bytes_total{" not in text and "shoal_serviceengine_cpu" not in re.sub(
        "#.*", "", text
    )


async def test_every_route_says_what_it_shows(world: ControlledWorld) -> None:
    for route in world.app.router.routes:
        assert isinstance(route.shows, Shows), route.path
    whole = [route.path for route in world.app.router.routes if route.shows is Shows.ALL]
    assert "/api/whatif" in whole
    for path in whole:
        route = next(route for route in world.app.router.routes if route.path == path)
        for method in route.methods:
            assert (await world.client.request(method, path, json={}, headers=BLUE)).status_code == 403


def _timeless(text: str) -> str:
    return re.sub(r"(?m)^(set-cookie|content-length|date): .*$", "", MOVING.sub("*", text))
