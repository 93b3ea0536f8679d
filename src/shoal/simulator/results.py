"""The runs of a long series that are done, one a line of a file: a series that was ended goes on where it stood."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

import msgspec

from shoal.errors import Invalid

from .history import Shape
from .trial import Outcome


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """``asked``: events that were to happen; ``count``: those that did, the calm at the end among them; ``enough``: of
    the shortest history found that breaks the same rule, 0 if none is broken. ``outcome`` is without its events."""

    commit: str
    asked: int
    count: int
    enough: int = 0
    outcome: Outcome


class Results:
    """``with Results(path) as results``: one process at a time. Raises Invalid, with what to do, if that can't be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._done: dict[tuple[int, Shape, int], Done] = {}

    def __enter__(self) -> Results:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise Invalid(f"{self.path} can't be opened: {error.strerror}.") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except BlockingIOError:
            os.close(self._file)
            raise Invalid(f"Another run writes to {self.path} now. Give another file, or wait for its end.") from None
        except Invalid:
            os.close(self._file)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def find(self, seed: int, shape: Shape, asked: int) -> Done | None:
        """A run that broke nothing. One that did is worth another look, once its cause is mended."""
        found = self._done.get((seed, shape.of(seed), asked))
        return found if found is not None and not found.outcome.broke else None

    def add(self, done: Done) -> None:
        """On disk when this returns. Raises Invalid if there is no room for it."""
        line = memoryview(msgspec.json.encode(done) + b"\n")
        try:
            while line:
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
        except OSError as error:
            raise Invalid(
                f"{self.path} can't be written: {error.strerror}. What is in it stays; the same command goes on from there."
            ) from None
        self._note(done)

    def _note(self, done: Done) -> None:
        self._done[done.outcome.seed, done.outcome.shape, done.asked] = done

    def _read(self) -> None:
        with open(self._file, "rb", closefd=False) as file:
            lines = file.read().split(b"\n")
        for number, line in enumerate(lines):
            try:
                if line:
                    self._note(msgspec.json.decode(line, type=Done))
            except msgspec.MsgspecError as error:
                if not number:
                    raise Invalid(
                        f"{self.path} is no file of simulated runs: {error}. Nothing was written; give another file."
                    ) from None
                continue  # cut short when its writer died
        if lines[-1]:
            os.write(self._file, b"\n")
