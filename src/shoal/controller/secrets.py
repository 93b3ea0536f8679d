"""Secrets at rest: private keys and passwords are sealed before they reach the store.

AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce. The key is a file beside the database, not in it, so that a
copy of the database alone gives nothing away. A sealed text is bound to its ``context`` (the object and field it
belongs to, e.g. ``sslkeyandcertificate/<uuid>/key``): moved elsewhere it does not open.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shoal import whole_file
from shoal.errors import NotReady

PREFIX = "enc:v1:"
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
KEY_NAME_BYTES = 4
"""A sealed text begins with this much of its key's hash, to tell a wrong key file from a damaged value."""


class Secrets:
    """Seals and opens texts with one key. Made by `open`; its repr shows the file, never the key."""

    def __init__(self, key: bytes, path: Path) -> None:
        self._cipher = AESGCM(key)
        self._key = key
        self._name = hashlib.sha256(b"shoal key name" + key).digest()[:KEY_NAME_BYTES]
        self._path = path

    def __repr__(self) -> str:
        return f"Secrets({str(self._path)!r})"

    @classmethod
    def open(cls, path: Path | str) -> Secrets:
        """Read the key file, or make it (mode 0600, complete or absent, on the disk when this returns).

        Raises `NotReady`, naming the file, when it can't be read, is not 32 bytes, or others may read it.
        """
        file = Path(path).absolute()
        try:
            if not file.exists():
                _create(file, os.urandom(KEY_BYTES))
            key, mode = file.read_bytes(), file.stat().st_mode & 0o777
        except OSError as error:
            raise NotReady(
                f"The key file {file} can't be used ({error.strerror}).", hint="Check the owner and mode."
            ) from error
        if len(key) != KEY_BYTES:
            raise NotReady(
                f"The key file {file} has {len(key)} bytes instead of {KEY_BYTES}.",
                hint="Restore it from the backup; without it stored secrets can't be read.",
            )
        if mode & 0o077:
            raise NotReady(f"The key file {file} has mode {mode:04o}: others may read it.", hint=f"chmod 600 {file}")
        return cls(key, file)

    def seal(self, text: str, context: str) -> str:
        """``enc:v1:...``, different each time. Opens only with the same ``context``."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, text.encode(), context.encode())
        return PREFIX + base64.b64encode(self._name + nonce + sealed).decode()

    def unseal(self, sealed: str, context: str) -> str:
        """Raises `NotReady` when the text is not sealed, is damaged, was moved, or belongs to another key file."""
        try:
            if not self.is_sealed(sealed):
                raise ValueError
            data = base64.b64decode(sealed[len(PREFIX) :], validate=True)
            if len(data) < KEY_NAME_BYTES + NONCE_BYTES + TAG_BYTES:
                raise ValueError
        except (binascii.Error, ValueError):
            raise NotReady(
                f"The stored secret of {context} is not in sealed form ({PREFIX}...).", hint="Set it again."
            ) from None
        name, nonce, body = (
            data[:KEY_NAME_BYTES],
            data[KEY_NAME_BYTES : KEY_NAME_BYTES + NONCE_BYTES],
            data[KEY_NAME_BYTES + NONCE_BYTES :],
        )
        if name != self._name:
            raise NotReady(
                f"The stored secret of {context} was sealed with another key than that in {self._path}.",
                hint="Put the key file back that belongs to this database.",
            )
        try:
            return self._cipher.decrypt(nonce, body, context.encode()).decode()
        except InvalidTag:
            raise NotReady(
                f"The stored secret of {context} is damaged or was moved from another object (key file {self._path}).",
                hint="Set it again.",
            ) from None

    def derived(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose: always the same, and it tells nothing about the others."""
        return hashlib.blake2b(b"shoal derived key " + purpose.encode(), key=self._key, digest_size=KEY_BYTES).digest()

    @staticmethod
    def is_sealed(text: str) -> bool:
        return text.startswith(PREFIX)


def _create(file: Path, key: bytes) -> None:
    """No running key is overwritten: where another start made it first, that one counts."""
    with contextlib.suppress(FileExistsError), whole_file.written(file, replaces=False) as out:
        out.write(key)
    whole_file.flush(file.parent)
