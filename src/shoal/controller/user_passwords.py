"""Passwords of User objects: checked against the policy and hashed at the one door, before anything else sees them.

What is stored in ``password`` is an argon2id hash, sealed as every secret is. The last ones are kept under
``/passwords/<uuid>``, so that none is taken twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from shoal.errors import Invalid, Problem
from shoal.objects.types import SENSITIVE_MASK
from shoal.objects.views import uuid_of
from shoal.store.protocol import Records

from . import passwords
from .secrets import Secrets
from .view import View

Document = dict[str, Any]
USER = "user"
FIELD = "password"
FORMER = "/passwords/"
CHARACTERS_MAX = 1_000
CHARACTERS_MIN = 8
"""``minimum_password_length`` of the system configuration, where that says nothing."""
CLASSES_MIN = 3
HISTORY_MAX = 20
NAME_CHARACTERS_MIN = 3
"""A shorter user name may be in the password."""
SETTING = ("add", "replace", "update")
COMMON = frozenset(
    [
        "password",
        "password1",
        "passw0rd",
        "12345678",
        "123456789",
        "1234567890",
        "qwertyuiop",
        "qwerty123",
        "iloveyou",
        "administrator",
        "letmein1",
        "welcome1",
        "changeme",
        "admin123",
        "adminadmin",
        "secret123",
    ]
)


class UserPasswords:
    def __init__(self, store: Records, view: View, secrets: Secrets) -> None:
        self._store = store
        self._view = view
        self._secrets = secrets

    async def hashed(self, uuid: str, raw: Document, *, hashes: bool = False) -> tuple[Document, frozenset[str]]:
        """(the write with hashes in the place of passwords, these hashes). ``raw`` is the body of a POST, PUT or PATCH;
        ``hashes``: what looks like one of ours in it is one. Raises Invalid."""
        raw, made = msgspec.json.decode(msgspec.json.encode(raw)), set()
        present = self.opened(user) if (user := self._view.get(USER, uuid)) is not None else ""
        for holder, key in _places(raw):
            value = holder[key]
            if not isinstance(value, str) or value in ("", SENSITIVE_MASK):
                continue
            if hashes and value.startswith(passwords.PREFIX):
                made.add(value)
                continue
            if holder is raw and present and await passwords.verify(value, present):
                holder[key] = SENSITIVE_MASK  # a whole object that is sent again, as playbooks do, is no new password
                continue
            await self._check(uuid, str(raw.get("username") or raw.get("name") or ""), value)
            holder[key] = await passwords.hash(value)
            made.add(holder[key])
        return raw, frozenset(made)

    async def remembered(
        self, uuid: str, before: Mapping[str, Any] | None, after: Mapping[str, Any]
    ) -> list[tuple[str, bytes]]:
        """What to store beside a user whose password changes: the former ones."""
        old = (before or {}).get(FIELD, "")
        if before is None or not old or old == after.get(FIELD, ""):
            return []
        kept = [self.opened(before), *await self._former(uuid)][:HISTORY_MAX]
        return [(FORMER + uuid, msgspec.json.encode(kept))]

    def opened(self, user: Mapping[str, Any]) -> str:
        """A stored user's hash; "" without a password."""
        sealed = str(user.get(FIELD) or "")
        return self._secrets.unseal(sealed, f"{USER}/{user['uuid']}/{FIELD}") if sealed else ""

    def least(self) -> int:
        return int(self._portal().get("minimum_password_length", CHARACTERS_MIN))

    async def _check(self, uuid: str, name: str, password: str) -> None:
        user = self._view.get(USER, uuid) or {}
        if why := weakness(password, self.least()):
            raise Invalid([Problem(path=FIELD, why=why)])
        if self._portal().get("password_strength_check"):
            names = [n for n in (name, str(user.get("username", "")), str(user.get("name", ""))) if n]
            if why := guessable(password, names):
                raise Invalid([Problem(path=FIELD, why=why)])
        profile = self._view.get("useraccountprofile", uuid_of(user.get("user_profile_ref", ""))) or {}
        count = int(profile.get("max_password_history_count", 0)) if user else 0
        former = [self.opened(user), *await self._former(uuid)] if count else []
        for hash in former[: min(count, HISTORY_MAX)]:
            if hash and await passwords.verify(password, hash):
                raise Invalid(
                    [Problem(path=FIELD, why=f"is one of the last {count} passwords", hint="Take a new one.")]
                )

    async def _former(self, uuid: str) -> list[str]:
        record = await self._store.get(FORMER + uuid)
        return list(msgspec.json.decode(record.value, type=list[str])) if record else []

    def _portal(self) -> Document:
        system: Document = next(iter(self._view.all("systemconfiguration")), {})
        return system.get("portal_configuration") or {}


def weakness(password: str, least: int = CHARACTERS_MIN) -> str:
    """Why a password is refused whatever the policy; "" if it is not."""
    if not least <= len(password) <= CHARACTERS_MAX:
        return f"must have {least}..{CHARACTERS_MAX} characters"
    return ""


def guessable(password: str, names: list[str]) -> str:
    """Why a password is weak (``password_strength_check``); "" if it is not."""
    kinds = (str.islower, str.isupper, str.isdigit, lambda c: not c.isalnum())
    if sum(any(kind(c) for c in password) for kind in kinds) < CLASSES_MIN:
        return f"must have characters of {CLASSES_MIN} kinds: small letters, capitals, digits, others"
    if password.lower() in COMMON:
        return "is one of those that are tried first"
    if any(len(name) >= NAME_CHARACTERS_MIN and name.lower() in password.lower() for name in names):
        return "must not contain the user's name"
    return ""


def _places(raw: Document) -> Iterator[tuple[Document, str]]:
    """Where a write gives a password: what holds it, under which key."""
    if FIELD in raw:
        yield raw, FIELD
    for operator in SETTING:
        part = raw.get(operator)
        if isinstance(part, dict) and FIELD in part:
            yield part, FIELD
    for step in raw.get("json_patch") or ():
        if isinstance(step, dict) and step.get("path") == f"/{FIELD}" and "value" in step:
            yield step, "value"
