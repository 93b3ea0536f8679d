"""Operations: who is told of what, people and roles, certificates, backup, import, and engines that are switched off."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import FilePayload, Locator, expect

from shoal.controller.backup import contents
from tests.api_served import Controller
from tests.api_world import key_pair
from tests.issuer import Issuer

from .person import Person
from .world import ConsoleWorld

PASSPHRASE = "a long passphrase"
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
    page.get_by_label("Find a field").fill("welcome_workflow")
    page.get_by_label("welcome_workflow_complete").click()
    page.get_by_role("button", name="Save").click()
    person.sees("Saved.")
    (system,) = world.view.all("systemconfiguration")
    assert system["welcome_workflow_complete"] is True


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

    page.get_by_label("Backup file").set_input_files(tmp_path / "backup")
    page.get_by_label("Its passphrase").fill(PASSPHRASE + "x")
    page.get_by_role("button", name="Open it").click()
    expect(page.get_by_role("alert")).to_contain_text("The passphrase is wrong")
    person.faults.clear()
    page.get_by_label("Its passphrase").fill(PASSPHRASE)
    page.get_by_role("button", name="Open it").click()
    person.sees("It is whole, and this is its passphrase.")
    person.sees(f"VirtualService {len(list(world.view.all('virtualservice')))}")
    person.sees("no virtual service answers from the first of them to the last")
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
