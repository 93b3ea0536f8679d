"""Certificates and lists of revoked ones that are about to end: each is told once for each number of days left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .bootstrap import PROPERTIES
from .certificates import time_of
from .clock import Clock
from .events import EventLog
from .view import View

LOOK_INTERVAL_S = 3600.0
DAYS_DEFAULT = (30, 7, 1)
"""``ssl_certificate_expiry_warning_days`` of ControllerProperties, where it is empty."""
LIST_DAYS = (1,)
"""Before a list of revoked certificates ends: they are made for a week or so."""
SECONDS_PER_DAY = 86_400
CERTIFICATE, LIST_SOON, LIST_ENDED = (
    "SSL_CERT_EXPIRE",
    "PKIPROFILE_CRL_ENDPOINT_EXPIRING_SOON",
    "PKIPROFILE_CRL_ENDPOINT_EXPIRED",
)
Document = Mapping[str, Any]


class Expiry:
    """What was told is in the event log, so a controller that starts anew does not tell it again."""

    def __init__(self, view: View, events: EventLog, clock: Clock) -> None:
        self._view = view
        self._events = events
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await self._clock.sleep(LOOK_INTERVAL_S)

    def look(self) -> None:
        properties = self._view.get("controllerproperties", PROPERTIES) or {}
        days = properties.get("ssl_certificate_expiry_warning_days") or DAYS_DEFAULT
        for document in self._view.all("sslkeyandcertificate"):
            body = document.get("certificate") or {}
            users = [name for type, _, name in self._view.referrers(document["uuid"]) if type == "virtualservice"]
            used = f"; virtual services that have it: {', '.join(users[:8])}" if users else ""
            self._tell(
                "sslkeyandcertificate",
                document,
                f"The certificate {document['name']}",
                body.get("not_after") or "",
                days,
                used,
                (CERTIFICATE, CERTIFICATE),
            )
        for profile in self._view.all("pkiprofile"):
            for one in profile.get("crls") or () if profile.get("crl_check") else ():
                what = f"The list of revoked certificates of {one.get('common_name')} in {profile['name']}"
                refused = "; from then on certificates of that issuer are refused"
                self._tell(
                    "pkiprofile",
                    profile,
                    what,
                    one.get("next_update") or "",
                    LIST_DAYS,
                    refused,
                    (LIST_SOON, LIST_ENDED),
                )

    def _tell(
        self, kind: str, document: Document, what: str, end: str, days: Iterable[int], more: str, names: tuple[str, str]
    ) -> None:
        """``names`` of the event before and after the end."""
        at = time_of(end)
        if at is None:
            return
        left = (at - self._clock.now()) / SECONDS_PER_DAY
        passed = [number for number in sorted(days) if left <= number]
        if left <= 0:
            event, level, words = names[1], "error", f"ended at {end}"
        elif passed:
            event, level, words = (
                names[0],
                "warning",
                f"ends within {passed[0]} day{'s' if passed[0] != 1 else ''}, at {end}",
            )
        else:
            return
        text = f"{what} {words}"
        if not any(text in told.detail for told in self._events.read({"name": event, "object": document["uuid"]})):
            self._events.add(event, f"{text} UTC{more}.", level=level, **{kind: document["uuid"]})
