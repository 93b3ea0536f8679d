"""``shoal preflight``: what the network lets engines do, as a table with the mode that follows."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .client import Client
from .options import with_client

Document = dict[str, Any]
ANSWER_WITHIN_S = 30.0
EXIT_FORBIDDEN = 3
NO_MATTER = ("tunnel_mtu",)
"""A no that costs nothing by itself."""
STYLES = {"yes": "green", "no": "red", "unknown": "yellow"}


@click.command()
@click.option("--group", default="Default-Group", show_default=True, help="Two connected engines of it take part.")
@click.option(
    "--address", default="", help="An IPv4 address nobody has, to try with (default: a free one of the VIPs')."
)
@click.option("--neighbour", default="", help="Who is asked (default: the engines' gateway).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@with_client
def command(client: Client, group: str, address: str, neighbour: str, as_json: bool) -> int:
    """What the network lets engines do, before go-live, tried by two of them.

    For some six seconds they speak from an address that nobody has, move it from one to the other and back, and see whom
    the neighbour answers. No virtual service and no connection is touched.

    Exit status: 0 everything is allowed, 3 something is not (the mode that goes with it is named), 1 it could not be tried.
    """
    client.login()
    found = client.object("serviceenginegroup", group)
    body = {key: value for key, value in (("address", address), ("neighbour", neighbour)) if value}
    path = f"serviceenginegroup/{found['uuid']}/preflight"
    answer: Document = client.call("POST", path, body, within_s=ANSWER_WITHIN_S)
    if as_json:
        click.echo(json.dumps(answer))
    else:
        show(answer, Console(highlight=False))
    if answer["problem"]:
        return 1
    return EXIT_FORBIDDEN if any(c["ok"] == "no" and c["id"] not in NO_MATTER for c in answer["checks"]) else 0


def show(answer: Document, console: Console) -> None:
    first, second = answer["engines"]
    where = f"{first} and {second} of {answer['group']}, with {answer['address']}, towards {answer['neighbour']}."
    console.print(where, markup=False)
    if answer["problem"]:
        console.print(f"It could not be tried: {answer['problem']}", markup=False)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for title in ("what", "seen"):
        table.add_column(title, overflow="fold")
    for check in answer["checks"]:
        style = STYLES[check["ok"]]
        table.add_row(f"[{style}]{check['ok']}[/{style}]", escape(check["what"]), escape(check["found"]))
    console.print(table)
    for check in answer["checks"]:
        if check["means"]:
            console.print(f"[bold]{check['what']}:[/bold] {escape(check['means'])}", soft_wrap=not console.is_terminal)
    mode = answer["mode"]
    console.print(f"[bold]Use {mode['name']}.[/bold] {mode['why']}", soft_wrap=not console.is_terminal)
    for type, fields in mode["settings"].items():
        wanted = ", ".join(f"{field} {json.dumps(value)}" for field, value in fields.items())
        console.print(f"Set on {type}: {wanted}.", soft_wrap=not console.is_terminal)
