"""What the agent asks the kernel about HAProxy's master."""

from __future__ import annotations

import os
import signal

from shoal.engine.haproxy.process import _catches


def test_a_signal_counts_as_caught_only_with_a_handler() -> None:
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        assert not _catches(os.getpid(), signal.SIGUSR2)
        signal.signal(signal.SIGUSR2, lambda *_: None)
        assert _catches(os.getpid(), signal.SIGUSR2)
        assert not _catches(0, signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)
