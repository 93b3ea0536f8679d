"""``scripts/screenshots [--docs] [DIR]``: pictures of the console over the scene that its tests use."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

from tests.api_served import Controller

from .person import FLAGS, Person
from .stage import stage
from .world import ConsoleWorld, console_world

DOCS = Path(__file__).parents[2] / "docs" / "pictures"
MEASURED_MS = 22_000
"""So that the charts have something to show."""
MOVED_MS = 900
PHONE = ("dashboard", "services", "service", "map", "users", "user", "role", "alert", "engines", "import")


def _paths(world: ConsoleWorld) -> dict[str, str]:
    services = {d["name"]: d["uuid"] for d in world.view.all("virtualservice")}
    groups = {d["name"]: d["uuid"] for d in world.view.all("serviceenginegroup")}
    engine = world.controller.ledger.engines_of(groups["web-nm"])[0].id
    return {
        "dashboard": "/",
        "services": "/virtualservices",
        "service": f"/virtualservices/{services['orders']}",
        "placement": f"/virtualservices/{services['orders']}?tab=placement",
        "service-settings": f"/virtualservices/{services['orders']}?tab=settings",
        "wizard": "/virtualservices/new",
        "map": f"/map?group={groups['web-nm']}",
        "map-details": f"/map?group={groups['core-aa']}",
        "what-if": f"/map?group={groups['web-nm']}&whatif=1",
        "groups": "/serviceenginegroups",
        "group": f"/serviceenginegroups/{groups['web-nm']}",
        "group-advanced": f"/serviceenginegroups/{groups['web-nm']}?tab=advanced",
        "engines": "/serviceengines",
        "engine": f"/serviceengines/{engine}",
        "events": "/events",
        "certificates": "/certificates",
        "tenants": "/tenants",
        "users": "/tenants?tab=user",
        "user": "/tenants?tab=user",
        "role": "/tenants?tab=role",
        "settings": "/settings",
        "alerts": "/settings?tab=alerts",
        "alert": "/settings?tab=alerts",
        "recipient": "/settings?tab=alerts",
        "backup": "/settings?tab=backup",
        "disable": f"/serviceengines/{engine}",
        "import": "/settings?tab=import",
    }


def _kill(person: Person) -> None:
    person.page.get_by_role("button", name="Kill Avi-se").first.click()
    expect(person.page.locator(".board .tile.taken-over").first).to_be_visible()


def _pick(person: Person) -> None:
    person.page.locator(".board .tile").first.click()
    expect(person.page.get_by_role("complementary", name="Details")).to_contain_text("Why")
    person.page.mouse.move(2, 2)


def _active_active(person: Person) -> None:
    person.page.get_by_role("radio", name="Elastic HA Active/Active").check()
    expect(person.page.get_by_role("complementary")).to_contain_text("VIPs are placed")


def _press(name: str) -> Callable[[Person], None]:
    return lambda person: person.page.get_by_role("button", name=name, exact=True).first.click()


DEEDS: dict[str, Callable[[Person], None]] = {
    "what-if": _kill,
    "map-details": _pick,
    "group": _active_active,
    "user": _press("admin"),
    "role": _press("Application-Admin"),
    "alert": _press("New alert"),
    "recipient": _press("New recipient"),
    "disable": _press("Disable"),
}
"""What is done before the picture is taken."""


def _take(browser: Browser, port: int, paths: dict[str, str], into: Path, suffix: str, **look: int | bool) -> None:
    with Person(browser, port, **look) as person:  # type: ignore[arg-type]
        person.sign_in()
        for name, path in paths.items():
            person.go(path)
            person.page.wait_for_timeout(MOVED_MS)
            if name in DEEDS:
                DEEDS[name](person)
                person.page.wait_for_timeout(MOVED_MS)
            person.page.screenshot(path=into / f"{name}{suffix}.png")
            print(into / f"{name}{suffix}.png")


def main() -> None:
    docs = "--docs" in sys.argv
    rest = [argument for argument in sys.argv[1:] if argument != "--docs"]
    into = DOCS if docs else Path(rest[0] if rest else "screenshots")
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, Controller(Path(directory), console_world) as served:
        world = served.world
        assert isinstance(world, ConsoleWorld)
        served.ask(lambda: stage(world))
        paths = _paths(world)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
            with Person(browser, served.port) as person:
                person.page.wait_for_timeout(MEASURED_MS)
            if docs:
                dark = {name: paths[name] for name in ("map", "what-if")}
                light = {name: paths[name] for name in ("dashboard", "service", "group")}
                _take(browser, served.port, dark, into, "", dark=True)
                _take(browser, served.port, light, into, "")
            else:
                _take(browser, served.port, paths, into, "-light")
                _take(browser, served.port, paths, into, "-dark", dark=True)
                _take(browser, served.port, {n: paths[n] for n in PHONE}, into, "-phone", width=390, height=800)
            browser.close()


if __name__ == "__main__":
    main()
