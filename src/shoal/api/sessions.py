"""Who is logged in: in memory, under hashes, with a sliding and an absolute end (reference: api.md 2.2, 2.4)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable

import msgspec

SESSIONS_MAX = 2_000
SESSIONS_PER_USER_MAX = 200


class Session(msgspec.Struct):
    """``user`` is the user's uuid; ``mark`` what must not have changed since (his password). Times are seconds of the
    caller's clock; ``until`` is an end of its own, such as a token's."""

    user: str
    csrf: bytes
    opened: float
    used: float
    mark: bytes = b""
    until: float = float("inf")
    by_token: bool = False


class Opened(msgspec.Struct, frozen=True):
    """The secrets the client gets; only their hashes are kept."""

    session_id: str
    csrftoken: str


class Sessions:
    """``idle_s()`` and ``age_s()`` are asked each time, so a changed setting counts at once; 0 means no such end."""

    def __init__(self, *, now: Callable[[], float], idle_s: Callable[[], float], age_s: Callable[[], float]) -> None:
        self._now = now
        self._idle_s = idle_s
        self._age_s = age_s
        self._sessions: dict[bytes, Session] = {}

    def open(
        self, user: str, *, mark: str = "", most: int = 0, lasts_s: float = float("inf"), by_token: bool = False
    ) -> Opened:
        """A new session. Over a bound, and over the user's own (``most``), the one unused for longest ends."""
        self._make_room(user, min(most or SESSIONS_PER_USER_MAX, SESSIONS_PER_USER_MAX))
        opened = Opened(secrets.token_urlsafe(32), secrets.token_urlsafe(32))
        now = self._now()
        key = _hash(opened.session_id)
        self._sessions[key] = Session(
            user=user,
            csrf=_hash(opened.csrftoken),
            opened=now,
            used=now,
            mark=_hash(mark),
            until=now + lasts_s,
            by_token=by_token,
        )
        return opened

    @staticmethod
    def marked(session: Session, mark: str) -> bool:
        return hmac.compare_digest(session.mark, _hash(mark))

    def remark(self, session_id: str, mark: str) -> None:
        """The user of this session has changed his own password: it goes on."""
        session = self._sessions.get(_hash(session_id))
        if session is not None:
            session.mark = _hash(mark)

    def find(self, session_ids: Iterable[str], csrftoken: str | None = None) -> tuple[str, Session] | None:
        """The first live session of ``session_ids``, and its id; with ``csrftoken`` the first that it belongs to.

        Clients send a cookie several times with different values; any valid copy counts. Finding it renews it.
        """
        now = self._now()
        for id in session_ids:
            key = _hash(id)
            session = self._sessions.get(key)
            if session is None:
                continue
            if self._ended(session, now):
                del self._sessions[key]
                continue
            if csrftoken is None or hmac.compare_digest(_hash(csrftoken), session.csrf):
                session.used = now
                return id, session
        return None

    def close(self, session_ids: Iterable[str]) -> None:
        for id in session_ids:
            self._sessions.pop(_hash(id), None)

    def close_user(self, user: str, keep: str = "") -> None:
        """End every session of ``user`` but ``keep`` (a session id)."""
        kept = _hash(keep)
        self._sessions = {key: s for key, s in self._sessions.items() if s.user != user or key == kept}

    def __len__(self) -> int:
        return len(self._sessions)

    def _ended(self, session: Session, now: float) -> bool:
        idle, age = self._idle_s(), self._age_s()
        over = (idle > 0 and now - session.used > idle) or (age > 0 and now - session.opened > age)
        return over or now >= session.until

    def _make_room(self, user: str, most: int) -> None:
        now = self._now()
        if len(self._sessions) >= SESSIONS_MAX:
            self._sessions = {key: s for key, s in self._sessions.items() if not self._ended(s, now)}
        own = [(s.used, key) for key, s in self._sessions.items() if s.user == user]
        if len(own) >= most:
            for _, key in sorted(own)[: len(own) - most + 1]:
                del self._sessions[key]
        elif len(self._sessions) >= SESSIONS_MAX:
            del self._sessions[min((s.used, key) for key, s in self._sessions.items())[1]]


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
