"""An engine joins: by its token, once, its own key gets a certificate (decision 47).

The record of an engine has the fingerprint of the one certificate that counts: the token's first, then that of the
certificate the token was given for. So a token that was used, or taken back with its engine, opens nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from shoal.errors import Forbidden
from shoal.wire.messages import Join
from shoal.wire.tls import JOIN_URI, fingerprint_of_pem

from .events import EventLog
from .ledger import Changes, Ledger
from .records import EngineRecord

REFUSED = "SE_JOIN_REFUSED"
TOLD_MAX = 1_000
Sign = Callable[[bytes, str, str], bytes]
"""(certificate request, engine id, name) -> certificate, both PEM. Raises Invalid."""


class Joining:
    def __init__(self, ledger: Ledger, sign: Sign, events: EventLog) -> None:
        self._ledger = ledger
        self._sign = sign
        self._events = events
        self._underway: set[str] = set()
        self._told: OrderedDict[str, None] = OrderedDict()
        """Engines of which it was told that their token came twice."""

    async def certificate(self, asked: Join, identity: str, shown: str) -> bytes:
        """For the engine that asks: PEM. ``identity`` and ``shown`` (its fingerprint) are those of the certificate it
        came with. Raises Forbidden, Invalid, Unavailable."""
        record = self._ledger.engines.get(asked.engine)
        if identity != f"{JOIN_URI}{asked.engine}" or record is None:
            raise Forbidden(f"This is no token of an engine {asked.engine[:80]} that is known here.")
        if record.certificate != shown or record.id in self._underway:
            self._tell(record)
            raise Forbidden(f"The join token of {record.name} was used already.")
        self._underway.add(record.id)
        try:
            issued = self._sign(asked.request, record.id, record.name)
            fields = {"certificate": fingerprint_of_pem(issued)}
            await self._ledger.repeat(Changes(engine_fields={record.id: fields}))
        finally:
            self._underway.discard(record.id)
        return issued

    def _tell(self, engine: EngineRecord) -> None:
        """Once: whoever has the token may come as often as he likes."""
        if engine.id in self._told:
            return
        self._told[engine.id] = None
        if len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)
        self._events.add(
            REFUSED,
            f"{engine.name}: somebody came with its join token, which was used already. One of the two is not the engine: "
            "look at its log, or delete it by forcedelete.",
            level="error",
            serviceengine=engine.id,
            serviceenginegroup=engine.group,
        )
