"""Orders that are kept while single entries change, each change at the cost of a search and not of a sort."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator


class Ranking:
    """Engines by (score, rank): a row for each score, each in order of rank."""

    def __init__(self) -> None:
        self.order: dict[str, tuple[int, int]] = {}
        """Engine -> (score, rank); to read."""
        self._rows: dict[int, list[tuple[int, str]]] = {}
        self._scores: list[int] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranking) and self.order == other.order

    __hash__ = None  # type: ignore[assignment]

    def __contains__(self, engine: str) -> bool:
        return engine in self.order

    def __len__(self) -> int:
        return len(self.order)

    def put(self, engine: str, rank: int, score: int) -> None:
        """Enter an engine, or move it."""
        was = self.order.get(engine)
        if was == (score, rank):
            return
        if was is not None:
            self.drop(engine)
        row = self._rows.get(score)
        if row is None:
            row = self._rows[score] = []
            insort(self._scores, score)
        insort(row, (rank, engine))
        self.order[engine] = (score, rank)

    def score(self, engine: str, score: int) -> None:
        """Move an engine that is in it."""
        self.put(engine, self.order[engine][1], score)

    def drop(self, engine: str) -> None:
        was = self.order.pop(engine, None)
        if was is None:
            return
        score, rank = was
        row = self._rows[score]
        del row[bisect_left(row, (rank, engine))]
        if not row:
            del self._rows[score]
            del self._scores[bisect_left(self._scores, score)]

    def lowest(self) -> int | None:
        """The lowest score; None if there is no engine."""
        return self._scores[0] if self._scores else None

    def upward(self) -> Iterator[str]:
        """Lowest score first, then lowest rank. Do not change the ranking meanwhile."""
        for score in self._scores:
            for _, engine in self._rows[score]:
                yield engine

    def downward(self, start: int) -> Iterator[str]:
        """From score ``start`` down, the lowest rank of each score first."""
        for index in range(self.place(start) - 1, -1, -1):
            for _, engine in self._rows[self._scores[index]]:
                yield engine

    def total(self) -> int:
        """Of all scores."""
        return sum(score * len(row) for score, row in self._rows.items())

    def above(self, score: int) -> int:
        """How many engines have a higher score."""
        return sum(len(self._rows[s]) for s in self._scores[self.place(score) :])

    def place(self, score: int) -> int:
        return bisect_left(self._scores, score + 1)


class Times:
    """Ids by the time noted for each, earliest first."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._sorted: list[tuple[float, str]] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Times) and self._sorted == other._sorted

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[tuple[float, str]]:
        return iter(self._sorted)

    def put(self, id: str, at: float | None) -> None:
        """Note a time; None = no longer."""
        was = self._at.get(id)
        if was == at:
            return
        if was is not None:
            del self._sorted[bisect_left(self._sorted, (was, id))]
            del self._at[id]
        if at is not None:
            insort(self._sorted, (at, id))
            self._at[id] = at
