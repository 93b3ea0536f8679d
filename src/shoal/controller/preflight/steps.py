"""What two engines say to a neighbour (the gateway, as a rule), and what they hear of it: a `Trial`.

The test address is nobody's. First engine ``a`` has it, as a VIP's owner would; then ``b`` takes it over, then ``a`` takes
it back. Who hears an answer is whom the neighbour believes to have it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from shoal.wire.preflight import Heard, Probe, Probed, Say

CLIENT = "192.0.2.1"
"""A client from far away (RFC 5737: nobody has it)."""
SETTLED_S = 1.2
"""A Linux neighbour takes no other MAC for an address within a second of the last one (``locktime``)."""
SIZES = (9000, 8950, 1600, 1550, 1500, 1450, 1400, 1350, 1280, 1000, 576)
"""Tried, beside the interface's MTU."""
FIRST, RETURNED, HANDED_ON, TAKEN, BACK, BETWEEN, OUTWARD = 1, 2, 3, 4, 5, 100, 200
"""Numbers of echoes; of the last two, the first of a row of sizes."""


class Party(msgspec.Struct, frozen=True):
    """An engine that takes part."""

    id: str
    name: str
    address: str


class Trial(msgspec.Struct, kw_only=True):
    """What was heard. MACs are "" for what did not answer; ``in_use``: the MAC of one that has the test address."""

    a: Party
    b: Party
    address: str
    neighbour: str
    mac_a: str = ""
    mac_b: str = ""
    in_use: str = ""
    neighbour_mac_a: str = ""
    neighbour_mac_b: str = ""
    mtu: int = 0
    heard_a: list[Heard] = []
    heard_b: list[Heard] = []
    sizes: tuple[int, ...] = ()
    further_mac: str = ""
    problem: str = ""
    """Why it ended early."""


Ask = Callable[[str, Probe], Awaitable[Probed | None]]
"""(engine, what) -> what it heard; None if it does not answer."""


async def run(ask: Ask, trial: Trial) -> Trial:
    """Some six seconds. The trial as far as it came."""
    for step in (_look, _first, _taken, _back):
        await step(ask, trial)
        if trial.problem:
            break
    return trial


async def _both(ask: Ask, trial: Trial, a: Probe, b: Probe) -> tuple[Probed, Probed] | None:
    one, other = await asyncio.gather(ask(trial.a.id, a), ask(trial.b.id, b))
    for party, probed in ((trial.a, one), (trial.b, other)):
        if probed is None or probed.problem:
            trial.problem = f"{party.name} could not take part: {probed.problem if probed else 'no answer in time'}."
    if one is None or other is None or trial.problem:
        return None
    trial.heard_a += one.heard
    trial.heard_b += other.heard
    return one, other


def _probe(trial: Trial, says: Iterable[Say], ms: int, *, answers: bool = False) -> Probe:
    return Probe(id=0, address=trial.address, says=tuple(says), listen_ms=ms, answers=answers, mac=trial.further_mac)


async def _look(ask: Ask, trial: Trial) -> None:
    """Who has the test address, and which MAC the neighbour has."""
    says = [
        Say(kind="ask", at_ms=at, target=target) for at in (0, 100, 200) for target in (trial.address, trial.neighbour)
    ]
    found = await _both(ask, trial, _probe(trial, says, 500), _probe(trial, says, 500))
    if found is None:
        return
    one, other = found
    trial.mac_a, trial.mac_b, trial.mtu = one.mac, other.mac, min(one.mtu, other.mtu)
    trial.in_use = _who(one, trial.address) or _who(other, trial.address)
    trial.neighbour_mac_a, trial.neighbour_mac_b = _who(one, trial.neighbour), _who(other, trial.neighbour)
    trial.further_mac = _further(one.mac)
    trial.sizes = tuple(sorted({trial.mtu, *(size for size in SIZES if size <= trial.mtu)}, reverse=True))
    if trial.in_use:
        trial.problem = f"{trial.address} is in use: {trial.in_use} answers for it. Give another --address."
    elif not trial.neighbour_mac_a or not trial.neighbour_mac_b:
        silent = trial.a if not trial.neighbour_mac_a else trial.b
        trial.problem = f"{trial.neighbour} does not answer {silent.name}. Give a --neighbour on the engines' network."


def _who(probed: Probed, address: str) -> str:
    return next((h.mac for h in probed.heard if h.kind == "answer" and h.address == address), "")


def _further(mac: str) -> str:
    """One more MAC, locally administered, that no engine has."""
    return f"06:5a:0b:{mac[9:]}"


def _echoes(trial: Trial, number: int, *at_ms: int, to_mac: str, source: str = "", target: str = "") -> list[Say]:
    base = Say(
        kind="echo",
        at_ms=0,
        source=source or trial.address,
        target=target or trial.neighbour,
        to_mac=to_mac,
        number=number,
    )
    return [msgspec.structs.replace(base, at_ms=at) for at in at_ms]


def _sized(trial: Trial, number: int, at_ms: int, target: str, to_mac: str) -> list[Say]:
    return [
        Say(kind="echo", at_ms=at_ms + 5 * i, target=target, to_mac=to_mac, number=number + i, size=size)
        for i, size in enumerate(trial.sizes)
    ]


async def _first(ask: Ask, trial: Trial) -> None:
    """``a`` has the address; then ``b`` speaks from it, as a secondary's replies do."""
    to_a, to_b = trial.neighbour_mac_a, trial.neighbour_mac_b
    a = [
        *_echoes(trial, FIRST, 0, 100, 200, to_mac=to_a),
        Say(kind="ask", at_ms=300, target=trial.neighbour, mac=trial.further_mac),
        *_echoes(trial, HANDED_ON, 800, 850, to_mac=trial.mac_b, source=CLIENT, target=trial.address),
        *_sized(trial, BETWEEN, 900, trial.b.address, trial.mac_b),
        *_sized(trial, OUTWARD, 1000, trial.neighbour, to_a),
    ]
    b = [
        *_echoes(trial, RETURNED, 500, 600, to_mac=to_b),
        Say(kind="ask", at_ms=1000, target=trial.neighbour, mac=trial.further_mac),
    ]
    await _both(ask, trial, _probe(trial, a, 1400, answers=True), _probe(trial, b, 1400))
    await asyncio.sleep(SETTLED_S)


async def _taken(ask: Ask, trial: Trial) -> None:
    says = [Say(kind="announce", at_ms=at, source=trial.address) for at in (0, 50)]
    says += _echoes(trial, TAKEN, 200, 300, to_mac=trial.neighbour_mac_b)
    await _both(ask, trial, _probe(trial, (), 600), _probe(trial, says, 600, answers=True))
    await asyncio.sleep(SETTLED_S)


async def _back(ask: Ask, trial: Trial) -> None:
    says = [Say(kind="announce", at_ms=at, source=trial.address) for at in (0, 50)]
    says += _echoes(trial, BACK, 200, 300, to_mac=trial.neighbour_mac_a)
    await _both(ask, trial, _probe(trial, says, 600, answers=True), _probe(trial, (), 600))
