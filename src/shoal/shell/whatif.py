"""``shoal whatif`` and the shell's ``whatif``: the question from words, the answer as people read it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from shoal.errors import Invalid, Problem
from shoal.objects.check import meant

from .client import Client
from .command import NUMBER, WORD, Choice, Command, Known, Option, Said, of
from .layout import on_screen
from .options import with_client
from .placement import PLAIN, Ink
from .tables import box

if TYPE_CHECKING:
    from .session import Session

Document = dict[str, Any]
WORDS = {
    "group": "the service engine group (default: that of what is named)",
    "fail_engine": "these service engines die at the same moment: A,B",
    "fail_host": "every engine of the group on these hosts dies",
    "fail_any": "the worst K engines die: which, and what then",
    "set": "an edit: serviceenginegroup:Default-Group.buffer_se=2",
    "add": "so many virtual services more",
    "drain_engine": "these engines are disabled, what is on them moves",
    "drain_host": "every engine of the group on these hosts is disabled",
    "remove_engine": "these engines are drained and deleted",
}
LISTS = ("fail_engine", "fail_host", "drain_engine", "drain_host", "remove_engine")
"""Words that take several names, with commas or said again."""
NUMBERS = ("fail_any", "add")
ROWS_SHOWN = 12
EXIT_DOWN = 3
NAMES_SHOWN = 3
HEADER = ("", "Virtual services", "Now on", "Then on", "Not answered", "Connections cut")


def body_of(pairs: Iterable[tuple[str, str]]) -> Document:
    """The request, from words and their values. Raises Invalid."""
    body: Document = {}
    for word, value in pairs:
        name = word.lstrip("-").replace("-", "_")
        if name not in WORDS:
            hint = meant(name, WORDS) or f"There are: {', '.join(WORDS)}."
            raise Invalid([Problem(path="whatif", value=word[:60], why="unknown word", hint=hint)])
        if name in LISTS:
            body.setdefault(f"{name}s", []).extend(filter(None, (one.strip() for one in value.split(","))))
        elif name == "set":
            path, equals, new = value.partition("=")
            if not equals:
                why = "must be <type>:<name>.<field>=<value>"
                hint = "For example serviceenginegroup:Default-Group.buffer_se=2."
                raise Invalid([Problem(path="set", value=value[:60], why=why, hint=hint)])
            body.setdefault("set", {})[path.strip()] = new.strip()
        elif name in NUMBERS:
            if not value.isdigit():
                raise Invalid([Problem(path=name, value=value[:60], why="must be a whole number")])
            body[name] = int(value)
        else:
            body[name] = value
    return body


def pairs_of(words: list[str]) -> list[tuple[str, str]]:
    """``fail_engine A set x=y`` and ``--fail-engine=A`` alike. Raises Invalid."""
    pairs = []
    rest = list(words)
    while rest:
        word, equals, value = rest.pop(0).partition("=")
        if not equals:
            if not rest:
                hint = f"whatif {word} <{'number' if word in NUMBERS else 'name'}>"
                raise Invalid([Problem(path="whatif", value=word[:60], why="a value is required after it", hint=hint)])
            value = rest.pop(0)
        pairs.append((word, value))
    return pairs


def ask(client: Client, body: Document) -> Document:
    found: Document = client.call("POST", "whatif", body)
    return found


# --- as people read it ---


def told(answer: Document, *, everything: bool = False, ink: Ink = PLAIN) -> str:
    """The verdict first, then who goes where, then the figures."""
    first, *more = answer["verdict"]
    blocks = ["\n".join((_coloured(answer, first, ink), *more))]
    rows = _rows(answer["vips"])
    if rows:
        shown = rows if everything else rows[:ROWS_SHOWN]
        table = box(*_without_empty(HEADER, shown))
        if len(rows) > len(shown):
            table += f"\n{len(rows) - len(shown)} more rows are not shown (--all, or all)."
        blocks.append(table)
    blocks.append("\n".join(f"{name:<12} {text}" for name, text in _figures(answer)))
    notes = [f"Note: {note}" for note in (*answer["notes"], *answer["warnings"])]
    if notes:
        blocks.append("\n".join(notes))
    return "\n\n".join(blocks)


def _coloured(answer: Document, verdict: str, ink: Ink) -> str:
    """Red: somebody would not be served. Yellow: somebody would notice, or the next failure would be worse."""
    services, figures = answer["virtualservices"], answer["capacity"]["in_the_end"]
    if services["down"] or services["waiting"] or services["unplaced"]:
        return ink.bad(verdict)
    lasts = figures["kept"] and answer["margin"]["after"]["stays_up"]["engines"]
    touched = any(services[word] for word in ("interrupted", "weakened", "reduced", "exposed", "unserved"))
    return ink.good(verdict) if lasts and not touched else ink.doubtful(verdict)


def _rows(vips: list[Document]) -> list[tuple[str, ...]]:
    """Virtual services that the same happens to are in one row; the worst first."""
    alike: dict[tuple[str, str, str], list[Document]] = {}
    for vip in vips:
        alike.setdefault((_places(vip["now"]), _becomes(vip), _silence(vip)), []).append(vip)
    rows: list[tuple[str, ...]] = []
    for (now, becomes, silence), same in alike.items():
        names = [name for vip in same for name in vip["virtualservices"]]
        label = f"{names[0]} ({same[0]['address']})" if len(names) == 1 and same[0]["address"] else some(names)
        cut = sum(vip["connections_lost"] for vip in same)
        rows.append((str(len(names)), label, now, becomes, silence, str(cut) if cut else ""))
    return rows


def _without_empty(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> tuple[list[str], list[list[str]]]:
    """Columns that say nothing are left out."""
    kept = [n for n in range(len(header)) if any(row[n] for row in rows)]
    return [header[n] for n in kept], [[row[n] for n in kept] for row in rows]


def some(names: list[str]) -> str:
    """``a, b, c and 4 more``"""
    if len(names) <= NAMES_SHOWN + 1:
        return ", ".join(names)
    return f"{', '.join(names[:NAMES_SHOWN])} and {len(names) - NAMES_SHOWN} more"


def _places(names: list[str]) -> str:
    shown = " + ".join(names[:NAMES_SHOWN]) + (" ..." if len(names) > NAMES_SHOWN else "")
    return shown or "nobody"


def _becomes(vip: Document) -> str:
    then, end = vip["right_after"], vip["in_the_end"]
    match vip["what"]:
        case "down":
            return "DOWN"
        case "waits":
            return f"DOWN, then {_places(end)}"
    if then == end:
        return _places(end)
    more = [engine for engine in end if engine not in then]
    if then and end[: len(then)] == then:
        return f"{_places(then)}, later also {_places(more)}"
    return f"{_places(then)}, later {_places(end)}"


def _silence(vip: Document) -> str:
    least, most = vip["not_answered_ms"]["least"], vip["not_answered_ms"]["most"]
    if most is None:
        return "until an engine is back" if vip["what"] == "down" else "until an engine is made"
    if not most:
        return ""
    return duration(most) if duration(least) == duration(most) else f"{duration(least)} - {duration(most)}"


def duration(ms: float) -> str:
    if ms < 95:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.1f} s" if ms < 99_500 else f"{ms / 60_000:.0f} min"


def _figures(answer: Document) -> Iterable[tuple[str, str]]:
    if answer["edits"]:
        yield "If", "; ".join(answer["edits"])
    if answer["fails"]:
        yield "Fails", ", ".join(answer["fails"])
    engines, capacity, connections = answer["engines"], answer["capacity"], answer["connections"]
    anything = answer["fails"] or answer["edits"]
    words = [f"{engines['made']} made" if engines["made"] else "none made"] if anything else []
    words += [f"{some(engines['deleted'])} deleted"] if engines["deleted"] else []
    if engines["deleted_when_idle"]:
        words.append(
            f"{some(engines['deleted_when_idle'])} deleted after {duration(engines['idle_for_s'] * 1000)} idle"
        )
    if words:
        yield "Engines", ", ".join(words)
    steps = ("before", "right_after", "in_the_end") if answer["fails"] else ("before", "in_the_end")
    if anything:
        for step in steps:
            yield "" if step != steps[0] else "Free slots", f"{step.replace('_', ' '):<11}  {_free(capacity[step])}"
    else:
        yield "Free slots", _free(capacity["before"])
    if counted := _counted(connections):
        yield "Connections", counted
    now, end = (margin(answer["margin"][when]) for when in ("before", "after"))
    yield "May fail", now if now == end else f"now {now}"
    if now != end:
        yield "", f"then {end}"
    create = answer["times"]["engine_creation_ms"]
    detection = answer["times"]["failure_detection"]["detection_ms"]
    yield "Times", f"a silent engine is noticed after {duration(detection)}, a dead process at once"
    yield "", f"a new engine takes {duration(create)}" if create is not None else "no engine's making was measured yet"


def _counted(connections: Document) -> str:
    """ "" if none is concerned. An engine that has not told its counters may have any number."""
    unknown, known = connections["not_known_of"], connections["lost"] or connections["drained"]
    figures = f"{connections['lost']} cut, {connections['drained']} drained"
    if not unknown:
        return figures if known else ""
    untold = f"{some(unknown)} {'has' if len(unknown) == 1 else 'have'} not told how many are open"
    return f"{figures}; {untold}" if known else f"not known: {untold}"


def _free(buffer: Document) -> str:
    needed = f" (buffer {buffer['needed']}{'' if buffer['kept'] else ', SHORT'})" if buffer["needed"] else ""
    return f"{buffer['free']} of {buffer['slots']}{needed}"


def margin(found: Document) -> str:
    """``any 2 of 5 engines (1 without loss of strength), any host``"""
    up, whole, engines = found["stays_up"], found["keeps_capacity"], found["of_engines"]
    if up["engines"] >= engines:
        return "anything: nothing is served"

    def count(guarantee: Document) -> str:
        if guarantee["exact"]:
            return str(guarantee["engines"] or "none")
        return f"{guarantee['engines']}, perhaps {guarantee['at_most']}"

    some_may = up["engines"] or not up["exact"]
    words = f"any {count(up)} of {engines} engines" if some_may else f"NONE of {engines} engines"
    if some_may:
        words += f" ({count(whole)} without loss of strength)"
    if found["worst_host"] and found["worst_host_vips_down"]:
        down = found["worst_host_vips_down"]
        words += f", NOT host {found['worst_host']} ({down} VIP{'' if down == 1 else 's'} down)"
    elif found["worst_host"]:
        words += ", any one host"
    return words


# --- the command ---


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@with_client
@click.option("--group", help="The service engine group; default: that of what is named.")
@click.option("--fail-engine", multiple=True, metavar="A,B", help="These engines die at the same moment.")
@click.option("--fail-host", multiple=True, metavar="H", help="Every engine of the group there dies.")
@click.option(
    "--fail-any", type=click.IntRange(min=1), metavar="K", help="The worst K engines die: which, and what then."
)
@click.option(
    "--set", "edits", multiple=True, metavar="TYPE:NAME.FIELD=VALUE", help="An edit, as `configure` would make it."
)
@click.option("--add", type=click.IntRange(min=1), metavar="N", help="So many virtual services more.")
@click.option("--drain-engine", multiple=True, metavar="A,B", help="These engines are disabled.")
@click.option("--drain-host", multiple=True, metavar="H", help="Every engine of the group there is disabled.")
@click.option("--remove-engine", multiple=True, metavar="E", help="Drained, then deleted.")
@click.option("--all", "everything", is_flag=True, help="Every virtual service, not the first ones only.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(client: Client, everything: bool, as_json: bool, edits: tuple[str, ...], **options: Any) -> int:
    """What would happen: failures and changes on paper, nothing is done.

    Changes are carried out and settle first, then the failures come. Without any: how many engines may fail.

    \b
    shoal whatif --fail-engine Avi-se-abcde
    shoal whatif --fail-any 2
    shoal whatif --drain-host rack1-h2 --fail-any 1
    shoal whatif --set serviceenginegroup:Default-Group.ha_mode=HA_MODE_SHARED_PAIR --add 20

    Exit status: 0 everything stays up, 3 something would be down, 1 refused.
    """
    pairs = [("set", edit) for edit in edits]
    for name, value in options.items():
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        pairs += [(name, str(one)) for one in values]
    body = body_of(pairs)
    client.login()
    answer = ask(client, body)
    click.echo(json.dumps(answer) if as_json else on_screen(told(answer, everything=everything, ink=Ink.of_stdout())))
    return 0 if answer["stays_up"] and not answer["virtualservices"]["unplaced"] else EXIT_DOWN


# --- in the shell ---


def _run(session: Session, words: list[str]) -> Said:
    everything = "all" in words
    answer = ask(session.client, body_of(pairs_of([word for word in words if word != "all"])))
    return Said(told(answer, everything=everything, ink=session.ink), answer)


def _next(known: Known, words: list[str]) -> Iterable[Choice]:
    """A word and its value, any number of times."""
    words = [word for word in words if word != "all"]
    if len(words) % 2 == 0 or words[-1] not in WORDS:
        return [*of(WORDS), Choice("all", "every virtual service, not the first ones only")]
    match words[-1]:
        case "group":
            return known.names("serviceenginegroup")
        case "fail_engine" | "drain_engine" | "remove_engine":
            return known.names("serviceengine")
        case "fail_any" | "add":
            return [Choice(NUMBER, WORDS[words[-1]], free=True)]
    return [Choice(WORD, WORDS[words[-1]], free=True)]


COMMAND = Command(
    summary="failures and changes on paper: what would happen",
    usage=(
        "whatif [group <group>]",
        "whatif fail_any <k>",
        "whatif fail_engine <se>[,<se>] [set <type>:<name>.<field>=<value>] ...",
    ),
    run=_run,
    next=_next,
    options=tuple(Option(word, help, WORD) for word, help in WORDS.items()),
)
