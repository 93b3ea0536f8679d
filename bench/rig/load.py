"""Load from the client's node: wrk for HTTP and TCP, h2load for HTTP/2, `bench.rig.tls` for handshakes, where it must be
said whether a session is resumed."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from shoal.lab.network import Lab

from .figures import percentile
from .stage import ROOT

CONNECTIONS = 16
TLS_CONNECTIONS = 4
HTTP2_CONNECTIONS, HTTP2_STREAMS = 4, 16
UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class Loaded(msgspec.Struct, frozen=True):
    """``resumed`` is the share of handshakes that resumed a session."""

    requests: int
    rps: float
    p50_ms: float
    p99_ms: float
    resumed: float = 0.0


def _run(lab: Lab, *command: str) -> str:
    entered = lab.fabric.enter("lab-client", *command)
    done = subprocess.run(entered, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def client_cpu_s() -> float:
    """Of all clients that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def wrk(
    lab: Lab,
    address: str,
    port: int,
    seconds: float,
    *,
    close: bool = False,
    connections: int = CONNECTIONS,
    path: str = "/",
) -> Loaded:
    """Raises RuntimeError when anything but 200 came back."""
    header = ["-H", "Connection: close"] if close else []
    url = f"http://{address}:{port}{path}"
    whole = max(1, round(seconds))
    out = _run(lab, "wrk", "-t1", f"-c{connections}", f"-d{whole}s", "--latency", *header, url)
    found = re.search(r"(\d+) requests in", out)
    rps = re.search(r"Requests/sec: +([\d.]+)", out)
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    if found is None or rps is None or errors is not None or found[1] == "0":
        raise RuntimeError(out)
    return Loaded(int(found[1]), float(rps[1]), _latency(out, 50), _latency(out, 99))


def _latency(out: str, percent: int) -> float:
    found = re.search(rf"{percent}% +([\d.]+)(us|ms|s)\b", out)
    return round(float(found[1]) * UNITS_MS[found[2]], 3) if found else 0.0


def tls(lab: Lab, address: str, port: int, seconds: float, *, resumed: bool) -> Loaded:
    """A TLS 1.3 handshake and one request per connection."""
    how = "resumed" if resumed else "full"
    command = [sys.executable, "-m", "bench.rig.tls", address, str(port), str(seconds), how, str(TLS_CONNECTIONS)]
    out = _run(lab, *command)
    return msgspec.json.decode(out, type=Loaded)


def http2(lab: Lab, address: str, port: int, seconds: float) -> Loaded:
    """h2load's, over TLS: so many requests at a time on each connection. Raises RuntimeError when one of them failed."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        streams = (f"-c{HTTP2_CONNECTIONS}", f"-m{HTTP2_STREAMS}", f"-D{max(1, round(seconds))}")
        out = _run(lab, "h2load", "-t1", *streams, f"--log-file={log}", f"https://{address}:{port}/")
        took = [int(line.split("\t")[2]) / 1000 for line in log.read_text().splitlines()]
    found = re.search(r"finished in [^,]+, ([\d.]+) req/s", out)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", out)
    if found is None or counts is None or counts[1] == "0" or (counts[2], counts[3]) != ("0", "0") or "h2" not in out:
        raise RuntimeError(out)
    return Loaded(int(counts[1]), float(found[1]), percentile(took, 0.5), percentile(took, 0.99))
