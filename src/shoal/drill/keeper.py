"""``python -m shoal.drill.keeper DATA_DIR ENGINE KIND SECONDS``: does a fault and undoes it.

It is undone when standard input ends, when SIGTERM comes, and after so many seconds in any case: the engine is given back
though the drill be killed. Says ``done`` when the fault is done.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from shoal.clouds.fabric import Fabric
from shoal.clouds.faults import Faults
from shoal.errors import ShoalError


async def do(faults: Faults, engine: str, kind: str) -> None:
    match kind:
        case "kill":
            faults.kill(engine)
        case "freeze":
            faults.freeze(engine)
        case "cut":
            await faults.cut(engine)
        case _:
            raise ValueError(kind)


async def undo(faults: Faults, engine: str, kind: str) -> None:
    """May be done twice. A killed engine is started again by the controller."""
    match kind:
        case "freeze":
            faults.thaw(engine)
        case "cut":
            await faults.heal(engine)


async def keep(faults: Faults, engine: str, kind: str, seconds: float) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_reader(sys.stdin.fileno(), ended.set)  # nothing is ever written to it
    try:
        await do(faults, engine, kind)
        sys.stdout.write("done\n")
        sys.stdout.flush()
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        pass
    finally:
        loop.remove_reader(sys.stdin.fileno())
        await undo(faults, engine, kind)


def main(arguments: list[str]) -> int:
    data_dir, engine, kind, seconds = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        asyncio.run(keep(Faults(Fabric.existing(Path(data_dir))), engine, kind, float(seconds)))
    except (OSError, ShoalError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
