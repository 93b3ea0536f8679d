"""``shoal shell``: options, scripts and ``-c``."""

from __future__ import annotations

import getpass
import os
import sys

import click

from shoal.errors import ShoalError
from shoal.objects import load

from .batch import EXIT_FAILED, batch
from .client import Client
from .session import Session

CONTROLLER = "https://127.0.0.1:9443"
EXIT_INTERRUPTED = 130


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--controller", envvar="SHOAL_CONTROLLER", default=CONTROLLER, show_default=True, help="Where the API is."
)
@click.option("--user", envvar="SHOAL_USER", default="admin", show_default=True)
@click.option("--password", envvar="SHOAL_PASSWORD", help="Better in SHOAL_PASSWORD, or typed at the prompt.")
@click.option("--tenant", default="admin", show_default=True)
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False),
    help="Verify the controller by this CA (default: not verified).",
)
@click.option(
    "-c", "commands", multiple=True, metavar="COMMAND", help="Run a command; may be repeated: one session, in order."
)
def command(
    controller: str, user: str, password: str | None, tenant: str, ca: str | None, commands: tuple[str, ...]
) -> int:
    """The operator's shell. Without -c it reads commands from the terminal, or a script from standard input."""
    interactive = not commands and sys.stdin.isatty()
    if password is None:
        if not sys.stdin.isatty():
            raise click.ClickException("No password. Set SHOAL_PASSWORD, or give --password.")
        password = getpass.getpass(f"Password of {user}: ")
    client = Client(controller, user, password, tenant=tenant, ca=ca)
    try:
        client.login()
        session = Session(client, load(), client.node_name())
        if interactive:
            from .terminal import interact  # prompt_toolkit takes a while, and scripts don't need it

            return interact(session)
        return batch(session, list(commands) or sys.stdin.read().splitlines())
    finally:
        client.close()


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, or that of the first thing that failed."""
    try:
        result = command.main(args=arguments, prog_name="shoal shell", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt, EOFError):
        return EXIT_INTERRUPTED
    except ShoalError as error:
        print(f"Error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        _silence()
        return 0


def _silence() -> None:
    """The reader has gone; nothing more can be said there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
