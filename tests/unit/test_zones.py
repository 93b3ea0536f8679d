"""DNS records of VIPs on a real DNS server (Debian's Knot): published, changed, withdrawn, and what is said when that fails."""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.message
import dns.query
import pytest

from shoal.controller.zones.publisher import Publisher
from tests.api_world import ControlledWorld, controlled_world

KNOTD = shutil.which("knotd") or shutil.which("knotd", path="/usr/sbin:/sbin")
SECRET = base64.b64encode(b"a secret of thirty-two octets...").decode()
READY_WITHIN_S = 20.0
ZONE = """$TTL 60
@ SOA ns.example.org. hostmaster.example.org. 1 60 60 600 60
@ NS ns
ns A 192.0.2.53
taken A 192.0.2.99
"""


class Knot:
    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "example.org.zone").write_text(ZONE)
        self._file = folder / "knot.conf"
        self._file.write_text(f"""
server:
    rundir: "{folder}"
    listen: 127.0.0.1@{self.port}
database:
    storage: "{folder}/db"
log:
  - target: stderr
    any: warning
key:
  - id: shoal.
    algorithm: hmac-sha256
    secret: {SECRET}
acl:
  - id: changes
    key: shoal.
    action: update
zone:
  - domain: example.org.
    storage: "{folder}"
    file: example.org.zone
    acl: changes
""")
        self.start()

    def start(self) -> None:
        assert KNOTD is not None
        self._child = subprocess.Popen([KNOTD, "-c", str(self._file)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + READY_WITHIN_S
        while not self.has("ns", "A") and time.monotonic() < deadline:
            time.sleep(0.05)

    def stop(self) -> None:
        self._child.terminate()
        self._child.wait()

    def has(self, name: str, kind: str) -> set[str]:
        query = dns.message.make_query(f"{name}.example.org.", kind)
        try:
            answer = dns.query.udp(query, "127.0.0.1", port=self.port, timeout=0.3)
        except (dns.exception.Timeout, OSError):
            return set()
        return {row.to_text() for rrset in answer.answer for row in rrset}

    def ttl(self, name: str) -> int:
        query = dns.message.make_query(f"{name}.example.org.", "A")
        return int(dns.query.udp(query, "127.0.0.1", port=self.port, timeout=1).answer[0].ttl)


@contextmanager
def dns_server(folder: Path) -> Iterator[Knot]:
    """With the zone example.org, which the key ``shoal.`` may change."""
    if KNOTD is None:
        pytest.skip("knotd is not here: scripts/setup --dev installs it")
    (folder / "knot" / "db").mkdir(parents=True)
    made = Knot(folder / "knot")
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    with dns_server(tmp_path) as knot:
        yield knot


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


def profile(port: int, secret: str = SECRET, **params: str) -> dict[str, Any]:
    given = {"server": "127.0.0.1", "port": str(port), "key_name": "shoal.", **params}
    custom = {
        "usable_domains": ["example.org"],
        "tsig_secret": secret,
        "dynamic_params": [{"name": name, "value": value} for name, value in given.items()],
    }
    return {"name": "ours", "type": "IPAMDNS_TYPE_CUSTOM_DNS", "custom_profile": custom}


async def provided(world: ControlledWorld, body: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = await world.post("/api/ipamdnsproviderprofile", body)
    cloud = world.view.all("cloud")[0]
    await world.call("PUT", f"/api/cloud/{cloud['uuid']}", 200, json={**cloud, "dns_provider_ref": made["url"]})
    return made


async def served(world: ControlledWorld, name: str, *info: dict[str, Any], octet: int = 5) -> dict[str, Any]:
    """A virtual service whose VIP has these DNS records; the VsVip."""
    vip = {
        "vip_id": "0",
        "ip_address": {"addr": f"10.9.0.{octet}", "type": "V4"},
        "ip6_address": {"addr": f"fd00:9::{octet}", "type": "V6"},
    }
    vsvip: dict[str, Any] = await world.post("/api/vsvip", {"name": name, "vip": [vip], "dns_info": list(info)})
    await world.post("/api/virtualservice", {"name": name, "vsvip_ref": vsvip["url"], "services": [{"port": 80}]})
    return vsvip


def publisher(world: ControlledWorld) -> Publisher:
    zones = world.controller.zones
    zones._unseal = world.intent._secrets.unseal
    return zones


async def test_records_follow_the_vip_and_are_gone_with_it(world: ControlledWorld, knot: Knot) -> None:
    await provided(world, profile(knot.port))
    info: list[dict[str, Any]] = [
        {"fqdn": "WWW.example.org."},
        {"fqdn": "www.example.org", "type": "DNS_RECORD_AAAA", "ttl": 77},
    ]
    info += [{"fqdn": "alias.example.org", "type": "DNS_RECORD_CNAME", "cname": {"cname": "www.example.org"}}]
    vsvip = await served(world, "one", *info)
    zones = publisher(world)
    assert await zones.reconcile()
    assert (knot.has("www", "A"), knot.has("www", "AAAA")) == ({"10.9.0.5"}, {"fd00:9::5"})
    assert "www.example.org." in knot.has("alias", "CNAME") and knot.ttl("www") == 30
    uuid = world.view.all("virtualservice")[0]["uuid"]
    shown = world.controller.read("virtualservice", uuid, "runtime")["dns_records"]
    assert {(one["fqdn"], one["type"], one["state"]) for one in shown} == {
        ("www.example.org", "A", "published"),
        ("www.example.org", "AAAA", "published"),
        ("alias.example.org", "CNAME", "published"),
    }
    await served(world, "two", {"fqdn": "www.example.org"}, octet=6)
    assert await zones.reconcile() and knot.has("www", "A") == {"10.9.0.5", "10.9.0.6"}
    disabled = {"replace": {"enabled": False}}
    await world.call("PATCH", f"/api/virtualservice/{uuid}", 200, json=disabled)
    assert await zones.reconcile() and knot.has("www", "A") == {"10.9.0.6"}
    assert not knot.has("www", "AAAA") and not knot.has("alias", "CNAME")
    await world.restart()
    zones = publisher(world)
    for one in world.view.all("virtualservice"):
        await world.call("DELETE", f"/api/virtualservice/{one['uuid']}", 204)
    await world.call("DELETE", f"/api/vsvip/{vsvip['uuid']}", 204)
    assert await zones.reconcile() and not knot.has("www", "A")
    assert not (await world.store.list("/dns/")).records
    assert knot.has("taken", "A") == {"192.0.2.99"}
    told = [event.name for event in world.controller.events_log.read({}) if event.name.startswith("DNS_")]
    assert told.count("DNS_RECORD_WITHDRAWN") == 1, "of this controller"


async def test_a_service_has_names_of_its_own_and_gives_records(world: ControlledWorld, knot: Knot) -> None:
    await provided(world, profile(knot.port))
    await served(world, "one")
    (made,) = world.view.all("virtualservice")
    path = f"/api/virtualservice/{made['uuid']}"

    def fixed(kind: str, **holds: Any) -> dict[str, Any]:
        return {"fqdn": [f"{kind.lower()}.example.org"], "type": f"DNS_RECORD_{kind}", **holds}

    records = [
        fixed("A", ip_address=[{"ip_address": {"addr": "192.0.2.7", "type": "V4"}}], ttl=88),
        fixed("AAAA", ip6_address=[{"ip6_address": {"addr": "2001:db8::7", "type": "V6"}}]),
        fixed("CNAME", cname={"cname": "web.example.org"}),
        fixed("MX", mx_records=[{"host": "mail.example.org", "priority": 5}]),
        fixed("TXT", txt_records=[{"text_str": 'v=1; "a" \\ b'}]),
        fixed("SRV", service_locator=[{"port": 443, "priority": 1, "weight": 2, "target": "web.example.org"}]),
    ]
    fields = {"fqdn": "web.example.org", "static_dns_records": records}
    await world.call("PATCH", path, 200, json={"replace": fields})
    zones = publisher(world)
    assert await zones.reconcile()
    assert (knot.has("web", "A"), knot.has("web", "AAAA")) == ({"10.9.0.5"}, {"fd00:9::5"})
    assert (knot.has("a", "A"), knot.has("aaaa", "AAAA"), knot.ttl("a")) == ({"192.0.2.7"}, {"2001:db8::7"}, 88)
    assert "web.example.org." in knot.has("cname", "CNAME") and knot.has("mx", "MX") == {"5 mail.example.org."}
    assert knot.has("txt", "TXT") == {'"v=1; \\"a\\" \\\\ b"'} and knot.has("srv", "SRV") == {
        "1 2 443 web.example.org."
    }
    named = {"delete": {"fqdn": ""}, "replace": {"dns_info": [{"fqdn": "own.example.org", "ttl": 66}]}}
    await world.call("PATCH", path, 200, json=named)
    assert await zones.reconcile() and not knot.has("web", "A")
    assert knot.has("own", "A") == {"10.9.0.5"} and knot.ttl("own") == 66
    wrong = {"replace": {"fqdn": "a.example.org", "static_dns_records": [fixed("CNAME", cname={"cname": "a b"})]}}
    reply = await world.call("PATCH", path, 400, json=wrong)
    paths = {problem["path"] for problem in reply["problems"]}
    assert paths == {"fqdn", "static_dns_records[0].cname.cname"}
    await world.call("DELETE", path, 204)
    assert await zones.reconcile() and not knot.has("own", "A") and not knot.has("txt", "TXT")


async def test_what_others_have_published_is_left_alone(world: ControlledWorld, knot: Knot) -> None:
    await provided(world, profile(knot.port))
    vsvip = await served(world, "one", {"fqdn": "taken.example.org"})
    zones = publisher(world)
    assert not await zones.reconcile()
    (state,) = zones.states(vsvip["uuid"])
    assert state.state == "failing" and "somebody else" in state.why
    assert knot.has("taken", "A") == {"192.0.2.99"}
    for one in world.view.all("virtualservice"):
        await world.call("DELETE", f"/api/virtualservice/{one['uuid']}", 204)
    assert await zones.reconcile() and knot.has("taken", "A") == {"192.0.2.99"}


async def test_a_dns_server_that_is_away_is_tried_again(world: ControlledWorld, knot: Knot) -> None:
    await provided(world, profile(knot.port))
    knot.stop()
    vsvip = await served(world, "one", {"fqdn": "www.example.org"}, {"fqdn": "two.example.org"})
    zones = publisher(world)
    assert not await zones.reconcile() and not await zones.reconcile()
    assert len((await world.store.list("/dns/")).records) == 1, "the second was not tried"
    assert [one.state for one in zones.states(vsvip["uuid"])] == ["failing", "failing"]
    failed = [event for event in world.controller.events_log.read({}) if event.name == "DNS_RECORD_FAILED"]
    assert len(failed) == 2 and "can't be asked" in failed[0].detail
    knot.start()
    assert await zones.reconcile() and knot.has("www", "A") == {"10.9.0.5"}


async def test_an_answer_that_was_lost_is_no_reason_to_take_the_record_for_anothers(
    world: ControlledWorld, knot: Knot
) -> None:
    await provided(world, profile(knot.port))
    await served(world, "one", {"fqdn": "www.example.org"})
    assert await publisher(world).reconcile()
    records = (await world.store.list("/dns/")).records
    await world.controller.zones._forget("www.example.org/A")
    assert records and await publisher(world).reconcile()
    assert knot.has("www", "A") == {"10.9.0.5"}


async def test_a_wrong_key_is_told(world: ControlledWorld, knot: Knot) -> None:
    await provided(world, profile(knot.port, base64.b64encode(b"another secret of many octets").decode()))
    vsvip = await served(world, "one", {"fqdn": "www.example.org"})
    assert not await publisher(world).reconcile()
    assert "refuses" in world.controller.zones.states(vsvip["uuid"])[0].why


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (profile(53, server="ns.example.org"), "custom_profile.dynamic_params"),
        (profile(53, colour="blue"), "custom_profile.dynamic_params"),
        (profile(0), "custom_profile.dynamic_params"),
        (profile(53, algorithm="hmac-md5"), "custom_profile.dynamic_params"),
        (profile(53, "no base64"), "custom_profile.tsig_secret"),
        (profile(53, key_name=""), "custom_profile.tsig_secret"),
    ],
)
async def test_a_provider_that_cannot_work_is_refused(world: ControlledWorld, body: dict[str, Any], path: str) -> None:
    reply = await world.post("/api/ipamdnsproviderprofile", body, 400)
    assert reply["problems"][0]["path"] == path


async def test_the_secret_is_sealed_and_names_that_go_nowhere_are_told(world: ControlledWorld) -> None:
    await provided(world, profile(53))
    assert SECRET not in str(world.view.all("ipamdnsproviderprofile"))
    vip = {"vip_id": "0", "auto_allocate_ip": True}
    body = {"name": "one", "vip": [vip], "dns_info": [{"fqdn": "www.example.com"}]}
    reply = await world.client.post("/api/vsvip", json=body)
    assert "in none of the provider's usable_domains" in reply.headers["x-shoal-warning"]
    assert (await world.post("/api/vsvip", {**body, "name": "b", "dns_info": [{"fqdn": "a b"}]}, 400))["problems"]
