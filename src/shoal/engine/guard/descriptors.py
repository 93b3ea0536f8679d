"""Low file descriptors for packet sockets.

When a process is killed the kernel lets go of its descriptors, the highest first, and takes some 15 ms for each packet socket.
What others are to notice at once, the end of sessions and of the tables that the process owns, must not wait for that: so
packet sockets have lower numbers than all else, also those that are opened later.
"""

from __future__ import annotations

import os
import socket

NULL = "/dev/null"


class Low:
    """Made before everything that is to be let go of sooner."""

    def __init__(self, count: int) -> None:
        self._free = [os.open(NULL, os.O_RDWR | os.O_CLOEXEC) for _ in range(count)]

    def move(self, made: socket.socket) -> socket.socket:
        """The same socket with a low number; ``made`` is closed. Raises OSError when there is none left."""
        if not self._free:
            raise OSError("no low descriptor is left")
        number = self._free.pop()
        os.dup2(made.fileno(), number, inheritable=False)
        made.close()
        moved = socket.socket(fileno=number)
        moved.setblocking(False)
        return moved

    def close(self, moved: socket.socket) -> None:
        """Takes some 15 ms."""
        null, number = os.open(NULL, os.O_RDWR | os.O_CLOEXEC), moved.detach()
        os.dup2(null, number, inheritable=False)
        os.close(null)
        self._free.append(number)
