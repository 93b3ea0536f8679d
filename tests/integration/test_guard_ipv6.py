"""What IPv6 does otherwise than IPv4: addresses without labels, that a kernel drops and prefers by rules of its own;
fragments behind an extension header."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.guard_lab import CLIENT6, VIP6, Lab, lab, run, shares, wait, wait_for_spread

pytestmark = pytest.mark.root

# Two fragments of a TCP segment of port 80, the first 8 bytes long.
FRAGMENTS = """
import socket, struct, sys
client, vip, mac = socket.inet_pton(socket.AF_INET6, sys.argv[2]), sys.argv[1], bytes.fromhex(sys.argv[3].replace(":", ""))
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0x86dd))
for offset, more in ((0, 1), (8, 0)):
    body = struct.pack("!BBHI", 6, 0, offset | more, 7) + struct.pack("!HHI", 4000, 80, 1)
    ip = struct.pack("!IHBB", 0x60000000, len(body), 44, 64) + client + socket.inet_pton(socket.AF_INET6, vip)
    s.send(mac + s.getsockname()[4] + b"\\x86\\xdd" + ip + body)
"""


@pytest.fixture
def guards(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as value:
        value.vip = VIP6
        yield value


def fragments_of(guards: Lab, name: str) -> int:
    text = run("ip", "netns", "exec", guards.engines[name].namespace, "cat", "/proc/net/snmp6")
    found = re.search(r"Ip6ReasmReqds\s+(\d+)", text)
    assert found
    return int(found[1])


def on_eth0(guards: Lab, name: str) -> bool:
    return VIP6 in run("ip", "-n", guards.engines[name].namespace, "-6", "addr", "show", "dev", "eth0")


def test_fragments_go_to_every_member(guards: Lab) -> None:
    names = ("a", "b", "c")
    guards.start(members=names)
    a = guards.engines["a"]
    wait_for_spread(a, names)
    guards.in_client(FRAGMENTS, VIP6, CLIENT6, a.mac)
    for name in names:
        wait(lambda name=name: fragments_of(guards, name) == 2)  # type: ignore[misc]


def test_a_vip_is_no_source_of_its_engines_own_and_outlives_its_interfaces_sleep(guards: Lab) -> None:
    guards.start(succession=())
    a = guards.engines["a"]
    assert on_eth0(guards, "a")
    assert "src fd99::21" in run("ip", "-n", a.namespace, "route", "get", CLIENT6)
    run("ip", "-n", a.namespace, "link", "set", "eth0", "down")
    run("ip", "-n", a.namespace, "link", "set", "eth0", "up")
    wait(lambda: a.owns and on_eth0(guards, "a"))
    assert shares(guards, 20) == {"a": 20}


def test_what_a_killed_guard_left_is_taken_away_by_the_next(guards: Lab) -> None:
    guards.start()
    a = guards.engines["a"]
    a.processes["guard"].kill()
    a.processes["guard"].wait()
    wait(lambda: guards.engines["b"].owns)
    assert on_eth0(guards, "a"), "nobody was there to do it"
    a.start_guard()
    assert not on_eth0(guards, "a")
    assert VIP6 in run("ip", "-n", a.namespace, "-6", "addr", "show", "dev", "lo"), "where it does no harm"
    assert "fd99::21" in run("ip", "-n", a.namespace, "-6", "addr", "show", "dev", "eth0"), "not ours to take"
