"""How placements read: the answer first, then a table, engines that fare alike in one row.

Knows the API's placement documents; `Ink` puts colour where there is a terminal to show it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from .tables import box, one_line
from .times import UTC_ZONE, Zone

Document = Mapping[str, Any]
Row = tuple[str, ...]

ALONE_MAX = 3
"""More engines than this that fare alike share a row."""
RANKED_MAX = 5
"""Eligible engines named; the others are counted."""
ROWS_MAX = 40
"""Virtual services listed of an engine or a group."""
VERDICTS = {
    "chosen": "chosen",
    "down": "down",
    "suspect": "out of sight",
    "creating": "being made",
    "holds_vip": "on it already",
    "disabled": "disabled",
    "network": "not in its network",
    "no_room": "no room",
    "host_in_use": "host in use",
}
WHATS = {
    "place": "placed on {}",
    "wait": "waits for {}",
    "unplace": "left {}",
    "promote": "{} became its primary",
    "drain": "drains from {}",
    "migrate": "moves to {}",
    "none": "nothing could be done",
}


class Ink(msgspec.Struct, frozen=True):
    """``colour``: the output is a terminal."""

    colour: bool = False

    @classmethod
    def of_stdout(cls) -> Ink:
        """Colour where standard output is a terminal, unless NO_COLOR is set."""
        return cls(colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))

    def good(self, text: str) -> str:
        return self._in(32, text)

    def doubtful(self, text: str) -> str:
        return self._in(33, text)

    def bad(self, text: str) -> str:
        return self._in(31, text)

    def strong(self, text: str) -> str:
        return self._in(1, text)

    def _in(self, code: int, text: str) -> str:
        text = one_line(text)
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text


PLAIN = Ink()

# --- a virtual service ---


def service(found: Document, ink: Ink, zone: Zone = UTC_ZONE) -> str:
    """``show virtualservice V placement``"""
    lines = [_verdict(vip, ink) for vip in found["vips"]] or [ink.doubtful(found["answer"])]
    lines += [one_line(f"Note: {note}") for note in found["notes"]]
    for vip in found["vips"]:
        if vip["would_help"]:
            lines.append(ink.strong(f"What would help: {vip['would_help']}"))
        lines += ["", *_vip(vip, zone)]
    return "\n".join(lines)


def _verdict(vip: Document, ink: Ink) -> str:
    colour = ink.good if vip["whole"] else ink.doubtful if vip["served"] else ink.bad
    return colour(vip["answer"])


def _vip(vip: Document, zone: Zone) -> list[str]:
    lines = [
        f"VIP {vip['vip_id']} {vip['address']}: {vip['assigned']} of {vip['requested']} engines, {vip['scale_state']}"
    ]
    if vip["placements"]:
        rows = [_placement(p, vip, zone) for p in vip["placements"]]
        rows += [_standby(s) for s in vip["standbys"] if all(s["se_ref"] != p["se_ref"] for p in vip["placements"])]
        lines.append(box(("Engine", "Role", "State", f"Since ({zone.name})"), rows))
    heirs = " -> ".join(_name(reference) for reference in vip["succession"])
    if heirs:
        until_then = " -> ".join(_name(reference) for reference in vip.get("in_force", ()))
        unarmed = f"not armed yet; until then {until_then}" if until_then else "not armed yet"
        if until_then == heirs:
            unarmed = "armed, but not all of these engines run it now"
        lines.append(one_line(f"Succession: {heirs} ({'armed' if vip['armed'] else unarmed})"))
    considered = vip["considered"]
    if considered.get("engines"):
        lines += [
            "",
            _heading(considered, zone),
            box(("Engine", "Verdict", "Slots", "Host", "Why"), _rows(considered, vip)),
        ]
    if vip["decisions"]:
        lines += ["", f"What was decided ({zone.name}):"]
        for decision in vip["decisions"]:
            lines += [one_line(line) for line in _decision(decision, zone)]
    return lines


def _placement(placement: Document, vip: Document, zone: Zone) -> Row:
    name = _name(placement["se_ref"])
    answers = ", answers" if name == vip["answers"] else ""
    return name, placement["role"], placement["state"] + answers, zone.time(placement["since"])


def _standby(standby: Document) -> Row:
    return _name(standby["se_ref"]), "standby", "ready" if standby["ready"] else "not ready yet", ""


def _heading(considered: Document, zone: Zone) -> str:
    if considered["as_of_now"]:
        return f"The engines ({considered['note']}):"
    return f"The engines, as they were judged at {zone.time(considered['at'])} (revision {considered['revision']}):"


def _rows(considered: Document, vip: Document) -> Iterable[Row]:
    """Chosen, eligible by rank, then the excluded by rule: many that fare alike are one row."""
    engines = considered["engines"]
    chosen = [e for e in engines if e["verdict"] == "chosen"]
    ranked = [e for e in engines if e["verdict"] == "eligible"]
    why = next((d["why"] for d in reversed(vip["decisions"]) if d["at"] == considered["at"]), "")
    for engine in chosen:
        yield _row(engine, "chosen", why)
    for engine in ranked[:RANKED_MAX]:
        first = engine is ranked[0]
        yield _row(
            engine,
            "next best" if first and chosen else "could take it",
            f"rank {engine['rank']} of {len(ranked) + len(chosen)}",
        )
    if len(ranked) > RANKED_MAX:
        rest = ranked[RANKED_MAX:]
        yield _together(rest, "could take it", f"rank {rest[0]['rank']} and later")
    alike: dict[tuple[str, str], list[Document]] = {}
    for engine in engines:
        if engine["verdict"] not in ("chosen", "eligible"):
            alike.setdefault((engine["verdict"], engine["detail"]), []).append(engine)
    for (verdict, detail), same in sorted(alike.items(), key=lambda item: (item[0][0], -len(item[1]))):
        word = VERDICTS.get(verdict, verdict)
        if len(same) > ALONE_MAX:
            yield _together(same, word, detail)
        else:
            for engine in same:
                yield _row(engine, word, detail)


def _row(engine: Document, verdict: str, why: str) -> Row:
    return engine["serviceengine"], verdict, _slots(engine), engine["host"], why


def _together(engines: list[Document], verdict: str, why: str) -> Row:
    loads = sorted(engine["slots_used"] for engine in engines)
    used = str(loads[0]) if loads[0] == loads[-1] else f"{loads[0]}..{loads[-1]}"
    hosts = {engine["host"] for engine in engines}
    host = hosts.pop() if len(hosts) == 1 else f"{len(hosts)} hosts"
    return f"{len(engines)} engines", verdict, f"{used}/{engines[0]['slots']}", host, why


def _decision(decision: Document, zone: Zone) -> list[str]:
    what = WHATS.get(decision["what"], str(decision["what"])).format(decision["serviceengine"])
    lines = [f"  {zone.time(decision['at'])}  {what}: {decision['why']}"]
    besides = [f"next best of {decision['eligible']}: {decision['runner_up']}"] if decision["runner_up"] else []
    if decision["excluded"]:
        besides.append(", ".join(f"{count} {VERDICTS.get(rule, rule)}" for rule, count in decision["excluded"].items()))
    indent = " " * lines[0].index("  ", 2) + "  "
    return lines + ([f"{indent}{'; '.join(besides)} (revision {decision['revision']})"] if besides else [])


# --- a service engine ---


def engine(found: Document, ink: Ink, zone: Zone = UTC_ZONE) -> str:
    """``show serviceengine S placement``"""
    usual = found["state"] == "up" and found["enable_state"] == "SE_STATE_ENABLED"
    colour = ink.bad if found["state"] == "down" else ink.good if usual else ink.doubtful
    lines = [colour(found["answer"])]
    about = [f"group {found['serviceenginegroup']}"]
    about += [f"host {found['host']}"] if found["host"] else []
    about += [f"made because: {found['why']}"] if found["why"] else []
    lines.append(one_line(f"G{'; '.join(about)[1:]}."))
    if found["placements"]:
        rows: list[Row] = [
            (_services(p), p["role"], p["state"], str(p["slots"]), zone.time(p["since"]), p["why"])
            for p in found["placements"]
        ]
        lines += [
            "",
            box(("Virtual service", "Role", "State", "Slots", f"Since ({zone.name})", "Why here"), _few(rows)),
        ]
    if found["successor_of"]:
        rows = [(_services(s), s["owner"], str(s["position"])) for s in found["successor_of"]]
        lines += [
            "",
            "It takes over, when those before it fail:",
            box(("Virtual service", "Owner", "Place"), _few(rows)),
        ]
    return "\n".join(lines)


# --- a group ---


def group(found: Document, ink: Ink, _zone: Zone = UTC_ZONE) -> str:
    """``show serviceenginegroup G placement``"""
    down = any(not one["assigned"] for one in found["short"])
    well = not found["short"] and found["buffer"].get("kept", True)
    lines = [(ink.good if well else ink.bad if down else ink.doubtful)(found["answer"])]
    served, safe = found["short_would_help"]["would_help"], found["buffer_would_help"]["would_help"]
    many = " all of them" if len(found["short"]) + found["short_left_out"] > 1 else ""
    if served:
        lines.append(ink.strong(f"What would help{many}: {served}"))
    if safe:
        lines.append(ink.strong(f"What would bring the margin back: {safe}"))
    if found["short"]:
        rows = [
            (_services(one), f"{one['assigned']} of {one['requested']}", one["reason"] or "being placed")
            for one in found["short"]
        ]
        lines += ["", box(("Virtual service", "Engines", "Why"), _few(rows, found["short_left_out"]))]
    if found["serviceengines"]:
        table = list(_engines(found["serviceengines"]))
        header: Row = ("Engine", "State", "Slots", "Host", "Serves", "Made because")
        if not any(row[-1] for row in table):
            header, table = header[:-1], [row[:-1] for row in table]
        lines += ["", box(header, table)]
    return "\n".join(lines)


def _engines(engines: list[Document]) -> Iterable[Row]:
    """One row each, those that are not simply up first; many that are alike in state and load share one."""
    alike: dict[tuple[str, int, int], list[Document]] = {}
    for one in engines:
        alike.setdefault((_state(one), one["slots_used"], one["slots"]), []).append(one)
    for (state, used, most), same in sorted(alike.items(), key=lambda item: item[0][0] == "up"):
        if len(same) <= ALONE_MAX or state == "being made":
            for one in same:
                why = one["why"] if state == "being made" else ""
                yield one["serviceengine"], state, f"{used}/{most}", one["host"], _serves(one), why
        else:
            hosts = len({one["host"] for one in same})
            served = sum(len(one["placements"]) for one in same)
            yield f"{len(same)} engines", state, f"{used}/{most}", f"{hosts} hosts", _vips(served) if served else "", ""


def _state(engine: Document) -> str:
    if engine["state"] == "creating":
        return "being made"
    if engine["state"] == "up" and engine["enable_state"] != "SE_STATE_ENABLED":
        return str(engine["enable_state"].removeprefix("SE_STATE_").lower().replace("_", " "))
    return str(engine["state"])


def _serves(engine: Document) -> str:
    names = [_services(p) for p in engine["placements"]]
    return ", ".join(names) if len(names) <= ALONE_MAX else f"{', '.join(names[:2])} and {len(names) - 2} more"


def _vips(count: int) -> str:
    return f"{count} VIP{'' if count == 1 else 's'}"


# --- words ---


def _services(one: Document) -> str:
    return ", ".join(one["virtualservices"]) or str(one["vip"])


def _few(rows: Sequence[Row], left_out: int = 0) -> list[Row]:
    more = max(0, len(rows) - ROWS_MAX) + left_out
    kept = list(rows[:ROWS_MAX])
    return [*kept, (f"... and {more} more", *[""] * (len(kept[0]) - 1))] if more else kept


def _slots(engine: Document) -> str:
    return f"{engine['slots_used']}/{engine['slots']}"


def _name(reference: str) -> str:
    return reference.rpartition("#")[2]
