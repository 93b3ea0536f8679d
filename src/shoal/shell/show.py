"""``show``: objects, what runs of them, events and logs. Reads only."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from shoal.errors import Invalid, NotFound, Problem
from shoal.objects import ObjectType
from shoal.objects.check import meant

from . import placement, script
from .command import NUMBER, WORD, Choice, Command, Known, Option, Said, next_option, of, options_of
from .tables import box, plain_table

if TYPE_CHECKING:
    from .session import Session

Document = dict[str, Any]
VIEWS = {
    "summary": "runtime",
    "runtime": "runtime",
    "detail": "runtime/detail",
    "placement": "placement",
    "ineligible": "placement/ineligible",
    "server": "runtime/server",
}
VIEW_HELP = {
    "summary": "what runs of it",
    "runtime": "the same as summary",
    "detail": "what runs of it, in detail",
    "placement": "where it is, why there, why not elsewhere",
    "ineligible": "which engines can't take it, and why",
    "server": "its servers, as health monitors see them",
}
VIEWS_OF = {
    "virtualservice": ("summary", "detail", "placement", "runtime"),
    "serviceengine": ("summary", "detail", "placement", "runtime"),
    "serviceenginegroup": ("summary", "placement", "ineligible", "runtime"),
    "pool": ("summary", "detail", "server", "runtime"),
}
"""Of the types that run; the others have none."""
PLACEMENTS = {
    "virtualservice": placement.service,
    "serviceengine": placement.engine,
    "serviceenginegroup": placement.group,
}
EVENTS, LOG, VERSION, PLACEMENT = "events", "log", "version", "placement"
SPECIAL = {
    EVENTS: "what has happened, the newest first",
    LOG: "requests and connections of virtual services",
    VERSION: "of the controller",
    PLACEMENT: "where an object is, and why: show placement virtualservice <name>",
}
LAST_DEFAULT, LAST_MAX = 50, 10_000
SINCE = Option("since", "how far back: 90s, 10m, 2h, 3d", WORD)
LAST = Option("last", f"so many, {LAST_DEFAULT} if not given", NUMBER)
EVENT_OPTIONS = (SINCE, LAST, Option("event_id", "only these: SE_DOWN,SE_UP", WORD))
LOG_OPTIONS = (
    SINCE,
    LAST,
    Option("filter", "for example ge(response_code,500)", WORD),
    Option("connections", "those of TCP services, instead of requests"),
)
UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
EVENT_LOG, REQUESTS, CONNECTIONS = 2, 1, 0
LOG_COLUMNS = {
    "Virtual service": ("vs_name",),
    "Client": ("client_ip",),
    "Method": ("method",),
    "Path": ("uri_path",),
    "Status": ("response_code",),
    "ms": ("total_time",),
    "Server": ("server_name", "server_ip"),
    "Why logged": ("significance",),
}


def run(session: Session, words: list[str]) -> Said | str:
    match words:
        case []:
            raise Invalid([Problem(path="show", why="what? Give a type", hint="For example: show serviceenginegroup.")])
        case ["events", *rest]:
            return _events(session, rest)
        case ["log" | "logs", *rest]:
            return _log(session, rest)
        case ["version", *rest]:
            options_of("show version", (), rest)
            found = session.client.call("GET", "cluster/version")
            return Said(plain_table(found), found)
        case ["placement", type, name]:
            words = [type, name, "placement"]
        case ["placement", *_]:
            usage = "Use show placement virtualservice|serviceengine|serviceenginegroup <name>."
            raise Invalid([Problem(path="show placement", why="a type and a name are required", hint=usage)])
    kind = _kind(session, words[0])
    if kind.singleton:
        options_of(f"show {kind.endpoint}", (), words[1:])
        return session.printed(kind, session.client.singleton(kind.endpoint))
    if len(words) == 1:
        return listed(session, kind)
    document = session.object(kind, words[1])
    if len(words) == 2:
        return session.printed(kind, document)
    if words[3:]:
        raise Invalid([Problem(path=f"show {kind.endpoint}", value=words[3][:60], why="nothing may follow a view")])
    return _view(session, kind, document, words[2])


def _kind(session: Session, word: str) -> ObjectType:
    try:
        return session.kind(word)
    except NotFound as error:
        hint = meant(word.lower(), (*SPECIAL, *session.registry.types)) or error.hint
        raise NotFound(error.message, hint=hint) from None


def _view(session: Session, kind: ObjectType, document: Document, view: str) -> Said:
    if view not in VIEWS:
        known = VIEWS_OF.get(kind.endpoint, ())
        hint = meant(view, VIEWS) or (f"There are: {', '.join(known)}." if known else "It has none.")
        raise NotFound(f"There is no view {view[:60]}.", hint=hint)
    found = session.client.call("GET", f"{kind.endpoint}/{document['uuid']}/{VIEWS[view]}")
    reads = PLACEMENTS.get(kind.endpoint) if view == "placement" else None
    if reads is not None and not session.preferences.script:
        return Said(reads(found, session.ink, session.preferences.zone), found)
    return session.plain(found)


def listed(session: Session, kind: ObjectType) -> Said:
    """Names and UUIDs of a type."""
    with_cloud = kind.endpoint == "serviceenginegroup"
    rows = []
    for document in session.client.all(kind.endpoint, "name,uuid,cloud_ref"):
        row = {"Name": str(document.get("name", "")), "UUID": document["uuid"]}
        rows.append(row | ({"Cloud": document.get("cloud_ref", "").rpartition("#")[2]} if with_cloud else {}))
    header = ("Name", "UUID", "Cloud") if with_cloud else ("Name", "UUID")
    data = [{name.lower(): value for name, value in row.items()} for row in rows]
    if session.preferences.script:
        lines = (" ".join(script.option(name, value) for name, value in row.items()) for row in data)
        return Said("\n".join(lines), data)
    return Said(box(header, [tuple(row.values()) for row in rows]) if rows else f"There is no {kind.endpoint}.", data)


# --- events and logs ---


def _events(session: Session, words: list[str]) -> Said:
    query: list[tuple[str, str]] = [("type", str(EVENT_LOG))]
    if words and words[0] in session.registry.types:
        kind, name = session.two(words, "show events")
        query.append(("filter", f"co(all,{session.object(kind, name)['uuid']})"))
        words = words[2:]
    given = options_of("show events", EVENT_OPTIONS, words)
    if "event_id" in given:
        query.append(("filter", f"eq(event_id,[{given['event_id']}])"))
    found = _read(session, query, given)
    rows = [(_moment(session, e), str(e["event_id"]), str(e.get("event_description", ""))) for e in found]
    header = (f"Time ({session.preferences.timezone})", "Event", "What")
    return Said(box(header, rows) if rows else "Nothing has happened.", found)


def _log(session: Session, words: list[str]) -> Said:
    query: list[tuple[str, str]] = []
    one = words[:1] == ["virtualservice"]
    if one:
        kind, name = session.two(words, "show log")
        query.append(("virtualservice", session.object(kind, name)["uuid"]))
        words = words[2:]
    given = options_of("show log", LOG_OPTIONS, words)
    query.append(("type", str(CONNECTIONS if "connections" in given else REQUESTS)))
    if "filter" in given:
        query.append(("filter", given["filter"]))
    found = _read(session, query, given)
    columns = [
        t
        for t, names in LOG_COLUMNS.items()
        if any(_first(e, names) for e in found) and not (one and "vs_name" in names)
    ]
    rows = [(_moment(session, e), *(_first(e, LOG_COLUMNS[title]) for title in columns)) for e in found]
    header = (f"Time ({session.preferences.timezone})", *columns)
    nothing = "Nothing is logged: failed and slow requests are, and a sample of the others."
    return Said(box(header, rows) if rows else nothing, found)


def _read(session: Session, query: list[tuple[str, str]], given: Mapping[str, Any]) -> list[Document]:
    last = int(given.get("last", LAST_DEFAULT))
    if not 0 < last <= LAST_MAX:
        raise Invalid([Problem(path="last", value=str(given["last"])[:60], why=f"must be 1 to {LAST_MAX}")])
    query.append(("page_size", str(last)))
    if "since" in given:
        query.append(("duration", str(seconds_of(given["since"]))))
    found: list[Document] = session.client.call("GET", f"analytics/logs?{urlencode(query)}")["results"]
    return found


def seconds_of(text: str) -> int:
    """``90``, ``90s``, ``10m``, ``2h``, ``3d``. Raises Invalid."""
    match = re.fullmatch(r"(\d{1,7})([smhd]?)", text.strip())
    if match is None:
        raise Invalid([Problem(path="since", value=text[:60], why="is no duration", hint="Give 90s, 10m, 2h or 3d.")])
    return int(match[1]) * UNITS_S[match[2]]


def _moment(session: Session, entry: Document) -> str:
    at = entry.get("report_timestamp", "")
    if isinstance(at, str):
        try:
            at = datetime.datetime.fromisoformat(at).timestamp()
        except ValueError:
            return str(at)
    return session.preferences.zone.moment(at)


def _first(entry: Document, names: tuple[str, ...]) -> str:
    value = next((entry[name] for name in names if entry.get(name) not in (None, "")), "")
    return f"{value:.1f}" if isinstance(value, float) else str(value)


# --- completion ---


def next_word(known: Known, words: list[str]) -> Iterable[Choice]:
    registry = known.session.registry
    match words:
        case []:
            return [*of(SPECIAL), *(Choice(kind.endpoint, kind.name) for kind in registry.types.values())]
        case ["events", *rest]:
            return _of_log(known, rest, EVENT_OPTIONS, list(registry.types))
        case ["log" | "logs", *rest]:
            return _of_log(known, rest, LOG_OPTIONS, ["virtualservice"])
        case ["version", *_]:
            return ()
        case ["placement"]:
            return [Choice(type) for type in PLACEMENTS]
        case ["placement", type] if type in PLACEMENTS:
            return known.names(type)
        case [word]:
            kind = registry.types.get(word.lower())
            return () if kind is None or kind.singleton else known.names(kind.endpoint)
        case [word, _] if word.lower() in VIEWS_OF:
            return [Choice(view, VIEW_HELP[view]) for view in VIEWS_OF[word.lower()]]
    return ()


def _of_log(known: Known, words: list[str], options: tuple[Option, ...], types: list[str]) -> Iterable[Choice]:
    match words:
        case []:
            return [*next_option(known, options, []), *(Choice(type, "only of one of these") for type in types)]
        case [type] if type in types:
            return known.names(type)
        case [type, _, *rest] if type in types:
            return next_option(known, options, rest)
    return next_option(known, options, words)


COMMAND = Command(
    summary="an object, what runs of it, events, logs",
    usage=(
        "show <type>",
        "show <type> <name> [summary|detail|placement|runtime]",
        "show events [<type> <name>] [since <time>] [last <n>] [event_id <names>]",
        "show log [virtualservice <name>] [since <time>] [last <n>] [filter <expression>] [connections]",
        "show version",
    ),
    run=run,
    next=next_word,
    options=(*EVENT_OPTIONS, *LOG_OPTIONS[2:]),
)
