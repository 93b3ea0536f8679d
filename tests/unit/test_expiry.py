"""Certificates that end are told of, once for each threshold."""

from __future__ import annotations

from pathlib import Path

from shoal.controller.events import EventLog
from shoal.controller.expiry import Expiry
from tests.api_world import EPOCH, Clock, api_world
from tests.issuer import DAY, Issuer

PATH = "/api/sslkeyandcertificate"


async def test_the_end_of_certificates_and_lists_is_told_in_time(tmp_path: Path) -> None:
    async with api_world(tmp_path) as world:
        root = Issuer("Root")
        issued = root.issue("www.example.com", days=90)
        body = {"name": "web", "key": issued.key, "certificate": {"certificate": issued.certificate}}
        made = await world.post(PATH, body)
        lists = {"ca_certs": [{"certificate": root.pem}], "crls": [{"body": root.revoked()}]}
        trust = await world.post("/api/pkiprofile", {"name": "trust", **lists})
        end = issued.parsed.not_valid_after_utc.timestamp()
        clock = Clock()
        events = EventLog(world.store, clock)
        expiry = Expiry(world.view, events, clock)

        def told(days_left: float) -> list[tuple[str, str, str]]:
            before = len(events.read({}))
            clock.s = end - days_left * DAY.total_seconds() - EPOCH
            expiry.look()
            expiry.look()
            new = events.read({})[: len(events.read({})) - before]
            return [(event.name, event.level, event.detail.split(",")[0].split(" at ")[0]) for event in reversed(new)]

        name = "SSL_CERT_EXPIRE"
        assert told(95) == []
        (soon,) = told(89.5)
        assert soon[:2] == ("PKIPROFILE_CRL_ENDPOINT_EXPIRING_SOON", "warning")
        (ended, warned) = reversed(told(29))
        assert ended[:2] == ("PKIPROFILE_CRL_ENDPOINT_EXPIRED", "error")
        assert warned == (name, "warning", "The certificate web ends within 30 days")
        assert told(20) == []
        assert told(5) == [(name, "warning", "The certificate web ends within 7 days")]
        again = EventLog(world.store, clock)
        again._events.extend(reversed(events.read({})))
        Expiry(world.view, again, clock).look()
        assert len(again.read({})) == len(events.read({})), "a controller that starts anew does not repeat it"
        assert told(0.5) == [(name, "warning", "The certificate web ends within 1 day")]
        assert told(-1) == [(name, "error", "The certificate web ended")]
        assert {event.objects.get("sslkeyandcertificate") for event in events.read({"name": name})} == {made["uuid"]}
        assert events.read({"object": trust["uuid"]})
        await world.call(
            "PATCH", "/api/controllerproperties", 200, json={"replace": {"ssl_certificate_expiry_warning_days": [60]}}
        )
        assert told(50) == [(name, "warning", "The certificate web ends within 60 days")]
