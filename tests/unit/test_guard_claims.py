"""Claims on disk: whole, whatever the disk does."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from shoal.engine.guard.claims import ClaimFile
from shoal.wire.messages import Claim

FIRST, SECOND = {"web/0": Claim(1, 0, 1)}, {"web/0": Claim(2, 0, 1), "api/0": Claim(1, 1, 1)}


def in_pieces(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """A disk that takes 7 octets at a time, until there is no ``room`` left."""
    write, left = os.write, room

    def written(file: int, data: memoryview) -> int:
        nonlocal left
        if left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = write(file, data[: min(7, left)])
        left -= count
        return count

    monkeypatch.setattr(os, "write", written)


def test_a_disk_that_takes_a_part_is_given_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_pieces(monkeypatch, room=10_000)
    ClaimFile(tmp_path / "claims.json").put(SECOND)
    assert ClaimFile(tmp_path / "claims.json").claims == SECOND


def test_a_full_disk_leaves_the_claims_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ClaimFile(tmp_path / "claims.json")
    file.put(FIRST)
    with monkeypatch.context() as full:
        in_pieces(full, room=20)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                file.put(SECOND)
    assert file.claims == ClaimFile(tmp_path / "claims.json").claims == FIRST
    file.put({"other/0": Claim(1, 0, 1)})
    assert ClaimFile(tmp_path / "claims.json").claims == {**SECOND, "other/0": Claim(1, 0, 1)}, (
        "what was claimed counts"
    )
