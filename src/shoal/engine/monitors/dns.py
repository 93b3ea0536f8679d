"""As much of DNS (RFC 1035) as a health monitor needs: a question, and a look at the answer. Pure."""

from __future__ import annotations

import ipaddress
import struct

import msgspec

from shoal.wire.monitors import DNS_RECORD_TYPES, DnsQuestion

A, AAAA, ANY = (DNS_RECORD_TYPES[f"DNS_RECORD_{name}"] for name in ("A", "AAAA", "ANY"))
RECURSION_DESIRED, RESPONSE = 0x0100, 0x8000
LABEL_OCTETS_MAX, NAME_OCTETS_MAX = 63, 255
_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")


class Answer(msgspec.Struct, frozen=True):
    code: int
    records: tuple[tuple[int, bytes], ...]
    """(type, data) of the answer section."""


def name_octets(name: str) -> bytes:
    """Raises ValueError."""
    labels = [label.encode("idna") if not label.isascii() else label.encode() for label in name.rstrip(".").split(".")]
    if name.strip(".") == "":
        return b"\0"
    found = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    if any(not 0 < len(label) <= LABEL_OCTETS_MAX for label in labels) or len(found) > NAME_OCTETS_MAX:
        raise ValueError(f"{name[:60]!r} is no domain name")
    return found


def query(number: int, question: DnsQuestion) -> bytes:
    """Raises ValueError, KeyError."""
    head = _HEADER.pack(number, RECURSION_DESIRED, 1, 0, 0, 0)
    return head + name_octets(question.name) + struct.pack("!HH", DNS_RECORD_TYPES[question.record_type], 1)


def parsed(data: bytes, number: int) -> Answer | None:
    """None when it is no answer to query ``number``, or broken."""
    try:
        own, flags, questions, answers, _, _ = _HEADER.unpack_from(data)
        if own != number or not flags & RESPONSE:
            return None
        at = _HEADER.size
        for _ in range(questions):
            at = _behind_name(data, at) + 4
        records = []
        for _ in range(answers):
            at = _behind_name(data, at)
            kind, _, _, size = _RECORD.unpack_from(data, at)
            at += _RECORD.size
            records.append((kind, data[at : at + size]))
            at += size
    except (struct.error, IndexError):
        return None
    return Answer(flags & 0xF, tuple(records))


def _behind_name(data: bytes, at: int) -> int:
    while (size := data[at]) != 0:
        if size & 0xC0:
            return at + 2
        at += 1 + size
    return at + 1


def judged(answer: Answer, question: DnsQuestion, wanted: str) -> str:
    """ "" when it is what the monitor wants, else why not. ``wanted`` must occur in a record (addresses as text)."""
    if question.code == "RCODE_NO_ERROR" and answer.code:
        return f"DNS answers with RCODE {answer.code}"
    asked = DNS_RECORD_TYPES[question.record_type]
    kinds = {kind for kind, _ in answer.records}
    if question.answer == "DNS_QUERY_TYPE" and asked != ANY and asked not in kinds:
        return f"DNS answers without a record of type {question.record_type.removeprefix('DNS_RECORD_')}"
    if question.answer in ("DNS_QUERY_TYPE", "DNS_ANY_TYPE") and not answer.records:
        return "DNS answers without any record"
    if wanted and not any(wanted in _text(kind, data) for kind, data in answer.records):
        return f"DNS answers without {wanted[:60]!r}"
    return ""


def _text(kind: int, data: bytes) -> str:
    if (kind, len(data)) in ((A, 4), (AAAA, 16)):
        return str(ipaddress.ip_address(data))
    return data.decode("latin-1")
