"""Certificates, and who may issue them: files for the next start or reload, and HAProxy's own store for the worker that
runs now."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from shoal.wire.desired import Credential, Trust

from . import render, runtime, tls
from .render import Facts

log = logging.getLogger("shoal.haproxy")


class File(msgspec.Struct, frozen=True):
    """``kind`` is HAProxy's word for it in its runtime API: ``cert``, ``ca-file`` or ``crl-file``."""

    kind: str
    text: str


Files = Mapping[str, File]
"""By name."""


class Written(msgspec.Struct, frozen=True):
    """Names of the files that are ``fresh`` on this engine and of those whose text was ``replaced``."""

    fresh: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()


def files(credentials: Iterable[Credential]) -> dict[str, File]:
    found: dict[str, File] = {}
    for one in credentials:
        if isinstance(one, Trust):
            found[tls.authorities_file(one.id)] = File("ca-file", one.authorities)
            if one.revoked:
                found[tls.revoked_file(one.id)] = File("crl-file", one.revoked)
        else:
            found[tls.certificate_file(one.id)] = File("cert", one.pem)
    return found


def write(facts: Facts, wanted: Files) -> Written:
    fresh: set[str] = set()
    replaced: set[str] = set()
    folder = render.certificates_folder(facts)
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, file in wanted.items():
        path = folder / name
        there = path.exists()
        if there and path.read_text() == file.text:
            continue
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(file.text)
        new.replace(path)
        (replaced if there else fresh).add(name)
    return Written(frozenset(fresh), frozenset(replaced))


def forget_others(facts: Facts, wanted: Collection[str]) -> None:
    """No key stays that no one asks for."""
    folder = render.certificates_folder(facts)
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in wanted:
            path.unlink()


async def replace(facts: Facts, wanted: Files) -> bool:
    """Put these in the place of those the worker has under the same names: new handshakes get them, established
    connections go on. False when HAProxy refused one (management guide 9.3, ``set ssl cert``)."""
    for name, file in sorted(wanted.items()):
        path = runtime.argument(str(render.certificates_folder(facts) / name))
        pem = "\n".join(_lines(file.text))
        for text, good in (
            (f"set ssl {file.kind} {path} <<\n{pem}\n", "ransaction "),
            (f"commit ssl {file.kind} {path}", "Success!"),
        ):
            try:
                answer = await runtime.command(render.admin_socket(facts), text)
            except runtime.RuntimeFailure as error:
                answer = str(error)
            if good not in answer:
                log.warning("%s is not replaced in place: %s", name, answer)
                await _abort(facts, file.kind, path)
                return False
    return True


async def _abort(facts: Facts, kind: str, path: str) -> None:
    try:
        await runtime.command(render.admin_socket(facts), f"abort ssl {kind} {path}")
    except runtime.RuntimeFailure as error:
        log.warning("%s", error)


def _lines(pem: str) -> Iterator[str]:
    """An empty line would end the payload."""
    return (line.strip() for line in pem.splitlines() if line.strip())
