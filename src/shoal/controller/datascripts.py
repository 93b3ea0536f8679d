"""DataScripts as rules: a small part of the language, and by line what is not of it. Pure.

What is taken: ``if``/``elseif``/``else`` on comparisons of the request's (or response's) path, query, host, method, headers, cookies,
client and port with texts; header changes, redirects, answers, closing, a new path; local names for such values. Everything
else is refused when it is written: half a script must not run.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from shoal.objects import views
from shoal.objects.views import uuid_of
from shoal.wire import policy
from shoal.wire.policy import Piece, Test

from .protocols import Documents

REQUEST, RESPONSE = "VS_DATASCRIPT_EVT_HTTP_REQ", "VS_DATASCRIPT_EVT_HTTP_RESP"
PHASES = {REQUEST: policy.REQUEST, RESPONSE: policy.RESPONSE}
SCRIPT_CHARACTERS_MAX = 65_536
DEPTH_MAX = 16
BRACKETS_MAX = 50
REDIRECTS = (301, 302, 307)
SUBJECTS = {
    "avi.http.get_path": "path",
    "avi.http.get_query": "query",
    "avi.http.hostname": "host",
    "avi.http.host": "host",
    "avi.http.method": "method",
    "avi.http.get_cookie": "cookie",
    "avi.http.get_header": "header",
    "avi.vs.client_ip": "client",
    "avi.vs.port": "port",
    "avi.http.status": "status",
}
NAMED = ("cookie", "header")
"""Subjects that need a name."""
STRINGS = {"string.beginswith": "begins", "string.endswith": "ends", "string.contains": "contains"}
VARIABLES = {"client": "client_ip", "port": "vs_port", "header": "header"}
URI = "avi.http.get_uri"
_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<long>--\[\[.*?\]\])|(?P<comment>--[^\n]*)|(?P<number>\d+)|(?P<name>[A-Za-z_][\w.]*)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<mark>==|~=|\.\.|[(){}=,;])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class Untaken(Exception):
    """``line`` of the script, from 1, and why it can't be done."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line


class Token(NamedTuple):
    kind: str
    text: str
    line: int


class Call(NamedTuple):
    name: str
    arguments: tuple[Value, ...]
    line: int


class Joined(NamedTuple):
    """Parts behind one another (``..``)."""

    parts: tuple[Value, ...]


Value = str | int | Call | Joined


class Asked(NamedTuple):
    """A condition, and how many actions stood before it."""

    test: Test
    at: int


def rules_of(documents: Documents, links: Iterable[views.DataScripts]) -> tuple[policy.Rule, ...]:
    """Of a virtual service's scripts in the order of their index. A script that is not taken has none: it was refused."""
    found: list[policy.Rule] = []
    for link in sorted(links, key=lambda link: link.index):
        document = documents.get("vsdatascriptset", uuid_of(link.vs_datascript_set_ref)) or {}
        for one in document.get("datascript") or ():
            with contextlib.suppress(Untaken):
                found += rules(document["name"], one["evt"], one["script"])
    return tuple(found)


def rules(name: str, event: str, script: str) -> tuple[policy.Rule, ...]:
    """Raises Untaken."""
    if event not in PHASES:
        raise Untaken(1, f"scripts for {event} are not run; {REQUEST} and {RESPONSE} are")
    return tuple(_Script(name, event, _tokens(script)).rules())


def _tokens(script: str) -> list[Token]:
    found, at, line = list[Token](), 0, 1
    while at < len(script):
        match = _TOKEN.match(script, at)
        if match is None or len(script) > SCRIPT_CHARACTERS_MAX:
            raise Untaken(line, f"{script[at : at + 20].splitlines()[0]!r} is not understood")
        kind = str(match.lastgroup)
        if kind not in ("space", "long", "comment"):
            found.append(Token(kind, match[0], line))
        line += match[0].count("\n")
        at = match.end()
    return found


class _Script:
    def __init__(self, name: str, event: str, tokens: Sequence[Token]) -> None:
        self._name = name
        self._event = event
        self._tokens = tokens
        self._at = 0
        self._names: dict[str, Value] = {}
        self._rules: list[policy.Rule] = []
        self._actions: list[policy.Action] = []
        self._under: tuple[Test, ...] = ()
        self._changed: list[tuple[int, str]] = []
        """(how many actions stood before, subject that one changed)."""
        self._count = 0
        self._depth = 0
        """Of brackets within brackets."""

    def rules(self) -> Iterator[policy.Rule]:
        self._block((), 0)
        if self._at < len(self._tokens):
            raise Untaken(self._line, f"{self._tokens[self._at].text!r} has no place here")
        self._flush()
        yield from self._rules

    # --- reading ---

    @property
    def _line(self) -> int:
        here = self._tokens[min(self._at, len(self._tokens) - 1)] if self._tokens else None
        return here.line if here else 1

    def _peek(self) -> str:
        return self._tokens[self._at].text if self._at < len(self._tokens) else ""

    def _next(self, *wanted: str) -> Token:
        if self._at >= len(self._tokens):
            raise Untaken(self._line, f"the script ends where {' or '.join(wanted) or 'more'} should be")
        token = self._tokens[self._at]
        if wanted and token.text not in wanted:
            raise Untaken(token.line, f"{token.text!r} stands where {' or '.join(wanted)} should be")
        self._at += 1
        return token

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > BRACKETS_MAX:
            raise Untaken(self._line, f"brackets are nested more than {BRACKETS_MAX} deep")

    def _block(self, conditions: tuple[Asked, ...], depth: int) -> None:
        if depth > DEPTH_MAX:
            raise Untaken(self._line, f"if is nested more than {DEPTH_MAX} deep")
        while self._peek() not in ("", "end", "else", "elseif"):
            token = self._next()
            if token.text == ";":
                continue
            if token.text == "if":
                self._if(conditions, depth)
            elif token.text == "local" or (token.kind == "name" and self._peek() == "="):
                name = self._next().text if token.text == "local" else token.text
                self._next("=")
                if conditions:
                    raise Untaken(token.line, f"{name!r} gets a value inside an if: it would have another one outside")
                self._names[name] = self._value()
            elif token.kind == "name" and self._peek() == "(":
                self._act(self._call(token), conditions)
            else:
                raise Untaken(token.line, f"{token.text!r} can't be done: there are if, names for values, and calls")

    def _if(self, outer: tuple[Asked, ...], depth: int) -> None:
        before: tuple[Asked, ...] = ()
        begun = self._count
        while True:
            line = self._line
            tests = self._condition()
            self._next("then")
            self._block((*outer, *before, *(Asked(test, begun) for test in tests)), depth + 1)
            token = self._next("end", "else", "elseif")
            if token.text == "end":
                return
            if len(tests) != 1:
                raise Untaken(line, "an if with `and` can't have an else: use an if of its own for it")
            before += (Asked(_negated(tests[0]), begun),)
            if token.text == "else":
                self._block((*outer, *before), depth + 1)
                self._next("end")
                return

    def _condition(self) -> list[Test]:
        """Tests that must all hold."""
        line, tests, how = self._line, [self._one()], ""
        while self._peek() in ("and", "or"):
            word = self._next().text
            if how and word != how:
                raise Untaken(line, "`and` and `or` together need brackets")
            how = word
            other = self._one()
            if how == "and":
                tests.append(other)
                continue
            first = tests[0]
            if first.negated or (first.of, first.how, first.name, False) != (
                other.of,
                other.how,
                other.name,
                other.negated,
            ):
                raise Untaken(line, "`or` is taken between comparisons of one thing only, with == or the same function")
            tests = [_test(first.of, first.how, (*first.values, *other.values), first.name)]
        return tests

    def _one(self) -> Test:
        line = self._line
        if self._peek() == "not":
            self._next()
            return _negated(self._bracketed(line) if self._peek() == "(" else self._bare(self._value(), line))
        if self._peek() == "(":
            return self._bracketed(line)
        left = self._value()
        if self._peek() not in ("==", "~="):
            return self._bare(left, line)
        unequal = self._next().text == "~="
        if self._peek() == "nil":
            self._next()
            test = self._compared(left, "exists", "", line)
            return test if unequal else _negated(test)
        test = self._compared(left, "equals", self._value(), line)
        return _negated(test) if unequal else test

    def _bracketed(self, line: int) -> Test:
        self._next("(")
        self._deeper()
        tests = self._condition()
        self._depth -= 1
        self._next(")")
        if len(tests) != 1:
            raise Untaken(line, "`and` within brackets is not taken")
        return tests[0]

    def _bare(self, value: Value, line: int) -> Test:
        """A condition without a comparison."""
        if self._peek() in ("==", "~="):
            raise Untaken(line, "`not` goes before == in this language: use ~=, or brackets")
        if not isinstance(value, Call) or value.name not in STRINGS:
            return self._compared(value, "exists", "", line)
        if len(value.arguments) < 2 or not isinstance(value.arguments[1], str):
            raise Untaken(line, f"{value.name} needs a text to look for")
        return self._compared(value.arguments[0], STRINGS[value.name], value.arguments[1], line)

    def _compared(self, what: Value, how: str, value: Value, line: int) -> Test:
        if not isinstance(what, Call) or what.name not in SUBJECTS:
            named = what.name if isinstance(what, Call) else repr(what)
            raise Untaken(line, f"there is no condition on {named}")
        if isinstance(value, Call | Joined):
            raise Untaken(line, "it can be compared with a text or a number only")
        of = SUBJECTS[what.name]
        if (of == "status") and self._event != RESPONSE:
            raise Untaken(line, "a request has no status yet")
        if how == "exists" and of not in NAMED:
            raise Untaken(line, f"{what.name} always has a value")
        if how != "equals" and of in ("client", "port", "status", "method"):
            raise Untaken(line, f"{what.name} can be compared by == and ~= only")
        of = "response_header" if of == "header" and self._event == RESPONSE else of
        return _test(of, how, () if how == "exists" else (str(value),), self._named(what) if _needs_name(of) else "")

    def _named(self, call: Call) -> str:
        if not call.arguments or not isinstance(call.arguments[0], str) or not policy.NAME.fullmatch(call.arguments[0]):
            raise Untaken(call.line, f"{call.name} needs a name")
        return call.arguments[0]

    def _value(self) -> Value:
        parts = [self._part()]
        while self._peek() == "..":
            self._next()
            parts.append(self._part())
        if len(parts) == 1:
            return parts[0]
        if all(isinstance(part, str | int) for part in parts):
            return "".join(map(str, parts))
        return Joined(tuple(parts))

    def _part(self) -> Value:
        token = self._next()
        if token.kind == "text":
            return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), token.text[1:-1])
        if token.kind == "number":
            return int(token.text)
        if token.kind == "name" and self._peek() == "(":
            if token.text not in SUBJECTS and token.text not in STRINGS and token.text != URI:
                raise Untaken(token.line, f"{token.text} can't be done")
            return self._call(token)
        if token.kind == "name" and token.text in self._names:
            return self._names[token.text]
        raise Untaken(token.line, f"{token.text!r} is no text, number, call or name given before")

    def _call(self, token: Token) -> Call:
        self._next("(")
        self._deeper()
        arguments: list[Value] = []
        while self._peek() != ")":
            if self._peek() == "{":
                raise Untaken(self._line, "tables are not taken")
            if self._peek() == "nil":
                self._next()
                arguments.append("")
            else:
                arguments.append(self._value())
            if self._peek() == ",":
                self._next()
        self._next(")")
        self._depth -= 1
        return Call(token.text, tuple(arguments), token.line)

    # --- acting ---

    def _act(self, call: Call, conditions: tuple[Asked, ...]) -> None:
        stale = next((one for one in conditions if (at := self._last(one.test)) is not None and at >= one.at), None)
        tests = tuple(one.test for one in conditions)
        if tests != self._under:
            self._flush()
            if stale is not None:
                raise Untaken(call.line, f"an earlier line has changed the {stale.test.of} that decides here")
            self._under = tests
        action = self._action(call)
        self._changed += ((self._count, subject) for subject in _changes(action, self._event))
        self._count += 1
        self._actions.append(action)

    def _last(self, test: Test) -> int | None:
        subject = f"{test.of} {test.name}".strip().lower()
        return max((at for at, changed in self._changed if changed in (subject, test.of)), default=None)

    def _flush(self) -> None:
        if self._actions:
            rule = policy.Rule(
                name=self._name, phase=PHASES[self._event], tests=self._under, actions=tuple(self._actions)
            )
            self._rules.append(rule)
        self._actions = []

    def _action(self, call: Call) -> policy.Action:
        verb, given = call.name.removeprefix("avi.http."), call.arguments
        response = self._event == RESPONSE
        match verb:
            case "add_header" | "replace_header" if len(given) == 2:
                return self._header(call, verb.removesuffix("_header"), given[1])
            case "remove_header" if len(given) == 1:
                return self._header(call, "remove", "")
            case "redirect" if given and not response:
                return self._redirect(call)
            case "response" if given and not response:
                return self._respond(call)
            case "close_conn" if not response:
                return policy.Close()
            case "set_path" if len(given) == 1 and isinstance(given[0], str) and not response:
                return policy.Rewrite(path=(Piece(kind="text", text=given[0]),))
            case "set_query" if len(given) == 1 and isinstance(given[0], str) and not response:
                return policy.Rewrite(keep_query=False, add_query=given[0])
        raise Untaken(call.line, f"{call.name} can't be done here{', or not so' if verb != call.name else ''}")

    def _header(self, call: Call, action: str, value: Value) -> policy.Header:
        name = call.arguments[0]
        if not isinstance(name, str) or not policy.TOKEN.fullmatch(name):
            raise Untaken(call.line, f"{call.name} needs the name of a header")
        if isinstance(value, str | int):
            return policy.Header(action=action, name=name, value=_plain(str(value), call.line))
        variable = VARIABLES.get(SUBJECTS.get(value.name, "")) if isinstance(value, Call) else None
        if not isinstance(value, Call) or variable is None:
            raise Untaken(call.line, "a header's value is a text, the client's address, the port or another header")
        return policy.Header(
            action=action, name=name, variable=variable, value=self._named(value) if variable == "header" else ""
        )

    def _redirect(self, call: Call) -> policy.Redirect:
        status = call.arguments[1] if len(call.arguments) > 1 else 302
        if not isinstance(status, int) or status not in REDIRECTS:
            raise Untaken(call.line, f"redirects are {', '.join(map(str, REDIRECTS))}")
        target = call.arguments[0]
        parts = target.parts if isinstance(target, Joined) else (target,)
        if not isinstance(parts[0], str) or not parts[0].startswith(("http://", "https://")):
            raise Untaken(call.line, "the target must begin with http:// or https://")
        tls, rest = parts[0].startswith("https://"), list(parts)
        rest[0] = parts[0].partition("://")[2]
        url = urlsplit(f"//{rest[0]}")
        host, path, query, keep = url.netloc, url.path, url.query, False
        for part in rest[1:]:
            subject = SUBJECTS.get(part.name, part.name) if isinstance(part, Call) else ""
            if subject == "host" and not host and not path:
                host = "%"
            elif subject in ("path", URI) and host and not path and not query:
                path, keep = "%", subject == URI
            elif isinstance(part, str | int) and host and path != "%" and not query:
                path += str(part)
            else:
                raise Untaken(
                    call.line, "the target is made of a host, hostname(), and a path, get_path() or get_uri()"
                )
        return policy.Redirect(
            status=status,
            tls=tls,
            host=() if host == "%" else (Piece(kind="text", text=_plain(host, call.line)),),
            path=() if path == "%" else (Piece(kind="text", text=_plain(path or "/", call.line)),),
            keep_query=keep,
            add_query=_plain(query, call.line),
        )

    def _respond(self, call: Call) -> policy.Respond:
        status, *rest = call.arguments
        if not isinstance(status, int) or not 200 <= status <= 599 or any(not isinstance(one, str) for one in rest):
            raise Untaken(call.line, "an answer is a status from 200 to 599, nil, and a text")
        if rest and rest[0]:
            raise Untaken(call.line, "headers of an answer are not taken: give nil")
        body = str(rest[1]) if len(rest) > 1 else ""
        if len(body) > policy.TEXT_CHARACTERS_MAX:
            raise Untaken(call.line, f"an answer has at most {policy.TEXT_CHARACTERS_MAX} characters")
        return policy.Respond(status=status, content_type="text/html" if body else "", body=body)


def _needs_name(of: str) -> bool:
    return of in ("cookie", "header", "response_header")


def _test(of: str, how: str, values: Iterable[str], name: str) -> Test:
    return Test(of=of, how=how, values=tuple(values), name=name, sensitive=True)


def _negated(test: Test) -> Test:
    return Test(of=test.of, how=test.how, values=test.values, name=test.name, sensitive=True, negated=not test.negated)


def _changes(action: policy.Action, event: str) -> Iterator[str]:
    """Subjects of conditions that are others after it."""
    if isinstance(action, policy.Rewrite):
        if action.path:
            yield "path"
        if not action.keep_query:
            yield "query"
    elif isinstance(action, policy.Header):
        yield f"{'response_header' if event == RESPONSE else 'header'} {action.name}".lower()
        if action.name.lower() in ("host", "cookie"):
            yield action.name.lower()


def _plain(text: str, line: int) -> str:
    if not text.isprintable() or len(text) > policy.TEXT_CHARACTERS_MAX:
        raise Untaken(line, "a text here is one line of printable characters, 2,000 at most")
    return text
