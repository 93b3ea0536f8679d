"""Which pool a request goes to, as HAProxy's rules. Pure.

The variable ``txn.to`` holds the choice: the name of a backend, or of a group, which is then replaced by one of its
pools. A pool is looked at when it is chosen, so servers that come and go need no other configuration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import msgspec

from shoal.wire import policy
from shoal.wire.desired import Group, Member, Persistence, Service
from shoal.wire.policy import Switch

from . import rules, server_modes
from .escape import Unrenderable, argument, backend_name, quoted, within
from .rules import CHOSEN, FREE, SERVERS_MAX, TO

KEPT = "txn.kept"
SUM, HAVE, LACK, DRAW = "txn.sum", "txn.have", "txn.lack", "txn.draw"
RATIO_MAX = 1_000
SPREAD = 10_000
"""A client's hash falls on one of so many places; shares are counted along them."""


class Choice(msgspec.Struct, frozen=True):
    """``targets``: where a `Switch` leads, by id. ``lines`` of the frontend, behind all that may switch; ``responses`` are
    the same for what goes back."""

    targets: Mapping[str, str]
    lines: tuple[str, ...] = ()
    responses: tuple[str, ...] = ()


def backends(service: Service) -> dict[str, str]:
    """The backend of each pool, by the pool's id. Raises Unrenderable."""
    found = {pool.id: backend_name(service.id, pool.id) for pool in service.pools}
    if len(found) < len(service.pools):
        raise Unrenderable("Two of its pools have the same id.")
    return found


def switches(wanted: Sequence[policy.Rule]) -> Iterator[Switch]:
    return (action for rule in wanted for action in rule.actions if isinstance(action, Switch))


def choice(service: Service, *, http: bool) -> Choice:
    """Raises Unrenderable."""
    targets = backends(service)
    groups = {group.id: f"group{number}" for number, group in enumerate(service.groups)}
    if len(groups) < len(service.groups) or targets.keys() & groups.keys():
        raise Unrenderable("Two of its pools or groups have the same id.")
    if service.group and service.group not in groups:
        raise Unrenderable(f"It has no group {service.group[:60]!r}.")
    verb = "http-request" if http else "tcp-request content"
    lines = list(_selections(service.rules, {**targets, **groups}, verb))
    lines += [f"{verb} set-var({TO}) str({groups[service.group]}) if {FREE}"] if service.group else []
    ups = {pool.id: _up(targets[pool.id], pool.servers_min) for pool in service.pools}
    for group in service.groups:
        lines += _group(group, groups[group.id], targets, ups, verb, http=http)
    if lines or any(switches(service.rules)):
        lines += server_modes.ways(service, targets, TO)
        lines.append(f"use_backend %[var({TO})] if {CHOSEN}")
    keeps = http and any(_by_cookie(group) for group in service.groups)
    responses = (f"http-response add-header Set-Cookie %[var({KEPT})] if {{ var({KEPT}) -m found }}",) if keeps else ()
    return Choice({**targets, **groups}, tuple(lines), responses)


def _selections(wanted: Sequence[policy.Rule], targets: Mapping[str, str], verb: str) -> Iterator[str]:
    """Of clients and ports: these rules are the same for TCP and HTTP."""
    for rule in wanted:
        if rule.phase != policy.SELECTION:
            continue
        if any(test.of not in ("client", "client_port", "port") for test in rule.tests):
            raise Unrenderable(f"The rule {rule.name[:60]!r} asks of a connection what only a request tells.")
        conditions = " ".join([*map(rules.condition, rule.tests), FREE])
        for action in rule.actions:
            if not isinstance(action, Switch):
                raise Unrenderable(f"{type(action).__name__} selects no pool.")
            yield from (f"{verb} {text} if {conditions}" for text in rules.switch(action, targets))


# --- groups ---


def _group(
    group: Group, name: str, targets: Mapping[str, str], ups: Mapping[str, str], verb: str, *, http: bool
) -> Iterator[str]:
    """Turns ``name`` in `TO` into a backend of one of its pools. ``ups``: the condition that a pool is up."""
    here = f"{{ var({TO}) -m str {name} }}"
    members = sorted((one for one in group.members if one.ratio > 0), key=lambda one: -one.priority)
    if any(one.pool not in targets for one in members):
        raise Unrenderable(f"The group {group.name[:60]!r} has a pool that is not there.")
    places = {one.pool: targets[one.pool] for one in members}
    if len(places) < len(members):
        raise Unrenderable(f"The group {group.name[:60]!r} has a pool twice.")
    if _by_cookie(group) and http:
        for pool, backend in places.items():
            yield f"{verb} set-var({TO}) str({backend}) if {here} {_came_with(group, pool)} {ups[pool]}"
    yield from _drawn(group, members, places, ups, here, verb, http=http)
    if _by_cookie(group) and http:
        # A client that comes with the cookie of another pool, which is down, gets a new one.
        for pool, backend in places.items():
            to = f"{{ var({TO}) -m str {backend} }}"
            yield f"{verb} set-var({KEPT}) {quoted(f'str({_cookie(group, pool)})')} if {to} !{_came_with(group, pool)}"
    action = group.without_servers
    if action is not None and (http or isinstance(action, policy.Close)):
        texts = rules.answer(action) if http else ["reject"]
        yield from (f"{verb} {text} if {here}" for text in texts)
    elif members:
        first = places[members[0].pool]
        yield f"{verb} set-var({TO}) str({first}) if {here}"
    elif http:
        yield f"{verb} return status 503 if {here}"
    else:
        yield f"{verb} reject if {here}"


def _drawn(
    group: Group,
    members: Sequence[Member],
    places: Mapping[str, str],
    ups: Mapping[str, str],
    here: str,
    verb: str,
    *,
    http: bool,
) -> Iterator[str]:
    """Ratios of those that are up are laid end to end, and a place on them is drawn."""
    tiers = [list(tier) for _, tier in groupby(members, key=lambda one: one.priority)]
    wanted = within(group.servers_min, 1, SERVERS_MAX)
    if members:
        yield from (f"{verb} set-var({name}) int(0) if {here}" for name in ((SUM, HAVE) if len(tiers) > 1 else (SUM,)))
    number = 0
    ends: list[tuple[str, str]] = []
    for rank, tier in enumerate(tiers):
        asked = here
        if rank:
            yield f"{verb} set-var({LACK}) var({HAVE}),sub({wanted}) if {here}"
            asked = f"{here} {{ var({LACK}) -m int lt 0 }}"
        for member in tier:
            backend, end = places[member.pool], f"txn.end{number}"
            number += 1
            ends.append((backend, end))
            then = f"{asked} {ups[member.pool]}"
            yield f"{verb} set-var({SUM}) var({SUM}),add({within(member.ratio, 1, RATIO_MAX)}) if {then}"
            yield f"{verb} set-var({end}) var({SUM}) if {here}"
            if rank < len(tiers) - 1:
                yield f"{verb} set-var({HAVE}) nbsrv({backend}),add({HAVE}) if {then}"
    if members:
        yield f"{verb} set-var({DRAW}) {_place(group.persistence, http=http)} if {here} {{ var({SUM}) -m int gt 0 }}"
    for backend, end in ends:
        drawn = f"{{ var({SUM}) -m int gt 0 }} {{ var({DRAW}),sub({end}) -m int lt 0 }}"
        yield f"{verb} set-var({TO}) str({backend}) if {here} {drawn}"


def _up(backend: str, servers_min: int) -> str:
    """The condition that a pool has servers enough."""
    return f"{{ nbsrv({backend}) ge {within(servers_min, 1, SERVERS_MAX)} }}"


def client_key(kept: Persistence) -> str:
    """What of a client's address counts."""
    if kept.bits < 0:
        return "src"
    return f"src,ipmask({within(kept.bits, 0, 32)},{within(kept.bits, 0, 128)})"


def _place(kept: Persistence | None, *, http: bool) -> str:
    """A number below the sum; the same one for clients that are kept by what they are."""
    if kept is not None and (kept.kind == "client" or (kept.kind == "header" and http)):
        key = client_key(kept) if kept.kind == "client" else f"req.fhdr({argument(kept.name)})"
        return f"{key},xxh32,mod({SPREAD}),mul({SUM}),div({SPREAD})"
    return f"rand,mod({SUM})"


def _by_cookie(group: Group) -> bool:
    return group.persistence is not None and group.persistence.kind in ("cookie", "app_cookie")


def _came_with(group: Group, pool: str) -> str:
    return f"{{ req.cook({_name(group)}) -m str {_token(pool)} }}"


def _name(group: Group) -> str:
    return f"G{_digest(group.id, 8)}"


def _token(pool: str) -> str:
    return _digest(pool, 12)


def _cookie(group: Group, pool: str) -> str:
    assert group.persistence is not None
    seconds = int(group.persistence.timeout_s)
    return f"{_name(group)}={_token(pool)}; path=/; HttpOnly" + (f"; Max-Age={seconds}" if seconds > 0 else "")


def _digest(text: str, characters: int) -> str:
    return hashlib.blake2b(text.encode(errors="surrogatepass")).hexdigest()[:characters]
