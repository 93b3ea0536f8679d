"""Where the controller is and who asks: ``~/.config/shoal/config.toml``, below options and ``SHOAL_*`` variables."""

from __future__ import annotations

import functools
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shoal.errors import Invalid, Problem
from shoal.objects.check import meant

DEFAULTS = {"controller": "https://127.0.0.1:9443", "user": "admin", "tenant": "admin"}
KNOWN = ("controller", "user", "password", "tenant", "ca")
SECRET = "password"


def path() -> Path:
    """``$XDG_CONFIG_HOME/shoal/config.toml``"""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "shoal" / "config.toml"


@functools.cache
def stored(file: Path) -> Mapping[str, str]:
    """What the file says; nothing if there is none. Raises Invalid."""
    try:
        text = file.read_text()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(file, f"can't be read: {error}") from None
    try:
        found: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(file, f"is no TOML: {error}") from None
    for name, value in found.items():
        if name not in KNOWN:
            raise _wrong(file, f"{name[:60]} is no setting", meant(name, KNOWN) or f"There are: {', '.join(KNOWN)}.")
        if not isinstance(value, str):
            raise _wrong(file, f"{name} must be a text", f'Such as: {name} = "..."')
    if SECRET in found and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _wrong(file, "holds a password and others may read it", f"Try: chmod 600 {file}")
    return found


def chosen(name: str) -> str | None:
    """From the file; None where it says nothing."""
    return stored(path()).get(name)


def setting(name: str) -> str | None:
    """From the file, else what is usual; None where nothing is."""
    return stored(path()).get(name, DEFAULTS.get(name))


def _wrong(file: Path, why: str, hint: str = "") -> Invalid:
    return Invalid([Problem(path=str(file), why=why, hint=hint)])
