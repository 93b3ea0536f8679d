"""One order for what everybody noted: the prober's findings, engines' records, the controller's events and decisions.

Pure. All times are seconds since the epoch by one clock, the controller's; whoever calls has put them there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import msgspec

from shoal.observe import watch
from shoal.wire.recorded import Recording

QUIET_S = 10.0
"""Signs of trouble with so much quiet between them belong to different incidents."""
PROBER, CONTROLLER = "prober", "controller"
SIGNS = frozenset(
    [
        "session ended",
        "peer silent",
        "haproxy down",
        "link down",
        "lease lost",
        watch.SILENT,
        watch.REFUSES,
        watch.UNCONNECTED,
        watch.TWO,
        watch.STRANGER,
    ]
)
"""Kinds that say that something is wrong."""
LAST_BEAT = "last beat"
ADOPTED = "decision: promote"
"""What the decision is called by which the controller makes a taker the planned owner."""
HEARD = "VS_ADD_SE"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """``who`` is ``prober``, ``controller`` or an engine's name, ``part`` its guard or agent. ``about``: another engine.

    ``ms`` is a duration that belongs to ``what``; ``after_ms`` the time since the incident's first sign.
    """

    at: float
    who: str
    what: str
    part: str = ""
    vip: str = ""
    about: str = ""
    text: str = ""
    ms: float = 0.0
    after_ms: float = 0.0


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A takeover of one VIP. Times in ms after its first sign; None = not seen.

    ``noticed_ms``: when the taker's guard missed the former owner; ``outage_ms`` is what the prober saw.
    """

    vip: str
    former: str
    taker: str
    sign: str
    noticed_ms: float | None = None
    claimed_ms: float | None = None
    took_ms: float | None = None
    answers_ms: float | None = None
    serves_ms: float | None = None
    heard_ms: float | None = None
    adopted_ms: float | None = None
    outage_ms: float | None = None
    sentence: str = ""


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """``zero``: when the first sign of the last incident was; 0 = there is none in ``entries``."""

    zero: float
    entries: tuple[Entry, ...]
    takeovers: tuple[Account, ...]


def entries_of(
    recording: Recording,
    who: str,
    wall: Callable[[int], float],
    named: Callable[[str], str],
    vips: Mapping[str, str],
    now: float,
) -> list[Entry]:
    """One writer's records. ``wall(monotonic ns)``: the controller's clock; ``named`` puts names for ids in a text.

    A writer that has shown no life for a second is taken for dead, and its last beat is an entry too.
    """
    part = "" if recording.writer == PROBER else recording.writer
    found = [
        Entry(
            at=wall(record.monotonic_ns),
            who=who,
            part=part,
            what=record.kind,
            vip=vips.get(record.vip, record.vip),
            about=named(record.about),
            text=named(record.text),
            ms=round(record.ms, 1) if math.isfinite(record.ms) else 0.0,
        )
        for record in recording.records
    ]
    if recording.writer == "guard" and recording.alive_ns and now - (last := wall(recording.alive_ns)) > 1.0:
        found.append(Entry(at=last, who=who, part=part, what=LAST_BEAT, text="no sign of life of this guard since"))
    return found


def merge(entries: Iterable[Entry], since: float) -> Incident:
    """In order, from ``since`` on, counted from the first sign of the last incident."""
    order = sorted((entry for entry in entries if entry.at >= since), key=lambda e: (e.at, e.who, e.part, e.what))
    zero = _first_sign(order)
    shown = tuple(msgspec.structs.replace(e, after_ms=round((e.at - zero) * 1000, 1)) if zero else e for e in order)
    return Incident(zero=zero, entries=shown, takeovers=_takeovers(shown) if zero else ())


def _first_sign(order: list[Entry]) -> float:
    zero = last = 0.0
    for entry in order:
        if entry.what in SIGNS:
            if entry.at - last > QUIET_S:
                zero = entry.at
            last = entry.at
    return zero


def _takeovers(order: tuple[Entry, ...]) -> tuple[Account, ...]:
    """Of the last incident."""
    found = []
    for index, took in enumerate(order):
        if took.what == "took" and took.part == "guard" and took.after_ms >= 0 and took.about not in ("", took.who):
            sign = next((e for e in order[:index] if e.after_ms >= 0 and e.what in SIGNS and _concerns(e, took)), None)
            if sign is not None:
                found.append(_account(order, index, took, sign))
    return tuple(found)


def _concerns(sign: Entry, took: Entry) -> bool:
    """It is about the engine that had the VIP: what others say of it, or, when it is of nobody else, it of itself."""
    if sign.who == PROBER:
        return sign.vip == took.vip and sign.about == took.about
    return (sign.about or sign.who) == took.about


def _account(order: tuple[Entry, ...], index: int, took: Entry, sign: Entry) -> Account:
    def after(entry: Entry | None) -> float | None:
        return None if entry is None else round(entry.after_ms - sign.after_ms, 1)

    def of_vip(who: str, what: str, entries: Iterable[Entry], about: str = "") -> Entry | None:
        wanted = (e for e in entries if (e.who, e.what, e.vip) == (who, what, took.vip))
        return next((e for e in wanted if not about or e.about == about), None)

    before = [e for e in order[: index + 1] if e.after_ms >= sign.after_ms]
    later = [e for e in order if e.after_ms >= sign.after_ms]
    noticed = next((e for e in before if e.who == took.who and e.what in SIGNS and _concerns(e, took)), None)
    claimed = of_vip(took.who, "claim", before)
    taken = of_vip(took.who, "take", before) or took  # "took" is told when all is done, the announcement included
    answers = of_vip(PROBER, watch.ANSWERS, later, took.who)
    serves = of_vip(PROBER, watch.SERVES, later)
    account = Account(
        vip=took.vip,
        former=took.about,
        taker=took.who,
        sign=f"{sign.what} ({sign.who})",
        noticed_ms=after(noticed),
        claimed_ms=after(claimed),
        took_ms=after(taken),
        answers_ms=after(answers),
        serves_ms=after(serves),
        heard_ms=after(of_vip(CONTROLLER, HEARD, later)),
        adopted_ms=after(of_vip(CONTROLLER, ADOPTED, later, took.who)),
        outage_ms=serves.ms if serves is not None else None,
    )
    return msgspec.structs.replace(account, sentence=_sentence(account))


def _sentence(account: Account) -> str:
    taker = account.taker
    steps = [
        (account.noticed_ms, f"{taker} noticed"),
        (account.claimed_ms, f"{taker} claimed it"),
        (account.took_ms, f"{taker} took it"),
        (account.answers_ms, "the prober heard its MAC"),
        (account.serves_ms, "connections were taken again"),
        (account.heard_ms, "the controller heard of it"),
        (account.adopted_ms, "it adopted the takeover"),
    ]
    seen = sorted((step for step in steps if step[0] is not None), key=lambda step: step[0] or 0.0)
    said = [f"{what} +{ms:.1f}" for ms, what in seen]
    outage = "the prober saw no outage" if account.outage_ms is None else f"out for {account.outage_ms:.0f} ms"
    return f"{account.vip}: {account.former}: {account.sign} at +0.0; {', '.join(said)}; {outage}"
