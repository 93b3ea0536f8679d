"""From documents to what an engine is told."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.controller.desired import VipIntent, certificate_part, service_part
from shoal.objects import views
from shoal.wire.desired import Service


def test_a_chain_is_served_behind_its_certificate() -> None:
    def held(pem: str, **more: Any) -> dict[str, Any]:
        return {"uuid": pem, "name": pem, "certificate": {"certificate": pem}, **more}

    documents = {
        "leaf": held("leaf", ca_certs=[{"ca_ref": "/api/sslkeyandcertificate/issuer"}]),
        "issuer": held("issuer"),
    }

    class Documents:
        def get(self, type: str, uuid: str) -> dict[str, Any] | None:
            return documents.get(uuid)

    part = certificate_part(Documents(), "leaf", lambda text, context: text)
    assert part is not None and part.pem == "leaf\nissuer\n"


class Nothing:
    def get(self, type: str, uuid: str) -> dict[str, Any] | None:
        return None


@pytest.mark.parametrize(
    "flow_dist", ["LOAD_AWARE", "CONSISTENT_HASH_SOURCE_IP_ADDRESS", "CONSISTENT_HASH_SOURCE_IP_ADDRESS_AND_PORT"]
)
def test_engines_are_told_how_flows_are_shared(flow_dist: str) -> None:
    service = views.view({"uuid": "s", "name": "s", "flow_dist": flow_dist}, views.VirtualService)
    vip = VipIntent(id="v", name="v", addresses=("10.0.0.1",), services=(service,), created=0.0)
    assert service_part(Nothing(), service, vip).flow_dist == flow_dist


class Profiles:
    """``transport`` is the network profile's, ``type`` the application profile's."""

    def __init__(self, type: str, transport: dict[str, Any]) -> None:
        self.documents = {
            "applicationprofile": {
                "uuid": "a",
                "name": "a",
                "type": type,
                "http_profile": {"keepalive_timeout": 45000},
            },
            "networkprofile": {"uuid": "n", "name": "n", "profile": transport},
        }

    def get(self, type: str, uuid: str) -> dict[str, Any] | None:
        return self.documents.get(type)


@pytest.mark.parametrize(
    ("type", "transport", "idle_s"),
    [
        ("HTTP", {"type": "PROTOCOL_TYPE_TCP_PROXY", "tcp_proxy_profile": {"idle_connection_timeout": 900}}, 45),
        ("L4", {"type": "PROTOCOL_TYPE_TCP_PROXY", "tcp_proxy_profile": {"idle_connection_timeout": 900}}, 900),
        ("L4", {"type": "PROTOCOL_TYPE_TCP_PROXY", "tcp_proxy_profile": {"idle_connection_timeout": 0}}, 86400),
        ("L4", {"type": "PROTOCOL_TYPE_TCP_PROXY"}, 600),
        ("L4", {"type": "PROTOCOL_TYPE_TCP_FAST_PATH", "tcp_fast_path_profile": {"session_idle_timeout": 20}}, 20),
        ("L4", {"type": "PROTOCOL_TYPE_TCP_FAST_PATH", "tcp_fast_path_profile": {}}, 300),
    ],
)
def test_idle_time_comes_from_the_profiles(type: str, transport: dict[str, Any], idle_s: int) -> None:
    document = {"uuid": "s", "name": "s", "application_profile_ref": "a", "network_profile_ref": "n"}
    service = views.view(document, views.VirtualService)
    vip = VipIntent(id="v", name="v", addresses=("10.0.0.1",), services=(service,), created=0.0)
    profiles = Profiles(f"APPLICATION_PROFILE_TYPE_{type}", transport)
    assert service_part(profiles, service, vip).client_idle_s == idle_s


def test_all_http_services_of_a_vip_prove_that_its_names_are_ours() -> None:
    documents: dict[str, dict[str, Any]] = {
        "c": {"uuid": "c", "certificate_management_profile_ref": "/api/certificatemanagementprofile/m"},
        "m": {"uuid": "m", "name": "m", "run_script_ref": "/api/alertscriptconfig/s", "script_params": []},
        "s": {"uuid": "s", "name": "System-ACME"},
    }

    class Documents:
        def get(self, type: str, uuid: str) -> dict[str, Any] | None:
            return documents.get(uuid)

    has = {"uuid": "tls", "name": "tls", "ssl_key_and_certificate_refs": ["/api/sslkeyandcertificate/c"]}
    services = tuple(views.view(one, views.VirtualService) for one in (has, {"uuid": "web", "name": "web"}))
    vip = VipIntent(id="v", name="v", addresses=("10.0.0.1",), services=services, created=0.0)
    alone = VipIntent(id="v", name="v", addresses=("10.0.0.1",), services=services[1:], created=0.0)

    def account(profile: str) -> str:
        return f"thumbprint of {profile}"

    told = [service_part(Documents(), one, vip, account=account).http.acme for one in services]
    assert told == ["thumbprint of m", "thumbprint of m"]
    assert service_part(Documents(), services[1], alone, account=account).http.acme == ""


def test_what_a_tcp_proxy_profile_asks_for() -> None:
    document = {"uuid": "s", "name": "s", "application_profile_ref": "a", "network_profile_ref": "n"}
    service = views.view({**document, "services": [{"port": 80}]}, views.VirtualService)
    vip = VipIntent(id="v", name="v", addresses=("10.0.0.1",), services=(service,), created=0.0)

    def part(**profile: Any) -> Service:
        body = {"type": "PROTOCOL_TYPE_TCP_PROXY", "tcp_proxy_profile": profile}
        return service_part(Profiles("APPLICATION_PROFILE_TYPE_L4", body), service, vip)

    usual = part()
    assert (usual.keepalive, usual.dscp, usual.listeners[0].mss) == (True, 0, 0)
    assert not part(idle_connection_type="CLOSE_IDLE").keepalive and not part(idle_connection_timeout=0).keepalive
    assert part(max_segment_size=1200).listeners[0].mss == 0, "the interface's MTU says"
    asked = part(max_segment_size=1200, use_interface_mtu=False, ip_dscp=46)
    assert (asked.listeners[0].mss, asked.dscp) == (1200, 46)


class Given:
    def __init__(self, **documents: dict[str, Any]) -> None:
        self.documents = documents

    def get(self, type: str, uuid: str) -> dict[str, Any] | None:
        return self.documents.get(uuid)


def told(documents: Given, **fields: Any) -> Service:
    service = views.view({"uuid": "s", "name": "s", **fields}, views.VirtualService)
    vip = VipIntent(id="v", name="v", addresses=("10.0.0.1",), services=(service,), created=0.0)
    return service_part(documents, service, vip)


def test_engines_are_told_how_clients_are_treated() -> None:
    plain = told(Given())
    assert (plain.enabled, plain.shut_when_down, plain.pools_up_min, plain.cuts_clients) == (True, False, 0, False)
    assert (plain.tls_for, plain.server_idle_s, plain.copies_to, plain.http.server_host) == ((), 0, (), "")
    clients = {"match_criteria": "IS_IN", "addrs": [{"addr": "10.1.1.1", "type": "V4"}]}
    copies = {"clone_servers": [{"ip_address": {"addr": "10.0.0.9", "type": "V4"}}, {"mac": "02:00:00:00:00:01"}]}
    transport = {"type": "PROTOCOL_TYPE_TCP_PROXY", "tcp_proxy_profile": {"idle_connection_timeout": 70}}
    documents = Given(
        ssl={"uuid": "ssl", "name": "ssl", "accepted_versions": [{"type": "SSL_VERSION_TLS1_3"}]},
        net={"uuid": "net", "name": "net", "profile": transport},
        copies=copies,
    )
    found = told(
        documents,
        traffic_enabled=False,
        min_pools_up=2,
        remove_listening_port_on_vs_down=True,
        close_client_conn_on_config_update=True,
        ssl_profile_selectors=[{"client_ip_list": clients, "ssl_profile_ref": "/api/sslprofile/ssl"}],
        server_network_profile_ref="/api/networkprofile/net",
        traffic_clone_profile_ref="/api/trafficcloneprofile/copies",
        host_name_xlate="inside.test",
    )
    assert (found.enabled, found.shut_when_down, found.pools_up_min, found.cuts_clients) == (False, True, 2, True)
    (one,) = found.tls_for
    assert (one.clients.values, one.tls.version_min, one.tls.tickets) == (("10.1.1.1",), "TLSv1.3", True)
    assert (found.server_idle_s, found.copies_to) == (70, ("10.0.0.9",))
    assert found.http.server_host == "inside.test"


def test_a_virtual_host_takes_traffic_with_its_parent_only() -> None:
    for parent, takes in (({}, True), ({"enabled": False}, False), ({"traffic_enabled": False}, False)):
        documents = Given(p={"uuid": "p", "name": "p", **parent})
        fields = {"type": "VS_TYPE_VH_CHILD", "vh_parent_vs_ref": "/api/virtualservice/p"}
        assert told(documents, **fields).enabled is takes


def test_sources_are_announced_for_themselves() -> None:
    def route(**fields: Any) -> tuple[bool, tuple[str, ...]] | None:
        snat = {"snat_ip": [{"addr": "10.0.0.8", "type": "V4"}]}
        service = views.view({"uuid": "s", "name": "s", **snat, **fields}, views.VirtualService)
        vip = VipIntent(id="v", name="v", addresses=("10.0.0.1",), services=(service,), created=0.0)
        return (vip.route.own, vip.route.sources) if vip.route else None

    assert route() is None and route(enable_rhi=True) == (True, ())
    assert route(enable_rhi=True, enable_rhi_snat=True) == (True, ("10.0.0.8",))
    assert route(enable_rhi_snat=True) == (False, ("10.0.0.8",))
    assert route(enable_rhi_snat=True, use_vip_as_snat=True) is None
    assert route(enable_rhi=True, traffic_enabled=False) is None
