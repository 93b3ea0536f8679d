"""Operations: who is told of what, people and roles, certificates, backup, import, and engines that are switched off."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, FilePayload, Locator, Route, expect

from shoal.controller.backup import contents, replacing
from shoal.controller.events import Event
from tests.api_served import Controller
from tests.api_world import key_pair
from tests.issuer import Issuer
from tests.unit.test_zones import SECRET, dns_server

from .person import Person
from .world import ConsoleWorld

PASSPHRASE = "a long passphrase"
WITHDRAWN_WITHIN_S = 10.0
MOVES = re.compile(r"moves? to (another|other) owner")


@pytest.fixture
def world(served: Controller) -> Iterator[ConsoleWorld]:
    world = served.world
    assert isinstance(world, ConsoleWorld)
    boot_s = world.troupe.boot_s
    yield world
    world.troupe.boot_s = boot_s


def stored(world: ConsoleWorld, type: str, name: str) -> dict[str, Any]:
    found = world.view.named(type, name)
    assert found is not None
    return found


def test_somebody_is_told_of_an_engine_s_death(person: Person, world: ConsoleWorld) -> None:
    page = person.page
    person.show("/settings?tab=alerts")
    page.get_by_role("button", name="New recipient").click()
    dialog = page.get_by_role("dialog", name="New recipient")
    dialog.get_by_label("Name").fill("night")
    dialog.get_by_label("Mail to").fill("not an address")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.get_by_role("alert")).to_contain_text("addresses with commas between")
    assert world.view.named("alertemailconfig", "night-email") is None  # neither is made, or both
    person.faults.clear()
    dialog.get_by_label("Mail to").fill("night@example.org")
    dialog.get_by_label("Server").fill("10.0.0.5")
    dialog.get_by_label("By").select_option("tls")
    assert not person.axe()
    dialog.get_by_role("button", name="Create").click()
    person.sees("mail night-email, syslog night-syslog")
    page.get_by_role("button", name="New alert").click()
    dialog = page.get_by_role("dialog", name="New alert")
    dialog.get_by_label("Name").fill("engine-down")
    expect(dialog.get_by_label("Event")).to_have_value("SE_DOWN")
    dialog.get_by_label("Tells").select_option("night")
    assert not person.axe()
    dialog.get_by_role("button", name="Create").click()
    table = page.get_by_role("table", name="alerts")
    expect(table).to_contain_text("a service engine has failed")
    assert stored(world, "alertconfig", "engine-down")["alert_rule"]["sys_event_rule"][0]["event_id"] == "SE_DOWN"

    table.get_by_role("button", name="engine-down", exact=True).click()
    dialog = page.get_by_role("dialog", name="engine-down")
    dialog.get_by_label("a figure is beyond a bound").check()
    dialog.get_by_label("Figure", exact=True).select_option("se_stats.avg_cpu_usage")
    dialog.get_by_label("Bound", exact=True).fill("80")
    dialog.get_by_role("button", name="Save").click()
    expect(table).to_contain_text("se_stats.avg_cpu_usage above 80 for 300 s")
    page.get_by_role("switch", name="engine-down is on").click()
    expect(page.get_by_role("switch", name="engine-down is on")).not_to_be_checked()
    assert stored(world, "alertconfig", "engine-down")["enabled"] is False


def test_a_role_is_made_and_given(person: Person, world: ConsoleWorld) -> None:
    page = person.page
    person.show("/tenants?tab=role")
    page.get_by_role("button", name="New role").click()
    dialog = page.get_by_role("dialog", name="New role")
    dialog.get_by_label("Name").fill("night-shift")
    dialog.get_by_role("button", name="Read", exact=True).click()
    dialog.get_by_label("Find a permission").fill("service engine")
    dialog.get_by_role("group", name="Service engines", exact=True).get_by_label("Write").check()
    assert not person.axe()
    dialog.get_by_role("button", name="Create").click()
    expect(page.get_by_role("row").filter(has_text="night-shift")).to_contain_text("write 1 kinds of things")
    levels = {one["resource"]: one["type"] for one in stored(world, "role", "night-shift")["privileges"]}
    assert levels["PERMISSION_SERVICEENGINE"] == "WRITE_ACCESS" and levels["PERMISSION_POOL"] == "READ_ACCESS"

    page.get_by_role("tab", name="Users").click()
    page.get_by_role("button", name="New user").click()
    dialog = page.get_by_role("dialog", name="New user")
    dialog.get_by_label("User name").fill("nora")
    dialog.get_by_label("Full name").fill("Nora Night")
    dialog.get_by_label("Password").fill("a-long-enough-one")
    expect(dialog).to_contain_text("Without a role in a tenant this user sees nothing.")
    dialog.get_by_role("button", name="Add a role").click()
    expect(dialog.get_by_role("button", name="Create")).to_be_disabled()
    dialog.get_by_label("Role 1", exact=True).select_option("night-shift")
    dialog.get_by_label("Tenant 1", exact=True).select_option("all tenants")
    assert not person.axe()
    dialog.get_by_role("button", name="Create").click()
    row = page.get_by_role("row").filter(has_text="nora")
    expect(row).to_contain_text("night-shift in all tenants")
    row.get_by_role("button", name="nora", exact=True).click()
    dialog = page.get_by_role("dialog", name="nora")
    dialog.get_by_label("May sign in").click()
    dialog.get_by_role("button", name="Save").click()
    expect(row).to_contain_text("Disabled")
    assert stored(world, "user", "nora")["access"][0]["all_tenants"] is True

    page.get_by_role("tab", name="Tenants").click()
    page.get_by_role("button", name="New tenant").click()
    dialog = page.get_by_role("dialog", name="New tenant")
    dialog.get_by_label("Name").fill("lab")
    dialog.get_by_label("Description").fill("for trying things")
    dialog.get_by_role("button", name="Create").click()
    expect(page.get_by_role("row").filter(has_text="lab")).to_contain_text("for trying things")


def test_a_certificate_is_imported(person: Person, world: ConsoleWorld) -> None:
    page = person.page
    key, certificate = key_pair()
    person.show("/certificates")
    page.get_by_role("button", name="New certificate").click()
    dialog = page.get_by_role("dialog", name="New certificate")
    dialog.get_by_label("Name").fill("www")
    dialog.get_by_label("Certificate (PEM").fill(key_pair("other.example.org")[1])
    dialog.get_by_label("Private key").fill(key)
    dialog.get_by_role("button", name="Import").click()
    expect(dialog.get_by_role("alert")).to_contain_text("is not the key of this certificate")
    person.faults.clear()
    dialog.get_by_label("Certificate (PEM").fill(certificate)
    dialog.get_by_role("button", name="Import").click()
    expect(page.get_by_role("row").filter(has_text="www.example.org")).to_contain_text("days")
    page.get_by_role("button", name="Delete www").click()
    page.get_by_role("dialog", name="Delete www?").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("row").filter(has_text="www.example.org")).to_have_count(0)


def new_certificate(person: Person, tab: str) -> Locator:
    """Its dialog, at one of the ways to get one."""
    person.show("/certificates")
    person.page.get_by_role("button", name="New certificate").click()
    dialog = person.page.get_by_role("dialog", name="New certificate")
    dialog.get_by_role("tab", name=tab).click()
    return dialog


def test_a_certificate_is_requested_signed_and_brought(person: Person, world: ConsoleWorld) -> None:
    page, dialog = person.page, new_certificate(person, "Signing request")
    dialog.get_by_label("Name", exact=True).fill("shop")
    dialog.get_by_label("Host name").fill("shop.example.org")
    dialog.get_by_label("Further names").fill("10.9.7.7")
    assert not person.axe()
    dialog.get_by_role("button", name="Make the request").click()
    dialog = page.get_by_role("dialog", name="shop", exact=True)
    request = dialog.get_by_role("region", name="Signing request").text_content()
    assert request and "BEGIN CERTIFICATE REQUEST" in request
    assert not person.axe()
    dialog.get_by_label("The signed certificate").fill(key_pair("shop.example.org")[1])
    dialog.get_by_role("button", name="Take it").click()
    expect(dialog.get_by_role("alert")).to_contain_text("is not the key of this certificate")
    person.faults.clear()
    dialog.get_by_label("The signed certificate").fill(Issuer("Our Root").sign(request))
    dialog.get_by_role("button", name="Take it").click()
    expect(dialog).to_contain_text("Our Root")
    dialog.get_by_role("button", name="Close").click()
    row = page.get_by_role("row").filter(has_text="shop")
    expect(row).to_contain_text("Our Root")
    expect(row).to_contain_text("days")


def test_a_certificate_is_asked_of_an_authority_by_acme(person: Person, world: ConsoleWorld) -> None:
    page, dialog = person.page, new_certificate(person, "By ACME")
    dialog.get_by_label("Name", exact=True).fill("front")
    dialog.get_by_label("Host name").fill("front.example.org")
    dialog.get_by_label("Its name here").fill("our-ca")
    dialog.get_by_label("Directory URL").fill("https://acme.example.org/directory")
    dialog.get_by_role("button", name="Create").click()
    dialog = page.get_by_role("dialog", name="front", exact=True)
    expect(dialog).to_contain_text("ACME, our-ca")
    expect(dialog).to_contain_text("being asked for")
    expect(dialog).to_contain_text("no virtual service yet")
    dialog.get_by_role("button", name="Renew now").click()
    expect(dialog.get_by_role("alert")).to_be_visible()  # this controller asks no authority, and says so
    person.faults.clear()


def test_a_setting_of_the_system_is_changed(person: Person, world: ConsoleWorld) -> None:
    page = person.page
    person.show("/settings")
    page.get_by_label("Find a field").fill("welcome")
    page.get_by_label("Welcome workflow complete").click()
    page.get_by_label("Find a field").fill("dns_configuration")
    page.get_by_text("DNS configuration").click()
    domain = page.get_by_label("Search domain")
    domain.fill("example.org")
    assert not person.axe()
    page.get_by_role("button", name="Save").click()
    person.sees("Saved.")
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    (system,) = world.view.all("systemconfiguration")
    assert system["welcome_workflow_complete"] is True and system["dns_configuration"]["search_domain"] == "example.org"
    domain.fill("")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    (system,) = world.view.all("systemconfiguration")
    assert "search_domain" not in system["dns_configuration"]
    page.get_by_label("Find a field").fill("docker")
    expect(page.get_by_text("no effect")).to_be_visible()


def test_a_virtual_service_has_a_name_in_dns(person: Person, world: ConsoleWorld, tmp_path: Path) -> None:
    """On a real DNS server, told by a profile that is made on the way."""
    page = person.page
    with dns_server(tmp_path) as knot:
        person.show("/settings?tab=dns")
        page.get_by_role("button", name="New DNS profile").click()
        dialog = page.get_by_role("dialog", name="New DNS profile")
        dialog.get_by_label("Name", exact=True).fill("ours")
        dialog.get_by_label("Zones").fill("example.org")
        dialog.get_by_label("Address of the server").fill("127.0.0.1")
        dialog.get_by_label("Port").fill(str(knot.port))
        dialog.get_by_label("Key name").fill("shoal.")
        dialog.get_by_label("Secret").fill("no base64")
        dialog.get_by_role("button", name="Create").click()
        expect(dialog.get_by_role("alert")).to_contain_text("must be base64")
        person.faults.clear()
        dialog.get_by_label("Secret").fill(SECRET)
        assert not person.axe()
        dialog.get_by_role("button", name="Create").click()
        expect(page.get_by_role("row").filter(has_text="example.org")).to_contain_text("shoal.")
        uses = page.get_by_label("are published by")
        uses.select_option("ours")
        expect(uses).to_have_value("ours")

        person.show("/virtualservices/new")
        page.get_by_label("Name", exact=True).fill("till")
        page.get_by_label("VIP address").fill("10.9.7.9")
        page.get_by_label("Servers", exact=True).fill("10.0.0.41")
        page.get_by_text("Advanced", exact=True).click()
        page.get_by_label("Names in DNS").fill("till.example.org")
        page.get_by_role("button", name="Create").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("till")
        page.get_by_role("tab", name="Parts").click()
        parts = page.get_by_role("list", name="Parts")
        expect(parts).to_contain_text("till.example.org A 10.9.7.9")
        expect(parts).to_contain_text("in DNS")
        assert knot.has("till", "A") == {"10.9.7.9"}
        page.get_by_role("button", name="Disable").click()
        expect(parts).not_to_contain_text("in DNS")
        deadline = time.monotonic() + WITHDRAWN_WITHIN_S
        while knot.has("till", "A"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        person.show("/settings?tab=dns")
        uses.select_option("Nobody")
        expect(uses).to_have_value("")


def test_events_are_filtered_by_how_bad_and_how_old_they_are(
    person: Person, served: Controller, world: ConsoleWorld
) -> None:
    page, log = person.page, world.controller.events_log

    async def happen() -> None:
        log.add("SE_LOAD_HIGH", "the loud one of the filters", level="warning")
        log.add("SE_UP", "the quiet one of the filters")
        log.on_added(Event(id="0-old", at=time.time() - 1_800, name="SE_UP", detail="the old one of the filters"))

    served.ask(happen)
    person.show("/events")
    page.get_by_label("Find in the log").fill("of the filters")
    lines = page.get_by_role("main").get_by_role("listitem")
    expect(lines).to_have_count(3)
    page.get_by_label("Since").select_option("15 min")
    expect(lines).to_have_count(2)
    page.get_by_label("Since").select_option("1 h")
    expect(lines).to_have_count(3)
    page.get_by_label("Level").select_option("Warnings and worse")
    expect(lines).to_have_count(1)
    expect(lines).to_contain_text("the loud one")
    page.reload()  # a link to it shows the same
    expect(lines).to_have_count(1)
    page.get_by_label("Kind").select_option("Audit: who changed what")
    person.sees("Nothing in the log fits the filters.")


def test_a_password_is_changed_by_who_has_it(browser: Browser, person: Person, served: Controller) -> None:
    world = served.world
    access = {"tenant_ref": "/api/tenant?name=admin", "role_ref": "/api/role?name=Tenant-Admin"}
    body = {"name": "kim", "username": "kim", "password": "the-first-one-of-kim", "access": [access]}
    served.ask(lambda: world.post("/api/user", body))
    with Person(browser, served.port) as kim:
        kim.sign_in("kim", "the-first-one-of-kim")
        page = kim.page
        kim.show("/settings?tab=account")
        page.get_by_label("Present password").fill("another one")
        page.get_by_label("New password", exact=True).fill("the-second-one-of-kim")
        page.get_by_label("New password again").fill("the-second-one-of-kin")
        kim.sees("The two are not alike.")
        page.get_by_label("New password again").fill("the-second-one-of-kim")
        page.get_by_role("button", name="Change").click()
        expect(page.get_by_role("alert")).to_be_visible()
        kim.faults.clear()
        page.get_by_label("Present password").fill("the-first-one-of-kim")
        page.get_by_role("button", name="Change").click()
        kim.sees("The password is changed.")
        page.get_by_role("button", name="Sign out").click()
        kim.sign_in("kim", "the-second-one-of-kim")


def test_a_backup_is_saved_and_an_export_is_imported_with_its_report(
    person: Person, world: ConsoleWorld, tmp_path: Path
) -> None:
    page = person.page
    person.show("/settings?tab=backup")
    page.get_by_label("Passphrase", exact=True).fill(PASSPHRASE)
    page.get_by_label("Passphrase again").fill(PASSPHRASE + "x")
    expect(page.get_by_role("button", name="Save a backup")).to_be_disabled()
    page.get_by_label("Passphrase again").fill(PASSPHRASE)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save a backup").click()
    assert waiting.value.suggested_filename.endswith(".shoalbackup")
    waiting.value.save_as(tmp_path / "backup")
    sealed = (tmp_path / "backup").read_bytes()
    assert any(b'"checkout"' in value for _, value in contents.read(sealed, PASSPHRASE).records)

    page.get_by_role("button", name="New backup configuration").click()
    dialog = page.get_by_role("dialog", name="New backup configuration")
    dialog.get_by_label("Name").fill("nightly")
    dialog.get_by_label("Passphrase").fill(PASSPHRASE)
    assert not person.axe()
    dialog.get_by_role("button", name="Create").click()
    page.get_by_role("row").filter(has_text="nightly").get_by_role("button", name="Keep one now").click()
    kept = page.get_by_role("table", name="Kept backups")
    fetched: list[Route] = []
    page.route("**/api/configuration/backup/*", lambda route: fetched.append(route))
    with page.expect_request("**/api/configuration/backup/*"):
        kept.get_by_role("button", name="Restore").click()
    page.get_by_label("Its passphrase").fill(PASSPHRASE)  # while it is fetched
    fetched[0].continue_()
    page.unroute("**/api/configuration/backup/*")
    page.get_by_role("button", name="Open it").click()
    person.sees("It is whole, and this is its passphrase.")

    page.get_by_label("Backup file").set_input_files(tmp_path / "backup")
    page.get_by_label("Its passphrase").fill(PASSPHRASE + "x")
    page.get_by_role("button", name="Open it").click()
    expect(page.get_by_role("alert")).to_contain_text("The passphrase is wrong")
    person.faults.clear()
    page.get_by_label("Its passphrase").fill(PASSPHRASE)
    page.get_by_role("button", name="Open it").click()
    person.sees("It is whole, and this is its passphrase.")
    person.sees(f"VirtualService {len(list(world.view.all('virtualservice')))}")
    page.get_by_text("By hand, at the controller").click()
    told = page.get_by_role("region", name="Commands that restore").text_content()
    assert told is not None
    down, aside, restore, up = told.split("\n")
    place = down.removeprefix("shoal down --data-dir ")
    assert aside.startswith(f"mv {place} {place}.before-") and up == f"shoal up --data-dir {place}"
    assert restore == f"shoal restore backup --data-dir {place}"
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "long commands scroll by themselves"
    page.set_viewport_size({"width": 1280, "height": 860})
    assert not person.axe()
    page.get_by_role("button", name="Restore …").click()
    dialog = page.get_by_role("dialog", name="Restore this backup?")
    expect(dialog).to_contain_text("Everybody is signed out")
    expect(dialog.get_by_role("button", name="Restore")).to_be_disabled()
    dialog.get_by_label("I want this now").check()
    assert not person.axe()
    dialog.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("dialog", name="Restoring")).to_contain_text("The controller begins anew")
    assert world.anew == 1 and replacing.is_staged(world.directory)
    shutil.rmtree(world.directory / replacing.PENDING)  # the next controller would put it in its place
    later = {"cluster_state": {"state": "CLUSTER_UP_NO_HA", "up_since": "2099-01-01 00:00:00"}}
    page.route("**/api/cluster/runtime", lambda route: route.fulfill(json=later))
    expect(page.get_by_role("heading", level=1)).to_have_text("Dashboard")
    page.unroute("**/api/cluster/runtime")
    person.show("/settings?tab=backup")

    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export the configuration").click()
    waiting.value.save_as(tmp_path / "export.json")
    exported = json.loads((tmp_path / "export.json").read_text())
    assert {"checkout", "www"} <= {one["name"] for one in exported["VirtualService"]}

    pool = {"name": "brought", "servers": [{"ip": {"addr": "10.0.0.9", "type": "V4"}, "port": 80}]}
    wrong = {"name": "broken", "servers": [{"ip": {"addr": "10.0.0.9", "type": "V4"}, "port": 99_999}]}
    brought = {"META": exported["META"], "Pool": [pool, wrong]}
    page.get_by_role("tab", name="Import").click()
    file: FilePayload = {"name": "site.json", "mimeType": "application/json", "buffer": json.dumps(brought).encode()}
    page.get_by_label("Configuration file").set_input_files(file)
    rows = page.get_by_role("row")
    expect(rows.filter(has_text="brought")).to_contain_text("taken over")
    expect(rows.filter(has_text="broken")).to_contain_text("99999")
    assert world.view.named("pool", "brought") is None
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("button", name="Apply")).to_have_count(0)
    assert stored(world, "pool", "brought")["servers"][0]["port"] == 80


def test_an_engine_is_drained_and_comes_back(person: Person, world: ConsoleWorld) -> None:
    group = stored(world, "serviceenginegroup", "core-aa")
    owners = [vip.placements[0].engine for vip in world.controller.ledger.vips[group["uuid"]].values()]
    page = person.page
    world.troupe.drains = False
    try:
        person.show(f"/serviceengines/{owners[0]}")
        page.get_by_role("button", name="Disable").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text(MOVES)
        dialog.get_by_label("Only take nothing new").check()
        expect(dialog).not_to_contain_text(MOVES)
        dialog.get_by_label("Move everything away").check()
        expect(dialog).to_contain_text(MOVES)
        assert not person.axe()
        dialog.get_by_role("button", name="Disable").click()
        person.sees("Its virtual services are moving away")
        expect(page.get_by_role("img", name="have moved")).to_be_attached()
    finally:
        world.troupe.drains = True
    expect(page.get_by_text("Its virtual services are moving away")).to_have_count(0)
    person.sees("Serves 0")
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_role("button", name="Disable")).to_be_visible()

    names = [world.controller.ledger.engines[engine].name for engine in dict.fromkeys(owners)][:2]
    page.get_by_role("link", name="Service Engines", exact=True).click()
    for name in names:
        page.get_by_label(f"Select {name}").check()
    page.get_by_role("button", name="Disable").click()
    dialog = page.get_by_role("dialog", name="Disable 2 service engines")
    dialog.get_by_label("Only take nothing new").check()
    dialog.get_by_role("button", name="Disable").click()
    for name in names:
        expect(page.get_by_role("row").filter(has_text=name)).to_contain_text("Nothing new")
        page.get_by_label(f"Select {name}").check()
    page.get_by_role("button", name="Enable").click()
    for name in names:
        expect(page.get_by_role("row").filter(has_text=name)).to_contain_text("Up")


def test_a_migration_is_followed_until_it_is_done(person: Person, world: ConsoleWorld) -> None:
    page = person.page
    world.troupe.boot_s = 2.5
    person.show(f"/virtualservices/{stored(world, 'virtualservice', 'wiki')['uuid']}")
    page.get_by_role("button", name="Migrate").click()
    dialog = page.get_by_role("dialog", name="Migrate wiki")
    dialog.get_by_label("To").select_option("new")
    dialog.get_by_role("button", name="Migrate").click()
    person.sees("Currently migrating")
    expect(page.get_by_role("img", name="% done").first).to_have_accessible_name("50 % done")
    person.sees("comes")
    expect(page.get_by_text("Currently migrating")).to_have_count(0)
    person.show(f"/virtualservices/{stored(world, 'virtualservice', 'www')['uuid']}")
    edges = page.get_by_role("group", name="www: served by")
    expect(edges).to_contain_text("primary,")  # what it carries stands behind it
    expect(edges).to_contain_text("bit/s")
