"""Virtual services and their profiles: what is not served is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_world import World, api_world, warnings_of


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


UDP = "/api/networkprofile?name=System-UDP-Fast-Path"
L4 = "/api/applicationprofile?name=System-L4-Application"


async def udp_service(world: World, name: str, status: int = 201, **more: object) -> dict[str, Any]:
    """On the VIP and pool of `World.service`, port 80 unless said otherwise."""
    first = (await world.get("/api/virtualservice"))["results"][0]
    body = {"name": name, "vsvip_ref": first["vsvip_ref"], "pool_ref": first["pool_ref"], "services": [{"port": 80}]}
    made: dict[str, Any] = await world.post("/api/virtualservice", {**body, "network_profile_ref": UDP, **more}, status)
    return made


async def test_tcp_and_udp_share_a_port_of_a_vip_and_udp_has_it_once(world: World) -> None:
    await world.service()
    made = await udp_service(world, "dns")
    stored = await world.get(f"/api/virtualservice/{made['uuid']}?include_name")
    assert stored["application_profile_ref"].endswith("#System-L4-Application"), "filled in for UDP"
    reply = await udp_service(world, "again", 409)
    assert reply["error"].startswith("UDP port 80 of this VIP is used by virtual service dns already")
    await udp_service(world, "range", 409, services=[{"port": 70, "port_range_end": 90}])
    both = [{"port": 53}, {"port": 53, "override_network_profile_ref": "/api/networkprofile?name=System-TCP-Proxy"}]
    await udp_service(world, "both", services=both)
    reply = await udp_service(world, "twice", 400, services=[{"port": 99}, {"port": 99}])
    assert "UDP port 99 is given twice" in reply["error"]


async def test_what_udp_cannot_have_is_refused(world: World) -> None:
    await world.service()
    reply = await udp_service(world, "dns", 400, application_profile_ref="/api/applicationprofile?name=System-HTTP")
    assert reply["problems"][0]["path"] == "application_profile_ref"
    reply = await udp_service(world, "dns", 400, services=[{"port": 53, "enable_ssl": True}])
    assert "services[0].enable_ssl" in {problem["path"] for problem in reply["problems"]}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"type": "PROTOCOL_TYPE_SCTP_PROXY"}, "is SCTP, which is not served"),
        ({"type": "PROTOCOL_TYPE_UDP_FAST_PATH", "udp_fast_path_profile": {"snat": False}}, "sets snat to False"),
        (
            {"type": "PROTOCOL_TYPE_TCP_FAST_PATH", "tcp_fast_path_profile": {"dsr_profile": {}}},
            "has a dsr_profile of DSR_TYPE_L3",
        ),
    ],
)
async def test_a_profile_that_is_not_served_is_refused(world: World, body: dict[str, Any], why: str) -> None:
    await world.post("/api/networkprofile", {"name": "mine", "profile": body})
    made = await world.service()
    path = f"/api/virtualservice/{made['uuid']}"
    change: dict[str, Any] = {"network_profile_ref": "/api/networkprofile?name=mine", "application_profile_ref": L4}
    change = {"replace": change}
    problem = (await world.call("PATCH", path, 400, json=change))["problems"][0]
    assert problem["path"] == "network_profile_ref" and problem["why"].startswith(f"mine {why}")
    ports = {"replace": {"services": [{"port": 80, "override_network_profile_ref": "/api/networkprofile?name=mine"}]}}
    problem = (await world.call("PATCH", path, 400, json=ports))["problems"][0]
    assert problem["path"] == "services[0].override_network_profile_ref"


async def test_a_profile_in_use_keeps_its_protocol(world: World) -> None:
    made = await world.service()
    mine = await world.post("/api/networkprofile", {"name": "mine", "profile": {"type": "PROTOCOL_TYPE_TCP_PROXY"}})
    change = {"replace": {"network_profile_ref": mine["url"]}}
    await world.call("PATCH", f"/api/virtualservice/{made['uuid']}", 200, json=change)
    body = {"name": "mine", "profile": {"type": "PROTOCOL_TYPE_UDP_FAST_PATH"}}
    reply = await world.call("PUT", f"/api/networkprofile/{mine['uuid']}", 400, json=body)
    assert "can't change between TCP and UDP while virtual service web uses the profile" in reply["error"]


async def test_tcp_fast_path_is_for_what_needs_no_proxy(world: World) -> None:
    made = await world.service()
    fast = "/api/networkprofile?name=System-TCP-Fast-Path"
    path = f"/api/virtualservice/{made['uuid']}"
    reply = await world.call("PATCH", path, 400, json={"replace": {"network_profile_ref": fast}})
    assert "System-HTTP is HTTP, and port 80 is TCP fast path" in reply["error"]
    tls = {"port": 443, "enable_ssl": True, "override_network_profile_ref": fast}
    reply = await world.call("PATCH", path, 400, json={"add": {"services": [tls]}})
    assert "can't be set on a TCP fast path port" in reply["error"]
    mine = await world.post("/api/networkprofile", {"name": "mine", "profile": {"type": "PROTOCOL_TYPE_TCP_PROXY"}})
    await world.call("PATCH", path, 200, json={"replace": {"network_profile_ref": mine["url"]}})
    body = {"name": "mine", "profile": {"type": "PROTOCOL_TYPE_TCP_FAST_PATH"}}
    reply = await world.call("PUT", f"/api/networkprofile/{mine['uuid']}", 400, json=body)
    assert "virtual service web needs a proxy for HTTP or TLS" in reply["error"]
    wide: dict[str, Any] = {"replace": {"services": [{"port": 1000, "port_range_end": 3000}]}}
    reply = await world.call("PATCH", path, 400, json=wide)
    assert "2001 ports are proxied; 1024 can be" in reply["error"]
    wide["replace"]["services"][0]["override_network_profile_ref"] = fast
    await world.call("PATCH", path, 200, json=wide)
    added = {"add": {"services": [{"port": 81, "override_network_profile_ref": fast}]}}
    await world.call("PATCH", path, 200, json=added)


async def test_what_is_served_by_the_nearest_is_said(world: World) -> None:
    await world.post("/api/networkprofile", {"name": "mine", "profile": {"type": "PROTOCOL_TYPE_UDP_PROXY"}})
    made = await world.service()
    change = {"replace": {"network_profile_ref": "/api/networkprofile?name=mine", "application_profile_ref": L4}}
    reply = await world.client.patch(f"/api/virtualservice/{made['uuid']}", json=change)
    assert reply.status_code == 200 and "mine acts as PROTOCOL_TYPE_UDP_FAST_PATH" in reply.headers["x-shoal-warning"]


async def test_a_profile_that_asks_for_each_packet_apart_is_warned_of(world: World) -> None:
    body = {"type": "PROTOCOL_TYPE_UDP_FAST_PATH", "udp_fast_path_profile": {"per_pkt_loadbalance": True}}
    made = await world.client.post("/api/networkprofile", json={"name": "mine", "profile": body})
    assert "no effect yet: profile.udp_fast_path_profile.per_pkt_loadbalance" in made.headers["x-shoal-warning"]


SNAT = [{"addr": "10.66.0.9", "type": "V4"}]


async def fast(world: World, group: str, status: int = 201, **more: object) -> dict[str, Any]:
    """Its own VIP, in a group of its own."""
    vsvip = await world.post("/api/vsvip", {"name": f"{group}-vip", "vip": [{"auto_allocate_ip": True}]})
    body = {"name": group, "vsvip_ref": vsvip["url"], "services": [{"port": 80}], "se_group_ref": f"?name={group}"}
    body |= {"network_profile_ref": "/api/networkprofile?name=System-TCP-Fast-Path", **more}
    body["se_group_ref"] = f"/api/serviceenginegroup?name={group}"
    made: dict[str, Any] = await world.post("/api/virtualservice", body, status)
    return made


async def test_other_sources_than_the_engine_need_one_engine(world: World) -> None:
    await world.post("/api/serviceenginegroup", {"name": "many"})
    one = await world.post("/api/serviceenginegroup", {"name": "one", "max_scaleout_per_vs": 1})
    reply = await fast(world, "many", 400, snat_ip=SNAT)
    assert "snat_ip: servers answer to the engine that owns the VIP" in reply["error"]
    made = await fast(world, "one", snat_ip=SNAT)
    reply = await world.call("PATCH", one["url"], 400, json={"replace": {"max_scaleout_per_vs": 2}})
    assert "virtual service one needs one engine" in reply["error"]
    await world.call("PATCH", f"/api/virtualservice/{made['uuid']}", 200, json={"replace": {"snat_ip": []}})
    await world.call("PATCH", one["url"], 200, json={"replace": {"max_scaleout_per_vs": 2}})
    profile = await world.post("/api/applicationprofile", {"name": "keeps", "type": "APPLICATION_PROFILE_TYPE_L4"})
    path = f"/api/virtualservice/{made['uuid']}"
    await world.call("PATCH", path, 200, json={"replace": {"application_profile_ref": profile["url"]}})
    reply = await world.call("PATCH", profile["url"], 400, json={"replace": {"preserve_client_ip": True}})
    assert "preserve_client_ip of keeps" in reply["error"] and "(virtual service one)" in reply["error"]


async def test_connections_outlive_their_engine_only_where_their_servers_answer_elsewhere(world: World) -> None:
    await world.post("/api/serviceenginegroup", {"name": "one", "max_scaleout_per_vs": 1})
    mirrors = {"name": "mirrors", "connection_mirror": True, "profile": {"type": "PROTOCOL_TYPE_TCP_FAST_PATH"}}
    profile = await world.post("/api/networkprofile", mirrors)
    made = await fast(world, "one")
    path, words = f"/api/virtualservice/{made['uuid']}", "connection_mirror of mirrors has no effect"
    for change, warned in (({"network_profile_ref": profile["url"]}, True), ({"snat_ip": SNAT}, False)):
        answer = await world.client.patch(path, json={"replace": change})
        assert answer.status_code == 200
        assert (words in answer.headers.get("x-shoal-warning", "")) is warned


async def test_an_address_that_servers_see_is_nobody_elses(world: World) -> None:
    await world.post("/api/serviceenginegroup", {"name": "one", "max_scaleout_per_vs": 1})
    await world.post("/api/serviceenginegroup", {"name": "two", "max_scaleout_per_vs": 1})
    await fast(world, "one", snat_ip=SNAT)
    reply = await fast(world, "two", 400, snat_ip=SNAT)
    assert "is in use by another virtual service" in reply["error"]
    reply = await world.post("/api/vsvip", {"name": "v", "vip": [{"ip_address": SNAT[0]}]}, 409)
    assert "in use already, as a virtual service's snat_ip" in reply["error"]
    web = await world.service()
    address = (await world.get("/api/vsvip"))["results"][-1]["vip"][0]["ip_address"]
    change = {"replace": {"snat_ip": [address]}}
    reply = await world.call("PATCH", f"/api/virtualservice/{web['uuid']}", 400, json=change)
    assert "is the address of a VIP" in reply["error"]
    change = {"replace": {"snat_ip": [{"addr": "10.66.0.10", "type": "V4"}]}}
    answer = await world.client.patch(f"/api/virtualservice/{web['uuid']}", json=change)
    assert "snat_ip holds for fast paths only" in answer.headers["x-shoal-warning"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"server_network_profile_ref": UDP}, "server_network_profile_ref"),
        ({"host_name_xlate": "no host"}, "host_name_xlate"),
        (
            {"ssl_profile_selectors": [{"client_ip_list": {"match_criteria": "IS_IN"}, "ssl_profile_ref": "TLS"}]},
            "ssl_profile_selectors[0].client_ip_list",
        ),
        ({"fqdn": "not a name"}, "fqdn"),
    ],
)
async def test_what_could_not_be_served_as_it_says_is_refused(world: World, fields: dict[str, Any], path: str) -> None:
    made = await world.service()
    tls = world.view.all("sslprofile")[0]["uuid"]
    change = {"replace": {k: _filled(v, f"/api/sslprofile/{tls}") for k, v in fields.items()}}
    reply = await world.call("PATCH", f"/api/virtualservice/{made['uuid']}", 400, json=change)
    assert [problem["path"] for problem in reply["problems"]] == [path]


def _filled(value: Any, tls: str) -> Any:
    return [{**one, "ssl_profile_ref": tls} for one in value] if isinstance(value, list) else value


async def test_texts_to_replace_are_texts_that_can_be(world: World) -> None:
    made = await world.service()
    path, field = f"/api/virtualservice/{made['uuid']}", "content_rewrite"

    def pair(search: str, replacement: str = "", kind: str = "SEARCH_LITERAL_STRING") -> dict[str, Any]:
        return {"search_string": {"type": kind, "val": search}, "replacement_string": {"val": replacement}}

    def body(*pairs: dict[str, Any], **more: Any) -> dict[str, Any]:
        rule = {"index": 1, "name": "r", "enable": True, "pairs": list(pairs)}
        return {**made, field: {"rsp_rewrite_rules": [rule]}, **more}

    pairs = f"{field}.rsp_rewrite_rules[0].pairs"
    for given, where, words in (
        (body(pair("")), f"{pairs}[0].search_string.val", "has 0 octets; 1 to 500 can be"),
        (body(pair("é" * 251)), f"{pairs}[0].search_string.val", "has 502 octets; 1 to 500 can be"),
        (body(pair("a", "b" * 501)), f"{pairs}[0].replacement_string.val", "has 501 octets; 0 to 500 can be"),
        (body(pair("a"), pair("a", "b")), f"{pairs}[1].search_string.val", "is searched for by another pair"),
        (body(*(pair(f"a{n}") for n in range(17))), pairs, "17 texts; 16 can be"),
    ):
        (problem,) = (await world.call("PUT", path, 400, json=given))["problems"]
        assert (problem["path"], problem["why"]) == (where, words)
    reply = await world.client.put(path, json=body(pair("a", "b"), pair("c.*", "d", "SEARCH_REGEX")))
    assert reply.status_code == 200 and warnings_of(reply) == [
        f"{pairs}[1] does not act: only search_string SEARCH_LITERAL_STRING and replacement_string LITERAL_STRING do."
    ]
    latest = {"_last_modified": reply.json()["_last_modified"], "application_profile_ref": L4}
    reply = await world.client.put(path, json=body(pair("a", "b"), **latest))
    assert f"{field} has no effect: System-L4-Application is not HTTP." in warnings_of(reply)


async def test_a_weight_counts_where_the_links_width_is_known(world: World) -> None:
    made = await world.service()
    heavy = {"replace": {"weight": 4}}
    reply = await world.client.patch(f"/api/virtualservice/{made['uuid']}", json=heavy)
    assert reply.headers["x-shoal-warning"].startswith(
        "weight has no effect until data_link_mbit of Default-Group says"
    )
    (group,) = (await world.get("/api/serviceenginegroup"))["results"]
    await world.call("PATCH", group["url"], 200, json={"replace": {"data_link_mbit": 900}})
    reply = await world.client.patch(f"/api/virtualservice/{made['uuid']}", json=heavy)
    assert reply.status_code == 200 and "x-shoal-warning" not in reply.headers


async def test_servers_answer_clients_by_all_ports_of_a_protocol_or_none(world: World) -> None:
    returned = {"dsr_profile": {"dsr_type": "DSR_TYPE_L2"}}
    body = {"type": "PROTOCOL_TYPE_TCP_FAST_PATH", "tcp_fast_path_profile": returned}
    await world.post("/api/networkprofile", {"name": "direct", "profile": body})
    body = {"type": "PROTOCOL_TYPE_UDP_FAST_PATH", "udp_fast_path_profile": {"snat": False, **returned}}
    await world.post("/api/networkprofile", {"name": "datagrams", "profile": body})
    tcp, udp = (f"/api/networkprofile?name={name}" for name in ("direct", "datagrams"))
    fast = {"port": 81, "override_network_profile_ref": "/api/networkprofile?name=System-TCP-Fast-Path"}
    path = f"/api/virtualservice/{(await world.service())['uuid']}"
    change = {"network_profile_ref": tcp, "application_profile_ref": L4}
    await world.call("PATCH", path, 200, json={"replace": change})
    ports = [{"port": 80}, {"port": 53, "override_network_profile_ref": udp}]
    await world.call("PATCH", path, 200, json={"replace": {"services": ports}})
    reply = await world.call("PATCH", path, 400, json={"replace": {"services": [*ports, fast]}})
    assert "have a dsr_profile at some TCP ports" in reply["problems"][0]["why"]
    for name in ("one", "other"):
        await world.post("/api/networkprofile", {"name": name, "profile": {"type": "PROTOCOL_TYPE_TCP_FAST_PATH"}})
    ports = [
        {"port": 80 + n, "override_network_profile_ref": f"/api/networkprofile?name={one}"}
        for n, one in enumerate(("one", "other"))
    ]
    await world.call("PATCH", path, 200, json={"replace": {"services": ports}})
    found = (await world.call("GET", "/api/networkprofile?name=one", 200))["results"][0]
    edit: dict[str, Any] = {"profile": {"type": "PROTOCOL_TYPE_TCP_FAST_PATH", "tcp_fast_path_profile": returned}}
    reply = await world.call("PATCH", f"/api/networkprofile/{found['uuid']}", 400, json={"replace": edit})
    assert "virtual service web has ports" in reply["problems"][0]["why"]
