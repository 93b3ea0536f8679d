"""Who may log in: names with argon2 hashes, in the store under ``/account/``."""

from __future__ import annotations

import msgspec

from shoal.controller import passwords
from shoal.errors import Forbidden, Invalid, Problem, Unauthenticated
from shoal.store.protocol import Condition, Store, Transaction

ACCOUNTS = "/account/"
PASSWORD_CHARACTERS_MAX = 1_000
PASSWORD_CHARACTERS_MIN = 8
"""``minimum_password_length`` of the system configuration, where that says nothing."""
WRONG = "Invalid credentials: user name or password is wrong."


class Account(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    hash: str
    superuser: bool = True


class Accounts:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._dummy = ""

    async def check_first(self, password: str | None) -> None:
        """Raises Invalid for a first admin password that is too short or long; any other start ignores it."""
        if password and await self._store.get(f"{ACCOUNTS}admin") is None:
            _check(password, PASSWORD_CHARACTERS_MIN, "SHOAL_ADMIN_PASSWORD")

    async def ensure_admin(self, password: str | None) -> str | None:
        """Make the admin at first start. Returns the password if one had to be made up (print it once). Raises Invalid
        as `check_first`."""
        if await self._store.get(f"{ACCOUNTS}admin") is not None:
            return None
        await self.check_first(password)
        made = password or passwords.generate()
        await self._write("admin", made, 0)
        return None if password else made

    async def verify(self, name: str, password: str) -> Account:
        """Raises Unauthenticated, in the same time for an unknown name as for a wrong password."""
        record = await self._store.get(f"{ACCOUNTS}{name}") if len(name) < 256 else None
        if not self._dummy:
            self._dummy = await passwords.hash("no such user")
        account = msgspec.json.decode(record.value, type=Account) if record else None
        known = account.hash if account else self._dummy
        right = await passwords.verify(password[:PASSWORD_CHARACTERS_MAX], known)
        if account is None or not right:
            raise Unauthenticated(WRONG)
        return account

    async def change(self, name: str, old: str, new: str, least: int = PASSWORD_CHARACTERS_MIN) -> None:
        """Raises Forbidden for a wrong old password, Invalid for a new one that is too short (``least`` characters) or
        long."""
        try:
            await self.verify(name, old)
        except Unauthenticated:
            # Not 401: clients would take the session for ended, log in and repeat the call.
            raise Forbidden("The old password is wrong.") from None
        _check(new, least, "password")
        record = await self._store.get(f"{ACCOUNTS}{name}")
        await self._write(name, new, record.version if record else 0)

    async def _write(self, name: str, password: str, version: int) -> None:
        account = Account(name=name, hash=await passwords.hash(password))
        key = f"{ACCOUNTS}{name}"
        await self._store.commit(
            Transaction(conditions=(Condition(key, version),), puts=((key, msgspec.json.encode(account)),))
        )


def _check(password: str, least: int, where: str) -> None:
    if not least <= len(password) <= PASSWORD_CHARACTERS_MAX:
        raise Invalid([Problem(path=where, why=f"must have {least}..{PASSWORD_CHARACTERS_MAX} characters")])
