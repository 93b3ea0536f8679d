"""Whatever configuration there is: exported, and taken over by an empty Shoal, it is the same one."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.controller.transfer import LEFT_OUT
from shoal.objects import load
from shoal.objects.types import walk
from tests import documents
from tests.api_world import ControlledWorld, controlled_world, key_pair

Document = dict[str, Any]
PASSPHRASE = "a long enough one"
TYPES = [kind for kind in load().types.values() if not (kind.read_only or kind.singleton or kind.endpoint in LEFT_OUT)]
PATHS = [(kind, path) for kind in TYPES for path, field in walk(kind.message) if path != "uuid" and not field.read_only]
KEY, CERTIFICATE = key_pair()
names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=20).filter(
    lambda text: text.strip() == text and text.isprintable()
)


async def contents(world: ControlledWorld) -> dict[tuple[str, str], Document]:
    """All objects with their secrets open; those that an empty Shoal makes for itself have a time alone that differs."""
    found = {}
    for endpoint, kind in load().types.items():
        if endpoint not in LEFT_OUT:
            for document in world.view.all(endpoint):
                opened = world.intent.opened(kind, document)
                del opened["_last_modified"]
                if endpoint == "user" and document["name"] == "admin":
                    continue  # each Shoal has its own, and keeps it
                found[endpoint, document["uuid"]] = opened
    return found


async def fill(world: ControlledWorld, wanted: list[tuple[int, str]], services: list[tuple[str, str]]) -> None:
    """Random fields of random types; what is refused is not there. Then virtual services, in a tenant of their own."""

    def refer(type: str) -> str | None:
        known = world.view.all(type.lower())
        return f"/api/{type.lower()}/{known[-1]['uuid']}" if known else None

    for number, name in wanted:
        kind, path = PATHS[number]
        field = next(field for known, field in walk(kind.message) if known == path)
        given = documents.value(field, refer)
        document = documents.with_path(kind.message, path, given, refer) if given is not None else None
        if document is not None:
            if "name" in kind.fields:
                document["name"] = name
            await world.client.post(f"/api/{kind.endpoint}", json=document)
    for number, (tenant, name) in enumerate(services):
        await world.client.post("/api/tenant", json={"name": tenant})
        body = {"name": name, "key": KEY, "certificate": {"certificate": CERTIFICATE}}
        await world.client.post("/api/sslkeyandcertificate", json=body)
        world.client.headers["X-Avi-Tenant"] = tenant.encode().hex() if not tenant.isascii() else tenant
        reply = await world.client.get("/api/pool")
        if reply.status_code == 200:
            await world.client.post("/api/pool", json={"name": name})
            vip = {"vip_id": "0", "ip_address": {"addr": f"10.9.0.{number + 10}", "type": "V4"}}
            made = (await world.client.post("/api/vsvip", json={"name": name, "vip": [vip]})).json()
            service: Document = {"name": name, "services": [{"port": 80}], "vsvip_ref": made.get("url", "")}
            await world.client.post("/api/virtualservice", json=service | {"pool_ref": f"/api/pool?name={name}"})
        del world.client.headers["X-Avi-Tenant"]


async def there_and_back(wanted: list[tuple[int, str]], services: list[tuple[str, str]]) -> int:
    with tempfile.TemporaryDirectory() as directory:
        one, other = Path(directory) / "one", Path(directory) / "other"
        one.mkdir()
        other.mkdir()
        async with controlled_world(one) as world:
            await fill(world, wanted, services)
            exported = await world.post("/api/configuration/export", {"passphrase": PASSPHRASE}, status=200)
            expected = await contents(world)
        async with controlled_world(other) as world:
            body = {"configuration": exported, "passphrase": PASSPHRASE, "apply": True}
            report = await world.post("/api/configuration/import", body, status=200)
            refused = [entry for entry in report["objects"] if entry["result"] == "not supported"]
            assert not refused, refused
            assert await contents(world) == expected
            again = await world.post("/api/configuration/import", body, status=200)
            assert again["created"] == again["replaced"] == 0
        return len(exported)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    wanted=st.lists(st.tuples(st.integers(0, len(PATHS) - 1), names), min_size=20, max_size=60),
    services=st.lists(st.tuples(names, names), max_size=3),
)
def test_an_export_taken_over_by_an_empty_shoal_is_the_identity(
    wanted: list[tuple[int, str]], services: list[tuple[str, str]]
) -> None:
    asyncio.run(there_and_back(wanted, services))


def test_an_object_of_every_type_with_each_of_its_secrets_comes_back() -> None:
    secrets = [
        (number, f"{kind.endpoint}-{number}")
        for number, (kind, path) in enumerate(PATHS)
        if next(field for known, field in walk(kind.message) if known == path).sensitive
    ]
    first = {
        kind.endpoint: (number, f"first-{kind.endpoint}") for number, (kind, _) in reversed(list(enumerate(PATHS)))
    }
    types = asyncio.run(there_and_back([*first.values(), *secrets], [("other", "web"), ("third", "web")]))
    assert types > 30
