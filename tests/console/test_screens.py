"""Every screen: no error, nothing that axe objects to, in both colours, and on a phone no wider than it."""

from __future__ import annotations

import gzip

import pytest
from playwright.sync_api import Browser, StorageState, expect

from shoal.api.web import BUILT
from tests.api_served import Controller

from .measured import first_paint_ms
from .person import ALL, Person
from .world import ConsoleWorld

COLOURS: dict[str, object] = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
"""What may differ in the dark."""


def screens(served: Controller) -> dict[str, str]:
    """Path -> what is there when it is shown."""
    world = served.world
    assert isinstance(world, ConsoleWorld)
    service = next(d for d in world.view.all("virtualservice") if d["name"] == "www")
    group = next(d for d in world.view.all("serviceenginegroup") if d["name"] == "web-nm")
    engine = world.controller.ledger.engines_of(group["uuid"])[0]
    return {
        "/": "Recent events",
        "/virtualservices": "All groups",
        "/virtualservices/new": "Where it goes",
        f"/virtualservices/{service['uuid']}": "www-pool",
        f"/virtualservices/{service['uuid']}?tab=parts": "In the order in which",
        f"/virtualservices/{service['uuid']}?tab=logs": "Why it is kept",
        f"/virtualservices/{service['uuid']}?tab=events": "created VirtualService www",
        f"/virtualservices/{service['uuid']}?tab=placement": "Why here, why not there",
        f"/virtualservices/{service['uuid']}?tab=settings": "All fields",
        f"/map?group={group['uuid']}": "buffer slot",
        f"/map?group={group['uuid']}&whatif=1": "Nothing is imagined yet",
        "/serviceenginegroups": "Stays up without",
        f"/serviceenginegroups/{group['uuid']}": "What it survives",
        f"/serviceenginegroups/{group['uuid']}?tab=advanced": "Advanced HA",
        "/serviceengines": engine.name,
        f"/serviceengines/{engine.id}": "Heartbeats",
        "/events": "CONFIG_CREATE",
        "/certificates": "New certificate",
        "/tenants": "retail",
        "/tenants?tab=user": "Everything, everywhere",
        "/tenants?tab=role": "Tenant-Admin",
        "/settings?tab=alerts": "Who is told",
        "/settings?tab=dns": "Which of them is used",
        "/settings?tab=backup": "Passphrase again",
        "/settings": "One controller",
        "/settings?tab=account": "Present password",
        "/settings?tab=controller": "All fields",
        "/settings?tab=import": "nothing is written before you apply it",
        "/nowhere": "There is no such page",
    }


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(browser: Browser, served: Controller, signed_in: StorageState, dark: bool) -> None:
    found = {}
    with Person(browser, served.port, dark=dark, state=signed_in) as person:
        person.go("/")
        for path, sign in screens(served).items():
            person.show(path)
            person.page.get_by_text(sign).first.wait_for(state="attached")
            person.page.wait_for_timeout(80)
            answer = person.axe(COLOURS if dark else ALL)
            if answer:
                found[path] = answer
            if person.page.evaluate("document.documentElement.scrollWidth") > 1280:
                found[f"{path} is wider than the window"] = []
        person.check()
    assert not found, found


def test_on_a_phone_nothing_is_wider_than_it(browser: Browser, served: Controller, signed_in: StorageState) -> None:
    wide = {}
    with Person(browser, served.port, width=390, height=800, state=signed_in) as person:
        person.go("/")
        for path, sign in screens(served).items():
            person.show(path)
            person.page.get_by_text(sign).first.wait_for(state="attached")
            width = person.page.evaluate("document.documentElement.scrollWidth")
            if width > 390:
                wide[path] = width
            tree = person.page.locator(".topology")
            if tree.count() and tree.evaluate("tree => tree.querySelector('svg').clientWidth > tree.clientWidth"):
                wide[f"{path}, its tree"] = width
        person.page.get_by_role("button", name="Menu").click()
        person.page.get_by_role("link", name="Dashboard").first.click()
        expect(person.page.get_by_role("heading", level=1)).to_have_text("Dashboard")
        person.check()
    assert not wide, wide


def test_the_keyboard_reaches_everything_that_matters(person: Person, served: Controller) -> None:
    page = person.page
    person.sees("Recent events")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    person.go("/serviceenginegroups")
    page.get_by_role("link", name="Edit web-nm").focus()
    page.keyboard.press("Enter")
    person.sees("High Availability & Placement Settings")
    page.get_by_role("tab", name="Basic Settings").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Advanced")).to_have_attribute("aria-selected", "true")


def test_dark_stays_dark(person: Person) -> None:
    page = person.page
    page.get_by_role("button", name="Dark colours").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Light colours").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")


def test_what_is_empty_says_what_to_do_first(person: Person, served: Controller) -> None:
    page, world = person.page, served.world
    served.ask(lambda: world.post("/api/tenant", {"name": "empty"}))
    page.reload()
    page.get_by_label("Tenant").select_option("empty")
    for path, said, way in (
        ("/", "Nothing is served yet", page.get_by_role("link", name="Create a virtual service")),
        ("/virtualservices", "No virtual service yet", page.get_by_role("link", name="Create")),
        ("/events?find=nothing-like-this", "No events", page.get_by_text("Nothing in the log fits the filters.")),
    ):
        person.show(path)
        person.sees(said)
        expect(way.first).to_be_visible()
        assert not person.axe(), path
    page.get_by_label("Tenant").select_option("admin")


def test_times_are_the_viewers_and_the_first_paint_is_soon(
    browser: Browser, served: Controller, signed_in: StorageState
) -> None:
    with Person(browser, served.port, state=signed_in) as person:
        person.go("/events")
        person.sees("Times in Europe/Berlin")
        paint = first_paint_ms(person)
        assert paint < 2_000, f"{paint} ms, on a machine that others use too"


def test_the_scripts_are_small() -> None:
    size = sum(len(gzip.compress(path.read_bytes())) for path in BUILT.rglob("*.js"))
    assert size < 600_000, f"{size} bytes zipped"


def test_a_session_that_ends_asks_to_sign_in(browser: Browser, served: Controller) -> None:
    with Person(browser, served.port) as person:
        person.sign_in()
        person.page.get_by_role("button", name="Sign out").click()
        expect(person.page.get_by_label("Password")).to_be_visible()
        person.check()
        person.page.get_by_label("Password").fill("wrong")
        person.page.get_by_role("button", name="Sign in").click()
        expect(person.page.get_by_role("alert")).to_contain_text("wrong")


def test_what_is_not_there_says_where_it_may_be(person: Person) -> None:
    person.show("/virtualservices/virtualservice-of-yesterday")
    person.sees("It was deleted, or it is another tenant's")
    person.page.get_by_role("link", name="See all").click()
    person.sees("checkout")
    person.show("/nowhere")
    person.sees("There is no such page")
    person.faults.clear()  # the browser notes the 404
