"""An engine joins by a token that is good for once and for a while, with a key that never leaves it. Real TLS on loopback."""

from __future__ import annotations

import asyncio
import datetime
import os
from pathlib import Path

import pytest

from shoal.clouds.protocol import Identity
from shoal.controller import pki
from shoal.controller.ledger import Changes
from shoal.engine import joining
from shoal.errors import Invalid, ShoalError
from shoal.wire.engine_config import JOIN_KEY, JOIN_TOKEN, EngineConfig
from shoal.wire.tls import fingerprint_of_pem

from .test_revocation import Place, place

__all__ = ["place"]
WITHIN_S = 10.0


class Joiner:
    """An engine of the place, with its token."""

    def __init__(self, place: Place, id: str, name: str, token: Identity) -> None:
        self.place, self.id, self.name, self.token = place, id, name, token

    def folder(self, name: str) -> Path:
        """A machine with the token on it."""
        folder = self.place.folder / name
        folder.mkdir()
        (folder / JOIN_KEY).write_bytes(self.token.key_pem)
        (folder / JOIN_TOKEN).write_bytes(self.token.certificate_pem)
        (folder / "ca.pem").write_bytes(self.token.ca_pem)
        return folder

    def config(self, folder: Path) -> EngineConfig:
        where = f"127.0.0.1:{self.place.listener.port}"
        return EngineConfig(id=self.id, name=self.name, rank=1, directory=str(folder), controllers=(where,))

    async def joins(self, folder: Path) -> Identity:
        async with asyncio.timeout(WITHIN_S):
            await joining.join(self.config(folder))
        return Identity(
            key_pem=(folder / "key.pem").read_bytes(),
            certificate_pem=(folder / "certificate.pem").read_bytes(),
            ca_pem=self.token.ca_pem,
        )

    async def asks(self, folder: Path) -> str:
        """Why it is refused; "" if it is not."""
        request = await asyncio.to_thread(joining._request, folder)
        try:
            await joining._asked(self.config(folder).controllers[0], self.id, folder, request)
        except (OSError, ShoalError) as error:
            return str(error)
        return ""


async def joiner(place: Place) -> Joiner:
    (name,) = await place.world.staged(1)
    ledger = place.world.controller.ledger
    engine = next(one for one in ledger.engines.values() if one.name == name)
    token = place.authority.issue_join(engine.id, name)
    shown = fingerprint_of_pem(token.certificate_pem)
    await ledger.write(Changes(engine_fields={engine.id: {"certificate": shown}}))
    return Joiner(place, engine.id, name, token)


async def test_a_token_lets_one_engine_join_once(place: Place) -> None:
    engine = await joiner(place)
    folder = engine.folder("engine")
    identity = await engine.joins(folder)
    assert await place.greeted(identity, engine.id) == "Welcome"
    assert sorted(file.name for file in folder.iterdir()) == ["ca.pem", "certificate.pem", "key.pem"]
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
    assert "was used already" in await engine.asks(engine.folder("thief"))
    assert await place.greeted(identity, engine.id) == "Welcome", "what a thief tries costs the engine nothing"
    await joining.join(engine.config(folder))  # a restart: there is nothing to do


async def test_of_two_that_join_at_once_by_one_token_one_does(place: Place) -> None:
    engine = await joiner(place)
    said = await asyncio.gather(*(engine.asks(engine.folder(f"machine-{n}")) for n in range(4)))
    assert sorted(map(bool, said)) == [False, True, True, True]
    refused = [event for event in place.world.controller.events_log.read({}) if event.name == "SE_JOIN_REFUSED"]
    assert [event.objects["serviceengine"] for event in refused] == [engine.id]  # told once


async def test_a_thief_who_comes_first_is_told_of_and_ends_with_the_engine(place: Place) -> None:
    engine = await joiner(place)
    controller = place.world.controller
    stolen = await engine.joins(engine.folder("thief"))
    assert await place.greeted(stolen, engine.id) == "Welcome", "until somebody acts"
    assert "was used already" in await engine.asks(engine.folder("engine"))
    (told,) = [event for event in controller.events_log.read({}) if event.name == "SE_JOIN_REFUSED"]
    assert told.level == "error" and engine.name in told.detail and "forcedelete" in told.detail
    await place.world.post(f"/api/serviceengine/{engine.id}/forcedelete", {}, status=200)
    await place.world.run(lambda: engine.id not in controller.ledger.engines)
    assert "not known here" in await place.greeted(stolen, engine.id)
    assert "known here" in await engine.asks(engine.folder("again"))


async def test_a_token_opens_nothing_else(place: Place) -> None:
    engine = await joiner(place)
    assert "not that of engine" in await place.greeted(engine.token, engine.id)
    other = Joiner(place, "se-other", "other", engine.token)
    assert "no token of an engine se-other" in await other.asks(other.folder("other"))


async def test_an_engine_that_was_removed_can_not_join(place: Place) -> None:
    engine = await joiner(place)
    await place.world.controller.ledger.write(Changes(engines={engine.id: None}))
    assert "known here" in await engine.asks(engine.folder("late"))


async def test_a_token_that_is_too_old_is_refused_in_the_handshake(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await joiner(place)
    monkeypatch.setattr(pki, "JOIN_LIFETIME", datetime.timedelta(seconds=-1))
    engine.token = place.authority.issue_join(engine.id, engine.name)
    shown = fingerprint_of_pem(engine.token.certificate_pem)
    await place.world.controller.ledger.write(Changes(engine_fields={engine.id: {"certificate": shown}}))
    assert "was used" not in (why := await engine.asks(engine.folder("late"))) and why
    assert place.world.controller.ledger.engines[engine.id].certificate == shown


async def test_what_asks_for_no_proper_key_gets_no_certificate(place: Place) -> None:
    for request in (b"", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", b"\xff"):
        with pytest.raises(Invalid, match="certificate request"):
            place.authority.sign_engine(request, "se-1", "one")


async def test_a_machine_without_openssl_tries_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await joiner(place)
    folder = engine.folder("engine")
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(folder))
    joins = asyncio.create_task(engine.joins(folder))
    await asyncio.sleep(0.2)
    assert not joins.done()
    monkeypatch.setenv("PATH", path)
    assert await place.greeted(await joins, engine.id) == "Welcome"
