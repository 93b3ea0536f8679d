"""An engine is killed while it is probed: the timeline tells the whole story, in order, and agrees with a client."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal.clouds.addressing import Addressing
from shoal.clouds.fabric import ip
from shoal.clouds.namespaces import LAB
from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.probe import Probed
from shoal.lab.trials import PASSWORD, Bench

from .private_shoal import launched

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

PROBE_MS = 100.0
"""Between two probes of a VIP that is well: the prober's resolution of an outage's begin."""
CLIENT_MS = 5.0 + 50.0
"""Between two requests of the client; and its patience."""
ADOPTED_WITHIN_S = 10.0


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with launched(tmp_path_factory.mktemp("incident")) as bench:
        yield bench
    prefix = Addressing.of(bench.options.data_dir).prefix
    left = [path for place in ("/run", "/dev/shm") for path in Path(place).glob(f"{prefix}*")]
    assert not left, f"recorders left behind: {left}"
    probers = [path for path in Path("/proc").glob("[0-9]*/cmdline") if f"{prefix}prober/" in text_of(path)]
    assert not probers, f"probers left behind: {probers}"


def text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def incident(bench: Bench, *options: str) -> dict[str, Any]:
    """`shoal incident --json`."""
    command = [sys.executable, "-m", "shoal", "incident", "--data-dir", str(bench.options.data_dir), "--json", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, "SHOAL_PASSWORD": PASSWORD}
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_timeline_of_a_killed_engine(bench: Bench) -> None:
    async def story() -> tuple[str, str, Probed]:
        lab = Lab(bench.options.data_dir)
        try:
            async with Api(bench.url, PASSWORD) as api:
                backend = await lab.backend("web")
                await lab.node("client")
                await api.post("serviceenginegroup", {"name": "g", "ha_mode": "HA_MODE_SHARED", "buffer_se": 1})
                reference = "/api/serviceenginegroup?name=g"
                made = await api.service("shop", [(backend.address, backend.port)], se_group_ref=reference)
                former = (await api.placed(made["uuid"], 1))["answers"]
                probing = asyncio.create_task(lab.probe("client", made["address"], 80, 2.0))
                await asyncio.sleep(0.8)
                lab.kill(former)
                probed = await probing

                async def adopted() -> bool:
                    found = await api.placement(made["uuid"])
                    return any(d["what"] == "promote" for d in found["decisions"]) and found["answers"] != former

                await api.until("the takeover is adopted", adopted, ADOPTED_WITHIN_S)
                taker = (await api.placement(made["uuid"]))["answers"]
            return former, str(taker), probed
        finally:
            await lab.close()

    former, taker, probed = asyncio.run(story())
    found = incident(bench, "--virtualservice", "shop", "--since", "30s")
    (takeover,) = found["takeovers"]
    text = json.dumps(found, indent=1)
    assert (takeover["former"], takeover["taker"], takeover["vip"]) == (former, taker, "shop"), text
    assert takeover["sign"].startswith(("session ended", "refuses", "no connection", "silent")), "a client may be first"
    steps = [takeover[step] for step in ("noticed_ms", "claimed_ms", "took_ms", "answers_ms", "adopted_ms")]
    assert None not in steps and steps == sorted(steps) and steps[0] >= 0, text
    assert takeover["heard_ms"] <= takeover["adopted_ms"], text

    entries = found["entries"]
    ended = next(e for e in entries if e["what"] == "session ended" and e["who"] == taker)
    assert ended["about"] == former and ended["after_ms"] <= takeover["took_ms"], text
    beat = next(e for e in entries if e["what"] == "last beat")
    assert beat["who"] == former and -250 < beat["after_ms"] <= 1, "the dead engine's own recorder is read too"
    assert any(e["who"] == former and e["part"] == "agent" and e["what"] == "applied" for e in entries), text
    assert [e["at"] for e in entries] == sorted(e["at"] for e in entries)

    seen = takeover["outage_ms"] or 0.0
    assert abs(seen - probed.outage_ms()) <= PROBE_MS + CLIENT_MS, (seen, probed.outage_ms(), text)
    claimed = max(start.at for start in probed.failed()) if probed.failed() else None
    assert claimed is not None, "the client noticed nothing"
    serves = next((e for e in entries if e["what"] == "serves" and e["after_ms"] > 0), None)
    if serves is not None:  # the outage may fall between two probes
        assert serves["about"] == taker and takeover["took_ms"] <= serves["after_ms"], text


def test_a_stranger_that_takes_a_vip_is_an_event(bench: Bench) -> None:
    async def story() -> list[str]:
        lab = Lab(bench.options.data_dir)
        try:
            async with Api(bench.url, PASSWORD) as api:
                vip = (await api.get("vsvip?name=shop-vip"))["results"][0]["vip"][0]["ip_address"]["addr"]
                await lab.node("thief")
                thief = lab.fabric.addressing.namespace(f"{LAB}thief")
                await ip("-n", thief, "addr", "add", f"{vip}/32", "dev", "eth0")

                async def told() -> list[str]:
                    query = "analytics/logs?type=2&filter=eq(event_id,[VIP_TWO_ANSWERERS,VIP_STRANGER])"
                    found = (await api.get(query))["results"]
                    return [event["event_description"] for event in found] if len(found) > 1 else []

                events: list[str] = await api.until("two answer, one of them a stranger", told)
                return events
        finally:
            await lab.close()

    events = asyncio.run(story())
    assert all(event.startswith("shop ") for event in events), events
    found = incident(bench, "--since", "20s")
    seen = {entry["what"] for entry in found["entries"] if entry["who"] == "prober" and entry["vip"] == "shop"}
    assert {"two answer", "stranger"} <= seen, found
