"""``upload``: a certificate, with its key and its chain, from PEM files of this machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoal.errors import Invalid, Problem

from .command import FILE, WORD, Choice, Command, Known, Option, Said, next_option, options_of

if TYPE_CHECKING:
    from .session import Session

CERTIFICATE = "sslkeyandcertificate"
PEM_BYTES_MAX = 1_000_000
OPTIONS = (
    Option("certificate", "the certificate, with its chain (required)", FILE),
    Option("key", "its private key (required for a new one)", FILE),
    Option("passphrase", "of the key, if it has one", WORD),
)
USAGE = (f"upload {CERTIFICATE} <name> certificate <file> key <file> [passphrase <word>]",)


def _upload(session: Session, words: list[str]) -> Said:
    kind, name = session.two(words, "upload")
    if kind.endpoint != CERTIFICATE:
        hint = f"Use {USAGE[0]}; whole configurations: import configuration file <path>."
        raise Invalid([Problem(path="upload", value=kind.endpoint, why=f"is for {CERTIFICATE}", hint=hint)])
    given = options_of("upload", OPTIONS, words[2:])
    if "certificate" not in given:
        raise Invalid([Problem(path="upload certificate", why="a file is required", hint=f"Use {USAGE[0]}.")])
    before = session.client.named(kind.endpoint, name)
    body: dict[str, Any] = {"certificate": {"certificate": _pem("certificate", given["certificate"])}}
    if "key" in given:
        body["key"] = _pem("key", given["key"])
    elif before is None:
        raise Invalid([Problem(path="upload key", why="a new certificate needs its key", hint=f"Use {USAGE[0]}.")])
    if "passphrase" in given:
        body["key_passphrase"] = given["passphrase"]
    if before is None:
        saved = session.change(kind, "POST", kind.endpoint, {"name": name, **body})
    else:
        saved = session.change(kind, "PATCH", f"{kind.endpoint}/{before['uuid']}", {"replace": body})
    return session.printed(kind, saved)


def _pem(option: str, path: str) -> str:
    try:
        with Path(path).expanduser().open() as file:
            text = file.read(PEM_BYTES_MAX + 1)
    except (OSError, UnicodeDecodeError) as error:
        why = f"can't be read: {getattr(error, 'strerror', None) or 'it is no text'}"
        raise Invalid([Problem(path=f"upload {option}", value=path[:60], why=why)]) from None
    if len(text) > PEM_BYTES_MAX or "-----BEGIN " not in text:
        raise Invalid([Problem(path=f"upload {option}", value=path[:60], why="is no PEM file")])
    return text


def _next(known: Known, words: list[str]) -> Iterable[Choice]:
    if not words:
        return [Choice(CERTIFICATE, "a certificate, new or instead of the present one")]
    if words[0] != CERTIFICATE:
        return ()
    if len(words) == 1:
        return [*known.names(CERTIFICATE), Choice(WORD, "a new name", free=True)]
    return next_option(known, OPTIONS, words[2:])


COMMAND = Command(
    summary="a certificate from PEM files",
    usage=USAGE,
    run=_upload,
    next=_next,
    options=OPTIONS,
)
