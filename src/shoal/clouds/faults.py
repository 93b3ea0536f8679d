"""What can be done to an engine of the namespaces cloud, and undone: on this machine, past engine and controller."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from pathlib import Path

from .fabric import Fabric, port_of, processes_in, signal_all
from .protocol import CloudError


class Faults:
    """Engines by name. What undoes a fault does no harm where there is none."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric

    def kill(self, engine: str) -> None:
        """kill -9 of every process of an engine."""
        signal_all(self.fabric.addressing.namespace(engine), signal.SIGKILL)

    def freeze(self, engine: str) -> None:
        """Until `thaw`."""
        signal_all(self.fabric.addressing.namespace(engine), signal.SIGSTOP)

    def thaw(self, engine: str) -> None:
        signal_all(self.fabric.addressing.namespace(engine), signal.SIGCONT)

    def kill_some(self, engine: str, *programs: str) -> None:
        """kill -9 of an engine's processes by what their command line holds, all of them at once."""
        for pid in processes_in(self.fabric.addressing.namespace(engine)):
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
                if any(program in line for program in programs):
                    os.kill(pid, signal.SIGKILL)

    async def lose(self, engine: str, *, to_percent: int = 0, from_percent: int = 0) -> None:
        """From now on so many of the packets to and from an engine are lost; the carrier stays. Until `mend`."""
        port = port_of(engine)
        chains = "".join(
            f"chain {hook} {{ type filter hook {hook} device {port} priority 0; {'' if percent == 100 else f'numgen random mod 100 < {percent} '}drop; }}\n"
            for hook, percent in (("egress", to_percent), ("ingress", from_percent))
            if percent
        )
        await self._nft(f"table netdev lab_{port} {{\n{chains}}}\n")

    async def mend(self, engine: str) -> None:
        await self._nft(f"delete table netdev lab_{port_of(engine)}\n")

    async def _nft(self, rules: str) -> None:
        """In the fabric's namespace."""
        command = ["ip", "netns", "exec", self.fabric.addressing.fabric, "nft", "-f", "-"]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        _, errors = await process.communicate(rules.encode())
        if process.returncode:
            raise CloudError(f"nft: {errors.decode(errors='replace').strip()}")

    async def cut(self, engine: str) -> None:
        """Its link loses its carrier. Until `heal`."""
        await self.fabric.cut(engine)

    async def heal(self, engine: str) -> None:
        await self.fabric.heal(engine)
