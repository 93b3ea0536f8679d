"""``scripts/screenshots [--docs] [--only NAMES] [--looks LOOKS] [DIR]``: pictures of the console over the scene that its tests use."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from playwright.sync_api import Browser, FilePayload, expect, sync_playwright

from shoal.controller.preflight import judge
from shoal.controller.preflight.steps import RETURNED
from tests.api_served import Controller
from tests.api_world import key_pair
from tests.unit.test_preflight import ALL_A, ALL_B, trial, without

from .person import FLAGS, Person
from .stage import crowd, stage
from .world import ConsoleWorld, console_world

DOCS = Path(__file__).parents[2] / "docs" / "pictures"
MEASURED_MS = 22_000
"""So that the charts have something to show."""
MOVED_MS = 900
DOWN = "sip"
"""A virtual service whose servers refuse connections."""
LOOKS = "light,dark,light-phone,dark-phone"
PHONE: dict[str, Any] = {"width": 390, "height": 844}


def _paths(world: ConsoleWorld) -> dict[str, str]:
    services = {d["name"]: d["uuid"] for d in world.view.all("virtualservice")}
    groups = {d["name"]: d["uuid"] for d in world.view.all("serviceenginegroup")}
    engine = world.controller.ledger.engines_of(groups["web-nm"])[0].id
    return {
        "dashboard": "/",
        "services": "/virtualservices",
        "service": f"/virtualservices/{services['orders']}",
        "parts": f"/virtualservices/{services['orders']}?tab=parts",
        "logs": f"/virtualservices/{services['orders']}?tab=logs",
        "service-events": f"/virtualservices/{services['orders']}?tab=events",
        "scale-out": f"/virtualservices/{services['orders']}",
        "placement": f"/virtualservices/{services['orders']}?tab=placement",
        "service-settings": f"/virtualservices/{services['orders']}?tab=settings",
        "migrate": f"/virtualservices/{services['orders']}",
        "delete": f"/virtualservices/{services['orders']}",
        "part": f"/virtualservices/{services['orders']}?tab=parts",
        "service-down": f"/virtualservices/{services[DOWN]}",
        "wizard": "/virtualservices/new",
        "wizard-advanced": "/virtualservices/new",
        "map": f"/map?group={groups['prod-web']}",
        "map-small": f"/map?group={groups['web-nm']}",
        "map-details": f"/map?group={groups['core-aa']}",
        "what-if": f"/map?group={groups['prod-web']}&whatif=1",
        "what-if-small": f"/map?group={groups['web-nm']}&whatif=1",
        "what-if-edit": f"/map?group={groups['core-aa']}&whatif=1",
        "apply": f"/map?group={groups['core-aa']}&whatif=1",
        "groups": "/serviceenginegroups",
        "group-new": "/serviceenginegroups/new",
        "group": f"/serviceenginegroups/{groups['web-nm']}",
        "group-advanced": f"/serviceenginegroups/{groups['web-nm']}?tab=advanced",
        "upgrade": f"/serviceenginegroups/{groups['web-nm']}",
        "preflight": f"/serviceenginegroups/{groups['web-nm']}",
        "engines": "/serviceengines",
        "engine": f"/serviceengines/{engine}",
        "events": "/events",
        "certificates": "/certificates",
        "certificate": "/certificates",
        "new-certificate": "/certificates",
        "tenants": "/tenants",
        "users": "/tenants?tab=user",
        "user": "/tenants?tab=user",
        "role": "/tenants?tab=role",
        "settings": "/settings",
        "controller": "/settings?tab=controller",
        "account": "/settings?tab=account",
        "alerts": "/settings?tab=alerts",
        "alert": "/settings?tab=alerts",
        "recipient": "/settings?tab=alerts",
        "dns": "/settings?tab=dns",
        "dns-profile": "/settings?tab=dns",
        "backup": "/settings?tab=backup",
        "restore": "/settings?tab=backup",
        "sure": "/settings?tab=backup",
        "nowhere": "/nowhere",
        "disable": f"/serviceengines/{engine}",
        "import": "/settings?tab=import",
        "import-report": "/settings?tab=import",
        "first-steps": "/",
    }


def _kill(person: Person) -> None:
    person.page.get_by_role("button", name="Kill Avi-se").first.click()
    expect(person.page.locator(".board .tile.taken-over").first).to_be_visible()


def _kill_host(person: Person) -> None:
    person.page.get_by_role("button", name="Kill host").first.click()
    expect(person.page.locator(".board .ghost").first).to_be_visible()
    person.page.mouse.move(2, 2)


def _edit(person: Person) -> None:
    person.page.get_by_text("Change the group", exact=True).click()
    person.page.get_by_label("High Availability Mode").select_option("Elastic HA N+M")
    expect(person.page.get_by_role("button", name="In the end")).to_be_enabled()


def _pick(person: Person) -> None:
    person.page.locator(".board .tile").first.click()
    expect(person.page.get_by_role("complementary", name="Details")).to_contain_text("Why")
    person.page.mouse.move(2, 2)


def _hover(person: Person) -> None:
    person.page.locator(".board .tile", has_text="catalog").first.hover()


def _preflight(person: Person) -> None:
    person.page.get_by_role("button", name="Check the network").click()
    report = msgspec.json.encode(judge.report("web-nm", trial(without(ALL_A, RETURNED), ALL_B), []))
    person.page.route("**/preflight", lambda route: route.fulfill(body=report, content_type="application/json"))
    person.page.get_by_role("button", name="Try it").click()


def _restore(person: Person) -> None:
    """A backup of the scene is made and looked into."""
    words = "a long passphrase"
    for label in ("Passphrase", "Passphrase again", "Its passphrase"):
        person.page.get_by_label(label, exact=True).fill(words)
    with person.page.expect_download() as waiting:
        person.page.get_by_role("button", name="Save a backup").click()
    person.page.get_by_label("Backup file").set_input_files(waiting.value.path())
    person.page.get_by_role("button", name="Open it").click()
    person.page.get_by_text("By hand, at the controller").click()
    person.page.get_by_role("region", name="Commands that restore").scroll_into_view_if_needed()


def _sure(person: Person) -> None:
    _restore(person)
    person.page.get_by_role("button", name="Restore …").click()


def _apply(person: Person) -> None:
    _edit(person)
    person.page.get_by_role("button", name="Apply …").click()
    expect(person.page.get_by_role("dialog")).to_contain_text("slots free")


def _unfold(person: Person) -> None:
    person.page.get_by_label("Name", exact=True).fill("shop")
    person.page.get_by_text("HTTPS", exact=True).click()
    person.page.get_by_text("Advanced", exact=True).click()
    person.page.get_by_text("Every field of the virtual service").click()
    person.page.get_by_label("Find a service field").fill("limit")


def _report(person: Person) -> None:
    server = {"ip": {"addr": "10.0.0.9", "type": "V4"}, "port": 80}
    pools = [{"name": "brought", "servers": [server]}, {"name": "broken", "servers": [{**server, "port": 99_999}]}]
    odd = {"name": "strict", "mode": "WAF_MODE_ENFORCEMENT"}
    brought = {"META": {"version": {"Version": "22.1.3"}}, "Pool": pools, "WafPolicy": [odd]}
    file: FilePayload = {"name": "site.json", "mimeType": "application/json", "buffer": msgspec.json.encode(brought)}
    person.page.get_by_label("Configuration file").set_input_files(file)
    expect(person.page.get_by_role("row").filter(has_text="broken")).to_be_visible()


def _retail(person: Person) -> None:
    person.page.get_by_label("Tenant").select_option("retail")
    person.sees("Nothing is served yet")


def _upgrade(person: Person) -> None:
    """The dialog says what it would do; it is not done."""
    person.page.get_by_role("button", name="Upgrade engines").click()
    expect(person.page.get_by_role("dialog")).to_contain_text("puppet")


def _active_active(person: Person) -> None:
    person.page.get_by_role("radio", name="Elastic HA Active/Active").check()
    expect(person.page.get_by_role("complementary")).to_contain_text("VIPs are placed")


def _unsaved(person: Person) -> None:
    person.page.get_by_label("Service Engine Group Name").fill("lab")
    person.page.get_by_role("radio", name="Legacy HA Active/Standby").check()


def _press(name: str) -> Callable[[Person], None]:
    return lambda person: person.page.get_by_role("button", name=name, exact=True).first.click()


DEEDS: dict[str, Callable[[Person], None]] = {
    "map": _hover,
    "what-if": _kill_host,
    "what-if-small": _kill,
    "what-if-edit": _edit,
    "upgrade": _upgrade,
    "preflight": _preflight,
    "restore": _restore,
    "sure": _sure,
    "apply": _apply,
    "wizard-advanced": _unfold,
    "import-report": _report,
    "first-steps": _retail,
    "group-new": _unsaved,
    "scale-out": _press("Scale Out"),
    "migrate": _press("Migrate"),
    "delete": _press("Delete"),
    "part": _press("System-HTTP"),
    "dns-profile": _press("New DNS profile"),
    "certificate": _press("shop"),
    "new-certificate": _press("New certificate"),
    "map-details": _pick,
    "group": _active_active,
    "user": _press("admin"),
    "role": _press("Application-Admin"),
    "alert": _press("New alert"),
    "recipient": _press("New recipient"),
    "disable": _press("Disable"),
}
"""What is done before the picture is taken."""


async def _certificates(world: ConsoleWorld) -> None:
    key, certificate = key_pair("www.example.org")
    await world.post(
        "/api/sslkeyandcertificate", {"name": "www", "key": key, "certificate": {"certificate": certificate}}
    )
    wanted = {"subject": {"common_name": "shop.example.org"}}
    await world.post("/api/sslkeyandcertificate", {"name": "shop", "certificate": wanted})


def _take(
    browser: Browser,
    port: int,
    paths: dict[str, str],
    into: Path,
    suffix: str,
    *,
    whole: bool = False,
    **look: int | bool,
) -> None:
    """``whole``: all that one can scroll to."""
    with Person(browser, port, **look) as person:  # type: ignore[arg-type]
        person.go("/")
        person.page.screenshot(path=into / f"sign-in{suffix}.png")
        person.sign_in()
        for name, path in paths.items():
            person.page.unroute_all()
            person.go(path)
            person.page.wait_for_timeout(MOVED_MS)
            # Without a scrollbar, as pictures are, no room is to be left for it.
            person.page.evaluate("document.documentElement.style.scrollbarGutter = 'auto'")
            if name in DEEDS:
                DEEDS[name](person)
                person.page.wait_for_timeout(MOVED_MS)
            person.page.evaluate("scrollTo(0, 0)")  # the bar at the top stays there
            shown = person.page.locator("dialog[open]").count() == 0  # a dialog is in the window, whatever is below
            person.page.screenshot(path=into / f"{name}{suffix}.png", full_page=whole and shown)
            print(into / f"{name}{suffix}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("into", nargs="?", type=Path, default=Path("screenshots"))
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--only", default="", help="names with commas between")
    parser.add_argument("--looks", default=LOOKS, help=f"default: {LOOKS}")
    options = parser.parse_args()
    docs, into = options.docs, DOCS if options.docs else options.into
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, Controller(Path(directory), console_world) as served:
        world = served.world
        assert isinstance(world, ConsoleWorld)
        served.ask(lambda: stage(world))
        served.ask(lambda: crowd(world), within_s=60)
        served.ask(lambda: _certificates(world))
        if not docs:
            pool = world.view.named("pool", f"{DOWN}-pool")
            assert pool is not None
            world.troupe.down_servers |= {server["ip"]["addr"] for server in pool["servers"]}
        paths = _paths(world)
        if options.only:
            paths = {name: paths[name] for name in options.only.split(",")}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
            with Person(browser, served.port) as person:
                person.page.wait_for_timeout(MEASURED_MS)
            if docs:
                dark = {name: paths[name] for name in ("map", "what-if")}
                light = {name: paths[name] for name in ("dashboard", "service", "group")}
                _take(browser, served.port, dark, into, "", dark=True)
                _take(browser, served.port, light, into, "")
                (into / "sign-in.png").unlink()
            else:
                for look in options.looks.split(","):
                    size: dict[str, Any] = PHONE if look.endswith("phone") else {}
                    _take(browser, served.port, paths, into, f"-{look}", whole=True, dark="dark" in look, **size)
            browser.close()


if __name__ == "__main__":
    main()
