"""Which fields act, as data (``acts.json``): what the product reads of each type it acts on.

From it come the warning of a write that sets a field without effect and the table of ``docs/compatibility.md``
(``python -m shoal.objects.acts`` prints it). A path stands for all below it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from .views import uuid_of

if TYPE_CHECKING:
    from .types import Field, MessageType, ObjectType

FILE = Path(__file__).parent / "acts.json"
NAMES_MAX = 10
"""Fields named in one warning."""

Document = Mapping[str, Any]
NameOf = Callable[[str, str], str]
"""(type, uuid) -> the object's name, "" if there is none."""


class Values(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of an enum, or of true and false: the values that ``act``, and which of them the ``others_as`` are served as ("" = not at all)."""

    act: tuple[str | bool, ...]
    others_as: str


class Acts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """``plain`` fields describe, and nobody expects them to act; of ``usual`` the object of that name is what is served
    anyway; ``hints`` say what to do instead. Paths are ``field``, ``field.member`` and so on."""

    acts: tuple[str, ...]
    plain: tuple[str, ...] = ()
    usual: dict[str, str] = {}
    values: dict[str, Values] = {}
    hints: dict[str, str] = {}

    @functools.cached_property
    def heeded(self) -> frozenset[str]:
        return frozenset((*self.acts, *self.plain))

    @functools.cached_property
    def entered(self) -> frozenset[str]:
        """Messages of which some members are heeded."""
        names = (path.split(".") for path in self.heeded)
        return frozenset(".".join(parts[:depth]) for parts in names for depth in range(1, len(parts)))

    @functools.cached_property
    def _looked_at(self) -> dict[tuple[str, str], tuple[tuple[Field, str], ...]]:
        return {}

    def looked_at(self, message: MessageType, prefix: str) -> tuple[tuple[Field, str], ...]:
        """(field, its path) of those whose value may be worth a word: all but what is heeded whatever it says."""
        key = message.name, prefix
        if key not in self._looked_at:
            heeded, everywhere = self.heeded, load().everywhere
            fields = [(field, f"{prefix}{name}") for name, field in message.fields.items() if not field.read_only]
            self._looked_at[key] = tuple(
                (field, path)
                for field, path in fields
                if path in self.values or not (path in heeded or field.name in everywhere)
            )
        return self._looked_at[key]


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``everywhere``: fields that are plain in every type and message."""

    everywhere: tuple[str, ...]
    types: dict[str, Acts]


@functools.cache
def load() -> Data:
    return msgspec.json.decode(FILE.read_bytes(), type=Data)


def heeds(type_name: str, path: str) -> bool:
    """Whether a field (``field.member`` and so on) of an object does anything, or describes. True where it is not known."""
    acts = load().types.get(type_name)
    if acts is None:
        return True
    names = path.split(".")
    above = (".".join(names[:depth]) for depth in range(1, len(names) + 1))
    return path in acts.entered or names[-1] in load().everywhere or any(one in acts.heeded for one in above)


def warnings(kind: ObjectType, document: Document, before: Document | None, name_of: NameOf) -> list[str]:
    """At most one sentence or two, for what this write sets or changes without any effect. Both documents complete."""
    acts = load().types.get(kind.name)
    if acts is None:
        return []
    look = _look(acts, kind, document, before, name_of)
    parts = []
    if look.idle:
        more = len(look.idle) - NAMES_MAX
        names = ", ".join(look.idle[:NAMES_MAX]) + (f", ... and {more} more" if more > 0 else "")
        hints = dict.fromkeys(acts.hints[path] for path in look.idle if path in acts.hints)
        parts += [f"Stored, with no effect yet: {names}.", *hints]
    parts += look.instead
    return [" ".join(parts)] if parts else []


def without_effect(kind: ObjectType, document: Document, name_of: NameOf) -> tuple[list[str], list[str]] | None:
    """(paths that say something without any effect, sentences about values that act as others); None for a type of
    which nothing acts."""
    acts = load().types.get(kind.name)
    if acts is None:
        return None
    look = _look(acts, kind, document, None, name_of)
    return look.idle, look.instead


def is_heeded(kind: ObjectType, path: str) -> bool:
    """Whether the field at a path (without list positions), one above or one below it acts."""
    acts = load().types.get(kind.name)
    heeded = acts.heeded if acts is not None else frozenset[str]()
    return any(f"{one}.".startswith(f"{path}.") or f"{path}.".startswith(f"{one}.") for one in heeded)


def _look(acts: Acts, kind: ObjectType, document: Document, before: Document | None, name_of: NameOf) -> _Look:
    look = _Look(acts, name_of)
    look.message(kind.message, document, [before] if before else [], "")
    return look


class _Look:
    """Goes over a document, as deep as the paths."""

    def __init__(self, acts: Acts, name_of: NameOf) -> None:
        self._acts = acts
        self._name_of = name_of
        self.idle: list[str] = []
        self.instead: list[str] = []

    def message(self, message: MessageType, document: Document, before: list[Document], prefix: str) -> None:
        for field, path in self._acts.looked_at(message, prefix):
            name = field.name
            value = document.get(name)
            if value is None or (before and any(value == old.get(name) for old in before)):
                continue
            if path in self._acts.values:
                self._choice(path, value)
            elif path in self._acts.entered and field.nested is not None:
                entries = [entry for old in before for entry in _entries(old.get(name))]
                for entry in _entries(value):
                    self.message(field.nested, entry, entries, f"{path}.")
            elif says(field, value) and not self._is_usual(field, path, value) and path not in self.idle:
                self.idle.append(path)

    def _choice(self, path: str, value: Any) -> None:
        values = self._acts.values[path]
        if value not in values.act:
            way = f"acts as {values.others_as}" if values.others_as else "is not run yet"
            self.instead.append(f"{path} {_shown(value)} {way}.")

    def _is_usual(self, field: Field, path: str, value: Any) -> bool:
        usual = self._acts.usual.get(path, "")
        return bool(usual) and self._name_of(field.ref.lower(), uuid_of(value)) == usual


def _entries(value: Any) -> list[Document]:
    return [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, Mapping)]


def says(field: Field, value: Any) -> bool:
    """Whether a value asks for anything that leaving it out would not."""
    if field.nested is not None:
        fields = field.nested.fields
        return any(n in fields and says(fields[n], v) for entry in _entries(value) for n, v in entry.items())
    if field.has_default and field.kind != "array":
        return bool(value != field.default)
    return bool(value)


# --- docs ---


def table() -> str:
    """The rows of ``docs/compatibility.md``."""
    rows = [f"| {name} | {_acting(acts)} |" for name, acts in load().types.items()]
    return "\n".join(["| Type | What acts |", "| --- | --- |", *rows])


def _acting(acts: Acts) -> str:
    grouped: dict[str, list[str]] = {}
    for path in acts.acts:
        field, _, member = path.partition(".")
        grouped.setdefault(field, []).extend([member] if member else [])
    texts = []
    for field, members in grouped.items():
        text = f"`{field}`" + (f" ({_listed(members)})" if members else "")
        values = [(path, v) for path, v in acts.values.items() if path.partition(".")[0] == field]
        for _, one in values:
            rest = f"the others act as {one.others_as}" if one.others_as else "the others are not run"
            text += f" ({_listed(one.act)}; {rest})"
        texts.append(text)
    return ", ".join(texts) or "nothing yet"


def _listed(names: Iterable[str | bool]) -> str:
    return ", ".join(f"`{_shown(name)}`" for name in names)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(table())
