"""Replies by way of the primary: the client sees one MAC only, and connections live on as in direct mode."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.guard_lab import (
    CLIENT,
    VIP,
    VIP6,
    Lab,
    LabEngine,
    LongConnections,
    lab,
    run,
    wait,
    wait_for_spread,
)

pytestmark = pytest.mark.root

NAMES = ("a", "b", "c")
COUNT = 150

# Prints the source MAC of TCP frames from the VIP whenever it is another one than that of the frame before.
SOURCES = """
import socket, sys
six = ":" in sys.argv[1]
vip = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, sys.argv[1])
kind, at, next_at = (0x86dd, 22, 20) if six else (0x0800, 26, 23)
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind)); s.bind(("eth0", kind))
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
print("ready", flush=True)
last = b""
while True:
    data = s.recv(64)
    if data[at:at + len(vip)] == vip and data[next_at] == 6 and data[6:12] != last:
        last = data[6:12]; print(last.hex(":"), flush=True)
"""


@pytest.fixture
def guards(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, NAMES) as value:
        yield value


class Sources:
    """The MACs that send TCP packets from the VIP to the client, in order."""

    def __init__(self, guards: Lab) -> None:
        self._file = guards.directory / "sources"
        command = ["ip", "netns", "exec", guards.client, sys.executable, "-c", SOURCES, guards.vip]
        with self._file.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, start_new_session=True)
        wait(lambda: "ready" in self._file.read_text())

    def seen(self) -> list[str]:
        return self._file.read_text().split()[1:]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(params=[VIP, VIP6])
def either_family(request: pytest.FixtureRequest, guards: Lab) -> None:
    guards.vip = request.param


@pytest.fixture
def sources(guards: Lab) -> Iterator[Sources]:
    value = Sources(guards)
    yield value
    value.close()


@pytest.mark.usefixtures("either_family")
def test_only_the_primary_speaks_to_the_client_and_connections_live_on(guards: Lab, sources: Sources) -> None:
    guards.return_through_primary = True
    guards.start()
    a, b, c = (guards.engines[n] for n in NAMES)
    version = 1
    for members, draining in ((NAMES[:1], ()), (NAMES[:2], ()), (NAMES, ()), (NAMES[:2], NAMES[2:])):
        version += 1
        guards.tell(members=members, draining=draining, list_version=version)
        wait_for_spread(a, members)
        held = LongConnections(guards, COUNT)
        assert set(held.homes) == set(members)
        assert held.alive() == COUNT, members
        if draining:
            break
        held.close()
    assert sources.seen() == [a.mac]
    guards.tell(generation=2, owner="b", members=("b", "c"), draining=("a",), succession=("c",), list_version=7)
    wait(lambda: b.owns and not a.owns)
    assert held.alive() == COUNT, "migrated"
    assert sources.seen() == [a.mac, b.mac]
    held.close()
    held = LongConnections(guards, COUNT)
    assert set(held.homes) == {"b", "c"}
    b.kill()
    wait(lambda: c.owns)
    assert held.alive_by_home() == Counter(c=held.homes["c"]), "only what lived on the primary breaks"
    assert sources.seen() == [a.mac, b.mac, c.mac]
    held.close()


def test_a_secondary_follows_the_next_primary_at_once(guards: Lab, sources: Sources) -> None:
    guards.return_through_primary = True
    guards.start(members=NAMES, succession=NAMES[1:])
    a, b, c = (guards.engines[n] for n in NAMES)
    wait_for_spread(a, NAMES)
    held = LongConnections(guards, COUNT)
    a.kill()
    claimed = wait(lambda: b.owns)
    followed = wait(lambda: b.mac in json.dumps(c.nft("map netdev shoal_returns primaries")))
    assert followed - claimed < 0.2
    assert held.alive_by_home() == Counter({n: held.homes[n] for n in ("b", "c")})
    assert sources.seen() == [a.mac, b.mac]
    held.close()


def test_a_guard_that_is_killed_alone_leaves_the_way_of_replies(guards: Lab, sources: Sources) -> None:
    guards.return_through_primary = True
    guards.start(members=NAMES, succession=NAMES[1:])
    a, c = guards.engines["a"], guards.engines["c"]
    wait_for_spread(a, NAMES)
    held = LongConnections(guards, COUNT)
    c.processes["guard"].kill()
    c.processes["guard"].wait()
    wait_for_spread(a, ("a", "b"))
    assert has_table(c)
    c.start_guard()
    guards.tell(members=NAMES, succession=NAMES[1:])
    wait_for_spread(a, NAMES)
    assert held.alive() == COUNT
    assert sources.seen() == [a.mac]
    held.close()


def test_the_mode_changes_under_connections(guards: Lab, sources: Sources) -> None:
    guards.start(members=NAMES, succession=NAMES[1:])
    a = guards.engines["a"]
    wait_for_spread(a, NAMES)
    held = LongConnections(guards, COUNT)
    assert held.alive() == COUNT
    assert set(sources.seen()) == {e.mac for e in guards.engines.values()}, "direct"
    guards.return_through_primary = True
    guards.tell(members=NAMES, succession=NAMES[1:])
    wait(lambda: all(has_table(e) for e in guards.engines.values()))
    direct = len(sources.seen())
    assert held.alive() == COUNT
    assert set(sources.seen()[direct - 1 :]) <= {sources.seen()[direct - 1], a.mac}
    assert len(sources.seen()) <= direct + 1
    guards.return_through_primary = False
    guards.tell(members=NAMES, succession=NAMES[1:])
    wait(lambda: not any(has_table(e) for e in guards.engines.values()))
    assert held.alive() == COUNT
    held.close()


def test_clients_beyond_the_gateway_get_their_replies_by_it(guards: Lab, sources: Sources) -> None:
    """The client is the gateway here, and speaks from an address of another network."""
    far = "192.0.2.7"
    run("ip", "-n", guards.client, "addr", "add", f"{far}/32", "dev", "lo")
    run("ip", "-n", guards.client, "route", "add", f"{VIP}/32", "dev", "eth0", "src", far)
    for engine in guards.engines.values():
        run("ip", "-n", engine.namespace, "route", "add", "default", "via", CLIENT)
    guards.return_through_primary, guards.gateway = True, CLIENT
    guards.start(members=NAMES, succession=NAMES[1:])
    wait_for_spread(guards.engines["a"], NAMES)
    held = LongConnections(guards, COUNT)
    assert set(held.homes) == set(NAMES)
    assert held.alive() == COUNT
    assert sources.seen() == [guards.engines["a"].mac]
    held.close()


def has_table(engine: LabEngine) -> bool:
    return "shoal_returns" in run("ip", "netns", "exec", engine.namespace, "nft", "list", "tables")
