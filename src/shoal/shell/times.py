"""Times as the one who asked reads them: in the zone of ``terminal timezone``."""

from __future__ import annotations

import datetime
import zoneinfo

import msgspec

UTC, LOCAL = "UTC", "local"


class Zone(msgspec.Struct, frozen=True):
    """``name``: UTC, local (the machine's own), or one of the IANA time zone database."""

    name: str = UTC

    def moment(self, at: float) -> str:
        """Date and time of seconds since the epoch."""
        return f"{self._of(at):%Y-%m-%d %H:%M:%S}"

    def time(self, at: float) -> str:
        """The time of day; the date too when it is not today's."""
        then, today = self._of(at), datetime.datetime.now(self._zone())
        return f"{then:%H:%M:%S}" if then.date() == today.date() else self.moment(at)

    def _of(self, at: float) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(at, self._zone())

    def _zone(self) -> datetime.tzinfo | None:
        return None if self.name == LOCAL else zoneinfo.ZoneInfo(self.name)


UTC_ZONE = Zone()
