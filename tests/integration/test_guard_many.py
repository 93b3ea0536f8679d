"""Two real guards with a thousand VIPs: they hear one another, and one takes over all that the other had, at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from shoal.wire.guard import Desired
from tests.integration.guard_lab import Lab, LabEngine, lab, wait

pytestmark = pytest.mark.root

MANY = 1000
QUIET_S = 1.0
"""Longer than any silence that would count as death."""


def many(value: Lab) -> Desired:
    one = value.desired()
    vip = one.vips[0]
    vips = tuple(
        replace(vip, id=f"vsvip-{n:08d}-0000-4000-8000-000000000000/0", addresses=(f"10.98.{n // 250}.{n % 250 + 1}",))
        for n in range(MANY)
    )
    return replace(one, vips=vips, slots_max=2 * MANY)


def owned(engine: LabEngine) -> int:
    engine.read()
    return len(engine.report.owned) if engine.report else 0


def test_a_thousand_vips_are_heard_of_and_taken_over(tmp_path: Path) -> None:
    with lab(tmp_path, ("a", "b")) as value:
        owner, successor = value.engines.values()
        for engine in (owner, successor):
            engine.start()
            engine.tell(many(value))
        wait(lambda: owned(owner) == MANY)
        wait(lambda: value.hears_all(owner) and value.hears_all(successor))
        until = time.monotonic() + QUIET_S
        while time.monotonic() < until:
            assert value.hears_all(owner) and value.hears_all(successor)
            time.sleep(0.05)
        assert owned(successor) == 0
        owner.kill()
        wait(lambda: owned(successor) == MANY)
        taken = [change.ownership for _, change in successor.changes]
        assert all(what.owner and what.from_engine == "a" for what in taken)
        assert len({what.vip for what in taken}) == len(taken) == MANY
