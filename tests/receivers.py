"""Real receivers of what the controller sends out: Debian's rsyslogd and snmptrapd, as scripts/setup --dev unpacks them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.issuer import Issued

SHARE = Path(__file__).parents[1] / ".venv" / "share" / "receivers"
WITHIN_S = 30.0
RSYSLOG = """
global(workDirectory="{folder}" defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{folder}/ca.pem"
       defaultNetstreamDriverCertFile="{own}" defaultNetstreamDriverKeyFile="{own}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="{asks}")
template(name="parts" type="string" string="%pri%|%hostname%|%app-name%|%msgid%|%structured-data%|%msg%\\n")
input(type="imtcp" address="127.0.0.1" port="0" listenPortFileName="{folder}/port")
*.* action(type="omfile" file="{folder}/out" template="parts")
"""


class Receiver:
    """``port`` is where it listens; `lines` what it has understood and written."""

    def __init__(self, port: int, out: Path) -> None:
        self.port = port
        self._out = out

    def lines(self) -> list[str]:
        return self._out.read_text().splitlines() if self._out.exists() else []

    def until(self, done: Callable[[list[str]], bool]) -> list[str]:
        """The lines, once they are as they should be, or after some seconds."""
        deadline = time.monotonic() + WITHIN_S
        while not done(lines := self.lines()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return lines


@contextlib.contextmanager
def rsyslog(folder: Path, own: Issued, clients: str = "") -> Iterator[Receiver]:
    """Syslog over TLS (RFC 5425), with this certificate. ``clients``: the authority, in PEM, of those that its clients must
    have. Each line is ``pri|host|app|msgid|data|text``."""
    config, port = folder / "rsyslog.conf", folder / "port"
    (folder / "ca.pem").write_text(clients or own.certificate)
    asks = "x509/certvalid" if clients else "anon"
    config.write_text(RSYSLOG.format(folder=folder, own=own.write(folder / "own.pem"), asks=asks))
    (modules,) = _present("usr/lib/*/rsyslog")
    command = ("usr/sbin/rsyslogd", "-n", "-f", str(config), "-i", str(folder / "pid"), "-M", str(modules))
    with _running(folder, *command, library=modules.parent):
        _wait(lambda: port.exists() and _listened_on(port.read_text()))
        yield Receiver(int(port.read_text()), folder / "out")


@contextlib.contextmanager
def snmptrapd(folder: Path, port: int, *config: str) -> Iterator[Receiver]:
    """SNMP traps at a UDP port. Each line is ``who|variables``, a tab between two of them."""
    (folder / "trapd.conf").write_text("\n".join(config))
    arguments = ("-f", "-C", "-c", str(folder / "trapd.conf"), "-Lf", str(folder / "out"), "-On")
    (_, *_), (library,) = _present("usr/sbin/snmptrapd"), {path.parent for path in _present("usr/lib/*/libsnmp.so.*")}
    with _running(folder, "usr/sbin/snmptrapd", *arguments, "-F", "%P|%v\\n", f"udp:127.0.0.1:{port}", library=library):
        out = folder / "out"
        _wait(lambda: out.exists() and "NET-SNMP version" in out.read_text())
        yield Receiver(port, out)


@contextlib.contextmanager
def _running(folder: Path, program: str, *arguments: str, library: Path) -> Iterator[None]:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library), "MIBS": "", "SNMP_PERSISTENT_DIR": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([SHARE / program, *arguments], env=environment, stdout=log, stderr=log)
    try:
        yield
        assert process.poll() is None, (folder / "log").read_text()
    finally:
        process.kill()
        process.wait()


def _present(pattern: str) -> list[Path]:
    found = sorted(SHARE.glob(pattern))
    if not found:
        pytest.skip("the receivers are not here: scripts/setup --dev fetches them")
    return found


def _listened_on(port: str) -> bool:
    """Whether somebody listens at a TCP port of 127.0.0.1. rsyslog writes down which before it does, and a connection to
    find out would be one of its clients."""
    sockets = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return bool(port.strip()) and (f"0100007F:{int(port):04X}", "0A") in {(s[1], s[3]) for s in sockets}


def _wait(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)
