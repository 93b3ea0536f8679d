"""EXTERNAL: a script of the operator's decides. It writes something to its standard output: the server is up.

It runs as user nobody without any capability or way to gain one, in a process namespace of its own that ends with it, with
bounded CPU, memory, files and time, an environment of its own, and nothing to read from.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from shoal.wire.monitors import Monitor, Script

from .connection import Wrong, shown

AT_ONCE_MAX = 8
"""Others wait, within their time."""
MEMORY_BYTES_MAX = 512 * 1024 * 1024
FILE_BYTES_MAX = 1024 * 1024
FILES_MAX = 64
GRACE_S = 1
"""After which it ends also without the agent."""
PROCESSES_MAX = 256
"""Of user nobody, on the machine."""
OUTPUT_BYTES_MAX = 4096
TASKS_CHARACTERS_MAX = 12
SCRIPT = "monitor"
PATH = "/usr/local/bin:/usr/bin:/bin"
USER, GROUP = "nobody", "nogroup"
SHELL = "#!/bin/sh\n"
_places = asyncio.Semaphore(AT_ONCE_MAX)


async def external(monitor: Monitor, address: str, port: int, pool: str = "") -> int | None:
    """How many tasks the server has, where the script has written that to ``<its own path>.<pool>.<address>.<port>.tasks``.
    Raises Wrong, OSError."""
    asks = monitor.asks
    if not isinstance(asks, Script):
        raise Wrong("the monitor has no script")
    async with _places:
        folder = tempfile.mkdtemp(prefix="shoal-monitor-")
        try:
            shutil.chown(folder, USER, GROUP)
            said, complained, code = await _run(monitor, asks, folder, address, port, pool)
            tasks = await asyncio.to_thread(_tasks, Path(folder))
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    if not said.strip():
        why = f"the script ends with {code}" if code else "the script says nothing"
        raise Wrong(f"{why}: {shown(complained)}" if complained else why)
    return tasks


def _tasks(folder: Path) -> int | None:
    """What is there may be anything: only a short file of digits counts, and no link is followed."""
    for file in sorted(folder.glob("*.tasks")):
        with contextlib.suppress(OSError):
            handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                text = os.read(handle, TASKS_CHARACTERS_MAX).decode(errors="replace").strip()
            finally:
                os.close(handle)
            if text.isascii() and text.isdigit():
                return int(text)
    return None


async def _run(monitor: Monitor, asks: Script, folder: str, address: str, port: int, pool: str) -> tuple[str, str, int]:
    """(what it said, what it complained of, its exit status). Nothing of it is left when this returns."""
    with contextlib.ExitStack() as stack:
        script, said, complained = (_file(stack) for _ in range(3))
        code = asks.code.replace("\r\n", "\n")
        os.write(script, (code if code.startswith("#!") else SHELL + code).encode())
        os.fchmod(script, 0o555)
        Path(folder, SCRIPT).symlink_to(f"/proc/self/fd/{script}")  # it may write beside itself
        child = await asyncio.create_subprocess_exec(
            *_confined(monitor.timeout_s),
            f"{folder}/{SCRIPT}",
            address,
            str(port),
            *asks.parameters,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=said,
            stderr=complained,
            pass_fds=(script,),
            cwd=folder,
            env=_environment(monitor, asks, folder, address, port) | {"POOL": pool},
            start_new_session=True,
        )
        try:
            status = await child.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()  # and with it, by --kill-child, all that it has started
            await asyncio.shield(child.wait())
        return _text(said), _text(complained), status


def _file(stack: contextlib.ExitStack) -> int:
    """In memory. What is written to it is bounded as all that the script writes."""
    handle = os.memfd_create("monitor", 0)
    stack.callback(os.close, handle)
    return handle


def _text(handle: int) -> str:
    return os.pread(handle, OUTPUT_BYTES_MAX, 0).decode(errors="replace")


def _confined(seconds: int) -> tuple[str, ...]:
    return (
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        # The first process of the namespace: it stays root, for the kernel forgets whose end it was to die with when a
        # process changes its user. When it ends all others do.
        "timeout",
        "--signal=KILL",
        str(seconds + GRACE_S),
        "prlimit",
        f"--cpu={max(1, seconds)}",
        f"--as={MEMORY_BYTES_MAX}",
        f"--fsize={FILE_BYTES_MAX}",
        f"--nofile={FILES_MAX}",
        f"--nproc={PROCESSES_MAX}",
        "--core=0",
        "setpriv",
        f"--reuid={USER}",
        f"--regid={GROUP}",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--no-new-privs",
    )


def _environment(monitor: Monitor, asks: Script, folder: str, address: str, port: int) -> dict[str, str]:
    own = {"PATH": PATH, "HOME": folder, "IP": address, "PORT": str(port), "HM_NAME": monitor.name, "LANG": "C.UTF-8"}
    given = dict(variable.split("=", 1) for variable in asks.variables)
    return {**given, **own}
