"""Alerts: what could never fire, or be sent, is refused when it is written."""

from __future__ import annotations

from urllib.parse import urlsplit

from shoal.controller.alerts import rules, senders, traps
from shoal.controller.metric_ids import METRICS
from shoal.objects.check import meant
from shoal.objects.views import uuid_of

from .change import Around, Change

MAILS_MAX = 50
PASSPHRASE_CHARACTERS_MIN = 8
"""RFC 3414, 11.2."""


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


def check_syslog(change: Change, around: Around) -> None:
    """A certificate that can't be shown, or never would be."""
    for number, server in enumerate(change.document.get("syslog_servers") or ()):
        where = f"syslog_servers[{number}].ssl_key_and_certificate_ref"
        own = server.get("ssl_key_and_certificate_ref")
        found = around.view.get("sslkeyandcertificate", uuid_of(own)) if own else None
        if found is not None and not (found.get("key") and found["certificate"].get("certificate")):
            why = f"{found['name']} has no {'certificate yet' if found.get('key') else 'private key'}"
            change.wrong(where, why, hint="Give one with certificate and key.")
        elif own and not server.get("tls_enable"):
            change.warnings.append(f"{where} has no effect without tls_enable.")


def check_traps(change: Change, around: Around) -> None:
    """Receivers of version 3 must know the engine's id, so it is told."""
    third = False
    given = change.raw.get("trap_servers") or ()
    for number, server in enumerate(change.document.get("trap_servers") or ()):
        if server.get("version", "SNMP_VER2") == "SNMP_VER2":
            continue
        third, where = True, f"trap_servers[{number}].user"
        if not (server.get("user") or {}).get("username"):
            change.wrong(f"{where}.username", "required for SNMP_VER3, and missing")
        raw = given[number].get("user") if number < len(given) and isinstance(given[number], dict) else None
        for field in ("auth_passphrase", "priv_passphrase"):
            value = raw.get(field) if isinstance(raw, dict) else None
            if isinstance(value, str) and value and len(value) < PASSPHRASE_CHARACTERS_MIN:
                change.wrong(f"{where}.{field}", f"must have {PASSPHRASE_CHARACTERS_MIN} characters or more")
    if third:
        system = next(iter(around.view.all("systemconfiguration")), {})
        cluster = next(iter(around.view.all("cluster")), {})
        try:
            engine = traps.engine_id(system, cluster.get("uuid", "")).hex()
        except ValueError as error:
            change.warnings.append(f"snmp_v3_config.engine_id of the system configuration {error}: no trap is sent.")
        else:
            change.warnings.append(f"Traps of version 3 are by engine 0x{engine}: their receivers must know it.")
