"""The shape of the house: imports point down only, and the pure rooms stay pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "shoal"
RANK = {
    "errors": 0,
    "whole_file": 0,
    "data_directory": 1,
    "objects": 1,
    "store": 1,
    "wire": 1,
    "observe": 2,
    "placement": 2,
    "ownership": 2,
    "clouds": 3,
    "engine": 3,
    "controller": 4,
    "api": 5,
    "shell": 6,
    "simulator": 6,
    "system": 7,
    "techsupport": 7,
    "lab": 8,
    "drill": 9,
    "main": 10,
    "__main__": 11,
}
"""The trials of the lab start whole systems, so the lab stands above `system`; a drill watches with the lab's probe."""
MAY_IMPORT = {
    "placement": {"placement"},
    "ownership": {"ownership", "wire"},
    "observe": {"observe", "wire"},
    "engine": {"engine", "observe", "ownership", "wire", "errors", "whole_file"},
    "shell": {"shell", "objects", "errors", "whole_file"},
}
IMPURE = {
    "asyncio",
    "logging",
    "os",
    "random",
    "secrets",
    "socket",
    "subprocess",
    "threading",
    "time",
    "uuid",
    "pathlib",
}


def imports(file: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = file.relative_to(SOURCE.parent).parts[:-1]
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(filter(None, [base, node.module or ""]))
            if name == "shoal":
                yield from ((f"shoal.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield name, node.lineno


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room(file: Path) -> str:
    first = file.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def rooms_imported(file: Path) -> Iterator[tuple[str, int]]:
    for name, line in imports(file):
        parts = name.split(".")
        if parts[0] == "shoal" and len(parts) > 1 and parts[1] in RANK:
            yield parts[1], line


@pytest.mark.parametrize("file", files(), ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_point_down(file: Path) -> None:
    own = room(file)
    if own == "__init__":
        assert not list(rooms_imported(file))
        return
    allowed = MAY_IMPORT.get(own)
    for other, line in rooms_imported(file):
        where = f"{file.relative_to(SOURCE)}:{line} imports {other}"
        if other != own:
            assert RANK[other] < RANK[own], where
        if allowed is not None:
            assert other in allowed, where


@pytest.mark.parametrize("pure", ["placement", "ownership"])
def test_the_core_is_pure(pure: str) -> None:
    for file in sorted((SOURCE / pure).rglob("*.py")):
        for name, line in imports(file):
            assert name.split(".")[0] not in IMPURE, f"{file.relative_to(SOURCE)}:{line} imports {name}"


def test_every_room_has_its_rank() -> None:
    assert {room(file) for file in files()} - {"__init__"} == set(RANK)
