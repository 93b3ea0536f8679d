"""Completion in the shell at 10,000 virtual services: every Tab asks a served API, over TLS."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench.rig.figures import missed, percentile
from tests.api_served import Controller
from tests.api_world import PASSWORD, World

from shoal.objects import load
from shoal.shell.client import Client
from shoal.shell.complete import Choices
from shoal.shell.session import Session
from shoal.store.protocol import Transaction

SERVICES = 10_000
ROUNDS = 20
LIMIT_MS = 100
WRITTEN_AT_ONCE = 100
LINES = (
    "",
    "sh",
    "show ",
    "show virtualservice ",
    "show virtualservice service-0",
    "show virtualservice service-04242",
    "show virtualservice SERVICE-9",
    "show virtualservice nothing",
    "configure serviceenginegroup Default-Group ",
    "configure virtualservice service-00001 pool_ref ",
    "show events virtualservice service-07",
)


def copies(stored: dict[str, Any], count: int) -> Iterator[tuple[str, bytes]]:
    """So many virtual services more, as they are stored: each with a name of its own."""
    kind = load().type("virtualservice")
    for number in range(count):
        id = f"virtualservice-{uuid.UUID(int=number)}"
        yield f"/intent/virtualservice/{id}", kind.encode({**stored, "uuid": id, "name": f"service-{number:05d}"})


async def fill(world: World, count: int) -> None:
    """Straight into the store: made one by one through the API they would take minutes."""
    made = await world.service("first")
    stored = world.view.get("virtualservice", made["uuid"])
    assert stored is not None
    puts = list(copies(dict(stored), count))
    for start in range(0, count, WRITTEN_AT_ONCE):
        await world.store.commit(Transaction(puts=tuple(puts[start : start + WRITTEN_AT_ONCE])))


def measured(session: Session, line: str, rounds: int) -> list[float]:
    """Milliseconds of a Tab, each in a shell that has asked nothing before."""
    found = []
    for _ in range(rounds):
        choices = Choices(session)
        began = time.perf_counter()
        choices.next(line)
        found.append((time.perf_counter() - began) * 1000)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=SERVICES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Controller(Path(folder)) as controller:
        controller.ask(partial(fill, controller.world, options.services), within_s=120)
        client = Client(f"https://127.0.0.1:{controller.port}", "admin", PASSWORD)
        client.login()
        session = Session(client, load(), "bench")
        count = client.begun("virtualservice", "")[1]
        assert count == options.services + 1, f"{count} virtual services are there"
        taken = {line: measured(session, line, options.rounds) for line in LINES}
        client.close()
    figures = {
        "virtualservices": options.services,
        "rounds": options.rounds,
        "tab_ms_max": round(max(max(one) for one in taken.values()), 1),
        "tab_ms_max_limit": LIMIT_MS,
        "lines": {
            line: {"p50_ms": round(percentile(one, 0.5), 1), "max_ms": round(max(one), 1)}
            for line, one in taken.items()
        },
    }
    print(json.dumps(figures))
    sys.exit(1 if missed(figures) else 0)


if __name__ == "__main__":
    main()
