"""Infrastructure > Service Engine Group, as the seed ends: the edit icon, the HA mode, what it would do, Save."""

from __future__ import annotations

import msgspec
from playwright.sync_api import expect

from shoal.controller.preflight import judge
from shoal.controller.preflight.steps import RETURNED
from tests.api_served import Controller
from tests.unit.test_preflight import ALL_A, ALL_B, trial, without

from .person import Person
from .world import ConsoleWorld


def _group(served: Controller, name: str) -> dict[str, object]:
    world = served.world
    assert isinstance(world, ConsoleWorld)
    document = world.view.named("serviceenginegroup", name)
    assert document is not None
    return document


def test_the_ha_mode_of_a_group_is_edited_with_its_consequences_in_sight(person: Person, served: Controller) -> None:
    page = person.page
    page.get_by_role("link", name="Service Engine Group").click()
    row = page.get_by_role("row").filter(has_text="web-nm")
    expect(row).to_contain_text("Elastic HA N+M")
    expect(row).to_contain_text("any 1 of 3")
    row.get_by_role("link", name="Edit web-nm").click()
    person.sees("High Availability & Placement Settings")
    beside = page.get_by_role("complementary", name="What this edit would do")
    expect(beside).to_contain_text("any 1 of 3")

    page.get_by_role("radio", name="Elastic HA Active/Active").check()
    expect(beside).to_contain_text("12 VIPs are placed on further engines, 5 engines are made")
    expect(page.get_by_label("VS Placement across SEs")).to_have_value("PLACEMENT_ALGO_DISTRIBUTED")
    page.get_by_role("tab", name="Advanced").click()
    expect(page.get_by_label("Scale per Virtual Service, Minimum")).to_have_value("2")
    expect(page.get_by_label("Buffer Service Engines")).to_have_count(0)
    assert _group(served, "web-nm")["ha_mode"] == "HA_MODE_SHARED"  # looking changes nothing

    page.get_by_role("tab", name="Basic Settings").click()
    page.get_by_role("radio", name="Elastic HA N+M").check()
    expect(page.get_by_role("button", name="Save")).to_be_disabled()


def test_an_edit_is_saved_and_bad_values_are_told_as_typed(person: Person, served: Controller) -> None:
    page = person.page
    person.go(f"/serviceenginegroups/{_group(served, 'Default-Group')['uuid']}?tab=advanced")
    page.get_by_label("Scale per Virtual Service, Maximum").fill("999")
    person.sees("This must be 1 to 64.")
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    page.get_by_label("Scale per Virtual Service, Maximum").fill("3")
    page.get_by_label("Scale per Virtual Service, Minimum").fill("4")
    person.sees("must not be above max_scaleout_per_vs 3")
    page.get_by_label("Scale per Virtual Service, Minimum").fill("2")
    page.get_by_role("tab", name="Basic Settings").click()
    page.get_by_role("radio", name="Elastic HA Active/Active").check()
    expect(page.get_by_text("must not be above max_scaleout_per_vs 3")).to_have_count(0)
    person.faults.clear()  # the refused preview is logged by the browser as a failed request
    page.get_by_role("button", name="Save").click()
    person.sees("Default-Group is saved")
    saved = _group(served, "Default-Group")
    assert (saved["ha_mode"], saved["min_scaleout_per_vs"]) == ("HA_MODE_SHARED_PAIR", 2)


def test_a_group_is_made_with_the_hosts_it_may_use(person: Person, served: Controller) -> None:
    page = person.page
    person.go("/serviceenginegroups")
    page.get_by_role("button", name="Create").click()
    page.get_by_label("Service Engine Group Name").fill("lab")
    page.get_by_role("radio", name="Legacy HA Active/Standby").check()
    expect(page.get_by_label("Health Monitoring on Standby")).to_be_visible()
    expect(page.get_by_label("VS Placement across SEs")).to_have_count(0)
    page.get_by_role("radio", name="Elastic HA N+M").check()
    page.get_by_role("tab", name="Advanced").click()
    page.get_by_role("group", name="Host Scope").get_by_role("button", name="Host").click()
    hosts = page.get_by_label("Hosts", exact=True)
    for name in ("rack1-host1", "rack2-host2"):
        hosts.fill(name)
        hosts.press("Enter")
    person.sees("These are never used.")
    page.get_by_label("Include").check()
    person.sees("Only these are used.")
    page.get_by_role("button", name="Remove rack1-host1").click()
    page.get_by_role("button", name="Save").click()
    person.sees("lab is made")
    scope = _group(served, "lab")["vcenter_hosts"]
    assert isinstance(scope, dict) and scope["include"] is True and len(scope["host_refs"]) == 1
    expect(page.get_by_role("row").filter(has_text="lab")).to_contain_text("Elastic HA N+M")


def test_engines_are_upgraded_one_after_another_and_seen_to_be(person: Person, served: Controller) -> None:
    page = person.page
    person.go(f"/serviceenginegroups/{_group(served, 'edge-legacy')['uuid']}")
    page.get_by_role("button", name="Upgrade engines").click()
    dialog = page.get_by_role("dialog", name="Upgrade the engines of edge-legacy")
    expect(dialog).to_contain_text("2 engines run puppet")
    assert not person.axe()
    dialog.get_by_role("button", name="Upgrade").click()
    person.sees("Its engines are being upgraded")
    expect(page.get_by_role("button", name="Upgrade engines")).to_be_disabled()
    expect(page.get_by_role("img", name="of 2 engines upgraded")).to_be_attached()
    page.get_by_role("button", name="Stop after this one").click()
    person.sees("The upgrade of its engines is suspended")
    expect(page.get_by_text("stopped by admin.")).to_be_visible()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("Its engines are being upgraded")).to_have_count(0)
    expect(page.get_by_text("The upgrade of its engines is suspended")).to_have_count(0)
    person.go("/events?find=edge-legacy")
    person.sees("were started anew")


def test_what_the_network_allows_is_tried_from_the_groups_page(person: Person, served: Controller) -> None:
    page = person.page
    person.go(f"/serviceenginegroups/{_group(served, 'web-nm')['uuid']}")
    page.get_by_role("button", name="Check the network").click()
    dialog = page.get_by_role("dialog", name="What the network allows: web-nm")
    dialog.get_by_role("button", name="Try it").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Give a neighbour's address.")
    person.faults.clear()  # the refusal, as the browser notes it
    dialog.get_by_label("Neighbour").fill("10.0.0.1")
    # Puppets send no packets: the answer is what the controller makes of a network that hides secondaries.
    report = msgspec.json.encode(judge.report("web-nm", trial(without(ALL_A, RETURNED), ALL_B), []))
    page.route("**/preflight", lambda route: route.fulfill(body=report, content_type="application/json"))
    dialog.get_by_role("button", name="Try it").click()
    expect(dialog).to_contain_text("Use layer 2, replies through the primary.")
    expect(dialog).to_contain_text("Set se_tunnel_mode 1 of the ServiceEngineGroup.")
    checks = dialog.get_by_role("table", name="Checks")
    expect(checks.get_by_role("row").filter(has_text="direct return")).to_contain_text("no")
    assert not person.axe()


def test_a_group_in_use_is_not_deleted(person: Person) -> None:
    page = person.page
    person.go("/serviceenginegroups")
    page.get_by_label("Select web-nm").check()
    page.get_by_role("button", name="Delete 1").click()
    dialog = page.get_by_role("dialog", name="Delete 1 group?")
    expect(dialog).to_contain_text("web-nm")
    dialog.get_by_role("button", name="Delete").click()
    refused = page.get_by_role("dialog", name="Not deleted")
    expect(refused).to_contain_text("web-nm")
    expect(refused.get_by_role("alert")).to_contain_text("VirtualService www")
    person.faults.clear()
