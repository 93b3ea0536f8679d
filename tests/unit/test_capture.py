"""Capture apart from the kernel: the wish, the order of time, the agent's child, the command's words."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from shoal.controller.capture import file
from shoal.controller.capture.merge import STALL_S, Feed, Merge
from shoal.controller.capture.wish import BYTES_DEFAULT, BYTES_MAX, PACKETS_MAX, SECONDS_MAX, Wish, wish
from shoal.engine.capture import captures
from shoal.engine.capture.captures import Captures
from shoal.engine.capture.child import frame
from shoal.errors import Invalid
from shoal.objects import load
from shoal.shell.capture import Blocks, filters
from shoal.wire.capture import Captured, CaptureMore, CaptureStart, CaptureStop, Endpoint, Selection
from tests.api_world import World, api_world
from tests.integration import pcapng

KIND = load().objects["DebugVirtualService"]


def wished(body: dict[str, Any], **query: str) -> Wish:
    return wish(KIND.validate({"name": "v", **body}), query)


# --- the wish ---


def test_nothing_said_is_all_packets_for_an_hour() -> None:
    found = wished({})
    assert (found.side, found.seconds, found.packets, found.bytes) == ("both", SECONDS_MAX, PACKETS_MAX, BYTES_DEFAULT)
    assert (found.snap, found.pcapng, found.engines) == (128, True, ())
    assert found.filters == Selection(endpoints=())


def test_every_member_that_acts() -> None:
    v4 = {"addr": "10.0.0.9", "type": "V4"}
    body = {
        "capture_params": {
            "duration": 2,
            "num_pkts": 5,
            "pkt_size": 0,
            "pcap_ng": False,
            "capture_file_size": {"absolute_size": 500_000},
        },
        "debug_ip": {
            "addrs": [v4],
            "prefixes": [{"ip_addr": {"addr": "10.1.2.3", "type": "V4"}, "mask": 16}],
            "ranges": [{"begin": {"addr": "10.2.0.0", "type": "V4"}, "end": {"addr": "10.2.0.2", "type": "V4"}}],
        },
        "capture_filters": {
            "capture_ip": {"addrs": [v4], "match_operation": "IS_NOT_IN"},
            "src_port": 7,
            "dst_port_start": 80,
            "dst_port_end": 90,
            "tcp_syn": True,
            "tcp_fin": True,
        },
        "se_params": {"se_refs": ["/api/serviceengine?name=se-a"]},
    }
    found = wished(body)
    assert (found.seconds, found.packets, found.snap, found.pcapng, found.bytes) == (120, 5, 0, False, BYTES_MAX)
    assert found.filters == Selection(
        endpoints=(),
        hosts=("10.0.0.9/32", "10.1.0.0/16", "10.2.0.0/31", "10.2.0.2/32"),
        but_hosts=("10.0.0.9/32",),
        source_ports=(7, 7),
        destination_ports=(80, 90),
        flags=0x03,
    )
    assert found.engines == ("/api/serviceengine?name=se-a",)


def test_the_two_sides() -> None:
    client, server = (Endpoint("10.0.0.1", 80, 80),), (Endpoint("10.0.1.1", 80, 80), Endpoint("10.0.0.1", 80, 80))
    assert wished({}).selection(client, server).endpoints == (client[0], server[0])
    assert wished({}, side="server", seconds="1.5").selection(client, server).endpoints == server


@pytest.mark.parametrize(
    ("body", "query", "words"),
    [
        ({}, {"side": "inside"}, "side: inside is not allowed: must be one of both, client, server."),
        ({}, {"seconds": "nan"}, "seconds: nan is not allowed: must be a number of seconds."),
        ({}, {"seconds": "-1"}, "must be a number of seconds"),
        ({"debug_ip": {"addrs": [{"addr": "pool.example", "type": "DNS"}]}}, {}, "debug_ip: "),
        ({"capture_filters": {"src_port": 9, "src_port_range_end": 5}}, {}, "9-5 is not allowed: is no range of ports"),
        ({"capture_filters": {"dst_port_end": 70000}}, {}, "is no range of ports"),
        (
            {"debug_ip": {"addrs": [{"addr": f"10.0.0.{n}", "type": "V4"} for n in range(17)]}},
            {},
            "come to 17 prefixes; at most 16 are taken",
        ),
    ],
)
def test_what_is_refused(body: dict[str, Any], query: dict[str, str], words: str) -> None:
    with pytest.raises(Invalid) as refused:
        wished(body, **query)
    assert words in str(refused.value)


# --- the order of time ---


def block(at: int, interface: int = 0, size: int = 6) -> bytes:
    """As an engine's child makes them."""
    length = 28 + size + -size % 4 + 16
    head = file.PACKET_HEAD.pack(file.PACKET, length, interface, at >> 32, at & 0xFFFFFFFF, size, 99)
    return head + bytes(size + -size % 4 + 12) + length.to_bytes(4, "little")


def merge(*engines: str) -> Merge:
    made = Merge()
    for number, engine in enumerate(engines):
        made.feeds[engine] = Feed(name=engine, interface=number, heard_at=0.0)
    return made


def told(made: Merge, engine: str, until: int, *times: int, now: float = 0.0) -> None:
    feed = made.feeds[engine]
    feed.heard_at, feed.until_ns = now, until
    made.add(feed, b"".join(block(at, feed.interface) for at in times))


def times(found: list[file.Packet]) -> list[int]:
    return [packet.at_ns for packet in found]


def test_a_packet_goes_when_no_engine_can_have_an_older_one() -> None:
    made = merge("a", "b")
    told(made, "a", 50, 10, 30, 40)
    assert times(made.ready(0.0)) == []
    told(made, "b", 30, 20, 35)
    assert times(made.ready(0.0)) == [10, 20, 30]
    made.feeds["b"].ended = "2 packets"
    assert times(made.ready(0.0)) == [35, 40]


def test_a_silent_engine_holds_the_others_up_for_a_while_and_then_comes_late() -> None:
    made = merge("a", "b")
    told(made, "a", 50, 10, now=STALL_S)
    assert times(made.ready(STALL_S - 0.1)) == []
    assert times(made.ready(STALL_S)) == [10]
    told(made, "b", 50, 5, 60, now=STALL_S)
    assert times(made.ready(STALL_S)) == [5] and made.feeds["b"].late == 1
    assert times(made.ready(STALL_S, rest=True)) == [60]


@pytest.mark.parametrize(
    "garbage",
    [
        b"short",
        block(1)[:-4],
        block(1, interface=1),
        b"\x05" + block(1)[1:],
        file.PACKET_HEAD.pack(file.PACKET, 48, 0, 0, 1, 47, 47) + bytes(20),
        file.PACKET_HEAD.pack(file.PACKET, 0, 0, 0, 1, 0, 0) + bytes(20),
    ],
)
def test_garbage_of_an_engine_is_found(garbage: bytes) -> None:
    made = merge("a", "b")
    with pytest.raises(file.Malformed):
        made.add(made.feeds["a"], garbage)


def test_the_file_is_whole_and_in_pcap_the_packet_is_the_same() -> None:
    data = file.section() + file.interface("se-a", "10.0.0.1 on host h", 128)
    data += file.statistics(0, 7, 5, 2, "ended: 5 packets")
    found = pcapng.read(data)
    assert found.engines == ["se-a"]
    assert found.statistics["se-a"] == pcapng.Statistics(5, 2, "ended: 5 packets")
    blocks = Blocks()
    out = b"".join(blocks.feed(data[at : at + 7]) for at in range(0, len(data), 7))
    assert out == data and blocks.engines[0].dropped == 2 and blocks.engines[0].ended == "5 packets"
    (packet,) = file.packets(block(3_000_000_005), 0, 0)
    record = file.pcap_record(packet)
    assert [int.from_bytes(record[at : at + 4], "little") for at in (0, 4, 8, 12)] == [3, 5, 6, 99]
    assert len(record) == 16 + 6


# --- the agent's side ---

START = CaptureStart(
    id="c", interface=0, selection=Selection(endpoints=()), snap=0, packets=1, bytes=1, seconds=1, chunks=3
)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Link:
    def __init__(self) -> None:
        self.sent: list[Captured] = []

    async def send(self, message: Captured) -> None:
        self.sent.append(message)


async def until(check: Any, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.01)


CHILD = """
import os, sys
from pathlib import Path
from shoal.engine.capture.child import frame
from shoal.wire.capture import Captured
Path(sys.argv[1]).write_text(str(os.getpid()))
while True:
    sys.stdout.buffer.write(frame(Captured(id="c", data=bytes(60000))))
"""


def endless(tmp_path: Path) -> tuple[Captures, Path]:
    """A child that never stops of itself and never looks at its input."""
    return Captures("lo", (sys.executable, "-c", CHILD, str(tmp_path / "pid"))), tmp_path / "pid"


async def test_no_more_is_sent_than_was_granted_and_nothing_runs_on(tmp_path: Path) -> None:
    made, pid, link = *endless(tmp_path), Link()
    made.take(START, link.send)
    await until(lambda: len(link.sent) == 3)
    await asyncio.sleep(0.1)
    assert len(link.sent) == 3
    made.take(CaptureMore("c", 2), link.send)
    await until(lambda: len(link.sent) == 5)
    child = int(pid.read_text())
    assert alive(child)
    await made.end()
    assert not alive(child)


async def test_a_child_that_does_not_stop_is_killed_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captures, "END_WITHIN_S", 0.1)
    made, pid, link = *endless(tmp_path), Link()
    made.take(START, link.send)
    await until(lambda: len(link.sent) == 3)
    made.take(CaptureStop("c"), link.send)
    await until(lambda: link.sent[-1].ended)
    assert link.sent[-1].ended.startswith("failed: ") and not alive(int(pid.read_text()))


async def test_an_engine_runs_so_many_captures_and_says_so(tmp_path: Path) -> None:
    made, link = Captures("lo", (sys.executable, "-c", "import time; time.sleep(60)")), Link()
    for number in range(captures.CAPTURES_AT_ONCE_MAX + 1):
        made.take(
            CaptureStart(**{**{f: getattr(START, f) for f in START.__struct_fields__}, "id": str(number)}), link.send
        )
    await until(lambda: link.sent)
    assert link.sent[0].ended == "refused: 4 captures run on this engine"
    await made.end()


def test_frames_are_length_then_message() -> None:
    data = frame(Captured(id="c"))
    assert int.from_bytes(data[:4], "big") == len(data) - 4


# --- the command's words ---


def test_the_words_of_a_filter() -> None:
    assert filters("") == {}
    assert filters("host 10.0.0.1 and net fd00::/8 and src port 5 and dst port 80-90 and syn") == {
        "debug_ip": {
            "addrs": [{"addr": "10.0.0.1", "type": "V4"}],
            "prefixes": [{"ip_addr": {"addr": "fd00::", "type": "V6"}, "mask": 8}],
        },
        "capture_filters": {
            "src_port": 5,
            "src_port_range_end": 5,
            "dst_port_start": 80,
            "dst_port_end": 90,
            "tcp_syn": True,
        },
    }


@pytest.mark.parametrize(
    "text", ["tcp", "host", "host web", "net 10.0.0.1/40", "port 80", "src port 9-5", "dst port x"]
)
def test_words_that_are_not_understood(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        filters(text)
    assert "--filter: " in str(refused.value) and "Known: host ADDRESS" in str(refused.value)


# --- the API ---


async def test_the_answer_is_the_file_and_the_trail_names_who_asked(tmp_path: Path) -> None:
    async with api_world(tmp_path) as world:
        path = f"/api/virtualservice/{(await world.service())['uuid']}/capture"
        reply = await world.client.post(f"{path}?seconds=3&side=client", json={"capture_params": {"num_pkts": 7}})
        assert (reply.status_code, reply.content) == (200, b"headpacket")
        assert reply.headers["content-type"] == "application/x-pcapng"
        (asked,) = world.runtime.wishes
        assert (asked.seconds, asked.side, asked.packets) == (3, "client", 7)
        found = await world.get("/api/analytics/logs", type=2, filter="eq(event_id,config_action)")
        (event,) = found["results"]
        assert event["event_description"] == (
            "admin from 127.0.0.1 captured packets of VirtualService web: client side, at most 3 s, 7 packets, "
            "100000000 bytes."
        )


async def test_without_a_body_the_stored_object_of_its_name_counts(tmp_path: Path) -> None:
    async with api_world(tmp_path) as world:
        path = f"/api/virtualservice/{(await world.service())['uuid']}/capture"
        body = {"name": "web", "capture": True, "capture_params": {"pcap_ng": False, "num_pkts": 9}}
        made = await world.client.post("/api/debugvirtualservice", json=body)
        assert made.headers["x-shoal-warning"] == (
            "Stored, with no effect yet: capture. POST virtualservice/<uuid>/capture runs it."
        )
        reply = await world.client.post(path)
        assert reply.headers["content-type"] == "application/vnd.tcpdump.pcap"
        assert world.runtime.wishes[0].packets == 9


async def test_what_is_not_captured_and_what_has_no_effect(tmp_path: Path) -> None:
    async with api_world(tmp_path) as world:
        path = f"/api/virtualservice/{(await world.service())['uuid']}/capture"
        await world.call("GET", path, 405)
        await world.call("POST", "/api/virtualservice/nowhere/capture", 404)
        await world.call("POST", f"{path}?side=x", 400)
        await world.call("POST", path, 400, json={"capture_params": {"pkt_size": 9}})
        await world.post("/api/tenant", {"name": "other"})
        await world.call("POST", path, 404, headers={"X-Avi-Tenant": "other"})
        stranger = world.stranger()
        assert (await stranger.post(path)).status_code == 401
        await stranger.aclose()
        assert world.runtime.wishes == []
        reply = await world.client.post(path, json={"debug_hm": "DEBUG_VS_HM_ONLY"})
        assert reply.headers["x-shoal-warning"] == "Stored, with no effect yet: debug_hm."


async def test_a_client_that_goes_away_ends_it(tmp_path: Path) -> None:
    async with api_world(tmp_path) as world:
        world.runtime.endless = True
        uuid = (await world.service())["uuid"]
        await asyncio.wait_for(_read_a_little(world, f"/api/virtualservice/{uuid}/capture"), 10)
        assert world.runtime.wishes_ended == 1


async def _read_a_little(world: World, path: str) -> None:
    """The application itself, with a connection that ends after the third piece."""
    request = world.client.build_request("POST", path)
    headers = [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("ctl", 443),
        "scheme": "https",
        "root_path": "",
    }
    gone, asked, pieces = asyncio.Event(), False, 0

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal pieces
        pieces += message["type"] == "http.response.body"
        if pieces == 3:
            gone.set()

    await world.app(scope, receive, send)
