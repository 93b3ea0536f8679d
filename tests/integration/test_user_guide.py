"""The user guide is true: what its ``shoal`` blocks type is typed into the real shell, on a whole Shoal, and compared.

``scripts/user-guide`` writes the answers into the guide; then read it, and what it changed.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD
from tests.compat.terminal import BASH, Terminal
from tests.compat.transcript import LINUX_PROMPT, Reader, exchanges, masked
from tests.integration.private_shoal import launched

pytestmark = [pytest.mark.root, pytest.mark.beside, pytest.mark.timeout(350)]

GUIDE = Path(__file__).parents[2] / "docs" / "user-guide"
PAGES = ("two-modes.md", "moving.md", "at-night.md")
"""In the order they are read: each goes on with what the one before has left."""
WRITES = bool(os.environ.get("SHOAL_WRITE_GUIDE"))
BLOCK = re.compile(r"```shoal\n(.*?)```\n", re.DOTALL)
COLUMNS = 80
SETTLES_WITHIN_S = 40.0
LOGGED_WITHIN_S = 120.0
"""Of ten probes a second, one in 128 is logged."""
SHOP = """
pool: [{{name: shop-pool, servers: [{{ip: {web1}, port: 80}}, {{ip: {web2}, port: 80}}]}}]
vsvip: [{{name: shop-vip, vip: [{{vip_id: "0", auto_allocate_ip: true}}]}}]
virtualservice: [{{name: shop, services: [{{port: 80}}], pool_ref: shop-pool, vsvip_ref: shop-vip}}]
"""


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with launched(tmp_path) as bench:
        lab = Lab(bench.options.data_dir)

        async def servers() -> list[str]:
            return [(await lab.backend(f"web{number}")).address for number in (1, 2)]

        try:
            web1, web2 = asyncio.run(servers())
            (tmp_path / "shop.yaml").write_text(SHOP.format(web1=web1, web2=web2))
            plain = tmp_path / "plain-bash"  # what `attach` opens: with the prompt that a Reader knows
            plain.write_text(f"#!/bin/sh\nexec {' '.join(BASH)}\n")
            plain.chmod(0o755)
            environment = {
                "SHOAL_PASSWORD": PASSWORD, "SHOAL_CONTROLLER": bench.url, "NO_COLOR": "1",
                "SHOAL_DATA_DIR": str(bench.options.data_dir), "HOME": str(tmp_path), "SHELL": str(plain),
                **LINUX_PROMPT,
            }  # fmt: skip
            with Terminal(environment=environment, program=BASH, columns=COLUMNS, directory=tmp_path) as terminal:
                yield Reader(terminal, lambda typed: asyncio.run(_settled(bench.url, typed)), web1)
        finally:
            asyncio.run(lab.close())


async def _settled(url: str, typed: str) -> None:
    """Every virtual service is as wanted, and its successors are armed; something is logged where logs are asked for."""
    async with Api(url, PASSWORD) as api:

        async def check() -> bool:
            services = await api.get("virtualservice?fields=name")
            for service in services["results"]:
                found = await api.placement(service["uuid"])
                ready = [one for one in found["placements"] if one["state"] == "ready"]
                if not found["armed"] or len(ready) != found["requested"] or len(found["placements"]) != len(ready):
                    return False
                summary = await api.get(f"virtualservice/{service['uuid']}/runtime")
                if summary["oper_status"]["state"] != "OPER_UP":
                    return False
            groups = await api.get("serviceenginegroup?fields=name")
            for group in groups["results"]:
                drawn = await api.get(f"serviceenginegroup/{group['uuid']}/placement/map")
                if any(engine["state"] != "OPER_UP" for engine in drawn["engines"]):
                    return False
            return True

        async def logged() -> bool:
            return bool((await api.get("analytics/logs?type=1&duration=600&page_size=1"))["results"])

        await api.until("all is settled", check, SETTLES_WITHIN_S)
        if "show log" in typed:
            await api.until("something is logged", logged, LOGGED_WITHIN_S)


def beginnings(block: str) -> list[str]:
    """Each typed line and how its answer begins: the rest tells of engines, and which came first differs."""
    return [f"{masked(typed)} {masked((answer or [''])[0])}" for typed, answer in exchanges(block)]


def test_the_guide_is_what_the_shell_says(reader: Reader) -> None:
    for page in PAGES:
        text = (GUIDE / page).read_text()
        blocks = [match[1] for match in BLOCK.finditer(text)]
        found = [reader.play(block) for block in blocks]
        if WRITES:
            left = BLOCK.split(text)[::2]
            (GUIDE / page).write_text(
                "".join(f"{one}```shoal\n{now}```\n" for one, now in zip(left, found, strict=False)) + left[-1]
            )
            continue
        for block, now in zip(blocks, found, strict=True):
            assert beginnings(now) == beginnings(block), page
        assert "Traceback" not in "".join(found)
