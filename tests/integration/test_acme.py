"""Certificates by ACME: a real authority (pebble), a real HAProxy that answers it at the service's own address."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from shoal.controller.acme import profile, renewals
from shoal.controller.acme.renewals import Renewals
from shoal.controller.desired import certificate_part, service_part
from shoal.controller.events import EventLog
from shoal.controller.secrets import Secrets
from shoal.engine.haproxy import certificates, render
from tests.api_world import HERE, Clock, ControlledWorld, controlled_world, warnings_of
from tests.issuer import Issued, Issuer

from .private_host import private_host

pytestmark = [pytest.mark.root, pytest.mark.beside]
VIP, DIRECTORY, DNS = "10.9.0.5", "https://127.0.0.1:14000/dir", "127.0.0.1:8053"
STARTED_WITHIN_S = 10.0
NAME = "www.shop.test"
CERTIFICATES = "/api/sslkeyandcertificate"


@pytest.fixture
def host() -> Iterator[None]:
    with private_host():
        subprocess.run(["ip", "addr", "add", f"{VIP}/32", "dev", "lo"], check=True)
        yield


@contextlib.asynccontextmanager
async def child(*command: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **environment}
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def authority(folder: Path, own: Issued) -> AsyncIterator[None]:
    """It resolves all names to the VIP, looks at port 80, and refuses every third nonce."""
    own.write(folder / "authority.pem")
    settings = {
        "listenAddress": "127.0.0.1:14000",
        "certificate": str(folder / "authority.pem"),
        "privateKey": str(folder / "authority.pem"),
        "httpPort": 80,
        "tlsPort": 443,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
    unused = ("-http01", "", "-https01", "", "-tlsalpn01", "", "-management", "127.0.0.1:8055")
    names = ("pebble-challtestsrv", "-defaultIPv4", VIP, "-defaultIPv6", "", "-dns01", DNS, *unused)
    pebble = ("pebble", "-config", str(folder / "pebble.json"), "-dnsserver", DNS, "-strict")
    quick = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "33", "PEBBLE_AUTHZREUSE": "0"}
    async with child(*names), child(*pebble, **quick):
        await listening("127.0.0.1", 14000)
        yield


async def listening(address: str, port: int) -> None:
    async with asyncio.timeout(STARTED_WITHIN_S):
        while True:
            with contextlib.suppress(OSError):
                (await asyncio.open_connection(address, port))[1].close()
                return
            await asyncio.sleep(0.02)


class Patient(Clock):
    """The authority takes real time to look."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.05)


class Engine:
    """HAProxy with what the controller wants of the virtual service."""

    def __init__(self, world: ControlledWorld, folder: Path, secrets: Secrets) -> None:
        self._world, self._secrets = world, secrets
        self._facts = render.Facts(directory=str(folder), sockets=str(folder), descriptors_max=4000)
        Path(render.draining_file(self._facts)).touch()
        Path(render.chroot_folder(self._facts)).mkdir()
        Path(render.state_file(self._facts)).write_text("1\n")

    def write(self) -> str:
        world = self._world
        intents = [one for vips in world.controller.reconciler.vips(world.view).values() for one in vips.values()]
        intent = next(intent for intent in intents if intent.services)
        fragments = {}
        for service in intent.services:
            account = lambda one: profile.account_key(self._secrets.derived, one).thumbprint()  # noqa: E731
            part = service_part(world.view, service, intent, account=account)
            for uuid in part.certificates:
                found = certificate_part(world.view, uuid, self._secrets.unseal)
                assert found is not None
                certificates.write(self._facts, certificates.files([found], [part]))
            fragments[service.uuid] = render.service_fragment(part, self._facts)
        file = Path(self._facts.directory) / "haproxy.cfg"
        file.write_text(render.config(self._facts, fragments))
        return str(file)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with child("haproxy", "-db", "-f", self.write()):
            await listening(VIP, 80)
            yield


async def served() -> str:
    """The issuer of the certificate that clients of the service get."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(VIP, 443, ssl=context, server_hostname=NAME)
    data = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(data).issuer.rfc4514_string()


@pytest.mark.usefixtures("host")
async def test_a_certificate_is_got_renewed_and_its_failure_told(tmp_path: Path) -> None:
    own = Issuer("Its own")
    folder = tmp_path / "engine"
    folder.mkdir()
    async with controlled_world(tmp_path) as world, authority(tmp_path, own.issue("127.0.0.1")):
        world.client.headers["x-avi-version"] = "22.1.3"
        secrets = world.intent._secrets
        engine, events, clock = Engine(world, folder, secrets), EventLog(world.store, world.clock), Patient()
        mark = {"reached": ""}
        acme = Renewals(
            world.view,
            world.intent,
            events,
            clock,
            derive=secrets.derived,
            serves=lambda uuid: mark["reached"],
            outward=HERE,
        )
        given = {"directory_url": DIRECTORY, "contact": "ops@shop.test", "ca_certs": own.pem}
        params = [{"name": name, "value": value} for name, value in given.items()]
        managing = {
            "name": "acme",
            "run_script_ref": "/api/alertscriptconfig?name=System-ACME",
            "script_params": params,
        }
        managed = await world.post("/api/certificatemanagementprofile", managing)
        wanted = {"subject": {"common_name": NAME}, "subject_alt_names": ["shop.test"]}
        curve = {"algorithm": "SSL_KEY_ALGORITHM_EC"}
        body = {"certificate_management_profile_ref": managed["url"], "certificate": wanted, "key_params": curve}
        wild = {**body, "name": "wild", "certificate": {"subject": {"common_name": "*.shop.test"}}}
        assert "without *" in (await world.post(CERTIFICATES, wild, 400))["error"]
        reply = await world.client.post(CERTIFICATES, json={**body, "name": "shop"})
        made = reply.json()
        assert made["status"] == "SSL_CERTIFICATE_PENDING" and made["certificate"]["self_signed"]
        assert "once a virtual service" in " ".join(warnings_of(reply))
        service = await world.service()
        ports = [{"port": 80}, {"port": 443, "enable_ssl": True}]
        change = {"services": ports, "ssl_key_and_certificate_refs": [made["url"]]}
        await world.call("PATCH", f"/api/virtualservice/{service['uuid']}", 200, json={"replace": change})
        path = f"{CERTIFICATES}/{made['uuid']}"

        mark["reached"] = "not yet"
        await acme.look()
        assert not events.read({}), "not asked for before the proof can be found"
        mark["reached"] = ""
        async with engine.running():
            assert NAME in await served(), "its own stands in for it"
            await acme.look()
            told = events.read({})[0]
            assert told.name == renewals.RENEWED, told.detail
        got = await world.get(path)
        assert got["status"] == "SSL_CERTIFICATE_FINISHED"
        assert sorted(got["certificate"]["subject_alt_names"]) == ["shop.test", NAME]
        assert got["certificate"]["certificate"].count("BEGIN CERTIFICATE") > 1, "with its chain"
        async with engine.running():
            assert "Pebble" in await served()
            await acme.look()
            assert (await world.get(path)) == got, "it is not due"
            acme.ask(made["uuid"])
            await acme.look()
        again = await world.get(path)
        assert again["certificate"]["serial_number"] != got["certificate"]["serial_number"]
        assert again["certificate"]["public_key"] == got["certificate"]["public_key"]

        acme.ask(made["uuid"])  # and nobody answers at the address
        await acme.look()
        failed = events.read({})[0]
        assert failed.name == renewals.FAILED and NAME.removeprefix("www.") in failed.detail, failed.detail
        assert failed.detail.endswith("Tried again in 1 minutes.")
        assert (await world.get(path))["certificate"] == again["certificate"], "what it had goes on"


def test_a_certificate_is_due_when_a_third_of_its_life_is_left() -> None:
    body = {
        "certificate_signing_request": "x",
        "not_before": "1970-01-01 00:00:00",
        "not_after": "1970-04-01 00:00:00",
    }
    day = 86_400
    document: dict[str, Any] = {"certificate": body, "status": "SSL_CERTIFICATE_FINISHED"}
    assert [renewals.is_due(document, at * day) for at in (1, 59, 61, 100)] == [False, False, True, True]
    assert renewals.is_due({**document, "status": "SSL_CERTIFICATE_PENDING"}, day)
    assert not renewals.is_due({"certificate": {"certificate": "x"}}, day), "there is no request to send"
