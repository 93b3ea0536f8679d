"""The README's curl recipes, line by line as they stand there, by curl and the shell."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.api_world import PASSWORD

from .calls import seen
from .sdk import ITS_OWN_WARNINGS, SdkController

pytestmark = [*ITS_OWN_WARNINGS, pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")]
README = Path(__file__).parents[2] / "README.md"
WITHIN_S = 20


def recipes() -> str:
    """The block that begins with a login by curl."""
    blocks: list[str] = re.findall(r"^```\n(curl .*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    return blocks[0]


def test_the_recipes_of_the_readme(controller: SdkController, tmp_path: Path) -> None:
    # Each answer ends with a mark; a status from 400 on ends the script.
    script = 'set -euo pipefail\ncurl() { command curl -sS --fail-with-body "$@"; echo; echo ====; }\n' + recipes()
    environment = {
        "PATH": "/usr/bin:/bin",
        "SHOAL_PASSWORD": PASSWORD,
        "controller": f"https://127.0.0.1:{controller.port}",
        "no_proxy": "127.0.0.1",
    }
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-500:] + ran.stderr
    answers = ran.stdout.split("====\n")
    login, made, inventory, metrics, described, _, _ = answers
    assert json.loads(login)["version"]["Version"] == "22.1.3"
    service: dict[str, Any] = json.loads(made)
    assert service["name"] == "shop" and service["pool_ref"].endswith("#shop-pool")
    assert json.loads(inventory)["results"][0]["uuid"] == service["uuid"]
    assert metrics.startswith("# HELP")
    assert json.loads(described)["openapi"].startswith("3.1")
    last = controller.requests[-1]
    assert last == "POST /logout"
    for call in controller.requests:
        seen("curl, README", call, "as written there")
