"""The internal authority, and the channel between engine and controller over real TLS on the loopback."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from shoal.clouds.protocol import Identity
from shoal.controller.pki import Authority, self_signed_default
from shoal.errors import Invalid, NotReady
from shoal.wire import channel as wire
from shoal.wire import messages
from shoal.wire.channel import Channel, ChannelClosed, ProtocolError
from shoal.wire.messages import FRAME_BYTES_MAX, Fetch, FromController, FromEngine, Leaving, Rejected, Welcome
from shoal.wire.tls import engine_context

WELCOME = Welcome(wire_version=2, controller="c1")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("ca"))


def write_identity(directory: Path, identity: Identity) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "key.pem").write_bytes(identity.key_pem)
    (directory / "certificate.pem").write_bytes(identity.certificate_pem)
    (directory / "ca.pem").write_bytes(identity.ca_pem)
    return directory


@pytest.fixture
def engine(authority: Authority, tmp_path: Path) -> ssl.SSLContext:
    return engine_context(write_identity(tmp_path / "e1", authority.issue_engine("e1", "engine one")))


# --- the authority ---


def test_the_authority_stays_the_same_over_restarts_and_its_key_is_private(tmp_path: Path) -> None:
    first = Authority.open(tmp_path / "pki")
    assert Authority.open(tmp_path / "pki").ca_pem == first.ca_pem
    assert (tmp_path / "pki" / "ca-key.pem").stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in (tmp_path / "pki").iterdir()) == ["ca-key.pem", "ca.pem"]
    assert "PRIVATE" not in repr(first)


def test_a_first_start_cut_off_after_the_key_goes_on_with_that_key(tmp_path: Path) -> None:
    leaf = x509.load_pem_x509_certificate(Authority.open(tmp_path).issue_engine("e", "e").certificate_pem)
    (tmp_path / "ca.pem").unlink()
    again = x509.load_pem_x509_certificate(Authority.open(tmp_path).ca_pem)
    leaf.verify_directly_issued_by(again)


@pytest.mark.parametrize("name", ["ca-key.pem", "ca.pem"])
def test_a_damaged_authority_is_refused_naming_the_place(tmp_path: Path, name: str) -> None:
    Authority.open(tmp_path)
    (tmp_path / name).write_bytes(b"rubbish")
    with pytest.raises(NotReady, match=str(tmp_path)):
        Authority.open(tmp_path)


def test_a_key_of_another_authority_is_refused(tmp_path: Path) -> None:
    Authority.open(tmp_path / "a")
    Authority.open(tmp_path / "b")
    (tmp_path / "a" / "ca-key.pem").write_bytes((tmp_path / "b" / "ca-key.pem").read_bytes())
    with pytest.raises(NotReady, match="not the key"):
        Authority.open(tmp_path / "a")


def test_a_lost_key_is_never_replaced_in_silence(tmp_path: Path) -> None:
    Authority.open(tmp_path)
    (tmp_path / "ca-key.pem").unlink()
    with pytest.raises(NotReady, match=r"ca-key\.pem"):
        Authority.open(tmp_path)


def test_an_engine_certificate_says_which_engine_for_both_directions(authority: Authority) -> None:
    identity = authority.issue_engine("e7", "x" * 100)
    certificate = x509.load_pem_x509_certificate(identity.certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["shoal://engine/e7"]
    assert set(usages) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=364) < left <= timedelta(days=365)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(identity.ca_pem))


def test_names_no_certificate_can_carry_are_refused(authority: Authority) -> None:
    with pytest.raises(Invalid, match="IP address"):
        authority.issue_server([], ["localhost"])
    with pytest.raises(Invalid, match="host name"):
        authority.issue_server(["kö.example"], [])


def test_the_default_certificate_is_signed_by_itself() -> None:
    _, pem = self_signed_default("System-Default-Cert")
    certificate = x509.load_pem_x509_certificate(pem)
    certificate.verify_directly_issued_by(certificate)


def test_api_files_are_kept_while_they_fit_and_made_anew_when_not(authority: Authority, tmp_path: Path) -> None:
    def files(names: list[str], addresses: list[str]) -> tuple[bytes, bytes]:
        certificate, key = authority.api_server_files(tmp_path, names, addresses)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        assert key.stat().st_mode & 0o777 == 0o600
        return certificate.read_bytes(), key.read_bytes()

    first = files(["localhost"], ["127.0.0.1", "::1"])
    assert files(["localhost"], ["127.0.0.1", "::1"]) == first
    other = files(["localhost", "c1.example"], ["127.0.0.1"])
    assert other != first
    (tmp_path / "api.pem").write_bytes(b"cut o")
    assert files(["localhost", "c1.example"], ["127.0.0.1"]) != other
    moved = Authority.open(tmp_path / "another")
    certificate, _ = moved.api_server_files(tmp_path, ["localhost", "c1.example"], ["127.0.0.1"])
    x509.load_pem_x509_certificate(certificate.read_bytes()).verify_directly_issued_by(
        x509.load_pem_x509_certificate(moved.ca_pem)
    )


async def test_an_ordinary_https_client_accepts_the_api_certificate(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.api_server_files(tmp_path, ["localhost"], ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    served: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: served.append(writer), "127.0.0.1", 0, ssl=context)
    client = ssl.create_default_context(cadata=authority.ca_pem.decode())
    for name in ("localhost", "127.0.0.1"):
        _, writer = await asyncio.open_connection(
            "127.0.0.1", server.sockets[0].getsockname()[1], ssl=client, server_hostname=name
        )
        writer.transport.abort()
    server.close()
    for writer in served:
        writer.transport.abort()


def test_an_engine_without_a_usable_identity_is_told_where(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=str(tmp_path)):
        engine_context(tmp_path)
    directory = write_identity(tmp_path / "mixed", authority.issue_engine("a", "a"))
    (directory / "key.pem").write_bytes(authority.issue_engine("b", "b").key_pem)
    with pytest.raises(NotReady, match="mixed"):
        engine_context(directory)


# --- the channel ---

Serve = Callable[[wire.Handler], Awaitable[int]]


@pytest.fixture
async def serve(authority: Authority) -> AsyncIterator[Serve]:
    listeners: list[wire.Listener] = []

    async def start(handler: wire.Handler) -> int:
        listener = await wire.serve("127.0.0.1", 0, authority.wire_server_context(), handler)
        listeners.append(listener)
        return listener.port

    yield start
    for listener in listeners:
        await listener.close()


async def answer(channel: Channel[FromEngine]) -> None:
    """Tells who the peer is, then how many ids each Fetch names."""
    await channel.send(Welcome(wire_version=1, controller=channel.identity))
    while True:
        message = await channel.receive()
        assert isinstance(message, Fetch)
        await channel.send(Rejected(str(len(message.ids))))


async def test_messages_go_both_ways_and_both_sides_know_who_is_there(serve: Serve, engine: ssl.SSLContext) -> None:
    channel = await wire.connect("127.0.0.1", await serve(answer), engine)
    assert channel.identity == "shoal://controller"
    assert await channel.receive() == Welcome(wire_version=1, controller="shoal://engine/e1")
    for count in (0, 1, 100_000):
        await channel.send(Fetch(tuple("x" * 20 for _ in range(count))))
        assert await channel.receive() == Rejected(str(count))
    await channel.close()
    with pytest.raises(ChannelClosed, match="closed here"):
        await channel.send(Fetch(()))


async def test_a_client_without_a_certificate_is_refused(serve: Serve, authority: Authority) -> None:
    reached: list[str] = []

    async def note(channel: Channel[FromEngine]) -> None:
        reached.append(channel.identity)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=authority.ca_pem.decode())
    channel = await wire.connect("127.0.0.1", await serve(note), context)
    with pytest.raises(ChannelClosed, match="refused our certificate"):
        await channel.receive()
    assert reached == []
    await channel.close()


async def test_an_engine_of_another_authority_is_refused(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    reached: list[str] = []

    async def note(channel: Channel[FromEngine]) -> None:
        reached.append(channel.identity)

    stranger = Authority.open(tmp_path / "other-ca").issue_engine("e1", "e1")
    identity = Identity(key_pem=stranger.key_pem, certificate_pem=stranger.certificate_pem, ca_pem=authority.ca_pem)
    context = engine_context(write_identity(tmp_path / "stranger", identity))
    channel = await wire.connect("127.0.0.1", await serve(note), context)
    with pytest.raises(ChannelClosed, match="refused our certificate"):
        await channel.receive()
    assert reached == []
    await channel.close()


async def test_an_engine_refuses_a_controller_of_another_authority(serve: Serve, tmp_path: Path) -> None:
    stranger = Authority.open(tmp_path / "other-ca").issue_engine("e1", "e1")
    context = engine_context(write_identity(tmp_path / "stranger", stranger))
    with pytest.raises(ChannelClosed, match="not of this Shoal's authority"):
        await wire.connect("127.0.0.1", await serve(answer), context)


async def test_an_engine_refuses_another_engine_that_plays_controller(
    authority: Authority, engine: ssl.SSLContext, tmp_path: Path
) -> None:
    directory = write_identity(tmp_path / "e2", authority.issue_engine("e2", "e2"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
    context.load_verify_locations(directory / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    listener = await wire.serve("127.0.0.1", 0, context, answer)
    with pytest.raises(ChannelClosed, match="shoal://engine/e2"):
        await wire.connect("127.0.0.1", listener.port, engine)
    await listener.close()


async def test_tls_1_2_is_refused(serve: Serve, engine: ssl.SSLContext) -> None:
    engine.minimum_version = ssl.TLSVersion.TLSv1_2
    engine.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ChannelClosed, match=r"can't be reached \("):
        await wire.connect("127.0.0.1", await serve(answer), engine)


async def test_nobody_there_is_said_with_the_address(engine: ssl.SSLContext) -> None:
    with pytest.raises(ChannelClosed, match=r"127\.0\.0\.1:1 can't be reached"):
        await wire.connect("127.0.0.1", 1, engine)


async def test_a_peer_that_never_speaks_tls_is_given_up(engine: ssl.SSLContext) -> None:
    silent: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: silent.append(writer), "127.0.0.1", 0)
    with pytest.raises(ChannelClosed, match="did not answer within"):
        await wire.connect("127.0.0.1", server.sockets[0].getsockname()[1], engine, timeout_s=0.1)
    server.close()
    for writer in silent:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("sent", "error", "message"),
    [
        (b"", ChannelClosed, "the peer closed it"),
        (b"\x00\x00", ChannelClosed, "middle of a message"),
        (struct.pack(">I", 100) + b"half", ChannelClosed, "middle of a message"),
        (struct.pack(">I", FRAME_BYTES_MAX + 1), ProtocolError, f"FRAME_BYTES_MAX .{FRAME_BYTES_MAX}"),
        (b"GET / HTTP/1.1\r\n\r\n", ProtocolError, "FRAME_BYTES_MAX"),
        (struct.pack(">I", 0), ProtocolError, "can't be understood"),
        (struct.pack(">I", 4) + b"\xc1\xc1\xc1\xc1", ProtocolError, "can't be understood"),
        (struct.pack(">I", 1) + b"\x80", ProtocolError, "can't be understood"),
    ],
)
async def test_what_is_no_message_gives_a_clean_error_and_ends_the_channel(
    serve: Serve, engine: ssl.SSLContext, sent: bytes, error: type[Exception], message: str
) -> None:
    ended: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def listen(channel: Channel[FromEngine]) -> None:
        try:
            await channel.receive()
        except (ChannelClosed, ProtocolError) as refused:
            with pytest.raises(ChannelClosed):
                await channel.receive()
            ended.set_result(refused)

    _, writer = await asyncio.open_connection("127.0.0.1", await serve(listen), ssl=engine, server_hostname="")
    writer.write(sent)
    await writer.drain()
    writer.close()
    async with asyncio.timeout(5):
        refused = await ended
    assert type(refused) is error
    with pytest.raises(error, match=message):
        raise refused
    writer.transport.abort()


async def test_a_cancelled_receive_loses_nothing(serve: Serve, engine: ssl.SSLContext) -> None:
    """Cancelled between the length and the body, the next receive takes up where that one was."""
    body = b"\x82\xa4type\xa7leaving\xa3why\xa1x"
    cancelled = asyncio.Event()
    received: asyncio.Future[FromEngine] = asyncio.get_running_loop().create_future()

    async def listen(channel: Channel[FromEngine]) -> None:
        first = asyncio.create_task(channel.receive())
        while channel._length is None:
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        cancelled.set()
        received.set_result(await channel.receive())

    _, writer = await asyncio.open_connection("127.0.0.1", await serve(listen), ssl=engine, server_hostname="")
    async with asyncio.timeout(5):
        writer.write(struct.pack(">I", len(body)) + body[:3])
        await cancelled.wait()
        writer.write(body[3:])
        assert await received == Leaving("x")
    writer.transport.abort()


async def test_a_message_over_the_frame_bound_is_not_sent(
    serve: Serve, engine: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = await wire.connect("127.0.0.1", await serve(answer), engine)
    await channel.receive()
    monkeypatch.setattr(wire, "FRAME_BYTES_MAX", 1000)
    with pytest.raises(ProtocolError, match=r"Fetch message of \d+ bytes is over FRAME_BYTES_MAX"):
        await channel.send(Fetch(("x" * 1000,)))
    await channel.send(Fetch(("a",)))
    assert await channel.receive() == Rejected("1")
    await channel.close()


async def test_a_sender_waits_for_a_slow_peer_and_gives_up_on_a_dead_one(
    serve: Serve, engine: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "SEND_TIMEOUT_S", 0.3)
    handled = asyncio.Event()
    unsent_max = 0

    async def flood(channel: Channel[FromEngine]) -> None:
        nonlocal unsent_max
        message = Rejected("x" * 100_000)
        try:
            with pytest.raises(ChannelClosed, match="took nothing for"):
                while True:
                    await channel.send(message)
                    unsent_max = max(unsent_max, channel._writer.transport.get_write_buffer_size())
        finally:
            handled.set()

    reader, writer = await asyncio.open_connection(
        "127.0.0.1", await serve(flood), ssl=engine, server_hostname="", limit=1024
    )
    async with asyncio.timeout(20):
        await handled.wait()
    assert unsent_max <= wire.UNSENT_BYTES_MAX + 110_000
    assert not reader.at_eof()
    writer.transport.abort()


async def test_concurrent_senders_do_not_mix_their_messages(serve: Serve, engine: ssl.SSLContext) -> None:
    channel = await wire.connect("127.0.0.1", await serve(answer), engine)
    await channel.receive()
    async with asyncio.TaskGroup() as tasks:
        for count in range(50):
            tasks.create_task(channel.send(Fetch(tuple("y" * 500 for _ in range(count)))))
        answers = [await channel.receive() for _ in range(50)]
    assert sorted(int(a.why) for a in answers if isinstance(a, Rejected)) == list(range(50))
    await channel.close()


async def test_closing_the_listener_ends_its_handlers_and_tells_the_peers(
    authority: Authority, engine: ssl.SSLContext
) -> None:
    cancelled: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def wait(channel: Channel[FromEngine]) -> None:
        await channel.send(WELCOME)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set_result(True)
            raise

    listener = await wire.serve("127.0.0.1", 0, authority.wire_server_context(), wait)
    channel: Channel[FromController] = await wire.connect("127.0.0.1", listener.port, engine)
    await channel.receive()
    await listener.close()
    assert cancelled.done()
    with pytest.raises(ChannelClosed):
        await channel.receive()
    await channel.close()


async def test_connections_past_the_bound_are_closed(authority: Authority, engine: ssl.SSLContext) -> None:
    listener = await wire.serve("127.0.0.1", 0, authority.wire_server_context(), answer, connections_max=1)
    first = await wire.connect("127.0.0.1", listener.port, engine)
    await first.receive()
    second = await wire.connect("127.0.0.1", listener.port, engine)
    with pytest.raises(ChannelClosed):
        await second.receive()
    await first.send(Fetch(()))
    assert await first.receive() == Rejected("0")
    for channel in (first, second):
        await channel.close()
    await listener.close()


async def test_a_taken_port_is_said_so(authority: Authority) -> None:
    context = authority.wire_server_context()
    listener = await wire.serve("127.0.0.1", 0, context, answer)
    with pytest.raises(NotReady, match=f":{listener.port}"):
        await wire.serve("127.0.0.1", listener.port, context, answer)
    await listener.close()


def test_the_wire_version_is_what_the_messages_say() -> None:
    assert WELCOME.wire_version == messages.WIRE_VERSION
