"""Keys from passphrases: for what leaves the controller (exports with secrets, backups).

scrypt (RFC 7914) with fixed costs, so that a hostile file can't ask for others: 32 MiB and about 0.1 s a try.
"""

from __future__ import annotations

import asyncio
import hashlib
import os

from shoal.errors import Invalid, Problem

SALT_BYTES = 16
KEY_BYTES = 32
CHARACTERS_MIN = 8
CHARACTERS_MAX = 1_000
_COSTS = {"n": 2**15, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024}


def fresh_salt() -> bytes:
    return os.urandom(SALT_BYTES)


def check(passphrase: str) -> None:
    """Raises Invalid for one that is too short or long to seal anything with."""
    if not CHARACTERS_MIN <= len(passphrase) <= CHARACTERS_MAX:
        raise Invalid([Problem(path="passphrase", why=f"must have {CHARACTERS_MIN}..{CHARACTERS_MAX} characters")])


def key(passphrase: str, salt: bytes) -> bytes:
    """Takes about 0.1 s of a processor."""
    secret = passphrase[:CHARACTERS_MAX].encode(errors="surrogatepass")
    return hashlib.scrypt(secret, salt=salt, dklen=KEY_BYTES, **_COSTS)


async def key_aside(passphrase: str, salt: bytes) -> bytes:
    """The same, in a thread."""
    return await asyncio.to_thread(key, passphrase, salt)
