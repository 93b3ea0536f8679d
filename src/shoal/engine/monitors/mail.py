"""SMTP (RFC 5321), POP3 (RFC 1939) and IMAP (RFC 3501): as much as shows that a server serves."""

from __future__ import annotations

import base64

from shoal.wire.monitors import Folder, Mail, Monitor, MonitorTls

from .connection import LINES_MAX, Connection, Wrong, connected, shown


async def smtp(monitor: Monitor, address: str, port: int, tls: MonitorTls | None) -> None:
    """Raises Wrong, OSError."""
    mail = monitor.asks if isinstance(monitor.asks, Mail) else Mail()
    async with connected(address, port, tls) as link:
        await _replied(link, "", 2)
        await _replied(link, f"EHLO {mail.domain or 'localhost'}", 2)
        if monitor.user:
            secret = base64.b64encode(f"\0{monitor.user}\0{monitor.password}".encode()).decode()
            await _replied(link, f"AUTH PLAIN {secret}", 2, "AUTH PLAIN")
        if mail.sender and mail.recipients:
            await _replied(link, f"MAIL FROM:<{mail.sender}>", 2)
            for recipient in mail.recipients:
                await _replied(link, f"RCPT TO:<{recipient}>", 2)
            await _replied(link, "DATA", 3)
            lines = mail.data.replace("\r\n", "\n").split("\n")
            text = "\r\n".join(f".{line}" if line.startswith(".") else line for line in lines)
            await _replied(link, f"{text}\r\n.", 2, "the message")
        await link.send("QUIT\r\n")


async def _replied(link: Connection, command: str, good: int, named: str = "") -> None:
    """``good``: the reply's first digit. FTP replies in the same way."""
    if command:
        await link.send(f"{command}\r\n")
    for _ in range(LINES_MAX):
        line = await link.line()
        if line[3:4] != "-" and line[:3].isdigit():
            break
    if not line.startswith(str(good)):
        raise Wrong(f"{named or command or 'the greeting'} is answered by {shown(line)}")


async def pop3(monitor: Monitor, address: str, port: int, tls: MonitorTls | None) -> None:
    """Raises Wrong, OSError."""
    async with connected(address, port, tls) as link:
        await _agreed(link, "")
        if monitor.user:
            await _agreed(link, f"USER {monitor.user}")
            await _agreed(link, f"PASS {monitor.password}", "PASS")
        await link.send("QUIT\r\n")


async def _agreed(link: Connection, command: str, named: str = "") -> None:
    if command:
        await link.send(f"{command}\r\n")
    line = await link.line()
    if not line.startswith("+OK"):
        raise Wrong(f"{named or command or 'the greeting'} is answered by {shown(line)}")


async def imap(monitor: Monitor, address: str, port: int, tls: MonitorTls | None) -> None:
    """Raises Wrong, OSError."""
    folder = monitor.asks.name if isinstance(monitor.asks, Folder) else ""
    async with connected(address, port, tls) as link:
        line = await link.line()
        if not line.startswith(("* OK", "* PREAUTH")):
            raise Wrong(f"the greeting is {shown(line)}")
        if monitor.user:
            await _completed(link, "a1", f"LOGIN {_quoted(monitor.user)} {_quoted(monitor.password)}", "LOGIN")
        if folder and monitor.user:
            await _completed(link, "a2", f"SELECT {_quoted(folder)}", f"SELECT {folder}")
        await link.send("a3 LOGOUT\r\n")


async def _completed(link: Connection, tag: str, command: str, named: str) -> None:
    await link.send(f"{tag} {command}\r\n")
    for _ in range(LINES_MAX):
        line = await link.line()
        if line.startswith(f"{tag} "):
            break
    if not line.startswith(f"{tag} OK"):
        raise Wrong(f"{named} is answered by {shown(line)}")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
