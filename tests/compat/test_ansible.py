"""Each Avi module of Ansible that maps to a type of Shoal's: create, repeat, check mode, edit, absent, absent again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api_world import key_pair

from .ansible import ITS_OWN_WARNINGS, Modules, release
from .calls import seen
from .sdk import SdkController

pytestmark = ITS_OWN_WARNINGS
Document = dict[str, Any]
VERSION, OLD = "22.1.3", "18.2.6"
CLOUD = "/api/cloud?name=Default-Cloud"
TENANT = "/api/tenant?name=admin"
SERVER = {"ip": {"addr": "10.0.0.1", "type": "V4"}, "port": 80}
V4 = {"addr": "10.0.0.7", "type": "V4"}
DESCRIBED: Document = {"description": "edited"}
PREFIX = {"ip_addr": {"addr": "10.50.0.0", "type": "V4"}, "mask": 24}

CASES: dict[str, tuple[Document, Document]] = {
    "actiongroupconfig": ({"level": "ALERT_HIGH", "external_only": False}, DESCRIBED),
    "alertconfig": (
        {
            "category": "REALTIME",
            "source": "EVENT_LOGS",
            "alert_rule": {"sys_event_rule": [{"event_id": "VS_DOWN"}], "operator": "OPERATOR_AND"},
        },
        DESCRIBED,
    ),
    "alertemailconfig": ({"to_emails": "ops@example.org"}, {"to_emails": "oncall@example.org"}),
    "alertscriptconfig": ({"action_script": "print(1)"}, {"action_script": "print(2)"}),
    "alertsyslogconfig": ({"syslog_servers": [{"syslog_server": "10.0.0.9", "udp": True}]}, DESCRIBED),
    "analyticsprofile": ({"apdex_response_threshold": 400}, {"apdex_response_threshold": 600}),
    "applicationpersistenceprofile": (
        {
            "persistence_type": "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS",
            "ip_persistence_profile": {"ip_persistent_timeout": 5},
        },
        {"ip_persistence_profile": {"ip_persistent_timeout": 9}},
    ),
    "applicationprofile": (
        {"type": "APPLICATION_PROFILE_TYPE_HTTP", "http_profile": {"xff_enabled": True, "keepalive_timeout": 20000}},
        {"http_profile": {"xff_enabled": False, "keepalive_timeout": 20000}},
    ),
    "authprofile": (
        {
            "type": "AUTH_PROFILE_LDAP",
            "ldap": {
                "server": ["10.0.0.5"],
                "base_dn": "dc=example,dc=org",
                "security_mode": "AUTH_LDAP_SECURE_USE_LDAPS",
                "user_bind": {
                    "dn_template": "uid=<user>,dc=example,dc=org",
                    "token": "<user>",
                    "user_id_attribute": "uid",
                },
            },
        },
        DESCRIBED,
    ),
    "backupconfiguration": ({"maximum_backups_stored": 4}, {"maximum_backups_stored": 5}),
    "cloud": ({"vtype": "CLOUD_NONE"}, {"mtu": 1400}),
    "errorpageprofile": ({"error_pages": []}, {"error_pages": [{"index": 1, "enable": False}]}),
    "errorpagebody": ({"error_page_body": "<p>no</p>"}, {"error_page_body": "<p>sorry</p>"}),
    "healthmonitor": (
        {
            "type": "HEALTH_MONITOR_HTTP",
            "send_interval": 5,
            "receive_timeout": 2,
            "http_monitor": {"http_request": "GET /", "http_response_code": ["HTTP_2XX"]},
        },
        {"send_interval": 6},
    ),
    "httppolicyset": ({"is_internal_policy": False}, DESCRIBED),
    "ipaddrgroup": ({"addrs": [V4]}, {"addrs": [V4, {"addr": "10.0.0.8", "type": "V4"}]}),
    "ipamdnsproviderprofile": ({"type": "IPAMDNS_TYPE_INTERNAL"}, {"allocate_ip_in_vrf": True}),
    "l4policyset": ({"is_internal_policy": False}, DESCRIBED),
    "microservicegroup": ({}, DESCRIBED),
    "network": (
        {"cloud_ref": CLOUD, "configured_subnets": [{"prefix": PREFIX}]},
        {"configured_subnets": [{"prefix": {**PREFIX, "mask": 25}}]},
    ),
    "networkprofile": (
        {
            "profile": {
                "type": "PROTOCOL_TYPE_UDP_FAST_PATH",
                "udp_fast_path_profile": {"session_idle_timeout": 10},
            }
        },
        {
            "profile": {
                "type": "PROTOCOL_TYPE_UDP_FAST_PATH",
                "udp_fast_path_profile": {"session_idle_timeout": 20},
            }
        },
    ),
    "networksecuritypolicy": ({}, DESCRIBED),
    "pkiprofile": (
        {"crl_check": False, "ca_certs": [{"certificate": key_pair("ca.example.org")[1]}]},
        {"crl_check": True},
    ),
    "pool": (
        {
            "cloud_ref": CLOUD,
            "tenant_ref": TENANT,
            "servers": [SERVER],
            "lb_algorithm": "LB_ALGORITHM_ROUND_ROBIN",
            "health_monitor_refs": ["/api/healthmonitor?name=System-TCP"],
        },
        {"lb_algorithm": "LB_ALGORITHM_LEAST_CONNECTIONS"},
    ),
    "poolgroup": ({"cloud_ref": CLOUD, "members": [{"pool_ref": "/api/pool?name=needed"}]}, DESCRIBED),
    "poolgroupdeploymentpolicy": ({}, DESCRIBED),
    "prioritylabels": ({"equivalent_labels": [{"labels": ["a", "b"]}]}, DESCRIBED),
    "role": (
        {"privileges": [{"type": "READ_ACCESS", "resource": "PERMISSION_POOL"}]},
        {"privileges": [{"type": "WRITE_ACCESS", "resource": "PERMISSION_POOL"}]},
    ),
    "serverautoscalepolicy": ({"min_size": 1, "max_size": 3}, DESCRIBED),
    "serviceenginegroup": (
        {"cloud_ref": CLOUD, "ha_mode": "HA_MODE_SHARED_PAIR", "max_se": 4, "se_deprovision_delay": 0},
        {"max_se": 5},
    ),
    "snmptrapprofile": (
        {"trap_servers": [{"ip_addr": {"addr": "10.0.0.9", "type": "V4"}, "version": "SNMP_VER2"}]},
        {"trap_servers": [{"ip_addr": {"addr": "10.0.0.8", "type": "V4"}, "version": "SNMP_VER2"}]},
    ),
    "sslprofile": ({"accepted_versions": [{"type": "SSL_VERSION_TLS1_2"}]}, DESCRIBED),
    "stringgroup": ({"type": "SG_TYPE_STRING", "kv": [{"key": "a"}]}, DESCRIBED),
    "tenant": ({"local": True}, DESCRIBED),
    "trafficcloneprofile": ({"preserve_client_ip": False}, {"preserve_client_ip": True}),
    "useraccountprofile": ({"max_login_failure_count": 5}, {"max_login_failure_count": 6}),
    "vrfcontext": ({"cloud_ref": CLOUD}, DESCRIBED),
    "vsdatascriptset": ({}, DESCRIBED),
    "vsvip": (
        {"cloud_ref": CLOUD, "vip": [{"vip_id": "0", "ip_address": {"addr": "10.9.0.20", "type": "V4"}}]},
        {"vip": [{"vip_id": "0", "ip_address": {"addr": "10.9.0.21", "type": "V4"}}]},
    ),
    "virtualservice": (
        {
            "cloud_ref": CLOUD,
            "services": [{"port": 80}],
            "vsvip_ref": "/api/vsvip?name=needed",
            "pool_ref": "/api/pool?name=needed",
            "application_profile_ref": "/api/applicationprofile?name=System-HTTP",
            "se_group_ref": "/api/serviceenginegroup?name=Default-Group",
        },
        {"services": [{"port": 80}, {"port": 8080}]},
    ),
}
SINGLETONS: dict[str, Document] = {
    "controllerproperties": {"api_idle_timeout": 25},
    "seproperties": {"se_runtime_properties": {"lbaction_num_requests_to_dispatch": 5}},
    "systemconfiguration": {"welcome_workflow_complete": True},
}


def client() -> str:
    return f"Ansible, community.network {release()}"


@pytest.fixture(scope="module")
def ansible_controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SdkController]:
    controller = SdkController(tmp_path_factory.mktemp("ansible"))
    with pytest.MonkeyPatch.context() as patch, controller:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            patch.delenv(name, raising=False)
        patch.setenv("NO_PROXY", "127.0.0.1")
        modules = Modules(controller, VERSION)
        modules.run("avi_pool", name="needed", servers=[SERVER])
        modules.run("avi_vsvip", name="needed", vip=[{"vip_id": "0", "auto_allocate_ip": True}])
        modules.forget()
        yield controller


@pytest.fixture
def modules(ansible_controller: SdkController) -> Iterator[Modules]:
    modules = Modules(ansible_controller, VERSION)
    yield modules
    modules.forget()


@pytest.mark.parametrize("kind", CASES)
def test_the_life_of_an_object(modules: Modules, kind: str) -> None:
    _life(modules, kind)
    seen(client(), f"avi_{kind}", "create, repeat = not changed, edit, check mode, absent, absent again")


@pytest.mark.parametrize("kind", ["serviceenginegroup", "pool", "vsvip", "virtualservice"])
def test_the_life_of_an_object_in_an_older_version(ansible_controller: SdkController, kind: str) -> None:
    modules = Modules(ansible_controller, OLD)
    _life(modules, kind)
    modules.forget()


def _life(modules: Modules, kind: str) -> None:
    module, (create, edit) = f"avi_{kind}", CASES[kind]
    first = {"name": "ansible-1", **create}
    changed = {**first, **edit}
    assert modules.check(module, **first)["changed"]
    assert modules.run(module, **first)["changed"]  # the check made nothing, else it would not be
    again = modules.run(module, **first)
    assert not again["changed"] and again["obj"]["name"] == "ansible-1"
    assert modules.check(module, **changed)["changed"]
    edited = modules.run(module, **changed)  # nor did this one change anything
    assert edited["changed"] and edited["obj"]["uuid"] == again["obj"]["uuid"]
    assert not modules.run(module, **changed)["changed"]
    assert modules.check(module, **first, state="absent")["changed"]
    assert modules.run(module, **first, state="absent")["changed"]
    assert not modules.run(module, **first, state="absent")["changed"]


@pytest.mark.parametrize("kind", SINGLETONS)
def test_what_there_is_one_of(modules: Modules, kind: str) -> None:
    module, edit = f"avi_{kind}", SINGLETONS[kind]
    assert modules.check(module, **edit)["changed"]
    assert modules.run(module, **edit)["changed"]
    assert not modules.run(module, **edit)["changed"]
    seen(client(), module, "edit, repeat = not changed, check mode")


def test_the_cluster(modules: Modules, ansible_controller: SdkController) -> None:
    node = {"name": "Controller-1", "ip": {"addr": "127.0.0.1", "type": "V4"}}
    given = {"name": "cluster-0-1", "nodes": [node]}
    assert not modules.run("avi_cluster", **given)["changed"]
    assert modules.check("avi_cluster", **{**given, "name": "other"})["changed"]
    seen(client(), "avi_cluster", "as it is = not changed, check mode")


def test_a_key_and_certificate(modules: Modules) -> None:
    """Secrets never come back, so the module can't tell whether they differ: it says *changed* each time."""
    key, certificate = key_pair("ansible.example.org")
    given = {"name": "ansible-1", "key": key, "certificate": {"certificate": certificate}}
    assert modules.check("avi_sslkeyandcertificate", **given)["changed"]
    made = modules.run("avi_sslkeyandcertificate", **given)
    assert made["changed"] and made["obj"]["certificate"]["subject"]["common_name"] == "ansible.example.org"
    assert modules.run("avi_sslkeyandcertificate", **given)["changed"]
    without = {"name": "ansible-1", "certificate": {"certificate": certificate}}
    assert not modules.run("avi_sslkeyandcertificate", **without)["changed"]
    assert modules.run("avi_sslkeyandcertificate", **without, state="absent")["changed"]
    assert not modules.run("avi_sslkeyandcertificate", **without, state="absent")["changed"]
    result = (
        "create, repeat = changed when it holds the key (by the module's design), else not, check mode, absent twice"
    )
    seen(client(), "avi_sslkeyandcertificate", result)


def test_a_user_and_its_password(modules: Modules, ansible_controller: SdkController) -> None:
    """A password never comes back, so the module can't tell whether it differs: it says *changed* each time."""
    first, second = "anchovies by moonlight", "herrings by daylight"
    given: Document = {
        "name": "ansible-1",
        "obj_username": "ansible-1",
        "obj_password": first,
        "email": "a@example.org",
    }
    given["access"] = [{"tenant_ref": TENANT, "role_ref": "/api/role?name=Application-Admin", "all_tenants": False}]
    assert modules.check("avi_user", **given)["changed"]
    assert modules.run("avi_user", **given)["obj"]["username"] == "ansible-1"
    assert modules.run("avi_user", **given)["changed"]  # and its password is not one that was used before
    where = {"controller": f"127.0.0.1:{ansible_controller.port}", "username": "ansible-1", "password": second}
    change = {"avi_credentials": {**where, "api_version": VERSION}, "old_password": first, "force_change": True}
    assert modules.run("avi_useraccount", **change)["changed"]
    assert modules.run("avi_user", **given, state="absent")["changed"]
    assert not modules.run("avi_user", **given, state="absent")["changed"]
    seen(
        client(),
        "avi_user",
        "create, repeat = changed (the password, by the module's design), check mode, absent twice",
    )
    seen(client(), "avi_useraccount", "the own password")


def test_patching_a_pool(modules: Modules) -> None:
    modules.run("avi_pool", name="ansible-1", servers=[SERVER])
    other = {"ip": {"addr": "10.0.0.2", "type": "V4"}, "port": 80}
    more = {"name": "ansible-1", "avi_api_update_method": "patch"}
    added = modules.run("avi_pool", **more, avi_api_patch_op="add", servers=[other])
    assert added["changed"] and len(added["obj"]["servers"]) == 2
    assert not modules.run("avi_pool", **more, avi_api_patch_op="add", servers=[other])["changed"]
    gone = modules.run("avi_pool", **more, avi_api_patch_op="delete", servers=[other])
    assert gone["changed"] and len(gone["obj"]["servers"]) == 1
    replaced = modules.run("avi_pool", **more, avi_api_patch_op="replace", servers=[other])
    assert replaced["obj"]["servers"][0]["ip"]["addr"] == "10.0.0.2"
    modules.run("avi_pool", name="ansible-1", state="absent")
    seen(client(), "avi_pool", "patch: add, add again = not changed, delete, replace")


def test_what_others_refer_to_stays(modules: Modules) -> None:
    service = {"name": "ansible-1", **CASES["virtualservice"][0]}
    modules.run("avi_virtualservice", **service)
    with pytest.raises(AssertionError, match="referred by"):
        modules.run("avi_pool", name="needed", state="absent")
    modules.run("avi_virtualservice", name="ansible-1", state="absent")
    seen(client(), "avi_pool", "absent while in use fails, with the reason")


def test_system_objects_stay(modules: Modules) -> None:
    with pytest.raises(AssertionError, match="Cannot delete system default object"):
        modules.run("avi_healthmonitor", name="System-TCP", type="HEALTH_MONITOR_TCP", state="absent")


def test_sessions_and_versions(modules: Modules) -> None:
    version = modules.run("avi_api_version")
    assert version["obj"]["version"] == "22.1.3"
    seen(client(), "avi_api_version", "the controller's version")
    call = {"http_method": "get", "path": "pool", "params": {"name": "needed"}}
    assert modules.run("avi_api_session", **call)["obj"]["count"] == 1
    made = {"http_method": "post", "path": "pool", "data": {"name": "ansible-1", "servers": [SERVER]}}
    assert modules.run("avi_api_session", **made)["changed"]
    assert not modules.run("avi_api_session", **made)["changed"]
    uuid = modules.run("avi_api_session", **{**call, "params": {"name": "ansible-1"}})["obj"]["results"][0]["uuid"]
    edit = {"http_method": "put", "path": f"pool/{uuid}", "data": {"name": "ansible-1", "enabled": False}}
    assert modules.run("avi_api_session", **edit)["changed"]
    assert not modules.run("avi_api_session", **edit)["changed"]
    gone = {"http_method": "delete", "path": f"pool/{uuid}"}
    assert modules.run("avi_api_session", **gone)["changed"]
    assert not modules.run("avi_api_session", **gone)["changed"]
    seen(client(), "avi_api_session", "get, post, put, delete; each again = not changed")


def test_a_tenants_objects(modules: Modules) -> None:
    modules.run("avi_tenant", name="ansible-blue")
    given = {"name": "ansible-1", "servers": [SERVER]}
    assert modules.run("avi_pool", **given, tenant="ansible-blue")["changed"]
    assert not modules.run("avi_pool", **given, tenant="ansible-blue")["changed"]
    assert modules.check("avi_pool", **given)["changed"]  # admin has none
    assert modules.run("avi_pool", **given, tenant="ansible-blue", state="absent")["changed"]
    modules.run("avi_tenant", name="ansible-blue", state="absent")
    seen(client(), "avi_tenant", "objects in another tenant")
