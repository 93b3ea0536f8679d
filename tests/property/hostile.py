"""Hostile texts and structs, from a seed: quicker to make by the hundred thousand than a property test's own."""

from __future__ import annotations

import os
import random
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

STRINGS = int(os.environ.get("SHOAL_FUZZ_STRINGS", "6000"))
"""`scripts/fuzz` asks for more."""
EXAMPLES = max(40, STRINGS // 60)
"""Of a property test in such a run."""
SEED = int(os.environ.get("SHOAL_FUZZ_SEED", "20240"))
PIECES = (
    *(
        "\n",
        "\r",
        "\r\n",
        "\0",
        "\t",
        "\x0b",
        "\x1b[2J",
        "\x7f",
        "\x85",
        "\u2028",
        "\ud800",
        " ",
        "  ",
        "\\",
        "\\n",
        "\\\\",
    ),
    *(
        "'",
        "''",
        '"',
        '\\"',
        "\\'",
        "'\\''",
        "`",
        "#",
        "# x",
        "$",
        "$HOME",
        "${HOME}",
        "$(id)",
        "%",
        "%%",
        "%[src]",
        "%{+Q}o",
    ),
    *(
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "<",
        ">",
        "|",
        "&",
        ";",
        ",",
        ":",
        "@",
        "/",
        "..",
        "../../etc/passwd",
        "-",
        "--",
        "*",
    ),
    *("backend evil", "\nbackend evil\n    server x 1.2.3.4:80\n", "\n    stats socket /tmp/x level admin", "global"),
    *(
        "\n    http-request return status 200",
        " if TRUE",
        "unless { src 0.0.0.0/0 }",
        "use-service lua.x",
        "{ env(PATH) }",
    ),
    *(
        "é",
        "漢字",
        "𝄞",
        "İ",
        "ﬀ",
        "_._",
        "x._.y",
        "a" * 130,
        "1" * 40,
        "0x41",
        "%00",
        "%0a",
        "\\x0a",
        "\\0",
        "[::1]",
        "::",
    ),
    *("GET / HTTP/1.0", "HEAD /x HTTP/1.1", "HTTP/1.1", "Host: a", "10.0.0.1", "fe80::1%eth0", "10.0.0.1:80", "name=x"),
)
T = TypeVar("T", bound=msgspec.Struct)


def text(rng: random.Random) -> str:
    count = rng.choice((0, 1, 1, 2, 3, 5, 8))
    made = "".join(rng.choice(PIECES) if rng.random() < 0.7 else chr(rng.randrange(1, 0x2FFF)) for _ in range(count))
    return made * rng.choice((1,) * 30 + (200, 2000))


class Maker:
    """Makes structs whose every text is hostile now and then; ``usual`` are the texts that a field has else, by its name.

    ``count`` is how many hostile ones were made.
    """

    def __init__(self, rng: random.Random, usual: dict[str, Sequence[Any]], hostile: float) -> None:
        self._rng = rng
        self._usual = usual
        self._hostile = hostile
        self.count = 0

    def make(self, kind: type[T], **given: Any) -> T:
        hints = typing.get_type_hints(kind)
        fields = {f.name: given.get(f.name, self._value(f.name, hints[f.name])) for f in msgspec.structs.fields(kind)}
        return kind(**fields)

    def _value(self, name: str, kind: Any) -> Any:
        if isinstance(kind, types.UnionType):
            kinds = [one for one in typing.get_args(kind) if one is not type(None)]
            may_lack = len(kinds) < len(typing.get_args(kind))
            return None if may_lack and self._rng.random() < 0.2 else self._value(name, self._rng.choice(kinds))
        if typing.get_origin(kind) is tuple:
            few, (first, *others) = self._rng.choice((0, 1, 1, 2, 3)), typing.get_args(kind)
            return tuple(self._value(name, one) for one in ([first] * few if others == [...] else [first, *others]))
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self.make(kind)
        if kind is str:
            return self._text(name)
        if name in self._usual and self._rng.random() < 0.95:
            return self._rng.choice(self._usual[name])
        if kind is bool:
            return self._rng.random() < 0.5
        if kind is int:
            return self._rng.choice((0, 1, 2, 30, 80, 443, 65535, 65536, -1, 10**6))
        raise NotImplementedError(f"{name}: {kind}")

    def _text(self, name: str) -> str:
        if name in self._usual and self._rng.random() > self._hostile:
            return str(self._rng.choice(self._usual[name]))
        self.count += 1
        return text(self._rng)
