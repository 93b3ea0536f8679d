"""Servers that pools know by name: which, what becomes of an answer, and of none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import dns.message
import dns.rcode
import dns.rrset
import pytest

from shoal.controller.names import members
from shoal.controller.names.lookup import Found, Unresolved, look_up
from shoal.controller.names.members import Answer
from shoal.wire.desired import Service, decode_part
from tests.api_world import ControlledWorld, controlled_world

NAME = "app.example.com"


def pool(*servers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"default_server_port": 80, "servers": list(servers), **fields}


def by_name(name: str = NAME, **fields: Any) -> dict[str, Any]:
    return {"ip": {"addr": name, "type": "DNS"}, "hostname": name, **fields}


def by_address(address: str, **fields: Any) -> dict[str, Any]:
    return {"ip": {"addr": address, "type": "V4"}, "hostname": address, **fields}


@pytest.mark.parametrize(
    ("server", "name"),
    [
        (by_name(), NAME),
        (by_name("App.Example.COM."), NAME),
        (by_address("10.1.1.1", hostname=NAME, resolve_server_by_dns=True), NAME),
        (by_address("10.1.1.1", hostname=NAME), ""),
        (by_address("10.1.1.1", hostname="10.1.1.1", resolve_server_by_dns=True), ""),
        (by_name("not a name"), ""),
        (by_name("10.1.1.1"), ""),
        (by_name("x" * 64 + ".example.com"), ""),
    ],
)
def test_which_servers_are_names(server: dict[str, Any], name: str) -> None:
    assert members.name_of(server) == name


def test_a_pool_may_have_all_that_have_names_looked_up() -> None:
    document = pool(by_address("10.1.1.1", hostname=NAME), by_address("10.1.1.2"), resolve_pool_by_dns=True)
    assert list(members.names(document)) == [NAME]
    assert places(members.expanded(document, {NAME: Answer(addresses=("10.1.1.7",))}.get)) == [
        ("10.1.1.7", True),
        ("10.1.1.2", True),
    ]


def places(document: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(server["ip"]["addr"], server.get("enabled", True)) for server in document["servers"]]


def test_a_name_becomes_a_server_for_each_address() -> None:
    document = pool(by_address("10.1.1.9"), by_name(ratio=3), by_name("other.example.com"))
    answers = {
        NAME: Answer(addresses=("10.1.1.1", "fd00::1")),
        "other.example.com": Answer(addresses=("10.1.1.1", "10.1.1.9", "10.1.1.2")),
    }
    found = members.expanded(document, answers.get)
    assert places(found) == [("10.1.1.9", True), ("10.1.1.1", True), ("fd00::1", True), ("10.1.1.2", True)]
    assert found["servers"][2] == {"ip": {"addr": "fd00::1", "type": "V6"}, "hostname": NAME, "ratio": 3}


def test_what_a_name_was_is_kept_and_disabled_where_it_is_not_to_be_deleted() -> None:
    answer = Answer(addresses=("10.1.1.2",), former=("10.1.1.1",))
    kept = members.expanded(pool(by_name(), delete_server_on_dns_refresh=False), lambda name: answer)
    assert places(kept) == [("10.1.1.2", True), ("10.1.1.1", False)]
    assert places(members.expanded(pool(by_name()), lambda name: answer)) == [("10.1.1.2", True)]


def test_until_there_is_an_answer_the_address_given_serves() -> None:
    given = by_address("10.1.1.7", hostname=NAME, resolve_server_by_dns=True)
    found = members.expanded(pool(given, by_name("other.example.com")), lambda name: None)
    assert places(found) == [("10.1.1.7", True)]


# --- the controller ---


class Dns:
    """Answers by script."""

    def __init__(self) -> None:
        self.answer: tuple[str, ...] | str = ("10.1.1.1",)
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    async def __call__(self, name: str, servers: tuple[str, ...], search: str) -> Found:
        self.asked.append((name, servers))
        if isinstance(self.answer, str):
            raise Unresolved(self.answer)
        return Found(self.answer, 300)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


async def put(
    world: ControlledWorld, *servers: dict[str, Any], pool_fields: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """A virtual service on an engine, with these servers."""
    vsvip = await world.post("/api/vsvip", {"name": "one", "vip": [{"vip_id": "0", "auto_allocate_ip": True}]})
    made = await world.post("/api/pool", {"name": "one", "servers": list(servers), **pool_fields})
    service = {"name": "one", "vsvip_ref": vsvip["url"], "pool_ref": made["url"], "services": [{"port": 80}]}
    await world.post("/api/virtualservice", service)
    await world.staged(1)
    await world.run(lambda: engine(world))


def engine(world: ControlledWorld) -> str:
    parts = world.controller.compiler.parts
    return next((id for id in world.controller.ledger.engines if any(p.startswith("service/") for p in parts(id))), "")


def served(world: ControlledWorld) -> list[str]:
    parts = world.controller.compiler.parts(engine(world))
    part = next(decode_part(part.data) for id, part in parts.items() if id.startswith("service/"))
    assert isinstance(part, Service) and part.pool is not None
    return [server.name for server in part.pool.servers]


async def reasons(world: ControlledWorld) -> str:
    uuid = world.view.all("pool")[0]["uuid"]
    return " ".join(world.controller.read("pool", uuid, "runtime")["oper_status"]["reason"])


async def test_an_answer_reaches_the_engines_and_a_failure_keeps_the_last_one(world: ControlledWorld) -> None:
    names, dns = world.controller.names, Dns()
    names.look_up = dns
    await put(world, by_name(), by_address("10.1.1.50"))
    key = world.view.all("pool")[0]["cloud_ref"].rpartition("/")[2].partition("#")[0], NAME
    await world.run(lambda: dns.asked)
    assert served(world) == ["10.1.1.1:80", "10.1.1.50:80"]
    dns.answer = ("10.1.1.2", "10.1.1.3")
    assert await names.look(key) == 300
    assert served(world) == ["10.1.1.2:80", "10.1.1.3:80", "10.1.1.50:80"]
    dns.answer = "the DNS servers refuse: SERVFAIL"
    assert [await names.look(key) for _ in range(7)] == [2, 4, 8, 16, 32, 60, 60]
    assert served(world) == ["10.1.1.2:80", "10.1.1.3:80", "10.1.1.50:80"]
    assert "SERVFAIL. Its last answer is served." in await reasons(world)
    told = [event.name for event in world.controller.events_log.read({}) if event.name.startswith("POOL_DNS")]
    assert told == ["POOL_DNS_FAILED", "POOL_DNS_CHANGED", "POOL_DNS_CHANGED"]
    await world.restart()
    again, uuid = world.controller.names, world.view.all("pool")[0]["uuid"]
    assert [at for at, _ in places(again.get("pool", uuid) or {})] == ["10.1.1.2", "10.1.1.3", "10.1.1.50"]
    again.look_up = dns
    await world.run(lambda: again.trouble(uuid) and "SERVFAIL" in again.trouble(uuid)[0])
    dns.answer = ("10.1.1.3", "10.1.1.2")
    await again.look(key)
    assert again.trouble(uuid) == []
    assert world.controller.events_log.read({})[0].name == "POOL_DNS_ANSWERED"


async def test_the_addresses_of_a_group_are_servers_and_follow_it(world: ControlledWorld) -> None:
    v4 = {"addr": "10.1.1.0", "type": "V4"}
    group = await world.post(
        "/api/ipaddrgroup",
        {
            "name": "g",
            "addrs": [{"addr": "10.1.2.1", "type": "V4"}],
            "ranges": [{"begin": {**v4, "addr": "10.1.3.9"}, "end": {**v4, "addr": "10.1.3.10"}}],
            "prefixes": [{"ip_addr": v4, "mask": 30}],
        },
    )
    await put(world, pool_fields={"ipaddrgroup_ref": group["url"], "default_server_port": 8080})
    addresses = ["10.1.2.1", "10.1.3.9", "10.1.3.10", "10.1.1.1", "10.1.1.2"]
    assert served(world) == [f"{address}:8080" for address in addresses]

    async def changed(fields: dict[str, Any], servers: int) -> None:
        done = asyncio.create_task(world.run(lambda: len(served(world)) == servers))
        await asyncio.sleep(0)  # the controller listens
        reply = await world.client.patch(f"/api/ipaddrgroup/{group['uuid']}", json={"replace": fields})
        assert reply.status_code == 200, reply.text
        await done

    await changed({"addrs": [], "prefixes": []}, 2)
    assert served(world) == ["10.1.3.9:8080", "10.1.3.10:8080"]
    shown = world.controller.read("pool", world.view.all("pool")[0]["uuid"], "runtime")
    assert shown["num_servers"] == 2
    await changed({"prefixes": [{"ip_addr": {**v4, "addr": "10.0.0.0"}, "mask": 8}]}, members.GROUP_SERVERS_MAX)
    assert "it has more" in await reasons(world)


async def test_a_name_that_no_pool_has_is_forgotten(world: ControlledWorld) -> None:
    dns = world.controller.names.look_up = Dns()
    made = await world.post("/api/pool", {"name": "one", "servers": [by_name()]})
    await world.run(lambda: dns.asked)
    assert (await world.store.list("/resolved/")).records
    await world.run(lambda: world.controller.names.trouble(made["uuid"]) == [])
    assert (await world.client.delete(f"/api/pool/{made['uuid']}")).status_code == 204
    records = 1

    async def count() -> None:
        nonlocal records
        while records:
            records = len((await world.store.list("/resolved/")).records)
            await asyncio.sleep(0.01)

    counting = asyncio.create_task(count())
    await world.run(lambda: records == 0)
    await counting


async def test_a_change_of_one_pool_looks_at_no_other(world: ControlledWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    dns, looked_at = Dns(), list[str]()
    world.controller.names.look_up = dns
    for number in range(9):
        await world.post("/api/pool", {"name": f"other-{number}", "servers": [by_address("10.1.1.1")]})
    task = asyncio.create_task(world.controller.run())
    await asyncio.sleep(0.1)
    names = members.names

    def noted(pool: Mapping[str, Any]) -> dict[str, None]:
        looked_at.append(pool["name"])
        return names(pool)

    monkeypatch.setattr(members, "names", noted)
    made = await world.post("/api/pool", {"name": "mine", "servers": [by_address("10.1.1.1")]})
    change = {"replace": {"servers": [by_name(), by_name("other.example.com")]}}
    await world.call("PATCH", f"/api/pool/{made['uuid']}", 200, json=change)
    async with asyncio.timeout(5):
        while len(dns.asked) < 2:
            await asyncio.sleep(0.01)
    await world.call("PATCH", f"/api/pool/{made['uuid']}", 200, json={"replace": {"servers": [by_name()]}})
    await world.call("DELETE", f"/api/pool/{made['uuid']}", 204)
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert set(looked_at) == {"mine"}
    assert not world.controller.names._pools and not world.controller.names._tasks


async def test_the_clouds_dns_servers_are_asked_else_the_systems(world: ControlledWorld) -> None:
    dns = world.controller.names.look_up = Dns()
    system = world.view.all("systemconfiguration")[0]
    configuration = {"server_list": [{"addr": "192.0.2.1", "type": "V4"}]}
    body = {**system, "dns_configuration": configuration}
    assert (await world.client.put("/api/systemconfiguration", json=body)).status_code == 200
    made = await world.post("/api/pool", {"name": "one", "servers": [by_name()]})
    await world.run(lambda: dns.asked)
    assert dns.asked == [(NAME, ("192.0.2.1",))]
    cloud = world.view.all("cloud")[0]
    resolver = {"resolver_name": "own", "nameserver_ips": [{"addr": "192.0.2.2", "type": "V4"}], "fixed_ttl": 7}
    answer = await world.client.put(f"/api/cloud/{cloud['uuid']}", json={**cloud, "dns_resolvers": [resolver]})
    assert answer.status_code == 200, answer.text
    assert await world.controller.names.look((cloud["uuid"], NAME)) == 7
    assert dns.asked[-1] == (NAME, ("192.0.2.2",))
    assert made["servers"][0]["ip"] == {"addr": NAME, "type": "DNS"}


@pytest.mark.parametrize(
    ("servers", "path"),
    [
        ([by_name("not a name")], "servers[0].ip.addr"),
        ([by_address("10.1.1.1", hostname="not a name", resolve_server_by_dns=True)], "servers[0].hostname"),
        ([by_name(), by_name("APP.example.com.")], "servers[1]"),
    ],
)
async def test_what_is_no_name_is_refused(world: ControlledWorld, servers: list[dict[str, Any]], path: str) -> None:
    answer = await world.client.post("/api/pool", json={"name": "one", "servers": servers})
    assert answer.status_code == 400 and path in answer.text


# --- the wire ---


class Authority(asyncio.DatagramProtocol):
    """A DNS server: what it answers for each name, or the code it refuses with."""

    RECORDS: ClassVar = {
        "many.example.": ("A", "10.0.0.10", "10.0.0.9"),
        "six.example.": ("AAAA", "fd00::9"),
        "short.corp.": ("A", "10.0.0.3"),
    }

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        query = dns.message.from_wire(data)
        answer = dns.message.make_response(query)
        asked = query.question[0]
        kind, *texts = self.RECORDS.get(str(asked.name), ("",))
        if str(asked.name) == "broken.example.":
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif not kind:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif kind == asked.rdtype.name:
            answer.answer.append(dns.rrset.from_text(asked.name, 60, "IN", kind, *texts))
        self.transport.sendto(answer.to_wire(), address)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("many.example", Found(("10.0.0.9", "10.0.0.10"), 60)),
        ("six.example", Found(("fd00::9",), 60)),
        ("short", Found(("10.0.0.3",), 60)),
        ("none.example", "there is no such name"),
        ("broken.example", "the DNS servers refuse: SERVFAIL"),
    ],
)
async def test_a_dns_server_is_asked(name: str, found: Found | str) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Authority, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    try:
        answer: Found | str = await look_up(name, ("127.0.0.1",), "corp", port)
    except Unresolved as error:
        answer = str(error)
    finally:
        transport.close()
    assert answer == found
