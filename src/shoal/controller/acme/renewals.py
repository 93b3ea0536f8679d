"""Which certificates are due at their authority, and what becomes of each."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from shoal.controller.certificates import time_of
from shoal.controller.clock import Clock, woken
from shoal.controller.events import EventLog
from shoal.controller.intent import SYSTEM, Intent
from shoal.controller.outward import Outward
from shoal.controller.view import View
from shoal.errors import NotFound, Refused, ShoalError
from shoal.store.patience import patiently

from . import profile
from .client import AcmeFailure, Client

log = logging.getLogger("shoal.acme")

LOOK_INTERVAL_S = 60.0
SETTLE_S = 1.0
"""After a change, so that many in a row are one look."""
AGAIN_S = (60.0, 6 * 3600.0)
"""After the first failure, doubled with each, up to this: authorities count them."""
LEFT_OF_LIFE = 1 / 3
"""A certificate is renewed when so much of its life is left."""
AT_ONCE_MAX = 8
CERTIFICATE = "sslkeyandcertificate"
RENEWED, FAILED = "SSL_CERT_RENEW", "SSL_CERT_RENEW_FAILED"
WATCHED = (CERTIFICATE, "certificatemanagementprofile", "virtualservice")
Document = Mapping[str, Any]


class Waiting(msgspec.Struct):
    """Of a certificate that could not be had: not again before ``until``."""

    failures: int = 0
    until: float = 0.0


class Renewals:
    """``serves(certificate uuid)`` says whether proof by HTTP would be found: why not, "" when it would."""

    def __init__(
        self,
        view: View,
        intent: Intent,
        events: EventLog,
        clock: Clock,
        *,
        derive: profile.Derive,
        serves: Callable[[str], str],
        outward: Outward,
    ) -> None:
        self._view = view
        self._intent = intent
        self._events = events
        self._clock = clock
        self._derive = derive
        self._serves = serves
        self._outward = outward
        self._waiting: dict[str, Waiting] = {}
        self._asked: dict[str, None] = {}
        self._wanted = asyncio.Event()
        self._turn = asyncio.Semaphore(AT_ONCE_MAX)

    async def run(self) -> None:
        """Until cancelled."""
        unsubscribe = self._view.subscribe(self._changed)
        try:
            while True:
                await self.look()
                await woken(self._wanted, LOOK_INTERVAL_S, SETTLE_S)
        finally:
            unsubscribe()

    def ask(self, uuid: str) -> dict[str, Any]:
        """A certificate is to be renewed now, whatever is left of it. Raises NotFound, Refused."""
        found = self._view.get(CERTIFICATE, uuid)
        if found is None:
            raise NotFound(f"There is no SSLKeyAndCertificate {uuid[:80]}.")
        if profile.read(self._view, found.get("certificate_management_profile_ref", "")) is None:
            hint = f"Set certificate_management_profile_ref to a profile whose script is {profile.SCRIPT}."
            raise Refused(f"{found['name']} is not managed by ACME.", hint=hint)
        why = self._serves(uuid)
        if why:
            raise Refused(why)
        self._waiting.pop(uuid, None)
        self._asked[uuid] = None
        self._wanted.set()
        return {"status": f"{found['name']} is asked for; the events tell what becomes of it"}

    async def look(self) -> None:
        """Get all that are due."""
        await asyncio.gather(*(self._get(document) for document in list(self._due())))

    def _changed(self, type: str, uuid: str, document: Mapping[str, object] | None) -> None:
        if type in WATCHED:
            self._wanted.set()
            if type == CERTIFICATE and document is None:
                self._waiting.pop(uuid, None)

    def _due(self) -> Iterable[Document]:
        now = self._clock.now()
        asked, self._asked = self._asked, {}
        for document in self._view.all(CERTIFICATE):
            uuid = document["uuid"]
            if not document.get("certificate_management_profile_ref"):
                continue
            waits = self._waiting.get(uuid)
            if uuid in asked or (is_due(document, now) and (waits is None or waits.until <= now)):
                yield document

    async def _get(self, document: Document) -> None:
        uuid, name = document["uuid"], document["name"]
        managed = profile.read(self._view, document["certificate_management_profile_ref"])
        if managed is None or self._serves(uuid):
            return  # it is looked at again with the next change
        try:
            async with self._turn:
                await self._renew(document, managed)
        except Exception as error:  # one odd certificate must not cost the others
            if not isinstance(error, ShoalError | ssl.SSLError):
                log.exception("the certificate %s", name)
            waits = self._waiting.setdefault(uuid, Waiting())
            pause = min(AGAIN_S[0] * 2**waits.failures, AGAIN_S[1])
            waits.failures, waits.until = waits.failures + 1, self._clock.now() + pause
            text = f"The certificate {name} was not got from {managed.directory} ({managed.name}): {error}"
            self._events.add(
                FAILED, f"{text} Tried again in {pause / 60:.0f} minutes.", level="warning", sslkeyandcertificate=uuid
            )
            return
        self._waiting.pop(uuid, None)
        self._events.add(
            RENEWED, f"The certificate {name} was got from {managed.directory}.", sslkeyandcertificate=uuid
        )

    async def _renew(self, document: Document, managed: profile.Profile) -> None:
        """Raises ShoalError, ssl.SSLError."""
        request = document["certificate"]["certificate_signing_request"]
        asked = x509.load_pem_x509_csr(request.encode())
        key = profile.account_key(self._derive, managed.uuid)
        trust = profile.context(managed)
        client = Client(managed.directory, key, managed.contact, trust, self._outward, self._clock.sleep)
        pem = await client.certificate(names_of(asked), asked.public_bytes(serialization.Encoding.DER))
        fresh = self._view.get(CERTIFICATE, document["uuid"])
        if fresh is None or fresh["certificate"].get("certificate_signing_request") != request:
            raise AcmeFailure("It was changed meanwhile.")
        body = {**fresh["certificate"], "certificate": pem}
        put = partial(self._intent.replace, CERTIFICATE, document["uuid"], {**fresh, "certificate": body}, SYSTEM)
        await patiently(put, f"the certificate {fresh['name']}")  # an authority gives so many a week


def names_of(request: x509.CertificateSigningRequest) -> list[str]:
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def is_due(document: Document, now: float) -> bool:
    body = document.get("certificate") or {}
    if not body.get("certificate_signing_request"):
        return False
    begin, end = time_of(body.get("not_before", "")), time_of(body.get("not_after", ""))
    if document.get("status") == "SSL_CERTIFICATE_PENDING" or begin is None or end is None:
        return True
    return end - now < (end - begin) * LEFT_OF_LIFE
