"""Which way a change of an engine's configuration takes, and that none of them cuts anything: real HAProxy."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.x509 import ocsp

from shoal.engine.agent import APPLY_INTERVAL_S
from shoal.wire import messages
from shoal.wire.desired import Certificate, ClientCertificates, Listener, Monitor, Part, Stapled, Trust
from tests.issuer import Issued, Issuer

from .engine_lab import ENGINE, VIP, Lab, engine, pool, servers, service, settings, vip
from .private_host import private_host

pytestmark = [pytest.mark.root, pytest.mark.beside]
PATIENT = (Monitor(name="m", kind="HTTP", interval_s=1, timeout_s=5, rise=1, fall=3, request="GET /health HTTP/1.0"),)
MASTER_AND_WORKER = 2
POOL = pool(monitors=PATIENT)
ONE = service(pool=POOL)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    with private_host():
        async with engine(tmp_path) as made:
            await owning(made)
            yield made


async def owning(lab: Lab) -> None:
    await lab.controller.push(settings(), vip(), ONE)
    await lab.controller.hear(messages.Ownership, lambda m: m.owner and m.vip == "v")
    await until(lambda: len(lab.processes("haproxy.cfg")) == MASTER_AND_WORKER)  # that of the empty file has gone


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not check():
            await asyncio.sleep(0.02)


class Connection:
    """A keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def get(self) -> tuple[bool, str]:
        """(whether the server says that it closes, the body)"""
        async with asyncio.timeout(10):
            self.writer.write(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = re.search(r"content-length: (\d+)", head)
            assert length is not None, head
            body = await self.reader.readexactly(int(length[1]))
        return "connection: close" in head, body.decode()


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(VIP, 80)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


async def test_an_idle_connection_is_not_closed_by_a_reload_but_told_with_its_next_answer(lab: Lab) -> None:
    async with connected() as kept:
        assert (await kept.get())[0] is False
        applied = await lab.controller.push(settings(), vip(), ONE, service("more", port=8001, pool=POOL))
        assert applied.how == "reload"
        await asyncio.sleep(0)
        assert not kept.reader.at_eof()
        assert (await kept.get())[0] is True
        await until(kept.reader.at_eof)
    await until(lambda: len(lab.processes("haproxy.cfg")) == MASTER_AND_WORKER)


async def test_an_old_worker_ends_after_hard_stop(tmp_path: Path) -> None:
    with private_host():
        async with engine(tmp_path, hard_stop_after_s=1) as lab:
            await owning(lab)
            async with connected() as kept:
                await kept.get()
                await lab.controller.push(settings(), vip(), ONE, service("more", port=8001, pool=POOL))
                await until(kept.reader.at_eof)


async def test_a_reload_waits_while_as_many_old_workers_as_may_be_have_connections(tmp_path: Path) -> None:
    with private_host():
        async with engine(tmp_path, old_workers_max=2) as lab, contextlib.AsyncExitStack() as stack:
            await owning(lab)
            held = []
            for port in (8001, 8002):
                held.append(await stack.enter_async_context(connected()))
                await held[-1].get()
                applied = await lab.controller.push(settings(), vip(), ONE, service("more", port=port, pool=POOL))
                assert applied.how == "reload"
            held.append(await stack.enter_async_context(connected()))
            await held[-1].get()
            since = len(lab.controller.heard)
            root = await lab.controller.say(settings(), vip(), ONE, service("more", port=8003, pool=POOL))
            await until(lambda: "the reload waits" in (lab.home / "agent.log").read_text())
            assert len(lab.processes("haproxy.cfg")) == MASTER_AND_WORKER + 2
            held[0].writer.close()
            applied = await lab.controller.hear(messages.Applied, lambda m: m.root == root, since=since)
            assert applied.how == "reload"
            for kept in held[1:]:
                assert (await kept.get())[0] is True


async def test_reloads_of_a_burst_are_coalesced(lab: Lab) -> None:
    since = len(lab.controller.heard)
    roots = [await lab.controller.say(settings(), vip(), ONE, service("more", port=8001, pool=POOL))]
    await lab.controller.hear(messages.Applied, lambda m: m.root == roots[0], since=since)
    loop = asyncio.get_running_loop()
    began, ports = loop.time(), range(8002, 8030)
    for port in ports:
        roots.append(await lab.controller.say(settings(), vip(), ONE, service("more", port=port, pool=POOL)))
    await lab.controller.hear(messages.Applied, lambda m: m.root == roots[-1], since=since)
    took = loop.time() - began
    reloads = [m for m in lab.controller.heard[since:] if isinstance(m, messages.Applied) and m.how == "reload"]
    assert len(reloads) <= 2 + took / APPLY_INTERVAL_S
    assert len(reloads) < len(ports)


async def test_a_removed_server_keeps_what_it_has_and_no_reload_is_needed(lab: Lab) -> None:
    backend = lab.backends["a"]
    backend.hold.clear()
    waiting = [asyncio.create_task(lab.get()) for _ in range(2)]
    await until(lambda: bool(backend.seen))
    only_b = service(pool=pool(monitors=PATIENT, servers=servers()[1:]))
    applied = await lab.controller.push(settings(), vip(), only_b)
    assert (applied.how, await lab.names(4)) == ("runtime", {"b"})
    applied = await lab.controller.push(settings(), vip(), ONE)  # it comes back while it is still there
    assert applied.how == "runtime"
    applied = await lab.controller.push(settings(), vip(), only_b)
    assert (applied.how, await lab.names(4)) == ("runtime", {"b"})
    backend.hold.set()
    assert {body for _, body in await asyncio.gather(*waiting)} == {"a", "b"}
    applied = await lab.controller.push(settings(), vip(), ONE)
    assert applied.how == "runtime"
    await lab.controller.hear_status(lambda s: {x.state for x in s.servers} == {"up"})
    assert await lab.names(8) == {"a", "b"}


async def test_a_removed_server_that_is_busy_is_deleted_by_the_next_agent_too(lab: Lab) -> None:
    backend = lab.backends["a"]
    backend.hold.clear()
    waiting = [asyncio.create_task(lab.get()) for _ in range(2)]
    await until(lambda: bool(backend.seen))
    only_b = service(pool=pool(monitors=PATIENT, servers=servers()[1:]))
    await lab.controller.push(settings(), vip(), only_b)
    since = len(lab.controller.heard)
    lab.kill_agent()
    await lab.controller.hear(messages.Hello, since=since)
    assert (await lab.controller.push(settings(), vip(), only_b)).how == "none"
    assert (await lab.controller.push(settings(), vip(), ONE)).how == "runtime"
    backend.hold.set()
    await asyncio.gather(*waiting)


async def test_a_master_that_a_reload_runs_anew_is_not_taken_for_dead_by_an_agent_that_adopted_it(lab: Lab) -> None:
    since = len(lab.controller.heard)
    lab.kill_agent()
    await lab.controller.hear(messages.Hello, since=since)
    for port in range(8001, 8009):
        applied = await lab.controller.push(settings(), vip(), ONE, service("more", port=port, pool=POOL))
        assert applied.how == "reload"
    assert "can't be brought in line" not in (lab.home / "agent.log").read_text()


async def test_ratio_and_state_of_servers_and_names_need_no_reload(lab: Lab) -> None:
    for changed in (
        service(pool=pool(monitors=PATIENT, servers=servers(a={"ratio": 4}))),
        service(pool=pool(monitors=PATIENT, servers=servers(a={"enabled": False}))),
        ONE,
    ):
        assert (await lab.controller.push(settings(), vip(), changed)).how == "runtime"
    renamed = service(name="other", pool=msgspec.structs.replace(POOL, name="other"))
    assert (await lab.controller.push(settings(), vip(), renamed)).how == "none"


async def test_a_pace_of_checks_is_changed_with_what_was_found_kept(lab: Lab) -> None:
    await lab.backends["a"].stop()
    await lab.controller.hear_status(lambda s: {(x.server, x.state) for x in s.servers} == {("a", "down"), ("b", "up")})
    slow = tuple(msgspec.structs.replace(m, interval_s=60, fall=5, rise=2) for m in PATIENT)
    applied = await lab.controller.push(settings(), vip(), service(pool=pool(monitors=slow)))
    assert applied.how == "reload"
    status = await lab.controller.hear_status(lambda s: s.root == applied.root and bool(s.servers))
    assert {(x.server, x.state) for x in status.servers} == {("a", "down"), ("b", "up")}
    assert await lab.names() == {"b"}


async def test_a_drained_vip_ends_kept_alive_connections_with_their_next_answer(lab: Lab) -> None:
    async with connected() as kept:
        assert (await kept.get())[0] is False
        applied = await lab.controller.push(settings(), vip(draining=(ENGINE,)), ONE)
        assert applied.how == "map"
        assert not kept.reader.at_eof()
        assert (await kept.get())[0] is True
        await until(kept.reader.at_eof)
    applied = await lab.controller.push(settings(), vip(draining=(ENGINE,)), ONE, service("more", port=8001, pool=POOL))
    assert applied.how == "reload"
    async with connected() as kept:
        assert (await kept.get())[0] is True
    assert (await lab.controller.push(settings(), vip(), ONE, service("more", port=8001, pool=POOL))).how == "map"
    async with connected() as kept:
        assert (await kept.get())[0] is False


def issued(lab: Lab, name: str) -> Certificate:
    key, chain = lab.authority.issue_server([name], [])
    certificate, private = (chain, key) if b"PRIVATE KEY" in key else (key, chain)
    return Certificate(id="c", name="c", pem=(certificate + private).decode())


async def test_a_certificate_in_use_is_replaced_in_haproxys_store(lab: Lab) -> None:
    secure = service(listeners=(Listener(port=443, port_end=443, tls=True),), certificates=("c",), pool=POOL)
    context = ssl.create_default_context(cadata=lab.authority.ca_pem.decode())

    async def handshake(name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(VIP, 443, ssl=context, server_hostname=name)

    def parts(certificate: Certificate) -> tuple[Part, ...]:
        return settings(), vip(), secure, certificate

    assert (await lab.controller.push(*parts(issued(lab, "one.test")))).how == "reload"
    first = Connection(*await handshake("one.test"))
    await first.get()
    await until(lambda: len(lab.processes("haproxy.cfg")) == MASTER_AND_WORKER)
    before = lab.processes("haproxy.cfg")
    applied = await lab.controller.push(*parts(issued(lab, "two.test")))
    assert (applied.how, applied.problems) == ("certificate", ())
    assert lab.processes("haproxy.cfg") == before
    assert (await first.get())[0] is False
    second = Connection(*await handshake("two.test"))
    await second.get()
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake("one.test")
    applied = await lab.controller.push(*parts(issued(lab, "two.test")), service("more", port=8001, pool=POOL))
    assert applied.how == "reload"
    third = Connection(*await handshake("two.test"))
    await third.get()
    for connection in (first, second, third):
        connection.writer.close()


async def test_an_ocsp_answer_goes_with_its_certificate(lab: Lab, tmp_path: Path) -> None:
    issuer = Issuer("One")
    own = issuer.issue("one.test")
    secure = service(listeners=(Listener(port=443, port_end=443, tls=True),), certificates=("c",), pool=POOL)
    answers = [await issuer.answer(tmp_path, own)]
    await asyncio.sleep(1.1)  # the next one says another second
    answers.append(await issuer.answer(tmp_path, own))

    def parts(answer: bytes | None) -> tuple[Part, ...]:
        stapled = Stapled(response=answer, issuer=issuer.pem, until=time.time() + 3600) if answer else None
        return settings(), vip(), secure, Certificate(id="c", name="c", pem=own.pem, stapled=stapled)

    async def told() -> bytes:
        """The OCSP response that OpenSSL's client gets."""
        command = ("openssl", "s_client", "-connect", f"{VIP}:443", "-servername", "one.test", "-status")
        child = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
        return (await child.communicate())[0]

    def date(answer: bytes) -> bytes:
        at = ocsp.load_der_ocsp_response(answer).produced_at_utc
        return f"Produced At: {at:%b} {at.day:2} {at:%H:%M:%S %Y} GMT".encode()

    ways = []
    for answer in (None, answers[0], answers[1], None):
        ways.append((await lab.controller.push(*parts(answer))).how)
        said = await told()
        assert (date(answer) in said and b"Cert Status: good" in said) if answer else b"no response sent" in said
    assert ways == ["reload", "certificate", "certificate", "reload"]
    applied = await lab.controller.push(*parts(answers[1]), service("more", port=8001, pool=POOL))
    assert (applied.how, applied.problems) == ("reload", ()) and date(answers[1]) in await told()


async def test_who_may_issue_client_certificates_is_replaced_in_haproxys_store(lab: Lab, tmp_path: Path) -> None:
    asked = ClientCertificates(trust="t", revoked=True, required=True)
    ports = (Listener(port=443, port_end=443, tls=True),)
    secure = service(listeners=ports, certificates=("c",), pool=POOL, client_certificates=asked)
    one, other = Issuer("One"), Issuer("Other")
    alice, bob = one.issue("alice"), other.issue("bob")
    certificate = issued(lab, "one.test")

    async def served(shown: Issued) -> bool:
        context = ssl.create_default_context(cadata=lab.authority.ca_pem.decode())
        context.load_cert_chain(shown.write(tmp_path / "shown.pem"))
        try:
            connection = Connection(*await asyncio.open_connection(VIP, 443, ssl=context, server_hostname="one.test"))
            await connection.get()
        except (OSError, asyncio.IncompleteReadError):
            return False
        connection.writer.close()
        return True

    def parts(authorities: str, revoked: str) -> tuple[Part, ...]:
        return settings(), vip(), secure, certificate, Trust(id="t", name="t", authorities=authorities, revoked=revoked)

    assert (await lab.controller.push(*parts(one.pem, one.revoked()))).how == "reload"
    assert (await served(alice), await served(bob)) == (True, False)
    both = one.revoked(alice.parsed) + other.revoked()
    applied = await lab.controller.push(*parts(one.pem + other.pem, both))
    assert (applied.how, applied.problems) == ("certificate", ())
    assert (await served(alice), await served(bob)) == (False, True)


async def test_a_certificate_that_is_none_takes_down_only_its_own_service(lab: Lab) -> None:
    secure = service("tls", listeners=(Listener(port=443, port_end=443, tls=True),), certificates=("c",), pool=POOL)
    await lab.controller.push(settings(), vip(), ONE, secure, issued(lab, "one.test"))
    bad = Certificate(id="c", name="c", pem="nonsense\n")
    applied = await lab.controller.push(settings(), vip(), ONE, secure, bad)
    assert [problem.part for problem in applied.problems] == ["service/tls"]
    assert await lab.names() == {"a", "b"}
