"""Brings what is published in line with what is wanted. What we have published is in the store before it is on the DNS server,
so that it is withdrawn in the end, whatever happens between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import msgspec

from shoal.controller.clock import Clock, woken
from shoal.controller.events import EventLog
from shoal.controller.view import View
from shoal.errors import ShoalError
from shoal.store.patience import patiently
from shoal.store.protocol import Records, Transaction

from . import update, wanted
from .update import Away, NotUpdated, Taken
from .wanted import Provider, RecordSet

log = logging.getLogger("shoal.zones")

PUBLISHED = "/dns/"
"""``/dns/<name>/<type>``."""
RETRY_S_MIN, RETRY_S_MAX = 2.0, 60.0
PAUSES, PAUSE_S_MAX = 10.0, 1.0
"""All names are looked at whenever one could have changed: others get so many times what that took, up to this."""
TYPES = ("vsvip", "virtualservice", "cloud", "ipamdnsproviderprofile")


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """``done`` is on the DNS server, as far as is known; ``tried`` may be. ``provider`` as it was then."""

    provider: Provider
    done: RecordSet | None = None
    tried: RecordSet | None = None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How a record set stands: ``published``, ``pending``, ``failing`` (with why)."""

    record: RecordSet
    state: str
    why: str = ""
    since: float = 0.0


class Publisher:
    """``unseal`` opens TSIG secrets."""

    def __init__(
        self, view: View, store: Records, events: EventLog, clock: Clock, unseal: Callable[[str, str], str]
    ) -> None:
        self._view = view
        self._store = store
        self._events = events
        self._clock = clock
        self._unseal = unseal
        self._published: dict[str, Published] = {}
        self._states: dict[str, State] = {}
        self._away: dict[str, str] = {}
        """DNS servers that have not answered in this round, and what is said of it: nothing more is asked of them in it."""
        self._changed = asyncio.Event()

    async def load(self) -> None:
        """What earlier controllers have published."""
        for record in (await self._store.list(PUBLISHED)).records:
            key = record.key.removeprefix(PUBLISHED)
            self._published[key] = msgspec.json.decode(record.value, type=Published)

    def states(self, vsvip: str) -> list[State]:
        """Of the record sets that a VsVip (a uuid) wants."""
        return [one for one in self._states.values() if vsvip in one.record.of]

    def on_document(self, type: str, uuid: str, document: object) -> None:
        """The view's callback."""
        if type in TYPES:
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        self._changed.set()
        failures = 0
        while True:
            wait = min(RETRY_S_MIN * float(2 ** (failures - 1)), RETRY_S_MAX) if failures else None
            await woken(self._changed, wait)
            began = self._clock.monotonic()
            failures = min(failures + 1, 16) if not await self.reconcile() else 0
            await self._clock.sleep(min(PAUSES * (self._clock.monotonic() - began), PAUSE_S_MAX))

    async def reconcile(self) -> bool:
        """Once. False when something is left to do."""
        want = wanted.wanted(self._view, self._is_served)
        self._states = {key: one for key, one in self._states.items() if key in want}
        self._away = {}
        well = True
        for key in [key for key in self._published if key not in want]:
            well = await self._withdraw(key) and well
        for key, record in want.items():
            well = await self._publish(key, record) and well
        return well

    def _is_served(self, vsvip: str) -> bool:
        users = (
            self._view.get(type, uuid) for type, uuid, _ in self._view.referrers(vsvip) if type == "virtualservice"
        )
        return any(user is not None and user.get("enabled", True) for user in users)

    async def _publish(self, key: str, record: RecordSet) -> bool:
        profile = self._view.get("ipamdnsproviderprofile", record.provider)
        provider = wanted.provider_of(profile) if profile is not None else None
        known = self._published.get(key)
        if provider is None:
            return True
        if known is not None and (known.provider.server, known.provider.port) != (provider.server, provider.port):
            if not await self._withdraw(key):
                return False
            known = None
        before = known.done if known is not None else None
        if before is not None and _same(before, record):
            self._states[key] = State(record=record, state="published", since=self._since(key, "published"))
            return True
        self._states.setdefault(key, State(record=record, state="pending", since=self._clock.now()))
        try:
            self._still_there(provider)
            await self._keep(key, Published(provider=provider, done=before, tried=record))
            await update.publish(provider, self._secret(provider), record, before)
            await self._keep(key, Published(provider=provider, done=record))
        except (NotUpdated, ShoalError) as error:
            self._note_away(provider, error)
            if isinstance(error, Taken):
                await patiently(partial(self._forget, key), "what is published")  # nothing of it is ours
            return self._failed(key, record, str(error))
        self._note("DNS_RECORD_PUBLISHED", record, f"{_told(record)} is published on {provider.server}.")
        self._states[key] = State(record=record, state="published", since=self._clock.now())
        return True

    async def _withdraw(self, key: str) -> bool:
        known = self._published[key]
        record, provider = known.done or known.tried, self._as_now(known.provider)
        try:
            self._still_there(provider)
            for one in filter(None, (known.done, known.tried)):
                await update.withdraw(provider, self._secret(provider), one)
            await self._forget(key)
        except (NotUpdated, ShoalError) as error:
            self._note_away(provider, error)
            return self._failed(key, record, str(error)) if record is not None else True
        if known.done is not None:
            self._note("DNS_RECORD_WITHDRAWN", known.done, f"{_told(known.done)} is withdrawn.")
        return True

    def _still_there(self, provider: Provider) -> None:
        if provider.server in self._away:
            raise NotUpdated(self._away[provider.server])

    def _note_away(self, provider: Provider, error: Exception) -> None:
        if isinstance(error, Away):
            self._away[provider.server] = str(error)

    def _as_now(self, provider: Provider) -> Provider:
        """With the key that it has now, if it is there still."""
        profile = self._view.get("ipamdnsproviderprofile", provider.id)
        now = wanted.provider_of(profile) if profile is not None else None
        return now if now is not None and (now.server, now.port) == (provider.server, provider.port) else provider

    def _failed(self, key: str, record: RecordSet, why: str) -> bool:
        before = self._states.get(key)
        if before is None or before.why != why:
            text = f"{_told(record)} is not as it should be: {why}. It is tried again."
            self._note("DNS_RECORD_FAILED", record, text, level="warning")
        self._states[key] = State(record=record, state="failing", why=why, since=self._since(key, "failing"))
        return False

    def _since(self, key: str, state: str) -> float:
        known = self._states.get(key)
        return known.since if known is not None and known.state == state else self._clock.now()

    def _secret(self, provider: Provider) -> str:
        if not provider.secret:
            return ""
        context = f"ipamdnsproviderprofile/{provider.id}/custom_profile.tsig_secret"
        return self._unseal(provider.secret, context)

    def _note(self, event: str, record: RecordSet, text: str, level: str = "info") -> None:
        self._events.add(event, text, level=level, vsvip=record.of[0] if record.of else "")

    async def _keep(self, key: str, published: Published) -> None:
        await self._store.commit(Transaction(puts=((PUBLISHED + key, msgspec.json.encode(published)),)))
        self._published[key] = published

    async def _forget(self, key: str) -> None:
        await self._store.commit(Transaction(deletes=(PUBLISHED + key,)))
        self._published.pop(key, None)


def _same(one: RecordSet, other: RecordSet) -> bool:
    return (one.zone, set(one.values), one.ttl_s) == (other.zone, set(other.values), other.ttl_s)


def _told(record: RecordSet) -> str:
    return f"{record.name} {record.type} {', '.join(record.values)}"
