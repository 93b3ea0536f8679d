"""Network and application profiles: which are served, and which of their fields act."""

from __future__ import annotations

from shoal.controller import protocols

from .change import Around, Change
from .policies import TOKEN

OTHER = "Use System-TCP-Proxy, System-UDP-Fast-Path, or another TCP or UDP profile."


def check(change: Change, around: Around) -> None:
    """A profile of any protocol is kept; one that virtual services use must be served, and its protocol stays."""
    profile = change.document
    users = around.services_of(change)
    if not users:
        return
    named = change.named(users)
    why = protocols.unserved(profile)
    before = change.before
    if why:
        change.wrong("profile", f"{profile['name']} {why}; it is used by virtual service {named}", hint=OTHER)
    elif before is not None and protocols.protocol(before) != protocols.protocol(profile):
        why = f"can't change between TCP and UDP while virtual service {named} uses the profile"
        change.wrong("profile.type", why, hint="Make another profile, and give it to the virtual service.")


def check_application(change: Change, around: Around) -> None:
    name = (change.document.get("http_profile") or {}).get("xff_alternate_name", "")
    if name and not TOKEN.fullmatch(name):
        change.wrong("http_profile.xff_alternate_name", "must be a header name (RFC 9110, 5.6.2)", name)
