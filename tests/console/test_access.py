"""Who sees what: no buttons without the right to write, and two tenants apart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.api_served import Controller

from .person import Person
from .world import ConsoleWorld

WORDS = "a-long-enough-one"
READABLE = ("VIRTUALSERVICE", "POOL", "SERVICEENGINEGROUP", "SERVICEENGINE")


@pytest.fixture(scope="package")
def people(served: Controller) -> Iterator[Controller]:
    """rita reads in admin, bo writes in retail."""
    world = served.world
    assert isinstance(world, ConsoleWorld)

    async def make() -> None:
        privileges = [{"resource": f"PERMISSION_{name}", "type": "READ_ACCESS"} for name in READABLE]
        await world.post("/api/role", {"name": "reader", "privileges": privileges})
        for name, tenant, role in (("rita", "admin", "reader"), ("bo", "retail", "Application-Admin")):
            access = {"tenant_ref": f"/api/tenant?name={tenant}", "role_ref": f"/api/role?name={role}"}
            await world.post("/api/user", {"name": name, "username": name, "password": WORDS, "access": [access]})

    served.ask(make)
    yield served


def test_without_the_right_to_write_there_are_no_buttons(browser: Browser, people: Controller) -> None:
    with Person(browser, people.port) as rita:
        rita.sign_in("rita", WORDS)
        page = rita.page
        expect(page.get_by_role("link", name="Certificates")).to_have_count(0)
        rita.show("/virtualservices")
        rita.sees("www")
        expect(page.get_by_role("link", name="Create")).to_have_count(0)
        page.get_by_role("link", name="www", exact=True).click()
        rita.sees("3 of 3 servers up")
        for name in ("Scale Out", "Migrate", "Delete", "Disable"):
            expect(page.get_by_role("button", name=name)).to_have_count(0)
        rita.show("/serviceenginegroups")
        page.get_by_role("link", name="Edit web-nm").click()
        rita.sees("High Availability & Placement Settings")
        expect(page.get_by_role("button", name="Save")).to_have_count(0)
        expect(page.get_by_role("radio", name="Elastic HA Active/Active")).to_be_disabled()


def test_a_user_is_made_with_a_role_and_signs_in(browser: Browser, people: Controller, person: Person) -> None:
    page = person.page
    person.show("/tenants?tab=user")
    page.get_by_role("button", name="New user").click()
    dialog = page.get_by_role("dialog", name="New user")
    dialog.get_by_label("User name").fill("una")
    dialog.get_by_label("Password").fill(WORDS)
    dialog.get_by_role("button", name="Add a role").click()
    dialog.get_by_label("Role 1", exact=True).select_option("reader")
    dialog.get_by_role("button", name="Create").click()
    expect(page.get_by_role("row").filter(has_text="una")).to_contain_text("reader in admin")
    with Person(browser, people.port) as una:
        una.sign_in("una", WORDS)
        una.show("/virtualservices")
        una.sees("checkout")


def test_two_tenants_are_apart(browser: Browser, people: Controller, person: Person) -> None:
    with Person(browser, people.port) as bo:
        bo.sign_in("bo", WORDS)
        bo.show("/virtualservices")
        bo.sees("No virtual service yet")
        expect(bo.page.get_by_text("www")).to_have_count(0)
        bo.show("/virtualservices/new")
        bo.page.get_by_label("Name", exact=True).fill("till")
        bo.page.get_by_label("VIP address").fill("10.9.8.8")
        bo.page.get_by_label("Servers", exact=True).fill("10.0.8.1")
        bo.page.get_by_role("button", name="Create").click()
        expect(bo.page.get_by_role("heading", level=1)).to_contain_text("till")
    page = person.page
    page.get_by_label("Tenant").select_option("retail")
    page.get_by_role("link", name="Virtual Services", exact=True).click()
    person.sees("till")
    expect(page.get_by_text("checkout")).to_have_count(0)
    page.get_by_label("Tenant").select_option("admin")
    page.get_by_role("link", name="Virtual Services", exact=True).click()
    person.sees("checkout")
    expect(page.get_by_text("till", exact=True)).to_have_count(0)
