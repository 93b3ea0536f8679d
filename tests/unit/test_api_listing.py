"""Collections: the envelope and every parameter of api.md 5.1."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_world import HOST, World, api_world, key_pair, warnings_of


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        for number, name in enumerate(["web-1", "web-2", "api", "Mail", "mail"]):
            server = {"ip": {"addr": f"10.0.0.{number}", "type": "V4"}, "port": 80}
            await world.post("/api/pool", {"name": name, "servers": [server], "default_server_port": 90 + number * 10})
        yield world


async def names(world: World, **params: Any) -> list[str]:
    found = await world.get("/api/pool", **params)
    assert found["count"] == len(found["results"])
    return [pool["name"] for pool in found["results"]]


async def test_nothing_found_is_200_and_empty(world: World) -> None:
    assert await world.get("/api/pool", name="none") == {"count": 0, "results": []}
    assert await world.get("/api/pool/", name="none") == {"count": 0, "results": []}


@pytest.mark.parametrize(
    "params, expected",
    [
        ({"name": "mail"}, ["mail"]),
        ({"name.contains": "ail"}, ["Mail", "mail"]),
        ({"name.contains": "mai"}, ["mail"]),
        ({"name.icontains": "MAI"}, ["Mail", "mail"]),
        ({"name.in": "api,mail,none"}, ["api", "mail"]),
        ({"name.in": "api,mail", "exclude": "name.in"}, ["web-1", "web-2", "Mail"]),
        ({"search": "10.0.0.2"}, ["api"]),
        ({"search": "(name,eb-)"}, ["web-1", "web-2"]),
        ({"isearch": "MAIL"}, ["Mail", "mail"]),
        ({"isearch": "(name,MAIL)"}, ["Mail", "mail"]),
        ({"default_server_port": "100"}, ["web-2"]),
        ({"enabled": "false"}, []),
        ({"cloud_ref.name": "Default-Cloud", "name": "api"}, ["api"]),
        ({"cloud_ref.name": "none"}, []),
        ({"tenant_ref.name": "admin", "name": "api"}, ["api"]),
        ({"cloud_ref.name.contains": "ault", "name": "api"}, ["api"]),
        ({"servers.ip.addr": "10.0.0.3"}, ["Mail"]),
        ({"name": "api", "include_refs": "", "include_name": ""}, ["api"]),
        (
            {"enabled": "", "cloud_ref.name": "", "page": "", "fields": "", "search": ""},
            ["web-1", "web-2", "api", "Mail", "mail"],
        ),
        ({"name": ""}, []),
        ({"sort": "name"}, ["Mail", "api", "mail", "web-1", "web-2"]),
        ({"sort": "-default_server_port"}, ["mail", "Mail", "api", "web-2", "web-1"]),
        ({"sort": "default_server_port"}, ["web-1", "web-2", "api", "Mail", "mail"]),
        ({"sort": "name", "limit_by": "2"}, ["Mail", "api"]),
    ],
)
async def test_filters(world: World, params: dict[str, str], expected: list[str]) -> None:
    assert await names(world, **params) == expected


async def test_a_filter_on_no_field_of_the_type_is_passed_over_with_a_warning(world: World) -> None:
    reply = await world.client.get("/api/pool", params={"nmae": "api"})
    assert reply.json()["count"] == 5
    assert "nmae" in reply.headers["x-shoal-warning"]
    quiet = await world.client.get("/api/pool", params={"include_refs": "", "include_name": "", "name": "api"})
    assert "x-shoal-warning" not in quiet.headers


@pytest.mark.parametrize(
    "params, words",
    [
        ({"name.bogus": "api"}, "The filter name.bogus"),
        ({"cloud_ref.nmae": "api"}, "The filter cloud_ref.nmae"),
        ({"servers.ip.adr": "api"}, "The filter servers.ip.adr"),
        ({"sort": "bogus"}, "The order bogus"),
        ({"sort": "-servers.bogus"}, "The order -servers.bogus"),
        ({"fields": "name,bogus"}, "The field bogus"),
    ],
)
async def test_what_is_passed_over_is_said(world: World, params: dict[str, str], words: str) -> None:
    reply = await world.client.get("/api/pool", params=params)
    assert reply.status_code == 200 and reply.json()["count"] == 5
    (warning,) = warnings_of(reply)
    assert warning.startswith(f"{words} was passed over: Pool has no such field.")


async def test_each_warning_has_a_header_of_its_own(world: World) -> None:
    reply = await world.client.get("/api/pool", params={"nmae": "a", "sort": "bogus", "fields": "x,y"})
    assert len(warnings_of(reply)) == 4


async def test_whole_parameters_are_quiet(world: World) -> None:
    params = {"fields": "uuid,name,url,cloud_ref,_last_modified", "sort": "-cloud_ref.name", "vrf_ref.uuid": "x"}
    assert not warnings_of(await world.client.get("/api/pool", params=params))


@pytest.mark.parametrize("name", ["refers_to", "referred_by"])
@pytest.mark.parametrize("value", ["garbage", "pool:", ":x", "poool:pool-1"])
async def test_a_reference_filter_names_a_type_and_a_uuid(world: World, name: str, value: str) -> None:
    assert (await world.get("/api/pool", 400, **{name: value}))["problems"][0]["path"] == name


async def test_uuids(world: World) -> None:
    pools = (await world.get("/api/pool"))["results"]
    chosen = ",".join(pool["uuid"] for pool in pools[:2])
    assert await names(world, uuid=pools[3]["uuid"]) == ["Mail"]
    assert await names(world, **{"uuid.in": chosen}) == ["web-1", "web-2"]
    assert await names(world, **{"uuid.in": chosen, "exclude": "uuid.in"}) == ["api", "Mail", "mail"]
    cloud = pools[0]["cloud_ref"].rpartition("/")[2]
    assert len(await names(world, cloud_uuid=cloud)) == len(await names(world, **{"cloud_ref.uuid": cloud})) == 5


async def test_pages_follow_one_another_and_the_last_has_no_next(world: World) -> None:
    first = await world.get("/api/pool", page_size=2, include_name="")
    assert first["count"] == 5 and len(first["results"]) == 2
    seen = [pool["name"] for pool in first["results"]]
    page = first
    while "next" in page:
        assert page["next"].startswith(f"https://{HOST}/api/pool?")
        page = await world.get(page["next"].removeprefix(f"https://{HOST}"))
        assert page["results"][0]["url"].endswith("#" + page["results"][0]["name"])
        seen += [pool["name"] for pool in page["results"]]
    assert seen == ["web-1", "web-2", "api", "Mail", "mail"]
    assert "next" not in await world.get("/api/pool", page_size=5)


async def test_a_page_size_over_the_cap_is_capped_and_nonsense_is_refused(world: World) -> None:
    assert len((await world.get("/api/pool", page_size=1000))["results"]) == 5
    for name, value in (
        ("page", "0"),
        ("page_size", "x"),
        ("page_size", "-1"),
        ("limit_by", "1.5"),
        ("page", "9" * 30),
    ):
        reply = await world.get("/api/pool", 400, **{name: value})
        assert reply["problems"][0]["path"] == name


async def test_who_refers_to_whom(world: World) -> None:
    made = await world.service()
    pool = (await world.get("/api/pool", name="web-pool"))["results"][0]
    services = await world.get("/api/virtualservice", refers_to=f"pool:{pool['uuid']}")
    assert [s["uuid"] for s in services["results"]] == [made["uuid"]]
    assert (await world.get("/api/virtualservice", refers_to="pool:none"))["count"] == 0
    assert await names(world, referred_by=f"virtualservice:{made['uuid']}") == ["web-pool"]


async def test_runtime_is_joined_when_asked_for(world: World) -> None:
    await world.service()
    joined = await world.get("/api/virtualservice", join_subresources="runtime")
    assert joined["results"][0]["runtime"]["percent_ses_up"] == 100
    few = await world.get("/api/virtualservice", join_subresources="runtime", fields="name")
    assert few["results"][0].keys() == {"uuid", "name", "url", "runtime"}


async def test_filters_are_no_oracle_for_secrets(world: World) -> None:
    key, certificate = key_pair()
    await world.post(
        "/api/sslkeyandcertificate", {"name": "k", "key": key, "certificate": {"certificate": certificate}}
    )
    stored = next(d for d in world.view.all("sslkeyandcertificate") if d["name"] == "k")["key"]
    for params in (
        {"key": stored},
        {"key.startswith": stored[:8]},
        {"search": stored[:12]},
        {"search": f"(key,{stored[:8]})"},
    ):
        found = await world.get("/api/sslkeyandcertificate", **params)
        assert "k" not in [document["name"] for document in found["results"]], params


async def test_fields_of_a_page(world: World) -> None:
    found = await world.get("/api/pool", fields="enabled", name="api")
    assert found["results"][0].keys() == {"uuid", "name", "url", "enabled"}
