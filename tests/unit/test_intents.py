"""The VIPs in use, kept up change by change, are those that follow from all documents."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as some

from shoal.controller.intents import Intents
from shoal.controller.snapshot import vips_by_group
from shoal.objects import views

GROUPS, VSVIPS, SERVICES = ("g", "h"), ("a", "b", "c"), ("1", "2", "3", "4")


class Documents:
    """As much of a `View` as is read."""

    def __init__(self) -> None:
        self.of: dict[tuple[str, str], dict[str, Any]] = {}
        self._order: dict[tuple[str, str], int] = {}
        self._made = 0

    def put(self, type: str, uuid: str, document: dict[str, Any] | None) -> None:
        key = (type, uuid)
        if document is None:
            self.of.pop(key, None)
            self._order.pop(key, None)
            return
        self.of[key] = document
        if key not in self._order:
            self._made += 1
            self._order[key] = self._made

    def get(self, type: str, uuid: str) -> dict[str, Any] | None:
        return self.of.get((type, uuid))

    def all(self, type: str) -> list[dict[str, Any]]:
        return [document for (kind, _), document in self.of.items() if kind == type]

    def order(self, type: str, uuid: str) -> int:
        return self._order[type, uuid]

    def vips(self) -> dict[str, Any]:
        """From nothing."""
        services = [views.view(document, views.VirtualService) for document in self.all("virtualservice")]
        vsvips = [views.view(document, views.VsVip) for document in self.all("vsvip")]
        return vips_by_group(services, vsvips, lambda uuid: self.order("virtualservice", uuid))


def vsvip(uuid: str, addresses: int, enabled: bool) -> dict[str, Any]:
    vips = [
        {"vip_id": str(n), "enabled": enabled, "ip_address": {"addr": f"10.0.{ord(uuid)}.{n}", "type": "V4"}}
        for n in range(addresses)
    ]
    return {"uuid": uuid, "name": uuid, "vip": vips}


def service(uuid: str, group: str, shared: str, enabled: bool) -> dict[str, Any]:
    refs = {"se_group_ref": f"/api/serviceenginegroup/{group}", "vsvip_ref": f"/api/vsvip/{shared}#{shared}"}
    return {"uuid": uuid, "name": uuid, "enabled": enabled, **refs}


deletions = some.tuples(some.just("vsvip"), some.sampled_from(VSVIPS), some.none()) | some.tuples(
    some.just("virtualservice"), some.sampled_from(SERVICES), some.none()
)
writes = some.builds(vsvip, some.sampled_from(VSVIPS), some.integers(0, 2), some.booleans()).map(
    lambda document: ("vsvip", document["uuid"], document)
) | some.builds(
    service, some.sampled_from(SERVICES), some.sampled_from(GROUPS), some.sampled_from(VSVIPS), some.booleans()
).map(lambda document: ("virtualservice", document["uuid"], document))


@settings(max_examples=200, deadline=None)
@given(some.lists(writes | deletions, max_size=25), some.integers(0, 10))
def test_each_change_tells_what_is_not_as_it_was_and_leaves_what_all_documents_come_to(
    changes: list[Any], read_after: int
) -> None:
    documents = Documents()
    kept = Intents(cast(Any, documents))
    before: dict[str, Any] = {}
    for number, (type, uuid, document) in enumerate(changes):
        documents.put(type, uuid, document)
        told = kept.changed(type, uuid)
        after = documents.vips()
        if number < read_after:
            assert told == {}, "nobody has asked yet"
            continue
        for group in GROUPS:
            now, was = after.get(group, {}), before.get(group, {})
            if number > read_after:
                assert set(told.get(group, ())) == {id for id in {**was, **now} if was.get(id) != now.get(id)}
            assert dict(kept.of(group)) == now
        before = after
