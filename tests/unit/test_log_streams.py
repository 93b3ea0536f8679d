"""Client logs reach the servers that an AnalyticsProfile names: UDP and TCP, as syslog or JSON; one that is away is told of."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.controller.client_logs import ClientLogStore
from shoal.controller.log_streams import CONFIG, NOT_SENT, LogStreams, Target, line, targets
from shoal.errors import Invalid
from shoal.wire import client_logs as wire

from ..api_world import HERE, StillClock, World, api_world

Document = dict[str, Any]
AT = 1_795_683_931.0


class Streaming:
    """One virtual service whose logs are streamed as ``config`` says."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = ClientLogStore(None, StillClock())
        self.told: list[tuple[str, str]] = []
        self.streams = LogStreams(
            world.view, lambda name, text, **more: self.told.append((name, text)), lambda: 0.0, HERE
        )
        self.store.on_written = self.streams.take
        self.uuid = ""

    async def configure(self, **config: Any) -> None:
        profile = await self.world.post("/api/analyticsprofile", {"name": "streamed", CONFIG: config})
        made = await self.world.service()
        self.uuid = made["uuid"]
        change = {"replace": {"analytics_profile_ref": f"/api/analyticsprofile/{profile['uuid']}"}}
        await self.world.call("PATCH", f"/api/virtualservice/{self.uuid}", 200, json=change)

    async def logged(self, *statuses: int, at: float = AT) -> None:
        lines = (
            f"h vs_x 10.1.1.1:80 10.9.9.9 41366 10.0.0.1 80 {at:.3f} {status} -- 0 0 0 1 2 41 107 0 461 GET /{n} HTTP/1.1\n"
            for n, status in enumerate(statuses)
        )
        logged = (wire.Logged(self.uuid, wire.FAILED if " 503 " in text else "", text.encode()) for text in lines)
        self.store.take("se-1", wire.ClientLogs(tuple(logged)))
        await self.store.flush()


@pytest.fixture
async def streaming(tmp_path: Path) -> AsyncIterator[Streaming]:
    async with api_world(tmp_path) as world:
        streaming = Streaming(world)
        task = asyncio.create_task(streaming.streams.run())
        yield streaming
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def datagrams() -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.bind(("127.0.0.1", 0))
    found.settimeout(5)
    return found


async def test_syslog_over_udp_with_the_fields_that_were_chosen(streaming: Streaming) -> None:
    with datagrams() as server:
        await streaming.configure(
            external_server=f"127.0.0.1:{server.getsockname()[1]}",
            protocol="LOG_STREAMING_PROTOCOL_SYSLOG_OVER_UDP",
            log_types_to_send="LOGS_SIGNIFICANT_ONLY",
            syslog_config={"facility": 3, "hostname": "edge 1\n<0>"},
            format_config={
                "format": "LOG_STREAMING_FORMAT_JSON_SELECTED",
                "included_fields": ["response_code", "uri_path"],
            },
        )
        await streaming.logged(200, 503)
        text = (await asyncio.to_thread(server.recv, 9_000)).decode()
        assert text == '<28>1 2026-11-26T09:05:31.000Z edge1<0> shoal - - - {"response_code":503,"uri_path":"/1"}'
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(9_000)


async def test_lines_over_tcp_no_more_than_so_many_a_second(streaming: Streaming) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        where = {"external_server": "127.0.0.1", "external_server_port": server.getsockname()[1]}
        await streaming.configure(**where, protocol="LOG_STREAMING_PROTOCOL_TCP", max_logs_per_second=2)
        await streaming.logged(200, 503, 404)
        connection, _ = await asyncio.to_thread(server.accept)
        with connection:
            whole = await asyncio.to_thread(lambda: b"".join(iter(lambda: connection.recv(9_000), b"")))
        assert [json.loads(one)["response_code"] for one in whole.splitlines()] == [200, 503]
        await streaming.logged(302, at=AT + 1)
        connection, _ = await asyncio.to_thread(server.accept)
        with connection:
            assert json.loads(await asyncio.to_thread(connection.recv, 9_000))["response_code"] == 302
    assert not streaming.told


async def test_a_server_that_is_away_is_told_of_once(streaming: Streaming) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    twice = f"127.0.0.1:{port}, 127.0.0.1:{port}"
    await streaming.configure(external_server=twice, protocol="LOG_STREAMING_PROTOCOL_SYSLOG_OVER_TCP")
    for n in range(3):
        await streaming.logged(503, at=AT + n)
        async with asyncio.timeout(5):
            while streaming.streams.busy:
                await asyncio.sleep(0.01)
    assert [name for name, _ in streaming.told] == [NOT_SENT] and f"127.0.0.1:{port}" in streaming.told[0][1]


@pytest.mark.parametrize("server", ["", "10.0.0.9,", "10.0.0.9:0", "10.0.0.9:70000", "a b", "logs:x"])
async def test_what_is_no_server_is_refused_when_it_is_written(streaming: Streaming, server: str) -> None:
    refused = await streaming.world.post(
        "/api/analyticsprofile", {"name": "p", CONFIG: {"external_server": server}}, 400
    )
    assert refused["problems"][0]["path"] == f"{CONFIG}.external_server"


def test_servers_by_name_address_and_port() -> None:
    text = "10.0.0.9, logs.example.org:1514,fd00::9,[fd00::9]:99"
    found = targets({"external_server": text, "protocol": "LOG_STREAMING_PROTOCOL_SYSLOG_OVER_TLS"})
    assert [(t.host, t.port) for t in found] == [
        ("10.0.0.9", 514), ("logs.example.org", 1514), ("fd00::9", 514), ("fd00::9", 99)
    ]  # fmt: skip
    assert found[0] == Target("10.0.0.9", 514, "TLS", True)
    with pytest.raises(Invalid, match="9 servers"):
        targets({"external_server": ",".join(["10.0.0.9"] * 9)})


def test_nothing_of_a_request_makes_another_line() -> None:
    entry = {"report_timestamp": AT, "significant": True, "uri_path": "/\n<0>1 x", "user_agent": "a\r\nb"}
    for protocol in ("LOG_STREAMING_PROTOCOL_TCP", "LOG_STREAMING_PROTOCOL_SYSLOG_OVER_TCP"):
        assert b"\n" not in line(entry, {"protocol": protocol, "syslog_config": {"hostname": "a\nb"}})
