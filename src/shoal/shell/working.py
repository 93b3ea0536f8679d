"""Commands about the session itself: where one works, what was typed, leaving."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from shoal.errors import Invalid, NotFound, Problem, ShoalError
from shoal.objects.check import meant

from .command import NUMBER, Choice, Command, Known, Option, Said, of

if TYPE_CHECKING:
    from .session import Session

EVERY = "all"
CLEAR_SCREEN = "\x1b[2J\x1b[H"
WATCHED = {"show": "an object, what runs of it, events", "whatif": "what failures would come to"}
WATCH_OPTIONS = (
    Option("interval", "seconds between, 5 if not given", NUMBER),
    Option("count", "so often; until Ctrl-C if not given", NUMBER),
)


def _switch(session: Session, words: list[str]) -> str:
    match words:
        case ["tenant", name]:
            before, session.client.tenant = session.client.tenant, name
            try:
                session.client.call("GET", "tenant?page_size=1")
            except ShoalError as error:
                session.client.tenant = before
                if not isinstance(error, NotFound):
                    raise
                known = [str(tenant.get("name", "")) for tenant in session.client.all("tenant", "name")]
                hint = meant(name, known) or f"There are: {', '.join(known[:10])}."
                raise NotFound(f"There is no tenant {name[:80]}.", hint=hint) from None
            return ""
        case ["cloud", name] if name == EVERY:
            session.client.cloud = ""
            return "Objects of every cloud are shown."
        case ["cloud", name]:
            session.object(session.kind("cloud"), name)
            session.client.cloud = name
            return f"Pools, virtual services, groups and engines are those of cloud {name}; switchto cloud all ends it."
    raise Invalid([Problem(path="switchto", why="use switchto tenant <name>, or switchto cloud <name>")])


def _switch_next(known: Known, words: list[str]) -> Iterable[Choice]:
    match words:
        case []:
            return [Choice("tenant", "work in another tenant"), Choice("cloud", "see the objects of one cloud only")]
        case ["tenant"]:
            return known.names("tenant")
        case ["cloud"]:
            return [*known.names("cloud"), Choice(EVERY, "of every cloud")]
    return ()


def _history(session: Session, words: list[str]) -> Said:
    if words and (len(words) > 1 or not words[0].isdecimal()):
        raise Invalid([Problem(path="history", value=words[0][:60], why="takes how many of the last commands")])
    first = max(0, len(session.past) - int(words[0])) if words else 0
    numbered = list(enumerate(session.past, 1))[first:]
    lines = [f"{number:>5}  {line}" for number, line in numbered]
    return Said("\n".join(lines), [line for _, line in numbered])


def _watch_next(known: Known, words: list[str]) -> Iterable[Choice]:
    from .commands import COMMANDS

    while len(words) > 1 and words[0] in ("interval", "count"):
        words = words[2:]
    match words:
        case []:
            return [*of(WATCHED), *(Choice(option.word, option.help) for option in WATCH_OPTIONS)]
        case ["interval" | "count"]:
            return [Choice(NUMBER, free=True)]
        case [command, *rest] if command in WATCHED:
            return COMMANDS[command].next(known, rest)
    return ()


def _help_next(known: Known, words: list[str]) -> Iterable[Choice]:
    from .commands import COMMANDS

    return [Choice(name, command.summary) for name, command in COMMANDS.items()] if not words else ()


def _leave(session: Session, words: list[str]) -> str:
    """`Session` leaves before it comes to this."""
    return ""


def _clear(session: Session, words: list[str]) -> str:
    return CLEAR_SCREEN


def _help(session: Session, words: list[str]) -> str:
    return session.help(words)


def _watch(session: Session, words: list[str]) -> str:
    """`Session` watches before it comes to this: only a nested watch gets here."""
    raise Invalid([Problem(path="watch", why="a watch can't be watched")])


SWITCHTO = Command(
    summary="work in another tenant, or see one cloud only",
    usage=("switchto tenant <name>", "switchto cloud <name>", "switchto cloud all"),
    run=_switch,
    next=_switch_next,
)
WATCH = Command(
    summary="the same again every few seconds, until Ctrl-C",
    usage=("watch [interval <seconds>] [count <n>] show ...",),
    run=_watch,
    next=_watch_next,
    options=WATCH_OPTIONS,
)
HISTORY = Command(
    summary="the commands of this session",
    usage=("history [<n>]",),
    run=_history,
    next=lambda known, words: () if words else [Choice(NUMBER, "only the last so many", free=True)],
)
CLEAR = Command(summary="clear the screen", usage=("clear",), run=_clear)
HELP = Command(summary="this text, or one command's", usage=("help [<command>]",), run=_help, next=_help_next)
LEAVE = Command(summary="leave the mode, or the shell", usage=("exit",), run=_leave)
