"""A plan as clients get it: members for machines, sentences for people (docs/operations.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from shoal.placement.effects import Effect, Interruption
from shoal.placement.model import Buffer

from .desired import VipIntent

if TYPE_CHECKING:
    from .plans import Foreseen

Document = dict[str, Any]
SECONDS_PER_MINUTE = 60


def document(id: str, foreseen: Iterable[Foreseen]) -> Document:
    groups = [_Group(one).document() for one in foreseen]
    return {
        "id": id,
        "sentence": " ".join(group["sentence"] for group in groups) or "No traffic moves.",
        "moves_traffic": any(group["moves_traffic"] for group in groups),
        "changes_engines": any(group["engines_made"] or group["engines_deleted"] for group in groups),
        "groups": groups,
    }


class _Group:
    def __init__(self, one: Foreseen) -> None:
        self._one = one
        self._found = one.effects
        snapshots = [s for s in (one.concerned.before, one.concerned.after) if s is not None]
        self._name = snapshots[-1].group.name
        self._drain_s = snapshots[-1].group.vs_scalein_timeout_s
        self._engines = {engine.id: engine.name for snapshot in snapshots for engine in snapshot.engines}
        new = {engine.id: f"new engine {n}" for n, engine in enumerate(one.effects.made, start=1)}
        self._engines |= new
        self._new = new
        after = one.concerned.after
        here = {engine.id for engine in after.engines} if after is not None else set()
        self._named = new | {id: name for id, name in self._engines.items() if id not in here}
        """Engines that placement has no names for: those it has made on paper, and those that are gone."""
        intents: list[VipIntent] = [*one.concerned.vips_before, *one.concerned.vips_after]
        self._vips = {intent.id: intent for intent in intents}

    def document(self) -> Document:
        found = self._found
        vips = [self._vip(effect) for effect in found.vips]
        made = [
            {"serviceengine": self._new[engine.id], "host": engine.host, "why": self._said(engine.why)}
            for engine in found.made
        ]
        deleted = [
            {
                "serviceengine": self._engine(engine.id),
                "uuid": engine.id,
                "after_s": round(engine.after_s),
                "why": self._said(engine.why),
            }
            for engine in found.deleted
        ]
        problems = [self._said(f"{d.why}. {d.would_help}".strip()) for d in found.unplaced]
        if not self._one.settled:
            problems.append("More is to come: the end is not in sight after as many steps as are looked ahead.")
        return {
            "serviceenginegroup": self._name,
            "uuid": self._one.concerned.group,
            "sentence": self._sentence(vips, deleted),
            "moves_traffic": any(effect.disturbs for effect in found.vips),
            "vips": vips,
            "engines_made": made,
            "engines_deleted": deleted,
            "drain_s": round(self._drain_s),
            "buffer_before": _buffer(self._one.buffer_before),
            "buffer_after": _buffer(self._one.buffer_after),
            "problems": problems,
            "messages": [self._said(message) for message in self._one.messages],
        }

    def _vip(self, effect: Effect) -> Document:
        intent = self._vips.get(effect.vip)
        name = self._engine
        return {
            "vip": effect.vip,
            "address": intent.address if intent else "",
            "virtualservices": [service.name for service in intent.services] if intent else [],
            "from": [name(engine) for engine in effect.leaves],
            "to": [name(engine) for engine in effect.joins],
            "owner_before": name(effect.owner_before),
            "owner_after": name(effect.owner_after),
            "interruption": effect.interruption.value,
            "drains": [name(engine) for engine in effect.drains],
            "cuts": [name(engine) for engine in effect.cuts],
            "lacks": effect.lacks,
            "clients": self._clients(effect),
            "why": self._said(effect.why),
        }

    def _clients(self, effect: Effect) -> str:
        """What clients notice, shortly."""
        wanting = f"; {effect.lacks} engine{'s' * (effect.lacks > 1)} short" if effect.lacks else ""
        if not effect.owner_before and effect.owner_after:
            return "served from then on" + wanting
        return _CLIENTS[effect.interruption].format(s=round(self._drain_s)) + wanting

    def _sentence(self, vips: list[Document], deleted: list[Document]) -> str:
        counts = dict.fromkeys(Interruption, 0)
        fresh = 0
        for effect in self._found.vips:
            if effect.owner_before or effect.disturbs:
                counts[effect.interruption] += 1
            else:
                fresh += 1
        parts = [_counted(counts[kind], words) for kind, words in _SENTENCES.items() if counts[kind]]
        if fresh:
            parts.append(_counted(fresh, ("VIP is placed", "VIPs are placed")))
        if self._found.made:
            parts.append(_counted(len(self._found.made), ("engine is made", "engines are made")))
        now = [engine for engine in deleted if not engine["after_s"]]
        if now:
            parts.append(_counted(len(now), ("engine is deleted", "engines are deleted")))
        if later := [engine for engine in deleted if engine["after_s"]]:
            wait = round(max(engine["after_s"] for engine in later) / SECONDS_PER_MINUTE)
            words = ("idle engine is deleted", "idle engines are deleted")
            parts.append(f"{_counted(len(later), words)} after {wait} min")
        before, after = self._one.buffer_before, self._one.buffer_after
        buffer = ""
        if before is not None and after is not None and (before.free, before.needed) != (after.free, after.needed):
            buffer = f" Buffer: {_slots(before)}; then {_slots(after)}."
        elif before is None and after is not None:
            buffer = f" Buffer: {_slots(after)}."
        return f"{self._name}: {', '.join(parts) or 'no traffic moves'}.{buffer}"

    def _engine(self, id: str) -> str:
        return self._engines.get(id, id)

    def _said(self, text: str) -> str:
        """Placement's words, with names where it has none."""
        for id in sorted(self._named, key=len, reverse=True):
            text = text.replace(id, self._named[id])
        return text


_CLIENTS: Mapping[Interruption, str] = {
    Interruption.NONE: "nothing",
    Interruption.DRAIN: "open connections there end within {s} s",
    Interruption.HANDOVER: "another engine answers; open connections end within {s} s",
    Interruption.CUT: "open connections there are cut",
    Interruption.WAIT: "DOWN until a new engine is up",
    Interruption.DOWN: "DOWN",
    Interruption.STOP: "DOWN, as asked for",
}
_SENTENCES: Mapping[Interruption, tuple[str, str]] = {
    Interruption.DOWN: ("VIP is down and stays so", "VIPs are down and stay so"),
    Interruption.WAIT: ("VIP is down until a new engine is up", "VIPs are down until a new engine is up"),
    Interruption.STOP: ("VIP is taken down, as asked for", "VIPs are taken down, as asked for"),
    Interruption.CUT: ("VIP has connections cut", "VIPs have connections cut"),
    Interruption.HANDOVER: ("VIP moves to another owner", "VIPs move to other owners"),
    Interruption.DRAIN: ("VIP leaves an engine", "VIPs leave an engine"),
    Interruption.NONE: ("VIP is placed on a further engine", "VIPs are placed on further engines"),
}
"""Worst first."""


def _counted(count: int, words: tuple[str, str]) -> str:
    return f"{count} {words[count != 1]}"


def _slots(buffer: Buffer) -> str:
    if buffer.needed:
        return f"{buffer.free} slots free, {buffer.needed} needed{'' if buffer.kept else ' (TOO FEW)'}"
    return f"{buffer.free} slots free"


def _buffer(buffer: Buffer | None) -> Document:
    if buffer is None:
        return {}
    return {
        "slots": buffer.slots,
        "used": buffer.used,
        "free": buffer.free,
        "needed": buffer.needed,
        "kept": buffer.kept,
    }
