"""Transcripts of the shell: lines typed at its prompts, typed again, and what it says compared."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from tests.compat.terminal import ENTER, Terminal

PROMPT = re.compile(r"\[[a-z]+:Controller-1\]: [a-z_:]*>")
ASKS = "Apply? [y/N]"
PAGERS = (":", "--More--")
MASKS = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    (r"Avi-se-[a-z]{5}", "ENGINE"),
    (r"\d{4}-\d\d-\d\d", "DATE"),
    (r"\d\d:\d\d:\d\d", "TIME"),
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


class Reader:
    """Types blocks into one shell, one after the other; questions are answered with yes."""

    def __init__(self, terminal: Terminal, settle: Callable[[], None] = lambda: None, server: str = "") -> None:
        self._terminal = terminal
        self._settle = settle
        self._server = server
        """Stands for the address in what is typed."""

    def play(self, block: str) -> str:
        """The block as it is now."""
        told = []
        for line in block.splitlines():
            if prompt := PROMPT.match(line):
                if "placement" in line or "whatif" in line:
                    self._settle()
                told.append(line)
                told += self._run(prompt[0], line[prompt.end() :].strip())
        return "\n".join(told) + "\n"

    def _run(self, prompt: str, line: str) -> list[str]:
        terminal = self._terminal
        terminal.stands_at(prompt)
        terminal.clear(prompt)
        before = len(terminal.gone)
        keys = re.sub(r"\d+\.\d+\.\d+\.\d+", self._server, line) if self._server else line
        terminal.type(keys)
        terminal.stands_at(f"{prompt} {keys}")
        terminal.type(ENTER)
        echo = -(-len(f"{prompt} {keys}") // self._terminal.columns)
        while True:
            terminal.until(lambda: self._waits() or terminal.line in (*PAGERS, ASKS), "the end of it")
            if terminal.line == ASKS:
                terminal.type("y" + ENTER)
                terminal.until(lambda: terminal.line != ASKS, "the answer")
            elif terminal.line in PAGERS:
                shown = terminal.rows[:-1]
                terminal.type("q")
                terminal.until(self._waits, "the prompt")
                return shown[next(n for n, row in enumerate(shown) if row.startswith("+-")) :]
            else:
                return [*terminal.gone[before:], *terminal.rows][echo:-1]

    def _waits(self) -> bool:
        return bool(PROMPT.fullmatch(self._terminal.line))
