"""A person at a terminal: the real program behind a pseudo-terminal, its output on an emulated screen."""

from __future__ import annotations

import os
import signal
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pyte

SEEN_WITHIN_S = 30.0
READ_S = 0.05
LINES = 40
OF_ANOTHER_TERMINAL = ("COLUMNS", "LINES", "PAGER", "MANPAGER", "LESS")
ENTER, TAB, UP = "\r", "\t", "\x1b[A"
CTRL_C, CTRL_D, CTRL_L, CTRL_Q, CTRL_U = "\x03", "\x04", "\x0c", "\x11", "\x15"
SHOAL = (sys.executable, "-m", "shoal")
BASH = ("bash", "--noprofile", "--norc")
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
"""Where a person who has installed Shoal finds it."""


def _as_from_a_terminal() -> None:
    """A suite that runs in the background ignores SIGINT, and what it starts would, too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Said(str):
    """Compared without blanks: a row that reaches the edge of the screen goes on in the next one."""

    __slots__ = ()

    def __contains__(self, text: object) -> bool:
        return "".join(str(text).split()) in "".join(self.split())


class Terminal:
    """A program (`SHOAL`, if no other) with ``words``, on a screen of ``columns`` x ``lines``; everything ever shown is
    kept."""

    def __init__(
        self,
        *words: str,
        environment: dict[str, str],
        program: tuple[str, ...] = SHOAL,
        columns: int = 80,
        lines: int = LINES,
        directory: Path | None = None,
    ) -> None:
        kept = {name: value for name, value in os.environ.items() if name not in OF_ANOTHER_TERMINAL}
        self._child = pexpect.spawn(
            program[0],
            [*program[1:], *words],
            env=kept | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"} | environment,
            dimensions=(lines, columns),
            cwd=directory,
            echo=program != SHOAL,  # readline echoes only where the terminal does
            timeout=SEEN_WITHIN_S,
            preexec_fn=_as_from_a_terminal,
        )
        self._child.delaybeforesend = None
        self._screen = _Screen(columns, lines, self._child.send)
        self._stream = pyte.ByteStream(self._screen)
        self._ended = False
        self.columns = columns

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._child.close(force=True)

    @property
    def rows(self) -> list[str]:
        """What the screen shows now, blank rows at the end left out."""
        rows = [self._screen.row(y) for y in range(self._screen.lines)]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def gone(self) -> list[str]:
        """The rows that have scrolled away."""
        return self._screen.gone

    @property
    def text(self) -> Said:
        return Said("\n".join(self.rows))

    @property
    def everything(self) -> Said:
        """The rows that have scrolled away, and the screen."""
        return Said("\n".join([*self._screen.gone, *self.rows]))

    @property
    def line(self) -> str:
        """The row the cursor is in."""
        return self._screen.row(self._screen.cursor.y)

    @property
    def busy(self) -> bool:
        """The program is not reading keys: a command runs, and Ctrl-C is a signal."""
        return bool(termios.tcgetattr(self._child.fileno())[3] & termios.ISIG)

    def type(self, keys: str) -> None:
        self._child.send(keys)

    def until(self, seen: Callable[[], bool], what: str) -> None:
        """Read on until it is so; fails with the screen after `SEEN_WITHIN_S`."""
        deadline = time.monotonic() + SEEN_WITHIN_S
        while not seen():
            assert time.monotonic() < deadline, f"not seen: {what}; the screen:\n{self.text}"
            assert not self._ended, f"the program ended before: {what}; the screen:\n{self.text}"
            self._read()

    def shows(self, *texts: str) -> None:
        """All of them at once."""
        self.until(lambda: all(text in self.text for text in texts), ", ".join(texts))

    def stands_at(self, line: str) -> None:
        """The cursor's row is exactly this: a prompt that waits, with what is typed."""
        row = line[len(line) // self._screen.columns * self._screen.columns :].rstrip()
        self.until(lambda: self.line == row, f"{line!r} at the cursor")

    def clear(self, prompt: str) -> None:
        """Nothing but the prompt."""
        self.type(CTRL_L)
        self.until(lambda: self.rows == [prompt.rstrip()], "a clear screen")

    def run(self, line: str, prompt: str, then: str | None = None) -> Said:
        """Type a command at the prompt, wait for the next one (``then``, if another): the command, and what was said."""
        typed = f"{prompt} {line}"
        self.type(line)
        self.stands_at(typed)
        self.type(ENTER)
        self.stands_at(then or prompt)
        rows = self.everything.splitlines()
        first = max(i for i, row in enumerate(rows) if row == typed[: self._screen.columns].rstrip())
        return Said("\n".join(rows[first:-1]))

    def ends(self) -> int:
        """Waits for the end of the program; its exit status, 128 + n for a signal."""
        deadline = time.monotonic() + SEEN_WITHIN_S
        while not self._ended:
            assert time.monotonic() < deadline, "the program has not ended"
            self._read()
        self._child.wait()
        return int(self._child.exitstatus if self._child.signalstatus is None else 128 + self._child.signalstatus)

    def _read(self) -> None:
        try:
            self._stream.feed(self._child.read_nonblocking(65536, READ_S))
        except pexpect.TIMEOUT:
            pass
        except pexpect.EOF:
            self._ended = True


class _Screen(pyte.Screen):
    """Answers the program's questions (where is the cursor?) as a real terminal does; remembers what scrolls away."""

    def __init__(self, columns: int, lines: int, answer: Callable[[str], object]) -> None:
        self.gone: list[str] = []
        self._answer = answer
        super().__init__(columns, lines)

    def row(self, y: int) -> str:
        """``display`` measures every cell of the screen, which takes far longer."""
        cells = self.buffer[y]
        return "".join(cells[x].data for x in range(self.columns)).rstrip()

    def write_process_input(self, data: str) -> None:
        self._answer(data)

    def index(self) -> None:
        top, bottom = self.margins or (0, self.lines - 1)
        if self.cursor.y == bottom and top == 0:
            self.gone.append(self.row(0))
        super().index()
