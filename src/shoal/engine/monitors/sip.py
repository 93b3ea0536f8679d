"""SIP (RFC 3261): OPTIONS, and an answer."""

from __future__ import annotations

import secrets

CRLF = "\r\n"


def options(address: str, port: int, own: str, own_port: int, transport: str) -> str:
    """``transport``: UDP or TCP."""
    there, here = _host(address), _host(own)
    lines = [
        f"OPTIONS sip:{there}:{port} SIP/2.0",
        f"Via: SIP/2.0/{transport} {here}:{own_port};branch=z9hG4bK{secrets.token_hex(8)}",
        "Max-Forwards: 70",
        f"To: <sip:{there}:{port}>",
        f"From: <sip:monitor@{here}>;tag={secrets.token_hex(4)}",
        f"Call-ID: {secrets.token_hex(12)}@{here}",
        "CSeq: 1 OPTIONS",
        f"Contact: <sip:monitor@{here}:{own_port}>",
        "Accept: application/sdp",
        "Content-Length: 0",
    ]
    return CRLF.join(lines) + CRLF + CRLF


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
