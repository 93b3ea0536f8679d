"""Passwords of people: argon2id (RFC 9106), hashed in threads so that the event loop goes on."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor

import argon2

TIME_COST = 2
MEMORY_KIB = 19 * 1024
PARALLELISM = 1
"""OWASP's second recommended set for argon2id; about 30 ms a hash."""
PREFIX = f"$argon2id$v=19$m={MEMORY_KIB},t={TIME_COST},p={PARALLELISM}$"
"""Of every hash made here."""
CONCURRENT_HASHES_MAX = 2
"""Hashes computed at a time, each 19 MiB; further ones wait, so a storm of logins costs time and not memory."""
PASSWORD_CHARACTERS_MAX = 1024
GENERATED_GROUPS = 5
GENERATED_GROUP_CHARACTERS = 5

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""32 characters, 5 bits each, without those that are mistaken for one another (l, o, 0, 1)."""

_hasher = argon2.PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM)
_threads = ThreadPoolExecutor(CONCURRENT_HASHES_MAX, thread_name_prefix="password")


async def hash(password: str) -> str:
    """The PHC string (``$argon2id$...``) to store. Raises ValueError past `PASSWORD_CHARACTERS_MAX`."""
    if len(password) > PASSWORD_CHARACTERS_MAX:
        raise ValueError(f"a password may have at most {PASSWORD_CHARACTERS_MAX} characters")
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, _encoded(password))


async def verify(password: str, hash: str) -> bool:
    """False for a wrong password, and for a ``hash`` that is none."""
    if len(password) > PASSWORD_CHARACTERS_MAX:
        return False
    return await asyncio.get_running_loop().run_in_executor(_threads, _verify, _encoded(password), hash)


def generate() -> str:
    """A random password of 125 bits that can be read out and typed: five groups of five letters and digits."""
    groups = (
        "".join(secrets.choice(_ALPHABET) for _ in range(GENERATED_GROUP_CHARACTERS)) for _ in range(GENERATED_GROUPS)
    )
    return "-".join(groups)


def _encoded(password: str) -> bytes:
    # JSON may carry lone surrogates; they are a wrong password, not a crash.
    return password.encode("utf-8", "surrogatepass")


def _verify(password: bytes, hash: str) -> bool:
    try:
        return _hasher.verify(hash, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError, UnicodeEncodeError):
        return False
