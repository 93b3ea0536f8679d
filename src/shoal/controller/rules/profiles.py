"""Network profiles: which protocols are served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .change import Around, Change

SERVED = frozenset({"PROTOCOL_TYPE_TCP_PROXY", "PROTOCOL_TYPE_TCP_FAST_PATH"})
USE_TCP = "Use System-TCP-Proxy, or another TCP profile."


def protocol(profile: Mapping[str, Any]) -> str:
    """``UDP``, ``TCP`` ..."""
    return str(profile["profile"]["type"]).removeprefix("PROTOCOL_TYPE_").partition("_")[0]


def served(profile: Mapping[str, Any]) -> bool:
    return profile["profile"]["type"] in SERVED


def check(change: Change, around: Around) -> None:
    """A profile of any protocol is kept; one that virtual services use must be served."""
    if served(change.document):
        return
    users = [name for type, _, name in around.view.referrers(change.uuid) if type == "virtualservice"]
    if users:
        why = f"{protocol(change.document)} is not served yet, and used by virtual service {', '.join(users[:8])}"
        change.wrong("profile.type", why, hint=USE_TCP)
