"""Certificates, and who may issue them: files for the next start or reload, and HAProxy's own store for the worker that
runs now."""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from shoal.wire.desired import Certificate, Credential, Service, Tickets, Trust

from . import render, runtime, tls
from .render import Facts

log = logging.getLogger("shoal.haproxy")


class File(msgspec.Struct, frozen=True):
    """``kind`` is HAProxy's word for it in its runtime API: ``cert``, ``ca-file``, ``crl-file`` or ``tls-key``. ``beside``: what goes with a
    certificate, by the ending that is put behind its name."""

    kind: str
    text: str
    beside: dict[str, bytes] = {}

    def contents(self, name: str) -> Iterator[tuple[str, bytes]]:
        """The name and content of each file on disk."""
        yield name, self.text.encode()
        for ending in ENDINGS if self.kind == "cert" else ():
            if ending in self.beside:
                yield f"{name}{ending}", self.beside[ending]


Files = Mapping[str, File]
"""By name."""


TICKET_KEYS, TICKET_KEY_BYTES = 3, 80
"""What HAProxy takes: the second of three keys is the one it makes tickets with."""
_OWN = secrets.token_bytes(32)
"""For tickets, while the controller has not said what all engines use."""
ISSUER, RESPONSE = ENDINGS = (".issuer", ".ocsp")
"""Of what HAProxy loads by itself beside a certificate (configuration manual, ``crt``)."""


class Written(msgspec.Struct, frozen=True):
    """Names of the files that are ``fresh`` on this engine and of those whose text was ``replaced``; of the latter HAProxy
    takes the ``odd`` ones by a reload only: they have lost what was beside them, or keys of tickets do not follow upon those before."""

    fresh: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()
    odd: frozenset[str] = frozenset()


def files(credentials: Iterable[Credential], services: Iterable[Service] = ()) -> dict[str, File]:
    """``services`` may have tickets, each with keys of its own: what one has let in, another has not."""
    found: dict[str, File] = {}
    days = (_OWN,) * TICKET_KEYS
    certificates: dict[str, Certificate] = {}
    for one in credentials:
        if isinstance(one, Tickets):
            days = one.secrets
            continue
        if isinstance(one, Trust):
            found[tls.authorities_file(one.id)] = File("ca-file", one.authorities)
            if one.revoked:
                found[tls.revoked_file(one.id)] = File("crl-file", one.revoked)
        else:
            certificates[one.id] = one
            found[tls.certificate_file(one.id)] = File("cert", one.pem, _beside(one))
    for service in filter(_encrypted, services):
        for dh in {spoken.dh for spoken in service.spoken if spoken.dh}:
            for certificate in (certificates[id] for id in service.certificates if id in certificates):
                name = tls.certificate_file(certificate.id, dh)
                found[name] = File("cert", certificate.pem + dh, _beside(certificate))
        if service.tls.tickets:
            keys = (_ticket_key(secret, service.id) for secret in days)
            found[tls.tickets_file(service.id)] = File("tls-key", "".join(f"{key}\n" for key in keys))
    return found


def _encrypted(service: Service) -> bool:
    return service.terminates_tls


def _ticket_key(secret: bytes, service: str) -> str:
    """The same on all engines, and without the secret nobody's."""
    parts = (f"{part}/{service}".encode(errors="surrogatepass") for part in ("cipher", "hash"))
    data = b"".join(hashlib.blake2b(part, key=secret, digest_size=TICKET_KEY_BYTES // 2).digest() for part in parts)
    return base64.b64encode(data).decode()


def write(facts: Facts, wanted: Files) -> Written:
    fresh: set[str] = set()
    replaced: set[str] = set()
    odd: set[str] = set()
    folder = render.certificates_folder(facts)
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, file in wanted.items():
        there = (folder / name).exists()
        stale = [
            path for ending in ENDINGS if ending not in file.beside and (path := folder / f"{name}{ending}").exists()
        ]
        for path in stale:
            path.unlink()
        if file.kind == "tls-key" and there and file.text.split()[:-1] != (folder / name).read_text().split()[1:]:
            odd.add(name)
        changed = [_write(folder / one, content) for one, content in file.contents(name)]
        if any(changed) or stale:
            (replaced if there else fresh).add(name)
        if stale:
            odd.add(name)
    return Written(frozenset(fresh), frozenset(replaced), frozenset(odd & replaced))


def _write(path: Path, content: bytes) -> bool:
    """Whole or not at all; False when that is what is there already."""
    if path.exists() and path.read_bytes() == content:
        return False
    new = path.with_name(f"{path.name}.new")
    new.touch(mode=0o600)
    new.write_bytes(content)
    new.replace(path)
    return True


def _beside(certificate: Certificate) -> dict[str, bytes]:
    """A response that has ended would be no use to a client, and HAProxy might not load it."""
    stapled = certificate.stapled
    if stapled is None or (stapled.until and stapled.until <= time.time()):
        return {}
    return {ISSUER: stapled.issuer.encode(), RESPONSE: stapled.response}


def forget_others(facts: Facts, wanted: Files) -> None:
    """No key stays that no one asks for."""
    folder = render.certificates_folder(facts)
    names = {one for name, file in wanted.items() for one, _ in file.contents(name)}
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in names:
            path.unlink()


async def replace(facts: Facts, wanted: Files) -> bool:
    """Put these in the place of those the worker has under the same names: new handshakes get them, established
    connections go on. False when HAProxy refused one (management guide 9.3, ``set ssl cert``)."""
    for name, file in sorted(wanted.items()):
        path = runtime.argument(str(render.certificates_folder(facts) / name))
        steps = [(f"set ssl {file.kind} {path} <<\n{_payload(file.text)}\n", "ransaction ")]
        for ending, content in file.beside.items():
            text = base64.encodebytes(content).decode() if ending == RESPONSE else content.decode()
            steps.append((f"set ssl {file.kind} {path}{ending} <<\n{_payload(text)}\n", "ransaction "))
        steps.append((f"commit ssl {file.kind} {path}", "Success!"))
        if file.kind == "tls-key":  # it becomes the last of the three, and the first one goes
            steps = [(f"set ssl tls-key {path} {file.text.split()[-1]}", "updated")]
        for text, good in steps:
            try:
                answer = await runtime.command(render.admin_socket(facts), text)
            except runtime.RuntimeFailure as error:
                answer = str(error)
            if good not in answer:
                log.warning("%s is not replaced in place: %s", name, answer)
                if file.kind != "tls-key":
                    await _abort(facts, file.kind, path)
                return False
    return True


async def _abort(facts: Facts, kind: str, path: str) -> None:
    try:
        await runtime.command(render.admin_socket(facts), f"abort ssl {kind} {path}")
    except runtime.RuntimeFailure as error:
        log.warning("%s", error)


def _payload(text: str) -> str:
    """An empty line would end it."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())
