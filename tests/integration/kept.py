"""Flows of a client in the lab that stay: who answers them, now and later."""

from __future__ import annotations

import json
import subprocess
import sys

from shoal.lab.network import Lab


class Kept:
    """Sockets of the lab's client that stay open (``module``: of `shoal.lab`, `connections` or `datagrams`). ``first``: who
    answered at first; `ask` tells whether the same servers do, of ``connections`` who answers."""

    def __init__(self, lab: Lab, address: str, module: str, port: int, count: int) -> None:
        command = (f"shoal.lab.{module}", address, str(port), str(count), "keep")
        node = lab.fabric.enter("lab-client", sys.executable, "-m", *command)
        self._child = subprocess.Popen(node, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.first = self._line()

    def _line(self) -> dict[str, int]:
        assert self._child.stdout is not None
        found: dict[str, int] = json.loads(self._child.stdout.readline())
        return found

    def ask(self) -> dict[str, int]:
        assert self._child.stdin is not None
        self._child.stdin.write("\n")
        return self._line()

    def close(self) -> None:
        self._child.kill()
        self._child.communicate()
