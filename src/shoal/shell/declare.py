"""``shoal get``, ``diff``, ``apply`` and ``delete``: objects as files say, no matter how often it is said."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click
import msgspec

from shoal.errors import Invalid, NotFound, Problem, ShoalError
from shoal.objects import ObjectType, Registry, load
from shoal.objects.check import meant
from shoal.objects.types import SENSITIVE_MASK

from . import command_line as complete
from . import manifest, plan, script
from .client import Client
from .edit import Edit
from .layout import on_screen
from .manifest import Wanted
from .options import EXIT_FAILED, with_client
from .tables import one_line

Document = dict[str, Any]
EXIT_DIFFERENT = 3
EVERYTHING = "all"
NOT_WHOLE = ("useraccount",)
"""Types that are not of the configuration: one's own password."""
ENGINE = "serviceengine"
TOGETHER_WITHIN_S = 600.0
CREATE, UPDATE, NOTHING, DELETE = "create", "update", "unchanged", "delete"
DONE = {CREATE: "created", UPDATE: "updated", NOTHING: "unchanged", DELETE: "deleted"}
NOT_DONE, FAILED = "not done", "failed"
MARKS = {CREATE: "+", UPDATE: "~", DELETE: "-"}
Confirm = Callable[[str], bool]


class Change(msgspec.Struct, kw_only=True):
    """What an object of a file needs. ``lines``: path, value before, value after (None = not there); ``secrets``: the
    secrets that are set, which can't be compared; ``outcome`` is what came of it, ``error`` why not."""

    kind: ObjectType
    name: str
    where: str = ""
    action: str
    method: str = ""
    path: str = ""
    body: Document | None = None
    lines: list[tuple[str, Any, Any]] = []
    secrets: list[str] = []
    outcome: str = ""
    error: str = ""
    warnings: list[str] = []

    @property
    def title(self) -> str:
        return one_line(f"{self.kind.endpoint} {self.name}").rstrip()


# --- comparing ---


def compared(client: Client, wanted: Wanted) -> Change:
    """Raises Invalid for a document the controller would refuse for its form."""
    kind = wanted.kind
    before = client.singleton(kind.endpoint) if kind.singleton else client.named(kind.endpoint, wanted.name)
    after = manifest.merged(kind.message, before or {}, wanted.document)
    try:
        whole = kind.validate(after)
    except Invalid as error:
        raise Invalid([msgspec.structs.replace(p, path=f"{wanted.where}: {p.path}") for p in error.problems]) from None
    edit = Edit(kind, wanted.name, before)
    edit.level.content.clear()
    edit.level.content.update(after)
    edit.named.update(wanted.document)
    method, body = edit.changes()
    secrets = _secrets(kind, wanted.document)
    change = Change(kind=kind, name=wanted.name, where=wanted.where, action=NOTHING, secrets=secrets)
    if before is not None and not body:
        return change
    change.lines = list(_lines(kind, before or {}, after, whole))
    change.action = CREATE if before is None else UPDATE if change.lines else NOTHING
    change.method, change.body, change.path = method, body, kind.endpoint
    if before is not None and not kind.singleton:
        change.path += f"/{before['uuid']}"
    return change


def removed(client: Client, kind: ObjectType, name: str, where: str = "") -> Change:
    before = client.named(kind.endpoint, name)
    if before is None:
        return Change(kind=kind, name=name, where=where, action=NOTHING)
    return Change(
        kind=kind, name=name, where=where, action=DELETE, method="DELETE", path=f"{kind.endpoint}/{before['uuid']}"
    )


def _lines(kind: ObjectType, before: Document, after: Document, whole: Document) -> Iterator[tuple[str, Any, Any]]:
    """``whole``: the object after it with its defaults, which what was there is compared with, too."""
    old, new, usual = (dict(script.options(kind.message, _masked(kind, one))) for one in (before, after, whole))
    new = {path: value for path, value in usual.items() if path in old} | new
    for path in dict.fromkeys((*old, *new)):
        if old.get(path) != new.get(path):
            yield path, old.get(path), new.get(path)


def _masked(kind: ObjectType, document: Document) -> Document:
    return kind.map_sensitive(document, lambda path, value: SENSITIVE_MASK)


def _secrets(kind: ObjectType, document: Document) -> list[str]:
    found: list[str] = []

    def note(path: str, value: str) -> str:
        if value != SENSITIVE_MASK:
            found.append(path)
        return value

    kind.map_sensitive({name: value for name, value in document.items() if value is not None}, note)
    return found


# --- carrying out ---


def carry_out(client: Client, changes: Sequence[Change], confirm: Confirm | None) -> bool:
    """All of them, in one transaction of the controller, or none; each change gets its outcome. Whether all were done.

    Service engines are deleted after it, one by one: that is done on machines, and can't be taken back."""
    for change in changes:
        change.outcome = NOTHING if not change.method else NOT_DONE
    wanted = [change for change in changes if change.method]
    engines = [change for change in wanted if change.kind.endpoint == ENGINE]
    together = [change for change in wanted if change.kind.endpoint != ENGINE]
    if len(together) > 1:
        whole = _together(client, together, confirm)
    else:
        whole = all(_alone(client, change, confirm) for change in together)
    return whole and all(_alone(client, change, confirm) for change in engines)


def _alone(client: Client, change: Change, confirm: Confirm | None) -> bool:
    try:
        plan.change(client, confirm, change.kind.endpoint, change.method, change.path, change.body)
    except plan.Declined:
        change.outcome = "declined"
    except ShoalError as error:
        change.outcome, change.error = FAILED, str(error)
    else:
        change.outcome, change.warnings = DONE[change.action], list(client.warnings)
    return change.outcome == DONE[change.action]


def _together(client: Client, changes: Sequence[Change], confirm: Confirm | None) -> bool:
    body = {"changes": [_as_write(change) for change in changes]}
    types = {change.kind.endpoint for change in changes}
    planned = next((type for type in plan.PLANNED if type in types), "")
    try:
        plan.change(client, confirm, planned, "POST", "changes", body, within_s=TOGETHER_WITHIN_S)
    except plan.Declined:
        for change in changes:
            change.outcome = "declined"
        return False
    except ShoalError as error:
        words = str(error)
        at = re.match(r"changes\[(\d+)\][.:] ?", words)
        if at is None:  # of all of them: nobody answers, too many at once
            for change in changes:
                change.outcome, change.error = FAILED, words
            return False
        guilty = changes[int(at[1])]
        guilty.outcome, guilty.error = FAILED, words.replace(at[0], "")
        return False
    for change in changes:
        change.outcome = DONE[change.action]
        change.warnings = [w.removeprefix(f"{change.title}: ") for w in client.warnings if w.startswith(change.title)]
    return True


def _as_write(change: Change) -> Document:
    _, _, uuid = change.path.partition("/")
    write: Document = {"method": change.method, "type": change.kind.endpoint}
    return write | ({"uuid": uuid} if uuid else {}) | ({"body": change.body} if change.body else {})


# --- as people read it ---


def told(changes: Iterable[Change]) -> str:
    """What would be done, object by object; those that stay as they are, are counted."""
    changes = list(changes)
    blocks = []
    for change in changes:
        if change.action == NOTHING:
            if change.method:
                blocks.append(f"= {change.title}: as it is; its secrets are set again ({', '.join(change.secrets)})")
            continue
        lines = [f"{MARKS[change.action]} {change.title}"]
        for path, old, new in change.lines:
            if old is None:
                lines.append(
                    f"    + {path}: {_shown(new)}" if change.action == UPDATE else f"    {path}: {_shown(new)}"
                )
            else:
                lines.append(
                    f"    - {path}: {_shown(old)}" if new is None else f"    {path}: {_shown(old)} -> {_shown(new)}"
                )
        blocks.append("\n".join(lines))
    same = sum(change.action == NOTHING and not change.method for change in changes)
    if same:
        blocks.append(f"{same} object{'s' * (same > 1)} {'are' if same > 1 else 'is'} as the files say.")
    return "\n".join(blocks)


def outcomes(changes: Iterable[Change]) -> str:
    lines = []
    for change in changes:
        if change.method:
            lines.append(f"{change.title}: {change.outcome}" + (f": {change.error}" if change.error else ""))
            lines += [f"  Warning: {warning}" for warning in change.warnings]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    text = str(value)
    return script.word(text) if "\n" not in text else f"{text.splitlines()[0]} ... ({len(text.splitlines())} lines)"


def as_document(changes: Iterable[Change]) -> Document:
    changes = list(changes)
    return {
        "changes": [
            {
                "type": change.kind.endpoint,
                "name": change.name,
                "action": change.action,
                "fields": [{"path": path, "before": old, "after": new} for path, old, new in change.lines],
                "secrets": change.secrets,
                **({"outcome": change.outcome} if change.outcome else {}),
                **({"error": change.error} if change.error else {}),
                **({"warnings": change.warnings} if change.warnings else {}),
            }
            for change in changes
        ],
        "different": sum(change.action != NOTHING for change in changes),
    }


# --- reading ---


def collected(client: Client, registry: Registry, types: str, names: Sequence[str], *, full: bool) -> dict[str, Any]:
    """Type -> its objects as files have them. Raises NotFound for a name that is none."""
    everything = types == EVERYTHING
    whole = (kind.endpoint for kind in registry.types.values() if not kind.read_only)
    words = [word for word in whole if word not in NOT_WHOLE] if everything else types.split(",")
    found: dict[str, Any] = {}
    for word in words:
        kind = _kind(registry, word)
        documents = [client.singleton(kind.endpoint)] if kind.singleton else _named(client, kind, names)
        kept = [manifest.written(kind, document, full=full) for document in documents]
        if kept or not everything:
            found[kind.endpoint] = kept
    return found


def _named(client: Client, kind: ObjectType, names: Sequence[str]) -> list[Document]:
    documents = client.all(kind.endpoint)
    if not names:
        return documents
    known = {str(document.get("name", "")): document for document in documents}
    for name in names:
        if name not in known:
            raise NotFound(f"There is no {kind.endpoint} {name[:80]}.", hint=meant(name, known))
    return [known[name] for name in names]


def _kind(registry: Registry, word: str) -> ObjectType:
    kind = registry.type(word)
    if not kind.endpoint:
        raise NotFound(f"{kind.name} is part of other objects and has no list of its own.")
    return kind


# --- the commands ---

HELP = {"help_option_names": ["-h", "--help"]}
files_option = click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    metavar="FILE",
    shell_complete=complete.files,
    help="YAML or JSON; - is standard input; may be repeated.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
yes_option = click.option("--yes", is_flag=True, help="Don't ask (scripts are never asked).")


@click.command(context_settings=HELP)
@with_client
@click.argument("types", metavar="TYPE[,TYPE...]|all", shell_complete=complete.types)
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete.names)
@click.option("--full", is_flag=True, help="Also fields that have their default.")
@json_option
def get(client: Client, types: str, names: tuple[str, ...], full: bool, as_json: bool) -> int:
    """Objects as a file that `shoal apply` takes: YAML, references by name.

    \b
    shoal get virtualservice shop
    shoal get pool,vsvip,virtualservice > shop.yaml
    shoal get all --json

    Secrets are not in it.
    """
    client.login()
    found = collected(client, load(), types, names, full=full)
    click.echo(json.dumps(found) if as_json else manifest.text_of(found).rstrip("\n"))
    return 0


@click.command(context_settings=HELP)
@with_client
@files_option
@json_option
def diff(client: Client, files: tuple[str, ...], as_json: bool) -> int:
    """What `shoal apply` would change. Nothing is done.

    Exit status: 0 everything is as the files say, 3 something differs, 1 refused.
    """
    client.login()
    changes = _compared(client, files)
    click.echo(json.dumps(as_document(changes)) if as_json else told(changes))
    return EXIT_DIFFERENT if any(change.action != NOTHING for change in changes) else 0


@click.command(context_settings=HELP)
@with_client
@files_option
@yes_option
@json_option
def apply(client: Client, files: tuple[str, ...], yes: bool, as_json: bool) -> int:
    """Make objects as files say: new ones are made, others changed, nothing else is touched.

    What a file leaves out of an object stays as it is, null unsets a field, a list is those entries. Said again, nothing
    is changed. Objects that others refer to are made first. On a terminal what would be changed is shown and asked about.
    """
    client.login()
    return _done(client, _compared(client, files), yes=yes, as_json=as_json)


@click.command(context_settings=HELP)
@with_client
@click.argument("type", required=False, shell_complete=complete.types)
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete.names)
@files_option
@yes_option
@json_option
def delete(
    client: Client, type: str | None, names: tuple[str, ...], files: tuple[str, ...], yes: bool, as_json: bool
) -> int:
    """Delete the objects that files name, or TYPE NAME; what is not there is no error.

    \b
    shoal delete -f shop.yaml
    shoal delete virtualservice shop
    """
    if bool(type) == bool(files) or (type and not names):
        raise click.UsageError("Give -f FILE, or a type and names.")
    registry = load()
    client.login()
    if type:
        changes = [removed(client, _deletable(registry, type), name) for name in names]
    else:
        wanted = manifest.in_order(manifest.read(registry, files, sys.stdin))
        changes = [removed(client, _deletable(registry, w.kind.endpoint), w.name, w.where) for w in reversed(wanted)]
    return _done(client, changes, yes=yes, as_json=as_json)


def _deletable(registry: Registry, word: str) -> ObjectType:
    kind = _kind(registry, word)
    if kind.singleton or kind.read_only:
        raise Invalid([Problem(path="delete", value=kind.endpoint, why="is always there")])
    return kind


def _compared(client: Client, files: Sequence[str]) -> list[Change]:
    if not files:
        raise click.UsageError("Give -f FILE.")
    return [compared(client, wanted) for wanted in manifest.in_order(manifest.read(load(), files, sys.stdin))]


def _done(client: Client, changes: list[Change], *, yes: bool, as_json: bool) -> int:
    asks = not yes and not as_json and sys.stdin.isatty() and sys.stdout.isatty()
    if not as_json:
        click.echo(on_screen(told(changes)) or "There is nothing in it.")
    if asks and any(change.method for change in changes) and not click.confirm("Apply?"):
        click.echo("Nothing was done.")
        return EXIT_FAILED
    whole = carry_out(client, changes, _confirm if asks else None)
    if as_json:
        click.echo(json.dumps(as_document(changes)))
    elif text := outcomes(changes):
        click.echo(on_screen(text))
    return 0 if whole else EXIT_FAILED


def _confirm(text: str) -> bool:
    click.echo(on_screen(text))
    return click.confirm("Apply?")
