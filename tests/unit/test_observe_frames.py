"""The frames that guards and the prober speak, and what is read from those of others."""

from __future__ import annotations

import socket
import struct

from hypothesis import given
from hypothesis import strategies as some

from shoal.observe import frames
from shoal.observe.frames import ACK, ARP, BROADCAST, RST, SYN, announcements, answer, question, said, segment

MAC = bytes.fromhex("020000000001")
CLIENT = ("10.0.0.1", 61440)
VIP = ("10.0.0.9", 80)


def test_announcements_are_a_request_and_a_reply_about_the_sender() -> None:
    for data, operation in zip(announcements("10.0.0.9", MAC), (1, 2), strict=True):
        to, source, kind, _, _, _, _, op, sender, address, _, target = ARP.unpack(data)
        assert (to, source, kind, op, sender) == (BROADCAST, MAC, 0x0806, operation, MAC)
        assert address == target == socket.inet_aton("10.0.0.9")
        assert said(data) == ("10.0.0.9", MAC.hex(":"), "")


def test_a_question_has_no_sender_address_and_says_nothing() -> None:
    data = question("10.0.0.9", MAC)
    assert ARP.unpack(data)[9] == bytes(4)
    assert said(data) is None


def test_a_reply_to_one_neighbour_is_told_from_an_announcement() -> None:
    reply = frames.arp(bytes.fromhex("020000000002"), MAC, frames.REPLY, "10.0.0.9", MAC, "10.0.0.1")
    assert said(reply) == ("10.0.0.9", MAC.hex(":"), "02:00:00:00:00:02")
    assert said(reply + bytes(18)) == said(reply)
    assert said(reply[:30]) is None


def test_a_neighbours_question_about_another_says_nothing() -> None:
    assert said(frames.arp(BROADCAST, MAC, frames.REQUEST, "10.0.0.1", frames.NOBODY, "10.0.0.9")) is None


def test_a_question_for_an_address_is_answered_to_the_asker_alone() -> None:
    asker = bytes.fromhex("020000000002")
    asked = frames.arp(BROADCAST, asker, frames.REQUEST, "10.0.0.9", frames.NOBODY, "10.0.0.1")
    reply = frames.reply(asked, "10.0.0.1", MAC)
    assert reply is not None and said(reply) == ("10.0.0.1", MAC.hex(":"), asker.hex(":"))
    assert frames.reply(asked, "10.0.0.3", MAC) is None and frames.reply(asked[:20], "10.0.0.1", MAC) is None
    assert frames.reply(reply, "10.0.0.9", MAC) is None


def test_a_segment_is_one_that_a_kernel_takes() -> None:
    data = BROADCAST + segment(MAC, CLIENT, VIP, 7, SYN)
    ip, tcp = data[14:34], data[34:]
    assert _sum(ip) == 0xFFFF
    pseudo = ip[12:20] + struct.pack("!HH", 6, len(tcp))
    assert _sum(pseudo + tcp) == 0xFFFF
    assert struct.unpack("!HHI", tcp[:8]) == (CLIENT[1], VIP[1], 7)


def test_answers_to_a_segment() -> None:
    def from_vip(flags: int) -> bytes:
        return BROADCAST + segment(MAC, VIP, CLIENT, 1, flags)

    assert answer(from_vip(SYN | ACK)) == (VIP[0], CLIENT[1], MAC.hex(":"), True)
    assert answer(from_vip(RST | ACK)) == (VIP[0], CLIENT[1], MAC.hex(":"), False)
    assert answer(from_vip(ACK)) is None


@given(some.binary(max_size=80))
def test_nonsense_is_no_answer(data: bytes) -> None:
    said(data)
    answer(data)
    said(data[:12] + b"\x08\x06" + data)
    answer(data[:12] + b"\x08\x00\x45" + data)


def _sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return (total & 0xFFFF) + (total >> 16)
