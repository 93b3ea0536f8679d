"""One shell session: takes a line, says what to print. Knows nothing of terminals."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

from shoal.errors import Invalid, NotFound, NotReady, Problem, ShoalError
from shoal.objects import MessageType, ObjectType, Registry
from shoal.objects.check import meant

from . import pipes, placement, plan, script
from .client import Client, Document
from .command import Said, manual
from .commands import COMMANDS, ELSEWHERE, EXIT, GROUPS
from .edit import Edit
from .plan import Confirm
from .preferences import SINGLE_LINE, Preferences
from .tables import object_table, plain_table
from .words import commands

EDIT_HELP = {
    "save": "keep and leave the mode; at the top it is sent to the controller",
    "cancel": "leave the mode and throw the changes away",
    "where": "what is pending",
    "no": "unset: no <field>, no <list> <value>, no <list> index <n>",
    "do": "a command without leaving the mode: do show events",
    "show": "the same as do show",
    "watch": "the same as do watch",
    "help": "this text",
    "exit": "the same as cancel",
}
AFTER_AN_EDIT = ("configure", "copy", "import", "switchto", *EXIT)
"""Commands that an edit must be finished for: they would drop it, or send it to another tenant."""
KEYS = "Tab completes; ? tells what may come next (in quotes it is a question mark)."
DETAIL = "--api-detail"
WATCH_EVERY_S, WATCH_MAX = 5, 100_000
WATCHED = ("show", "whatif")
HISTORY_MAX = 10_000
SECRET_SHOWN = "<sensitive>"
SECRETIVE, PASSPHRASE = ("configure ", "debug ", "upload "), "passphrase"
"""Commands whose words may be secrets; the one that is no field."""
Frame = Callable[[str], None]


class Leave(Exception):
    """The operator wants out."""


class Session:
    """``confirm`` shows what a change would do to traffic, and asks; None = nobody is there to be asked. ``frame`` shows
    one picture of a `watch`."""

    def __init__(
        self,
        client: Client,
        registry: Registry,
        node: str,
        *,
        confirm: Confirm | None = None,
        ink: placement.Ink = placement.PLAIN,
        frame: Frame = print,
    ) -> None:
        self.client = client
        self.registry = registry
        self.node = node
        self.edit: Edit | None = None
        self.preferences = Preferences()
        self.past: list[str] = []
        self.confirm = confirm
        self.frame = frame
        self._ink = ink
        self._piped = False
        """What is printed goes through a pipe of the shell's: no colour."""
        self.verbatim = False
        """The last answer is to be pasted elsewhere, so it is not laid out for the screen."""

    @property
    def prompt(self) -> str:
        mode = f" {self.edit.prompt}" if self.edit else " "
        return f"[{self.client.tenant}:{self.node}]:{mode}> "

    @property
    def ink(self) -> placement.Ink:
        return placement.PLAIN if self._piped else self._ink

    def run(self, line: str) -> tuple[str, bool]:
        """(what to print, whether to page it). Raises ShoalError for what can't be done, Leave for exit."""
        line = line.strip()
        if not line or line.startswith("#"):
            return "", False
        self._remember(line)
        self.verbatim = False
        words, *rest = commands(line)
        found, paged = pipes.filters(rest)
        self._piped = bool(rest)
        detail = DETAIL in words or self.preferences.api_details
        words = [word for word in words if word != DETAIL]
        if not words:
            raise Invalid([Problem(path="|", why="a command is required before it")])
        calls: list[str] = []
        if detail:
            self.client.on_call = lambda method, path, body: calls.append(self._told(method, path, body))
        try:
            said = self._watch(words, found) if _watches(words) else self._piped_through(words, found)
        except ShoalError as error:
            if calls:
                error.message = "\n".join([*calls, error.message])
            raise
        finally:
            if detail:
                self.client.on_call = None
        self.verbatim = said.verbatim or self.preferences.script
        return "\n".join([*calls, *([said.text] if said.text else [])]), paged

    def _remember(self, line: str) -> None:
        """A line that sets a secret is remembered without it."""
        if self.edit is not None or line.startswith(SECRETIVE):
            line = _without_secrets(line, self.registry.secret_names | {PASSPHRASE})
        self.past.append(line)
        del self.past[:-HISTORY_MAX]

    def _piped_through(self, words: list[str], filters: Sequence[pipes.Filter]) -> Said:
        found = self._in_edit(words) if self.edit and words[0] not in WATCHED else self._top(words)
        said = found if isinstance(found, Said) else Said(found)
        for one in filters:
            said = one(said)
        return said

    def _top(self, words: list[str]) -> Said | str:
        if words[0] in EXIT:
            raise Leave
        command = COMMANDS.get(words[0])
        if command is None:
            if words[0] in ELSEWHERE:
                raise NotFound(f"There is no command {words[0]} here.", hint=ELSEWHERE[words[0]])
            hint = meant(words[0], COMMANDS) or "Type help for the commands."
            raise NotFound(f"There is no command {words[0][:60]}.", hint=hint)
        return command.run(self, words[1:])

    # --- what commands work with ---

    def kind(self, word: str) -> ObjectType:
        kind = self.registry.type(word)
        if not kind.endpoint:
            raise NotFound(f"{kind.name} is part of other objects and has no list of its own.")
        return kind

    def object(self, kind: ObjectType, name: str) -> Document:
        """Raises NotFound with the nearest name."""
        return self.client.object(kind.endpoint, name)

    def two(self, words: list[str], command: str) -> tuple[ObjectType, str]:
        """The type and the name a command begins with."""
        if len(words) < 2:
            why = "the name is required" if words else "the type and the name are required"
            raise Invalid(
                [Problem(path=command, why=why, hint=f"Use {command} {words[0] if words else '<type>'} <name>.")]
            )
        kind = self.kind(words[0])
        if not words[1] and not kind.singleton:
            raise Invalid([Problem(path=command, why="the name is required, and is empty")])
        return kind, words[1]

    def change(self, kind: ObjectType, method: str, path: str, body: Document | None = None) -> Any:
        """A write that may move traffic. Raises Declined where the operator does not want that."""
        return plan.change(self.client, self.confirm, kind.endpoint, method, path, body)

    def printed(self, kind: ObjectType, document: Mapping[str, Any]) -> Said:
        """An object: its table, or the command that makes it."""
        if self.preferences.script:
            one_line = self.preferences.output == SINGLE_LINE
            return Said(script.command_of(kind, document, one_line=one_line), document)
        return Said(object_table(kind.message, document), document)

    def plain(self, document: Any) -> Said:
        """A document without a schema."""
        if self.preferences.script:
            lines = [script.option(path, value) for path, value in script.plain_options(document)]
            return Said("\n".join(lines), document)
        return Said(plain_table(document, self.preferences.zone.moment), document)

    def _told(self, method: str, path: str, body: Document | None) -> str:
        """One API call, without secrets."""
        shown = "" if body is None else " " + json.dumps(self._without_secrets(body), ensure_ascii=False)
        return f"API: {method} {self.client.url}/api/{path}{shown}"

    def _without_secrets(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                name: SECRET_SHOWN if name in self.registry.secret_names else self._without_secrets(one)
                for name, one in value.items()
            }
        return [self._without_secrets(one) for one in value] if isinstance(value, list) else value

    # --- help, watch ---

    def help(self, words: Sequence[str] = ()) -> str:
        if words:
            command = COMMANDS.get(words[0])
            if command is not None:
                return manual(words[0], command)
            known = {**EDIT_HELP, **pipes.COMMANDS}
            if words[0] in known:
                return f"{words[0]}: {known[words[0]]}."
            raise NotFound(f"There is no command {words[0][:60]}.", hint=meant(words[0], (*COMMANDS, *known)))
        if self.edit:
            return "\n".join([*(f"  {name:<17} {text}" for name, text in EDIT_HELP.items()), KEYS])
        lines = []
        for title, names in GROUPS.items():
            lines += [title, *(f"  {name:<17} {COMMANDS[name].summary}" for name in names), ""]
        return "\n".join([*lines, "help <command> tells its options.", KEYS])

    def _watch(self, words: list[str], filters: Sequence[pipes.Filter]) -> Said:
        """Again and again until Ctrl-C; a controller that does not answer meanwhile is said, and asked on."""
        words = words[1:] if words[0] == "do" else words
        interval, count, rest = _watched(words[1:])
        title = f"Every {interval} s, Ctrl-C ends it: {' '.join(rest)}"
        shown = 0
        try:
            while count is None or shown < count:
                time.sleep(interval if shown else 0)
                try:
                    said = self._piped_through(rest, filters)
                    text = said.text
                except ShoalError as error:
                    if not shown and not isinstance(error, NotReady):
                        raise
                    text = f"Error: {error}"
                zone = self.preferences.zone
                self.frame(f"{zone.moment(time.time())} {zone.name}  {title}\n{text}")
                shown += 1
        except KeyboardInterrupt:
            pass
        return Said("")

    # --- in an edit ---

    def _in_edit(self, words: list[str]) -> Said | str:
        edit = self.edit
        assert edit is not None
        match words[0]:
            case "save":
                _alone(words)
                return self.save(edit)
            case "cancel" | "exit":
                _alone(words)
                self._leave(edit)
                return ""
            case "where":
                return self._where(edit)
            case "do":
                return self._meanwhile(words[1:] or ["help"])
            case "no":
                if len(words) < 2:
                    raise Invalid([Problem(path="no", why="the field is required")])
                edit.unset(words[1], words[2:])
                return object_table(edit.level.message, edit.level.content)
            case "help":
                return self.help(words[1:])
            case "show":
                return self._top(words)
        if script.asked(words):
            edit.put(words)
            return ""
        if words[0] in COMMANDS and words[0] not in edit.level.message.fields:
            self._elsewhere(words[0])
        edit.field(words[0], EDIT_HELP)
        return edit.set(words[0], words[1:])

    def _elsewhere(self, word: str) -> NoReturn:
        """A command of the top that is no word of a mode."""
        if word in AFTER_AN_EDIT:
            raise Invalid([Problem(path=word, why="finish the edit first", hint="Type save or cancel.")])
        raise NotFound(f"{word} is no field here, but a command.", hint=f"In a mode: do {word} ...")

    def _where(self, edit: Edit) -> Said:
        message, content = edit.level.message, edit.level.content
        text = _lines(message, content) if self.preferences.script else object_table(message, content)
        return Said(f"Tenant: {self.client.tenant}\n{text}", content)

    def _meanwhile(self, words: list[str]) -> Said | str:
        if words[0] in AFTER_AN_EDIT:
            raise Invalid([Problem(path=f"do {words[0]}", why="finish the edit first", hint="Type save or cancel.")])
        return self._top(words)

    def _leave(self, edit: Edit) -> None:
        if len(edit.levels) > 1:
            edit.leave(keep=False)
        else:
            self.edit = None

    def save(self, edit: Edit) -> Said | str:
        """At a nested level: one level up. At the top: send it; the edit is over when the controller has taken it."""
        if len(edit.levels) > 1:
            edit.leave(keep=True)
            return ""
        kind = edit.kind
        method, body = edit.changes()
        if method == "PATCH" and not body:
            self.edit = None
            return "Nothing was changed."
        path = kind.endpoint
        if edit.before is not None and not kind.singleton:
            path += f"/{edit.before['uuid']}"
        saved = self.change(kind, method, path, body)
        warnings = [f"Warning: {warning}" for warning in self.client.warnings]
        self.edit = None
        said = self.printed(kind, saved)
        return Said("\n".join([said.text, *warnings]), said.data)


def _without_secrets(line: str, secret: Collection[str]) -> str:
    """``ldap settings password <sensitive>``, ``--key <sensitive> --enabled true``"""
    kept: list[str] = []
    hides = False
    for word in line.partition("\n")[0].split():
        hides = hides and not word.startswith(script.PREFIX)
        if hides:
            continue
        name, equals, _ = word.partition("=")
        kept.append(name if equals and name.startswith(script.PREFIX) else word)
        if name.removeprefix(script.PREFIX).rpartition(".")[2] in secret:
            kept.append(SECRET_SHOWN)
            hides = True
    return " ".join(kept) if SECRET_SHOWN in kept else line


def _watched(words: list[str]) -> tuple[int, int | None, list[str]]:
    """(seconds between, how often, the command)."""
    interval, count = WATCH_EVERY_S, None
    while len(words) > 1 and words[0] in ("interval", "count"):
        option, number, *words = words
        if not number.isdecimal() or not 0 < int(number) < WATCH_MAX:
            raise Invalid([Problem(path=f"watch {option}", value=number[:60], why="must be a whole number from 1 on")])
        interval, count = (int(number), count) if option == "interval" else (interval, int(number))
    if not words or words[0] not in WATCHED:
        why = f"what? One of {', '.join(WATCHED)}"
        raise Invalid([Problem(path="watch", why=why, hint="For example: watch show events last 10.")])
    return interval, count, words


def _lines(message: MessageType, content: Mapping[str, Any]) -> str:
    return "\n".join(script.option(path, value) for path, value in script.options(message, content, whole=True))


def _alone(words: list[str]) -> None:
    if words[1:]:
        raise Invalid([Problem(path=words[0], value=words[1][:60], why="takes nothing")])


def _watches(words: list[str]) -> bool:
    return words[0] == "watch" or words[:2] == ["do", "watch"]
