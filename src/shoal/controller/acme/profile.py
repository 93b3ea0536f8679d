"""CertificateManagementProfiles whose script is System-ACME: an authority, and how the controller is known to it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from shoal.controller.certificates import plain_pem
from shoal.controller.protocols import Documents
from shoal.objects.views import uuid_of

SCRIPT = "System-ACME"
"""The AlertScriptConfig that stands for it: other scripts are not run."""
ORDER_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the curve's group (FIPS 186-5): private keys are below."""
Derive = Callable[[str], bytes]
"""Purpose -> 32 octets, always the same."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """``directory`` is the URL the authority is known by; ``contact`` mail addresses; ``trust`` in PEM, "" = the system's."""

    uuid: str
    name: str
    directory: str = ""
    contact: tuple[str, ...] = ()
    trust: str = ""


def read(documents: Documents, reference: str) -> Profile | None:
    """None for a reference to anything but an ACME profile."""
    found = documents.get("certificatemanagementprofile", uuid_of(reference)) if reference else None
    if found is None or not is_acme(documents, found):
        return None
    given = params(found)
    return Profile(
        uuid=found["uuid"],
        name=found["name"],
        directory=given.get("directory_url", ""),
        contact=tuple(one.strip() for one in given.get("contact", "").split(",") if one.strip()),
        trust=given.get("ca_certs", ""),
    )


def is_acme(documents: Documents, profile: Mapping[str, Any]) -> bool:
    script = documents.get("alertscriptconfig", uuid_of(profile.get("run_script_ref", "")))
    return script is not None and script["name"] == SCRIPT


def params(profile: Mapping[str, Any]) -> dict[str, str]:
    return {one["name"]: str(one.get("value") or "") for one in profile.get("script_params") or ()}


def account_key(derive: Derive, profile: str) -> ECKey:
    """What the controller is known by to the authority. It follows from the data directory's key, so it is nowhere stored,
    and after a restore it is the same account."""
    secret = int.from_bytes(derive(f"acme/{profile}")) % (ORDER_P256 - 1) + 1
    return ECKey.import_key(plain_pem(ec.derive_private_key(secret, ec.SECP256R1())))


def context(profile: Profile) -> ssl.SSLContext:
    """Raises ssl.SSLError for a trust that can't be read."""
    return ssl.create_default_context(cadata=profile.trust or None)
