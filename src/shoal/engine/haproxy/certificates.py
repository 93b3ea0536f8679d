"""Certificates: files for the next start or reload, and HAProxy's own store for the worker that runs now."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from shoal.wire.desired import Certificate, Service

from . import render, runtime
from .render import Facts

log = logging.getLogger("shoal.haproxy")


class Written(msgspec.Struct, frozen=True):
    """Ids of the certificates that are ``fresh`` on this engine and of those whose text was ``replaced``."""

    fresh: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()


def write(facts: Facts, certificates: Mapping[str, Certificate]) -> Written:
    fresh: set[str] = set()
    replaced: set[str] = set()
    for certificate in certificates.values():
        path = Path(render.certificate_path(facts, certificate.id))
        path.parent.mkdir(mode=0o700, exist_ok=True)
        there = path.exists()
        if there and path.read_text() == certificate.pem:
            continue
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(certificate.pem)
        new.replace(path)
        (replaced if there else fresh).add(certificate.id)
    return Written(frozenset(fresh), frozenset(replaced))


def forget_others(facts: Facts, certificates: Mapping[str, Certificate]) -> None:
    """No key stays that no one asks for."""
    wanted = {Path(render.certificate_path(facts, id)).name for id in certificates}
    for path in render.certificates_folder(facts).glob("*.pem"):
        if path.name not in wanted:
            path.unlink()


def used(services: Iterable[Service]) -> frozenset[str]:
    """Ids of the certificates that HAProxy has loaded for these."""
    with_tls = (service for service in services if any(listener.tls for listener in service.listeners))
    return frozenset(id for service in with_tls for id in service.certificates)


async def replace(facts: Facts, certificates: Iterable[Certificate]) -> bool:
    """Put these in the place of those the worker has under the same names: new handshakes get them, established
    connections go on. False when HAProxy refused one (management guide 9.3, ``set ssl cert``)."""
    for certificate in certificates:
        path = runtime.argument(render.certificate_path(facts, certificate.id))
        pem = "\n".join(_lines(certificate.pem))
        for text, good in (
            (f"set ssl cert {path} <<\n{pem}\n", "Transaction "),
            (f"commit ssl cert {path}", "Committing "),
        ):
            try:
                answer = await runtime.command(render.admin_socket(facts), text)
            except runtime.RuntimeFailure as error:
                answer = str(error)
            if not answer.startswith(good) or (good == "Committing " and "Success!" not in answer):
                log.warning("certificate %s is not replaced in place: %s", certificate.name, answer)
                await _abort(facts, path)
                return False
    return True


async def _abort(facts: Facts, path: str) -> None:
    try:
        await runtime.command(render.admin_socket(facts), f"abort ssl cert {path}")
    except runtime.RuntimeFailure as error:
        log.warning("%s", error)


def _lines(pem: str) -> Iterator[str]:
    """An empty line would end the payload."""
    return (line.strip() for line in pem.splitlines() if line.strip())
