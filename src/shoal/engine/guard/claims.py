"""The highest claim this engine ever made for each VIP, on disk, so that a restart never reuses a lower count."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from shoal.wire.messages import Claim

log = logging.getLogger("shoal.guard.claims")


class ClaimFile:
    """Written whole, to a new file that replaces the old one: never half."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unwritten: dict[str, Claim] = {}
        self.claims: dict[str, Claim] = {}
        try:
            self.claims = msgspec.json.decode(path.read_bytes(), type=dict[str, Claim])
        except FileNotFoundError:
            pass
        except (OSError, msgspec.MsgspecError) as error:  # go on: peers tell the claims they know
            log.error("%s cannot be read (%s); starting without", path, error)

    def put(self, claims: Mapping[str, Claim]) -> None:
        """On disk when it returns: one writing, however many they are. Raises OSError; then all is as it was, and these come with
        the next writing."""
        known = {**self.claims, **self._unwritten}
        self._unwritten |= {vip: claim for vip, claim in claims.items() if vip not in known or known[vip] < claim}
        if not self._unwritten:
            return
        claims = {**self.claims, **self._unwritten}
        new, left = self._path.with_suffix(".new"), memoryview(msgspec.json.encode(claims))
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            while left:  # on a nearly full disk a part of it is written, and no error raised
                left = left[os.write(file, left) :]
            os.fdatasync(file)
        finally:
            os.close(file)
        new.replace(self._path)
        self.claims, self._unwritten = claims, {}
