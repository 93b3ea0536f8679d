"""A file that only its passphrase opens, and that is whole or refused.

``SHOALBK1``, 16 bytes of salt, 7 of nonce, then pieces: four bytes of length and that much of AES-256-GCM (NIST SP
800-38D). A piece's nonce ends in its number and in whether it is the last (the STREAM construction: Hoang, Reyhanitabar,
Rogaway, Vizár, CRYPTO 2015), so pieces can't be swapped, left out or cut off. The key is scrypt's (`passphrase`).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shoal.controller import passphrase
from shoal.errors import Invalid

MAGIC = b"SHOALBK1"
NONCE_BYTES = 7
PIECE_BYTES = 1_000_000
TAG_BYTES = 16
HEAD_BYTES = len(MAGIC) + passphrase.SALT_BYTES + NONCE_BYTES
HINT = "Nothing was restored; take another copy of it."


def seal(data: bytes, words: str) -> bytes:
    """Takes about 0.1 s and more; call it in a thread."""
    salt, prefix = passphrase.fresh_salt(), os.urandom(NONCE_BYTES)
    head = MAGIC + salt + prefix
    cipher = AESGCM(passphrase.key(words, salt))
    parts = [head]
    count = max(1, -(-len(data) // PIECE_BYTES))
    for number in range(count):
        piece = data[number * PIECE_BYTES : (number + 1) * PIECE_BYTES]
        sealed = cipher.encrypt(_nonce(prefix, number, last=number == count - 1), piece, head)
        parts += [struct.pack(">I", len(sealed)), sealed]
    return b"".join(parts)


def opened(data: bytes, words: str) -> bytes:
    """Raises Invalid for a wrong passphrase, and for a file that is none of ours, torn or changed."""
    head = data[:HEAD_BYTES]
    if not head.startswith(MAGIC):
        raise Invalid("This is no backup of Shoal's")
    if len(head) < HEAD_BYTES:
        raise Invalid(f"The backup is cut off. {HINT}")
    salt, prefix = head[len(MAGIC) : -NONCE_BYTES], head[-NONCE_BYTES:]
    cipher = AESGCM(passphrase.key(words, salt))
    found = []
    pieces = list(_pieces(data))
    for number, piece in enumerate(pieces):
        try:
            nonce = _nonce(prefix, number, last=number == len(pieces) - 1)
            found.append(cipher.decrypt(nonce, piece, head))
        except InvalidTag:
            if number == 0 and len(pieces) > 1:
                raise Invalid("The passphrase is wrong, or the backup is damaged at its beginning") from None
            if number == 0:
                raise Invalid("The passphrase is wrong, or the backup is damaged or cut off") from None
            raise Invalid(
                f"The backup is damaged or cut off at byte {HEAD_BYTES + number * PIECE_BYTES}. {HINT}"
            ) from None
    return b"".join(found)


def _pieces(data: bytes) -> Iterator[bytes]:
    at = HEAD_BYTES
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        at += 4
        if not TAG_BYTES <= length <= PIECE_BYTES + TAG_BYTES or at + length > len(data):
            raise Invalid(f"The backup is cut off. {HINT}")
        yield data[at : at + length]
        at += length
    if at == HEAD_BYTES:
        raise Invalid(f"The backup is cut off. {HINT}")


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + struct.pack(">I", number) + (b"\1" if last else b"\0")
