"""``python -m tests.console [PORT]``: the console with data to look at, on this machine, until interrupted."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.api_served import Controller

from .stage import stage
from .world import PASSWORD, ConsoleWorld, console_world


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9443
    with tempfile.TemporaryDirectory() as directory:
        served = Controller(Path(directory), console_world)
        served.port = port
        with served:
            world = served.world
            assert isinstance(world, ConsoleWorld)
            served.ask(lambda: stage(world))
            print(f"https://localhost:{served.port}/ user admin, password {PASSWORD!r}", flush=True)
            while True:
                time.sleep(60)


main()
