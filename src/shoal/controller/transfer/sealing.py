"""Secrets in an exported file: sealed with a key from a passphrase, or not in it at all."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shoal.controller import passphrase
from shoal.controller.secrets import Secrets
from shoal.errors import Invalid, NotReady, Problem

CHECK = "check"
PLACE = Path("passphrase")


class Sealing:
    """Made by `begun` for a new file and by `of` for one that exists. ``said`` is what the file says about it."""

    def __init__(self, key: bytes, salt: bytes) -> None:
        self._secrets = Secrets(key, PLACE)
        self._salt = salt

    @classmethod
    async def begun(cls, words: str) -> Sealing:
        """Raises Invalid for a passphrase that is too short."""
        passphrase.check(words)
        salt = passphrase.fresh_salt()
        return cls(await passphrase.key_aside(words, salt), salt)

    @classmethod
    async def of(cls, said: Mapping[str, Any], words: str) -> Sealing:
        """Raises Invalid for another passphrase than the file was made with."""
        try:
            salt = base64.b64decode(str(said["salt"]), validate=True)
            sealing = cls(await passphrase.key_aside(words, salt), salt)
            sealing._secrets.unseal(str(said[CHECK]), CHECK)
        except (KeyError, ValueError, binascii.Error):
            raise Invalid("META.secrets of the file can't be read.") from None
        except NotReady:
            why = "is not the one that the file was exported with"
            raise Invalid([Problem(path="passphrase", why=why, hint="Without one, secrets are left out.")]) from None
        return sealing

    def said(self) -> dict[str, Any]:
        salt = base64.b64encode(self._salt).decode()
        return {"sealed_by": "scrypt+aes-256-gcm", "salt": salt, CHECK: self._secrets.seal("shoal", CHECK)}

    def seal(self, value: str, context: str) -> str:
        return self._secrets.seal(value, context)

    def open(self, value: str, context: str) -> str | None:
        """None for what was not sealed by this."""
        try:
            return self._secrets.unseal(value, context)
        except NotReady:
            return None


def context(endpoint: str, uuid: str, path: str) -> str:
    return f"export/{endpoint}/{uuid}/{path}"
