"""Transcripts: lines typed at prompts, of Shoal's shell and of a Linux shell, typed again, and what is said compared."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from tests.compat.terminal import ENTER, PATH, Terminal

PROMPT = re.compile(r"\[[a-z]+:Controller-1\]: [a-z_:]*>|\$(?= |$)")
ASKS = re.compile(r".*\? \[y/N\]:?")
"""A question that waits; with an answer behind it, it does not."""
PAGERS = (":", "--More--")
ENGINE = re.compile(r"\b[A-Za-z0-9]+-se-[a-z]{5}\b")
MOVES = "scaleout|scalein|migrate|restart|reboot|upgrade|switchover|redistribute|purge|drill|forcedelete"
SETTLED = re.compile(rf"placement|whatif|show log|\$ shoal |> ({MOVES})\b")
"""Lines before which the system comes to rest."""
LINUX_PROMPT = {"PS1": "$ ", "PS2": "> ", "PATH": PATH}
"""Of a `BASH` whose lines stand in a transcript."""
MASKS = (
    (r"-----BEGIN.*?-----END", "PEM"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-(?=\|)|(?<=\|)[0-9a-f]{12}(?=\|)", "UUID"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    (r"Avi-se-[a-z]{5}", "ENGINE"),
    (r"\d{4}-\d\d-\d\d", "DATE"),
    (r"\d\d:\d\d:\d\d(\.\d+)?", "TIME"),
    (r"127\.0\.0\.1:\d+", "CONTROLLER"),
    (r"\d+\.\d+\.\d+\.\d+", "ADDRESS"),
    (r"revision\d+", "REVISION"),
    (r"[\d.]+ms|[\d.]+s\b", "DURATION"),
    (r"-{3,}", "---"),
)


def difference(before: str, now: str) -> str:
    """Empty if they say the same."""
    if masked(before) == masked(now):
        return ""
    return "\n".join(difflib.unified_diff(before.splitlines(), now.splitlines(), "kept", "now", lineterm=""))


def masked(text: str) -> str:
    """Without what differs from run to run (which engine was there first, too), and without blanks: tables are as wide as
    what is in them."""
    text = re.sub(r"\n\nThe engines[ ,(].*?(?=\n\[admin|\Z)", "", text, flags=re.DOTALL)
    text = re.sub(r"\s+", "", text)
    for pattern, word in MASKS:
        text = re.sub(pattern, word, text)
    return text


def exchanges(block: str) -> list[tuple[str, list[str]]]:
    """Each typed line with its prompt, and what was answered."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if PROMPT.match(line):
            found.append((line, []))
        elif found:
            found[-1][1].append(line)
    return found


class Reader:
    """Types blocks into one shell, one after the other; questions are answered with yes. Engines that a block names are
    called what they are called now."""

    def __init__(self, terminal: Terminal, settle: Callable[[str], None] = lambda _: None, server: str = "") -> None:
        self._terminal = terminal
        self._settle = settle
        """Called with what is typed next."""
        self._server = server
        """Stands for the address in what is typed."""
        self._engines: dict[str, str] = {}

    def play(self, block: str) -> str:
        """The block as it is now."""
        told = []
        for typed, before in exchanges(block):
            if SETTLED.search(typed):
                self._settle(typed)
            typed = self._as_now(typed)
            prompt = PROMPT.match(typed)
            assert prompt is not None
            answer = self._run(prompt[0], typed[prompt.end() :].strip())
            told += [typed, *answer]
            self._learn(before, answer)
        return "\n".join(told) + "\n"

    def _as_now(self, typed: str) -> str:
        typed = re.sub(r"\d+\.\d+\.\d+\.\d+", self._server, typed) if self._server else typed
        return ENGINE.sub(lambda name: self._engines.get(name[0], name[0]), typed)

    def _learn(self, before: list[str], now: list[str]) -> None:
        """Which engine of a kept answer is which of today's, by the order they are named in."""
        names = [list(dict.fromkeys(ENGINE.findall("\n".join(answer)))) for answer in (before, now)]
        for old, new in zip(*names, strict=False):
            self._engines.setdefault(old, new)

    def _run(self, prompt: str, keys: str) -> list[str]:
        terminal = self._terminal
        terminal.stands_at(prompt)
        terminal.clear(prompt)
        before = len(terminal.gone)
        terminal.type(keys)
        terminal.stands_at(f"{prompt} {keys}")
        terminal.type(ENTER)
        while True:
            terminal.until(lambda: self._waits() or terminal.line in PAGERS or self._asks(), "the end of it")
            if self._asks():
                terminal.type("y" + ENTER)
                terminal.until(lambda: not self._asks(), "the answer")
            elif terminal.line in PAGERS:
                shown = terminal.rows[:-1]
                terminal.type("q")
                terminal.until(self._waits, "the prompt")
                return shown[next(n for n, row in enumerate(shown) if row.startswith("+-")) :]
            else:
                return self._after_echo(len(f"{prompt} {keys}"), [*terminal.gone[before:], *terminal.rows])[:-1]

    def _after_echo(self, typed: int, rows: list[str]) -> list[str]:
        """What so many typed characters are not. Where they fill their row the next one is left empty, unless Enter came before the
        shell had drawn that."""
        echo, left = divmod(typed, self._terminal.columns)
        return rows[echo + (left > 0 or not rows[echo]) :]

    def _asks(self) -> bool:
        return bool(ASKS.fullmatch(self._terminal.line))

    def _waits(self) -> bool:
        return bool(PROMPT.fullmatch(self._terminal.line))
