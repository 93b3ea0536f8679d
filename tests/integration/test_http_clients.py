"""Well-kept clients of WebSocket, HTTP/2 and gRPC, through a real HAProxy to real servers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import httpx
import msgspec
import pytest
import websockets
from cryptography import x509

from shoal.wire.desired import Listener, Pool, Server, Service, Tls
from tests.api_world import key_pair

from .test_http import BACKEND, PORT, alone, of_documents, running

__all__ = ["alone"]
pytestmark = [pytest.mark.root, pytest.mark.beside]

SECURE = 8443
LISTENERS = (
    Listener(port=PORT, port_end=PORT, http2=True),
    Listener(port=SECURE, port_end=SECURE, tls=True, http2=True),
)
STREAMS = 60
BODY = 300_000
WITHIN_S = 20.0


def service(*ports: int, http2: bool = False) -> Service:
    servers = tuple(Server(name=f"s{port}", address="127.0.0.1", port=port) for port in ports)
    pool = Pool(id="p", name="p", servers=servers, http2=http2)
    one = of_documents({})
    return msgspec.structs.replace(one, listeners=LISTENERS, certificates=("c",), tls=Tls(), pool=pool)


@contextlib.asynccontextmanager
async def serving(folder: Path, one: Service) -> AsyncIterator[ssl.SSLContext]:
    """HAProxy, and what a client that trusts its certificate has."""
    key, certificate = key_pair("localhost")
    kept = folder / "certificates"
    kept.mkdir()
    (kept / "c.pem").write_text(f"{certificate}\n{key}")
    context = ssl.create_default_context(cadata=certificate)
    context.check_hostname = False
    async with running(folder, one, _counting):
        yield context


async def _counting(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An HTTP/1.1 server that says how much it was sent; ``/endless`` has no end."""
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                (int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:")), 0
            )
            await reader.readexactly(length)
            body = str(length).encode()
            told = next((line for line in head.split("\r\n") if line.lower().startswith("x-forwarded-for:")), "X: y")
            lines = ("HTTP/1.1 200 OK", f"X-Server: {name}", told, f"Content-Length: {len(body)}", "", "")
            writer.write("\r\n".join(lines).encode() + body)
            if " /endless " in head:
                writer.write(b"a" * 10)
    writer.close()


async def test_websockets_carry_messages_pings_and_their_end(tmp_path: Path) -> None:
    async def echo(connection: websockets.ServerConnection) -> None:
        async for message in connection:
            if message == "end":
                await connection.close(4001, "as asked")
            await connection.send(message)

    async with (
        websockets.serve(echo, "127.0.0.1", BACKEND + 9, max_size=None),
        serving(tmp_path, service(BACKEND + 9)) as trusted,
    ):
        for url, context in ((f"ws://127.0.0.1:{PORT}/chat", None), (f"wss://127.0.0.1:{SECURE}/chat", trusted)):
            async with websockets.connect(url, ssl=context, proxy=None, max_size=None) as client:
                for message in ("grüße", b"\x00\xff" * BODY):
                    await client.send(message)
                    assert await client.recv() == message
                await asyncio.wait_for(await client.ping(), WITHIN_S)
                await client.send("end")
                with pytest.raises(websockets.ConnectionClosed):
                    await client.recv()
                assert (client.close_code, client.close_reason) == (4001, "as asked")


async def test_http2_carries_many_streams_on_one_connection(tmp_path: Path) -> None:
    async with serving(tmp_path, service(BACKEND)) as trusted:
        async with httpx.AsyncClient(http2=True, verify=trusted, trust_env=False) as client:
            url = f"https://127.0.0.1:{SECURE}/"
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(client.post(url, content=b"a" * n * 1_000)) for n in range(STREAMS)]
            answers = [task.result() for task in tasks]
            assert {answer.http_version for answer in answers} == {"HTTP/2"}
            assert [int(answer.text) for answer in answers] == [n * 1_000 for n in range(STREAMS)]
            big = await client.get(url, headers={"X-Big": "b" * 8_000})
            assert big.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):  # HAProxy 2.6 ends the connection
                await client.get(url, headers={"X-Big": "b" * 60_000})
            assert (await client.get(url)).http_version == "HTTP/2"
        async with httpx.AsyncClient(verify=trusted, trust_env=False) as old:
            assert (await old.get(url)).http_version == "HTTP/1.1"


async def test_a_stream_that_is_reset_leaves_the_others_alone(tmp_path: Path) -> None:
    async with serving(tmp_path, service(BACKEND)) as trusted:
        trusted.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection("127.0.0.1", SECURE, ssl=trusted)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        client = h2.connection.H2Connection(
            h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        client.initiate_connection()
        head = [(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/")]
        client.send_headers(1, [*head, ("content-length", "9")])
        client.send_headers(3, [*head, ("content-length", "4")])
        client.reset_stream(1)
        client.send_data(3, b"body", end_stream=True)
        client.ping(b"12345678")
        client.send_headers(5, [*head, ("transfer-encoding", "chunked")], end_stream=True)  # RFC 9113, 8.2.2
        statuses: dict[int, bytes] = {}
        ended, acknowledged, malformed = set[int](), False, False
        async with asyncio.timeout(WITHIN_S):
            while not (3 in ended and acknowledged and malformed):
                writer.write(client.data_to_send())
                for event in client.receive_data(await reader.read(65_536)):
                    assert not isinstance(event, h2.events.ConnectionTerminated)
                    if isinstance(event, h2.events.ResponseReceived):
                        statuses[event.stream_id] = dict(event.headers)[b":status"]
                    acknowledged = acknowledged or isinstance(event, h2.events.PingAckReceived)
                    reset = isinstance(event, h2.events.StreamReset) and event.stream_id == 5
                    malformed = malformed or reset or statuses.get(5, b"")[:1] == b"4"
                    if isinstance(event, h2.events.StreamEnded):
                        ended.add(event.stream_id)
        writer.close()
        assert statuses[3] == b"200" and 1 not in statuses


def host(id: str, port: int, *names: str) -> Service:
    return msgspec.structs.replace(
        service(port), id=id, certificates=(id,), parent="one", hosts=names, listeners=LISTENERS[1:]
    )


async def test_virtual_hosts_are_told_apart_by_the_name_clients_tell(tmp_path: Path) -> None:
    children = (host("shop", BACKEND + 1, "shop.test"), host("all", BACKEND + 2, "*.test", "*.b.shop.test"))
    pairs = {id: key_pair(name) for id, name in (("c", "parent.test"), ("shop", "shop.test"), ("all", "all.test"))}
    (tmp_path / "certificates").mkdir()
    for id, (key, certificate) in pairs.items():
        (tmp_path / f"certificates/{id}.pem").write_text(f"{certificate}\n{key}")
    parent = msgspec.structs.replace(service(BACKEND), certificates=("c",))

    async def asked(name: str | None) -> tuple[str, str, str]:
        """(whose certificate, which server, the client as the server was told)"""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", SECURE, ssl=context, server_hostname=name or "")
        shown = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(True))
        writer.write(f"GET / HTTP/1.1\r\nHost: {name or 'other.test'}\r\nConnection: close\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        told = dict(line.partition(": ")[::2] for line in answer.split("\r\n") if ": " in line)
        return shown.subject.rfc4514_string(), told["x-server"], told["x-forwarded-for"]

    async with running(tmp_path, parent, _counting, children):
        client = "127.0.0.1"
        assert await asked("shop.test") == ("CN=shop.test", "s1", client)
        assert await asked("SHOP.test") == ("CN=shop.test", "s1", client)
        assert await asked("x.test") == ("CN=all.test", "s2", client)
        assert await asked("a.b.shop.test") == ("CN=all.test", "s2", client)
        for name in ("test", "shop.test.org", None):
            assert await asked(name) == ("CN=parent.test", "s0", client), name
        async with httpx.AsyncClient(trust_env=False) as plain:
            assert (await plain.get(f"http://127.0.0.1:{PORT}/")).headers["x-server"] == "s0"


GRPC = """
import grpc, sys
from concurrent.futures import ThreadPoolExecutor

backend, clear, secure, certificate = int(sys.argv[1]), sys.argv[2], sys.argv[3], open(sys.argv[4], "rb").read()

def unary(request, context):
    if request == b"fail":
        context.set_trailing_metadata((("why", "asked"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no")
    return request.upper()

def count(request, context):
    yield from (str(n).encode() for n in range(int(request)))

def both(requests, context):
    for request in requests:
        yield request * 2

methods = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Both": grpc.stream_stream_rpc_method_handler(both),
}
server = grpc.server(ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", methods),))
assert server.add_insecure_port(f"127.0.0.1:{backend}")
server.start()
options = (("grpc.enable_http_proxy", 0), ("grpc.ssl_target_name_override", "localhost"))
trusted = grpc.ssl_channel_credentials(certificate)
for channel in (
    grpc.insecure_channel(clear, options=options),
    grpc.secure_channel(secure, trusted, options=options),
):
    with channel:
        ask = channel.unary_unary("/t.T/Unary")
        assert ask(b"hello", timeout=10) == b"HELLO"
        assert len(ask(b"x" * 1_000_000, timeout=10)) == 1_000_000
        try:
            ask(b"fail", timeout=10)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.FAILED_PRECONDITION and error.details() == "no", error
            assert ("why", "asked") in [tuple(pair) for pair in error.trailing_metadata()]
        else:
            raise AssertionError("the status got lost")
        assert len(list(channel.unary_stream("/t.T/Count")(b"500", timeout=10))) == 500
        both = channel.stream_stream("/t.T/Both")((b"%d" % n for n in range(50)), timeout=10)
        assert list(both) == [b"%d" % n * 2 for n in range(50)]
server.stop(None)
print("conforms")
"""


async def test_grpc_calls_streams_and_statuses_pass(tmp_path: Path) -> None:
    """HTTP/2 from end to end, trailers among it; in a process of its own: its threads belong to one network."""
    async with serving(tmp_path, service(BACKEND + 9, http2=True)):
        where = [str(BACKEND + 9), f"127.0.0.1:{PORT}", f"127.0.0.1:{SECURE}", str(tmp_path / "certificates/c.pem")]
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", GRPC, *where, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            async with asyncio.timeout(3 * WITHIN_S):
                out, err = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
        assert out.decode().strip() == "conforms", err.decode()[-2_000:]
