"""LB_ALGORITHM_CORE_AFFINITY: each thread of HAProxy has some of a pool's servers, and each server is some threads'. Pure.

HAProxy knows no such algorithm. A file (a map) says which servers a thread has; of these one is drawn for each request, and
where it is down the next ones are tried. When all these are down, any server of the pool will do.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence

from shoal.wire.desired import Pool, Server

from . import servers
from .escape import quoted

ALGORITHM = "LB_ALGORITHM_CORE_AFFINITY"
TRIES = 3
PLACES_MAX = 20_000
"""Lines of a file, more or less."""
SIZE, DRAW = "txn.core_size", "txn.core_draw"


def applies(pool: Pool, threads: int) -> bool:
    """Whether threads differ in what they use."""
    return 0 < pool.affinity < threads and not servers.hashes(pool) and not why_not(pool, threads)


def why_not(pool: Pool, threads: int) -> str:
    """Why a pool of this algorithm is served as any other; "" where it need not be."""
    if threads == 1:
        return "HAProxy has one thread here, which uses all servers."
    if pool.connections_max > 0:  # who is led to a server waits for it, though another one is free
        return "All threads use all servers: there is a limit of connections to each."
    return ""


def shares(pool: Pool, threads: int) -> list[list[str]]:
    """The servers of each thread, as HAProxy calls them, each as often as its ratio says. A server is used by as many threads
    in a row as the pool's degree says; a thread that is left without one has those of the next."""
    taking = sorted((one for one in pool.servers if one.enabled and one.ratio > 0), key=lambda one: one.name)
    weights = [servers.weight(one) for one in taking]
    common = math.gcd(*weights) or 1
    whole = pool.affinity * sum(weights) // common
    found: list[list[str]] = [[] for _ in range(threads)]
    for place, (server, weight) in enumerate(zip(taking, weights, strict=True)):
        times = weight // common if whole <= PLACES_MAX else max(1, weight // common * PLACES_MAX // whole)
        for step in range(pool.affinity):
            found[(place + step) % threads] += [servers.name(server)] * times
    order = [[(thread + step) % threads for step in range(threads)] for thread in range(threads)]
    return [next((found[one] for one in others if found[one]), []) for others in order]


def file(pool: Pool, threads: int) -> tuple[str, str]:
    """(its name, what is in it). The name tells what is in it."""
    lines = []
    for thread, names in enumerate(shares(pool, threads)):
        lines += [f"{thread} {len(names)}", *(f"{thread}:{place} {name}" for place, name in enumerate(names))]
    text = "".join(f"{line}\n" for line in lines)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest() + ".map", text


def draws(path: str, *, http: bool) -> Iterator[str]:
    """Lines of the backend: places among a thread's servers."""
    verb = "http-request" if http else "tcp-request content"
    yield f"{verb} set-var({SIZE}) thread,map({quoted(path)}),add(0)"  # a number now
    yield f"{verb} set-var({DRAW}0) rand,mod({SIZE})"
    for number in range(1, TRIES):
        yield f"{verb} set-var({DRAW}{number}) var({DRAW}0),add({number}),mod({SIZE})"


def uses(path: str, cookie: str) -> Iterator[str]:
    """Behind all that is not ``use-server``. ``cookie``: clients who bring it are led by it; "" = nobody is."""
    unless = f" !{{ req.cook({cookie}) -m found }}" if cookie else ""
    for number in range(TRIES):
        which = f"%[thread,concat(:,{DRAW}{number}),map({quoted(path)})]"
        yield f"use-server {which} if {{ var({SIZE}) -m int gt 0 }}{unless}"


def same_file(before: Pool, after: Pool) -> bool:
    """Whether the file stays as it is, on any engine."""
    return after.algorithm != ALGORITHM or _told(before.servers) == _told(after.servers)


def _told(named: Sequence[Server]) -> list[tuple[str, int]]:
    return sorted((servers.name(one), one.ratio) for one in named if one.enabled)
