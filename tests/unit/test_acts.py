"""Fields without effect: the data agrees with the schema, the code and the docs, and a write is told."""

from __future__ import annotations

import typing
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shoal.controller.bootstrap import Options, bootstrap
from shoal.controller.intent import Caller, Intent
from shoal.controller.secrets import Secrets
from shoal.controller.view import View
from shoal.objects import acts, load, monitor_views, views
from shoal.store.memory import MemoryStore
from tests.api_world import api_world

ADMIN = Caller(user="admin")
DOCS = Path(__file__).parents[2] / "docs" / "compatibility.md"
VIEWS: dict[str, type[msgspec.Struct]] = {
    "VirtualService": views.VirtualService,
    "VsVip": views.VsVip,
    "VrfContext": views.VrfContext,
    "Pool": views.Pool,
    "PoolGroup": views.PoolGroup,
    "HealthMonitor": monitor_views.HealthMonitor,
    "ServiceEngineGroup": views.ServiceEngineGroup,
    "ServiceEngine": views.ServiceEngine,
    "ApplicationProfile": views.ApplicationProfile,
    "NetworkProfile": views.NetworkProfile,
    "AnalyticsProfile": views.AnalyticsProfile,
    "ApplicationPersistenceProfile": views.ApplicationPersistenceProfile,
    "SSLProfile": views.SslProfile,
    "SSLKeyAndCertificate": views.SslKeyAndCertificate,
    "PKIProfile": views.PkiProfile,
}
IN_VIEW = {f"http_profile.{name}" for name in ("keepalive_timeout", "ssl_client_certificate_mode", "pki_profile_ref")}
READ_ELSEWHERE = {
    "NetworkProfile": {  # protocols.direct_return
        f"profile.{part}_fast_path_profile.dsr_profile.dsr_type" for part in ("tcp", "udp")
    },
    "VirtualService": {
        path
        for path in acts.load().types["VirtualService"].acts
        if "_rate_limit." in path  # limits
        or path in ("max_cps_per_client", "limit_doser")
        or path.split(".")[0] in ("vip", "fqdn", "dns_info", "static_dns_records")  # inline_vips, zones
    },
    "AnalyticsProfile": {  # controller.log_streams
        path for path in acts.load().types["AnalyticsProfile"].acts if path.startswith("client_log_streaming_config.")
    },
    "VsVip": {
        "vip.auto_allocate_ip",
        "vip.auto_allocate_ip_type",
        "vip.ipam_network_subnet",
        "vip.placement_networks",
        "dns_info.fqdn",
        "dns_info.type",
        "dns_info.ttl",
        "dns_info.cname",
    },  # rules, ipam, zones
    "Pool": {
        "servers.resolve_server_by_dns",
        "delete_server_on_dns_refresh",
        "placement_networks",
        "vrf_ref",
        "autoscale_policy_ref",
        "resolve_pool_by_dns",
        "lookup_server_by_name",
        "ipaddrgroup_ref",
    },  # names, policies, needs, routes, autoscale
    "ServiceEngine": {"data_vnics.vlan_interfaces.vrf_ref"},  # rules, compiler
    "ApplicationProfile": {  # controller.policies
        path
        for path in acts.load().types["ApplicationProfile"].acts
        if path.startswith("dos_rl_profile.")
        or (path.startswith("http_profile.") and path.count("_profile") < 3 and path not in IN_VIEW)
    },
}
READ_ELSEWHERE["PoolGroup"] = {"deactivate_primary_pool_on_down", "deployment_policy_ref"}  # primaries, deployments
READ_ELSEWHERE["VirtualService"].add("vrf_context_ref")  # rules
READ_ELSEWHERE["SSLProfile"] = {"send_close_notify"}  # HAProxy sends it
READ_ELSEWHERE["SSLKeyAndCertificate"] = set(acts.load().types["SSLKeyAndCertificate"].acts) - {"key"}  # rules, issuing
READ_WITHOUT_EFFECT = {
    "HealthMonitor": {  # for the type beside it, which speaks TLS
        f"{kind}_monitor.ssl_attributes.{field}"
        for kind in ("http", "smtp", "pop3", "imap", "ftp", "ldap")
        for field in ("ssl_profile_ref", "pki_profile_ref", "ssl_key_and_certificate_ref", "server_name")
    },
}


def paths(view: type[msgspec.Struct], prefix: str = "", depth: int = 3) -> Iterator[str]:
    """What a typed view reads, to the depth of the data."""
    for field in msgspec.structs.fields(view):
        kinds = [field.type, *typing.get_args(field.type)]
        nested = [k for k in kinds if isinstance(k, type) and issubclass(k, msgspec.Struct) and k is not views.IpAddr]
        if nested and depth > 1:
            yield from paths(nested[0], f"{prefix}{field.name}.", depth - 1)
        else:
            yield f"{prefix}{field.name}"


@pytest.mark.parametrize("name", acts.load().types)
def test_every_path_and_value_is_in_the_schema(name: str) -> None:
    kind, entry = load().objects[name], acts.load().types[name]
    for path in (*entry.acts, *entry.plain, *entry.usual, *entry.values, *entry.hints):
        field, *members = path.split(".")
        found = kind.fields[field]
        for member in members:
            assert found.nested is not None
            found = found.nested.fields[member]
        for value in entry.values[path].act if path in entry.values else ():
            assert value in (found.enum or (True, False)), path


@pytest.mark.parametrize("name", VIEWS)
def test_what_acts_is_what_the_code_reads(name: str) -> None:
    entry = acts.load().types[name]
    read = set(paths(VIEWS[name])) | READ_ELSEWHERE.get(name, set())
    heeded = entry.heeded | set(acts.load().everywhere)
    assert set(entry.acts) <= read, "said to act, and read by no view"
    assert {p for p in read if p not in heeded} == READ_WITHOUT_EFFECT.get(name, set())


def test_the_docs_table_is_made_from_the_data() -> None:
    text = DOCS.read_text()
    start = text.index("-->\n", text.index("<!-- acts")) + 4
    assert text[start : text.index("\n<!-- /acts -->")] == acts.table(), "run python -m shoal.objects.acts"


# --- warnings ---


@pytest.fixture
async def intent(tmp_path: Path) -> AsyncIterator[Intent]:
    store, registry = MemoryStore(), load()
    view = View(store, registry)
    await view.start()
    intent = Intent(store, view, registry, Secrets.open(tmp_path / "key"))
    await bootstrap(intent, view, Options(vip_networks=("10.9.0.0/29",)))
    yield intent
    await view.stop()
    await store.close()


async def service(intent: Intent, **more: Any) -> tuple[str, ...]:
    await intent.create("vsvip", {"name": "v", "vip": [{"auto_allocate_ip": True}]}, ADMIN)
    body = {"name": "s", "vsvip_ref": "/api/vsvip?name=v", "services": [{"port": 80}], **more}
    return (await intent.create("virtualservice", body, ADMIN)).warnings


async def test_what_acts_and_what_is_the_default_is_not_warned_of(intent: Intent) -> None:
    usual = {"network_profile_ref": "/api/networkprofile?name=System-TCP-Proxy", "traffic_enabled": True}
    assert await service(intent, ssl_profile_ref="/api/sslprofile?name=System-Standard", **usual) == ()


async def test_fields_of_a_service_without_effect_are_named(intent: Intent) -> None:
    idle = {
        "delay_fairness": True,
        "flow_label_type": "APPLICATION_LABEL",
        "services": [{"port": 80, "horizon_internal_ports": True}],
    }
    (warning,) = await service(intent, **idle)
    assert warning.startswith("Stored, with no effect yet: ")
    assert set(warning.removeprefix("Stored, with no effect yet: ").rstrip(".").split(", ")) == {
        *(set(idle) - {"services"}),
        "services.horizon_internal_ports",
    }


@pytest.mark.parametrize(
    ("type", "body", "words"),
    [
        (
            "pool",
            {"name": "p", "lb_algorithm": "LB_ALGORITHM_LEAST_LOAD"},
            "lb_algorithm LB_ALGORITHM_LEAST_LOAD acts as LB_ALGORITHM_LEAST_CONNECTIONS.",
        ),
        (
            "healthmonitor",
            {"name": "m", "type": "HEALTH_MONITOR_SCTP"},
            "type HEALTH_MONITOR_SCTP is not run yet.",
        ),
        (
            "applicationprofile",
            {
                "name": "a",
                "type": "APPLICATION_PROFILE_TYPE_HTTP",
                "http_profile": {"enable_chunk_merge": False, "xff_enabled": False},
            },
            "Stored, with no effect yet: http_profile.enable_chunk_merge.",
        ),
        (
            "sslprofile",
            {
                "name": "t",
                "accepted_versions": [{"type": "SSL_VERSION_TLS1_3"}],
                "signature_algorithm": "RSA",
                "accepted_ciphers": "AES",
                "send_close_notify": False,
            },
            "Stored, with no effect yet: signature_algorithm. OpenSSL's own list is taken; the kind of certificate "
            "(RSA, ECDSA) decides. send_close_notify false acts as true.",
        ),
        (
            "serviceenginegroup",
            {"name": "g", "vcenter_hosts": {"include": True}},
            "Stored, with no effect yet: vcenter_hosts. This cloud is no vCenter.",
        ),
        (
            "vsvip",
            {"name": "w", "vip": [{"auto_allocate_ip": True, "auto_allocate_floating_ip": True}]},
            "Stored, with no effect yet: vip.auto_allocate_floating_ip.",
        ),
    ],
)
async def test_each_type_says_what_has_no_effect(intent: Intent, type: str, body: dict[str, Any], words: str) -> None:
    assert (await intent.create(type, body, ADMIN)).warnings == (words,)


async def test_a_long_list_is_cut(intent: Intent) -> None:
    names = [
        n for n, f in load().objects["ServiceEngineGroup"].fields.items() if n.startswith("se_") and f.default is False
    ]
    more = [n for n, f in load().objects["ServiceEngineGroup"].fields.items() if n.startswith("disable_")]
    body = {"name": "g", **dict.fromkeys([*names, *more], True)}
    (warning,) = (await intent.create("serviceenginegroup", body, ADMIN)).warnings
    assert warning.endswith(f", ... and {len(body) - 1 - acts.NAMES_MAX} more.")


async def test_only_what_this_write_changes_is_warned_of(intent: Intent) -> None:
    made = await intent.create(
        "pool", {"name": "p", "fail_action": {"type": "FAIL_ACTION_CLOSE_CONN"}, "routing_pool": True}, ADMIN
    )
    assert made.warnings
    again = await intent.replace("pool", made.doc["uuid"], dict(made.doc), ADMIN)
    assert again.warnings == ()
    change = {"replace": {"lb_algorithm": "LB_ALGORITHM_ROUND_ROBIN"}}
    assert (await intent.patch("pool", made.doc["uuid"], change, ADMIN)).warnings == ()
    back = await intent.patch("pool", made.doc["uuid"], {"replace": {"routing_pool": False}}, ADMIN)
    assert back.warnings == ()


async def test_system_objects_put_back_do_not_warn(intent: Intent) -> None:
    for type in [load().objects[name].endpoint for name in acts.load().types]:
        for document in list(intent._view.all(type)):
            if (
                document.get("name") == "System-Persistence-TLS"
            ):  # playbooks name it; that it has no effect is worth a word
                continue
            assert (await intent.replace(type, document["uuid"], dict(document), ADMIN)).warnings == (), type


async def test_the_answer_carries_the_warning_and_succeeds(tmp_path: Path) -> None:
    async with api_world(tmp_path) as world:
        reply = await world.client.post("/api/pool", json={"name": "p", "routing_pool": True})
        assert reply.status_code == 201
        assert reply.headers["x-shoal-warning"] == "Stored, with no effect yet: routing_pool."
