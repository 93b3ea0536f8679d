"""BIRD's command socket: one command a connection. Replies are lines of a four-digit code and text."""

from __future__ import annotations

import asyncio
import re

from shoal.wire.desired import Bgp, BgpPeer
from shoal.wire.messages import BgpPeerState

ANSWER_WITHIN_S = 2.0
REFUSED = ("8", "9")
"""Codes that begin so tell of errors."""
_CODE = re.compile(r"(\d{4})([- ])(.*)")


class Refused(OSError):
    """BIRD's own words."""


async def ask(path: str, command: str) -> list[str]:
    """The reply's lines. Raises Refused, OSError, TimeoutError."""
    async with asyncio.timeout(ANSWER_WITHIN_S):
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            await _reply(reader)  # it says hello
            writer.write(f"{command}\n".encode())
            return await _reply(reader)
        finally:
            writer.close()


async def _reply(reader: asyncio.StreamReader) -> list[str]:
    lines: list[str] = []
    while line := (await reader.readline()).decode(errors="replace").rstrip("\n"):
        found = _CODE.match(line)
        lines.append(found[3] if found else line.lstrip())
        if found and found[2] == " ":
            if found[1].startswith(REFUSED):
                raise Refused(" ".join(lines))
            return lines
    raise ConnectionResetError("BIRD has closed its command socket")


def peer_states(
    protocols: list[str], bfd: list[str], sessions: dict[str, tuple[Bgp, BgpPeer]]
) -> tuple[BgpPeerState, ...]:
    """Out of ``show protocols all`` and ``show bfd sessions``."""
    by_name: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in protocols:
        words = line.split()
        if words and words[0] in sessions:
            current = by_name[words[0]] = {"state": words[5] if len(words) > 5 else words[3]}
        elif words and not line[:1].isspace() and len(words) >= 4 and words[1] in KINDS:
            current = {}
        elif ":" in line:
            key, _, value = line.partition(":")
            current.setdefault(key.strip(), value.strip())
    alive = {words[0]: words[2] for words in map(str.split, bfd) if len(words) >= 3}
    return tuple(
        BgpPeerState(
            vrf=bgp.id,
            address=peer.address,
            state=by_name.get(name, {}).get("BGP state", "Down"),
            routes=_exported(by_name.get(name, {}).get("Routes", "")),
            bfd=alive.get(peer.address, "Down") if peer.bfd else "",
            why=by_name.get(name, {}).get("Last error", ""),
        )
        for name, (bgp, peer) in sessions.items()
    )


KINDS = ("BGP", "BFD", "Device", "Kernel", "Static", "Direct")
_EXPORTED = re.compile(r"(\d+) exported")


def _exported(text: str) -> int:
    found = _EXPORTED.search(text)
    return int(found[1]) if found else 0
