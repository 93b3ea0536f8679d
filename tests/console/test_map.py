"""The placement map: live, and what if."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.api_served import Controller

from .measured import map_updates
from .person import Person
from .world import ConsoleWorld

MOVES = """
window.moves = 0;
const animate = Element.prototype.animate;
Element.prototype.animate = function (...given) { window.moves += 1; return animate.apply(this, given); };
0
"""
"""Counts what is seen to move."""


def _world(served: Controller) -> ConsoleWorld:
    assert isinstance(served.world, ConsoleWorld)
    return served.world


def _uuid(served: Controller, name: str) -> str:
    document = _world(served).view.named("serviceenginegroup", name)
    assert document is not None
    return str(document["uuid"])


def _engines(served: Controller, group: str) -> list[str]:
    """Names of those that are up."""
    world = _world(served)
    return [e.name for e in world.controller.ledger.engines_of(group) if world.controller.fleet.state(e.id) == "up"]


def test_an_engine_dies_and_the_map_moves(person: Person, served: Controller) -> None:
    page, world = person.page, _world(served)
    group = _uuid(served, "core-aa")
    person.go(f"/map?group={group}")
    victim = next(e for e in world.controller.ledger.engines_of(group) if world.troupe.puppets[e.id].owned)
    column = page.get_by_role("group", name=f"Engine {victim.name}")
    mine = column.locator(".tile.primary").first
    expect(mine).to_be_visible()
    name = mine.text_content()
    mine.hover()
    expect(page.locator(".board .lit.heir").first).to_have_text(
        str(name)
    )  # who would take it over is lit, with a line to it
    assert page.locator(".links .heir-line").count() >= 1
    page.evaluate(MOVES)

    async def kill() -> None:
        world.troupe.kill(victim.id)

    served.ask(kill)
    moved = page.locator(".tile.primary", has_text=name)
    expect(moved).to_be_visible()
    expect(column.locator(".tile.primary", has_text=name)).to_have_count(0)
    assert page.evaluate("window.moves") >= 1
    served.ask(lambda: world.served())


def test_what_if_an_engine_is_killed_and_nothing_happens_for_real(person: Person, served: Controller) -> None:
    page = person.page
    group = _uuid(served, "web-nm")
    person.go(f"/map?group={group}")
    page.get_by_role("button", name="What if").click()
    first = _engines(served, group)[0]
    before = len(_engines(served, group))
    page.get_by_role("button", name=f"Kill {first}").click()
    panel = page.get_by_role("complementary", name="What if")
    expect(panel).to_contain_text("Everything stays up")
    column = page.get_by_role("group", name=f"Engine {first}, Killed")
    expect(column.locator(".ghost").first).to_contain_text("→ se-")  # where each of its own went
    moments = page.get_by_role("group", name="Moment")
    expect(moments.get_by_role("button", name="Right after")).to_contain_text("silent for up to")
    assert not person.axe()
    moments.get_by_role("button", name="Now").click()
    expect(column.locator(".tile.primary").first).to_be_visible()
    moments.get_by_role("button", name="Right after").click()
    expect(page.locator(".board .tile.taken-over").first).to_be_visible()
    moments.get_by_role("button", name="In the end").click()
    expect(panel.get_by_role("button", name="Apply")).to_be_disabled()  # a failure is not applied
    panel.get_by_role("group", name="The worst engines fail").get_by_role("button", name="2").click()
    expect(panel).to_contain_text("The worst 2 engines")
    panel.get_by_role("button", name="Discard").click()
    expect(page.locator(".board .tile.taken-over")).to_have_count(0)
    assert len(_engines(served, group)) == before


def test_a_change_is_tried_on_the_map_and_then_applied(person: Person, served: Controller) -> None:
    page, world = person.page, _world(served)
    group = _uuid(served, "web-nm")
    person.go(f"/map?group={group}&whatif=1")
    count = len(_engines(served, group))
    expect(page.locator(".board .cell.buffer").first).to_be_visible()  # kept for an engine that fails
    page.get_by_text("Change the group", exact=True).click()
    page.get_by_label("High Availability Mode").select_option("Elastic HA Active/Active")
    panel = page.get_by_role("complementary", name="What if")
    page.get_by_role("button", name="In the end").click()
    expect(page.locator(".board .tile.secondary").first).to_be_visible()  # each on two engines
    page.get_by_label("High Availability Mode").select_option("as it is: Elastic HA N+M")
    page.get_by_label("Buffer Service Engines").fill("2")
    expect(panel).to_contain_text("1 engine is made")
    expect(page.get_by_role("region", name="Host new")).to_contain_text("New")
    panel.get_by_role("button", name="Apply").click()
    dialog = page.get_by_role("dialog", name="Apply to web-nm")
    expect(dialog).to_contain_text("1 engine is made")
    dialog.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("group", name="Engine ")).to_have_count(count + 1)
    document = world.view.get("serviceenginegroup", group)
    assert document is not None and document["buffer_se"] == 2


def test_a_tile_says_where_it_is_and_why(person: Person, served: Controller) -> None:
    page = person.page
    person.go(f"/map?group={_uuid(served, 'edge-legacy')}")
    page.get_by_role("button", name="vpn").click()
    details = page.get_by_role("complementary", name="Details")
    expect(details).to_contain_text("Standby")
    expect(details).to_contain_text("Why")
    details.get_by_role("link", name="Open").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("vpn")


def test_a_host_is_killed_and_an_engine_drained_for_real(person: Person, served: Controller) -> None:
    page, world = person.page, _world(served)
    everywhere = {"min_scaleout_per_vs": 5, "max_scaleout_per_vs": 5, "max_se": 6, "buffer_se": 0}
    served.ask(lambda: world.group("wide", **everywhere))
    served.ask(lambda: world.virtual_service("broad", "10.9.6.1", "wide"))
    served.ask(lambda: world.served())
    group = _uuid(served, "wide")
    person.go(f"/map?group={group}&whatif=1")
    # Five engines on four hosts: one has two.
    page.get_by_role("button", name="Kill host").first.click()
    panel = page.get_by_role("complementary", name="What if")
    expect(page.locator(".column.fail")).to_have_count(2)
    expect(panel).to_contain_text("stays up")
    panel.get_by_role("button", name="Clear").click()
    expect(page.locator(".column.fail")).to_have_count(0)
    drained = _engines(served, group)[0]
    page.get_by_role("button", name=f"Drain {drained}").click()
    panel.get_by_role("button", name="Apply").click()
    dialog = page.get_by_role("dialog", name="Apply to wide")
    expect(dialog).to_contain_text(drained)
    dialog.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("group", name=re.compile(f"Engine {drained}, (Draining|Disabled)"))).to_be_visible()


def test_a_large_map_takes_little_time_for_an_update(person: Person, served: Controller) -> None:
    async def touch() -> None:
        _world(served).controller.ledger.vips_written += 1

    took = [scripting for scripting, _ in map_updates(person, _uuid(served, "web-nm"), lambda: served.ask(touch))]
    assert sorted(took)[len(took) // 2] < 16, f"{took} ms of scripting for an update"
