"""A whole Shoal in a namespace that plays the host, gone at the end: what tests and benchmarks of the running system need."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shoal.lab.api import Api
from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD, Bench
from tests.integration.private_host import private_host


@contextlib.contextmanager
def launched(folder: Path, *, ipv6: bool = False) -> Iterator[Bench]:
    """Its data directory is in ``folder``."""
    with private_host():
        bench = Bench(folder / "data", ipv6=ipv6)
        bench.launch()
        try:
            yield bench
        finally:
            bench.stop()


@contextlib.contextmanager
def prepared(folder: Path, *, ipv6: bool = False, **wanted: Any) -> Iterator[Bench]:
    """With the lab's services; ``wanted`` goes to `Bench.prepare`."""
    with launched(folder, ipv6=ipv6) as bench:
        lab = Lab(bench.options.data_dir)

        async def prepare() -> None:
            async with Api(bench.url, PASSWORD) as api:
                await bench.prepare(lab, api, **wanted)

        try:
            asyncio.run(prepare())
            yield bench
        finally:
            asyncio.run(lab.close())
