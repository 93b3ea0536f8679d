"""The secrets of an object in a file: opened, kept as they are here already, or left out, each with what is to be said of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from shoal.controller import certificates, forms, passwords
from shoal.controller.certificates import Unreadable
from shoal.controller.secrets import PREFIX as SEALED
from shoal.objects import ObjectType
from shoal.objects.types import SENSITIVE_MASK

from .sealing import Sealing, context

Document = dict[str, Any]
MASKED = "a secret, and not in the file: give it anew"
LOCKED = "a secret, sealed in the file: import it with its passphrase (--secrets), or give it anew"
THEIRS = "a secret that only the controller it comes from can open: give it anew"
HASHED = "a hash that only the controller it comes from can check: give a password anew"
UNSURE = "a secret, taken as the file has it; if that was exported with a passphrase, it is sealed: then give it anew"
_HASH = re.compile(r"\$?[a-z][a-z0-9_-]*\$.+\$.+")
"""A scheme and its parts, as password hashes are written (``pbkdf2_sha256$...``, ``$6$...``)."""


class Given:
    """Of one object. ``here``: the secrets that it has in this system, by their place; ``foreign``: another product has
    written the file. ``anew`` is filled by `opened`."""

    def __init__(
        self, kind: ObjectType, sealing: Sealing | None, here: Mapping[str, set[str]], *, foreign: bool
    ) -> None:
        self._kind = kind
        self._sealing = sealing
        self._here = here
        self._foreign = foreign
        self.anew: dict[str, str] = {}
        """Place -> why somebody has to give the secret there anew, or to look at it."""

    def opened(self, raw: Mapping[str, Any]) -> Document:
        """The object with its secrets in plain text; one that is here already stays."""
        left_out: set[str] = set()

        def secret(path: str, value: str) -> str:
            if value and self._sealing is not None:
                found = self._sealing.open(value, context(self._kind.endpoint, str(raw.get("uuid")), path))
                if found is not None:
                    return SENSITIVE_MASK if self._here.get(path) == {found} else found
            why = self._unreadable(path, value, raw)
            if why and any(self._here.get(path, ())):
                return SENSITIVE_MASK
            if why:
                self.anew[path] = why
                left_out.add(path)
                return ""
            if value and self._here.get(path) == {value}:
                return SENSITIVE_MASK
            if value and self._foreign and not self._is_plain(path, value, raw):
                self.anew.setdefault(path, UNSURE)
            return value

        opened = self._kind.map_sensitive(raw, secret)
        return {name: value for name, value in opened.items() if not (name in left_out and value == "")}

    def _is_plain(self, path: str, value: str, raw: Mapping[str, Any]) -> bool:
        """A key in PEM, what opens it, or a hash of ours, is what it seems to be."""
        opens = path == "key_passphrase" and _opens(str(raw.get("key") or ""), raw)
        return opens or forms.is_pem(value) or value.startswith(passwords.PREFIX)

    def _unreadable(self, path: str, value: str, raw: Mapping[str, Any]) -> str:
        """Why this can't be what the secret is; "" if it can."""
        if value == SENSITIVE_MASK:
            return MASKED
        if value.startswith(SEALED):
            return LOCKED
        if self._kind.endpoint == "user" and _HASH.fullmatch(value) and not value.startswith(passwords.PREFIX):
            return HASHED
        if self._kind.endpoint == "sslkeyandcertificate" and path == "key" and value and not _opens(value, raw):
            return THEIRS
        return ""


def _opens(key: str, raw: Mapping[str, Any]) -> bool:
    """Whether a private key can be read as the object says; what is no key in PEM at all is told when it is written."""
    if raw.get("key_base64") or raw.get("format") == "SSL_PKCS12":
        return True
    if not forms.is_pem(key):
        return False
    if "ENCRYPTED" not in key:
        return True
    try:
        certificates.private_key(key, str(raw.get("key_passphrase") or ""))
    except Unreadable:
        return False
    return True
