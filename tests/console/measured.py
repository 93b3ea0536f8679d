"""How long the console takes: figures that tests bound and `scripts/bench console` tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Route, expect

from .person import Person

ENGINES, TILES, LIST = 50, 1_000, 10_000
SETTLED_MS = 50
LETTERS = ("s", "se", "service-9", "service-99", "service-9999")


def big_map(swap: int) -> str:
    """Of 50 engines and 1,000 VIPs, as the API tells it; the first ``swap`` VIPs are on the next engine."""
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


def map_updates(person: Person, group: str, touch: Callable[[], None], count: int = 6) -> list[tuple[float, float]]:
    """Of each live update that moves one of 1,000 tiles: milliseconds of processor time of the page's thread, for scripts, and for
    layout and style. ``touch`` makes the controller say that placements have changed."""
    page, swap = person.page, 0

    def answer(route: Route) -> None:
        route.fulfill(body=big_map(swap), content_type="application/json")

    page.route("**/placement/map", answer)
    person.go(f"/map?group={group}")
    expect(page.locator(".board .tile")).to_have_count(TILES)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})  # processor time: others use the machine too

    def spent() -> tuple[float, float]:
        found = {m["name"]: 1000 * float(m["value"]) for m in session.send("Performance.getMetrics")["metrics"]}
        return found["ScriptDuration"], found["LayoutDuration"] + found["RecalcStyleDuration"]

    took = []
    for swap in range(1, count + 1):
        before = spent()
        touch()
        expect(
            page.get_by_role("group", name=f"Engine Avi-se-{swap:05d}").locator(f'[id="tile:vip-{swap - 1}/0|P"]')
        ).to_be_visible()
        page.wait_for_timeout(SETTLED_MS)
        after = spent()
        took.append((after[0] - before[0], after[1] - before[1]))
    page.unroute("**/placement/map")
    return took


def long_list() -> str:
    """10,000 virtual services as the API lists them; number 17 is down."""
    row = {
        "enabled": True,
        "state": "OPER_UP",
        "reason": "",
        "ports": [443],
        "group": "big",
        "group_uuid": "g",
        "engines": ["Avi-se-aaaaa"],
        "requested": 1,
        "assigned": 1,
        "pool_uuid": "p",
    }
    rows = [
        {**row, "uuid": f"vs-{n}", "name": f"service-{n}", "address": f"10.{n // 250}.0.{n % 250}", "pool": f"pool-{n}"}
        for n in range(LIST)
    ]
    rows[17] |= {"state": "OPER_DOWN", "reason": "pool: none of its 3 servers is up"}
    return json.dumps({"count": LIST, "results": rows})


def show_long_list(person: Person) -> None:
    body = long_list()
    person.page.route(
        "**/api/console/virtualservices", lambda route: route.fulfill(body=body, content_type="application/json")
    )
    person.go("/virtualservices")
    person.sees("10,000 virtual services")


def letters(person: Person) -> list[float]:
    """Of each text typed into the search of the long list: milliseconds until its rows are drawn."""
    found: list[float] = person.page.evaluate(
        """async (texts) => {
            const input = document.querySelector('input[type=search]');
            const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set;
            const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
            const took = [];
            for (const text of texts) {
                const began = performance.now();
                set.call(input, text);
                input.dispatchEvent(new Event('input', { bubbles: true }));
                await frame();
                took.push(performance.now() - began);
            }
            return took;
        }""",
        LETTERS,
    )
    return found


def frames_while_scrolling(person: Person) -> list[float]:
    """Milliseconds between the frames while the long list is scrolled from its head to its end."""
    found: list[float] = person.page.evaluate(
        """async () => {
            const frames = [];
            const steps = 24;
            const end = document.body.scrollHeight - innerHeight;
            let before = await new Promise(requestAnimationFrame);
            for (let step = 1; step <= steps; step += 1) {
                window.scrollTo(0, (end * step) / steps);
                const now = await new Promise(requestAnimationFrame);
                frames.push(now - before);
                before = now;
            }
            return frames;
        }"""
    )
    return found


def first_paint_ms(person: Person) -> float:
    """Of the page that is shown."""
    found = person.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    assert found is not None
    return float(found)
