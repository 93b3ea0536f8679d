"""When an address first answers 200: ``python -m shoal.lab.first ADDRESS PORT``; prints the monotonic time."""

from __future__ import annotations

import socket
import sys
import time

CONNECT_WITHIN_S = 0.02
GIVE_UP_AFTER_S = 20.0


def first(address: str, port: int) -> float:
    """Tries without pause. Returns NaN when it gives up."""
    deadline = time.monotonic() + GIVE_UP_AFTER_S
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((address, port), timeout=CONNECT_WITHIN_S) as link:
                link.settimeout(1.0)
                link.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if b" 200 " in link.recv(64):
                    return time.monotonic()
        except OSError:
            time.sleep(0.001)
    return float("nan")


if __name__ == "__main__":
    print("ready", flush=True)
    for line in sys.stdin.buffer if len(sys.argv) < 3 else [" ".join(sys.argv[1:]).encode()]:
        host, number = line.split()
        print(first(host.decode(), int(number)), flush=True)
