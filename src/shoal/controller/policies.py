"""From HTTPPolicySet documents to the rules an engine carries out (`shoal.wire.policy`). Pure.

What has no counterpart there is told by `untaken`; a rule with such a condition does not act at all: a condition that
is left out would make it act on more.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from shoal.objects import views
from shoal.objects.views import uuid_of, view
from shoal.wire import policy

from . import pools
from .addresses import matching
from .protocols import Documents

Document = Mapping[str, Any]
ALLOW, DENY, RATE_LIMIT = (f"NETWORK_SECURITY_POLICY_ACTION_TYPE_{kind}" for kind in ("ALLOW", "DENY", "RATE_LIMIT"))
SETS = ("http_security_policy", "http_request_policy", "http_response_policy")
PHASES = dict(zip(SETS, (policy.SECURITY, policy.REQUEST, policy.RESPONSE), strict=True))
TAKEN = {
    "client_ip",
    "source_ip",
    "vs_port",
    "protocol",
    "method",
    "version",
    "path",
    "query",
    "hdrs",
    "cookie",
    "host_hdr",
    "status",
    "rsp_hdrs",
    "loc_hdr",
    "tls_fingerprint_match",
}
"""Members of MatchTarget and ResponseMatchTarget."""
BY_DATABASE = {"geo_matches", "ip_reputation_type"}
"""And those that a policy's databases answer."""
COMPARISONS = {
    "BEGIN": "begins",
    "CONTAIN": "contains",
    "END": "ends",
    "EQUAL": "equals",
    "REGEX": "regex",
    "EXIST": "exists",
}
VARIABLES = {
    "HTTP_POLICY_VAR_CLIENT_IP": "client_ip",
    "HTTP_POLICY_VAR_SOURCE_IP": "source_ip",
    "HTTP_POLICY_VAR_VS_PORT": "vs_port",
    "HTTP_POLICY_VAR_REQUEST_ID": "request_id",
    "HTTP_POLICY_VAR_USER_NAME": "user_name",
    "HTTP_POLICY_VAR_VS_IP": "vs_ip",
    "HTTP_POLICY_VAR_HTTP_HDR": "header",
    "HTTP_POLICY_VAR_SSL_CLIENT_FINGERPRINT": "ssl_client_fingerprint",
    "HTTP_POLICY_VAR_SSL_CLIENT_SERIAL": "ssl_client_serial",
    "HTTP_POLICY_VAR_SSL_CLIENT_ISSUER": "ssl_client_issuer",
    "HTTP_POLICY_VAR_SSL_CLIENT_SUBJECT": "ssl_client_subject",
    "HTTP_POLICY_VAR_SSL_CLIENT_RAW": "ssl_client_raw",
    "HTTP_POLICY_VAR_SSL_CLIENT_ESCAPED": "ssl_client_escaped",
    "HTTP_POLICY_VAR_SSL_CLIENT_VERSION": "ssl_client_version",
    "HTTP_POLICY_VAR_SSL_CLIENT_SIGALG": "ssl_client_sigalg",
    "HTTP_POLICY_VAR_SSL_CLIENT_NOTVALIDBEFORE": "ssl_client_notbefore",
    "HTTP_POLICY_VAR_SSL_CLIENT_NOTVALIDAFTER": "ssl_client_notafter",
    "HTTP_POLICY_VAR_SSL_PROTOCOL": "ssl_protocol",
    "HTTP_POLICY_VAR_SSL_SERVER_NAME": "ssl_server_name",
    "HTTP_POLICY_VAR_SSL_CIPHER": "ssl_cipher",
}
HEADER_ACTIONS = {"HTTP_ADD_HDR": "add", "HTTP_REPLACE_HDR": "replace", "HTTP_REMOVE_HDR": "remove"}
PIECES = {"URI_TOKEN_TYPE_HOST": "host", "URI_TOKEN_TYPE_PATH": "path", "URI_TOKEN_TYPE_STRING": "text"}
FOUND = "URI_TOKEN_TYPE_STRING_GROUP"
LOOKED_UP = {"path": "path", "query": "query", "host_hdr": "host"}
"""Members of a match that can have string groups."""
SIDES = {kind: "Set-Cookie" if phase == policy.RESPONSE else "Cookie" for kind, phase in PHASES.items()}
"""The header of cookies."""
LAST_TOKEN = 65534
"""``end_index`` from here on: to the end."""


def rules_of(documents: Documents, links: Iterable[views.HttpPolicies]) -> tuple[policy.Rule, ...]:
    """Of a virtual service's policy sets in the order of their index, security rules first."""
    uuids = [uuid_of(link.http_policy_set_ref) for link in sorted(links, key=lambda link: link.index)]
    sets = [found for uuid in uuids if (found := documents.get("httppolicyset", uuid)) is not None]
    return tuple(rule for kind in SETS for one in sets for rule in _rules(documents, kind, one))


def tests_of(documents: Documents, match: Document) -> tuple[policy.Test, ...]:
    """Of a MatchTarget of which `untaken_match` names nothing."""
    return tuple(_tests(documents, match))


def clients_of(documents: Documents, match: Document) -> policy.Test:
    """Of an IpAddrMatch."""
    return policy.Test(of="client", values=tuple(networks_of(documents, match)), negated=_not_in(match))


def connection_rules_of(documents: Documents, reference: str) -> tuple[policy.Rule, ...]:
    """Of a NetworkSecurityPolicy."""
    found: Document = (documents.get("networksecuritypolicy", uuid_of(reference)) if reference else None) or {}
    rules = sorted(found.get("rules") or (), key=lambda rule: rule["index"])
    return tuple(
        policy.Rule(
            name=rule["name"],
            phase=policy.CONNECTION,
            tests=(*_connection_tests(documents, rule["match"]), *known),
            actions=tuple(_connection_actions(rule)),
        )
        for rule in rules
        if rule["enable"]
        and any(_connection_actions(rule))
        and not any(untaken_connection_match(rule))
        and (known := matching.tests_of(documents, found, rule["match"])) is not None
    )


def _connection_actions(rule: Document) -> Iterator[policy.Action]:
    """What keeps within a limit is allowed."""
    if rule["action"] == RATE_LIMIT and (limit := rule.get("rl_param")):
        yield policy.Limit(count=limit["max_rate"], burst=limit["burst_size"], then=policy.Drop())
    if rule["action"] == DENY:
        yield policy.Close()
    elif rule["action"] == ALLOW or rule.get("rl_param"):
        yield policy.Allow()


def untaken_connections(documents: Documents, document: Document) -> list[str]:
    """One sentence for each rule of a NetworkSecurityPolicy that does not act."""
    found: list[str] = []
    for rule in document.get("rules") or ():
        found += odd_values(rule)
        if why := matching.why_not(documents, document, rule["match"]):
            found.append(f"The rule {rule['name']} does not act: {why}.")
        elif matches := list(untaken_connection_match(rule)):
            found.append(f"The rule {rule['name']} does not act: there is no matching of {', '.join(matches)}.")
        elif not any(_connection_actions(rule)):
            found.append(f"The rule {rule['name']} does not act: it has no rl_param.")
    return found


def untaken_connection_match(rule: Document) -> Iterator[str]:
    for name, value in (rule.get("match") or {}).items():
        if name not in ("client_ip", "client_port", "vs_port", *BY_DATABASE) and value:
            yield name


def _connection_tests(documents: Documents, match: Document) -> Iterator[policy.Test]:
    if clients := match.get("client_ip"):
        yield clients_of(documents, clients)
    if ports := match.get("client_port"):
        ranges = (f"{one['start']}:{one['end']}" for one in ports.get("ranges") or ())
        values = (*map(str, ports.get("ports") or ()), *ranges)
        yield policy.Test(of="client_port", values=values, negated=_not_in(ports))
    if ports := match.get("vs_port"):
        yield policy.Test(of="port", values=tuple(map(str, ports["ports"])), negated=_not_in(ports))


def _rules(documents: Documents, kind: str, policy_set: Document) -> Iterator[policy.Rule]:
    for rule in sorted((policy_set.get(kind) or {}).get("rules") or (), key=lambda rule: rule["index"]):
        known = matching.tests_of(documents, policy_set, rule.get("match") or {})
        if rule.get("enable", True) and known is not None and not any(untaken_match(rule, BY_DATABASE)):
            tests = (*_tests(documents, rule.get("match") or {}), *known)
            actions = tuple(_actions(documents, kind, rule))
            if actions or rule.get("log"):
                yield policy.Rule(
                    name=rule["name"],
                    phase=PHASES[kind],
                    tests=tests,
                    actions=actions,
                    lookup=_lookup(documents, rule),
                    log=rule.get("log", False),
                )


# --- what is not taken ---


def untaken(documents: Documents, policy_set: Document) -> list[str]:
    """One sentence for each rule of which something does not act."""
    found: list[str] = []
    for kind in SETS:
        for rule in (policy_set.get(kind) or {}).get("rules") or ():
            name = rule["name"]
            found += odd_values(rule)
            if why := matching.why_not(documents, policy_set, rule.get("match") or {}):
                found.append(f"The rule {name} does not act: {why}.")
            elif matches := list(untaken_match(rule, BY_DATABASE)):
                found.append(f"The rule {name} does not act: there is no matching of {', '.join(matches)}.")
            elif actions := list(_untaken_actions(rule, SIDES[kind])):
                found.append(f"In the rule {name} this does not act: {', '.join(actions)}.")
    return found


def odd_values(rule: Document) -> Iterator[str]:
    return (f"In the rule {rule['name']} {said}." for said in matching.odd_values(rule.get("match") or {}))


def untaken_match(rule: Document, also: Collection[str] = ()) -> Iterator[str]:
    """Members of a match that engines can't do, beside what is ``also`` taken."""
    for name, value in (rule.get("match") or {}).items():
        if name not in TAKEN and name not in also and value:
            yield name


def _untaken_actions(rule: Document, side: str) -> Iterator[str]:
    for part in ("redirect_action", "rewrite_url_action", "loc_hdr_action"):
        for of in ("host", "host_hdr", "path"):
            tokens = _tokens((rule.get(part) or {}).get(of))
            known = PIECES.keys() | ({FOUND} if _looked_up(rule) else set())
            if any(token["type"] not in known for token in tokens):
                yield f"{part}.{of}"
    for header in rule.get("hdr_action") or ():
        value = (header.get("hdr") or {}).get("value") or {}
        if value.get("var") and value["var"] not in VARIABLES:
            yield f"hdr_action of {value['var']}"
        if header.get("cookie") and header["action"] == "HTTP_REMOVE_HDR" and side == "Set-Cookie":
            yield "hdr_action that removes a cookie of a response"
    action = (rule.get("action") or {}).get("action", "")
    if action == "HTTP_SECURITY_ACTION_REQUEST_CHECK_ICAP":
        yield action


# --- conditions ---


def _tests(documents: Documents, match: Document) -> Iterator[policy.Test]:
    for field, of in (("client_ip", "client"), ("source_ip", "source")):
        if clients := match.get(field):
            yield policy.Test(of=of, values=tuple(networks_of(documents, clients)), negated=_not_in(clients))
    if ports := match.get("vs_port"):
        yield policy.Test(of="port", values=tuple(map(str, ports["ports"])), negated=_not_in(ports))
    if protocol := match.get("protocol"):
        yield policy.Test(of="tls", negated=(protocol["protocols"] == "HTTP") != _not_in(protocol))
    if hello := match.get("tls_fingerprint_match"):
        values = tuple(fingerprints_of(documents, hello))
        yield policy.Test(of="hello", values=values, negated=hello["match_operation"] == "IS_NOT_IN")
    if method := match.get("method"):
        names = tuple(name.removeprefix("HTTP_METHOD_") for name in method["methods"])
        yield policy.Test(of="method", values=names, sensitive=True, negated=_not_in(method))
    if version := match.get("version"):
        yield policy.Test(of="version", values=tuple(version["versions"]), negated=_not_in(version))
    for of, name in (("path", "path"), ("query", "query")):
        if text := match.get(of):
            yield text_test(documents, text, name)
    if host := match.get("host_hdr"):
        yield text_test(documents, host, "host")
    if cookie := match.get("cookie"):
        yield text_test(documents, cookie, "cookie", cookie["name"])
    for of, name in (("hdrs", "header"), ("rsp_hdrs", "response_header")):
        for header in match.get(of) or ():
            yield text_test(documents, header, name, header["hdr"])
    if location := match.get("loc_hdr"):
        yield text_test(documents, location, "location")
    if status := match.get("status"):
        ranges = (f"{one['begin']}:{one['end']}" for one in status.get("ranges") or ())
        values = (*map(str, status.get("status_codes") or ()), *ranges)
        yield policy.Test(of="status", values=values, negated=_not_in(status))


def _not_in(match: Document) -> bool:
    return bool(match["match_criteria"] == "IS_NOT_IN")


def text_test(documents: Documents, match: Document, of: str, name: str = "") -> policy.Test:
    """A match on a text: of a path, a header..."""
    criteria: str = match["match_criteria"]
    how = next(ours for theirs, ours in COMPARISONS.items() if theirs in criteria)
    return policy.Test(
        of=of,
        how=how,
        values=() if how == "exists" else tuple(texts_of(documents, match)),
        name=name,
        sensitive=match.get("match_case") == "SENSITIVE",
        decoded=of in ("path", "query") and match.get("match_decoded_string", True),
        negated="NOT" in criteria,
    )


def texts_of(documents: Documents, match: Document) -> Iterator[str]:
    """What a text is compared with: given in the match, or by string groups."""
    value = match.get("value")
    yield from [value] if isinstance(value, str) else (value or ())
    yield from match.get("match_str") or ()
    for reference in match.get("string_group_refs") or ():
        group = documents.get("stringgroup", uuid_of(reference)) or {}
        yield from (pair["key"] for pair in group.get("kv") or ())


def fingerprints_of(documents: Documents, match: Document) -> Iterator[str]:
    yield from match.get("fingerprints") or ()
    for reference in match.get("string_group_refs") or ():
        group = documents.get("stringgroup", uuid_of(reference)) or {}
        yield from (pair["key"] for pair in group.get("kv") or ())


def networks_of(documents: Documents, clients: Document) -> Iterator[str]:
    groups = (documents.get("ipaddrgroup", uuid_of(ref)) or {} for ref in clients.get("group_refs") or ())
    for one in (clients, *groups):
        yield from (address["addr"] for address in one.get("addrs") or ())
        yield from (f"{prefix['ip_addr']['addr']}/{prefix['mask']}" for prefix in one.get("prefixes") or ())
        for bounds in one.get("ranges") or ():
            first, last = (ipaddress.ip_address(bounds[end]["addr"]) for end in ("begin", "end"))
            yield from map(str, _between(first, last))


def _between(first: Any, last: Any) -> Iterable[Any]:
    """The networks of a range; none of one that is no range."""
    try:
        return list(ipaddress.summarize_address_range(first, last))
    except (TypeError, ValueError):
        return ()


# --- actions ---


def _actions(documents: Documents, kind: str, rule: Document) -> Iterator[policy.Action]:
    if action := rule.get("action"):
        yield from _security(action)
    for header in rule.get("hdr_action") or ():
        yield from _header(header, SIDES[kind])
    looked_up = bool(_looked_up(rule))
    if rewrite := rule.get("rewrite_url_action"):
        query = rewrite.get("query") or {}
        yield policy.Rewrite(
            host=_pieces(rewrite.get("host_hdr"), looked_up),
            path=_pieces(rewrite.get("path"), looked_up),
            keep_query=query.get("keep_query", True),
            add_query=query.get("add_string", ""),
        )
    if location := rule.get("loc_hdr_action"):
        yield policy.Location(
            tls=location["protocol"] == "HTTPS",
            port=location.get("port", 0),
            host=_pieces(location.get("host")),
            path=_pieces(location.get("path")),
            keep_query=location.get("keep_query", True),
        )
    if redirect := rule.get("redirect_action"):
        yield _redirect(redirect, looked_up)
    if switching := rule.get("switching_action"):
        yield from _switching(documents, switching)


def _switching(documents: Documents, switching: Document) -> Iterator[policy.Action]:
    """A pool or group that is gone (its deletion is on the way) is passed over."""
    if switching["action"] == "HTTP_SWITCHING_SELECT_LOCAL":
        yield _respond(switching)
    elif switching["action"] == "HTTP_SWITCHING_SELECT_POOL":
        pool = uuid_of(switching.get("pool_ref") or "")
        document = documents.get("pool", pool)
        if document is not None:
            name = server_name(document, switching.get("server"))
            called = pools.names_told(view(document, views.Pool)) if name else {}
            yield policy.Switch(pool=pool, server=called.get(name, name))
    elif switching["action"] == "HTTP_SWITCHING_SELECT_POOLGROUP":
        group = uuid_of(switching.get("pool_group_ref") or "")
        if documents.get("poolgroup", group) is not None:
            yield policy.Switch(group=group)


def server_name(pool: Document, server: Document | None) -> str:
    """An engine's name of the server; "" of none. ``lookup_server_by_name``: whichever address its hostname has."""
    if not server:
        return ""
    name = (server.get("hostname") or "").lower() if pool.get("lookup_server_by_name") else ""
    named = (one for one in pool.get("servers") or () if name and (one.get("hostname") or "").lower() == name)
    found = next(named, server)
    return f"{found['ip']['addr']}:{found.get('port') or pool.get('default_server_port', 80)}"


def _security(action: Document) -> Iterator[policy.Action]:
    match action["action"]:
        case "HTTP_SECURITY_ACTION_ALLOW":
            yield policy.Allow()
        case "HTTP_SECURITY_ACTION_CLOSE_CONN":
            yield policy.Close()
        case "HTTP_SECURITY_ACTION_SEND_RESPONSE":
            yield _respond(action)
        case "HTTP_SECURITY_ACTION_REDIRECT_TO_HTTPS":
            yield policy.Redirect(tls=True, port=action.get("https_port", 0))
        case "HTTP_SECURITY_ACTION_RATE_LIMIT" if profile := action.get("rate_profile"):
            limiter = profile["rate_limiter"]
            yield policy.Limit(
                count=limiter["count"],
                period_s=limiter["period"],
                burst=limiter.get("burst_sz", 0),
                by_client=profile.get("per_client_ip", False),
                by_path=profile.get("per_uri_path", False),
                then=exceeding(profile["action"]),
            )


def exceeding(action: Document) -> policy.Redirect | policy.Respond | policy.Close | None:
    match action.get("type", "RL_ACTION_NONE"):
        case "RL_ACTION_NONE":
            return None
        case "RL_ACTION_LOCAL_RSP":
            return _respond(action)
        case "RL_ACTION_REDIRECT" if redirect := action.get("redirect"):
            return _redirect(redirect)
    return policy.Close()


def _status(text: str) -> int:
    return int(text.rpartition("_")[2])


def _respond(action: Document) -> policy.Respond:
    file = action.get("file") or {}
    status = action.get("other_status_code") or _status(action.get("status_code") or "_403")
    return policy.Respond(status=status, content_type=file.get("content_type", ""), body=file.get("file_content", ""))


def _redirect(action: Document, looked_up: bool = False) -> policy.Redirect:
    return policy.Redirect(
        status=_status(action.get("status_code", "_302")),
        tls=action["protocol"] == "HTTPS",
        port=action.get("port", 0),
        host=_pieces(action.get("host"), looked_up),
        path=_pieces(action.get("path"), looked_up),
        keep_query=action.get("keep_query", True),
        add_query=action.get("add_string", ""),
    )


def _looked_up(rule: Document) -> tuple[str, Document] | None:
    """(what, the match) whose string groups have the values that tokens stand for: the first that has any."""
    match = rule.get("match") or {}
    for field, of in LOOKED_UP.items():
        found = match.get(field) or {}
        compared = not any(word in found.get("match_criteria", "") for word in ("NOT", "REGEX", "EXIST"))
        if found.get("string_group_refs") and compared:
            return of, found
    return None


def _lookup(documents: Documents, rule: Document) -> policy.Lookup | None:
    """Paths are made of values without the slash at their beginning."""
    parts = [rule.get(part) or {} for part in ("redirect_action", "rewrite_url_action")]
    tokens = [token for part in parts for of in ("host", "host_hdr", "path") for token in _tokens(part.get(of))]
    found = _looked_up(rule)
    if found is None or not any(token["type"] == FOUND for token in tokens):
        return None
    of, match = found
    groups = [documents.get("stringgroup", uuid_of(ref)) or {} for ref in match["string_group_refs"]]
    pairs = [(pair["key"], pair.get("value", "").lstrip("/")) for group in groups for pair in group.get("kv") or ()]
    if any(group.get("longest_match") for group in groups):
        pairs.sort(key=lambda pair: -len(pair[0]))
    return policy.Lookup(test=text_test(documents, {**match, "match_str": []}, of), pairs=tuple(pairs))


def _tokens(parameter: Document | None) -> Sequence[Document]:
    return (parameter or {}).get("tokens") or ()


def _pieces(parameter: Document | None, looked_up: bool = False) -> tuple[policy.Piece, ...]:
    tokens, kinds = _tokens(parameter), PIECES | ({FOUND: "found"} if looked_up else {})
    if any(token["type"] not in kinds for token in tokens):
        return ()
    return tuple(
        policy.Piece(
            kind=kinds[token["type"]],
            text=token.get("str_value", ""),
            first=token.get("start_index", 0),
            last=policy.TO_THE_END if token.get("end_index", LAST_TOKEN) >= LAST_TOKEN else token["end_index"],
        )
        for token in tokens
    )


def _header(header: Document, cookies: str) -> Iterator[policy.Header]:
    action = HEADER_ACTIONS[header["action"]]
    if cookie := header.get("cookie"):
        name, value = cookie.get("name", ""), cookie.get("value", "")
        if action == "add":
            yield policy.Header(action=action, name=cookies, value=f"{name}={value}")
        elif action == "replace" or cookies == "Cookie":
            yield policy.Header(action=action, name=cookies, cookie=name, value=value)
    elif (wanted := header.get("hdr")) and wanted.get("name"):
        value = wanted.get("value") or {}
        variable = value.get("var", "")
        if not variable or variable in VARIABLES:
            text, known = value.get("val", ""), VARIABLES.get(variable, "")
            yield policy.Header(action=action, name=wanted["name"], value=text, variable=known)
