"""The VIPs in use by the documents as they are now, of each group, kept up by what has changed."""

from __future__ import annotations

from collections.abc import Mapping

from shoal.objects import views
from shoal.objects.views import uuid_of, view

from .desired import VipIntent
from .snapshot import intents_of
from .view import View

Key = tuple[str, str]
"""(group, vsvip)."""


class Intents:
    """`vips_by_group` of the view, at the cost of what changes. Made when it is first asked."""

    def __init__(self, documents: View) -> None:
        self._documents = documents
        self._read = False
        self._services: dict[str, tuple[Key, views.VirtualService]] = {}
        self._sharing: dict[Key, dict[str, None]] = {}
        """The services of a VsVip in a group."""
        self._groups: dict[str, dict[str, None]] = {}
        """VsVip -> the groups in which it is used."""
        self._made: dict[Key, dict[str, VipIntent]] = {}
        self._of: dict[str, dict[str, VipIntent]] = {}

    def of(self, group: str) -> Mapping[str, VipIntent]:
        """By VIP; not in any order."""
        if not self._read:
            self._read = True
            for document in self._documents.all("virtualservice"):
                self._enter(view(document, views.VirtualService))
            for key in list(self._sharing):
                self._make(key)
        return self._of.get(group, {})

    def changed(self, type: str, uuid: str) -> dict[str, list[str]]:
        """A virtual service or a VsVip was written or deleted: the VIPs that are not what they were, by group."""
        if not self._read:
            return {}
        keys = dict.fromkeys((group, uuid) for group in self._groups.get(uuid, ())) if type == "vsvip" else {}
        if type == "virtualservice":
            if uuid in self._services:
                keys[self._leave(uuid)] = None
            document = self._documents.get(type, uuid)
            if document is not None:
                keys[self._enter(view(document, views.VirtualService))] = None
        found: dict[str, list[str]] = {}
        for key in keys:
            if ids := self._make(key):
                found.setdefault(key[0], []).extend(ids)
        return found

    def of_service(self, uuid: str) -> tuple[str, list[str]]:
        """(its group, its VIPs)."""
        if uuid not in self._services:
            return "", []
        key, _ = self._services[uuid]
        return key[0], list(self._made.get(key, ()))

    def _enter(self, service: views.VirtualService) -> Key:
        key = (uuid_of(service.se_group_ref), uuid_of(service.vsvip_ref))
        self._services[service.uuid] = (key, service)
        self._sharing.setdefault(key, {})[service.uuid] = None
        self._groups.setdefault(key[1], {})[key[0]] = None
        return key

    def _leave(self, uuid: str) -> Key:
        key, _ = self._services.pop(uuid)
        del self._sharing[key][uuid]
        return key

    def _make(self, key: Key) -> list[str]:
        """The VIPs that are not what they were."""
        group, vsvip = key
        before, of_group = self._made.pop(key, {}), self._of.setdefault(group, {})
        uuids = sorted(self._sharing[key], key=lambda uuid: self._documents.order("virtualservice", uuid))
        document = self._documents.get("vsvip", vsvip)
        if not uuids:
            del self._sharing[key]
            del self._groups[vsvip][group]
            if not self._groups[vsvip]:
                del self._groups[vsvip]
        made: dict[str, VipIntent] = {}
        if uuids and document is not None:
            order = self._documents.order("virtualservice", uuids[0])
            sharing = tuple(self._services[uuid][1] for uuid in uuids)
            made = {intent.id: intent for intent in intents_of(view(document, views.VsVip), sharing, order)}
            self._made[key] = made
        for gone in before.keys() - made.keys():
            del of_group[gone]
        of_group |= made
        return [id for id in {**before, **made} if before.get(id) != made.get(id)]
