"""What a client sees: ``python -m bench.rig.watch ADDRESS PORT plain|tls``; one connection after another, a line each.

A line is the monotonic time at which the answer was there, and what it said: the server's name and the address it was
asked from (the engine's); with ``tls`` the certificate's digest; ``-`` when there was no good answer.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import sys
import time

from .tls import context

CONNECT_WITHIN_S = 0.02
ANSWER_WITHIN_S = 1.0
PAUSE_S = 0.002
REQUEST = b"GET / HTTP/1.0\r\n\r\n"


def answer(to: tuple[str, int]) -> str:
    with socket.create_connection(to, timeout=CONNECT_WITHIN_S) as link:
        link.settimeout(ANSWER_WITHIN_S)
        link.sendall(REQUEST)
        found = b""
        while more := link.recv(4096):
            found += more
    head, _, body = found.partition(b"\r\n\r\n")
    return " ".join(body.decode(errors="replace").split()[:2]) if b" 200 " in head[:16] else "-"


def certificate(to: tuple[str, int], tls: ssl.SSLContext) -> str:
    with socket.create_connection(to, timeout=CONNECT_WITHIN_S) as plain:
        plain.settimeout(ANSWER_WITHIN_S)
        with tls.wrap_socket(plain) as link:
            return hashlib.sha256(link.getpeercert(binary_form=True) or b"").hexdigest()[:12]


def main(address: str, port: int, how: str) -> None:
    tls = context()
    while True:
        try:
            said = certificate((address, port), tls) if how == "tls" else answer((address, port))
        except OSError:
            said = "-"
        print(time.monotonic(), said, flush=True)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
