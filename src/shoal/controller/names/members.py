"""Which servers of a pool document are names, and the document with their addresses in place. Pure."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from shoal.objects.views import is_address

Document = Mapping[str, Any]
EMPTY: Document = {}
NAME_CHARACTERS_MAX = 253
GROUP_SERVERS_MAX = 1_000
"""Of an IpAddrGroup, those that become servers."""
_NAME = re.compile(
    r"([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?"
)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a name. ``at``: when it was last answered, in seconds since the epoch; ``failing``: why it is not
    answered any more, "" while it is; ``former``: addresses of earlier answers, newest first."""

    addresses: tuple[str, ...] = ()
    at: float = 0.0
    failing: str = ""
    failing_since: float = 0.0
    former: tuple[str, ...] = ()


AnswerOf = Callable[[str], Answer | None]


def is_name(text: str) -> bool:
    """Whether it can be looked up: a name of DNS, and no address."""
    return len(text) <= NAME_CHARACTERS_MAX and _NAME.fullmatch(text) is not None and not is_address(text)


def name_of(server: Document, pool: Document = EMPTY) -> str:
    """What is to be looked up for the server, in lower case and without the final dot; "" if it is known by address."""
    ip = server.get("ip") or {}
    named = ip.get("addr", "") if ip.get("type") == "DNS" else ""
    if not named and (server.get("resolve_server_by_dns") or pool.get("resolve_pool_by_dns")):
        named = server.get("hostname", "")
    return str(named).rstrip(".").lower() if is_name(str(named)) else ""


def names(pool: Document) -> dict[str, None]:
    return {name: None for server in pool.get("servers", ()) if (name := name_of(server, pool))}


def expanded(pool: Document, answer_of: AnswerOf) -> dict[str, Any]:
    """The document with a server for each address of a name. A name without an answer yet is served by the address that
    the document gives, if it gives one. An address that is there already is not taken twice."""
    given = [server for server in pool.get("servers", ()) if not name_of(server, pool)]
    taken = {_place(pool, server) for server in given}
    servers: list[Document] = []
    for server in pool.get("servers", ()):
        for one in _servers(pool, server, answer_of) if name_of(server, pool) else (server,):
            if one is server or _place(pool, one) not in taken:
                taken.add(_place(pool, one))
                servers.append(one)
    return {**pool, "servers": servers}


def with_group(pool: Document, group: Document) -> dict[str, Any]:
    """The document with a server at ``default_server_port`` for each address of the group, besides those that it names; the
    first `GROUP_SERVERS_MAX`."""
    servers = list(pool.get("servers", ()))
    taken = {_place(pool, server) for server in servers}
    for address in itertools.islice(addresses_of(group), GROUP_SERVERS_MAX):
        one = {"ip": _ip(address), "hostname": address, "ratio": 1, "enabled": True}
        if _place(pool, one) not in taken:
            taken.add(_place(pool, one))
            servers.append(one)
    return {**pool, "servers": servers}


def addresses_of(group: Document) -> Iterator[str]:
    """One by one, each range from its beginning. Of a prefix those that machines can have."""
    yield from (one["addr"] for one in group.get("addrs") or ())
    for one in group.get("ranges") or ():
        first, last = ipaddress.ip_address(one["begin"]["addr"]), ipaddress.ip_address(one["end"]["addr"])
        yield from (str(first + step) for step in range(int(last) - int(first) + 1))
    for one in group.get("prefixes") or ():
        network = ipaddress.ip_network(f"{one['ip_addr']['addr']}/{one['mask']}", strict=False)
        yield from map(str, network.hosts())


def _servers(pool: Document, server: Document, answer_of: AnswerOf) -> Iterator[Document]:
    answer = answer_of(name_of(server, pool))
    if answer is None or not answer.addresses:
        address = str((server.get("ip") or {}).get("addr", ""))
        if is_address(address):
            yield {**server, "ip": _ip(address)}
        return
    for address in answer.addresses:
        yield {**server, "ip": _ip(address)}
    if not pool.get("delete_server_on_dns_refresh", True):
        for address in answer.former:
            yield {**server, "ip": _ip(address), "enabled": False}


def _place(pool: Document, server: Document) -> tuple[str, int]:
    return server["ip"]["addr"], server.get("port") or pool.get("default_server_port", 0)


def _ip(address: str) -> dict[str, str]:
    return {"addr": address, "type": "V6" if ":" in address else "V4"}
