"""HTTP policies as HAProxy's rules. Pure.

Rules of a phase stand in their order. What the vocabulary of `shoal.wire.policy` has and HAProxy 2.6 has not is left out and
told in a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from shoal.wire import policy
from shoal.wire.policy import Header, Http, Limit, Location, Piece, Redirect, Respond, Rewrite, Rule, Switch, Test

from . import client_log
from .escape import Unrenderable, address, argument, body, format_quoted, format_text, quoted, token, within, word
from .limits import Counters

HOST = "req.hdr(host),host_only"
QUERY, MORE = "txn.query", "txn.more"
"""The request's query, behind "?" and behind "&"; not there when it has none."""
ALLOWED = "txn.allowed"
OVER_TLS = "{ ssl_fc }"
"""See `virtual_hosts.behind_tls`, too."""
TO, SERVER = "txn.to", "txn.server"
"""Where the request goes, and to which server there: see `choice`."""
HELLO = "txn.hello"
"""What a TLS client began with, as JA3 puts it; not there unless the profile asks for it."""
FOUND = "txn.found"
CHOSEN = f"{{ var({TO}) -m found }}"
FREE = f"!{CHOSEN}"
SERVERS_MAX = 65_535
MATCHES = {"equals": "str", "begins": "beg", "ends": "end", "contains": "sub", "regex": "reg"}
VERSIONS = {"ONE_ZERO": "1.0", "ONE_ONE": "1.1", "TWO_ZERO": "2.0"}
TEXTS = {
    "path": "path",
    "query": "query",
    "host": HOST,
    "header": "req.fhdr({name})",
    "cookie": "req.cook({name})",
    "response_header": "res.fhdr({name})",
    "location": "res.fhdr(location)",
}
COUNTED = {
    "header": "req.hdr_cnt({name})",
    "response_header": "res.hdr_cnt({name})",
    "location": "res.hdr_cnt(location)",
}
VARIABLES = {
    "client_ip": "src",
    "source_ip": "fc_src",
    "request_id": "uuid",
    "user_name": "http_auth_user",
    "vs_ip": "dst",
    "vs_port": "dst_port",
    "ssl_protocol": "ssl_fc_protocol",
    "ssl_cipher": "ssl_fc_cipher",
    "ssl_server_name": "ssl_fc_sni",
    "ssl_client_subject": "ssl_c_s_dn",
    "ssl_client_issuer": "ssl_c_i_dn",
    "ssl_client_serial": "ssl_c_serial,hex",
    "ssl_client_fingerprint": "ssl_c_sha1,hex",
    "ssl_client_version": "ssl_c_version",
    "ssl_client_sigalg": "ssl_c_sig_alg",
    "ssl_client_notbefore": "ssl_c_notbefore",
    "ssl_client_notafter": "ssl_c_notafter",
}
PEM_VARIABLES = {
    "ssl_client_raw": "-----BEGIN CERTIFICATE----- %[ssl_c_der,base64] -----END CERTIFICATE-----",
    "ssl_client_escaped": "-----BEGIN%%20CERTIFICATE-----%%0A%[ssl_c_der,base64,url_enc]%%0A-----END%%20CERTIFICATE-----%%0A",
}
"""On one line: a header has no other."""
LIST = re.compile(r"[0-9a-f]{24}")
"""An id of a list of networks: the file of that name is in `lists.FOLDER`."""
THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
"""Of SHA-256, in base64url."""
ONE, TWO, THREE = r"\1", r"\2", r"\3"


class Rules(msgspec.Struct, frozen=True):
    """``lines`` of the frontend, ``tables`` that are sections of their own, ``notes`` on what does not act."""

    lines: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def rules(
    service: str,
    http: Http,
    wanted: Sequence[Rule],
    targets: Mapping[str, str] | None = None,
    *,
    tls_port: int = 0,
    proof: Sequence[str] = (),
) -> Rules:
    """The rules of one virtual service. ``targets``: where a `Switch` leads, by id; ``tls_port``: where it has TLS, 0 for
    nowhere; ``proof``: lines behind the security rules, that let in who proves that he may. Raises Unrenderable."""
    lines, counters, notes = _first(http, wanted, tls_port), Counters(service), list[str]()
    allowed, proven = False, not proof
    for number, rule in enumerate(wanted):
        if rule.phase not in (policy.SECURITY, policy.REQUEST):
            continue
        if not proven and rule.phase == policy.REQUEST:
            lines, proven = [*lines, *proof], True
        conditions = [condition(test) for test in rule.tests]
        if allowed and rule.phase == policy.SECURITY:
            conditions.append(f"!{{ var({ALLOWED}) -m bool }}")
        lines += _found(rule)
        decided, conditions = _decided("http-request", number, rule, conditions)
        lines += [*decided, *_logged("http-request", rule, conditions)]
        for action in rule.actions:
            if isinstance(action, Limit):
                refused = answer(action.then) if action.then is not None else ()
                limited = counters.lines(action, conditions, refused)
                if limited is None:
                    notes.append(f"The rate limit of {rule.name[:60]!r} does not act: {policy.LIMITS_MAX} others do.")
                lines += limited or ()
            elif isinstance(action, Switch):
                free = _if([*conditions, FREE])
                lines += (f"http-request {text}{free}" for text in switch(action, targets or {}))
            else:
                allowed = allowed or isinstance(action, policy.Allow)
                lines += (f"http-request {text}{_if(conditions)}" for text in answer(action))
    if not proven:
        lines += proof
    if http.to_https and tls_port:  # a policy is more specific
        lines.append(f"http-request {_redirect(Redirect(tls=True, port=tls_port))} if !{OVER_TLS}")
    lines += _responses(wanted)
    return Rules(tuple(lines), tuple(counters.tables()), tuple(notes))


def connections(wanted: Sequence[Rule], stage: str = "connection") -> Iterator[str]:
    """Lines of the frontend that look at a connection before anything is read from it. ``stage``: ``session`` where the
    PROXY protocol tells who the client is."""
    for rule in wanted:
        if rule.phase != policy.CONNECTION:
            continue
        if any(test.of not in ("client", "client_port", "port") for test in rule.tests):
            raise Unrenderable(f"The rule {rule.name[:60]!r} asks of a connection what only a request tells.")
        for action in rule.actions:
            if isinstance(
                action, Limit
            ):  # the kernel's (`engine.fastpath.gate`), before HAProxy hears of the connection
                continue
            if not isinstance(action, policy.Allow | policy.Close):
                raise Unrenderable(f"{type(action).__name__} is no action on a connection.")
            verb = "accept" if isinstance(action, policy.Allow) else "reject"
            yield f"tcp-request {stage} {verb}{_if([condition(test) for test in rule.tests])}"


def _first(http: Http, wanted: Sequence[Rule], tls_port: int) -> list[str]:
    """What must see the request as it came."""
    lines = []
    if http.body_kb_max > 0:
        lines.append(f"http-request deny deny_status 413 if {{ req.body_size gt {int(http.body_kb_max) * 1024} }}")
    if not http.websockets:
        lines.append("http-request deny deny_status 403 if { req.hdr(upgrade) -m str -i websocket }")
    actions = [action for rule in wanted for action in rule.actions]
    actions += [action.then for action in actions if isinstance(action, Limit) and action.then is not None]
    moving = [action for action in actions if isinstance(action, Redirect | Rewrite | Location) and action.keep_query]
    adds = [action for action in moving if not isinstance(action, Location) and action.add_query]
    if len(moving) > len(adds) or (http.to_https and tls_port):
        lines.append(f"http-request set-var-fmt({QUERY}) '?%[query]' if {{ query -m len gt 0 }}")
    if adds:
        lines.append(f"http-request set-var-fmt({MORE}) '&%[query]' if {{ query -m len gt 0 }}")
    if any(isinstance(action, Location) for action in actions):
        lines += [f"http-request set-var(txn.host) {HOST}", "http-request set-var(txn.path) path"]
    for number, rule in enumerate(wanted):
        tests = [condition(test) for test in rule.tests if not _of_response(test)]
        if rule.phase == policy.RESPONSE and tests:
            lines.append(f"http-request set-var(txn.rule{number}) bool(true){_if(tests)}")
    return lines


def proof(http: Http) -> Iterator[str]:
    """Lines of the frontend, before all others, that answer an ACME authority. The proof says no more than whose account may
    have certificates for the name, so it is given for any token, by every engine alike, and no token has to get here first."""
    if thumbprint := http.acme:
        if not THUMBPRINT.fullmatch(thumbprint):
            raise Unrenderable(f"{thumbprint[:40]!r} is no thumbprint of a key.")
        asked = "{ path -m reg ^/\\.well-known/acme-challenge/[A-Za-z0-9_-]+$ }"
        text = quoted(f"%[path,field(4,/)].{thumbprint}")
        yield f"http-request return status 200 content-type application/octet-stream lf-string {text} if {asked}"


def client_certificate(http: Http, *, required: bool) -> Iterator[str]:
    """Lines of the frontend that tell servers of a client's certificate. No client can send such a header by himself, and of
    one that nobody vouches for servers get the whole at most, to judge for themselves."""
    for header in http.client_headers:
        yield f"http-request del-header {token(header.name)}"
    for header in http.client_headers:
        told = "{ ssl_c_used }"
        if not header.variable.startswith("ssl_client_"):
            told = OVER_TLS if header.variable.startswith("ssl_") else ""
        elif not required and header.variable not in PEM_VARIABLES:
            told += " { ssl_c_verify 0 }"
        yield f"http-request {_header(header, 'req')}{_if([told] if told else [])}"


def without_servers(
    action: Redirect | Respond | policy.Close | None, *, http: bool, servers_min: int = 1
) -> Iterator[str]:
    """Lines of a backend: what becomes of clients while fewer than ``servers_min`` of its servers are up."""
    nobody = f"{{ nbsrv lt {within(servers_min, 1, SERVERS_MAX)} }}"
    if action is None:
        yield f"http-request deny deny_status 503 if {nobody}" if http else f"tcp-request content reject if {nobody}"
    elif http:
        yield from (f"http-request {text} if {nobody}" for text in answer(action))
    elif isinstance(action, policy.Close):
        yield f"tcp-request content reject if {nobody}"


# --- conditions ---


def condition(test: Test) -> str:
    """An anonymous ACL. Raises Unrenderable."""
    text = _condition(test)
    return f"!{text}" if test.negated else text


def _condition(test: Test) -> str:
    match test.of:
        case "client" | "source":
            fetch = "src" if test.of == "client" else "fc_src"
            if test.lists:
                return f"{{ {fetch} {' '.join(map(_list, test.lists))} }}"
            return f"{{ {fetch} {_all(_network(value) for value in test.values)} }}"
        case "hello":
            return f"{{ var({HELLO}),digest(md5),hex -m str -i -- {_all(map(_fingerprint, test.values))} }}"
        case "port" | "client_port":
            fetch = "dst_port" if test.of == "port" else "src_port"
            return f"{{ {fetch} {_all(map(_ports, test.values))} }}"
        case "tls":
            return OVER_TLS
        case "method":
            return f"{{ method {_all(token(value) for value in test.values)} }}"
        case "version":
            return f"{{ req.ver -m str {_all(quoted(VERSIONS.get(value, value)) for value in test.values)} }}"
        case "status":
            return f"{{ status {_all(_statuses(value) for value in test.values)} }}"
        case of if of in TEXTS:
            return _text(test)
    raise Unrenderable(f"There is no condition on {test.of[:40]!r}.")


def _text(test: Test) -> str:
    name = argument(test.name) if "{name}" in TEXTS[test.of] else ""
    if test.how == "exists":
        if test.of in COUNTED:
            return f"{{ {COUNTED[test.of].format(name=name)} gt 0 }}"
        return f"{{ {TEXTS[test.of].format(name=name)} -m {'found' if test.of == 'cookie' else 'len gt 0'} }}"
    if test.how not in MATCHES:
        raise Unrenderable(f"There is no comparison {test.how[:40]!r}.")
    fetch = TEXTS[test.of].format(name=name) + (",url_dec" if test.decoded else "")
    flags = f"-m {MATCHES[test.how]}" + ("" if test.sensitive else " -i")
    return f"{{ {fetch} {flags} -- {_all(quoted(value) for value in test.values)} }}"


def _all(values: Iterable[str]) -> str:
    """At least one: without a value HAProxy takes the closing brace for it."""
    text = " ".join(values)
    if not text:
        raise Unrenderable("A condition has nothing to compare with.")
    return text


def _of_response(test: Test) -> bool:
    return test.of in ("status", "response_header", "location")


def _network(text: str) -> str:
    host, slash, length = text.partition("/")
    if slash and not length.isdigit():
        raise Unrenderable(f"{text[:60]!r} is no network.")
    return address(host).strip("[]") + (f"/{int(length)}" if slash else "")


def _list(id: str) -> str:
    if not LIST.fullmatch(id):
        raise Unrenderable(f"{id[:40]!r} is no list of networks.")
    return f"-f lists/{id}"


def _fingerprint(text: str) -> str:
    if not re.fullmatch(policy.FINGERPRINT, text):
        raise Unrenderable(f"{text[:40]!r} is no fingerprint.")
    return text


def _ports(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,5}(:[0-9]{1,5})?", text):
        raise Unrenderable(f"{text[:40]!r} is no port and no range of them.")
    return text


def _statuses(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{2}(:[1-9][0-9]{2})?", text):
        raise Unrenderable(f"{text[:40]!r} is no status and no range of them.")
    return text


def _decided(verb: str, number: int, rule: Rule, conditions: list[str]) -> tuple[list[str], list[str]]:
    """(a line before the actions, their conditions): one action must not change what decides on the next."""
    if not conditions or len(rule.actions) < 2:
        return [], conditions
    return [f"{verb} set-var(txn.does{number}) bool(true){_if(conditions)}"], [f"{{ var(txn.does{number}) -m bool }}"]


def _found(rule: Rule) -> Iterator[str]:
    """Looks up what the rule's actions need."""
    if rule.lookup is None:
        return
    if len(rule.lookup.pairs) > policy.LOOKUP_PAIRS_MAX:
        count = f"{len(rule.lookup.pairs)} keys; {policy.LOOKUP_PAIRS_MAX} can be"
        raise Unrenderable(f"The string groups of the rule {rule.name[:60]!r} have {count}.")
    yield f"http-request unset-var({FOUND})"
    for key, value in rule.lookup.pairs:
        if not value:  # HAProxy 2.6 ends a request that has an empty one
            continue
        holds = condition(msgspec.structs.replace(rule.lookup.test, values=(key,), negated=False))
        yield f"http-request set-var-fmt({FOUND}) {format_quoted(value)} if {holds} !{{ var({FOUND}) -m found }}"


def _logged(verb: str, rule: Rule, conditions: list[str]) -> list[str]:
    return [f"{verb} set-var({client_log.TOLD}) int(1){_if(conditions)}"] if rule.log else []


def _if(conditions: Sequence[str]) -> str:
    return f" if {' '.join(conditions)}" if conditions else ""


# --- actions ---


def switch(action: Switch, targets: Mapping[str, str]) -> Iterator[str]:
    """What follows the verb, each where nothing was chosen yet; the last one is the choice itself."""
    to = targets.get(action.pool or action.group)
    if to is None:
        raise Unrenderable(f"There is no pool or group {(action.pool or action.group)[:60]!r} to switch to.")
    if action.server and action.pool:
        yield f"set-var({SERVER}) str({word(action.server)})"
    yield f"set-var({TO}) str({to})"


def answer(action: policy.Action) -> Iterator[str]:
    """What follows ``http-request``."""
    match action:
        case Redirect():
            yield _redirect(action)
        case Rewrite():
            if action.path or not action.keep_query or action.add_query:
                yield f"set-pathq {quoted(_path(action.path) + _query(action.keep_query, action.add_query))}"
            if action.host:
                yield f"set-header Host {quoted(_host(action.host))}"
        case Header():
            yield _header(action, "req")
        case Respond():
            yield _respond(action)
        case policy.Close():
            yield "reject"
        case policy.Allow():
            yield f"set-var({ALLOWED}) bool(true)"
        case _:
            raise Unrenderable(f"{type(action).__name__} is no action on a request.")


def _redirect(action: Redirect) -> str:
    target = _origin(action, _host(action.host)) + _path(action.path) + _query(action.keep_query, action.add_query)
    return f"redirect code {_code(action.status)} location {quoted(target)}"


def _origin(action: Redirect | Location, host: str) -> str:
    port = f":{int(action.port)}" if action.port not in (0, 443 if action.tls else 80) else ""
    return f"{'https' if action.tls else 'http'}://{host}{port}"


def _code(status: int) -> int:
    if status not in (301, 302, 303, 307, 308):
        raise Unrenderable(f"There is no redirect of status {status}.")
    return status


def _respond(action: Respond) -> str:
    if not 200 <= action.status <= 599:
        raise Unrenderable(f"The status {action.status} can't be answered.")
    text = f"return status {int(action.status)}"
    if action.content_type and action.body:  # HAProxy takes no empty one
        text += f" content-type {quoted(action.content_type)} string {body(action.body)}"
    return text


def _header(action: Header, side: str) -> str:
    name = token(action.name)
    if action.cookie:
        return _cookie(action, name)
    if action.action == "remove":
        return f"del-header {name}"
    if action.action not in ("add", "replace"):
        raise Unrenderable(f"Headers can't be {action.action[:40]!r}.")
    value = format_text(action.value)
    if action.variable == "header":
        value = f"%[{side}.fhdr({argument(action.value)})]"
    elif action.variable in PEM_VARIABLES:
        value = PEM_VARIABLES[action.variable]
    elif action.variable:
        if action.variable not in VARIABLES:
            raise Unrenderable(f"There is no variable {action.variable[:40]!r}.")
        value = f"%[{VARIABLES[action.variable]}]"
    return f"{'add' if action.action == 'add' else 'set'}-header {name} {quoted(value)}"


def _cookie(action: Header, name: str) -> str:
    """Cookies of a request stand in one header, between semicolons; those of a response have one each."""
    cookie, sides = re.escape(argument(action.cookie)), action.name.lower()
    if not policy.COOKIE_VALUE.fullmatch(action.value):
        raise Unrenderable(f"{action.value[:40]!r} is no value of a cookie.")
    value = format_text(f"{action.cookie}={action.value}")
    match action.action, sides:
        case "remove", "cookie":
            pattern, rest = rf"^(?:{cookie}=[^;]*(?:;\s*)?(.*)|(.*?);\s*{cookie}=[^;]*(.*))$", ONE + TWO + THREE
        case "replace", "cookie":
            pattern, rest = rf"^((?:.*;\s*)?){cookie}=[^;]*(.*)$", ONE + value + TWO
        case "replace", "set-cookie":
            pattern, rest = rf"^{cookie}=[^;]*(.*)$", value + ONE
        case _:
            raise Unrenderable(f"A cookie can't be {action.action[:40]!r} in {action.name[:40]!r}.")
    return f"replace-header {name} {quoted(pattern)} {quoted(rest)}"


def _host(pieces: Sequence[Piece], whole: str = HOST) -> str:
    return ".".join(_piece(piece, "host", whole, ".", 1) for piece in pieces) if pieces else f"%[{whole}]"


def _path(pieces: Sequence[Piece], whole: str = "path") -> str:
    """It begins with a slash; the pieces' own slashes at the joints count once."""
    if not pieces:
        return f"%[{whole}]"
    texts = [_piece(piece, "path", whole, "/", 2) for piece in pieces]
    joined = "/".join(text.strip("/") if len(texts) > 1 else text.lstrip("/") for text in texts)
    return f"/{joined}/" if len(texts) > 1 and texts[-1].endswith("/") else f"/{joined}"


def _piece(piece: Piece, of: str, whole: str, between: str, begin: int) -> str:
    if piece.kind == "text":
        return format_text(piece.text)
    if piece.kind == "found":
        return f"%[var({FOUND})]"
    source = {"host": HOST, "path": "path"}.get(piece.kind)
    if source is None:
        raise Unrenderable(f"A {of} can't be made of {piece.kind[:40]!r}.")
    if piece.kind == of:
        source = whole
    else:
        between, begin = (".", 1) if piece.kind == "host" else ("/", 2)
    count = 0 if piece.last < 0 else max(1, int(piece.last) - int(piece.first) + 1)
    return f"%[{source},field({int(piece.first) + begin},{between},{count})]"


def _query(keep: bool, add: str) -> str:
    if not add:
        return f"%[var({QUERY})]" if keep else ""
    return f"?{format_text(add)}" + (f"%[var({MORE})]" if keep else "")


# --- responses ---


def _responses(wanted: Sequence[Rule]) -> Iterator[str]:
    for number, rule in enumerate(wanted):
        if rule.phase != policy.RESPONSE:
            continue
        conditions = [condition(test) for test in rule.tests if _of_response(test)]
        if len(conditions) < len(rule.tests):
            conditions.insert(0, f"{{ var(txn.rule{number}) -m bool }}")
        decided, conditions = _decided("http-response", number, rule, conditions)
        yield from (*decided, *_logged("http-response", rule, conditions))
        for action in rule.actions:
            yield f"http-response {_response(action)}{_if(conditions)}"


def _response(action: policy.Action) -> str:
    if isinstance(action, Header):
        return _header(action, "res")
    if not isinstance(action, Location):
        raise Unrenderable(f"{type(action).__name__} is no action on a response.")
    if not action.host and not action.path:  # the server's own, but for scheme and port
        rest = "([^?#]*(?:[?#].*)?)" if action.keep_query else "([^?#]*)(?:[?#].*)?"
        pattern = f"^(?i)https?://([^/:?#]+)(?::[0-9]+)?{rest}$"
        return f"replace-header Location {quoted(pattern)} {quoted(_origin(action, ONE) + TWO)}"
    target = _origin(action, _host(action.host, "var(txn.host)")) + _path(action.path, "var(txn.path)")
    return f"set-header Location {quoted(target + _query(action.keep_query, ''))}"
