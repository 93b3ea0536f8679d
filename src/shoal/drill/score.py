"""What came of it, beside what was foretold. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from .forecast import Forecast, Vip

TOLERANCE_MS = {"kill": 130.0, "freeze": 150.0, "cut": 150.0, "switchover": 20.0}
"""Over what is foretold: a connect that fails does so after 50 ms, and a machine may be busy."""
LATE_ANSWER_MS_MAX = 20.0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Of one VIP. ``answers``: who the controller says answers in the end; ``arp``: whose MAC did; "" = unknown."""

    answers: str
    arp: str = ""
    starts: int = 0
    failed: int = 0
    outage_ms: float = 0.0
    late_answer_ms: float = 0.0
    events: tuple[str, ...] = ()
    """What was told of it meanwhile, oldest first."""


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """``differences`` is empty when it went as foretold."""

    vip: str
    address: str
    virtualservices: tuple[str, ...]
    former: str
    predicted: str
    actual: str
    outage_ms: float
    predicted_ms: float
    failed: int
    starts: int
    late_answer_ms: float
    differences: tuple[str, ...]
    why: str
    """The engines' own words."""

    @property
    def as_planned(self) -> bool:
        return not self.differences


def score(forecast: Forecast, kind: str, vips: Iterable[Vip], seen: Mapping[str, Seen]) -> list[Score]:
    """One for each VIP, in order. ``seen``: by VIP id."""
    return [_score(forecast, kind, vip, seen.get(vip.vip, Seen(answers=""))) for vip in vips]


def _score(forecast: Forecast, kind: str, vip: Vip, seen: Seen) -> Score:
    predicted, foretold = forecast.taker(vip, kind), forecast.outage_ms(kind)
    limit = foretold + TOLERANCE_MS[kind]
    differences = [
        *_about_the_taker(forecast, vip, predicted, seen),
        *(
            [f"not answered for {seen.outage_ms:.0f} ms, {limit:.0f} at most were to be expected"]
            * (seen.outage_ms > limit)
        ),
        *(
            [f"its former owner still answered {seen.late_answer_ms:.0f} ms later"]
            * (seen.late_answer_ms > LATE_ANSWER_MS_MAX)
        ),
    ]
    return Score(
        vip=vip.vip,
        address=vip.address,
        virtualservices=tuple(service.name for service in vip.virtualservices),
        former=vip.answers,
        predicted=predicted,
        actual=seen.answers,
        outage_ms=round(seen.outage_ms, 1),
        predicted_ms=round(foretold, 1),
        failed=seen.failed,
        starts=seen.starts,
        late_answer_ms=round(seen.late_answer_ms, 1),
        differences=tuple(differences),
        why="; ".join(seen.events),
    )


def _about_the_taker(forecast: Forecast, vip: Vip, predicted: str, seen: Seen) -> list[str]:
    told = f": {seen.events[-1]}" if seen.events else ""
    if not seen.answers:
        return [f"nobody answers for it, {predicted} was to{told}"]
    found = []
    if seen.answers != predicted:
        if seen.answers == vip.answers:
            found.append(f"nobody took over, {predicted} was to: {vip.answers} goes on answering{told}")
        else:
            found.append(f"{seen.answers} took over, {predicted} was to{told or '; the events do not tell why'}")
    if seen.arp and seen.arp != seen.answers:
        found.append(f"{seen.arp} is the last that answered ARP, not {seen.answers}")
    return found
