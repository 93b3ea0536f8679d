"""The console in Chromium: size, first paint, the placement map's live updates, the list of 10,000 virtual services."""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.rig.figures import missed, spread
from playwright.sync_api import sync_playwright
from tests.api_served import Controller
from tests.console.measured import first_paint_ms, frames_while_scrolling, letters, map_updates, show_long_list
from tests.console.person import FLAGS, Person
from tests.console.world import ConsoleWorld, console_world

from shoal.api.web import BUILT

PAINTS = 5
UPDATES = 30
LIMIT_ZIPPED = 600_000
LIMIT_PAINT_MS = 1_000
LIMIT_UPDATE_MS = 16


def zipped(pattern: str) -> int:
    return sum(len(gzip.compress(path.read_bytes())) for path in BUILT.rglob(pattern))


def measured(served: Controller, world: ConsoleWorld, somebody: Callable[[], Person]) -> dict[str, object]:
    async def touch() -> None:
        world.controller.ledger.vips_written += 1

    paints = []
    for _ in range(PAINTS):
        with somebody() as fresh:  # nothing is cached yet
            fresh.go("/")
            fresh.sees("Sign in")
            paints.append(first_paint_ms(fresh))
    with somebody() as person:
        person.sign_in()
        group = world.view.named("serviceenginegroup", "Default-Group")
        assert group is not None
        updates = map_updates(person, group["uuid"], lambda: served.ask(touch), UPDATES)
        show_long_list(person)
        frames = frames_while_scrolling(person)
        typed = letters(person)
        person.check()
    return {
        "scripts_bytes_zipped": zipped("*.js"),
        "scripts_bytes_zipped_limit": LIMIT_ZIPPED,
        "styles_bytes_zipped": zipped("*.css"),
        "first_paint_ms": spread(paints),
        "first_paint_ms_limit": LIMIT_PAINT_MS,
        "map_update_scripting_ms": spread([scripting for scripting, _ in updates]),
        "map_update_scripting_ms_limit": LIMIT_UPDATE_MS,
        "map_update_layout_ms": spread([layout for _, layout in updates]),
        "list_frame_ms_while_scrolling": spread(frames),
        "list_letter_ms": spread(typed),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, Controller(Path(directory), console_world) as served:
        world = served.world
        assert isinstance(world, ConsoleWorld)
        served.ask(partial(world.virtual_service, "www", "10.9.0.11"))
        served.ask(world.served)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
            found = measured(served, world, lambda: Person(browser, served.port))
            browser.close()
    print(json.dumps(found))
    sys.exit(1 if missed(found) else 0)


if __name__ == "__main__":
    main()
