"""The unmodified avisdk against a whole running Shoal: by name references, until placed, scaled, and deleted."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal import system
from tests.integration.private_host import private_host

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from avi.sdk.avi_api import ApiSession

PASSWORD = "compat-only"
PLACED_WITHIN_S = 30.0
DRAINED_WITHIN_S = 15.0
POLL_S = 0.1

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore:[\\s\\S]*Strong Recommendation:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Unverified HTTPS request"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # the SDK never closes its session
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = Path(tmp_path_factory.mktemp("compat")) / "data"
    with private_host():
        running = system.launch(system.Options.parse(folder, "127.0.0.1:9443", (), PASSWORD), None)
        try:
            yield running.url
        finally:
            system.stop(folder, None, purge=True)


def ok(answer: Any) -> Any:
    assert 200 <= answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


def wait_for_engines(api: Any, count: int, within_s: float) -> dict[str, Any]:
    """The readiness test that samples use: as many as wanted are assigned, all of them up."""
    deadline = time.monotonic() + within_s
    while True:
        runtime = ok(api.get("virtualservice-inventory", params={"name": "sdk-vs"}))["results"][0]["runtime"]
        summary = runtime["vip_summary"][0] if runtime["vip_summary"] else {}
        up = summary.get("num_se_assigned") == count == len(summary["service_engine"]) if summary else False
        if up and runtime["percent_ses_up"] == 100:
            return runtime  # type: ignore[no-any-return]
        assert time.monotonic() < deadline, runtime
        time.sleep(POLL_S)


@pytest.mark.parametrize("version", [None, "22.1.3", "18.2.6"])
def test_the_life_of_a_virtual_service(url: str, version: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    more = {"api_version": version} if version else {}
    api = ApiSession.get_session(url, "admin", PASSWORD, tenant="admin", **more)
    ok(api.post("serviceenginegroup", data={"name": "sdk-seg", "se_deprovision_delay": 0, "vs_scalein_timeout": 1}))
    server = {"ip": {"addr": "127.0.0.1", "type": "V4"}, "port": 8080}
    ok(api.post("pool", data={"name": "sdk-pool", "servers": [server]}))
    ok(api.post("vsvip", data={"name": "sdk-vip", "vip": [{"vip_id": "0", "auto_allocate_ip": True}]}))
    ok(
        api.post(
            "virtualservice",
            data={
                "name": "sdk-vs",
                "se_group_ref": "/api/serviceenginegroup?name=sdk-seg",
                "pool_ref": "/api/pool?name=sdk-pool",
                "vsvip_ref": "/api/vsvip/?name=sdk-vip",
                "services": [{"port": 80}],
            },
        )
    )
    wait_for_engines(api, 1, PLACED_WITHIN_S)
    uuid = api.get_object_by_name("virtualservice", "sdk-vs")["uuid"]
    ok(api.post(f"virtualservice/{uuid}/scaleout", data={"vip_id": "0"}))
    runtime = wait_for_engines(api, 2, PLACED_WITHIN_S)
    engines = runtime["vip_summary"][0]["service_engine"]
    assert sorted(engine["primary"] for engine in engines) == [False, True]
    assert all("#Avi-se-" in engine["url"] for engine in engines)
    ok(api.post(f"virtualservice/{uuid}/scalein", data={"vip_id": "0"}))
    wait_for_engines(api, 1, DRAINED_WITHIN_S)
    for type, name in (
        ("virtualservice", "sdk-vs"),
        ("vsvip", "sdk-vip"),
        ("pool", "sdk-pool"),
        ("serviceenginegroup", "sdk-seg"),
    ):
        assert api.delete_by_name(type, name).status_code == 204
    assert api.get_object_by_name("virtualservice", "sdk-vs") is None
    api.delete_session()
