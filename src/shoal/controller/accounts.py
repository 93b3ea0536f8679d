"""Who may log in: User objects with a password, failures counted beside them under ``/login/<uuid>``."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import msgspec

from shoal.errors import Forbidden, Invalid, Problem, Unauthenticated
from shoal.objects.views import uuid_of
from shoal.store.protocol import Condition, Conflict, Store, Transaction

from . import passwords
from .bootstrap import ADMIN_PROFILE, uuid_for
from .clock import Clock, SystemClock
from .intent import SYSTEM, Caller, Intent
from .lockout import Backoff
from .signin.methods import Methods
from .tokens import Tokens
from .user_passwords import CHARACTERS_MAX, CHARACTERS_MIN, USER, weakness
from .view import View

Document = dict[str, Any]
ADMIN_USER = "user-admin"
FIRST_PASSWORD = "SHOAL_ADMIN_PASSWORD"
LOGINS = "/login/"
FORMER_ACCOUNTS = "/account/"
"""Where the admin's hash was kept before there were users."""
LOCK_MIN_DEFAULT = 30
WRONG = "Invalid credentials: user name or password is wrong, or the account is locked for a while."


class Note(Protocol):
    """Raises an event."""

    def __call__(self, name: str, detail: str, *, level: str = "info", **objects: str) -> object: ...


class Failures(msgspec.Struct, frozen=True, kw_only=True):
    """Of one user, in a row. Times in seconds since the epoch."""

    count: int = 0
    last: float = 0.0
    locked_until: float = 0.0


class Accounts:
    """``note`` raises events; ``monotonic`` is what waits are counted by."""

    def __init__(
        self,
        store: Store,
        view: View,
        intent: Intent,
        *,
        clock: Clock | None = None,
        note: Note = lambda name, detail, *, level="info", **objects: None,
    ) -> None:
        self._store = store
        self._view = view
        self._intent = intent
        self._clock = clock or SystemClock()
        self.note = note
        self.methods: Methods | None = None
        """Other systems that may know people."""
        self.backoff = Backoff(self._clock.monotonic)
        self.tokens = Tokens(store, self._clock.now)
        self._counting = asyncio.Lock()
        self._dummy = ""

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock.now()

    # --- the first user ---

    async def ensure_admin(self, password: str | None) -> str | None:
        """Make the admin at first start. Returns the password if one had to be made up (print it once). Raises Invalid
        as `check_first`."""
        if self._view.get(USER, ADMIN_USER) is not None:
            return None
        hash = await self._former_hash()
        made = None
        if not hash:
            await check_first(self._store, password)
            made = None if password else passwords.generate()
            hash = await passwords.hash(password or made or "")
        body = {
            "name": "admin",
            "username": "admin",
            "full_name": "Administrator",
            "local": True,
            "is_superuser": True,
            "password": hash,
            "default_tenant_ref": "/api/tenant/admin",
            "user_profile_ref": f"/api/useraccountprofile/{uuid_for('useraccountprofile', ADMIN_PROFILE)}",
        }
        await self._intent.create(USER, body, SYSTEM, slug=ADMIN_USER)
        await self._intent.mark_system(USER, ADMIN_USER)
        await self._store.commit(Transaction(deletes=(f"{FORMER_ACCOUNTS}admin",)))
        return made

    async def _former_hash(self) -> str:
        record = await self._store.get(f"{FORMER_ACCOUNTS}admin")
        return str(msgspec.json.decode(record.value)["hash"]) if record else ""

    # --- who is it ---

    def find(self, name: str) -> Document | None:
        """By login name."""
        for user in self._view.all(USER):
            if name and name == (user.get("username") or user["name"]):
                return user
        return None

    def user(self, uuid: str) -> Document:
        """An active user. Raises Unauthenticated."""
        found = self._view.get(USER, uuid)
        if found is None or not found.get("is_active", True):
            raise Unauthenticated("Not logged in, or the session has ended.", hint="POST /login first.")
        return found

    async def verify(self, name: str, password: str, address: str = "") -> Document:
        """The user. Raises Unauthenticated, in the same time and words whatever is wrong, and TooMany."""
        self.backoff.begin(name, address)
        user = self.find(name)
        if self.methods is not None and (user is None or not user.get("local", True)):
            found = await self.methods.by_password(name, password)
            if found is not None:
                self.backoff.right(name, address)
                return found
        if user is not None and not self._signs_in_here(user):
            user = None
        if not self._dummy:
            self._dummy = await passwords.hash("no such user")
        known = self._intent.passwords.opened(user) if user is not None else ""
        right = await passwords.verify(password[:CHARACTERS_MAX], known or self._dummy)
        if user is not None and known:
            right = await self._counted(user, right)
        if user is None or not known or not right or not user.get("is_active", True):
            who = user["uuid"] if user is not None else ""
            self.note(
                "USER_LOGIN_FAILED",
                f"A login as {_said(name)} from {address or '?'} failed.",
                level="warning",
                user=who,
            )
            raise Unauthenticated(WRONG)
        self.backoff.right(name, address)
        return user

    def _signs_in_here(self, user: Document) -> bool:
        """Whether it may be by a password kept here. The first admin always may: directories can be away."""
        allowed = self.methods is None or self.methods.local_allowed()
        return bool(user.get("local", True)) and (allowed or user["uuid"] == ADMIN_USER)

    async def by_token(self, text: str, name: str = "") -> tuple[Document, float]:
        """(the user, when the token ends). ``name``: whose it must be. Raises Unauthenticated."""
        token = await self.tokens.find(text)
        user = self._view.get(USER, token.user) if token else None
        login = (user.get("username") or user["name"]) if user else ""
        if token is None or user is None or not user.get("is_active", True) or (name and name != login):
            raise Unauthenticated("Invalid credentials: the token is wrong or has ended.")
        return user, token.expires

    async def _counted(self, user: Document, right: bool) -> bool:
        """Whether the user gets in, the try counted. A locked account takes no password, so guessing goes on in vain."""
        profile = self._view.get("useraccountprofile", uuid_of(user.get("user_profile_ref", ""))) or {}
        most = int(profile.get("max_login_failure_count", 0))
        window_s = 60.0 * int(profile.get("login_failure_count_expiry_window", 0))
        key, now = LOGINS + user["uuid"], self._clock.now()
        async with self._counting:
            record = await self._store.get(key)
            known = msgspec.json.decode(record.value, type=Failures) if record else Failures()
            if now < known.locked_until:
                return False
            if known.locked_until or (window_s and now - known.last > window_s):
                known = Failures()
            if right and record is None:
                return True
            if right:
                fresh = Transaction(deletes=(key,))
            else:
                count = known.count + 1
                lock_s = 60.0 * int(profile.get("account_lock_timeout", LOCK_MIN_DEFAULT))
                locked = now + lock_s if most and count >= most else 0.0
                known = Failures(count=count, last=now, locked_until=locked)
                version = record.version if record else 0
                fresh = Transaction(conditions=(Condition(key, version),), puts=((key, msgspec.json.encode(known)),))
                if locked:
                    words = f"User {user['name']} is locked for {lock_s / 60:g} min after {count} failed logins."
                    self.note("USER_LOCKED", words, level="warning", user=user["uuid"])
            try:
                await self._store.commit(fresh)
            except Conflict:
                pass  # another controller counted
        return right

    # --- the own password ---

    async def change(self, user: Document, old: str, new: str, address: str = "") -> Document:
        """The user as it is then. Raises Forbidden for a wrong old password, Invalid for a new one that is refused."""
        try:
            await self.verify(user.get("username") or user["name"], old, address)
        except Unauthenticated:
            # Not 401: clients would take the session for ended, log in and repeat the call.
            raise Forbidden("The old password is wrong.") from None
        own = Caller(user=user["name"], address=address)
        return (await self._intent.patch(USER, user["uuid"], {"replace": {"password": new}}, own)).doc


async def check_first(store: Store, password: str | None) -> None:
    """Raises Invalid for a first admin password that is too short or long; any other start ignores it."""
    if not password or await store.get(f"/intent/{USER}/{ADMIN_USER}") is not None:
        return
    if await store.get(f"{FORMER_ACCOUNTS}admin") is None and (why := weakness(password, CHARACTERS_MIN)):
        raise Invalid([Problem(path=FIRST_PASSWORD, why=why)])


def _said(name: str) -> str:
    """What somebody typed as a name; it may have been the password, so not much of it."""
    return repr(name[:3] + "…") if len(name) > 3 else repr(name)
