"""Which DNS servers are asked, and how long an answer counts: by the cloud, else by the system's configuration, else by
the machine's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shoal.controller.view import View

TTL_S_MIN, TTL_S_MAX = 5, 3600
"""Between two looks at a name whose DNS servers answer."""


class Resolver(msgspec.Struct, frozen=True, kw_only=True):
    servers: tuple[str, ...] = ()
    search: str = ""
    ttl_s_min: int = TTL_S_MIN
    ttl_s_fixed: int = 0
    """Whatever the answer says; 0 = as it says."""

    def wait_s(self, ttl_s: int) -> float:
        """Until the name is looked up again."""
        return self.ttl_s_fixed or min(max(ttl_s, self.ttl_s_min), max(TTL_S_MAX, self.ttl_s_min))


def resolver_of(view: View, cloud: str) -> Resolver:
    """Of the pools of a cloud (a uuid)."""
    system: Mapping[str, Any] = next(iter(view.all("systemconfiguration")), {}).get("dns_configuration") or {}
    search = system.get("search_domain", "")
    own = next(iter((view.get("cloud", cloud) or {}).get("dns_resolvers") or ()), None)
    if own is None:
        return Resolver(servers=_addresses(system.get("server_list")), search=search)
    return Resolver(
        servers=_addresses(own.get("nameserver_ips")),
        search=search,
        ttl_s_min=max(TTL_S_MIN, own.get("min_ttl") or 0),
        ttl_s_fixed=own.get("fixed_ttl") or 0,
    )


def _addresses(listed: object) -> tuple[str, ...]:
    return tuple(one["addr"] for one in listed) if isinstance(listed, list | tuple) else ()
