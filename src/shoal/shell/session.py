"""One shell session: takes a line, says what to print. Knows nothing of terminals."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from shoal.errors import Invalid, NotFound, Problem, ShoalError
from shoal.objects import ObjectType, Registry
from shoal.objects.check import meant

from . import pipes, placement, plan, whatif
from .client import Client, Document
from .edit import Edit
from .plan import Confirm
from .tables import box, object_table, plain_table
from .words import commands

VIEWS = {
    "summary": "runtime",
    "runtime": "runtime",
    "detail": "runtime/detail",
    "placement": "placement",
    "server": "runtime/server",
}
PLACEMENTS = {
    "virtualservice": placement.service,
    "serviceengine": placement.engine,
    "serviceenginegroup": placement.group,
}
OPERATIONS = ("scaleout", "scalein", "migrate", "switchover", "retryplacement")
OPERATED = {"switchover": ("virtualservice", "serviceengine")}
"""Operation -> the types it is for; the others are for virtual services."""
PLAIN_OPERATIONS = {
    "redistribute": "serviceenginegroup",
    "reboot": "serviceengine",
    "forcedelete": "serviceengine",
    "endstorm": "serviceenginegroup",
}
"""Operations without options -> the type they are for."""
ASKED = ("scalein", "migrate", "switchover", "redistribute", "forcedelete")
"""Operations that take traffic off an engine."""
OPERATION_WORDS = ("vip_id", "to_se_ref", "from_se_ref", "se_uuid", "to_host_ref", "new_vcpus")
OPERATION_FLAGS = ("to_new_se", "scalein_primary")
REBALANCE_WORDS = ("interval", "se_group_ref")
HELP = {
    "show": "show <type> [<name> [summary|detail|placement]], show events",
    "configure": "configure <type> <name> [<field> <value>]: change an object, or make a new one",
    "delete": "delete <type> <name>",
    "scaleout": "scaleout virtualservice <name> [to_se_ref <se>] [to_new_se]",
    "scalein": "scalein virtualservice <name> [from_se_ref <se>] [scalein_primary]",
    "migrate": "migrate virtualservice <name> [from_se_ref <se>] [to_se_ref <se>] [to_new_se]",
    "switchover": "switchover virtualservice <name>, switchover serviceengine <name>: of a legacy pair",
    "redistribute": "redistribute serviceenginegroup <name>: a legacy pair, each service back to its side",
    "retryplacement": "retryplacement virtualservice <name>",
    "rebalance": "rebalance se_group_ref <group> [interval <minutes>]: how often it is inspected, and the last look",
    "whatif": "whatif [fail_engine <se>] [fail_any <K>] [set <type>:<name>.<field>=<value>] ...: what would happen",
    "reboot": "reboot serviceengine <name>",
    "forcedelete": "forcedelete serviceengine <name>",
    "endstorm": "endstorm serviceenginegroup <name> (its suspect engines count as down)",
    "switchto": "switchto tenant <name>",
    "terminal": "terminal length <lines> (0 = no paging)",
    "history": "the commands of this session",
    "help": "this text",
    "exit": "leave the mode, or the shell",
}
EDIT_HELP = {
    "save": "keep and leave the mode; at the top it is sent to the controller",
    "cancel": "leave the mode and throw the changes away",
    "where": "what is pending",
    "no": "no <field>: unset it (False for a boolean)",
    "do": "do show ...: a command without leaving the mode",
    "show": "the same as do show",
    "help": "this text",
    "exit": "the same as cancel",
}
LOADS = {"cpu": "CPU %", "pps": "Packets/s", "mbps": "Mbit/s", "open_conns": "Open", "cps": "New/s"}
LEAVING = ("exit", "quit", "logout")
AFTER_AN_EDIT = ("configure", "switchto", *LEAVING)
"""Commands that an edit must be finished for: they would drop it, or send it to another tenant."""
KEYS = "Tab completes; ? shows what may come next (inside quotes it is a plain question mark)."


class Leave(Exception):
    """The operator wants out."""


class Session:
    """``confirm`` shows what a change would do to traffic, and asks; None = nobody is there to be asked."""

    def __init__(
        self,
        client: Client,
        registry: Registry,
        node: str,
        *,
        confirm: Confirm | None = None,
        ink: placement.Ink = placement.PLAIN,
    ) -> None:
        self.client = client
        self._confirm = confirm
        self.registry = registry
        self.node = node
        self.edit: Edit | None = None
        self.page_lines: int | None = None
        self._ink = ink
        self._piped = False
        """What is printed goes through a pipe of the shell's: no colour."""
        self.past: list[str] = []
        self._commands: dict[str, Callable[[list[str]], str]] = {
            "show": self._show,
            "configure": self._configure,
            "delete": self._delete,
            "switchto": self._switch,
            "terminal": self._terminal,
            "history": lambda _: "\n".join(self.past),
            "help": lambda _: self.help(),
            "rebalance": self._rebalance,
            **{name: self._plain_operation(name) for name in PLAIN_OPERATIONS},
            "whatif": self._whatif,
            **{name: self._operation(name) for name in OPERATIONS},
        }

    @property
    def prompt(self) -> str:
        mode = f" {self.edit.prompt}" if self.edit else " "
        return f"[{self.client.tenant}:{self.node}]:{mode}> "

    def help(self) -> str:
        texts = EDIT_HELP if self.edit else HELP
        return "\n".join([*(f"  {name:<16} {text}" for name, text in texts.items()), KEYS])

    def run(self, line: str) -> tuple[str, bool]:
        """(what to print, whether to page it). Raises ShoalError for what can't be done, Leave for exit."""
        line = line.strip()
        if not line or line.startswith("#"):
            return "", False
        self.past.append(line)
        words, *rest = commands(line)
        found, paged = pipes.filters(rest)
        self._piped = bool(rest)
        if not words:
            raise Invalid([Problem(path="|", why="a command is required before it")])
        text = self._in_edit(words) if self.edit else self._top(words)
        for one in found:
            text = one(text)
        return text, paged

    def _top(self, words: list[str]) -> str:
        if words[0] in LEAVING:
            raise Leave
        command = self._commands.get(words[0])
        if command is None:
            hint = meant(words[0], self._commands) or "Type help for the commands."
            raise NotFound(f"There is no command {words[0][:60]}.", hint=hint)
        return command(words[1:])

    # --- show ---

    def _show(self, words: list[str]) -> str:
        if not words:
            raise Invalid([Problem(path="show", why="what? Give a type", hint="For example: show serviceenginegroup.")])
        if words[0] == "events":
            return self._events()
        kind = self._kind(words[0])
        if kind.singleton:
            return object_table(kind.message, self.client.singleton(kind.endpoint))
        if len(words) == 1:
            return self._list(kind)
        document = self._object(kind, words[1])
        if len(words) == 2:
            return object_table(kind.message, document)
        view = VIEWS.get(words[2])
        if view is None:
            raise NotFound(
                f"There is no view {words[2][:60]}.", hint=meant(words[2], VIEWS) or f"There are: {', '.join(VIEWS)}."
            )
        found = self.client.call("GET", f"{kind.endpoint}/{document['uuid']}/{view}")
        reads = PLACEMENTS.get(kind.endpoint) if view == "placement" else None
        ink = placement.PLAIN if self._piped else self._ink
        return reads(found, ink) if reads else plain_table(found)

    def _list(self, kind: ObjectType) -> str:
        cloud = kind.endpoint == "serviceenginegroup"
        rows = []
        for document in self.client.all(kind.endpoint, "name,uuid,cloud_ref"):
            row = [str(document.get("name", "")), document["uuid"]]
            rows.append([*row, document.get("cloud_ref", "").rpartition("#")[2]] if cloud else row)
        return box(("Name", "UUID", "Cloud") if cloud else ("Name", "UUID"), rows)

    def _events(self) -> str:
        found = self.client.call("GET", "analytics/logs?type=2&page_size=100")["results"]
        rows = [
            (
                time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(e["report_timestamp"])),
                e["event_id"],
                e["event_description"],
            )
            for e in found
        ]
        return box(("Time (UTC)", "Event", "What"), rows)

    # --- objects ---

    def _kind(self, word: str) -> ObjectType:
        kind = self.registry.type(word)
        if not kind.endpoint:
            raise NotFound(f"{kind.name} is part of other objects and has no list of its own.")
        return kind

    def _object(self, kind: ObjectType, name: str) -> Document:
        found = self.client.named(kind.endpoint, name)
        if found is None:
            known = [str(d.get("name", "")) for d in self.client.all(kind.endpoint, "name")]
            hint = meant(name, known) or (f"There are: {', '.join(known[:10])}." if known else "There is none yet.")
            raise NotFound(f"There is no {kind.endpoint} {name[:80]}.", hint=hint)
        return found

    def _delete(self, words: list[str]) -> str:
        kind, name = self._two(words, "delete")
        document = self._object(kind, name)
        self._change(kind, "DELETE", f"{kind.endpoint}/{document['uuid']}")
        return f"{kind.endpoint} {name} is deleted."

    def _two(self, words: list[str], command: str) -> tuple[ObjectType, str]:
        if len(words) < 2:
            why = "the name is required" if words else "the type and the name are required"
            raise Invalid([Problem(path=command, why=why, hint=f"{command} <type> <name>")])
        kind = self._kind(words[0])
        if not words[1] and not kind.singleton:
            raise Invalid([Problem(path=command, why="the name is required, and is empty")])
        return kind, words[1]

    # --- operations ---

    def _operation(self, operation: str) -> Callable[[list[str]], str]:
        def run(words: list[str]) -> str:
            kind, name = self._two(words, operation)
            body: Document = {"vip_id": "0"} if kind.endpoint == "virtualservice" else {}
            rest = list(words[2:])
            while rest:
                word = rest.pop(0)
                if word in OPERATION_FLAGS:
                    body[word] = True
                elif word in OPERATION_WORDS and rest:
                    body[word] = rest.pop(0)
                else:
                    known = (*OPERATION_WORDS, *OPERATION_FLAGS)
                    raise Invalid([Problem(path=operation, value=word, why="unknown option", hint=meant(word, known))])
            uuid = self._object(kind, name)["uuid"]
            return self._operate(kind, uuid, operation, body)

        return run

    def _rebalance(self, words: list[str]) -> str:
        given = dict(zip(words[::2], words[1::2], strict=False))
        for word in words[::2]:
            if word not in REBALANCE_WORDS:
                hint = meant(word, REBALANCE_WORDS)
                raise Invalid([Problem(path="rebalance", value=word, why="unknown option", hint=hint)])
        if "se_group_ref" not in given or len(words) % 2:
            raise Invalid([Problem(path="rebalance", why="se_group_ref is required", hint=HELP["rebalance"])])
        kind = self._kind("serviceenginegroup")
        uuid = self._object(kind, given["se_group_ref"])["uuid"]
        body = {"interval": given["interval"]} if "interval" in given else {}
        found = self.client.call("POST", f"{kind.endpoint}/{uuid}/rebalance", body)
        return "\n".join([found["status"], *_last_look(found["auto_rebalance"])])

    def _plain_operation(self, operation: str) -> Callable[[list[str]], str]:
        def run(words: list[str]) -> str:
            kind, name = self._two(words, operation)
            uuid = self._object(kind, name)["uuid"]
            return self._operate(kind, uuid, operation, {})

        return run

    def _operate(self, kind: ObjectType, uuid: str, operation: str, body: Document) -> str:
        path = f"{kind.endpoint}/{uuid}/{operation}"
        if operation in ASKED:
            return str(self._change(kind, "POST", path, body)["status"])
        return str(self.client.call("POST", path, body)["status"])

    def _change(self, kind: ObjectType, method: str, path: str, body: Document | None = None) -> Any:
        """A write that may move traffic. Raises Declined where the operator does not want that."""
        return plan.change(self.client, self._confirm, kind.endpoint, method, path, body)

    def _whatif(self, words: list[str]) -> str:
        everything = "all" in words
        body = whatif.body_of(whatif.pairs_of([word for word in words if word != "all"]))
        return whatif.told(whatif.ask(self.client, body), everything=everything)

    def _switch(self, words: list[str]) -> str:
        if len(words) != 2 or words[0] != "tenant":
            raise Invalid([Problem(path="switchto", why="use switchto tenant <name>")])
        before, self.client.tenant = self.client.tenant, words[1]
        try:
            self.client.call("GET", "tenant?page_size=1")
        except ShoalError:
            self.client.tenant = before
            raise
        return ""

    def _terminal(self, words: list[str]) -> str:
        if len(words) != 2 or words[0] != "length" or not words[1].isdigit():
            raise Invalid([Problem(path="terminal", why="use terminal length <lines>, 0 for no paging")])
        self.page_lines = int(words[1])
        return ""

    # --- configure ---

    def _configure(self, words: list[str]) -> str:
        if words and self._kind(words[0]).singleton:
            words = [words[0], "", *words[1:]]
        kind, name = self._two(words, "configure")
        before = self.client.singleton(kind.endpoint) if kind.singleton else self.client.named(kind.endpoint, name)
        edit = Edit(kind, name, before)
        if len(words) == 3 and _asks(edit, words[2]):
            return edit.set(words[2], [])
        text = "Updating an existing object. Currently, the object is:\n" if before else "New object being created"
        if before:
            text += object_table(kind.message, before)
        if len(words) > 2:
            said = edit.set(words[2], words[3:])
            text = "\n".join(filter(None, [text, said]))
        self.edit = edit
        return text

    def _in_edit(self, words: list[str]) -> str:
        edit = self.edit
        assert edit is not None
        match words[0]:
            case "save":
                return self._save(edit)
            case "cancel" | "exit":
                self._leave(edit)
                return ""
            case "where":
                return f"Tenant: {self.client.tenant}\n{object_table(edit.level.message, edit.level.content)}"
            case "do":
                return self._meanwhile(words[1:] or ["help"])
            case "no":
                if len(words) < 2:
                    raise Invalid([Problem(path="no", why="the field is required")])
                edit.unset(words[1], words[2:])
                return object_table(edit.level.message, edit.level.content)
            case "help":
                return self.help()
            case "show":
                return self._show(words[1:])
        edit.field(words[0], EDIT_HELP)
        return edit.set(words[0], words[1:])

    def _meanwhile(self, words: list[str]) -> str:
        if words[0] in AFTER_AN_EDIT:
            raise Invalid([Problem(path=f"do {words[0]}", why="finish the edit first", hint="Type save or cancel.")])
        return self._top(words)

    def _leave(self, edit: Edit) -> None:
        if len(edit.levels) > 1:
            edit.leave(keep=False)
        else:
            self.edit = None

    def _save(self, edit: Edit) -> str:
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
        saved = self._change(kind, method, path, body)
        warnings = [f"Warning: {warning}" for warning in self.client.warnings]
        self.edit = None
        return "\n".join([object_table(kind.message, saved), *warnings])


def _last_look(found: Document) -> list[str]:
    """The engines of the last look and their loads, as a table."""
    rows = [
        (
            engine["name"],
            engine["level"],
            *(f"{engine['load'].get(name, 0):.0f}" if engine["load"] else "" for name in LOADS),
            ", ".join(f"{name} {percent:.0f} %" for name, percent in engine["percent"].items()),
        )
        for engine in found.get("engines", ())
    ]
    return [box(("Engine", "Level", *LOADS.values(), "Of its capacity"), rows)] if rows else []


def _asks(edit: Edit, name: str) -> bool:
    """A field that needs a value, named without one: the operator asks what it takes."""
    field = edit.field(name)
    return field.nested is None and field.kind != "boolean"
