"""API tokens: what a program signs in with instead of a password. Shown once, kept as a hash, with an end.

``shoal_<id>_<secret>``; stored under ``/token/<id>``.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

import msgspec

from shoal.errors import Invalid, NotFound, Problem, Refused
from shoal.store.protocol import Condition, Store, Transaction

TOKENS = "/token/"
PREFIX = "shoal"
HOURS_DEFAULT = 24
HOURS_MAX = 365 * 24
TOKENS_PER_USER_MAX = 50
NAME_CHARACTERS_MAX = 128


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """``user`` is a uuid; times in seconds since the epoch."""

    id: str
    user: str
    name: str
    hash: str
    created: float
    expires: float


class Tokens:
    """``now``: seconds since the epoch."""

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now

    async def make(self, user: str, name: str, hours: float) -> tuple[Token, str]:
        """(what is kept, the token itself). Raises Invalid, Refused past `TOKENS_PER_USER_MAX`."""
        if not 0 < hours <= HOURS_MAX:
            raise Invalid(
                [Problem(path="hours", value=f"{hours:g}", why=f"must be more than 0 and at most {HOURS_MAX}")]
            )
        if len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
            raise Invalid([Problem(path="name", why=f"must be at most {NAME_CHARACTERS_MAX} printable characters")])
        own = await self.of(user)
        if len(own) >= TOKENS_PER_USER_MAX:
            raise Refused(f"There are {len(own)} tokens of this user.", hint="Delete one that is not used any more.")
        id, secret, now = secrets.token_hex(8), secrets.token_urlsafe(32), self._now()
        token = Token(id=id, user=user, name=name, hash=_hash(secret), created=now, expires=now + 3_600 * hours)
        put = (TOKENS + id, msgspec.json.encode(token))
        await self._store.commit(Transaction(conditions=(Condition(TOKENS + id, 0),), puts=(put,)))
        return token, f"{PREFIX}_{id}_{secret}"

    async def find(self, text: str) -> Token | None:
        """None for one that is wrong, deleted or over."""
        prefix, _, rest = text.partition("_")
        id, _, secret = rest.partition("_")
        if prefix != PREFIX or not id.isalnum() or len(text) > 200:
            return None
        record = await self._store.get(TOKENS + id)
        token = msgspec.json.decode(record.value, type=Token) if record else None
        right = hmac.compare_digest(_hash(secret), token.hash if token else _hash(""))
        return token if token is not None and right and self._now() < token.expires else None

    async def of(self, user: str) -> list[Token]:
        """Those that are not over; the others are forgotten by the way."""
        found = [msgspec.json.decode(r.value, type=Token) for r in (await self._store.list(TOKENS)).records]
        over = [token for token in found if token.expires <= self._now()]
        if over:
            await self._store.commit(Transaction(deletes=tuple(TOKENS + token.id for token in over[:100])))
        return [token for token in found if token.user == user and token.expires > self._now()]

    async def delete(self, user: str, id: str) -> None:
        """Raises NotFound, also for another user's."""
        if id not in {token.id for token in await self.of(user)}:
            raise NotFound(f"There is no token {id[:40]!r} of yours.")
        await self._store.commit(Transaction(deletes=(TOKENS + id,)))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
