"""The console's files: built from ``console/`` into this package, served at ``/`` (decision 32).

Names under ``assets/`` change with their content, so browsers keep those for a year; the page itself is asked for each time.
The policy lets the page load from this address only, and run no script or style that is not a file of it.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .context import path_of

BUILT = Path(__file__).parent / "pages"
PAGE = "index.html"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
NOT_THE_CONSOLES = ("api", "login", "logout", "metrics")
"""First steps of paths that are the API's."""
SMALL_BYTES = 1_000


class File(msgspec.Struct, frozen=True):
    content: bytes
    zipped: bytes
    """``b""`` where that is no gain."""
    type: str
    tag: str


class Web:
    """The files are read once, at the first request."""

    def __init__(self, built: Path = BUILT) -> None:
        self._built = built
        self._files: dict[str, File] | None = None

    def answer(self, request: Request) -> Response | None:
        """The page or one of its files; None for what is the API's to answer: its paths, other methods, and whoever
        does not ask for a page."""
        path = path_of(request).lstrip("/")
        if request.method not in ("GET", "HEAD") or path.split("/", 1)[0] in NOT_THE_CONSOLES:
            return None
        files = self._read()
        file = files.get(path)
        if file is not None and path != PAGE:
            forever = path.startswith("assets/")
            return _send(request, file, "public, max-age=31536000, immutable" if forever else "no-cache")
        if PAGE in files and "text/html" in request.headers.get("accept", "") and "." not in path.rsplit("/", 1)[-1]:
            return _send(request, files[PAGE], "no-cache")
        return None

    @property
    def built(self) -> bool:
        return PAGE in self._read()

    def _read(self) -> dict[str, File]:
        if self._files is None:
            found = sorted(path for path in self._built.rglob("*") if path.suffix in TYPES)
            self._files = {str(path.relative_to(self._built)): _file(path) for path in found}
        return self._files


def _file(path: Path) -> File:
    content = path.read_bytes()
    zipped = gzip.compress(content, mtime=0) if len(content) > SMALL_BYTES and path.suffix != ".woff2" else b""
    tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    return File(content, zipped, TYPES[path.suffix], tag)


def _send(request: Request, file: File, cache: str) -> Response:
    headers = {"Cache-Control": cache, "ETag": file.tag, "Vary": "Accept, Accept-Encoding"}
    headers |= {"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin"}
    if request.headers.get("if-none-match") == file.tag:
        return Response(None, 304, headers=headers)
    content = file.content
    if file.zipped and "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = file.zipped, "gzip"
    headers["Content-Type"] = file.type
    return Response(content, 200, headers=headers)
