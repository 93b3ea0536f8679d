"""Established connections through every change of who serves a VIP: they stay where they live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.guard_lab import (
    CLIENT,
    CLIENT6,
    VIP,
    VIP6,
    Lab,
    LongConnections,
    lab,
    run,
    shares,
    wait,
    wait_for_spread,
)

pytestmark = pytest.mark.root

NAMES = ("a", "b", "c", "d")
COUNT = 200

# Opens connections until one lives on the wanted engine, then sends an ICMP "fragmentation needed" about it.
ICMP_ABOUT_A_CONNECTION = """
import socket, struct, sys
vip, wanted, mtu = sys.argv[1], sys.argv[2], int(sys.argv[3])
seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)); seen.bind(("eth0", 0))
while True:
    s = socket.create_connection((vip, 80), timeout=2)
    if s.recv(20).decode() == wanted: break
own, port = s.getsockname()
seen.settimeout(2)
s.sendall(b"x"); s.recv(20)
while True:
    frame = seen.recv(2000)
    ip = frame[14:]
    size = (ip[0] & 15) * 4
    ports = struct.unpack("!HH", ip[size:size + 4])
    if ip[9] == 6 and ip[12:16] == socket.inet_aton(vip) and ports == (80, port) and ip[size + 13] & 8: break
(total,), (sequence,) = struct.unpack("!H", ip[2:4]), struct.unpack("!I", ip[size + 4:size + 8])
sent = total - size - (ip[size + 12] >> 4) * 4
inner = ip[:size] + ip[size:size + 4] + struct.pack("!I", (sequence + sent) & 0xffffffff)  # what it would send next
def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
body = struct.pack("!HH", 0, mtu) + inner
icmp = struct.pack("!BBH", 3, 4, checksum(struct.pack("!BBH", 3, 4, 0) + body)) + body
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
raw.sendto(icmp, (vip, 0))
s.sendall(b"x"); s.recv(20)
"""

# The same with ICMPv6 "packet too big".
ICMP6_ABOUT_A_CONNECTION = """
import socket, struct, sys
vip, wanted, mtu = sys.argv[1], sys.argv[2], int(sys.argv[3])
seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86dd)); seen.bind(("eth0", 0))
while True:
    s = socket.create_connection((vip, 80), timeout=2)
    if s.recv(20).decode() == wanted: break
port = s.getsockname()[1]
seen.settimeout(2)
s.sendall(b"x"); s.recv(20)
while True:
    ip = seen.recv(2000)[14:]
    ports = struct.unpack("!HH", ip[40:44])
    if ip[6] == 6 and ip[8:24] == socket.inet_pton(socket.AF_INET6, vip) and ports == (80, port) and ip[53] & 8: break
(length,), (sequence,) = struct.unpack("!H", ip[4:6]), struct.unpack("!I", ip[44:48])
sent = length - (ip[52] >> 4) * 4
inner = ip[:44] + struct.pack("!I", (sequence + sent) & 0xffffffff)  # what it would send next
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)  # the kernel does the checksum
raw.sendto(struct.pack("!BBHI", 2, 0, 0, mtu) + inner, (vip, 0))
s.sendall(b"x"); s.recv(20)
"""


@pytest.fixture
def guards(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, NAMES) as value:
        yield value


@pytest.mark.parametrize("vip", [VIP, VIP6])
def test_all_connections_survive_scaling_migration_and_switchover(guards: Lab, vip: str) -> None:
    guards.vip = vip
    guards.start()
    a, b = guards.engines["a"], guards.engines["b"]
    held = LongConnections(guards, COUNT)
    assert held.homes == Counter(a=COUNT)
    version = 1
    for members, draining in ((NAMES[:2], ()), (NAMES[:3], ()), (NAMES, ()), (NAMES[:2], NAMES[2:])):
        version += 1
        guards.tell(members=members, draining=draining, list_version=version)
        wait_for_spread(a, members)
        assert held.alive() == COUNT, members
        held.close()
        held = LongConnections(guards, COUNT)
        assert set(held.homes) == set(members)
    guards.tell(members=("a",), draining=("b",), list_version=6)
    wait_for_spread(a, ("a",))
    assert held.alive() == COUNT
    guards.tell(generation=2, owner="b", members=("b", "c"), draining=("a",), succession=("c",), list_version=7)
    wait(lambda: b.owns and not a.owns)
    assert held.alive() == COUNT, "migrated: flows of both engines, known to neither a table nor a bucket"
    guards.tell(generation=3, owner="c", members=("c", "b"), draining=("a",), succession=("b",), list_version=8)
    wait(lambda: guards.engines["c"].owns and not b.owns)
    assert held.alive() == COUNT, "switched over"
    held.close()


@pytest.mark.parametrize("vip", [VIP, VIP6])
def test_only_what_lived_on_a_killed_owner_breaks(guards: Lab, vip: str) -> None:
    guards.vip = vip
    guards.start(members=NAMES, succession=("b", "c", "d"))
    a, b = guards.engines["a"], guards.engines["b"]
    wait_for_spread(a, NAMES)
    held = LongConnections(guards, COUNT)
    guards.tell(members=("a", "b", "d"), draining=("c",), list_version=2)  # buckets alone would lead astray now
    wait_for_spread(a, ("a", "b", "d"))
    a.kill()
    wait(lambda: b.owns)
    expected = Counter({name: held.homes[name] for name in ("b", "c", "d")})
    assert held.alive_by_home() == expected
    log = b.directory / "guard.log"
    wait(lambda: "flows known" in log.read_text())
    assert held.alive_by_home() == expected, "and when the asking is over"
    assert f"{expected.total()} flows known" in log.read_text()
    held.close()


def test_a_full_table_degrades_to_buckets(guards: Lab) -> None:
    guards.flows_max = 64
    guards.start(members=NAMES[:2])
    wait_for_spread(guards.engines["a"], NAMES[:2])
    held = LongConnections(guards, COUNT)
    assert set(held.homes) == {"a", "b"}
    assert held.alive() == COUNT
    count = shares(guards, 300)
    assert min(count.values()) > 60, count
    assert held.alive() == COUNT
    held.close()


def test_an_icmp_error_reaches_the_engine_that_has_the_connection(guards: Lab) -> None:
    guards.start(members=NAMES[:3])
    wait_for_spread(guards.engines["a"], NAMES[:3])
    guards.in_client(ICMP_ABOUT_A_CONNECTION, VIP, "c", "1000")
    c = guards.engines["c"]
    wait(lambda: "mtu 1000" in run("ip", "-n", c.namespace, "route", "get", CLIENT))


def test_an_icmpv6_error_reaches_the_engine_that_has_the_connection(guards: Lab) -> None:
    guards.vip = VIP6
    guards.start(members=NAMES[:3])
    wait_for_spread(guards.engines["a"], NAMES[:3])
    guards.in_client(ICMP6_ABOUT_A_CONNECTION, VIP6, "c", "1300")
    c = guards.engines["c"]
    wait(lambda: "mtu 1300" in run("ip", "-n", c.namespace, "route", "get", CLIENT6))


def test_a_connection_nobody_has_is_reset_once_the_asking_is_over(guards: Lab) -> None:
    """A client whose engine has died is told, and does not wait for its own time-out."""
    guards.start(members=NAMES[:2], succession=("b",))
    a, b = guards.engines["a"], guards.engines["b"]
    wait_for_spread(a, NAMES[:2])
    held = LongConnections(guards, COUNT)
    a.kill()
    wait(lambda: b.owns)
    assert held.alive_by_home() == Counter(b=held.homes["b"])
    before = established(guards)
    wait(lambda: established(guards) <= held.homes["b"], 5.0)
    assert before >= held.homes["b"]
    held.close()


def established(guards: Lab) -> int:
    return run("ip", "netns", "exec", guards.client, "ss", "-Htn", "state", "established", "dst", VIP).count("\n")
