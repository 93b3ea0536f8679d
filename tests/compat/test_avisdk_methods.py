"""Every public member of avisdk's ApiSession, against the real HTTPS server: one test each, noted in the table of calls.

The last test fails when the SDK has a member that none of them has used.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.api_world import PASSWORD

from .calls import AVISDK, SEEN, seen
from .sdk import (
    ITS_OWN_WARNINGS,
    APIError,
    ApiResponse,
    ApiSession,
    AviMultipartUploadError,
    AviServerError,
    ObjectNotFound,
    SdkController,
    made,
)

pytestmark = ITS_OWN_WARNINGS
SERVERS = [{"ip": {"addr": f"10.0.0.{n}", "type": "V4"}, "port": 80} for n in (1, 2, 3)]
IDLE_S = 16 * 60
PROPERTIES = (
    "api_version",
    "connected",
    "controller_ip",
    "keystone_token",
    "password",
    "port",
    "session_id",
    "tenant",
    "tenant_uuid",
    "username",
)


@pytest.fixture
def api(controller: SdkController) -> Any:
    return controller.session(api_version="22.1.3")


def note(member: str, result: str) -> None:
    seen(AVISDK, f"ApiSession.{member}", result)


def test_get(controller: SdkController, api: Any) -> None:
    uuid = made(api, "pool", {"name": "p", "servers": SERVERS})["uuid"]
    assert api.get(f"pool/{uuid}").json()["name"] == "p"
    page = api.get("pool", params={"name": "p", "fields": "name", "include_name": ""}, timeout=10)
    assert page.count() == 1 and page.json()["results"][0].keys() == {"uuid", "url", "name"}
    assert api.get("pool", api_version="20.1.1").headers["AVI_API_VERSION"] == "20.1.1"
    assert api.get("pool", headers={"X-Avi-Tenant": "*"}).json()["count"] == 1
    assert api.get("cluster").count() == 1  # no collection
    with pytest.raises(ObjectNotFound, match="nothing-there"):
        api.get("pool/nothing-there").json()
    with pytest.raises(APIError, match="page_size"):
        api.get("pool", params={"page_size": "x"}).json()
    note("get", "objects, pages, filters, per-call version and headers; 404 and 400 as the SDK raises them")


def test_get_object_by_name(api: Any) -> None:
    made(api, "pool", {"name": "p"})
    made(api, "pool", {"name": "p2"})
    assert api.get_object_by_name("pool", "p")["name"] == "p"
    assert api.get_object_by_name("pool", "P") is None
    assert api.get_object_by_name("pool", "") is None
    assert api.get_object_by_name("pool", "p", params={"cloud_ref.name": "Default-Cloud"})["name"] == "p"
    assert api.get_object_by_name("pool", "p", params={"cloud_ref.name": "none"}) is None
    assert api.get_object_by_name("cluster", "any")["nodes"]  # answers with the object itself
    assert api.get_object_by_name("nothing", "p") is None
    with pytest.raises(AviServerError, match="Invalid version"):
        api.get_object_by_name("pool", "p", api_version="99.1.1")
    note("get_object_by_name", "exact name; None when absent; singletons; a version that is refused is raised")


def test_post(api: Any) -> None:
    made(api, "pool", {"name": "p1", "servers": SERVERS})
    text = api.post("pool", data=json.dumps({"name": "p2"}))
    assert text.status_code == 201 and text.headers["Location"] == text.json()["url"]
    forced = api.post("pool", data={"name": "p3"}, force_uuid="pool-force-1").json()
    assert forced["uuid"] == "pool-force-1"
    assert api.post("pool", data={"name": "p1"}).status_code == 409
    with pytest.raises(APIError, match="lb_algorithm"):
        api.post("pool", data={"name": "p", "lb_algorithm": "x"}).json()
    tree = {"model_name": "Pool", "data": {"name": "p4", "health_monitor_refs_data": [{"name": "m", "type": "PING"}]}}
    with pytest.raises(APIError, match="health_monitor_refs_data"):
        api.post("macro", data=tree).json()
    tree["data"]["health_monitor_refs_data"][0]["type"] = "HEALTH_MONITOR_PING"  # type: ignore[index]
    assert api.post("macro", data=tree).json()["health_monitor_refs"][0].endswith("#m")
    note("post", "201 with the whole object, forced uuid, JSON text, macro; 409 and 400 as the SDK raises them")


def test_put(api: Any) -> None:
    whole = made(api, "pool", {"name": "p", "servers": SERVERS, "graceful_disable_timeout": 7})
    whole = api.get(f"pool/{whole['uuid']}", params={"include_name": ""}).json()
    same = api.put(f"pool/{whole['uuid']}", data=whole).json()
    assert {**same, "_last_modified": ""} == {**whole, "_last_modified": ""}
    reset = api.put(f"pool/{whole['uuid']}", data={"name": "p"}).json()
    assert "servers" not in reset and reset["graceful_disable_timeout"] == 1
    stale = api.put(f"pool/{whole['uuid']}", data=whole)
    assert stale.status_code == 412
    assert api.put("pool/none", data={"name": "p"}).status_code == 404
    properties = api.get("controllerproperties").json()
    changed = {**properties, "api_idle_timeout": 20}
    assert api.put("controllerproperties", data=changed).json()["api_idle_timeout"] == 20
    note("put", "a whole GET result comes back the same; what is left out is reset; stale is 412; singletons")


def test_patch(api: Any) -> None:
    uuid = made(api, "pool", {"name": "p", "servers": SERVERS[:1]})["uuid"]

    def patch(body: dict[str, Any]) -> Any:
        return api.patch(f"pool/{uuid}", data=body).json()

    assert len(patch({"add": {"servers": SERVERS[1:]}})["servers"]) == 3
    before, again = patch({"add": {"servers": SERVERS[:1]}}), patch({"add": {"servers": SERVERS[:1]}})
    assert {**before, "_last_modified": ""} == {**again, "_last_modified": ""}
    assert len(patch({"delete": {"servers": SERVERS[2:]}})["servers"]) == 2
    assert len(patch({"remove": {"servers": SERVERS[1:2]}})["servers"]) == 1
    assert patch({"replace": {"lb_algorithm": "LB_ALGORITHM_ROUND_ROBIN"}})["lb_algorithm"].endswith("ROUND_ROBIN")
    assert patch({"delete": {"lb_algorithm": None}})["lb_algorithm"].endswith("LEAST_CONNECTIONS")
    assert patch({"json_patch": [{"op": "replace", "path": "/servers/0/enabled", "value": False}]})["servers"][0]
    both = patch({"add": {"servers": SERVERS[1:2]}, "replace": {"description": "x"}})
    assert len(both["servers"]) == 2 and both["description"] == "x"
    assert api.patch(f"pool/{uuid}", data={"name": "x"}).status_code == 400
    note("patch", "add (also what is there already), replace, delete, remove, json_patch, several at once")


def test_put_by_name(api: Any) -> None:
    uuid = made(api, "pool", {"name": "p"})["uuid"]
    changed = api.put_by_name("pool", "p", data={"name": "p", "servers": SERVERS}).json()
    assert changed["uuid"] == uuid and len(changed["servers"]) == 3
    with pytest.raises(ObjectNotFound):
        api.put_by_name("pool", "none", data={"name": "none"})
    note("put_by_name", "replaces; ObjectNotFound when there is none")


def test_delete(api: Any) -> None:
    pool = made(api, "pool", {"name": "p"})
    gone = api.delete(f"pool/{pool['uuid']}")
    assert gone.status_code == 204 and gone.json() is None
    assert api.delete(f"pool/{pool['uuid']}").status_code == 404
    made(api, "pool", {"name": "p"})
    assert api.delete("macro", data={"model_name": "Pool", "data": {"name": "p"}}).status_code == 204
    system = api.get_object_by_name("healthmonitor", "System-HTTP")
    assert "Cannot delete system default object" in api.delete(f"healthmonitor/{system['uuid']}").text
    assert "Method 'DELETE' not allowed" in api.delete("systemconfiguration").text
    note("delete", "204 without a body; with a body (macro); the system's own stay, in the words clients look for")


def test_delete_by_name(api: Any) -> None:
    made(api, "pool", {"name": "p"})
    assert api.delete_by_name("pool", "p").status_code == 204
    with pytest.raises(ObjectNotFound):
        api.delete_by_name("pool", "p")
    note("delete_by_name", "204; ObjectNotFound when there is none")


def test_get_objects_iter(controller: SdkController, api: Any) -> None:
    made(api, "tenant", {"name": "blue"})
    for number in range(7):
        made(api, "pool", {"name": f"p{number}"})
    made(api, "pool", {"name": "blue-one"}, tenant="blue")
    controller.requests.clear()
    assert [p["name"] for p in api.get_objects_iter("pool", params={"page_size": 3})] == [f"p{n}" for n in range(7)]
    assert controller.requests == ["GET /api/pool"] * 3
    assert len(list(api.get_objects_iter("pool"))) == 7
    names = [p["name"] for p in api.get_objects_iter("pool", tenant="*", params={"page_size": 2, "fields": "name"})]
    assert names == [*(f"p{n}" for n in range(7)), "blue-one"]
    assert [c["uuid"] for c in api.get_objects_iter("cluster")]
    assert list(api.get_objects_iter("poolgroup")) == []
    assert [v["config"]["name"] for v in api.get_objects_iter("pool-inventory", tenant="blue")] == ["blue-one"]
    with pytest.raises(ValueError, match="200"):
        list(api.get_objects_iter("pool", params={"page_size": 201}))
    note("get_objects_iter", "each object once, over pages of any size, all tenants, inventories, singletons")


def test_references_and_uuids_of_answers(api: Any) -> None:
    pool = made(api, "pool", {"name": "p"})
    page, one = api.get("pool"), api.get(f"pool/{pool['uuid']}")
    assert api.get_obj_uuid(pool) == api.get_obj_uuid(one) == api.get_obj_uuid(page) == pool["uuid"]
    assert api.get_obj_ref(one) == api.get_obj_ref(page) == pool["url"].partition("#")[0]
    assert api.get_obj_ref(None) is None
    assert api.get_slug_from_uri(pool["url"]) == api.get_slug_from_uri(api.get_obj_ref(one)) == pool["uuid"]
    vip = [{"vip_id": "0", "auto_allocate_ip": True}]
    vsvip = made(api, "vsvip", {"name": "v", "vip": vip})
    body = {
        "name": "vs",
        "services": [{"port": 80}],
        "pool_ref": api.get_obj_ref(page),
        "vsvip_ref": api.get_obj_ref(vsvip),
    }
    made(api, "virtualservice", body)
    note("get_obj_ref", "of an object, a reply and a page; taken as a reference")
    note("get_obj_uuid", "of an object, a reply and a page")
    note("get_slug_from_uri", "of `url`, with and without `#name`")


def test_get_controller_details(api: Any) -> None:
    details = api.get_controller_details()
    assert details["controller_ip"] == "127.0.0.1"
    assert details["controller_api_version"]["Version"] == "22.1.3"
    assert details["controller_api_version"]["Tag"].startswith("22.1.3")
    note("get_controller_details", "the version of the login's reply")


def test_sessions_are_cached_by_who_and_where(controller: SdkController) -> None:
    ApiSession.clear_cached_sessions()
    given = controller.login(api_version="22.1.3", tenant="admin")
    first = ApiSession.get_session(**given)
    controller.requests.clear()
    assert ApiSession.get_session(**given) is first and not controller.requests
    assert first.get_context() == {"session_id": first.session_id, "csrftoken": first.keystone_token}
    made(first, "tenant", {"name": "blue"})
    blue = ApiSession.get_session(**{**given, "tenant": "blue"})
    assert blue is not first
    made(first, "pool", {"name": "p"})
    assert blue.get("pool").json()["count"] == 0

    first.delete_session()
    controller.requests.clear()
    second = ApiSession.get_session(**given)
    assert second is not first and controller.requests == ["POST /login"]
    ApiSession.clear_cached_sessions()
    third = ApiSession.get_session(**given)
    assert third is not second and third.get("pool").json()["count"] == 1
    note("get_session", "the same session without a request; one for each tenant")
    note("get_context", "csrftoken and session id, which open a session without a login")
    note("delete_session", "the next get_session logs in")
    note("clear_cached_sessions", "the next get_session logs in")
    for session in (first, blue, second, third):
        session.close()


def test_a_context_opens_a_session_without_a_login(controller: SdkController, api: Any) -> None:
    context = api.get_context()
    controller.requests.clear()
    other = controller.session(password=None, api_version="22.1.3", **context)
    made(other, "pool", {"name": "p"})
    assert controller.requests == ["POST /api/pool"]


def test_a_lazy_session_logs_in_with_its_first_call(controller: SdkController) -> None:
    controller.requests.clear()
    lazy = controller.session(api_version="22.1.3", lazy_authentication=True)
    assert not controller.requests and not lazy.connected
    made(lazy, "pool", {"name": "p"})
    assert controller.requests == ["POST /login", "POST /api/pool"] and lazy.connected
    again = ApiSession.get_session(**controller.login(api_version="22.1.3"), lazy_authentication=True)
    assert again is lazy
    assert again.get("pool").json()["count"] == 1 and controller.requests.count("POST /login") == 1
    note("get_session", "lazy: logs in with the first call")


def test_logging_in_again(controller: SdkController, api: Any) -> None:
    before = api.session_id
    api.authenticate_session()
    after = api.session_id
    assert after != before and api.get("pool").status_code == 200
    api.reset_session()
    assert api.session_id != after and api.get("pool").status_code == 200
    api.password = "wrong"
    with pytest.raises(APIError, match="401"):
        api.authenticate_session()
    note("authenticate_session", "a new session; wrong credentials are an APIError")
    note("reset_session", "a new session, the next call works")


def test_every_call_goes_on_after_the_session_has_ended(controller: SdkController, api: Any) -> None:
    uuid = made(api, "pool", {"name": "p"})["uuid"]
    calls: list[Callable[[], object]] = [
        lambda: api.get("pool").status_code == 200,
        lambda: api.post("pool", data={"name": "p2"}).status_code == 201,
        lambda: api.put(f"pool/{uuid}", data={"name": "p"}).status_code == 200,
        lambda: api.patch(f"pool/{uuid}", data={"add": {"servers": SERVERS}}).status_code == 200,
        lambda: api.get_object_by_name("pool", "p")["uuid"] == uuid,
        lambda: api.put_by_name("pool", "p", data={"name": "p"}).status_code == 200,
        lambda: len(list(api.get_objects_iter("pool", params={"page_size": 1}))) == 2,
        lambda: api.delete_by_name("pool", "p2").status_code == 204,
        lambda: api.delete(f"pool/{uuid}").status_code == 204,
    ]
    for call in calls:
        controller.pass_time(IDLE_S)
        controller.requests.clear()
        assert call()
        assert controller.requests.count("POST /login") == 1
    note("authenticate_session", "by itself after the idle time-out, for every call")


def test_a_password_that_has_changed_ends_in_an_error(controller: SdkController, api: Any) -> None:
    other = controller.another(api_version="22.1.3", tenant="*")
    changed = api.put("useraccount", data={"old_password": PASSWORD, "password": "another shoal of fish"})
    assert changed.status_code == 200
    assert api.get("pool").status_code == 200  # its own session stays
    controller.requests.clear()
    with pytest.raises(APIError, match="401"):
        other.get("pool")
    assert controller.requests == ["GET /api/pool", "POST /login"]


def test_a_controller_that_was_away(controller: SdkController, api: Any) -> None:
    made(api, "pool", {"name": "p"})
    controller.go_away()
    with pytest.raises(requests.ConnectionError):
        api.get("pool")
    api.retry_wait_time = 0.3
    back = threading.Timer(0.5, controller.come_back)
    back.start()
    try:
        assert api.get("pool").json()["count"] == 1
    finally:
        back.join()
    note("get", "a controller that was away: goes on when it is back")


def test_upload_errors(controller: SdkController, api: Any) -> None:
    boundary = "----shoal"
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nx\r\n--{boundary}--\r\n'
    upload = {"data": part.encode(), "headers": {"Content-Type": f"multipart/form-data; boundary={boundary}"}}
    assert api.post("fileservice/uploads", **upload).status_code == 404
    assert "not JSON" in api.post("pool", **upload).text
    controller.pass_time(IDLE_S)
    controller.requests.clear()
    with pytest.raises(AviMultipartUploadError, match="401"):
        api.post("pool", **upload)
    assert controller.requests == ["POST /api/pool"]  # not repeated: the file may be at its end
    controller.go_away()
    with pytest.raises(AviMultipartUploadError, match="Connection failed"):
        api.post("pool", **upload)
    controller.come_back()
    note("post", "multipart: AviMultipartUploadError for an ended session and for a lost connection")


def test_tenants_by_session_by_call_and_by_uuid(controller: SdkController, api: Any) -> None:
    blue = made(api, "tenant", {"name": "blue"})["uuid"]
    made(api, "pool", {"name": "p"}, tenant="blue")
    assert api.get_object_by_name("pool", "p") is None
    assert api.get_object_by_name("pool", "p", tenant_uuid=blue)["name"] == "p"
    api.tenant = "blue"
    assert api.tenant == "blue" and api.get("pool").json()["count"] == 1
    assert api.delete_by_name("pool", "p").status_code == 204
    made(api, "pool", {"name": "by-session"})
    api.tenant = None
    assert api.tenant == "admin" and api.get("pool").json()["count"] == 0
    session = controller.another(api_version="22.1.3", tenant_uuid=blue, tenant=None)
    session.tenant_uuid, session.avi_credentials.tenant = blue, None
    assert [p["name"] for p in session.get("pool").json()["results"]] == ["by-session"]
    assert api.get("pool", tenant="*").json()["count"] == 1
    assert api.get("pool", tenant="none").status_code == 404
    note("tenant", "switching: by the session, by call, by uuid, `*`")
    note("tenant_uuid", "switching by uuid")


def test_basic_authentication(controller: SdkController, api: Any) -> None:
    word = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {word}", "X-Avi-Version": "22.1.3"}
    controller.requests.clear()
    with pytest.raises(APIError, match="Basic authentication is off"):
        controller.another(user_hdrs=headers, tenant="admin").get("pool")
    assert set(controller.requests) == {"GET /api/pool"}
    on = {"replace": {"portal_configuration": {"allow_basic_authentication": True}}}
    assert api.patch("systemconfiguration", data=on).status_code == 200
    basic = controller.another(user_hdrs=headers, tenant="admin")
    controller.requests.clear()
    made(basic, "pool", {"name": "p"})
    assert controller.requests == ["POST /api/pool"]
    note("post", "basic authentication, once the system configuration allows it")


def test_certificates_are_verified_when_asked_to(controller: SdkController, tmp_path: Path) -> None:
    trusted = controller.session(api_version="22.1.3", verify=str(tmp_path / "pki" / "ca.pem"))
    assert trusted.get("pool").status_code == 200
    with pytest.raises(requests.exceptions.SSLError):
        controller.session(verify=True, max_api_retries=1)


def test_many_threads_share_a_session(controller: SdkController, api: Any) -> None:
    def life(number: int) -> int:
        uuid = made(api, "pool", {"name": f"p{number}"})["uuid"]
        assert api.get(f"pool/{uuid}").json()["name"] == f"p{number}"
        return int(api.delete(f"pool/{uuid}").status_code)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(life, range(40))) == {204}


def test_what_a_session_tells_of_itself(controller: SdkController, api: Any) -> None:
    assert (api.controller_ip, api.username, api.password) == ("127.0.0.1", "admin", PASSWORD)
    assert api.connected is True and api.keystone_token and api.session_id
    api.api_version = "20.1.1"
    assert api.get("pool").headers["AVI_API_VERSION"] == api.api_version == "20.1.1"
    token = api.keystone_token
    api.keystone_token = "wrong"
    assert api.post("pool", data={"name": "p"}).status_code == 201  # 401, login, and again
    assert api.keystone_token not in ("wrong", token)
    api.username, api.controller_ip, api.port = "nobody", "127.0.0.1", controller.port
    assert isinstance(ApiResponse.to_avi_response(api.get("pool")), ApiResponse)
    for name in PROPERTIES:
        if not name.startswith("tenant"):
            note(name, "as given, and as the server set it")
    assert api.is_ipv6_address("::1") and not api.is_ipv6_address("127.0.0.1")
    note("is_ipv6_address", "tells the two apart (no request)")


@pytest.fixture(scope="module", autouse=True)
def whole(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every public member has been noted, where all tests of this file have run."""
    yield
    if request.session.testsfailed or request.config.option.keyword:
        return
    if any("::" in argument for argument in request.config.args):
        return
    public = {f"ApiSession.{name}" for name in vars(ApiSession) if not name.startswith("_") and name.islower()}
    assert public == SEEN[AVISDK].keys()
