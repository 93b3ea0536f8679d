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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec

from tests.api_served import Controller
from tests.api_world import PASSWORD, controlled_world

EXAMPLES = 20_000
PER_OPERATION = 20
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
            server_errors=sum("Server error" in failure for failure in failures),
            failures=failures,
            text=text,
        )


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
