"""The first lines of an answer: what it comes to, in plain words, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Document = dict[str, Any]
NAMES_SHOWN = 3
ADDED = "added-"
MS_PER_S = 1000.0


def lines(answer: Document) -> list[str]:
    """One sentence that decides, then what else there is to know, the most important first."""
    fails = answer["worst_of"] is not None or bool(answer["fails"])
    found = [_first(answer) if fails else _of_edits(answer)]
    if fails:
        found += _worst(answer)
    return found + _after(answer)


def duration(ms: float | None) -> str:
    """``0.3 s``, ``20 ms``, ``2 min``; None = ``until it is back``."""
    if ms is None:
        return "until it is back"
    if ms < 95:
        return f"{ms:.0f} ms"
    if ms < 99_500:
        return f"{ms / MS_PER_S:.1f} s"
    return f"{ms / MS_PER_S / 60:.0f} min"


def between(least: float, most: float | None) -> str:
    """``20 ms to 0.3 s``"""
    if most is None or duration(least) == duration(most):
        return duration(most)
    return f"{duration(least)} to {duration(most)}"


def some(names: Sequence[str]) -> str:
    """``a, b, c and 4 more``"""
    if len(names) <= NAMES_SHOWN + 1:
        return ", ".join(names)
    return f"{', '.join(names[:NAMES_SHOWN])} and {len(names) - NAMES_SHOWN} more"


def _services(count: int) -> str:
    return f"{count} virtual service{'' if count == 1 else 's'}"


def _engines(count: int) -> str:
    return f"{count} engine{'' if count == 1 else 's'}"


def _first(answer: Document) -> str:
    told = answer["virtualservices"]
    served = told["served"] + told["added"] - sum(name.startswith(ADDED) for name in told["unplaced"])
    lost = [*told["down"], *told["waiting"]]
    if told["down"]:
        rest = f", and {len(told['waiting'])} until a new engine is up" if told["waiting"] else ""
        stay = "stays" if len(told["down"]) == 1 else "stay"
        return (
            f"DOWN: {len(told['down'])} of {_services(served)} {stay} down until an engine is back{rest}: {some(lost)}."
        )
    if told["waiting"]:
        longest = _longest(answer, "waits")
        how_long = f"about {duration(longest)}" if longest is not None else "as long as making an engine takes"
        go = "goes" if len(told["waiting"]) == 1 else "go"
        return (
            f"DOWN for a time: {len(told['waiting'])} of {_services(served)} {go} down, for {how_long}, until "
            f"{_engines(answer['engines']['made'])} {'is' if answer['engines']['made'] == 1 else 'are'} made: "
            f"{some(told['waiting'])}."
        )
    if not told["interrupted"] and not answer["connections"]["lost"] and not told["weakened"]:
        if not answer["vips"]:
            return f"Nothing happens: {_who(answer)} {'serves' if len(answer['fails']) == 1 else 'serve'} nothing."
        return "Everything stays up, and nothing is interrupted."
    parts = []
    if told["interrupted"]:
        most = max((v["not_answered_ms"]["most"] or 0 for v in answer["vips"]), default=0)
        least = min((v["not_answered_ms"]["least"] for v in answer["vips"] if v["not_answered_ms"]["most"]), default=0)
        parts.append(f"{len(told['interrupted'])} of {served} do not answer for {between(least, most)}")
    else:
        parts.append("every address goes on answering")
    if told["weakened"]:
        parts.append(f"{len(told['weakened'])} run on fewer engines for a time")
    if answer["worst_of"] is not None and answer["worst_of"]["exact"]:
        count = _engines(answer["worst_of"]["engines"])
        return f"Any {count} may fail, and everything stays up: at worst {', '.join(parts)}."
    return f"Everything stays up: {', '.join(parts)}."


def _longest(answer: Document, what: str) -> float | None:
    found = [vip["not_answered_ms"]["most"] for vip in answer["vips"] if vip["what"] == what]
    return None if not found or None in found else max(found)


def _who(answer: Document) -> str:
    return some(answer["fails"])


def _of_edits(answer: Document) -> str:
    told, engines = answer["virtualservices"], answer["engines"]
    if not answer["edits"]:
        return margin_sentence(answer["margin"]["before"])
    if told["unplaced"]:
        return (
            f"NOT ENOUGH ROOM: {_services(len(told['unplaced']))} would get no engine: {some(told['unplaced'])}. "
            "All others stay up."
        )
    parts = []
    if told["moved"]:
        parts.append(f"{_services(len(told['moved']))} change{'s' if len(told['moved']) == 1 else ''} engines")
    if engines["made"]:
        parts.append(f"{_engines(engines['made'])} {'is' if engines['made'] == 1 else 'are'} made")
    if engines["deleted_when_idle"]:
        parts.append(f"{_engines(len(engines['deleted_when_idle']))} will be deleted when idle for long")
    if not parts:
        return "Everything stays up, and nothing moves."
    return f"Everything stays up, nothing is interrupted: {', '.join(parts)}."


def _worst(answer: Document) -> list[str]:
    worst = answer["worst_of"]
    if worst is None:
        return []
    which = f"{_engines(worst['engines'])}: {', '.join(answer['fails'])}"
    if worst["exact"]:
        return [f"The worst {which} (exact; there are {worst['sets']:,} such sets)."]
    return [
        f"The worst {which} (NOT exact: {worst['looked_at']:,} of {worst['sets']:,} sets were looked at; proven is that "
        f"no set takes more than {worst['vips_down_at_most']} VIPs down)."
    ]


def _after(answer: Document) -> list[str]:
    told, end, engines = answer["virtualservices"], answer["capacity"]["in_the_end"], answer["engines"]
    found = []
    if told["unserved"]:
        are = "is" if len(told["unserved"]) == 1 else "are"
        found.append(f"{_services(len(told['unserved']))} {are} not served as it is: {some(told['unserved'])}.")
    if engines["not_drained"]:
        found.append(f"{some(engines['not_drained'])} can't be drained: what is there has nowhere to go, and stays.")
    if told["reduced"]:
        found.append(f"{_services(len(told['reduced']))} stay below the engines they ask for: {some(told['reduced'])}.")
    if not end["kept"]:
        found.append(f"Buffer: SHORT in the end, {end['free']} of {end['needed']} slots free.")
    if told["exposed"]:
        one = len(told["exposed"]) == 1
        found.append(
            f"Then the next failure hurts: {_services(len(told['exposed']))} {'has' if one else 'have'} no successor: "
            f"{some(told['exposed'])}."
        )
    if answer["hints"] and (told["down"] or told["unplaced"] or told["reduced"] or not end["kept"]):
        found.append(f"What would help: {answer['hints'][0]}")
    return found


def margin_sentence(margin: Document) -> str:
    """``Any 1 of 4 engines may fail and everything stays up; ...``"""
    up, whole, engines = margin["stays_up"], margin["keeps_capacity"], margin["of_engines"]
    if not engines:
        return "The group has no engine that is up."
    if up["engines"] >= engines:
        return "Nothing is served here, so nothing can go down."
    least = "" if up["exact"] else "at least "
    if up["engines"] == 0 and up["exact"]:
        first = (
            f"One failure is too many: without {', '.join(up['broken_by'])} something is down until an engine is made"
        )
    else:
        first = f"Any {least}{up['engines']} of {engines} engines may fail at once, and everything stays up"
    if whole["engines"] >= up["engines"]:
        return f"{first}, on as many engines as before."
    with_all = f"with any {whole['engines']}" if whole["engines"] else "with none"
    return f"{first}; on as many engines as before {with_all}."
