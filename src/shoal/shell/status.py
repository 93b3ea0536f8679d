"""`shoal status` of a controller: whether it answers, and with a password how everything stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shoal.errors import NotReady

from .client import Client
from .overview import Overview, Watcher, told

__all__ = ["as_document", "overview", "reached", "told"]

Document = dict[str, Any]
READY = ("CLUSTER_UP_NO_HA", "CLUSTER_UP_HA_ACTIVE")


def reached(url: str) -> Document:
    """Without a password."""
    client = Client(url, "", "")
    try:
        state = str(client.call("GET", "cluster/runtime")["cluster_state"]["state"])
    except (NotReady, LookupError, TypeError) as error:
        state = f"not answering: {error}"
    finally:
        client.close()
    return {"ready": state in READY, "state": state, "url": client.url}


def overview(url: str, connection: Mapping[str, str | None]) -> Overview:
    """Raises what `Client.call` raises."""
    user, password, tenant = (connection[name] or "" for name in ("user", "password", "tenant"))
    client = Client(url, user, password, tenant=tenant, ca=connection["ca"])
    try:
        client.login()
        return Watcher(client).look(load=False)
    finally:
        client.close()


def as_document(found: Overview) -> Document:
    groups = [msgspec.to_builtins(group) for group in found.groups]
    return {**found.counts(), "groups": groups, "problems": found.problems()}
