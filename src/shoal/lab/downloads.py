"""A client that downloads from several ports at once for a while: ``python -m shoal.lab.downloads ADDRESS SECONDS PORT...``
prints the octets that came from each in the second half, as JSON. A port that is named twice has two connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

PIECE_BYTES = 65_536


async def downloaded(address: str, seconds: float, ports: list[int]) -> dict[int, int]:
    counts = dict.fromkeys(ports, 0)
    half = asyncio.get_running_loop().time() + seconds / 2

    async def take(port: int) -> None:
        reader, writer = await asyncio.open_connection(address, port)
        with contextlib.closing(writer):
            while data := await reader.read(PIECE_BYTES):
                if asyncio.get_running_loop().time() >= half:
                    counts[port] += len(data)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*map(take, ports))
    return counts


if __name__ == "__main__":
    print(json.dumps(asyncio.run(downloaded(sys.argv[1], float(sys.argv[2]), list(map(int, sys.argv[3:]))))))
