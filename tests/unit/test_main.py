"""The command's own manners."""

from __future__ import annotations

import os
import subprocess
import sys

SAYS_HOW_IT_TAKES_A_BROKEN_PIPE = """
import signal, sys, click
from shoal import main
main.cli.add_command(click.Command("probe", callback=lambda: print(signal.getsignal(signal.SIGPIPE).name)))
sys.argv = ["shoal", "probe"]
main.main()
"""


def test_a_peer_that_hangs_up_kills_no_controller() -> None:
    """With SIGPIPE's default action, a write to a connection that has just ended ends the whole process."""
    command = [sys.executable, "-c", SAYS_HOW_IT_TAKES_A_BROKEN_PIPE]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "SIG_IGN\n"


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "shoal", "--help"], stdout=write, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(write)
    assert done.stderr == ""
