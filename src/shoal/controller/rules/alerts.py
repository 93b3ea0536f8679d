"""Alerts: what could never fire, or be sent, is refused when it is written."""

from __future__ import annotations

from urllib.parse import urlsplit

from shoal.controller.alerts import rules, senders
from shoal.controller.metric_ids import METRICS
from shoal.objects.check import meant

from .change import Around, Change

MAILS_MAX = 50


def check(change: Change, around: Around) -> None:
    config = change.document
    rule = config.get("alert_rule") or {}
    if unreadable := rules.unreadable(rule.get("event_match_filter", "")):
        hint = "Such as eq(event_id,[SE_DOWN,SE_UP]); co(all,words); several joined by a semicolon."
        change.wrong("alert_rule.event_match_filter", "can't be read", unreadable, hint)
    if config["source"] == rules.EVENTS and not (rule.get("sys_event_rule") or rule.get("event_match_filter")):
        change.wrong("alert_rule", "needs sys_event_rule or event_match_filter", hint="co(all,) is every event.")
    kinds = set()
    for number, one in enumerate(rule.get("metrics_rule") or ()):
        metric = METRICS.get(one.get("metric_id", ""))
        if metric is None:
            where = f"alert_rule.metrics_rule[{number}].metric_id"
            change.wrong(
                where, "is no metric of Shoal's", one.get("metric_id", ""), meant(one.get("metric_id", ""), METRICS)
            )
        else:
            kinds.add(metric.kind)
    if config["source"] == rules.FIGURES and not rule.get("metrics_rule"):
        change.wrong("alert_rule.metrics_rule", "required, and missing")
    if len(kinds) > 1:
        change.wrong("alert_rule.metrics_rule", f"is about {' and '.join(sorted(kinds))}: one kind of object at a time")


def check_mail(change: Change, around: Around) -> None:
    for field in ("to_emails", "cc_emails"):
        found = senders.addresses(change.document.get(field, ""))
        odd = [a for a in found if a.count("@") != 1 or not a.isprintable() or any(c in a for c in ' <>"\r\n')]
        if odd or len(found) > MAILS_MAX or (field == "to_emails" and not found):
            hint = "Such as ops@example.org, night@example.org."
            change.wrong(field, f"must be 1 to {MAILS_MAX} addresses with commas between", ", ".join(odd), hint)


def check_actions(change: Change, around: Around) -> None:
    """A webhook makes the controller call an address, inside its own network maybe: not for everybody to choose."""
    url, before = change.document.get("webhook_url", ""), (change.before or {}).get("webhook_url", "")
    try:
        fine = not url or (urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).hostname))
    except ValueError:
        fine = False
    if not fine:
        change.wrong("webhook_url", "must be an http or https address", url)
    if url != before and url and not (change.rights.whole or change.sight.whole or change.system):
        change.wrong(
            "webhook_url", "is called from the controller's own network", hint="That takes access to all tenants."
        )
