"""``shoal export`` and ``shoal import``: the whole configuration as a file, and such a file taken over."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from shoal import whole_file
from shoal.errors import Invalid, NotReady, Problem

from .client import Client
from .layout import on_screen
from .options import run, with_client
from .tables import box
from .whatif import margin, some

Document = dict[str, Any]
WITHIN_S = 600.0
PASSPHRASE = "SHOAL_PASSPHRASE"
DIFFERENCES_SHOWN = 4
ROWS_SHOWN = 40
WHY_CHARACTERS_MAX = 110
"""In a table; --json has all."""
EXIT_NOT_ALL = 3
RESULTS = ("not supported", "different", "taken over")
"""In the order people want to see them."""


def passphrase(*, again: bool = False) -> str:
    """From the environment, or typed. Raises ClickException where nobody can be asked."""
    words = os.environ.get(PASSPHRASE)
    if words is None:
        if not sys.stdin.isatty():
            raise click.ClickException(f"No passphrase. Set {PASSPHRASE}.")
        words = getpass.getpass("Passphrase: ")
        if again and getpass.getpass("Again: ") != words:
            raise click.ClickException("The two are not the same.")
    return words


def write_whole(file: Path, data: bytes) -> None:
    """The whole file or none, readable by its owner alone. Raises NotReady."""
    try:
        whole_file.write(file, data)
    except OSError as error:
        raise NotReady(f"{file} can't be written: {error.strerror}.", hint="Nothing of it is left.") from None


def read(file: Path) -> Document:
    """Raises Invalid for what is no JSON object."""
    try:
        document = json.loads(file.read_bytes())
    except OSError as error:
        raise NotReady(f"{file} can't be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise Invalid([Problem(path=str(file), why=f"is no JSON ({str(error)[:100]})")]) from None
    if not isinstance(document, dict):
        raise Invalid([Problem(path=str(file), why="holds no JSON object", hint="`shoal export` writes such files.")])
    return document


# --- the report, as people read it ---


def told(answer: Document, *, everything: bool = False) -> str:
    rows = sorted((_row(one) for one in answer["objects"]), key=lambda row: RESULTS.index(row[2]))
    listed = rows if everything else [row for row in rows if row[2] != RESULTS[-1]][:ROWS_SHOWN]
    blocks = []
    if listed:
        table = box(("Type", "Name", "Result", "Here", "What differs, and why"), listed)
        if len(listed) < len(rows):
            table += f"\n{len(rows) - len(listed)} more are not shown (--all)."
        blocks.append(table)
    if secrets := [one for one in answer["objects"] if one["secrets"]]:
        blocks.append("\n".join(["Secrets to give anew:", *(f"  {line}" for line in _secrets(secrets))]))
    traffic = [answer["placement"]["sentence"]]
    for group in answer["placement"]["groups"]:
        traffic += [
            f"  {vip['address'] or some(vip['virtualservices'])}: on {some(vip['to'])}"
            for vip in group["vips"][:ROWS_SHOWN]
        ]
        for problem, count in Counter(group["problems"]).items():
            traffic.append(f"  {problem}" + (f" ({count} times)" if count > 1 else ""))
    blocks.append("\n".join(traffic))
    survives = [
        f"{one['serviceenginegroup']} ({one['vips']} VIPs): may lose {margin(one)}." for one in answer["survives"]
    ]
    blocks += ["\n".join(survives)] if survives else []
    blocks.append(answer["sentence"])
    return "\n\n".join(blocks)


def _secrets(objects: list[Document]) -> Iterable[str]:
    """What to do about each, all of them: nothing else says it."""
    for one in objects:
        said = [difference for difference in one["differences"] if difference["field"] in one["secrets"]]
        yield f"{one['type']} {one['name']}: " + ("; ".join(_differences(said)) or ", ".join(one["secrets"]))


def _row(one: Document) -> tuple[str, ...]:
    action = {"create": "new", "replace": "replaced", "none": "-"}[one["action"]]
    why = one["why"] or "; ".join(_differences(one["differences"]))
    if len(why) > WHY_CHARACTERS_MAX:
        why = f"{why[: WHY_CHARACTERS_MAX - 4]} ..."
    return (one["type"], one["name"], one["result"], action, why)


def _differences(differences: list[Document]) -> Iterable[str]:
    """Fields of which the same is to be said are named together."""
    alike: dict[str, list[str]] = {}
    for one in differences:
        alike.setdefault(one["why"], []).append(one["field"])
    for why, fields in alike.items():
        more = len(fields) - DIFFERENCES_SHOWN
        names = ", ".join(fields[:DIFFERENCES_SHOWN]) + (f" and {more} more" if more > 0 else "")
        yield f"{names}: {why}" if names else why


# --- the commands ---


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@with_client
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option(
    "--secrets", is_flag=True, help=f"Keys and passwords too, sealed by a passphrase ({PASSPHRASE}, or typed)."
)
def export_command(client: Client, file: Path | None, secrets: bool) -> int:
    """The whole configuration as JSON, to FILE or to the terminal.

    Without --secrets, keys and passwords are not in it.
    """
    words = passphrase(again=True) if secrets else ""
    client.login()
    path = "configuration/export"
    found = client.call("POST", path, {"passphrase": words}, within_s=WITHIN_S) if words else client.call("GET", path)
    text = json.dumps(found, indent=1) + "\n"
    if file is None:
        click.echo(text, nl=False)
    else:
        write_whole(file, text.encode())
        count = sum(len(objects) for type, objects in found.items() if type != "META")
        click.echo(f"{count} objects in {file}{'' if secrets else ', without secrets'}.")
    return 0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@with_client
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--apply", is_flag=True, help="Do it: all that can be taken over, in one transaction.")
@click.option("--secrets", is_flag=True, help=f"Open the file's secrets by its passphrase ({PASSPHRASE}, or typed).")
@click.option("--disabled", is_flag=True, help="New virtual services are disabled: `shoal cutover` switches them on.")
@click.option("--all", "everything", is_flag=True, help="Also the objects that are taken over as they are.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def import_command(
    client: Client, file: Path, apply: bool, secrets: bool, disabled: bool, everything: bool, as_json: bool
) -> int:
    """What becomes of each object of an exported configuration, and of the traffic. Nothing is written without --apply.

    FILE is what `shoal export` or the vendor's `export configuration` has written.

    Exit status: 0 all is taken over, 3 something is not supported, 1 refused.
    """
    body: Document = {"configuration": read(file), "apply": apply, "disabled": disabled}
    if secrets:
        body["passphrase"] = passphrase()
    client.login()
    answer = client.call("POST", "configuration/import", body, within_s=WITHIN_S)
    click.echo(json.dumps(answer) if as_json else on_screen(told(answer, everything=everything)))
    return EXIT_NOT_ALL if answer["counts"]["not_supported"] else 0


def export_main(arguments: list[str]) -> int:
    """Returns the exit status."""
    return run(export_command, "shoal export", arguments)


def import_main(arguments: list[str]) -> int:
    """Returns the exit status."""
    return run(import_command, "shoal import", arguments)
