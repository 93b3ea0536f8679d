"""The Avi modules of Ansible's `community.network`, unmodified, each run as Ansible runs it once it is on its host: the
arguments as JSON, the outcome as JSON on standard output. (`test_ansible_playbook` has the command itself run some.)"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic

from .sdk import SdkController

Document = dict[str, Any]
SHARE = Path(sys.prefix) / "share"
"""Where scripts/setup --dev has put the collection."""
COLLECTION = "ansible_collections.community.network"
ITS_OWN_WARNINGS = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Unverified HTTPS request"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # its modules are processes: they leave sockets to their end
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
if str(SHARE) not in sys.path:
    sys.path.append(str(SHARE))


def release() -> str:
    """Of the collection."""
    manifest = json.loads((SHARE / "ansible_collections/community/network/MANIFEST.json").read_text())
    return str(manifest["collection_info"]["version"])


class Modules:
    """Runs modules against one controller."""

    def __init__(self, controller: SdkController, version: str) -> None:
        password = controller.login()["password"]
        where = {"controller": f"127.0.0.1:{controller.port}", "username": "admin", "password": password}
        self._common: Document = {"avi_credentials": {**where, "api_version": version}}
        self._context: Document = {}

    def run(self, module: str, /, **arguments: Any) -> Document:
        """The module's outcome. Fails the test where the module fails."""
        return self._run(module, arguments, check=False)

    def check(self, module: str, /, **arguments: Any) -> Document:
        """In check mode."""
        return self._run(module, arguments, check=True)

    def _run(self, module: str, arguments: Document, *, check: bool) -> Document:
        code = importlib.import_module(f"{COLLECTION}.plugins.modules.{module}")
        given = {**self._common, **self._context, **arguments, "_ansible_check_mode": check}
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": given}).encode()
        written = io.StringIO()
        with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
            code.main()
        outcome: Document = json.loads(written.getvalue().strip().splitlines()[-1])
        assert not outcome.get("failed"), f"{module} {arguments}: {outcome['msg'][:1500]}"
        if "ansible_facts" in outcome:  # as playbooks hand it on, so that not every task logs in
            self._context = {"api_context": outcome["ansible_facts"]["avi_api_context"]}
        return outcome

    def forget(self) -> None:
        """The next module logs in."""
        self._context = {}
        api = importlib.import_module(f"{COLLECTION}.plugins.module_utils.network.avi.avi_api")
        for entry in api.sessionDict.values():
            entry["api"].close()
        api.ApiSession.clear_cached_sessions()
