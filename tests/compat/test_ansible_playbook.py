"""`ansible-playbook` itself runs a playbook of the Avi modules."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from .ansible import ITS_OWN_WARNINGS, SHARE, release
from .calls import seen
from .sdk import SdkController

pytestmark = ITS_OWN_WARNINGS
PLAYBOOK = Path(__file__).parent / "playbook.yml"
WITHIN_S = 120


def test_a_virtual_service_comes_stays_and_goes(controller: SdkController, tmp_path: Path) -> None:
    password = controller.login()["password"]
    variables = {"controller": f"127.0.0.1:{controller.port}", "password": password}
    variables |= {"ansible_python_interpreter": sys.executable}
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(SHARE), "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    environment |= {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "False"}
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,"]
    command += ["-e", json.dumps(variables), str(PLAYBOOK)]
    ran = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stdout[-3_000:] + ran.stderr[-3_000:]
    recap = dict(re.findall(r"(\w+)=(\d+)", ran.stdout.rpartition("PLAY RECAP")[2]))
    assert (recap["changed"], recap["failed"]) == ("6", "0"), ran.stdout
    seen(f"ansible-playbook, community.network {release()}", "playbook.yml", "create, repeat = not changed, absent")
