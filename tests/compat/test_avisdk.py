"""The unmodified avisdk against the real HTTPS server: the whole life of a virtual service, by names."""

from __future__ import annotations

import pytest
import requests

from .sdk import ITS_OWN_WARNINGS, APIError, ObjectNotFound, SdkController, made

pytestmark = ITS_OWN_WARNINGS


@pytest.mark.parametrize("version", ["22.1.3", "20.1.1", None])
def test_the_whole_life_of_a_virtual_service(controller: SdkController, version: str | None) -> None:
    api = controller.session(api_version=version)
    assert api.remote_api_version["Version"] == "22.1.3"

    group = made(api, "serviceenginegroup", {"name": "g1", "ha_mode": "HA_MODE_SHARED_PAIR", "max_se": 4})
    assert group["min_scaleout_per_vs"] == 2
    server = {"ip": {"addr": "10.0.0.1", "type": "V4"}, "port": 80}
    made(api, "pool", {"name": "p1", "servers": [server]})
    vip = {"vip_id": "0", "ip_address": {"addr": "10.9.0.7", "type": "V4"}}
    made(api, "vsvip", {"name": "v1", "vip": [vip]})
    service = made(
        api,
        "virtualservice",
        {
            "name": "web",
            "services": [{"port": 80}],
            "pool_ref": "/api/pool?name=p1",
            "vsvip_ref": "/api/vsvip/?name=v1",
            "se_group_ref": "/api/serviceenginegroup?name=g1",
        },
    )
    assert service["se_group_ref"].endswith("#g1")

    found = api.get_object_by_name("virtualservice", "web")
    assert found["uuid"] == api.get_obj_uuid(found) == service["uuid"]
    assert api.get_obj_ref(found) == service["url"].partition("#")[0]
    assert api.get_object_by_name("virtualservice", "none") is None

    inventory = api.get("virtualservice-inventory", params={"name": "web"}).json()["results"][0]["runtime"]
    assert inventory["percent_ses_up"] == 100
    path = f"virtualservice/{service['uuid']}"
    for operation, engines in (("scaleout", 2), ("scalein", 1)):
        assert api.post(f"{path}/{operation}", data={"vip_id": "0"}).status_code == 200
        assert api.get(f"{path}/runtime").json()["vip_summary"][0]["num_se_assigned"] == engines

    added = {"add": {"servers": [{"ip": {"addr": "10.0.0.2", "type": "V4"}, "port": 80}]}}
    pool = api.get_object_by_name("pool", "p1")
    assert len(api.patch(f"pool/{pool['uuid']}", data=added).json()["servers"]) == 2
    whole = api.get_object_by_name("virtualservice", "web")
    whole["enabled"] = False
    assert api.put_by_name("virtualservice", "web", data=whole).json()["enabled"] is False
    services = api.get("virtualservice", params={"refers_to": f"pool:{pool['uuid']}"}).json()
    assert [s["name"] for s in services["results"]] == ["web"]

    refused = api.delete_by_name("pool", "p1")
    assert refused.status_code == 400 and "referred by" in refused.text
    for type, name in (("virtualservice", "web"), ("vsvip", "v1"), ("pool", "p1"), ("serviceenginegroup", "g1")):
        assert api.delete_by_name(type, name).status_code == 204
        with pytest.raises(ObjectNotFound):
            api.delete_by_name(type, name)


def test_iterating_over_pages(controller: SdkController) -> None:
    api = controller.session(api_version="22.1.3")
    for number in range(5):
        made(api, "pool", {"name": f"p{number}"})
    for size in (1, 2, 5, 100):
        names = [pool["name"] for pool in api.get_objects_iter("pool", params={"page_size": size})]
        assert names == [f"p{n}" for n in range(5)]


def test_an_ended_session_is_renewed_without_the_caller_noticing(controller: SdkController) -> None:
    api = controller.session(api_version="22.1.3")
    before = api.session_id
    controller.pass_time(16 * 60)
    made(api, "pool", {"name": "p1"})
    assert api.session_id != before


def test_two_sessions_of_one_process_and_a_reused_one(controller: SdkController) -> None:
    first = controller.session(api_version="22.1.3")
    context = first.get_context()
    second = controller.session(api_version="22.1.3", tenant="admin")
    made(first, "pool", {"name": "p1"})
    made(second, "pool", {"name": "p2"})
    reused = controller.session(api_version="22.1.3", password=None, **context)
    made(reused, "pool", {"name": "p3"})


def test_what_goes_wrong_is_raised_as_the_sdk_means_it(controller: SdkController) -> None:
    with pytest.raises(APIError):
        controller.session(password="wrong")
    api = controller.session(api_version="22.1.3")
    with pytest.raises(ObjectNotFound):
        api.get("pool/none").json()
    with pytest.raises(APIError, match="lb_algorithm"):
        api.post("pool", data={"name": "p", "lb_algorithm": "x"}).json()
    late = controller.session(api_version="99.1.1")
    with pytest.raises(APIError, match="Invalid version"):
        late.get_object_by_name("pool", "p")


def test_tenants_and_a_forced_uuid(controller: SdkController) -> None:
    api = controller.session(api_version="22.1.3")
    made(api, "tenant", {"name": "blue"})
    forced = api.post("pool", data={"name": "p"}, tenant="blue", force_uuid="pool-force-1").json()
    assert forced["uuid"] == "pool-force-1" and forced["tenant_ref"].endswith("#blue")
    assert api.get_object_by_name("pool", "p") is None
    assert api.get_object_by_name("pool", "p", tenant="blue")["uuid"] == "pool-force-1"
    assert api.get("pool", tenant="*").json()["count"] == 1


def test_stopping_does_not_wait_for_clients_that_keep_connections_open(controller: SdkController) -> None:
    """Each stop would else take the whole grace for requests; the log would say that it was exceeded."""
    api = controller.session(api_version="22.1.3")
    made(api, "pool", {"name": "p1"})
    with requests.Session() as idle:
        assert idle.get(f"https://127.0.0.1:{controller.port}/api/initial-data", verify=False).status_code == 200
        controller.stop()
        with pytest.raises(requests.ConnectionError):
            requests.get(f"https://127.0.0.1:{controller.port}/", verify=False)
    assert controller.graceful
