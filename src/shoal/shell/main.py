"""``shoal shell``: options, scripts and ``-c``."""

from __future__ import annotations

import sys

import click

from shoal.objects import load

from .batch import batch
from .client import Client
from .options import with_client
from .placement import Ink
from .session import Session


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@with_client
@click.option(
    "-c", "commands", multiple=True, metavar="COMMAND", help="Run a command; may be repeated: one session, in order."
)
@click.option("--yes", is_flag=True, help="Don't ask before a change that moves traffic (scripts and -c never do).")
def command(client: Client, commands: tuple[str, ...], yes: bool) -> int:
    """The operator's shell. Without -c it reads commands from the terminal, or a script from standard input."""
    interactive = not commands and sys.stdin.isatty()
    client.login()
    ink = Ink.of_stdout()
    if interactive:
        from .terminal import confirm, interact  # prompt_toolkit takes a while, and scripts don't need it

        session = Session(client, load(), client.node_name(), confirm=None if yes else confirm, ink=ink)
        return interact(session, client.password_is)
    session = Session(client, load(), client.node_name(), ink=ink)
    return batch(session, list(commands) or sys.stdin.read().splitlines())
