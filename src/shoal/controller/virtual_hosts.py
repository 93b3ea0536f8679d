"""Virtual hosts that get requests by host, path and the like (``VS_TYPE_VH_ENHANCED``). Pure."""

from __future__ import annotations

from shoal.objects import views
from shoal.wire.policy import Test

from .policies import tests_of, untaken_match
from .protocols import Documents

ENHANCED = "VS_TYPE_VH_ENHANCED"
KINDS = ("VS_TYPE_VH_PARENT", "VS_TYPE_VH_CHILD")
ANY = "*."


def by_request(service: views.VirtualService) -> bool:
    """A parent or a child whose requests are told apart, instead of the name that is told by TLS."""
    return service.type in KINDS and service.vh_type == ENHANCED


def matches_of(documents: Documents, service: views.VirtualService) -> tuple[tuple[Test, ...], ...]:
    """What a request must be like, one of them. A rule with a condition that there is not is left out."""
    return tuple(
        (host_test(one.host), *tests_of(documents, rule.matches))
        for one in service.vh_matches
        for rule in one.rules
        if not any(untaken_match({"match": rule.matches}))
    )


def host_test(host: str) -> Test:
    """``www.example.org``, or all below a domain: ``*.example.org``."""
    if host.startswith(ANY):
        return Test(of="host", how="ends", values=(host[1:].lower(),))
    return Test(of="host", values=(host.lower(),))
