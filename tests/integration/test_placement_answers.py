"""What the shell says of placements, on a whole Shoal with real engines: what would help does, scale status as polled."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shoal.lab.api import Api
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.private_shoal import launched

pytestmark = [pytest.mark.root, pytest.mark.beside, pytest.mark.timeout(90)]

GROUP = "/api/serviceenginegroup?name=g"
NOBODY = [("10.0.0.9", 80)]
"""No server is needed: placement is looked at."""


def shell(bench: Bench, *commands: str) -> str:
    """What the shell prints, as an operator gets it."""
    words = [word for command in commands for word in ("-c", command)]
    told = subprocess.run(
        [sys.executable, "-m", "shoal", "shell", "--controller", bench.url, *words],
        env={**os.environ, "SHOAL_PASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout


def test_a_stuck_service_is_served_once_what_would_help_is_done(tmp_path: Path) -> None:
    with launched(tmp_path) as bench:
        asyncio.run(_helped(bench))


async def _helped(bench: Bench) -> None:
    async with Api(bench.url, PASSWORD) as api:
        group = await api.post("serviceenginegroup", {"name": "g", "max_se": 1, "max_vs_per_se": 1, "buffer_se": 0})
        first = await api.service("first", NOBODY, se_group_ref=GROUP)
        await api.placed(first["uuid"], 1)
        second = await api.service("second", NOBODY, se_group_ref=GROUP)

        async def stuck() -> bool:
            return bool((await api.placement(second["uuid"])).get("would_help"))

        await api.until("a service that is stuck", stuck)
        lines = shell(bench, "show virtualservice second placement").splitlines()
        assert lines[0] == "second is not served: no engine has room and none can be made: max_se 1 is reached."
        assert lines[1] == "What would help: Raise max_se to 2, or max_vs_per_se to 2."
        assert "\x1b" not in "".join(lines)

        shell(bench, "configure serviceenginegroup g max_se 2", "save")
        owner = (await api.placed(second["uuid"], 1))["answers"]
        assert f"second is served by {owner}." in shell(bench, "show virtualservice second placement")
        assert "g: all 2 VIPs are served as wanted." in shell(bench, "show serviceenginegroup g placement")
        assert f"{owner} serves 1 VIP (1 of 1 slots)." in shell(bench, f"show serviceengine {owner} placement")

        await api.call("PATCH", f"serviceenginegroup/{group['uuid']}", {"replace": {"max_se": 3}})
        for operation, end, engines in (("scaleout", "SCALEOUT_SUCCESS", 2), ("scalein", "SCALEIN_SUCCESS", 1)):
            await api.post(f"virtualservice/{second['uuid']}/{operation}", {"vip_id": "0"})
            found = await _ended(api, second["uuid"])
            assert (found["state"], found["num_se_assigned"], found["action_success"]) == (end, engines, True)


async def _ended(api: Api, service: str) -> dict[str, Any]:
    """The scale status, polled as clients do until it has an end."""
    found: dict[str, Any] = {}

    async def over() -> bool:
        found.clear()
        found.update((await api.get(f"virtualservice/{service}/scaleoutstatus"))[0])
        return "end_time_str" in found

    await api.until("the end of an operation", over)
    return found
