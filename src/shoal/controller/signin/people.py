"""From what an outside system says of a person to a User with roles: made at the first sign-in, renewed at each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shoal.controller.intent import SYSTEM, Intent
from shoal.controller.view import View
from shoal.errors import Unauthenticated

from .directory import Person

Document = dict[str, Any]
NOT = "AUTH_MATCH_DOES_NOT_CONTAIN"
EVERYWHERE = "ASSIGN_ALL"
NAME_CHARACTERS_MAX = 200


def access(mapping: Mapping[str, Any], person: Person) -> tuple[list[Document], bool]:
    """(access entries, whether a superuser), by the rules that match, in their order."""
    entries: list[Document] = []
    superuser = False
    for rule in sorted(mapping.get("rules") or (), key=lambda rule: int(rule.get("index", 0))):
        if not _matches(rule, person):
            continue
        superuser = superuser or bool(rule.get("is_superuser"))
        for role in rule.get("role_refs") or ():
            if rule.get("assign_tenant") == EVERYWHERE:
                entries.append({"role_ref": role, "all_tenants": True})
            else:
                entries += [{"role_ref": role, "tenant_ref": tenant} for tenant in rule.get("tenant_refs") or ()]
    return [entry for number, entry in enumerate(entries) if entry not in entries[:number]], superuser


async def kept(intent: Intent, view: View, mapping: Mapping[str, Any], person: Person) -> Document:
    """The User that the person is. Raises Unauthenticated where no rule lets him in, or the name is a local user's."""
    entries, superuser = access(mapping, person)
    if not entries and not superuser:
        raise Unauthenticated(f"{person.name[:80]} is known there, and no rule of the mapping gives a role here.")
    if not person.name.isprintable() or ":" in person.name or len(person.name) > NAME_CHARACTERS_MAX:
        raise Unauthenticated("The name that the other system gives can't be a user's here.")
    known = next((u for u in view.all("user") if person.name in (u["name"], u.get("username"))), None)
    if known is not None and known.get("local", True):
        raise Unauthenticated(f"{person.name[:80]} is a local user here, and signs in with a password.")
    if known is not None and not known.get("is_active", True):
        raise Unauthenticated("The user is switched off here.")
    fields: Document = {"access": entries, "is_superuser": superuser}
    fields |= {n: v for n, v in (("full_name", person.full_name), ("email", person.email)) if v}
    if known is None:
        body = {"name": person.name, "username": person.name, "local": False, **fields}
        return (await intent.create("user", body, SYSTEM)).doc
    if all(known.get(name) == value for name, value in fields.items()):
        return known
    return (await intent.patch("user", known["uuid"], {"replace": fields}, SYSTEM)).doc


def _matches(rule: Mapping[str, Any], person: Person) -> bool:
    groups = {name for group in person.groups for name in _names(group)}
    wanted = rule.get("group_match")
    if wanted:
        some = any(name.lower() in groups for name in wanted.get("groups") or ())
        if some is (wanted.get("criteria") == NOT):
            return False
    attribute = rule.get("attribute_match")
    if attribute:
        values = person.attributes.get(str(attribute.get("name", "")).lower(), ())
        some = any(value in values for value in attribute.get("values") or ())
        if some is (attribute.get("criteria") == NOT):
            return False
    return True


def _names(group: str) -> set[str]:
    """A group by its DN, and by the name at its front."""
    first = group.partition(",")[0]
    return {group.lower(), first.partition("=")[2].lower() or first.lower()}
