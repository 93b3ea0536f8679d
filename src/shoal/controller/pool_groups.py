"""Pool groups: which of its pools a request may go to, and whose they are. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from shoal.objects import views
from shoal.objects.views import uuid_of, view
from shoal.wire.desired import Group, Member

from . import pools
from .protocols import Documents
from .view import View

Document = Mapping[str, Any]
OUT_OF_SERVICE = ("OUT_OF_SERVICE", "EVALUATION_FAILED")
_PARTS = re.compile(r"[0-9]+|[^0-9]+")
NAMES_POOLS = ("poolgroup", "httppolicyset", "l4policyset")
"""Types through which a virtual service may use a pool."""


def group_part(documents: Documents, uuid: str) -> Group | None:
    """None when there is no such group. A pool that is gone meanwhile is no member; a member that stands twice counts by
    the sum of its ratios."""
    document = documents.get("poolgroup", uuid)
    if document is None:
        return None
    group = view(document, views.PoolGroup)
    labels: Document | None = None
    if group.priority_labels_ref:
        labels = documents.get("prioritylabels", uuid_of(group.priority_labels_ref))
    elif group.implicit_priority_labels:
        labels = in_order(one.priority_label for one in group.members)
    members: dict[str, Member] = {}
    for one in group.members:
        pool = uuid_of(one.pool_ref)
        if documents.get("pool", pool) is None:
            continue
        ratio = 0 if one.deployment_state in OUT_OF_SERVICE else one.ratio
        before = members.get(pool)
        priority = _priority(one.priority_label, labels)
        if before is not None:
            ratio, priority = ratio + before.ratio, max(priority, before.priority)
        members[pool] = Member(pool=pool, ratio=ratio, priority=priority)
    return Group(
        id=uuid,
        name=group.name,
        members=tuple(members.values()),
        servers_min=max(1, group.min_servers),
        persistence=next(_persistences(documents, members), None),
        without_servers=pools.without_servers(group.fail_action),
    )


def in_order(labels: Iterable[str]) -> Document:
    """What a PriorityLabels object would say of labels that rank by themselves: the highest number goes first, and of texts
    that which stands last in a dictionary that reads numbers as such (``v10`` before ``v9``)."""
    ranked = sorted({label for label in labels if label}, key=_natural, reverse=True)
    return {"equivalent_labels": [{"labels": [label]} for label in ranked]}


def _natural(label: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in _PARTS.findall(label)]


def _priority(label: str, labels: Document | None) -> int:
    """The higher, the sooner; 0 for none. Labels are numbers, or those of a PriorityLabels object in its order."""
    if labels is None:
        return int(label) if label.isascii() and label.isdigit() else 0
    known = [one.get("labels") or () for one in labels.get("equivalent_labels") or ()]
    return next((len(known) - rank for rank, equal in enumerate(known) if label in equal), 0)


def _persistences(documents: Documents, members: Iterable[str]) -> Iterator[Any]:
    for pool in members:
        reference = (documents.get("pool", pool) or {}).get("application_persistence_profile_ref", "")
        document = documents.get("applicationpersistenceprofile", uuid_of(reference)) if reference else None
        kept = pools.persistence(view(document, views.ApplicationPersistenceProfile)) if document else None
        if kept is not None:
            yield kept


# --- whose pools ---


def default_pools(documents: Documents, service: Document) -> list[str]:
    """The pools, by uuid, of what no rule sends elsewhere."""
    if service.get("pool_ref"):
        return [uuid_of(service["pool_ref"])]
    group = group_part(documents, uuid_of(service.get("pool_group_ref") or ""))
    return [one.pool for one in group.members if one.ratio > 0] if group is not None else []


def users_of(documents: View, pool: str) -> list[str]:
    """The virtual services, by uuid, that may use a pool."""
    found: dict[str, None] = {}
    todo, seen = [pool], {pool}
    while todo:
        for type, uuid, _ in documents.referrers(todo.pop()):
            if type == "virtualservice":
                found[uuid] = None
            elif type in NAMES_POOLS and uuid not in seen:
                seen.add(uuid)
                todo.append(uuid)
    return list(found)
