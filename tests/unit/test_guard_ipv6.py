"""What the guard says and knows of IPv6: frames of neighbour discovery, flows, the names of tables."""

from __future__ import annotations

import socket
import struct

import pytest

from shoal.engine.guard import family, ndp, sockets
from shoal.engine.guard.nft import address_batch

MAC = bytes.fromhex("020000000001")
VIP = "fd00::1:2"
PACKED = socket.inet_pton(socket.AF_INET6, VIP)


def sum_of(frame: bytes) -> int:
    """0xffff for a right checksum (RFC 1071)."""
    data = frame[22:54] + struct.pack("!II", len(frame) - 54, 58) + frame[54:]
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_an_announcement_tells_all_nodes_and_overrides() -> None:
    (frame,) = ndp.announcements(VIP, MAC)
    assert frame[:14] == bytes.fromhex("333300000001") + MAC + b"\x86\xdd"
    assert (frame[20], frame[21]) == (58, 255)
    assert frame[22:38] == PACKED and frame[38:54] == socket.inet_pton(socket.AF_INET6, "ff02::1")
    assert (frame[54], frame[58:62].hex()) == (136, "20000000"), "override; neither solicited nor a router"
    assert frame[62:78] == PACKED and frame[78:] == b"\x02\x01" + MAC
    assert sum_of(frame) == 0xFFFF
    assert ndp.answer(frame) == (VIP, MAC.hex(":"))


def test_a_probe_asks_the_groups_of_the_address_from_the_interfaces_own() -> None:
    frame = ndp.probe("fd00::ab:cdef:1234", MAC)
    assert frame[:6].hex() == "3333ffef1234"
    assert socket.inet_ntop(socket.AF_INET6, frame[38:54]) == "ff02::1:ffef:1234"
    assert socket.inet_ntop(socket.AF_INET6, frame[22:38]) == "fe80::ff:fe00:1"
    assert frame[54] == 135 and frame[78:] == b"\x01\x01" + MAC
    assert sum_of(frame) == 0xFFFF
    assert ndp.answer(frame) is None


def test_an_answer_without_a_link_address_is_of_who_sent_it() -> None:
    (frame,) = ndp.announcements(VIP, MAC)
    assert ndp.answer(frame[:78]) == (VIP, MAC.hex(":"))


@pytest.mark.parametrize("cut", [0, 13, 14, 53, 54, 77])
def test_short_frames_are_no_answers(cut: int) -> None:
    (frame,) = ndp.announcements(VIP, MAC)
    assert ndp.answer(frame[:cut]) is None


def test_what_came_over_a_router_and_broken_options_say_nothing_else() -> None:
    (frame,) = ndp.announcements(VIP, MAC)
    assert ndp.answer(frame[:21] + b"\xfe" + frame[22:]) is None
    assert ndp.answer(frame[:78] + b"\x02\x00" + MAC) == (VIP, MAC.hex(":"))
    assert ndp.answer(frame[:78] + b"\x05\x01" + bytes(6) + b"\x02\x01" + b"\x06" * 6) == (VIP, "06:06:06:06:06:06")


def test_addresses_go_to_the_sets_of_their_families() -> None:
    assert family.parted("vips", ["10.0.0.1", VIP]) == {"vips": ["10.0.0.1"], "vips6": [VIP]}
    text = address_batch("vips", ["10.0.0.1"], [VIP])
    assert text == f"delete element netdev shoal vips {{ 10.0.0.1 }}\nadd element netdev shoal vips6 {{ {VIP} }}\n"


def test_sockets_of_ipv6_have_long_addresses() -> None:
    client = socket.inet_pton(socket.AF_INET6, "fd00::9")
    head = struct.pack("=IHHII", 16 + 72, 20, 2, 1, 1) + bytes([socket.AF_INET6, 1, 0, 0])
    data = head + struct.pack("!HH", 80, 40000) + PACKED + client
    assert sockets.parsed(data.ljust(88, b"\0")) == ([(client, 40000, 80)], False)
    assert sockets.request(VIP)[16] == socket.AF_INET6 and PACKED in sockets.request(VIP)
