"""One write on its way through the rules, and what the rules may look at."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from shoal.controller.freed import Freed
from shoal.controller.permissions import WHOLE, Rights
from shoal.controller.sight import EVERYTHING, Sight
from shoal.controller.view import View
from shoal.errors import Problem

Document = dict[str, Any]
NAMED_MAX = 8
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Change(msgspec.Struct, kw_only=True):
    """One write on its way. ``raw`` is as the client gave it, ``document`` complete; ``before`` the stored one."""

    type: str
    uuid: str
    raw: Document
    before: Document | None = None
    touched: set[str] | None = None
    """For PATCH: the fields the patch names."""
    document: Document = {}
    warnings: list[str] = []
    problems: list[Problem] = []
    system: bool = False
    """The controller's own write."""
    sight: Sight = EVERYTHING
    """What the writer sees: nothing else is named to him."""
    rights: Rights = WHOLE
    """What the writer may: nobody gives away more than that."""
    made_key: str = ""
    """A private key in PEM that was made for this write."""
    hashes: frozenset[str] = frozenset()
    """Of the passwords that this write sets."""
    unseal: Callable[[str, str], str] = lambda field, value: value
    """Opens what a write keeps of the stored secrets: ``unseal(field, value)``."""

    def secret(self, field: str) -> str:
        """A first-level secret in plain text; "" when there is none."""
        value = self.document.get(field)
        return self.unseal(field, value) if value else ""

    def wrong(self, path: str, why: str, value: object = "", hint: str = "") -> None:
        self.problems.append(Problem(path=path, why=why, value=str(value)[:60] if value != "" else "", hint=hint))

    def named(self, services: Sequence[Document]) -> str:
        """Virtual services by name, as far as the writer sees them."""
        names = [service["name"] for service in services if self.sight.sees("virtualservice", service)]
        return ", ".join(names[:NAMED_MAX]) or "of another tenant"

    def default(self, view: View, field: str, type: str, name: str) -> None:
        """The reference ``field``, when the client gives none, is to the object of that name."""
        named = self.raw.get(field.removesuffix("_ref") + "_name")
        if self.raw.get(field) in (None, "") and named in (None, ""):
            found = view.oldest_named(type, name)
            if found is not None:
                self.raw[field] = f"/api/{type}/{found['uuid']}"

    def address(self, path: str, value: Document, *versions: int) -> Address | None:
        """The address an IpAddr holds, whose text is made canonical (RFC 5952); None with a problem noted.

        ``path`` is the IpAddr's; ``versions`` of IP that are taken, both when none is named.
        """
        text, kinds = value["addr"], " or ".join(f"IPv{version}" for version in versions or (4, 6))
        try:
            found = ipaddress.ip_address(text)
        except ValueError:
            self.wrong(f"{path}.addr", f"must be an {kinds} address", text)
            return None
        if versions and found.version not in versions:
            self.wrong(f"{path}.addr", f"must be an {kinds} address", text)
        elif isinstance(found, ipaddress.IPv6Address) and found.scope_id is not None:
            self.wrong(f"{path}.addr", "has a scope: it means something on one machine only", text)
        elif isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            self.wrong(f"{path}.addr", "is an IPv4 address in IPv6 form", text, f"Give {found.ipv4_mapped}.")
        elif value.get("type") in ("V4", "V6") and value["type"] != f"V{found.version}":
            self.wrong(f"{path}.type", f"is {value['type']}, and {found} is IPv{found.version}", value["type"])
        else:
            value["addr"] = str(found)
            return found
        return None


class Around(NamedTuple):
    """What a rule may look at: all objects, which addresses are the engines' own, and which were freed just now."""

    view: View
    reserved: Callable[[str], bool]
    freed: Freed

    def services_of(self, change: Change) -> list[Document]:
        """The virtual services that refer to the object."""
        uuids = [uuid for type, uuid, _ in self.view.referrers(change.uuid) if type == "virtualservice"]
        return [found for uuid in uuids if (found := self.view.get("virtualservice", uuid)) is not None]


Rule = Callable[[Change, Around], None]
