"""``shoal capture``: packets of a virtual service from all its engines, into one pcapng file."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import signal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click
import httpx
import msgspec

from shoal.errors import Invalid, NotReady, Problem, ShoalError

from .client import Client, refused
from .options import EXIT_FAILED, with_client

Document = dict[str, Any]
READ_WITHIN_S = 20.0
"""The controller says at least every 5 s that it goes on."""
INTERFACE, STATISTICS, PACKET = 1, 5, 6
OPTION_COMMENT, OPTION_NAME, OPTION_RECEIVED, OPTION_DROPPED = 1, 2, 4, 5
BLOCK_BYTES_MAX = 1_000_000
FLAGS = ("fin", "syn", "push", "ack")
FILTER_HELP = "host ADDRESS, net CIDR, src port N[-M], dst port N[-M], syn, fin, push, ack"


class Engine(msgspec.Struct, kw_only=True):
    name: str
    packets: int = 0
    received: int = 0
    dropped: int = 0
    ended: str = ""


class Blocks:
    """Cuts what comes into whole blocks, and counts."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.engines: list[Engine] = []

    def feed(self, data: bytes) -> bytes:
        """The whole blocks so far. Raises Invalid on what is no pcapng."""
        self._data += data
        at = 0
        while len(self._data) - at >= 12:
            kind, length = struct.unpack_from("<II", self._data, at)
            if not 12 <= length <= BLOCK_BYTES_MAX or length % 4:
                raise Invalid("What the controller sends is no capture file")
            if length > len(self._data) - at:
                break
            self._note(kind, memoryview(self._data)[at + 8 : at + length - 4])
            at += length
        whole = bytes(self._data[:at])
        del self._data[:at]
        return whole

    def _note(self, kind: int, body: memoryview) -> None:
        with body:
            if kind == INTERFACE:
                self.engines.append(Engine(name=_options(body, 8).get(OPTION_NAME, b"").decode(errors="replace")))
                return
            if kind not in (PACKET, STATISTICS):
                return
            number = struct.unpack_from("<I", body)[0]
            if number >= len(self.engines):
                raise Invalid("The capture names an engine that it has not introduced")
            engine = self.engines[number]
            if kind == PACKET:
                engine.packets += 1
                return
            found = _options(body, 12)
            engine.received = int.from_bytes(found.get(OPTION_RECEIVED, b""), "little")
            engine.dropped = int.from_bytes(found.get(OPTION_DROPPED, b""), "little")
            engine.ended = found.get(OPTION_COMMENT, b"").decode(errors="replace").removeprefix("ended: ")


def _options(body: memoryview, at: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while at + 4 <= len(body):
        code, length = struct.unpack_from("<HH", body, at)
        if code == 0:
            break
        found[code] = bytes(body[at + 4 : at + 4 + length])
        at += 4 + length + -length % 4
    return found


# --- what is asked for ---


def filters(text: str) -> Document:
    """Members of a DebugVirtualService from ``host 10.0.0.1 and dst port 80 and syn``. Raises Invalid."""
    words = [word for word in text.split() if word != "and"]
    addresses: list[Document] = []
    prefixes: list[Document] = []
    packets: Document = {}
    at = iter(words)
    for word in at:
        if word in FLAGS:
            packets[f"tcp_{word}"] = True
        elif word == "host":
            addresses.append(_address(next(at, "")))
        elif word == "net":
            prefixes.append(_prefix(next(at, "")))
        elif word in ("src", "dst") and next(at, "") == "port":
            low, high = _ports(next(at, ""))
            names = ("src_port", "src_port_range_end") if word == "src" else ("dst_port_start", "dst_port_end")
            packets |= dict(zip(names, (low, high), strict=True))
        else:
            raise _wrong(word, "is not understood")
    found: Document = {}
    if addresses or prefixes:
        found["debug_ip"] = {"addrs": addresses, "prefixes": prefixes}
    if packets:
        found["capture_filters"] = packets
    return found


def _address(text: str) -> Document:
    try:
        return {"addr": text, "type": f"V{ipaddress.ip_address(text).version}"}
    except ValueError:
        raise _wrong(text, "is no IP address") from None


def _prefix(text: str) -> Document:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise _wrong(text, "is no network, such as 10.0.0.0/8") from None
    return {"ip_addr": _address(str(network.network_address)), "mask": network.prefixlen}


def _ports(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    if not low.isdigit() or (high and not high.isdigit()) or not 0 <= int(low) <= int(high or low) <= 65535:
        raise _wrong(text, "is no port or range of ports")
    return int(low), int(high or low)


def _wrong(value: str, why: str) -> Invalid:
    return Invalid([Problem(path="--filter", value=value or "its end", why=why, hint=f"Known: {FILTER_HELP}.")])


# --- the command ---


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@with_client
@click.argument("name", metavar="VS")
@click.option("-o", "output", metavar="FILE|-", help="Where to (default: VS-DATE.pcapng here; - is standard output).")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so long (at most an hour).")
@click.option("--packets", type=click.IntRange(min=1), help="End after so many packets.")
@click.option("--megabytes", type=click.IntRange(min=100), help="End after so much (default: 100, at most 2000).")
@click.option("--size", type=click.IntRange(64, 1514), help="Bytes kept of each packet (default: all).")
@click.option("--filter", "wanted", default="", metavar="WORDS", help=f"All of: {FILTER_HELP}. Hosts: any of them.")
@click.option(
    "--side", type=click.Choice(["both", "client", "server"]), default="both", show_default=True, help="Of the proxy."
)
@click.option("--engine", "engines", multiple=True, metavar="SE", help="Only this one; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="The counts as one JSON object on stdout.")
def command(
    client: Client,
    name: str,
    output: str | None,
    seconds: float | None,
    packets: int | None,
    megabytes: int | None,
    size: int | None,
    wanted: str,
    side: str,
    engines: tuple[str, ...],
    as_json: bool,
) -> int:
    """Capture packets of a virtual service on all its engines, into one file with an interface per engine.

    Both sides are captured: clients with its addresses, its engines with the servers of its pool (health checks among
    them). Ends by a bound, or with Ctrl-C; the file is whole then, too.
    """
    if output == "-" and (as_json or sys.stdout.isatty()):
        raise click.UsageError(
            "-o - puts packets on standard output: send them to a file or a program, without --json."
        )
    params: Document = {"pkt_size": size or 0}
    if packets:
        params["num_pkts"] = packets
    if megabytes:
        params["capture_file_size"] = {"absolute_size": megabytes}
    body = {"capture_params": params, **filters(wanted)}
    if engines:
        body["se_params"] = {"se_refs": [f"/api/serviceengine?name={engine}" for engine in engines]}
    client.login()
    service = client.object("virtualservice", name)
    query = f"side={side}" + (f"&seconds={seconds:g}" if seconds else "")
    path = output or f"{name.replace('/', '_')}-{time.strftime('%Y%m%d-%H%M%S')}.pcapng"
    blocks = Blocks()
    with _opened(path) as file:
        why = asyncio.run(_capture(client, f"virtualservice/{service['uuid']}/capture?{query}", body, blocks, file))
    _tell(blocks, path, why, as_json=as_json)
    failed = any(engine.ended.startswith(("failed", "refused")) for engine in blocks.engines)
    return EXIT_FAILED if failed or why.startswith("lost") else 0


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """For writing, readable by nobody else: packets are confidential. A file in which nothing came to be is removed."""
    if path == "-":
        yield sys.stdout.buffer
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise Invalid([Problem(path="-o", value=path, why=str(error.strerror))]) from None
    with os.fdopen(descriptor, "wb") as file:
        try:
            yield file
        except ShoalError:
            if not file.tell():
                Path(path).unlink(missing_ok=True)
            raise


async def _capture(client: Client, path: str, body: Document, blocks: Blocks, file: BinaryIO) -> str:
    """Why it ended: "" (a bound), ``interrupted`` or ``lost: ...``. Raises what the controller refuses, before a byte."""
    task = asyncio.ensure_future(_copy(client, path, body, blocks, file))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return "interrupted"
    except (httpx.HTTPError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            return "interrupted"
        if isinstance(error, OSError):
            raise NotReady(f"The file can't be written: {error.strerror}.") from None
        return f"lost: the controller does not answer any more ({type(error).__name__})"


async def _copy(client: Client, path: str, body: Document, blocks: Blocks, file: BinaryIO) -> str:
    """Writes whole blocks only, and is cancelled only between them."""
    async with (
        client.asynchronous(READ_WITHIN_S) as http,
        http.stream("POST", f"/api/{path}", json=body, headers=client.headers()) as answer,
    ):
        if answer.status_code != 200:
            await answer.aread()
            raise refused(answer)
        for warning in answer.headers.get_list("x-shoal-warning"):
            click.echo(f"Warning: {warning}", err=True)
        click.echo("Capturing; Ctrl-C ends it.", err=True)
        async for data in answer.aiter_bytes():
            whole = blocks.feed(data)
            if whole:
                file.write(whole)
                file.flush()
    return ""


def _tell(blocks: Blocks, path: str, why: str, *, as_json: bool) -> None:
    packets = sum(engine.packets for engine in blocks.engines)
    dropped = sum(engine.dropped for engine in blocks.engines)
    if as_json:
        engines = msgspec.to_builtins(blocks.engines)
        found = {"file": path, "packets": packets, "dropped": dropped, "ended": why or "bound", "engines": engines}
        click.echo(json.dumps(found))
        return
    for engine in blocks.engines:
        ended = f", ended: {engine.ended}" if engine.ended else ""
        click.echo(f"{engine.name:<24} {engine.packets:>9} packets, {engine.dropped} dropped{ended}", err=True)
    if dropped:
        click.echo("Dropped: the capture was slower than the traffic. A --filter or a small --size helps.", err=True)
    if why.startswith("lost"):
        click.echo(f"Error: {why}; the file holds what came before.", err=True)
    click.echo(f"{packets} packets of {len(blocks.engines)} engines in {path}", err=True)
