"""Schemathesis against a live API: everything its OpenAPI document promises is asked over HTTPS, with all checks on.

``scripts/fuzz-api [--examples N]`` asks at random until so many requests have been answered; the compat suite asks a
bounded number. The controller is the real one over a cloud whose engines never speak, and a store in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec

from shoal.controller.view import View
from shoal.objects import load
from tests.api_served import Controller
from tests.api_world import PASSWORD, World, controlled_world

EXAMPLES = 20_000
PER_OPERATION = 20
REFERENCES = Path(__file__).with_name("fuzz_references.py")
SERVICES_THERE = 8
REFERRED: dict[str, dict[str, Any]] = {
    "errorpageprofile": {},
    "httppolicyset": {"is_internal_policy": False},
    "ipaddrgroup": {"addrs": [{"addr": "10.0.0.7", "type": "V4"}]},
    "l4policyset": {"is_internal_policy": False},
    "microservicegroup": {},
    "networksecuritypolicy": {},
    "poolgroup": {},
    "prioritylabels": {},
    "stringgroup": {"type": "SG_TYPE_STRING", "kv": [{"key": "a"}]},
    "trafficcloneprofile": {},
    "vsdatascriptset": {},
}
"""One of each, beside the system's own profiles."""
WRITTEN_EACH_S = 0.5
NEVER_ENDS = "/api/stream|/capture$"
"""Answers that end only when their reader goes."""
OUT_OF_REACH = "/logout|/api/configuration/"
"""Ends the session; reads and writes files of the machine."""
CONFIGURATION = """
[checks.positive_data_acceptance]
# A document says what a value looks like, not whether what it refers to is there, or an address is free.
expected-statuses = ["2xx", 400, 401, 403, 404, 405, 409, 412, 413, 429, 503]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 409, 412, 413, 429, 503]
"""


class Outcome(msgspec.Struct, kw_only=True):
    requests: int
    """Answered by the API."""
    writes: int
    """Of them, those that changed what is stored: a run whose requests were all refused shows nothing."""
    services: int
    """Virtual services among them."""
    server_errors: int
    failures: list[str]
    """What the checks found, a line each; its first words are the check."""
    text: str
    """All that schemathesis said."""

    @property
    def undocumented(self) -> int:
        return sum("Undocumented" in failure for failure in self.failures)


def asked(directory: Path, options: Sequence[str], only: str = "", *, within_s: float | None = None) -> Outcome:
    """One run of schemathesis on a new controller. ``only``: a regular expression of paths."""
    controller = Controller(directory, controlled_world)
    with controller:
        url = f"https://127.0.0.1:{controller.port}"
        with httpx.Client(verify=False, base_url=url, trust_env=False) as client:
            reply = client.post("/login", data={"username": "admin", "password": PASSWORD})
            reply.raise_for_status()
            token, session = reply.cookies["csrftoken"], reply.cookies["avi-sessionid"]
        keys = "".join(
            f'[auth.openapi.{scheme}]\napi_key = "{key}"\n' for scheme, key in (("session", session), ("csrf", token))
        )
        (directory / "schemathesis.toml").write_text(CONFIGURATION + keys)
        command = [
            *(str(Path(sys.executable).parent / "st"), "--config-file", str(directory / "schemathesis.toml"), "run"),
            f"{url}/api/openapi.json",
            *("--tls-verify", "false", "--checks", "all", "--suppress-health-check", "all", "--warnings", "off"),
            *("--exclude-path-regex", f"{NEVER_ENDS}|{OUT_OF_REACH}", "--no-color", "--continue-on-failure"),
            *("-H", "X-Avi-Version: 22.1.3"),
            *(("--include-path-regex", only) if only else ()),
            *options,
        ]
        revision = controller.world.view.revision
        environment = {k: v for k, v in os.environ.items() if k not in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")}
        environment |= {"NO_PROXY": "127.0.0.1", "COLUMNS": "200"}
        environment |= {"SCHEMATHESIS_HOOKS": str(REFERENCES), "SHOAL_FUZZ_THERE": str(directory / "there.json")}
        there = controller.ask(partial(_there, controller.world, directory / "there.json"))
        ran = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=within_s, check=False
        )
        text = ran.stdout + ran.stderr
        failures = re.findall(r"^- ((?:ST\d+ )?.*)$", text, re.MULTILINE)
        if ran.returncode not in (0, 1):
            raise RuntimeError(f"schemathesis ended with {ran.returncode}:\n{text[-3_000:]}")
        if ran.returncode == 1 and not failures:
            failures = [text[-3_000:]]
        return Outcome(
            requests=len(controller.requests),
            writes=controller.world.view.revision - revision,
            services=there.services,
            server_errors=sum("Server error" in failure for failure in failures),
            failures=failures,
            text=text,
        )


class _There:
    """Keeps a file saying what is there: type -> uuids, as JSON."""

    def __init__(self, view: View, file: Path) -> None:
        self._file = file
        self._found = {type: {document["uuid"]: None for document in view.all(type)} for type in load().types}
        self._written_at = float("-inf")
        self.services = 0
        """Virtual services made since."""
        view.subscribe(self._changed)
        self._write()

    def _changed(self, type: str, uuid: str, document: dict[str, Any] | None) -> None:
        found = self._found.setdefault(type, {})
        if document is None:
            found.pop(uuid, None)
        elif uuid not in found:
            found[uuid] = None
            self.services += type == "virtualservice"
        if time.monotonic() - self._written_at > WRITTEN_EACH_S:
            self._write()

    def _write(self) -> None:
        whole = self._file.with_suffix(".new")
        whole.write_bytes(msgspec.json.encode({type: list(found) for type, found in self._found.items()}))
        whole.rename(self._file)
        self._written_at = time.monotonic()


async def _there(world: World, file: Path) -> _There:
    """Services with their VIPs and pools, a VIP and a pool that nothing uses, and what is there by itself."""
    for number in range(SERVICES_THERE):
        await world.service(f"there-{number}", f"10.9.0.{10 + number}")
        await world.post("/api/pool", {"name": f"free-{number}"})
        vip = {"vip_id": "0", "ip_address": {"addr": f"10.9.0.{50 + number}", "type": "V4"}}
        await world.post("/api/vsvip", {"name": f"free-{number}", "vip": [vip]})
    for type, body in REFERRED.items():
        await world.post(f"/api/{type}", {"name": "there", **body})
    return _There(world.view, file)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/fuzz-api", description=__doc__)
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="requests to be answered (default: %(default)s)")
    parser.add_argument(
        "--per-operation", type=int, default=PER_OPERATION, help="examples of each operation in a round"
    )
    parser.add_argument("--only", default="", help="a regular expression of paths")
    options = parser.parse_args()
    total: dict[str, Any] = {
        "requests": 0,
        "writes": 0,
        "services": 0,
        "server_errors": 0,
        "undocumented": 0,
        "failures": 0,
        "rounds": 0,
    }
    while total["requests"] < options.examples:
        with tempfile.TemporaryDirectory() as folder:
            found = asked(
                Path(folder), ["--phases", "fuzzing", "--max-examples", str(options.per_operation)], options.only
            )
        total["requests"] += found.requests
        total["writes"] += found.writes
        total["services"] += found.services
        total["server_errors"] += found.server_errors
        total["undocumented"] += found.undocumented
        total["failures"] += len(found.failures)
        total["rounds"] += 1
        if found.failures:
            sys.stderr.write(found.text)
        print(json.dumps(total), flush=True)
    sys.exit(1 if total["failures"] else 0)


if __name__ == "__main__":
    main()
