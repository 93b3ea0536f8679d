"""Which ways of signing in the system configuration names, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec

from shoal.controller.intent import Intent
from shoal.controller.view import View
from shoal.errors import NotFound, NotReady, Unauthenticated
from shoal.objects.views import uuid_of

from . import people
from .directory import authenticated
from .provider import Provider, Started

Document = dict[str, Any]
LDAP, OIDC = "AUTH_PROFILE_LDAP", "AUTH_PROFILE_OAUTH"
ASKED_AT_ONCE_MAX = 4
_threads = ThreadPoolExecutor(ASKED_AT_ONCE_MAX, thread_name_prefix="directory")
"""Of their own: a directory that is away must not hold up what else runs in threads."""


class Method(msgspec.Struct, frozen=True, kw_only=True):
    profile: Mapping[str, Any]
    mapping: Mapping[str, Any]


class Methods:
    def __init__(self, view: View, intent: Intent, provider: Provider) -> None:
        self._view = view
        self._intent = intent
        self._provider = provider

    def of(self, type: str) -> Iterator[Method]:
        entries = self._settings().get("remote_auth_configurations") or ()
        for entry in sorted(entries, key=lambda entry: int(entry.get("index", 0))):
            profile = self._view.get("authprofile", uuid_of(entry.get("auth_profile_ref", "")))
            mapping = self._view.get("authmappingprofile", uuid_of(entry.get("auth_mapping_profile_ref", "")))
            if profile is not None and mapping is not None and profile["type"] == type:
                yield Method(profile=profile, mapping=mapping)

    def local_allowed(self) -> bool:
        return bool(self._settings().get("allow_local_user_login", True))

    async def by_password(self, name: str, password: str) -> Document | None:
        """The user whom one of the directories knows by this password; None if none does. Raises NotReady where one
        that might could not be asked."""
        unasked: NotReady | None = None
        for method in self.of(LDAP):
            settings = self._intent.opened(self._intent.registry.type("authprofile"), dict(method.profile))["ldap"]
            try:
                asking = partial(authenticated, settings, self._authorities(settings), name, password)
                person = await asyncio.get_running_loop().run_in_executor(_threads, asking)
            except NotReady as error:
                unasked = error
                continue
            if person is not None:
                return await people.kept(self._intent, self._view, method.mapping, person)
        if unasked is not None:
            raise unasked
        return None

    def begin(self, name: str, redirect_uri: str) -> tuple[Started, str]:
        """As `Provider.begin`, by the profile's name. Raises NotFound."""
        method = self._named(name)
        return self._provider.begin(method.profile["uuid"], method.profile.get("oauth_profile") or {}, redirect_uri)

    async def finish(self, state: str, cookie: str, code: str) -> Document:
        """The user. Raises Unauthenticated, NotReady."""
        started = self._provider.returned(state, cookie)
        method = next((m for m in self.of(OIDC) if m.profile["uuid"] == started.profile), None)
        if method is None or not code:
            raise Unauthenticated("The identity provider sent nobody back.", hint="Begin the sign-in again.")
        settings = self._intent.opened(self._intent.registry.type("authprofile"), dict(method.profile))
        person = await self._provider.person(started, settings["oauth_profile"], code)
        return await people.kept(self._intent, self._view, method.mapping, person)

    def providers(self) -> list[str]:
        return [str(method.profile["name"]) for method in self.of(OIDC)]

    def _named(self, name: str) -> Method:
        found = next((m for m in self.of(OIDC) if name in ("", m.profile["name"])), None)
        if found is None:
            raise NotFound(
                "There is no such identity provider.",
                hint="Name one in admin_auth_configuration.remote_auth_configurations of the system configuration.",
            )
        return found

    def _authorities(self, settings: Mapping[str, Any]) -> list[str]:
        profile = self._view.get("pkiprofile", uuid_of(settings.get("pki_profile_ref", ""))) or {}
        return [ca["certificate"] for ca in profile.get("ca_certs") or () if ca.get("certificate")]

    def _settings(self) -> Document:
        system: Document = next(iter(self._view.all("systemconfiguration")), {})
        return system.get("admin_auth_configuration") or {}
