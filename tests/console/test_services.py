"""Virtual services: made by the wizard, found in the list, looked at, scaled."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.api_served import Controller

from .measured import LIST, frames_while_scrolling, letters, show_long_list
from .person import Person
from .world import ConsoleWorld


def _world(served: Controller) -> ConsoleWorld:
    assert isinstance(served.world, ConsoleWorld)
    return served.world


def test_a_virtual_service_is_made_on_one_screen_and_comes_up(person: Person, served: Controller) -> None:
    page = person.page
    person.go("/virtualservices/new")
    page.get_by_role("button", name="Create").click()
    person.sees("A name is needed.")
    person.sees("At least one server is needed.")
    page.get_by_label("Name", exact=True).fill("shop")
    page.get_by_label("VIP address").fill("10.9.7.7")
    page.get_by_label("Servers", exact=True).fill("10.0.0.11\n10.0.0.12:8080")
    page.get_by_label("Health monitor").select_option("System-HTTP")
    page.get_by_label("Service Engine Group").select_option("web-nm")
    page.get_by_text("Advanced", exact=True).click()
    page.get_by_label("Clients stay with their server").select_option("By a cookie")
    page.get_by_text("Every field of the virtual service").click()
    page.get_by_label("Find a service field").fill("analytics_profile")
    page.get_by_label("Analytics profile").fill("System-Analytics-Profile")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("shop Up")
    expect(page.get_by_role("group", name="shop: served by")).to_contain_text("10.0.0.12:8080")
    view = _world(served).view
    pool = view.named("pool", "shop-pool")
    assert pool is not None and [s["ip"]["addr"] for s in pool["servers"]] == ["10.0.0.11", "10.0.0.12"]
    service = view.named("virtualservice", "shop")
    assert service is not None and service["services"][0]["port"] == 80
    assert "analyticsprofile-" in service["analytics_profile_ref"] and pool["application_persistence_profile_ref"]


def test_without_an_address_one_is_allocated(person: Person, served: Controller) -> None:
    page = person.page
    person.go("/virtualservices/new")
    page.get_by_label("Name", exact=True).fill("kiosk")
    page.get_by_label("Servers", exact=True).fill("10.0.0.31")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("kiosk")
    vsvip = _world(served).view.named("vsvip", "kiosk-vip")
    assert vsvip is not None
    person.sees(vsvip["vip"][0]["ip_address"]["addr"])


def test_what_is_refused_leaves_nothing_behind(person: Person, served: Controller) -> None:
    page = person.page
    person.go("/virtualservices/new")
    page.get_by_label("Name", exact=True).fill("taken")
    page.get_by_label("VIP address").fill("10.9.0.11")  # www's
    page.get_by_label("Servers", exact=True).fill("10.0.0.11")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("alert")).to_contain_text("10.9.0.11")
    assert _world(served).view.named("pool", "taken-pool") is None
    person.faults.clear()  # the browser notes the refusal


def test_scale_out_says_what_it_does_and_is_seen_to_be_done(person: Person, served: Controller) -> None:
    page = person.page
    person.go("/virtualservices")
    page.get_by_label("Find by name, address, pool, engine").fill("reports")
    expect(page.get_by_role("row")).to_have_count(2)
    page.get_by_role("link", name="reports", exact=True).click()
    person.sees("2 of 2 engines")
    page.get_by_role("button", name="Scale Out").click()
    dialog = page.get_by_role("dialog", name="Scale Out reports")
    expect(dialog).to_contain_text("1 VIP is placed on a further engine")
    dialog.get_by_role("button", name="Scale Out").click()
    person.sees("3 of 3 engines")
    page.get_by_role("button", name="Scale In").click()
    dialog = page.get_by_role("dialog", name="Scale In reports")
    dialog.get_by_role("button", name="Scale In").click()
    person.sees("2 of 2 engines")
    page.get_by_role("tab", name="Placement").click()
    person.sees("takes over when")
    page.get_by_role("tab", name="Events").click()
    person.sees("VS_SCALEOUT_COMPLETE")


def test_a_page_shows_how_a_service_does_and_what_it_is_made_of(person: Person, served: Controller) -> None:
    world, page = _world(served), person.page

    async def switched() -> str:
        """``search`` has a pool group and rules, is announced by BGP, and its logs go to a syslog server."""
        service = world.view.named("virtualservice", "search")
        assert service is not None
        server = {"ip": {"addr": "10.77.0.1", "type": "V4"}, "port": 80}
        for name in ("canary", "images-only"):
            await world.post("/api/pool", {"name": name, "servers": [server]})
        first, canary = "/api/pool?name=search-pool", "/api/pool?name=canary"
        members = [{"pool_ref": first, "ratio": 9}, {"pool_ref": canary, "ratio": 1}]
        await world.post("/api/poolgroup", {"name": "search-pools", "members": members})
        match = {"path": {"match_criteria": "BEGINS_WITH", "match_case": "INSENSITIVE", "match_str": ["/images"]}}
        action = {"action": "HTTP_SWITCHING_SELECT_POOL", "pool_ref": "/api/pool?name=images-only"}
        rule = {"name": "to-images", "index": 1, "match": match, "switching_action": action}
        await world.post("/api/httppolicyset", {"name": "by-path", "http_request_policy": {"rules": [rule]}})
        streaming = {"external_server": "10.0.0.9", "protocol": "LOG_STREAMING_PROTOCOL_SYSLOG_OVER_TLS"}
        await world.post("/api/analyticsprofile", {"name": "told", "client_log_streaming_config": streaming})
        edit = {
            "delete": {"pool_ref": service["pool_ref"]},
            "replace": {
                "pool_group_ref": "/api/poolgroup?name=search-pools",
                "http_policies": [{"index": 1, "http_policy_set_ref": "/api/httppolicyset?name=by-path"}],
                "analytics_profile_ref": "/api/analyticsprofile?name=told",
            },
        }
        await world.call("PATCH", f"/api/virtualservice/{service['uuid']}", 200, json=edit)
        return str(service["uuid"])

    uuid = served.ask(switched)
    person.go(f"/virtualservices/{uuid}")
    expect(page.get_by_role("img", name=re.compile(r"^Throughput: Throughput [\d.]+ [kMG]?bit.s"))).to_be_visible()
    expect(page.locator(".summary")).to_contain_text(re.compile(r"Health\s*[\d.]+\s*\S"))  # and what it is made of
    tree = page.get_by_role("group", name="search: served by")
    for text in ("search-pool", "canary", "priority 0, ratio 9", "10.77.0.1:80"):
        expect(tree).to_contain_text(text)
    page.get_by_role("tab", name="Parts").click()
    parts = page.get_by_role("list", name="Parts")
    for text in ("search-pools", "ratio 9", "to-images", "by path → to images-only", "by syslog over TLS"):
        expect(parts).to_contain_text(text)
    assert not person.axe()
    parts.get_by_role("button", name="by-path").click()
    dialog = page.get_by_role("dialog", name="HTTP policy: by-path")
    dialog.get_by_text("HTTP request policy").click()
    dialog.get_by_text("1 · to-images").click()
    expect(dialog.get_by_label("Name", exact=True).last).to_have_value("to-images")
    assert not person.axe()
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Client Logs").click()
    person.sees("client logs go to 10.0.0.9 port 514 by syslog over TLS")


def test_charts_are_asked_for_each_five_seconds(person: Person, served: Controller) -> None:
    service = _world(served).view.named("virtualservice", "www")
    assert service is not None
    page = person.page
    page.clock.install()
    person.go(f"/virtualservices/{service['uuid']}")
    chart = page.get_by_role("img", name=re.compile("^Throughput: Throughput [0-9]"))
    expect(chart).to_be_visible()
    with page.expect_response("**/api/analytics/metrics/virtualservice/**") as answered:
        page.clock.run_for(5_000)
    points = answered.value.json()["series"][0]["data"]
    assert points and points[-1]["timestamp"] > points[0]["timestamp"]


def test_client_logs_are_found_by_what_is_in_them(person: Person, served: Controller) -> None:
    service = _world(served).view.named("virtualservice", "www")
    assert service is not None
    page = person.page
    person.go(f"/virtualservices/{service['uuid']}?tab=logs")
    table = page.get_by_role("table", name="Client logs")
    expect(table).to_contain_text("/search")
    page.get_by_label("Responses").select_option("5xx")
    expect(table).not_to_contain_text("/search")
    expect(table).to_contain_text("status 503")


def test_the_audit_trail_says_what_was_what(person: Person, served: Controller) -> None:
    page = person.page
    world, group = _world(served), _world(served).view.named("serviceenginegroup", "edge-legacy")
    assert group is not None

    async def change() -> None:
        path = f"/api/serviceenginegroup/{group['uuid']}"
        await world.call("PATCH", path, 200, json={"replace": {"se_deprovision_delay": 77}})

    served.ask(change)
    person.go("/events?kind=CONFIG")
    page.get_by_label("Find in the log").fill("edge-legacy")
    line = page.get_by_role("listitem").filter(has_text="changed ServiceEngineGroup edge-legacy: se_deprovision_delay")
    line.get_by_text("1 field").click()
    expect(line).to_contain_text("120 → 77")


def test_ten_thousand_virtual_services_scroll_and_filter_without_lag(person: Person) -> None:
    page = person.page
    show_long_list(person)
    assert page.get_by_role("row").count() < 80
    first = page.get_by_role("row").nth(1)
    page.get_by_role("button", name="Name", exact=True).click()
    page.get_by_role("button", name="Name", exact=True).click()
    expect(first).to_contain_text(f"service-{LIST - 1}")
    page.get_by_label("Show", exact=True).select_option("Not up")
    expect(page.get_by_role("row")).to_have_count(2)
    expect(first).to_contain_text("service-17")
    page.get_by_label("Show", exact=True).select_option("All")
    frames = frames_while_scrolling(person)
    person.sees("service-0")
    longest = max(letters(person))
    person.sees("1 of 10,000")
    assert longest < 500, f"{longest:.0f} ms for a letter, on a machine that others use too"
    assert sorted(frames)[len(frames) // 2] < 100, f"{frames} ms for a frame"
