"""``upload``: from files of this machine, a certificate with its key and its chain (PEM), or what is known of addresses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoal.errors import Invalid, Problem

from .command import FILE, WORD, Choice, Command, Known, Option, Said, next_option, options_of

if TYPE_CHECKING:
    from shoal.objects import ObjectType

    from .session import Session

CERTIFICATE, ADDRESSES = "sslkeyandcertificate", "fileobject"
PEM_BYTES_MAX = 1_000_000
UPLOAD_WITHIN_S = 400.0
OPTIONS = {
    CERTIFICATE: (
        Option("certificate", "the certificate, with its chain (required)", FILE),
        Option("key", "its private key (required for a new one)", FILE),
        Option("passphrase", "of the key, if it has one", WORD),
    ),
    ADDRESSES: (
        Option("file", "MaxMind's database, or lines network,country or network,type (required)", FILE),
        Option("type", "GEO_DB or IP_REPUTATION (required)", WORD),
    ),
}
USAGES = {
    CERTIFICATE: f"upload {CERTIFICATE} <name> certificate <file> key <file> [passphrase <word>]",
    ADDRESSES: f"upload {ADDRESSES} <name> file <file> type <type>",
}


def _upload(session: Session, words: list[str]) -> Said:
    kind, name = session.two(words, "upload")
    if kind.endpoint not in OPTIONS:
        hint = f"Use {USAGES[CERTIFICATE]}; whole configurations: import configuration file <path>."
        raise Invalid([Problem(path="upload", value=kind.endpoint, why=f"is for {' and '.join(OPTIONS)}", hint=hint)])
    given = options_of("upload", OPTIONS[kind.endpoint], words[2:])
    if kind.endpoint == ADDRESSES:
        return _addresses(session, kind, name, given)
    return _certificate(session, kind, name, given)


def _certificate(session: Session, kind: ObjectType, name: str, given: dict[str, Any]) -> Said:
    _required(given, "certificate", kind)
    before = session.client.named(kind.endpoint, name)
    body: dict[str, Any] = {"certificate": {"certificate": _pem("certificate", given["certificate"])}}
    if "key" in given:
        body["key"] = _pem("key", given["key"])
    elif before is None:
        hint = f"Use {USAGES[CERTIFICATE]}."
        raise Invalid([Problem(path="upload key", why="a new certificate needs its key", hint=hint)])
    if "passphrase" in given:
        body["key_passphrase"] = given["passphrase"]
    if before is None:
        saved = session.change(kind, "POST", kind.endpoint, {"name": name, **body})
    else:
        saved = session.change(kind, "PATCH", f"{kind.endpoint}/{before['uuid']}", {"replace": body})
    return session.printed(kind, saved)


def _addresses(session: Session, kind: ObjectType, name: str, given: dict[str, Any]) -> Said:
    _required(given, "file", kind)
    _required(given, "type", kind)
    try:
        data = Path(given["file"]).expanduser().read_bytes()
    except OSError as error:
        why = f"can't be read: {error.strerror}"
        raise Invalid([Problem(path="upload file", value=given["file"][:60], why=why)]) from None
    form = {"name": name, "type": given["type"].upper()}
    return session.printed(kind, session.client.upload(f"{ADDRESSES}/upload", form, data, within_s=UPLOAD_WITHIN_S))


def _required(given: dict[str, Any], option: str, kind: ObjectType) -> None:
    if option not in given:
        what = "a type" if option == "type" else "a file"
        raise Invalid(
            [Problem(path=f"upload {option}", why=f"{what} is required", hint=f"Use {USAGES[kind.endpoint]}.")]
        )


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
        return [
            Choice(CERTIFICATE, "a certificate, new or instead of the present one"),
            Choice(ADDRESSES, "what is known of addresses: countries, reputations"),
        ]
    if words[0] not in OPTIONS:
        return ()
    if len(words) == 1:
        return [*known.names(words[0]), Choice(WORD, "a new name", free=True)]
    if words[-1] == "type":
        return [Choice("GEO_DB", "where addresses are"), Choice("IP_REPUTATION", "how they are spoken of")]
    return next_option(known, OPTIONS[words[0]], words[2:])


COMMAND = Command(
    summary="certificates from PEM files, databases of addresses",
    usage=tuple(USAGES.values()),
    run=_upload,
    next=_next,
    options=tuple(option for options in OPTIONS.values() for option in options),
)
