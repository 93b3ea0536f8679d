"""How fast the stores are: commits at 1 and 32 writers, reads, listings, watch latency. Prints JSON.

    python bench/store.py [--writes N] [--directory DIR]

The limit to compare with is the disk's own: ``fsync`` is the time of one 4 KiB write and fdatasync in the same place.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from shoal.store.memory import MemoryStore
from shoal.store.protocol import Transaction
from shoal.store.sqlite import SqliteStore

VALUE = os.urandom(1024)
KEYS = 1000
WRITERS = (1, 32)
Store = MemoryStore | SqliteStore
Figures = dict[str, float]


def summary(seconds: list[float]) -> Figures:
    ordered = sorted(seconds)
    return {
        "p50_ms": round(statistics.median(ordered) * 1000, 4),
        "p99_ms": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000, 4),
    }


async def timed(count: int, action: Callable[[int], Awaitable[object]]) -> list[float]:
    took = []
    for number in range(count):
        start = time.perf_counter()
        await action(number)
        took.append(time.perf_counter() - start)
    return took


async def commits(store: Store, writers: int, count: int) -> Figures:
    async def write(writer: int) -> list[float]:
        async def put(number: int) -> None:
            key = f"/bench/{(number * writers + writer) % KEYS:06}"
            await store.commit(Transaction(puts=((key, VALUE),)))

        return await timed(count // writers, put)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(write(writer)) for writer in range(writers)]
    elapsed = time.perf_counter() - start
    took = [seconds for task in running for seconds in task.result()]
    return {"puts_per_s": round(len(took) / elapsed), **summary(took)}


async def watch_latency(store: Store, count: int) -> Figures:
    """From before the commit to the batch in the watcher's hands."""
    revision = (await store.list("/watched")).revision
    took: list[float] = []
    told = asyncio.Semaphore(0)
    started = 0.0

    async def follow() -> None:
        async for _ in store.watch("/watched", revision):
            took.append(time.perf_counter() - started)
            told.release()
            if len(took) == count:
                return

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follow())
        for _ in range(count):
            started = time.perf_counter()
            await store.commit(Transaction(puts=(("/watched/key", VALUE),)))
            await told.acquire()
    return summary(took)


async def measure(store: Store, writes: int) -> dict[str, Figures]:
    figures = {f"commit_{writers}_writers": await commits(store, writers, writes) for writers in WRITERS}
    figures["get"] = summary(await timed(writes, lambda n: store.get(f"/bench/{n % KEYS:06}")))
    figures["list_100"] = summary(await timed(max(writes // 10, 10), lambda n: store.list(f"/bench/000{n % 9}")))
    figures["watch"] = await watch_latency(store, max(writes // 10, 10))
    return figures


def fsync(directory: Path, count: int) -> Figures:
    took = []
    path = directory / "fsync"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        for number in range(count):
            start = time.perf_counter()
            os.pwrite(descriptor, bytes(4096), number * 4096)
            os.fdatasync(descriptor)
            took.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
        path.unlink()
    return summary(took)


async def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmark of the stores; prints JSON.")
    parser.add_argument("--writes", type=int, default=3200)
    parser.add_argument("--directory", type=Path, default=None, help="where the database is made (a real disk)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        memory = MemoryStore()
        durable = await SqliteStore.open(directory / "bench.db")
        result = {
            "bench": "store",
            "machine": {"python": platform.python_version(), "system": platform.platform(), "cpus": os.cpu_count()},
            "writes": options.writes,
            "value_bytes": len(VALUE),
            "fsync": fsync(directory, 200),
            "sqlite": await measure(durable, options.writes),
            "memory": await measure(memory, options.writes),
        }
        await durable.close()
        await memory.close()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
