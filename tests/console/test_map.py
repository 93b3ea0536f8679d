"""The placement map: live, and what if."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Route, expect

from tests.api_served import Controller

from .person import Person
from .world import ConsoleWorld

ENGINES, TILES = 50, 1_000


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

    async def kill() -> None:
        world.troupe.kill(victim.id)

    served.ask(kill)
    moved = page.locator(".tile.primary", has_text=name)
    expect(moved).to_be_visible()
    expect(column.locator(".tile.primary", has_text=name)).to_have_count(0)
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
    expect(page.get_by_role("group", name=f"Engine {first}")).to_contain_text("Killed")
    expect(page.locator(".board .tile.taken-over").first).to_be_visible()
    panel.get_by_role("button", name="In the end").click()
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
    page.get_by_text("Change the group", exact=True).click()
    page.get_by_label("Buffer Service Engines").fill("2")
    panel = page.get_by_role("complementary", name="What if")
    expect(panel).to_contain_text("1 engine is made")
    panel.get_by_role("button", name="In the end").click()
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


def _big(swap: int) -> str:
    """``swap``: the first so many VIPs are on the next engine."""
    engine = {"reason": "", "enable_state": "SE_STATE_ENABLED", "why": "", "cpu_percent": 10.0, "state": "OPER_UP"}
    engines = [
        {**engine, "uuid": f"se-{n}", "name": f"Avi-se-{n:05d}", "host": f"host-{n // 5:02d}"} for n in range(ENGINES)
    ]
    vip: dict[str, Any] = {"services": ["vs"], "address": "10.0.0.1", "slots": 1, "requested": 1, "roles": "P"}
    vip |= {"states": ["ready"], "standby": False, "reason": ""}
    vips = [
        {
            **vip,
            "id": f"vip-{n}/0",
            "name": f"service-{n}",
            "placements": [(n + (n < swap)) % ENGINES],
            "succession": [n % ENGINES, (n + 7) % ENGINES],
        }
        for n in range(TILES)
    ]
    whole = {"uuid": "g", "name": "big", "ha_mode": "HA_MODE_SHARED", "slots_per_engine": 24, "ha_margin": {}}
    whole |= {"buffer": {"free": 200, "needed": 24, "slots": 1200, "used": 1000, "kept": True}, "last_plan": ""}
    return json.dumps({**whole, "engines": engines, "vips": vips})


def test_a_large_map_takes_little_time_for_an_update(person: Person, served: Controller) -> None:
    page = person.page
    swap = 0

    def answer(route: Route) -> None:
        route.fulfill(body=_big(swap), content_type="application/json")

    page.route("**/placement/map", answer)
    person.go(f"/map?group={_uuid(served, 'web-nm')}")
    expect(page.locator(".board .tile")).to_have_count(TILES)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})  # processor time: others use the machine too

    def scripting() -> float:
        found = session.send("Performance.getMetrics")["metrics"]
        return 1000 * float(next(m["value"] for m in found if m["name"] == "ScriptDuration"))

    async def touch() -> None:
        world = _world(served)
        world.controller.ledger.vips_written += 1

    took = []
    for swap in range(1, 7):
        before = scripting()
        served.ask(touch)
        expect(
            page.get_by_role("group", name=f"Engine Avi-se-{swap:05d}").locator(f'[id="tile:vip-{swap - 1}/0|P"]')
        ).to_be_visible()
        page.wait_for_timeout(50)
        took.append(scripting() - before)
    assert sorted(took)[len(took) // 2] < 16, f"{took} ms of scripting for an update"
