"""What every command that talks to a controller has in common: options, log-in, errors in words."""

from __future__ import annotations

import functools
import getpass
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from shoal.errors import ShoalError

from . import settings
from .client import Client
from .layout import on_screen

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def _setting(name: str, variable: str, *, usual: bool = True, **more: Any) -> Any:
    """An option; else the variable; else the file of settings; else, with ``usual``, what is usual."""
    default = functools.partial(settings.setting if usual else settings.chosen, name)
    return click.option(f"--{name}", envvar=variable, default=default, **more)


HELP = {
    "controller": "Where the API is.",
    "user": "Who asks.",
    "password": "Better in SHOAL_PASSWORD, or typed at the prompt.",
    "tenant": "Where to work.",
    "ca": "Verify the controller by this CA (default: not verified).",
}
OPTIONS = (
    _setting("controller", "SHOAL_CONTROLLER", show_default=settings.DEFAULTS["controller"], help=HELP["controller"]),
    _setting("user", "SHOAL_USER", show_default=settings.DEFAULTS["user"], help=HELP["user"]),
    _setting("password", "SHOAL_PASSWORD", help=HELP["password"]),
    _setting("tenant", "SHOAL_TENANT", show_default=settings.DEFAULTS["tenant"], help=HELP["tenant"]),
    _setting(
        "ca",
        "SHOAL_CA",
        type=click.Path(exists=True, dir_okay=False),
        help=HELP["ca"],
    ),
)


def connection_options(function: Callable[..., None]) -> Callable[..., None]:
    """The same options for a command that does without a controller: None where nobody has said anything."""
    result = function
    for name in ("ca", "tenant", "password", "user", "controller"):
        variable = f"SHOAL_{name.upper()}"
        result = _setting(name, variable, usual=name in ("user", "tenant"), help=HELP[name])(result)
    return result


def with_client(function: Callable[..., int]) -> Callable[..., int]:
    """The options of the connection; the function gets a `Client` that is not logged in yet, closed afterwards."""

    @functools.wraps(function)
    def wrapped(controller: str, user: str, password: str | None, tenant: str, ca: str | None, **options: Any) -> int:
        if password is None:
            if not sys.stdin.isatty():
                where = settings.path()
                raise click.ClickException(f"No password. Set SHOAL_PASSWORD, give --password, or put it into {where}.")
            password = getpass.getpass(f"Password of {user}: ")
        client = Client(controller, user, password, tenant=tenant, ca=ca)
        try:
            return function(client, **options)
        finally:
            client.close()

    result: Callable[..., int] = wrapped
    for option in reversed(OPTIONS):
        result = option(result)
    return result


def run(command: click.Command, name: str, arguments: list[str]) -> int:
    """Returns the exit status: 0, or that of the first thing that failed."""
    try:
        result = command.main(args=arguments, prog_name=name, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt, EOFError):
        return EXIT_INTERRUPTED
    except ShoalError as error:
        print(on_screen(f"Error: {error}", sys.stderr), file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        silence()
        return 0


def silence() -> None:
    """The reader has gone; nothing more can be said there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
