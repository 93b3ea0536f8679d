"""Parameters of finite-field key exchange (PKCS #3), as SSL profiles give them: a prime and a generator, in PEM."""

from __future__ import annotations

import base64
import functools

from shoal.wire.desired import DH_BITS, DH_PARAMETERS


def parameters(text: str) -> str:
    """The same in PEM as engines take them; "" for none."""
    return "".join(f"{line.strip()}\n" for line in text.splitlines() if line.strip())


@functools.lru_cache(maxsize=16)
def fault(pem: str) -> str:
    """What is wrong with them, "" for nothing. Takes up to a quarter of a second the first time."""
    low, high = DH_BITS
    if not DH_PARAMETERS.fullmatch(pem):
        return "must be one block of DH parameters in PEM, and nothing else"
    try:
        prime, generator, *_ = _integers(base64.b64decode("".join(pem.splitlines()[1:-1]), validate=True))
    except ValueError:
        return "is no DH parameters in PEM"
    if not low <= prime.bit_length() <= high:
        return f"has a prime of {prime.bit_length()} bits; {low} to {high} can be"
    if not 1 < generator < prime - 1:
        return "has no generator"
    return "" if _looks_prime(prime) else "has no prime"


def _looks_prime(number: int) -> bool:
    """Fermat's test to the base 2, in small steps: in one it would keep all other threads waiting."""
    power = 1
    for bit in f"{number - 1:b}":
        power = power * power * (1 + (bit == "1")) % number
    return power == 1


def _integers(der: bytes) -> list[int]:
    """Of a sequence of them (X.690). Raises ValueError."""
    tag, content, rest = _element(der)
    if tag != 0x30 or rest:
        raise ValueError("no sequence")
    found = []
    while content:
        tag, octets, content = _element(content)
        if tag != 0x02 or not octets:
            raise ValueError("no integer")
        found.append(int.from_bytes(octets, signed=True))
    return found


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """(tag, content, what follows). Raises ValueError."""
    if len(der) < 2:
        raise ValueError("too short")
    size, begin = der[1], 2
    if size & 0x80:
        begin += size & 0x7F
        size = int.from_bytes(der[2:begin])
    if len(der) < begin + size:
        raise ValueError("too short")
    return der[0], der[begin : begin + size], der[begin + size :]
