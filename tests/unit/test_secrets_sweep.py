"""A secret planted in every sensitive field of the model is found nowhere in the clear: not in the database, answers, error
texts, logs, events, exports or backups. What is sensitive is read from the schema, so a new field is planted too."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from shoal.objects import Field, ObjectType, load
from shoal.objects.types import walk
from tests import documents
from tests.api_world import ControlledWorld, controlled_world, key_pair

Document = dict[str, Any]
MARK = "pLaNtEd"
WORDS = "the passphrase of the file"
KEY, CERTIFICATE = key_pair()
UNPLANTED = {("useraccount", "old_password"), ("useraccount", "password")}
"""No stored object: the password of who is logged in (see test_api_sessions)."""
PLACES = [
    (kind, path)
    for kind in load().types.values()
    for path, field in walk(kind.message)
    if field.sensitive and not kind.read_only and (kind.endpoint, path) not in UNPLANTED
]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


class Planter:
    """Writes and reads with secrets in the requests; every answer is looked at."""

    def __init__(self, world: ControlledWorld) -> None:
        self.world = world
        self.leaks: list[str] = []
        self.words: list[str] = []
        self.stored = 0

    def secret(self, kind: ObjectType, path: str) -> str:
        """One that is not alike anywhere else; where it must be a key, the middle line of one."""
        if (kind.endpoint, path) == ("sslkeyandcertificate", "key"):
            self.words.append(KEY.splitlines()[1])
            return KEY
        self.words.append(f"{MARK}-{len(self.words)}-{kind.endpoint}")
        return self.words[-1]

    async def ask(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        """The answer's document, {} for a refusal."""
        reply = await self.world.client.request(method, path, json=body, **more)
        text = reply.text + str(reply.headers)
        for word in self.words:
            if word in text:
                at = text.index(word)
                self.leaks.append(f"{method} {path} {json.dumps(body)[:200]}: {text[max(0, at - 100) : at + 60]!r}")
        assert reply.status_code != 500, f"{method} {path}: {reply.text}"
        return reply.json() if reply.status_code < 300 and reply.content else {}

    def refer(self, type: str) -> str | None:
        known = self.world.view.all(type.lower())
        return f"/api/{type.lower()}/{known[-1]['uuid']}" if known else None

    async def plant(self, kind: ObjectType, path: str) -> None:
        secret = self.secret(kind, path)
        body = documents.with_path(kind.message, path, secret, self.refer)
        assert body is not None, f"{kind.name} {path} can't be planted: say how"
        body |= self._more(kind, path)
        if kind.singleton:
            made = await self.ask("PUT", f"/api/{kind.endpoint}", body)
            url = f"/api/{kind.endpoint}"
        else:
            await self.ask("POST", f"/api/{kind.endpoint}?plan=true", body)
            made = await self.ask("POST", f"/api/{kind.endpoint}", body)
            assert made, f"{kind.name} with {path} is refused, so nothing is planted: say how"
            url = f"/api/{kind.endpoint}/{made['uuid']}"
        self.stored += 1
        read = await self.ask("GET", url)
        for query in ("?include_name=true", f"?fields={path.partition('.')[0]}", "?skip_default=true"):
            await self.ask("GET", url + query)
        await self.ask("PUT", url, read)
        await self.ask("PUT", f"{url}?plan=true", body)
        top = path.partition(".")[0]
        for patch in (
            {"replace": {top: body[top]}},
            {"add": {top: body[top]}},
            {"json_patch": [{"op": "test", "path": "/" + path.replace(".", "/"), "value": secret}]},
        ):
            await self.ask("PATCH", url, patch)
        for wrong in self.wrong(kind, path, secret):
            await self.ask("PUT", url, wrong)
            await self.ask("POST", f"/api/{kind.endpoint}", wrong)
        field = f"{kind.endpoint}:{body.get('name', '')}.{top}"
        await self.ask("POST", "/api/whatif", {"set": {field: json.dumps(body[top])}})
        await self.ask("POST", "/api/macro", {"model_name": kind.name, "data": {**body, top: [secret]}})
        await self.ask("GET", f"/api/{kind.endpoint}")

    def wrong(self, kind: ObjectType, path: str, secret: str) -> Iterator[Document]:
        """The secret in a place of another shape than there should be, and beside it."""
        for given in ([secret], {"inner": secret}, secret + "x" * 300_000):
            if body := documents.with_path(kind.message, path, given, self.refer):
                yield body | self._more(kind, "")
        top, _, rest = path.partition(".")
        yield {"name": "wrong", top: [secret], "no_such_field": 1}
        if rest:
            yield {"name": "wrong", top: secret}
            yield {"name": "wrong", top: {rest.partition(".")[0]: [[secret]], "no_such_field": 1}}

    def _more(self, kind: ObjectType, path: str) -> Document:
        more: Document = {}
        if "name" in kind.fields and not kind.singleton:
            more["name"] = f"of-{kind.endpoint}-{path}"
        if kind.endpoint == "sslkeyandcertificate":
            more["certificate"] = {"certificate": CERTIFICATE}
            if path == "key_passphrase":
                key = serialization.load_pem_private_key(KEY.encode(), None)
                more["key"] = key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.BestAvailableEncryption(self.words[-1].encode()),
                ).decode()
        if path == "bgp_profile.peers.md5_secret":
            router = {"peer_ip": {"addr": "10.1.0.1", "type": "V4"}, "remote_as": 2, "md5_secret": self.words[-1]}
            more["bgp_profile"] = {"local_as": 1, "ibgp": False, "peers": [router]}
        if kind.endpoint == "virtualservice":
            more["vsvip_ref"] = self.refer("vsvip")
            more["services"] = [{"port": 1000 + len(self.words)}]
        return more


async def test_planted_secrets_are_found_nowhere(
    world: ControlledWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    vip = {"vip_id": "0", "ip_address": {"addr": "10.9.0.5", "type": "V4"}}
    await world.post("/api/vsvip", {"name": "vip", "vip": [vip]})
    planter = Planter(world)
    for kind, path in PLACES:
        await planter.plant(kind, path)
    assert planter.stored == len(PLACES) > 50
    await planter.ask("GET", "/api/analytics/logs?type=2&page_size=10000")
    exported = await planter.ask("GET", "/api/configuration/export")
    await planter.ask("POST", "/api/configuration/export", {"passphrase": WORDS})
    await planter.ask("POST", "/api/configuration/import", {"configuration": exported})
    backup = await world.client.post("/api/configuration/backup", json={"passphrase": WORDS})
    places = {record.key: record.value for record in (await world.store.list("")).records}
    places |= {str(file): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    places |= {"the log": caplog.text.encode(), "the backup": backup.content}
    for word in planter.words:
        for place, data in places.items():
            if word.encode() in data:
                planter.leaks.append(f"{word} is in {place}")
    assert not planter.leaks, f"{len(planter.leaks)}:\n" + "\n".join(planter.leaks[:25])


async def test_they_are_sealed_and_open_again_after_they_were_sent_back_masked(world: ControlledWorld) -> None:
    """Two secrets at the same place of a list stay apart."""
    servers = [{"ip_addr": {"addr": f"10.0.0.{n}", "type": "V4"}, "community": f"{MARK}-{n}"} for n in (1, 2)]
    made = await world.post("/api/snmptrapprofile", {"name": "traps", "trap_servers": servers})
    url, kind = f"/api/snmptrapprofile/{made['uuid']}", load().type("snmptrapprofile")
    read = await world.get(url)
    assert {server["community"] for server in read["trap_servers"]} == {"<sensitive>"}

    def communities() -> list[str]:
        stored = world.view.get("snmptrapprofile", made["uuid"])
        assert stored is not None
        assert all(server["community"].startswith("enc:v1:") for server in stored["trap_servers"])
        return [server["community"] for server in world.intent.opened(kind, stored)["trap_servers"]]

    await world.call("PUT", url, 200, json=read)
    assert communities() == [f"{MARK}-1", f"{MARK}-2"]
    read = await world.get(url)
    read["trap_servers"].reverse()
    await world.call("PUT", url, 200, json=read)
    assert communities() == [f"{MARK}-2", f"{MARK}-1"], "they follow their entries"
    read = await world.get(url)
    del read["trap_servers"][0]
    await world.call("PUT", url, 200, json=read)
    assert communities() == [f"{MARK}-1"]


def test_what_looks_like_a_secret_is_marked_as_one() -> None:
    """By its name: a field that the schema forgot would be told to everybody."""
    suspects = ("password", "passphrase", "private_key", "secret", "community", "_token")

    def suspicious(path: str, field: Field) -> bool:
        name = path.rpartition(".")[2]
        return field.kind == "string" and not field.enum and not field.ref and name.endswith(suspects)

    found = {
        (kind.name, path)
        for kind in load().types.values()
        if not kind.read_only
        for path, field in walk(kind.message)
        if suspicious(path, field) and not field.sensitive
    }
    assert not found
