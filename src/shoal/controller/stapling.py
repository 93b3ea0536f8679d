"""OCSP answers that engines hand to clients with a certificate (RFC 6066, 8): fetched here, kept in the store, renewed in time."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import httpx
import msgspec
from cryptography import x509

from shoal.errors import ShoalError
from shoal.objects.views import uuid_of
from shoal.store.protocol import Store, Transaction

from . import ocsp
from .clock import Clock, woken
from .events import EventLog
from .ocsp import Answer, Disbelieved
from .outward import Outward
from .view import View

log = logging.getLogger("shoal.stapling")

RECORDS = "/ocsp/"
CERTIFICATE = "sslkeyandcertificate"
LOOK_INTERVAL_S = 60.0
SETTLE_S = 1.0
ANSWER_WITHIN_S = 10.0
ANSWER_BYTES_MAX = 20_000
"""Of a response: an engine's HAProxy takes no longer one at run time."""
AT_ONCE_MAX = 8
USED_UP = 0.5
"""An answer is renewed when this much of its time has passed, if ``ocsp_req_interval`` is not shorter."""
HEADERS = {"content-type": "application/ocsp-request", "accept": "application/ocsp-response"}
Document = Mapping[str, Any]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """In the store, by the certificate's uuid. ``fetched`` in seconds since the epoch."""

    answer: Answer
    url: str
    fetched: float


class Trouble(msgspec.Struct):
    """Of a certificate whose responders gave nothing. ``status`` as in `Disbelieved`."""

    status: str = ""
    why: str = ""
    failures: int = 0
    until: float = 0.0


class Stapling:
    """``changed(uuid)`` is called when engines are to hand out something else with a certificate."""

    def __init__(
        self,
        view: View,
        store: Store,
        events: EventLog,
        clock: Clock,
        changed: Callable[[str], None],
        outward: Outward,
    ) -> None:
        self._view = view
        self._store = store
        self._events = events
        self._clock = clock
        self._changed_answer = changed
        self._outward = outward
        self._records: dict[str, Record] = {}
        self._troubles: dict[str, Trouble] = {}
        self._wanted = asyncio.Event()
        self._turn = asyncio.Semaphore(AT_ONCE_MAX)

    async def load(self) -> None:
        """Read what earlier controllers fetched."""
        for record in (await self._store.list(RECORDS)).records:
            with contextlib.suppress(ValueError):
                self._records[record.key.removeprefix(RECORDS)] = msgspec.msgpack.decode(record.value, type=Record)

    def answer(self, uuid: str) -> Answer | None:
        """What engines hand out with a certificate now; None = nothing."""
        document = self._view.get(CERTIFICATE, uuid)
        record = self._records.get(uuid)
        if document is None or record is None or not document.get("enable_ocsp_stapling"):
            return None
        answer = record.answer
        try:
            own, issuer = ocsp.pair(chain_of(self._view, document))
        except Disbelieved:
            return None
        ended = answer.until and answer.until <= self._clock.now()
        return answer if not ended and ocsp.is_about(answer, own, issuer) else None

    def shown(self, uuid: str) -> dict[str, Any]:
        """What a certificate's GET tells of it."""
        document = self._view.get(CERTIFICATE, uuid) or {}
        if not document.get("enable_ocsp_stapling"):
            return {}
        answer, record, trouble = self.answer(uuid), self._records.get(uuid), self._troubles.get(uuid)
        found: dict[str, Any] = {}
        if answer is not None and record is not None:
            found["ocsp_response_info"] = ocsp.shown(answer, record.url)
            found["ocsp_error_status"] = f"OCSP_ERR_CERTSTATUS_{answer.status}"
        if trouble is not None:
            found["ocsp_error_status"] = f"OCSP_ERR_CERTSTATUS_{trouble.status}"
        return found

    async def run(self) -> None:
        """Until cancelled."""
        unsubscribe = self._view.subscribe(self._changed)
        try:
            while True:
                await self.look()
                await woken(self._wanted, LOOK_INTERVAL_S, SETTLE_S)
        finally:
            unsubscribe()

    async def look(self) -> None:
        """Fetch all that are due, and forget those that nobody wants any more."""
        wanted = [document for document in self._view.all(CERTIFICATE) if document.get("enable_ocsp_stapling")]
        uuids = {document["uuid"] for document in wanted}
        for uuid in [uuid for uuid in self._records if uuid not in uuids]:
            del self._records[uuid]
            await self._written(Transaction(deletes=(RECORDS + uuid,)))
        self._troubles = {uuid: trouble for uuid, trouble in self._troubles.items() if uuid in uuids}
        await asyncio.gather(*(self._get(document) for document in wanted if self._is_due(document)))

    def _changed(self, type: str, uuid: str, document: Mapping[str, object] | None) -> None:
        if type == CERTIFICATE:
            self._troubles.pop(uuid, None)
            self._wanted.set()

    def _is_due(self, document: Document) -> bool:
        uuid, now = document["uuid"], self._clock.now()
        trouble, record, answer = self._troubles.get(uuid), self._records.get(uuid), self.answer(document["uuid"])
        if trouble is not None:
            tries = (document.get("ocsp_config") or {}).get("max_tries", 10)
            return trouble.until <= now and (not tries or trouble.failures < tries or answer is None)
        if record is None or answer is None:
            return True
        interval = (document.get("ocsp_config") or {}).get("ocsp_req_interval", 86_400)
        if answer.until:
            interval = min(interval, (answer.until - answer.since) * USED_UP)
        return bool(record.fetched + interval <= now)

    async def _get(self, document: Document) -> None:
        uuid, config = document["uuid"], document.get("ocsp_config") or {}
        try:
            own, issuer = ocsp.pair(chain_of(self._view, document))
            async with self._turn:
                record = await self._fetched(own, issuer, urls_of(own, config), config.get("ocsp_resp_timeout"))
        except Exception as error:  # one odd certificate must not cost the others
            trouble = self._troubles.setdefault(uuid, Trouble())
            trouble.status = error.status if isinstance(error, Disbelieved) else "PARSE_CERT"
            trouble.why, trouble.failures = str(error), trouble.failures + 1
            trouble.until = self._clock.now() + config.get("failed_ocsp_jobs_retry_interval", 3600)
            log.warning("no OCSP answer for %s: %s", document["name"], error)
            return
        self._troubles.pop(uuid, None)
        before = self._records.get(uuid)
        self._records[uuid] = record
        await self._written(Transaction(puts=((RECORDS + uuid, msgspec.msgpack.encode(record)),)))
        if before is None or before.answer != record.answer:
            self._changed_answer(uuid)
        if record.answer.status == "REVOKED" and (before is None or before.answer.status != "REVOKED"):
            text = f"The certificate {document['name']} is revoked, says its authority ({record.url})."
            self._events.add("SSL_CERT_REVOKED", text, level="error", sslkeyandcertificate=uuid)

    async def _fetched(
        self, own: x509.Certificate, issuer: x509.Certificate, urls: Iterable[str], timeout_s: int | None
    ) -> Record:
        """From the first responder that answers as it should. Raises Disbelieved."""
        failure = Disbelieved("URL_LIST", "neither the certificate nor ocsp_config names a responder")
        question = ocsp.request(own, issuer)
        for url in urls:
            try:
                async with self._outward.asking() as http:
                    within_s = timeout_s or ANSWER_WITHIN_S
                    reply = await http.post(url, content=question, headers=HEADERS, timeout=within_s)
                if reply.status_code != httpx.codes.OK or len(reply.content) > ANSWER_BYTES_MAX:
                    why = f"{url} answers {reply.status_code} with {len(reply.content)} octets"
                    raise Disbelieved("HTTP_RESP", why)
                now = self._clock.now()
                answer = ocsp.read(reply.content, own, issuer, datetime.datetime.fromtimestamp(now, datetime.UTC))
                return Record(answer=answer, url=url, fetched=now)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                failure = Disbelieved("HTTP_SEND", f"{url}: {error or type(error).__name__}")
            except Disbelieved as error:
                failure = error
        raise failure

    async def _written(self, transaction: Transaction) -> None:
        """What is not durable is fetched again by the next controller."""
        try:
            await self._store.commit(transaction)
        except ShoalError as error:
            log.warning("an OCSP answer is not kept: %s", error)


def chain_of(view: View, document: Document) -> str:
    """The PEM of a certificate and its issuers, as far as they are known."""
    bodies = [document.get("certificate") or {}]
    for authority in document.get("ca_certs") or ():
        found = view.get(CERTIFICATE, uuid_of(authority.get("ca_ref") or "")) or {}
        bodies.append(found.get("certificate") or {})
    return "\n".join(body.get("certificate") or "" for body in bodies)


def urls_of(own: x509.Certificate, config: Document) -> list[str]:
    """Responders in the order in which they are asked."""
    given, named = list(config.get("responder_url_lists") or ()), ocsp.responders(own)
    urls = given if config.get("url_action") == "OCSP_RESPONDER_URL_OVERRIDE" else [*named, *given]
    return [url for url in dict.fromkeys(urls) if urllib.parse.urlsplit(url).scheme in ("http", "https")]
