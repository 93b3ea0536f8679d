"""A client of UDP services: ``python -m shoal.lab.datagrams ADDRESS PORT FLOWS [keep]``; the backend answers its name.

Sends a datagram from each of FLOWS sockets and prints, as JSON, how many each server answered (``""``: nobody within
`ANSWER_S`). With ``keep`` the sockets stay: each further line of input sends again, from all of them, and prints
``{"same": flows answered by the server of the first time, "moved": by another one, "lost": by none}``. With ``time``
FLOWS are questions one after another, first on one socket, then each on a new one; prints their round trips in us.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from collections import Counter

ANSWER_S = 1.0
AT_ONCE = 50
NOBODY = ""


def open_flows(address: str, port: int, count: int) -> list[socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flows = []
    for _ in range(count):
        flow = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        flow.connect((address, port))
        flows.append(flow)
    return flows


def ask(flows: list[socket.socket]) -> list[str]:
    """Who answers each, in their order."""
    found: dict[socket.socket, str] = {}
    for at in range(0, len(flows), AT_ONCE):
        found |= _ask(flows[at : at + AT_ONCE])
    return [found.get(flow, NOBODY) for flow in flows]


def _ask(flows: list[socket.socket]) -> dict[socket.socket, str]:
    found: dict[socket.socket, str] = {}
    with selectors.DefaultSelector() as waiting:
        for flow in flows:
            try:
                flow.send(b"who?")
            except OSError:  # the refusal of an earlier one
                continue
            waiting.register(flow, selectors.EVENT_READ, flow)
        end = time.monotonic() + ANSWER_S
        while waiting.get_map() and (left := end - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                flow = key.data
                waiting.unregister(flow)
                try:
                    found[flow] = flow.recv(2048).split(b" ", 1)[0].decode()
                except OSError:
                    found[flow] = NOBODY
    return found


def timed(address: str, port: int, count: int, flows: int) -> list[float]:
    """Round trips of ``count`` questions on each of ``flows`` sockets, one after another, in us; lost ones are left out."""
    trips = []
    for _ in range(flows):
        (flow,) = open_flows(address, port, 1)
        with flow:
            flow.settimeout(ANSWER_S)
            for _ in range(count):
                began = time.perf_counter()
                try:
                    flow.send(b"who?")
                    flow.recv(2048)
                except OSError:
                    continue
                trips.append((time.perf_counter() - began) * 1e6)
    return trips


def main() -> None:
    address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if sys.argv[4:] == ["time"]:
        print(json.dumps({"one_flow": timed(address, port, count, 1), "new_flows": timed(address, port, 1, count)}))
        return
    if sys.argv[4:] != ["keep"]:
        answers: Counter[str] = Counter()
        for at in range(0, count, AT_ONCE):
            flows = open_flows(address, port, min(AT_ONCE, count - at))
            answers += Counter(ask(flows))
            for flow in flows:
                flow.close()
        print(json.dumps(answers), flush=True)
        return
    flows = open_flows(address, port, count)
    first = ask(flows)
    print(json.dumps(Counter(first)), flush=True)
    for _ in sys.stdin:
        now = ask(flows)
        pairs = list(zip(first, now, strict=True))
        told = {
            "same": sum(a == b != NOBODY for a, b in pairs),
            "moved": sum(NOBODY not in (a, b) and a != b for a, b in pairs),
            "lost": sum(b == NOBODY for _, b in pairs),
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
