"""Bounds of the REST face, each with its unit in the name, and the one way a body is read within them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request

from shoal.errors import Invalid, Problem, TooLarge

BODY_BYTES_MAX = 1_000_000
"""One object; the store's own cap on a value is the same."""
CHANGES_BYTES_MAX = 16_000_000
"""Several that are changed together."""
BODY_WITHIN_S = 30.0
REQUEST_WITHIN_S = 60.0
CONFIGURATION_WITHIN_S = 600.0
"""Of a whole configuration."""
JSON_DEPTH_MAX = 32
QUERY_BYTES_MAX = 16_384
QUERY_PARAMETERS_MAX = 100
COOKIES_MAX = 40
PAGE_SIZE_DEFAULT = 25
PAGE_SIZE_MAX = 200
LOG_PAGE_SIZE_MAX = 10_000
CONNECTIONS_MAX = 2_000
CONNECTIONS_PER_ADDRESS_MAX = 600
HEAD_WITHIN_S = 15.0
"""From a connection, or a request's first byte, to the end of its headers."""
HEAD_BYTES_MAX = 65_536
WARNINGS_MAX = 20
WARNING_CHARACTERS_MAX = 500


async def read_body(request: Request, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """The whole body. Raises TooLarge past ``bytes_max``, Invalid when it does not come within ``BODY_WITHIN_S``."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > bytes_max:
        raise _too_large(bytes_max)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > bytes_max:
                    raise _too_large(bytes_max)
                chunks.append(chunk)
    except TimeoutError:
        raise Invalid(f"The body did not arrive within {BODY_WITHIN_S:.0f} s.") from None
    except ClientDisconnect:
        raise Invalid("The client closed the connection before the whole body had arrived.") from None
    return b"".join(chunks)


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises Invalid with a sentence that says what it was instead."""
    return decode_object(await read_body(request))


def decode_object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        raise Invalid([Problem(path="", why="the body is empty", hint="Send a JSON object.")])
    try:
        document = msgspec.json.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        why = str(error).rstrip(".") or "it can't be read"
        hint = "Send one JSON object in UTF-8."
        raise Invalid([Problem(path="", why=f"the body is not JSON ({why})", hint=hint)]) from None
    if not isinstance(document, dict):
        kind = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}.get(type(document), "a number")
        raise Invalid([Problem(path="", why=f"the body is {kind}", hint="Send a JSON object.")])
    if _deeper_than(document, JSON_DEPTH_MAX):
        raise _too_deep()
    return document


def _deeper_than(document: object, limit: int) -> bool:
    level: list[object] = [document]
    for _ in range(limit):
        level = [child for value in level for child in _children(value)]
        if not level:
            return False
    return True


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _too_deep() -> Invalid:
    return Invalid([Problem(path="", why=f"the body is nested deeper than {JSON_DEPTH_MAX} levels")])


def _too_large(bytes_max: int) -> TooLarge:
    return TooLarge(f"The body is larger than {bytes_max} bytes.", hint="Send one object a request.")
