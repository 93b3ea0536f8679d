"""Client logs as they come, to the servers that ``client_log_streaming_config`` of an AnalyticsProfile names.

A server that is away, or slower than the logs, costs those logs, and an event that says so; nothing waits for it.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from shoal.errors import Invalid, Problem
from shoal.objects.views import uuid_of

from . import secured
from .outward import Outward
from .view import View

log = logging.getLogger("shoal.log_streams")

Document = dict[str, Any]
NOT_SENT = "LOG_STREAM_NOT_SENT"
WITHIN_S = 5.0
TOLD_AGAIN_S = 600.0
WAITING_MAX = 10_000
"""Logs that wait for one server; the oldest give way."""
SENDING_AT_ONCE_MAX = 4
DATAGRAM_BYTES_MAX = 8_000
SERVERS_MAX = 8
SERVICES_MAX = 20_000
"""Of which is known how many logs were sent in this second."""
CONFIG = "client_log_streaming_config"
PORT = 514
NIL = "-"
UDP, TLS = "UDP", "TLS"
_threads = ThreadPoolExecutor(SENDING_AT_ONCE_MAX, thread_name_prefix="log-streams")


class Target(msgspec.Struct, frozen=True):
    """``way``: UDP, TCP or TLS; the line is a syslog message (RFC 5424) or the JSON alone."""

    host: str
    port: int
    way: str
    syslog: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def targets(config: Mapping[str, Any]) -> list[Target]:
    """Of a ClientLogStreamingConfig: ``10.0.0.9, logs.example.org:1514``. Raises Invalid."""
    default = int(config.get("external_server_port", PORT))
    protocol = str(config.get("protocol", "LOG_STREAMING_PROTOCOL_UDP")).removeprefix("LOG_STREAMING_PROTOCOL_")
    found = []
    for part in str(config.get("external_server", "")).split(","):
        text = part.strip()
        host, colon, number = text.rpartition(":")
        if not colon or (":" in host.strip("[]") and not text.startswith("[")):  # a name, or an IPv6 address alone
            host, number = text, str(default)
        host = host.strip("[]")
        port = int(number) if number.isascii() and number.isdigit() and len(number) <= 5 else 0
        if not host or not host.isprintable() or " " in host or not 1 <= port <= 65535:
            hint = "Such as 10.0.0.9, or logs.example.org:1514; several with commas between."
            raise Invalid([Problem(path="external_server", value=text[:60], why="is no server", hint=hint)])
        found.append(Target(host, port, protocol.rpartition("_")[2], "SYSLOG" in protocol))
    if len(found) > SERVERS_MAX:
        raise Invalid([Problem(path="external_server", why=f"names {len(found)} servers; {SERVERS_MAX} are taken")])
    return list(dict.fromkeys(found))


def line(entry: Document, config: Mapping[str, Any]) -> bytes:
    """One log as it goes out, without its end."""
    format = config.get("format_config") or {}
    names = format.get("included_fields") if format.get("format") == "LOG_STREAMING_FORMAT_JSON_SELECTED" else None
    body = msgspec.json.encode({name: entry[name] for name in names if name in entry} if names else entry)
    if "SYSLOG" not in config.get("protocol", ""):
        return body
    syslog = config.get("syslog_config") or {}
    kind, usual = ("significant", 4) if entry["significant"] else ("non_significant", 6)
    severity = syslog.get(f"{kind}_log_severity", usual)
    at = datetime.datetime.fromtimestamp(entry["report_timestamp"], datetime.UTC)
    stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    host = "".join(c for c in syslog.get("hostname", "") if "!" <= c <= "~")[:255] or NIL
    head = f"<{8 * syslog.get('facility', 16) + severity}>1 {stamp} {host} shoal {NIL} {NIL} {NIL} "
    return head.encode() + body


class LogStreams:
    """`take` never waits; `run` sends. ``note(event, sentence)`` tells of a server that does not take them."""

    def __init__(self, view: View, note: Callable[..., object], now: Callable[[], float], outward: Outward) -> None:
        self._view = view
        self._note = note
        self._now = now
        self._outward = outward
        self._waiting: dict[Target, deque[bytes]] = {}
        self._sending: set[Target] = set()
        self._missed: dict[Target, int] = {}
        self._told: dict[Target, float] = {}
        self._sent: dict[str, tuple[int, int]] = {}
        """Virtual service -> (second, logs sent in it)."""
        self._some = asyncio.Event()

    def take(self, entries: Iterable[Document]) -> None:
        """As they are searched for."""
        if not any(CONFIG in profile for profile in self._view.all("analyticsprofile")):
            return
        configs: dict[str, tuple[Document, list[Target]]] = {}
        for entry in entries:
            uuid = entry.get("virtualservice", "")
            if uuid not in configs:
                configs[uuid] = self._config(uuid)
            config, wanted = configs[uuid]
            if not wanted or not self._wanted(uuid, entry, config):
                continue
            text = line(entry, config)
            for target in wanted:
                queue = self._waiting.setdefault(target, deque())
                queue.append(text)
                if len(queue) > WAITING_MAX:
                    queue.popleft()
                    self._missed[target] = self._missed.get(target, 0) + 1
                self._some.set()

    @property
    def busy(self) -> bool:
        """Whether something waits or is under way."""
        return bool(self._waiting or self._sending)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._some.wait()
                self._some.clear()
                for target in [target for target in self._waiting if target not in self._sending]:
                    self._sending.add(target)
                    tasks.create_task(self._send(target), name=f"client logs to {target}")

    async def _send(self, target: Target) -> None:
        loop = asyncio.get_running_loop()
        try:
            while lines := self._waiting.pop(target, None):
                try:
                    await loop.run_in_executor(_threads, send, target, lines, self._outward)
                except (OSError, ValueError) as error:
                    self._failed(target, len(lines), error)
        finally:
            self._sending.discard(target)
        if missed := self._missed.pop(target, 0):
            self._failed(target, missed, OSError("it takes them more slowly than they come"))

    def _failed(self, target: Target, lost: int, error: Exception) -> None:
        log.info("%d client logs were not sent to %s: %s", lost, target, error)
        told = self._told.get(target)
        if told is None or self._now() - told >= TOLD_AGAIN_S:
            if len(self._told) > WAITING_MAX:
                self._told.clear()
            self._told[target] = self._now()
            self._note(NOT_SENT, f"Client logs can't be sent to {target}: {error}.", level="warning")

    def _config(self, uuid: str) -> tuple[Document, list[Target]]:
        """What is configured for a virtual service, and to whom its logs go."""
        service = self._view.get("virtualservice", uuid) or {}
        profile = self._view.get("analyticsprofile", uuid_of(service.get("analytics_profile_ref", ""))) or {}
        config = profile.get(CONFIG) or {}
        try:
            return config, targets(config) if config else []
        except Invalid:  # of a time before it was looked at when it was written
            return config, []

    def _wanted(self, uuid: str, entry: Document, config: Document) -> bool:
        if not entry["significant"] and config.get("log_types_to_send", "LOGS_ALL") != "LOGS_ALL":
            return False
        most = int(config.get("max_logs_per_second", 100))
        second = int(entry["report_timestamp"])
        at, count = self._sent.get(uuid, (second, 0))
        count = count + 1 if at == second else 1
        if len(self._sent) > SERVICES_MAX:
            self._sent.clear()
        self._sent[uuid] = (second, count)
        return not most or count <= most


def send(target: Target, lines: Iterable[bytes], outward: Outward) -> None:
    """All of them, blocking for some seconds at most. Raises OSError."""
    if target.way == UDP:
        with outward.datagrams(target.host, target.port) as datagrams:
            for text in lines:
                datagrams.send(text[:DATAGRAM_BYTES_MAX])
        return
    parts = (f"{len(text)} ".encode() + text if target.way == TLS and target.syslog else text + b"\n" for text in lines)
    data = b"".join(parts)  # RFC 5425, 4.3; RFC 6587, 3.4.2
    with outward.connected(target.host, target.port, WITHIN_S) as connection:
        if target.way == TLS:
            secured.tell(connection, ssl.create_default_context(), target.host, data)
        else:
            connection.sendall(data)
