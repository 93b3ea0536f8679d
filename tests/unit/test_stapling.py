"""OCSP answers are fetched from a real responder, believed only if they should be, kept, and renewed in time."""

from __future__ import annotations

import datetime
import socket
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.ocsp import load_der_ocsp_response

from shoal.controller import ocsp
from shoal.controller.desired import certificate_part
from shoal.controller.events import EventLog
from shoal.controller.ocsp import Disbelieved
from shoal.controller.stapling import Stapling
from tests.api_world import EPOCH, HERE, Clock, World, api_world
from tests.issuer import Issued, Issuer

PATH = "/api/sslkeyandcertificate"
ROOT = Issuer("Root")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


async def stored(world: World, issued: Issued, **more: Any) -> dict[str, Any]:
    body = {"certificate": issued.certificate + ROOT.pem}
    given = {"name": "web", "key": issued.key, "certificate": body, "enable_ocsp_stapling": True, **more}
    made: dict[str, Any] = await world.post(PATH, given)
    return made


async def test_answers_are_fetched_kept_and_renewed(tmp_path: Path) -> None:
    port = free_port()
    issued = ROOT.issue("www.example.com", responder=f"http://127.0.0.1:{port}")
    async with api_world(tmp_path) as world:
        made = await stored(world, issued)
        assert made["ocsp_responder_url_list_from_certs"] == [f"http://127.0.0.1:{port}"]
        uuid, clock, changed = made["uuid"], Clock(), list[str]()
        clock.s = now().timestamp() - EPOCH
        events = EventLog(world.store, clock)
        stapling = Stapling(world.view, world.store, events, clock, changed.append, HERE)
        await stapling.look()  # nobody is there
        assert stapling.answer(uuid) is None and not changed
        assert stapling.shown(uuid) == {"ocsp_error_status": "OCSP_ERR_CERTSTATUS_HTTP_SEND"}
        clock.s += 3601
        async with ROOT.responder(tmp_path, port, issued):
            await stapling.look()
        assert changed == [uuid]
        shown = stapling.shown(uuid)
        assert shown["ocsp_error_status"] == "OCSP_ERR_CERTSTATUS_GOOD"
        assert shown["ocsp_response_info"]["cert_status"] == "OCSP_CERTSTATUS_GOOD"
        part = certificate_part(world.view, uuid, lambda text, context: text, stapling.answer)
        assert part is not None and part.stapled is not None and part.stapled.issuer == ROOT.pem
        again = Stapling(world.view, world.store, events, clock, changed.append, HERE)
        await again.load()
        assert again.answer(uuid) == stapling.answer(uuid), "another controller has it, whatever the responder does"

        await again.look()
        assert again.shown(uuid) == shown, "it is not asked for again at once"
        clock.s += 9001  # of the five hours that it is good for
        async with ROOT.responder(tmp_path, port, revoked=issued):
            await again.look()
        assert again.shown(uuid)["ocsp_response_info"]["revocation_reason"] == "OCSP_REVOCATION_REASON_KEY_COMPROMISE"
        assert [event.name for event in events.read({})] == ["SSL_CERT_REVOKED"]
        clock.s += 7200
        assert again.answer(uuid) is None, "its time is over"
        await world.call("PATCH", f"{PATH}/{uuid}", 200, json={"replace": {"enable_ocsp_stapling": False}})
        await again.look()
        assert not (await world.store.list("/ocsp/")).records


async def test_responders_are_asked_in_the_order_that_is_configured(tmp_path: Path) -> None:
    port, nobody = free_port(), "http://127.0.0.1:1"
    issued = ROOT.issue("www.example.com", responder=nobody)
    url = f"http://127.0.0.1:{port}"
    async with api_world(tmp_path) as world:
        made = await stored(world, issued, ocsp_config={"responder_url_lists": [url]})
        clock = Clock()
        clock.s = now().timestamp() - EPOCH
        stapling = Stapling(world.view, world.store, EventLog(world.store, clock), clock, lambda uuid: None, HERE)
        async with ROOT.responder(tmp_path, port, issued):
            await stapling.look()
        assert stapling.shown(made["uuid"])["ocsp_response_info"]["ocsp_resp_from_responder_url"] == url
        bare = {"name": "bare", "key": issued.key, "certificate": {"certificate": issued.certificate}}
        other = await world.post(PATH, {**bare, "enable_ocsp_stapling": True})
        await stapling.look()
        assert stapling.shown(other["uuid"]) == {"ocsp_error_status": "OCSP_ERR_CERTSTATUS_CACERT"}


async def test_what_is_not_the_authoritys_word_is_not_believed(tmp_path: Path) -> None:
    issued, other = ROOT.issue("a.example"), ROOT.issue("b.example")
    der = await ROOT.answer(tmp_path, issued, free_port())
    assert ocsp.read(der, issued.parsed, ROOT.parsed, now()).status == "GOOD"
    signature = load_der_ocsp_response(der).signature
    stranger = Issuer("Root")
    forged = stranger.issue("a.example")
    for bad, own, by, at in (
        (der, other.parsed, ROOT.parsed, now()),
        (der, issued.parsed, stranger.parsed, now()),
        (der, issued.parsed, ROOT.parsed, now() + datetime.timedelta(days=1)),
        (der.replace(signature, signature[:-1] + bytes([signature[-1] ^ 1])), issued.parsed, ROOT.parsed, now()),
        (b"x", issued.parsed, ROOT.parsed, now()),
        (await stranger.answer(tmp_path, forged, free_port()), issued.parsed, ROOT.parsed, now()),
    ):
        with pytest.raises(Disbelieved):
            ocsp.read(bad, own, by, at)
