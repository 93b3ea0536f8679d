"""RADIUS (RFC 2865): a user must be accepted."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct

from shoal.wire.monitors import Monitor, Shared

from .connection import Wrong

REQUEST, ACCEPT, REJECT, CHALLENGE = 1, 2, 3, 11
USER_NAME, USER_PASSWORD, NAS_IDENTIFIER, MESSAGE_AUTHENTICATOR = 1, 2, 32, 80
SAID = {REJECT: "the user is rejected", CHALLENGE: "the server asks back"}
BLOCK = 16
TEXT_OCTETS_MAX = 128
_HEAD = struct.Struct("!BBH")


def request(monitor: Monitor) -> bytes:
    """With a Message-Authenticator (RFC 3579), which servers may insist on. Raises Wrong."""
    if not isinstance(monitor.asks, Shared):
        raise Wrong("the monitor has no shared_secret")
    key, authenticator, number = monitor.asks.secret.encode(), secrets.token_bytes(BLOCK), secrets.randbelow(256)
    attributes = (
        _attribute(USER_NAME, monitor.user.encode()[:TEXT_OCTETS_MAX])
        + _attribute(USER_PASSWORD, _hidden(monitor.password.encode()[:TEXT_OCTETS_MAX], key, authenticator))
        + _attribute(NAS_IDENTIFIER, b"shoal")
    )
    size = _HEAD.size + BLOCK + len(attributes) + 2 + BLOCK
    head = _HEAD.pack(REQUEST, number, size) + authenticator + attributes
    sign = hmac.new(key, head + _attribute(MESSAGE_AUTHENTICATOR, bytes(BLOCK)), hashlib.md5).digest()
    return head + _attribute(MESSAGE_AUTHENTICATOR, sign)


def accepted(asked: bytes, answer: bytes, monitor: Monitor) -> bool:
    """False when it is no answer to the request, or not from one who knows the secret. Raises Wrong for a refusal."""
    if not isinstance(monitor.asks, Shared) or len(answer) < _HEAD.size + BLOCK or answer[1] != asked[1]:
        return False
    size = _HEAD.unpack_from(answer)[2]
    if not _HEAD.size + BLOCK <= size <= len(answer):
        return False
    answer, begin = answer[:size], _HEAD.size + BLOCK
    known = answer[: _HEAD.size] + asked[_HEAD.size : begin] + answer[begin:] + monitor.asks.secret.encode()
    if not hmac.compare_digest(hashlib.md5(known).digest(), answer[_HEAD.size : begin]):
        return False
    if answer[0] != ACCEPT:
        raise Wrong(SAID.get(answer[0], f"the server answers with code {answer[0]}"))
    return True


def _attribute(kind: int, value: bytes) -> bytes:
    return bytes([kind, len(value) + 2]) + value


def _hidden(password: bytes, key: bytes, authenticator: bytes) -> bytes:
    """RFC 2865, 5.2."""
    padded = password + bytes(-len(password) % BLOCK or (BLOCK if not password else 0))
    found, before = b"", authenticator
    for at in range(0, len(padded), BLOCK):
        mask = hashlib.md5(key + before).digest()
        before = bytes(a ^ b for a, b in zip(padded[at : at + BLOCK], mask, strict=True))
        found += before
    return found
