"""An engine's stolen certificate: revoked, it opens nothing; the engine itself gets another one. Real TLS on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shoal.clouds.protocol import Identity
from shoal.controller.controller import Controller
from shoal.controller.ledger import Changes
from shoal.controller.pki import Authority
from shoal.errors import ShoalError
from shoal.wire import messages
from shoal.wire.channel import Channel, Listener, connect, serve
from shoal.wire.tls import engine_context, fingerprint_of_pem
from tests.api_world import ISSUER, ControlledWorld, controlled_world


class Place:
    """A controlled world with an authority of its own, which engines reach over TLS."""

    def __init__(self, world: ControlledWorld, authority: Authority, folder: Path) -> None:
        self.world, self.authority, self.folder = world, authority, folder
        self.listener: Listener

    async def listen(self) -> None:
        controller: Controller = self.world.controller

        async def attend(channel: Channel[messages.FromEngine]) -> None:
            await controller.attend(channel, channel.identity, channel.certificate)

        self.listener = await serve("127.0.0.1", 0, self.authority.wire_server_context(), attend)

    async def greeted(self, identity: Identity, engine: str) -> str:
        """What the controller says first to who shows this identity and says to be this engine."""
        folder = self.folder / fingerprint_of_pem(identity.certificate_pem)[:8]
        folder.mkdir(exist_ok=True)
        for name in ("key", "certificate", "ca"):
            (folder / f"{name}.pem").write_bytes(getattr(identity, f"{name}_pem"))
        channel = await connect("127.0.0.1", self.listener.port, engine_context(folder))
        try:
            hello: dict[str, Any] = {
                "software": "test",
                "incarnation": "i",
                "address": "10.0.0.1",
                "mac": "",
                "root": "",
            }
            await channel.send(messages.Hello(wire_version=messages.WIRE_VERSION, engine=engine, **hello))
            answer = await channel.receive()
        finally:
            await channel.close()
        return answer.why if isinstance(answer, messages.Rejected) else type(answer).__name__


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    authority = Authority.open(tmp_path / "pki")
    monkeypatch.setattr(ISSUER, "issue", authority.issue_engine)
    monkeypatch.setattr(ISSUER, "sign", authority.sign_engine)
    async with controlled_world(tmp_path) as world:
        place = Place(world, authority, tmp_path)
        await place.listen()
        yield place
        await place.listener.close()


async def test_a_revoked_certificate_is_refused_and_the_new_one_is_not(place: Place) -> None:
    (name,) = await place.world.staged(1)
    engine = next(one for one in place.world.controller.ledger.engines.values() if one.name == name)
    stolen = place.authority.issue_engine(engine.id, name)
    shown = fingerprint_of_pem(stolen.certificate_pem)
    await place.world.controller.ledger.write(Changes(engine_fields={engine.id: {"certificate": shown}}))
    assert await place.greeted(stolen, engine.id) == "Welcome"
    await place.world.post(f"/api/serviceengine/{engine.id}/revokecertificate", {}, status=200)
    assert "is revoked" in await place.greeted(stolen, engine.id)
    renewed = place.world.cloud.renewed[engine.id]
    assert await place.greeted(renewed, engine.id) == "Welcome"
    other = place.authority.issue_engine(engine.id, name)
    assert "is revoked" in await place.greeted(other, engine.id), "one that is not written down counts as revoked"


async def test_a_certificate_opens_what_is_its_own_engines_only(place: Place) -> None:
    names = await place.world.staged(2)
    one, other = (e for e in place.world.controller.ledger.engines.values() if e.name in names)
    stolen = place.authority.issue_engine(one.id, one.name)
    assert "not that of engine" in await place.greeted(stolen, other.id)
    gone = place.authority.issue_engine("se-gone", "gone")
    assert "not known here" in await place.greeted(gone, "se-gone")


async def test_one_of_another_authority_is_refused(place: Place, tmp_path: Path) -> None:
    (name,) = await place.world.staged(1)
    engine = next(iter(place.world.controller.ledger.engines.values()))
    forged = Authority.open(tmp_path / "forged").issue_engine(engine.id, name)
    forged = msgspec.structs.replace(forged, ca_pem=place.authority.ca_pem)
    with pytest.raises(ShoalError):
        await place.greeted(forged, engine.id)
