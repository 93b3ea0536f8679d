"""``terminal``: how this session prints, and when it asks for the password again."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from shoal.errors import Invalid, Problem
from shoal.objects.check import meant

from .command import NUMBER, Choice, Command, Known, Said, of
from .tables import box
from .times import LOCAL, UTC, Zone

if TYPE_CHECKING:
    from .session import Session

DEFAULT_MODE, SCRIPT_MODE = "default", "linux_command_line"
SINGLE_LINE, MULTI_LINE = "single_line", "multi_line"
MODES = {
    DEFAULT_MODE: "tables",
    SCRIPT_MODE: "objects print as the command that makes them: --field value",
}
OUTPUTS = {SINGLE_LINE: "each object on one line", MULTI_LINE: "a field a line"}
ON_OFF = {"true": "from now on", "false": "no more"}
SETTINGS = {
    "length": "rows of a screen for | more, 0 = no paging",
    "mode": "default or linux_command_line",
    "--linux_cmd_output": "single_line or multi_line, in linux_command_line mode",
    "display_api_details": "print the API call behind each command; for one command: --api-detail",
    "timezone": "of times: UTC, local, or a zone such as Europe/Berlin",
    "session_timeout": "idle minutes until the password is asked for again, 0 = never",
    "unhide": "nothing is hidden here",
}
TIMEOUT_MIN = 15
TIMEOUT_MIN_MAX = 100_000


class Preferences(msgspec.Struct, kw_only=True):
    """``length`` None = the screen's own."""

    length: int | None = None
    mode: str = DEFAULT_MODE
    output: str = MULTI_LINE
    api_details: bool = False
    timezone: str = UTC
    session_timeout_min: int = TIMEOUT_MIN

    @property
    def script(self) -> bool:
        return self.mode == SCRIPT_MODE

    @property
    def zone(self) -> Zone:
        return Zone(self.timezone)


def _run(session: Session, words: list[str]) -> Said | str:
    chosen = session.preferences
    match words:
        case []:
            return _present(chosen)
        case ["length", lines] if lines.isdecimal() and len(lines) < 6:
            chosen.length = int(lines)
        case ["length", *_]:
            raise Invalid([Problem(path="terminal", why="use terminal length <lines>, 0 for no paging")])
        case ["mode", mode]:
            chosen.mode = _one_of("mode", mode, MODES)
        case ["--linux_cmd_output", output]:
            chosen.output = _one_of("--linux_cmd_output", output, OUTPUTS)
        case ["display_api_details", *on] if len(on) < 2:
            chosen.api_details = _one_of("display_api_details", on[0] if on else "true", ON_OFF) == "true"
        case ["timezone", name]:
            chosen.timezone = _zone(name)
        case ["session_timeout", minutes] if minutes.isdecimal() and int(minutes) <= TIMEOUT_MIN_MAX:
            chosen.session_timeout_min = int(minutes)
        case ["unhide"]:
            return "Nothing is hidden here: every command is in help."
        case [word, *rest] if word in SETTINGS:
            raise Invalid([Problem(path=f"terminal {word}", value=" ".join(rest)[:60], why=f"takes {SETTINGS[word]}")])
        case [word, *_]:
            hint = meant(word, SETTINGS) or f"There are: {', '.join(SETTINGS)}."
            raise Invalid([Problem(path="terminal", value=word[:60], why="unknown setting", hint=hint)])
    return ""


def _present(chosen: Preferences) -> Said:
    minutes = chosen.session_timeout_min
    found = {
        "length": "as the screen" if chosen.length is None else str(chosen.length),
        "mode": chosen.mode,
        "--linux_cmd_output": chosen.output,
        "display_api_details": str(chosen.api_details),
        "timezone": chosen.timezone,
        "session_timeout": f"{minutes} min" if minutes else "never",
    }
    return Said(box(("Setting", "Value"), list(found.items())), found)


def _one_of(setting: str, word: str, known: dict[str, str]) -> str:
    if word.lower() not in known:
        hint = meant(word, known)
        why = f"must be {' or '.join(known)}"
        raise Invalid([Problem(path=f"terminal {setting}", value=word[:60], why=why, hint=hint)])
    return word.lower()


def _zone(name: str) -> str:
    if name.lower() in ("utc", "local"):
        return UTC if name.lower() == "utc" else LOCAL
    try:
        return zoneinfo.ZoneInfo(name).key
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        hint = meant(name, zoneinfo.available_timezones()) or "Such as Europe/Berlin, UTC or local."
        raise Invalid([Problem(path="terminal timezone", value=name[:60], why="is no known zone", hint=hint)]) from None


def _next(known: Known, words: list[str]) -> Iterable[Choice]:
    match words:
        case []:
            return of(SETTINGS)
        case ["length"]:
            return [Choice(NUMBER, "rows, 0 = no paging", free=True)]
        case ["session_timeout"]:
            return [Choice(NUMBER, "minutes, 0 = never", free=True)]
        case ["mode"]:
            return of(MODES)
        case ["--linux_cmd_output"]:
            return of(OUTPUTS)
        case ["display_api_details"]:
            return of(ON_OFF)
        case ["timezone"]:
            zones = [Choice(UTC), Choice(LOCAL, "of this machine")]
            return [*zones, *(Choice(name) for name in sorted(zoneinfo.available_timezones() - {UTC}))]
    return ()


COMMAND = Command(
    summary="how this session prints; alone: what is set",
    usage=(
        "terminal",
        "terminal length <lines>",
        "terminal mode default|linux_command_line",
        "terminal --linux_cmd_output single_line|multi_line",
        "terminal display_api_details [true|false]",
        "terminal timezone <zone>",
        "terminal session_timeout <minutes>",
    ),
    run=_run,
    next=_next,
)
