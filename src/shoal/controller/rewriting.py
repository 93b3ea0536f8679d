"""From ``content_rewrite`` of a virtual service to `shoal.wire.policy.Rewriting`. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from shoal.objects import views
from shoal.objects.views import uuid_of
from shoal.wire import policy

from .http_profile import COMPRESSED
from .protocols import Documents

SEARCHED, PUT = "SEARCH_LITERAL_STRING", "LITERAL_STRING"


def rewriting_of(documents: Documents, wanted: views.ContentRewrite | None) -> policy.Rewriting | None:
    """None where there is nothing to replace."""
    if wanted is None:
        return None
    pairs = tuple((pair.search_string.val, put(pair)) for pair in pairs_of(wanted) if taken(pair))
    group = documents.get("stringgroup", uuid_of(wanted.rewritable_content_ref)) or {}
    types = tuple(one["key"].strip() for one in group.get("kv") or ())
    return policy.Rewriting(pairs=pairs, types=tuple(filter(None, types)) or COMPRESSED) if pairs else None


def pairs_of(wanted: views.ContentRewrite) -> Iterator[views.RewritePair]:
    """Of the rules that are on, in their order."""
    for rule in sorted(wanted.rsp_rewrite_rules, key=lambda rule: rule.index):
        yield from rule.pairs if rule.enable else ()


def taken(pair: views.RewritePair) -> bool:
    """Whether it says its texts itself."""
    replacement = pair.replacement_string
    return pair.search_string.type == SEARCHED and (replacement is None or replacement.type == PUT)


def put(pair: views.RewritePair) -> str:
    return pair.replacement_string.val if pair.replacement_string is not None else ""
