"""What a virtual service wants replaced in servers' answers."""

from __future__ import annotations

from shoal.controller import rewriting
from shoal.objects.check import shown
from shoal.objects.views import ContentRewrite, uuid_of, view
from shoal.wire.policy import REWRITTEN_OCTETS_MAX, REWRITTEN_PAIRS_MAX

from .change import Around, Change

FIELD = "content_rewrite"


def check(change: Change, around: Around) -> None:
    given = change.document.get(FIELD)
    if not given:
        return
    wanted = view(given, ContentRewrite)
    for number, rule in enumerate(wanted.rsp_rewrite_rules):
        searched = set()
        for place, pair in enumerate(rule.pairs):
            path = f"{FIELD}.rsp_rewrite_rules[{number}].pairs[{place}]"
            if not rewriting.taken(pair):
                literal = f"search_string {rewriting.SEARCHED} and replacement_string {rewriting.PUT}"
                change.warnings.append(f"{path} does not act: only {literal} do.")
                continue
            search = pair.search_string.val
            for field, text, least in (("search_string", search, 1), ("replacement_string", rewriting.put(pair), 0)):
                octets = len(text.encode(errors="replace"))
                if not least <= octets <= REWRITTEN_OCTETS_MAX:
                    why = f"has {octets} octets; {least} to {REWRITTEN_OCTETS_MAX} can be"
                    change.wrong(f"{path}.{field}.val", why, shown(text))
            if search in searched:
                change.wrong(f"{path}.search_string.val", "is searched for by another pair", shown(search))
            searched.add(search)
        if len(searched) > REWRITTEN_PAIRS_MAX:
            why = f"{len(searched)} texts; {REWRITTEN_PAIRS_MAX} can be"
            change.wrong(f"{FIELD}.rsp_rewrite_rules[{number}].pairs", why)
    application = (
        around.view.get("applicationprofile", uuid_of(change.document.get("application_profile_ref") or "")) or {}
    )
    if application.get("type") != "APPLICATION_PROFILE_TYPE_HTTP":
        change.warnings.append(f"{FIELD} has no effect: {application.get('name')} is not HTTP.")
