"""Lists of networks as files that HAProxy loads: one each, which all rules that name it share (``-f`` of an ACL)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shoal.wire.networks import Networks, networks

from .render import Facts

FOLDER = "lists"
"""Beside the configuration, which names them by a relative path."""


def folder_of(facts: Facts) -> Path:
    return Path(facts.directory) / FOLDER


def lacking(facts: Facts, wanted: Mapping[str, Networks]) -> dict[str, Networks]:
    """Those without a file."""
    folder = folder_of(facts)
    return {name: part for name, part in wanted.items() if not (folder / name).exists()}


def write(facts: Facts, wanted: Mapping[str, Networks]) -> None:
    """Takes long: for a thread. Names tell what is in a file, so none is ever changed."""
    folder = folder_of(facts)
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, part in wanted.items():
        fresh = folder / f"{name}.new"
        fresh.write_text("".join(f"{text}\n" for text in networks(part)))
        fresh.replace(folder / name)


def forget_others(facts: Facts, wanted: Mapping[str, Networks]) -> None:
    folder = folder_of(facts)
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in wanted:
            path.unlink()
