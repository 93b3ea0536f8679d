"""Mappings that can be changed without changing the ones they lie over, at a cost that follows the change alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypeVar, cast

K = TypeVar("K")
L = TypeVar("L")
V = TypeVar("V")
_GONE = object()
_NOT_HERE = object()


class Layer(MutableMapping[K, V]):
    """One mapping over another. Keys of the one below come first, in its order."""

    def __init__(self, below: Mapping[K, V]) -> None:
        self._below = below
        self._own: dict[K, Any] = {}

    def __getitem__(self, key: K) -> V:
        found = self._own.get(key, _NOT_HERE)
        if found is _NOT_HERE:
            return self._below[key]
        if found is _GONE:
            raise KeyError(key)
        return cast(V, found)

    def get(self, key: K, default: Any = None) -> Any:
        found = self._own.get(key, _NOT_HERE)
        if found is _NOT_HERE:
            return self._below.get(key, default)
        return default if found is _GONE else found

    def __contains__(self, key: object) -> bool:
        found = self._own.get(cast(K, key), _NOT_HERE)
        return key in self._below if found is _NOT_HERE else found is not _GONE

    def __setitem__(self, key: K, value: V) -> None:
        self._own[key] = value

    def __delitem__(self, key: K) -> None:
        if key not in self:
            raise KeyError(key)
        self._own[key] = _GONE

    def __iter__(self) -> Iterator[K]:
        yield from (key for key in self._below if self._own.get(key) is not _GONE)
        yield from (key for key, value in self._own.items() if value is not _GONE and key not in self._below)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def settle_into(self, below: MutableMapping[K, V]) -> None:
        """Make the changes there. ``below`` is the mapping it lies over, or stands in its place."""
        for key, value in self._own.items():
            if value is _GONE:
                below.pop(key, None)
            else:
                below[key] = value


class Layers(MutableMapping[K, MutableMapping[L, V]]):
    """A mapping of mappings over another: each inner one gets a layer of its own when it is first asked for by ``[]``;
    what ``get`` returns is for reading. An inner one that is empty counts as none."""

    def __init__(self, below: Mapping[K, Mapping[L, V]]) -> None:
        self._below = below
        self._own: dict[K, MutableMapping[L, V]] = {}

    def __getitem__(self, key: K) -> MutableMapping[L, V]:
        found = self._own.get(key)
        if found is None:
            found = self._own[key] = Layer(self._below.get(key, {}))
        return found

    def get(self, key: K, default: Any = None) -> Any:
        found = self._own.get(key)
        return self._below.get(key, default) if found is None else found

    def __contains__(self, key: object) -> bool:
        found = self._own.get(cast(K, key))
        return key in self._below if found is None else any(True for _ in found)

    def __setitem__(self, key: K, value: MutableMapping[L, V]) -> None:
        self._own[key] = value

    def __delitem__(self, key: K) -> None:
        self._own[key] = {}

    def __iter__(self) -> Iterator[K]:
        yield from dict.fromkeys((*self._below, *self._own))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def settle_into(self, below: MutableMapping[K, MutableMapping[L, V]]) -> None:
        """Make the changes there. ``below`` is the mapping it lies over."""
        for key, inner in self._own.items():
            if isinstance(inner, Layer):
                into = below[key] if key in below else below.setdefault(key, {})
                inner.settle_into(into)
            else:
                into = below[key] = inner
            if not any(True for _ in into):
                below.pop(key, None)
