"""The filter is tried in the kernel itself: attached to a socket pair, where it sees what is sent as a frame."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from shoal.controller.capture.captures import INSTRUCTIONS_MAX as LARGEST
from shoal.controller.capture.captures import cost
from shoal.controller.capture.wish import NETWORKS_MAX
from shoal.engine.capture.bpf import INSTRUCTIONS_MAX, TooMany, program
from shoal.observe.frames import attach
from shoal.wire.capture import Endpoint, Selection

VIP, CLIENT, OTHER, SERVER = "10.0.0.1", "192.0.2.7", "198.51.100.9", "10.0.1.5"
VIP6, CLIENT6 = "2001:db8::1", "2001:db8:1::7"
TCP, UDP, ICMP = 6, 17, 1
SYN, ACK = 0x02, 0x10
ENDPOINTS = (Endpoint(VIP, 80, 90), Endpoint(VIP6, 443, 443), Endpoint(SERVER, 8080, 8080))


def frame(
    source: str,
    destination: str,
    ports: tuple[int, int] = (40000, 80),
    protocol: int = TCP,
    flags: int = ACK,
    fragment: int = 0,
    options: int = 0,
) -> bytes:
    """``options``: words of IPv4 options."""
    ends = ip_address(source).packed + ip_address(destination).packed
    transport = struct.pack("!HHIIBBHHH", *ports, 0, 0, 0x50, flags, 0, 0, 0)
    if len(ends) == 8:
        head = struct.pack("!BBHHHBBH", 0x45 + options, 0, 40, 0, fragment, 64, protocol, 0)
        return bytes(12) + b"\x08\x00" + head + ends + bytes(4 * options) + transport
    return bytes(12) + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, 20, protocol, 64) + ends + transport


class Kernel:
    def __init__(self, selection: Selection, snap: int = 0) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.far.setblocking(False)
        attach(self.far, program(selection, snap))

    def takes(self, data: bytes) -> int:
        """How many bytes of the frame."""
        self.near.send(data)
        try:
            return len(self.far.recv(70_000))
        except BlockingIOError:
            return 0

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def kernels() -> Iterator[list[Kernel]]:
    made: list[Kernel] = []
    yield made
    for kernel in made:
        kernel.close()


@pytest.mark.parametrize(
    ("more", "data", "taken"),
    [
        ({}, frame(CLIENT, VIP), True),
        ({}, frame(VIP, CLIENT, (80, 40000)), True),
        ({}, frame(CLIENT, VIP, (40000, 90)), True),
        ({}, frame(CLIENT, VIP, (40000, 91)), False),
        ({}, frame(CLIENT, VIP, (80, 40000)), False),
        ({}, frame(CLIENT, OTHER), False),
        ({}, frame(CLIENT, VIP, protocol=UDP), True),
        ({}, frame(CLIENT, VIP, protocol=ICMP), False),
        ({}, frame(CLIENT, VIP, fragment=0x2000), True),
        ({}, frame(CLIENT, VIP, fragment=185), False),
        ({}, frame(CLIENT, VIP, options=3), True),
        ({}, frame(CLIENT, VIP, (40000, 22), options=3), False),
        ({}, frame(CLIENT, SERVER, (40000, 8080)), True),
        ({}, frame(CLIENT6, VIP6, (40000, 443)), True),
        ({}, frame(VIP6, CLIENT6, (443, 40000)), True),
        ({}, frame(CLIENT6, VIP6, (40000, 80)), False),
        ({}, frame(CLIENT6, "2001:db8::2", (40000, 443)), False),
        ({}, b"\x00" * 12 + b"\x08\x06" + bytes(28), False),
        ({}, b"\x00" * 12 + b"\x08\x00", False),
        ({"hosts": (f"{CLIENT}/32",)}, frame(CLIENT, VIP), True),
        ({"hosts": (f"{CLIENT}/32",)}, frame(OTHER, VIP), False),
        ({"hosts": ("192.0.2.0/24", "198.51.100.0/25")}, frame(VIP, OTHER, (80, 40000)), True),
        ({"hosts": ("0.0.0.0/0",)}, frame(OTHER, VIP), True),
        ({"hosts": ("192.0.2.0/24",)}, frame(CLIENT6, VIP6, (40000, 443)), False),
        ({"hosts": ("2001:db8:1::/48",)}, frame(CLIENT6, VIP6, (40000, 443)), True),
        ({"hosts": ("2001:db8:2::/48",)}, frame(CLIENT6, VIP6, (40000, 443)), False),
        ({"hosts": ("2001:db8:1::/50",)}, frame("2001:db8:1:4000::7", VIP6, (40000, 443)), False),
        ({"but_hosts": (f"{CLIENT}/32",)}, frame(CLIENT, VIP), False),
        ({"but_hosts": (f"{CLIENT}/32",)}, frame(VIP, CLIENT, (80, 40000)), False),
        ({"but_hosts": (f"{CLIENT}/32",)}, frame(OTHER, VIP), True),
        ({"source_ports": (40000, 40000)}, frame(CLIENT, VIP), True),
        ({"source_ports": (40001, 40009)}, frame(CLIENT, VIP), False),
        ({"source_ports": (40001, 40009)}, frame(CLIENT, VIP, (40009, 80)), True),
        ({"destination_ports": (80, 80)}, frame(VIP, CLIENT, (80, 40000)), False),
        ({"flags": SYN}, frame(CLIENT, VIP), False),
        ({"flags": SYN}, frame(CLIENT, VIP, flags=SYN | ACK), True),
        ({"flags": SYN}, frame(CLIENT, VIP, flags=SYN, options=5), True),
        ({"flags": SYN}, frame(CLIENT6, VIP6, (40000, 443), flags=SYN), True),
        ({"flags": SYN}, frame(CLIENT6, VIP6, (40000, 443)), False),
        ({"flags": SYN}, frame(CLIENT, VIP, protocol=UDP, flags=SYN), False),
    ],
)
def test_what_the_kernel_takes(
    kernels: list[Kernel], more: dict[str, tuple[str, ...]], data: bytes, taken: bool
) -> None:
    kernels.append(Kernel(Selection(endpoints=ENDPOINTS, **more)))  # type: ignore[arg-type]
    assert kernels[0].takes(data) == (len(data) if taken else 0)


def test_so_much_of_a_packet(kernels: list[Kernel]) -> None:
    kernels += [Kernel(Selection(endpoints=ENDPOINTS), 64), Kernel(Selection(endpoints=ENDPOINTS))]
    data = frame(CLIENT, VIP) + bytes(60_000)
    assert [kernel.takes(data) for kernel in kernels] == [64, len(data)]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("ports", [1, 9])
def test_the_largest_that_the_controller_lets_through_fits_and_works(
    kernels: list[Kernel], version: int, ports: int
) -> None:
    client, base, hosts = (CLIENT, "200.1.0.0", "192.0.2.7/30") if version == 4 else (CLIENT6, "2001:db8:9::", "::/1")
    many: list[Endpoint] = []
    while cost(many) <= LARGEST:
        first = 1000 + 10 * (len(many) % ports)
        many.append(Endpoint(str(ip_address(base) + len(many)), first, first + 5))
    many.pop()
    whole = Selection(endpoints=tuple(many), hosts=(hosts,) * NETWORKS_MAX, source_ports=(40000, 40009), flags=SYN)
    kernels.append(Kernel(whole))
    assert len(program(whole, 0)) <= INSTRUCTIONS_MAX
    for end in many:
        assert kernels[0].takes(frame(client, end.address, (40000, end.port_end), flags=SYN))
        assert not kernels[0].takes(frame(client, end.address, (40000, end.port_end + 1), flags=SYN))
    outside = str(ip_address(base) + len(many))
    assert not kernels[0].takes(frame(client, outside, (40000, 1000), flags=SYN))


def test_one_that_is_too_large_is_refused() -> None:
    with pytest.raises(TooMany):
        program(Selection(endpoints=tuple(Endpoint(f"10.1.{n // 200}.{n % 200}", 1, 1) for n in range(600))), 0)
