"""A client of TCP services: ``python -m shoal.lab.connections ADDRESS PORT COUNT [keep|clients]``; the backend answers its name.

Opens COUNT connections, asks on each, and prints, as JSON, how many each server answered (``refused``: a reset instead of
a connection; ``reset``: on an open one; ``""``: nobody within `ANSWER_S`). With ``keep`` they stay: each line of input asks
on all of them again and prints the same. With ``clients`` it is not servers that are counted, but the addresses they see.
"""

from __future__ import annotations

import json
import socket
import sys
from collections import Counter

ANSWER_S = 1.0
NOBODY, REFUSED, RESET = "", "refused", "reset"
ASK = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n"


def open_(address: str, port: int, count: int) -> list[socket.socket | str]:
    """What could not be opened is its reason."""
    found: list[socket.socket | str] = []
    for _ in range(count):
        try:
            found.append(socket.create_connection((address, port), timeout=ANSWER_S))
        except ConnectionRefusedError:
            found.append(REFUSED)
        except OSError:
            found.append(NOBODY)
    return found


def ask(connections: list[socket.socket | str], header: bytes = b"X-Server: ") -> Counter[str]:
    """Who answers."""
    for one in connections:
        if isinstance(one, socket.socket):
            try:
                one.sendall(ASK)
            except OSError:
                continue
    return Counter(_answer(one, header) if isinstance(one, socket.socket) else one for one in connections)


def _answer(connection: socket.socket, header: bytes) -> str:
    try:
        data = connection.recv(4096)
        if header not in data:
            return RESET if data == b"" else NOBODY
        return data.split(header, 1)[1].split(b"\r\n", 1)[0].decode()
    except TimeoutError:
        return NOBODY
    except OSError:
        return RESET


def main() -> None:
    connections = open_(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    seen = b"X-Client: " if sys.argv[4:] == ["clients"] else b"X-Server: "
    print(json.dumps(ask(connections, seen)), flush=True)
    if sys.argv[4:] == ["keep"]:
        for _ in sys.stdin:
            print(json.dumps(ask(connections)), flush=True)


if __name__ == "__main__":
    main()
