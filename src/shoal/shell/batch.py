"""Commands of a script or of ``-c``: run in order, with the exit status of the first failure. Half an edit is never saved."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from shoal.errors import ShoalError

from .edit import Level
from .layout import on_screen
from .session import Leave, Session
from .words import whole_commands

EXIT_FAILED = 1


def batch(session: Session, lines: Iterable[str]) -> int:
    """What a line prints goes to standard output, why one failed to standard error."""
    status = 0
    spoiled: list[Level] = []
    """Levels of the edit in which a line has failed."""
    for line in whole_commands(lines):
        spoiled = [level for level in spoiled if session.edit and level in session.edit.levels]
        word = (line.split() or [""])[0]
        if spoiled and word == "save":
            _complain(f"{_title(session)} is not saved: a line of it has failed. Type cancel, or configure it anew.")
            status = EXIT_FAILED
            continue
        if spoiled and word == "configure":
            _complain(f"the edit of {_title(session)} is dropped: a line of it has failed.")
            session.edit = None
        try:
            text, _ = session.run(line)
        except Leave:
            break
        except ShoalError as error:
            _complain(str(error))
            status = EXIT_FAILED
            spoiled += [session.edit.level] if session.edit else []
            continue
        if text:
            print(text if session.verbatim else on_screen(text), flush=True)
    if session.edit is not None:
        _complain("the last edit was not saved." if spoiled else "the last edit was not saved. Add: save")
        status = EXIT_FAILED
    return status


def _complain(text: str) -> None:
    print(on_screen(f"Error: {text}", sys.stderr), file=sys.stderr)


def _title(session: Session) -> str:
    return session.edit.title if session.edit else ""
