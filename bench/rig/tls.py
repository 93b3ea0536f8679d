"""TLS 1.3 load: ``python -m bench.rig.tls ADDRESS PORT SECONDS full|resumed CONNECTIONS``; prints one JSON object.

Each connection makes a handshake and one request. wrk does not tell whether it resumed a session; this does.
OpenSSL works without Python's lock, so a few threads keep a proxy of one core busy.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
import time

from .figures import percentile

REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
WITHIN_S = 5.0


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE  # the bench's own certificate
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    return made


class Client(threading.Thread):
    """One connection after another."""

    def __init__(self, address: str, port: int, until: float, resume: bool) -> None:
        super().__init__()
        self._to, self._until, self._resume = (address, port), until, resume
        self._context = context()
        self.took: list[float] = []
        self.resumed = 0
        self.error: Exception | None = None

    def run(self) -> None:
        session: ssl.SSLSession | None = None
        try:
            while time.monotonic() < self._until:
                session = self._one(session if self._resume else None)
        except (OSError, ValueError) as error:
            self.error = error

    def _one(self, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
        began = time.monotonic()
        with (
            socket.create_connection(self._to, WITHIN_S) as plain,
            self._context.wrap_socket(plain, session=session) as link,
        ):
            # As browsers and curl do; else the request waits until the handshake's last word is acknowledged.
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link.sendall(REQUEST)
            answer = b""
            while more := link.recv(4096):
                answer += more
            if b" 200 " not in answer[:16]:
                raise ValueError(answer[:80])
            self.took.append(time.monotonic() - began)
            self.resumed += bool(link.session_reused)
            return link.session  # the ticket came with the answer


def main(address: str, port: int, seconds: float, how: str, connections: int) -> None:
    began = time.monotonic()
    clients = [Client(address, port, began + seconds, how == "resumed") for _ in range(connections)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    elapsed = time.monotonic() - began
    for client in clients:
        if client.error is not None:
            raise client.error
    took = [seconds for client in clients for seconds in client.took]
    figures = {
        "requests": len(took),
        "rps": len(took) / elapsed,
        "p50_ms": round(percentile(took, 0.5) * 1000, 3),
        "p99_ms": round(percentile(took, 0.99) * 1000, 3),
        "resumed": sum(client.resumed for client in clients) / len(took),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
