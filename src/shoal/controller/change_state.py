"""What a plan of an edit depends on: kept small, comparable, and told apart in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from shoal.placement.model import Group, Snapshot

Document = Mapping[str, Any]
NAMED_MAX = 5
"""Differences of one kind that are named; the rest are counted."""


class EngineStands(msgspec.Struct, frozen=True):
    id: str
    name: str
    state: str
    enable_state: str


class VipStands(msgspec.Struct, frozen=True):
    id: str
    name: str
    enabled: bool
    slots: int
    requested: int
    places: tuple[tuple[str, str, str], ...]
    """(engine, role, state) of each placement."""


class GroupStands(msgspec.Struct, frozen=True):
    """A group as far as a plan of it depends on it. Not: succession lists, which follow from the rest."""

    group: Group
    can_create_now: bool
    engines: tuple[EngineStands, ...]
    vips: tuple[VipStands, ...]
    requests: tuple[str, ...]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """``documents``: (type, uuid, store version) of what is edited; 0 = there is none."""

    documents: tuple[tuple[str, str, int], ...]
    groups: tuple[GroupStands, ...]


def stands(snapshot: Snapshot, now: float) -> GroupStands:
    return GroupStands(
        group=msgspec.structs.replace(snapshot.group, create_retry_at=0.0, ever_used=False),
        can_create_now=snapshot.group.create_retry_at <= now,
        engines=tuple(EngineStands(e.id, e.name, e.state.value, e.enable_state) for e in snapshot.engines),
        vips=tuple(
            VipStands(
                v.id,
                v.name,
                v.enabled,
                v.slots,
                v.requested,
                tuple((p.engine, p.role.value, p.state.value) for p in v.placements),
            )
            for v in snapshot.vips
        ),
        requests=tuple(f"{request.kind.value} {request.vip}" for request in snapshot.requests),
    )


def differences(
    before: State, after: State, old: Mapping[tuple[str, str], Document], new: Mapping[tuple[str, str], Document]
) -> list[str]:
    """What has changed, in sentences; ``old`` and ``new`` are the documents edited, as they were and are."""
    found = [sentence for key in {**old, **new} for sentence in _document(key, old.get(key), new.get(key))]
    later = {group.group.id: group for group in after.groups}
    earlier = {group.group.id: group for group in before.groups}
    for id, was in earlier.items():
        now = later.get(id)
        found += _group(was, now) if now is not None else [f"Group {was.group.name} is not concerned any more."]
    found += [f"Group {now.group.name} is concerned, too." for id, now in later.items() if id not in earlier]
    return found


def _document(key: tuple[str, str], was: Document | None, now: Document | None) -> Iterator[str]:
    name = str((now or was or {}).get("name", key[1]))
    if was is None or now is None:
        if was is not now:
            yield f"{key[0]} {name} was {'made' if was is None else 'deleted'}."
        return
    for field in sorted(was.keys() | now.keys()):
        if field[0] != "_" and was.get(field) != now.get(field):
            yield f"{key[0]} {name} was edited: {field} {_shown(was.get(field))} is {_shown(now.get(field))} now."


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


def _group(was: GroupStands, now: GroupStands) -> list[str]:
    found = [
        f"Group {now.group.name} was edited: {field} {getattr(was.group, field)} is {getattr(now.group, field)} now."
        for field in was.group.__struct_fields__
        if getattr(was.group, field) != getattr(now.group, field)
    ]
    if was.can_create_now != now.can_create_now:
        found.append("The last creation of an engine failed." if was.can_create_now else "Engines can be made again.")
    names = {engine.id: engine.name for engine in (*was.engines, *now.engines)}
    found += _engines(was.engines, now.engines)
    found += _vips(was.vips, now.vips, names)
    if was.requests != now.requests:
        found.append("Operations under way: " + (", ".join(now.requests) or "none any more") + ".")
    return found


def _engines(was: Iterable[EngineStands], now: Iterable[EngineStands]) -> list[str]:
    earlier, later = {e.id: e for e in was}, {e.id: e for e in now}
    found = [f"Engine {e.name} is gone." for id, e in earlier.items() if id not in later]
    found += [f"Engine {e.name} is new." for id, e in later.items() if id not in earlier]
    for id, engine in later.items():
        old = earlier.get(id, engine)
        if old.state != engine.state:
            found.append(f"Engine {engine.name} is {engine.state} (it was {old.state}).")
        if old.enable_state != engine.enable_state:
            found.append(f"Engine {engine.name} is {engine.enable_state} (it was {old.enable_state}).")
    return _short(found, "engines differ, too")


def _vips(was: Iterable[VipStands], now: Iterable[VipStands], names: Mapping[str, str]) -> list[str]:
    earlier, later = {v.id: v for v in was}, {v.id: v for v in now}
    found = [f"{v.name} is gone." for id, v in earlier.items() if id not in later]
    found += [f"{v.name} is new." for id, v in later.items() if id not in earlier]
    for id, vip in later.items():
        old = earlier.get(id, vip)
        if old.enabled != vip.enabled:
            found.append(f"{vip.name} is {'enabled' if vip.enabled else 'disabled'} now.")
        if old.slots != vip.slots:
            found.append(f"{vip.name} takes {vip.slots} slots (it took {old.slots}).")
        if old.requested != vip.requested:
            found.append(f"{vip.name} is wanted on {vip.requested} engines (it was on {old.requested}).")
        if old.places != vip.places:
            found.append(f"{vip.name} is on {_places(vip, names)} (it was on {_places(old, names)}).")
    return _short(found, "VIPs differ, too")


def _places(vip: VipStands, names: Mapping[str, str]) -> str:
    return ", ".join(f"{names.get(engine, engine)} ({role}, {state})" for engine, role, state in vip.places) or "none"


def _short(sentences: list[str], rest: str) -> list[str]:
    left = len(sentences) - NAMED_MAX
    return [*sentences[:NAMED_MAX], f"{left} more {rest}."] if left > 1 else sentences
