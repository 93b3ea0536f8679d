"""The interactive loop: prompt, keys, paging. A line that fails costs that line, not the session nor its edit."""

from __future__ import annotations

import asyncio
import getpass
import pydoc
import re
import shutil
import time
from collections.abc import Callable

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app, run_in_terminal
from prompt_toolkit.filters import Condition
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.shortcuts import CompleteStyle

from shoal.errors import ShoalError

from .complete import Choices, ShellCompleter, page
from .layout import fitted
from .plan import Declined
from .session import Leave, Session
from .words import cut, unfinished, whole_commands
from .working import CLEAR_SCREEN

YES = ("y", "yes")
WELCOME = "Tab completes, ? tells what may come next, help lists the commands."
CONTINUED = "> "
LINE_END = re.compile(r"\r\n|\r|\n")
PASSWORD_TRIES = 3


def interact(session: Session, password_is: Callable[[str], bool]) -> int:
    """Until exit or Ctrl-D; the exit status is 0. Ctrl-C drops the line or stops the command, and keeps the edit.
    ``password_is`` checks what is typed after an idle time."""
    choices = Choices(session)
    prompt: PromptSession[str] = PromptSession(
        completer=ShellCompleter(choices),
        complete_while_typing=False,
        complete_in_thread=True,  # names come from the controller, which may be slow
        complete_style=CompleteStyle.COLUMN,
        key_bindings=_keys(choices),
    )
    more: PromptSession[str] = PromptSession()
    session.frame = _frame
    print(WELCOME)
    locked = False
    while True:
        try:
            since = time.monotonic()
            text = prompt.prompt(session.prompt)
            minutes = session.preferences.session_timeout_min
            locked = locked or bool(minutes and time.monotonic() - since > minutes * 60)
            if locked:  # and stays so when the question is interrupted
                ask_again(minutes, password_is)
                locked = False
            while unfinished(text):
                text += "\n" + more.prompt(CONTINUED)
            _run(session, text)
        except KeyboardInterrupt:
            continue
        except (EOFError, Leave):
            if session.edit is not None:
                print(f"The edit of {session.edit.title} was not saved, and is dropped.")
            return 0


def ask_again(minutes: int, password_is: Callable[[str], bool]) -> None:
    """Raises EOFError when it is not known."""
    print(f"Nobody has typed for {minutes} min (terminal session_timeout).")
    for _ in range(PASSWORD_TRIES):
        if password_is(getpass.getpass("Password: ")):
            return
        print("That is not the password.")
    raise EOFError


def _frame(text: str) -> None:
    """One picture of a watch, as much of it as the screen holds."""
    size = shutil.get_terminal_size()
    lines = fitted(text, size.columns).splitlines()
    room = size.lines - 2
    left = len(lines) - room
    shown = lines[:room] + ([f"... {left} more lines; | grep chooses."] if left > 0 else [])
    picture = "".join(f"{line}\n" for line in shown)
    print(CLEAR_SCREEN + picture, end="", flush=True)  # one piece: Ctrl-C may come at any time


def confirm(text: str) -> bool:
    """Show what a change would do; True if the operator types y or yes."""
    _print(text)
    try:
        return PromptSession[str]().prompt("Apply? [y/N] ").strip().lower() in YES
    except (KeyboardInterrupt, EOFError):
        return False


def _run(session: Session, text: str) -> None:
    """A pasted text may hold several lines. What follows a failed one is left out: it was meant for another state."""
    lines = list(whole_commands(LINE_END.split(text)))
    for number, line in enumerate(lines, 1):
        try:
            said, paged = session.run(line)
            _print(said, paged=paged, lines=session.preferences.length, verbatim=session.verbatim)
        except ShoalError as error:
            _print(f"Error: {error}")
        except Declined:
            print("Nothing was done." + (" The edit is kept: change it, or cancel." if session.edit else ""))
        except KeyboardInterrupt:
            print("Interrupted. What was sent may have been done." + (" The edit is kept." if session.edit else ""))
        else:
            continue
        left = [line for line in lines[number:] if line.strip()]
        if left:
            print(f"{len(left)} more pasted lines were left out, from: {left[0].strip()}")
        return


def _keys(choices: Choices) -> KeyBindings:
    keys = KeyBindings()

    @Condition
    def between_quotes() -> bool:
        return bool(cut(get_app().current_buffer.document.text_before_cursor).open)

    @keys.add("?", filter=~between_quotes)
    def _ask(event: KeyPressEvent) -> None:
        text = event.app.current_buffer.document.text_before_cursor

        async def tell() -> None:
            found = await asyncio.to_thread(choices.next, text)
            lines = page(found, event.app.output.get_size().columns)
            await run_in_terminal(lambda: print(lines), render_cli_done=True)

        event.app.create_background_task(tell())

    return keys


def _print(text: str, *, paged: bool = False, lines: int | None = None, verbatim: bool = False) -> None:
    size = shutil.get_terminal_size()
    text = text if verbatim else fitted(text, size.columns)
    height = size.lines if lines is None else lines
    if paged and height and _rows(text, size.columns) >= height:
        pydoc.pager(text)
    elif text:
        print(text)


def _rows(text: str, columns: int) -> int:
    """How many rows of the screen it takes: wide lines wrap."""
    return sum(max(1, -(-len(line) // columns)) for line in text.splitlines())
