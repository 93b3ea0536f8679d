"""Every command of the shell, in the order that ``help`` lists them."""

from __future__ import annotations

from . import attach, configure, convert, files, operations, preferences, purge, show, upload, whatif, working
from .command import Command

EXIT = ("exit", "quit", "logout")
GROUPS: dict[str, dict[str, Command]] = {
    "Looking": {
        "show": show.COMMAND,
        "watch": working.WATCH,
        "whatif": whatif.COMMAND,
    },
    "Changing objects": {
        "configure": configure.CONFIGURE,
        "copy": configure.COPY,
        "delete": configure.DELETE,
        "export": files.EXPORT,
        "import": files.IMPORT,
        "convert": convert.COMMAND,
        "upload": upload.COMMAND,
        "debug": configure.DEBUG,
    },
    "Moving what runs": {**operations.COMMANDS, "purge": purge.COMMAND},
    "This session": {
        "switchto": working.SWITCHTO,
        "terminal": preferences.COMMAND,
        "attach": attach.COMMAND,
        "history": working.HISTORY,
        "clear": working.CLEAR,
        "help": working.HELP,
        "exit": working.LEAVE,
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
ELSEWHERE = {
    "bash": "Use attach controller.",
    "shell": "This is it.",
}
"""Commands that operators may look for, and where to find what they do."""
