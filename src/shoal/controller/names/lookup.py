"""One question to DNS servers, by dnspython."""

from __future__ import annotations

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
import msgspec

ANSWER_WITHIN_S = 5.0
"""All DNS servers together, for one type of record."""
ADDRESSES_MAX = 64
"""Of one name."""


class Unresolved(Exception):
    """Says why, in words without a full stop."""


class Found(msgspec.Struct, frozen=True):
    """Addresses in a stable order; ``ttl_s`` is what the DNS server says."""

    addresses: tuple[str, ...]
    ttl_s: int


async def look_up(name: str, servers: tuple[str, ...], search: str = "", port: int = 53) -> Found:
    """The IPv4 addresses of a name; the IPv6 ones if it has no others. ``servers`` () are those of the machine's own
    configuration. A name without a dot is looked for below ``search``. Raises Unresolved."""
    try:
        resolver = dns.asyncresolver.Resolver(configure=not servers)
        if servers:
            resolver.nameservers = list(servers)
            resolver.port = port
        full = dns.name.from_text(name, dns.name.root if "." in name or not search else dns.name.from_text(search))
        for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            try:
                answer = await resolver.resolve(full, kind, lifetime=ANSWER_WITHIN_S, search=False)
            except dns.resolver.NoAnswer:
                continue
            rows = answer.rrset or ()
            addresses = sorted({row.to_text() for row in rows}, key=lambda text: (len(text), text))
            if addresses:
                return Found(tuple(addresses[:ADDRESSES_MAX]), answer.rrset.ttl if answer.rrset else 0)
    except dns.resolver.NXDOMAIN:
        raise Unresolved("there is no such name") from None
    except dns.exception.Timeout:
        raise Unresolved(f"no DNS server answers within {ANSWER_WITHIN_S:.0f} s") from None
    except dns.resolver.NoNameservers as error:
        raise Unresolved(_refusals(error)) from None
    except Exception as error:  # what a DNS server answers must not end the controller
        raise Unresolved(f"it can't be looked up: {error}"[:200]) from None
    raise Unresolved("it has no address")


def _refusals(error: dns.resolver.NoNameservers) -> str:
    """What the DNS servers said, e.g. SERVFAIL; the library's own text is long."""
    said = [str(one[3]) for one in error.kwargs.get("errors", ()) if len(one) > 3]
    return f"the DNS servers refuse: {', '.join(dict.fromkeys(said))}"[:200] if said else "no DNS server is known"
