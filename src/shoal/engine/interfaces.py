"""The engine's addresses on its VLAN interfaces, which its cloud makes. The VIPs that the guard puts there are not touched."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shoal.wire.desired import Interface
from shoal.wire.guard import Segment

log = logging.getLogger("shoal.interfaces")

COMMAND_WITHIN_S = 5.0
MADE_WITHIN_S = 3.0
"""So long an engine does nothing new for want of an interface; after that all goes on but what is there."""


class Interfaces:
    """`bring` before anything is served there."""

    def __init__(self) -> None:
        self._there: dict[str, tuple[int, tuple[str, ...]]] = {}
        """Name -> its index and the addresses it was given."""
        self._missing_since: float | None = None

    async def bring(self, wanted: Iterable[Interface]) -> dict[str, str]:
        """Have their addresses on those that are there. By name, why one is not as wanted. Never raises."""
        problems: dict[str, str] = {}
        brought: dict[str, tuple[int, tuple[str, ...]]] = {}
        for one in wanted:
            try:
                state = socket.if_nametoindex(one.name), one.addresses
            except OSError:
                problems[one.name] = "the cloud has not made this interface yet"
                continue
            try:
                if self._there.get(one.name) != state:
                    await _address(one)
                brought[one.name] = state
            except (OSError, ValueError) as error:
                problems[one.name] = str(error)
        self._there = brought
        now = time.monotonic()
        self._missing_since = (self._missing_since or now) if problems else None
        return problems

    @property
    def waits(self) -> bool:
        """Some were missing, and may be there in a moment: the cloud is told of them when the engine is."""
        return self._missing_since is not None and time.monotonic() < self._missing_since + MADE_WITHIN_S


def segments(interfaces: Iterable[Interface]) -> tuple[Segment, ...]:
    """What the guard has to know of them."""
    return tuple(
        Segment(name=one.name, networks=tuple(str(ipaddress.ip_interface(a).network) for a in one.addresses))
        for one in interfaces
    )


async def _address(wanted: Interface) -> None:
    """Raises OSError."""
    name = wanted.name
    shown = json.loads(await _run(["ip", "-j", "addr", "show", "dev", name]) or "[]")
    before = {address for link in shown for address in _own(link.get("addr_info", ()))}
    lines = [f"addr del {address} dev {name}" for address in sorted(before - set(wanted.addresses))]
    for address in wanted.addresses:
        if address not in before:
            lines.append(f"addr add {address} dev {name}{' nodad' if ':' in address else ''}")
    await _run(["ip", "-batch", "-"], "\n".join(lines))
    # As on the data interface: a fast path's packets may go back where they came from, and nobody is told of a better way.
    with contextlib.suppress(OSError):
        Path(f"/proc/sys/net/ipv4/conf/{name}/send_redirects").write_text("0")


def _own(shown: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Those of single hosts are VIPs."""
    for one in shown:
        if one.get("scope") == "global" and one["prefixlen"] < (32 if one["family"] == "inet" else 128):
            yield f"{one['local']}/{one['prefixlen']}"


async def _run(command: list[str], text: str = "") -> str:
    """Raises OSError with what it said."""

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=COMMAND_WITHIN_S)

    try:
        done = await asyncio.to_thread(run)
    except subprocess.TimeoutExpired:
        raise OSError(f"`{' '.join(command)}` did not end within {COMMAND_WITHIN_S:g} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise OSError(said[0] if said else f"ip ended with status {done.returncode}")
    return done.stdout
