"""Infrastructure > Service Engine Group, as the seed ends: the edit icon, the HA mode, what it would do, Save."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.api_served import Controller

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
    expect(page.get_by_text("must not be above max_scaleout_per_vs 3")).to_have_count(0)
    person.faults.clear()  # the refused preview is logged by the browser as a failed request
    page.get_by_role("button", name="Save").click()
    person.sees("Default-Group is saved")
    assert _group(served, "Default-Group")["min_scaleout_per_vs"] == 2


def test_a_group_in_use_is_not_deleted(person: Person) -> None:
    page = person.page
    person.go("/serviceenginegroups")
    page.get_by_label("Select web-nm").check()
    page.get_by_role("button", name="Delete 1").click()
    expect(page.get_by_role("dialog", name="Not deleted")).to_contain_text("web-nm")
    person.faults.clear()
