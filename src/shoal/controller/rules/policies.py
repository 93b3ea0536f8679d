"""HTTP policy sets and network security policies: every rule either acts as it says or is refused, or told of when it can't."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shoal.controller import datascripts, policies, selection
from shoal.objects.views import uuid_of
from shoal.wire.policy import COOKIE_VALUE, FINGERPRINT, LIMITS_MAX, NAME, TEXT_CHARACTERS_MAX, TOKEN

from .change import Around, Change

Document = Mapping[str, Any]
PERIOD_S_MAX = 86_400
AS_IN_A_MATCH = {field: field for field in ("addrs", "prefixes", "ranges", "group_refs")}


def check(change: Change, around: Around) -> None:
    limits = 0
    for kind in policies.SETS:
        rules = (change.document.get(kind) or {}).get("rules") or ()
        for number, rule in enumerate(rules):
            path = f"{kind}.rules[{number}]"
            check_match(change, around, f"{path}.match", rule.get("match") or {})
            _actions(change, path, rule)
            _switching(change, around, f"{path}.switching_action", rule.get("switching_action") or {})
            if profile := (rule.get("action") or {}).get("rate_profile"):
                limits += 1
                if profile["rate_limiter"]["period"] > PERIOD_S_MAX:
                    change.wrong(f"{path}.action.rate_profile.rate_limiter.period", f"must be 1..{PERIOD_S_MAX}")
        check_indices(change, f"{kind}.rules", rules)
    if limits > LIMITS_MAX:
        change.wrong(
            "http_security_policy.rules", f"{limits} rate limits; a virtual service can have {LIMITS_MAX}", limits
        )
    change.warnings += policies.untaken(around.view, change.document)


def _switching(change: Change, around: Around, path: str, action: Document) -> None:
    """It says where to, and a server is one of the pool's."""
    needed = {"HTTP_SWITCHING_SELECT_POOL": "pool_ref", "HTTP_SWITCHING_SELECT_POOLGROUP": "pool_group_ref"}
    field = needed.get(action.get("action", ""), "")
    if field and not action.get(field):
        change.wrong(f"{path}.{field}", f"must be given with {action['action']}")
    if (server := action.get("server")) and field == "pool_ref":
        change.address(f"{path}.server.ip", server["ip"])
        pool = around.view.get("pool", uuid_of(action.get("pool_ref") or "")) or {}
        name = policies.server_name(pool, server)
        if name not in (policies.server_name(pool, one) for one in pool.get("servers") or ()):
            change.warnings.append(
                f"{path}.server: {pool.get('name')} has no server {name}; its pool balances instead."
            )
    elif server:
        change.warnings.append(
            f"{path}.server has no effect: it is looked for in the pool of HTTP_SWITCHING_SELECT_POOL."
        )


def check_l4(change: Change, around: Around) -> None:
    rules = (change.document.get("l4_connection_policy") or {}).get("rules") or ()
    for number, rule in enumerate(rules):
        path, match = f"l4_connection_policy.rules[{number}]", rule.get("match") or {}
        if clients := match.get("client_ip"):
            check_clients(change, f"{path}.match.client_ip", clients)
        if (port := match.get("port")) and not (port.get("ports") or port.get("port_ranges")):
            change.wrong(f"{path}.match.port", "names no port", hint="Give ports or port_ranges.")
        chosen = (rule.get("action") or {}).get("select_pool") or {}
        needed = {"L4_RULE_ACTION_SELECT_POOL": "pool_ref", "L4_RULE_ACTION_SELECT_POOLGROUP": "pool_group_ref"}
        field = needed.get(chosen.get("action_type", ""), "")
        if field and not chosen.get(field):
            change.wrong(f"{path}.action.select_pool.{field}", f"must be given with {chosen['action_type']}")
        if not selection.of_tcp(match.get("protocol")):
            change.warnings.append(f"The rule {rule['name']} does not act: it is of no TCP connection.")
    check_indices(change, "l4_connection_policy.rules", rules)


def check_network(change: Change, around: Around) -> None:
    rules = change.document.get("rules") or ()
    for number, rule in enumerate(rules):
        path, match = f"rules[{number}].match", rule["match"]
        if clients := match.get("client_ip"):
            check_clients(change, f"{path}.client_ip", clients)
        ports = match.get("client_port") or {}
        if ports and not (ports.get("ports") or ports.get("ranges")):
            change.wrong(f"{path}.client_port", "names no port", hint="Give ports or ranges.")
    check_indices(change, "rules", rules)
    change.warnings += policies.untaken_connections(around.view, change.document)


def check_indices(change: Change, path: str, rules: Sequence[Document]) -> None:
    """Each has its own."""
    indices = [rule["index"] for rule in rules]
    if len(set(indices)) < len(indices):
        change.wrong(path, "two rules have the same index", hint="Give each its own; they go in that order.")


def check_match(change: Change, around: Around, path: str, match: Document) -> None:
    for of in ("client_ip", "source_ip"):
        if clients := match.get(of):
            check_clients(change, f"{path}.{of}", clients)
    texts = [(of, match[of]) for of in ("path", "query", "host_hdr", "cookie", "loc_hdr") if match.get(of)]
    for of in ("hdrs", "rsp_hdrs"):
        texts += [(f"{of}[{number}]", header) for number, header in enumerate(match.get(of) or ())]
    for of, text in texts:
        check_text(change, around, f"{path}.{of}", text)
    if hello := match.get("tls_fingerprint_match"):
        _fingerprints(change, around, f"{path}.tls_fingerprint_match", hello)
    for number, status in enumerate(_statuses(match.get("status") or {})):
        if not 100 <= status[0] <= status[1] <= 999:
            change.wrong(f"{path}.status[{number}]", "must be a status, or a range of them, in 100..999", status)


def _fingerprints(change: Change, around: Around, path: str, match: Document) -> None:
    found = list(policies.fingerprints_of(around.view, match))
    if wrong := next((one for one in found if not re.fullmatch(FINGERPRINT, one)), None):
        change.wrong(path, "must be JA3 fingerprints: 32 hexadecimal digits", wrong)
    if not found:
        change.wrong(path, "names no fingerprint", hint="Give fingerprints or string_group_refs.")


def _statuses(match: Document) -> Iterator[tuple[int, int]]:
    yield from ((code, code) for code in match.get("status_codes") or ())
    yield from ((one["begin"], one["end"]) for one in match.get("ranges") or ())


def check_clients(change: Change, path: str, clients: Document, named: Mapping[str, str] = AS_IN_A_MATCH) -> None:
    """A match on addresses names some, and they are what they say. ``named``: how the object calls its fields."""
    for number, address in enumerate(clients.get("addrs") or ()):
        change.address(f"{path}.{named['addrs']}[{number}]", address)
    for number, prefix in enumerate(clients.get("prefixes") or ()):
        where = f"{path}.{named['prefixes']}[{number}]"
        found = change.address(f"{where}.ip_addr", prefix["ip_addr"])
        if found is not None and prefix["mask"] > found.max_prefixlen:
            change.wrong(f"{where}.mask", f"must be 0..{found.max_prefixlen}", prefix["mask"])
    for number, bounds in enumerate(clients.get("ranges") or ()):
        where = f"{path}.{named['ranges']}[{number}]"
        ends = [change.address(f"{where}.{end}", bounds[end]) for end in ("begin", "end")]
        if None not in ends and not _ordered(*ends):
            change.wrong(where, "must go from a lower to a higher address of the same IP version")
    if not any(clients.get(field) for field in named):
        change.wrong(
            path, "names no address", hint=f"Give {', '.join(list(named.values())[:-1])} or {named['group_refs']}."
        )


def _ordered(first: Any, last: Any) -> bool:
    same = isinstance(first, ipaddress.IPv4Address) == isinstance(last, ipaddress.IPv4Address)
    return same and bool(first <= last)


def check_text(change: Change, around: Around, path: str, match: Document) -> None:
    for field in ("name", "hdr"):
        if field in match and not NAME.fullmatch(match[field]):
            change.wrong(f"{path}.{field}", "must be letters, digits, '_', '.' and '-'", match[field])
    if "EXIST" in match["match_criteria"]:
        return
    texts = list(policies.texts_of(around.view, match))
    if not texts and not match.get("string_group_refs"):
        change.wrong(path, "has nothing to compare with", hint="Give a value.")
    for text in texts:
        plain(change, path, text)
        if "REGEX" in match["match_criteria"]:
            try:
                re.compile(text)
            except re.error as error:
                change.wrong(path, f"is no regular expression: {error}", text)


def plain(change: Change, path: str, text: str, *, lines: bool = False) -> None:
    """Notes a text that has no place in an engine's configuration. ``lines``: it may have several."""
    control = re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", re.sub(r"[\n\r\t]", "", text) if lines else text)
    if len(text) > TEXT_CHARACTERS_MAX:
        change.wrong(path, f"has {len(text)} characters; {TEXT_CHARACTERS_MAX} can be")
    elif control:
        change.wrong(path, f"holds the control character {control[0]!r}", text)


def _actions(change: Change, path: str, rule: Document) -> None:
    for number, header in enumerate(rule.get("hdr_action") or ()):
        _header(change, f"{path}.hdr_action[{number}]", header)
    for part in ("redirect_action", "rewrite_url_action", "loc_hdr_action"):
        action = rule.get(part) or {}
        for of in ("host", "host_hdr", "path"):
            for number, token in enumerate((action.get(of) or {}).get("tokens") or ()):
                at = f"{path}.{part}.{of}.tokens[{number}]"
                plain(change, at, token.get("str_value", ""))
                if token.get("start_index", 0) > token.get("end_index", policies.LAST_TOKEN):
                    change.wrong(at, "ends before it begins")
        plain(change, f"{path}.{part}.add_string", action.get("add_string", ""))
        plain(change, f"{path}.{part}.query.add_string", (action.get("query") or {}).get("add_string", ""))
    security = rule.get("action") or {}
    for part, action in (
        ("switching_action", rule.get("switching_action") or {}),
        ("action", security),
        ("action.rate_profile.action", (security.get("rate_profile") or {}).get("action") or {}),
    ):
        if file := action.get("file"):
            plain(change, f"{path}.{part}.file.file_content", file["file_content"], lines=True)
            plain(change, f"{path}.{part}.file.content_type", file["content_type"])


def _header(change: Change, path: str, header: Document) -> None:
    wanted, cookie = header.get("hdr") or {}, header.get("cookie") or {}
    value = wanted.get("value") or {}
    if wanted and not TOKEN.fullmatch(wanted.get("name", "")):
        change.wrong(f"{path}.hdr.name", "must be a header name (RFC 9110, 5.6.2)", wanted.get("name", ""))
    if value.get("var") == "HTTP_POLICY_VAR_HTTP_HDR" and not NAME.fullmatch(value.get("val", "")):
        change.wrong(f"{path}.hdr.value.val", "must name the header whose value is taken", value.get("val", ""))
    for part, text in (("hdr.value.val", value.get("val", "")), ("cookie.value", cookie.get("value", ""))):
        plain(change, f"{path}.{part}", text)
    if cookie and header["action"] != "HTTP_ADD_HDR" and not NAME.fullmatch(cookie.get("name", "")):
        change.wrong(f"{path}.cookie.name", "must be letters, digits, '_', '.' and '-'", cookie.get("name", ""))
    if header["action"] == "HTTP_REPLACE_HDR" and not COOKIE_VALUE.fullmatch(cookie.get("value", "")):
        change.wrong(f"{path}.cookie.value", "must be the value of a cookie (RFC 6265, 4.1.1)", cookie["value"])
    plain(change, f"{path}.cookie.name", cookie.get("name", ""))


def check_strings(change: Change, around: Around) -> None:
    """What rules compare with, and make URLs of, must have a place in an engine's configuration."""
    for number, pair in enumerate(change.document.get("kv") or ()):
        for field in ("key", "value"):
            plain(change, f"kv[{number}].{field}", pair.get(field, ""))


def check_scripts(change: Change, around: Around) -> None:
    """A script of which a line can't be done is refused: half of it must not run."""
    for number, one in enumerate(change.document.get("datascript") or ()):
        try:
            datascripts.rules(change.document["name"], one["evt"], one["script"])
        except datascripts.Untaken as untaken:
            lines = one["script"].splitlines()
            value = lines[untaken.line - 1].strip() if untaken.line <= len(lines) else ""
            hint = "What is taken of DataScripts is in docs/compatibility.md."
            change.wrong(f"datascript[{number}].script", str(untaken), value, hint)
