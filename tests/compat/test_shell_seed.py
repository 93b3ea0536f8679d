"""The document the project began from: its two groups, built through the API, shown by the real shell."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal import system
from shoal.shell.client import Client
from tests.integration.private_host import private_host

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

PASSWORD = "seed-only"

AA_SE_GROUP = """
name AA-SE-Group
max_vs_per_se 10
min_scaleout_per_vs 2
max_scaleout_per_vs 4
max_se 10
vcpus_per_se 2
memory_per_se 10240
disk_per_se 25 gb
max_cpu_usage 80 percent
min_cpu_usage 30 percent
se_deprovision_delay 10 min
auto_rebalance True
se_name_prefix
vs_host_redundancy True
vcenter_folder
vcenter_datastores_include False
vcenter_datastore_mode VCENTER_DATASTORE_ANY
vcenter_clusters
  cluster_refs[1] N3K
  include True
cpu_reserve False
mem_reserve True
ha_mode HA_MODE_SHARED_PAIR
algo PLACEMENT_ALGO_DISTRIBUTED
buffer_se 0
"""

DEFAULT_GROUP = """
name Default-Group
max_vs_per_se 10
min_scaleout_per_vs 2
max_scaleout_per_vs 4
max_se 10
vcpus_per_se 2
memory_per_se 2048
disk_per_se 10 gb
max_cpu_usage 80 percent
min_cpu_usage 20 percent
se_deprovision_delay 120 min
auto_rebalance True
se_name_prefix SE1
vs_host_redundancy True
vcenter_folder VM1
vcenter_datastores_include False
vcenter_datastore_mode VCENTER_DATASTORE_ANY
vcenter_clusters
  cluster_refs[1] N3K
  include True
cpu_reserve False
mem_reserve True
ha_mode HA_MODE_SHARED
"""

COMMON = {
    "min_scaleout_per_vs": 2,
    "vcpus_per_se": 2,
    "auto_rebalance": True,
    "vcenter_clusters": {"cluster_refs": ["/api/vimgrclusterruntime?name=N3K"], "include": True},
}
AA: dict[str, Any] = COMMON | {
    "name": "AA-SE-Group",
    "ha_mode": "HA_MODE_SHARED_PAIR",
    "memory_per_se": 10240,
    "disk_per_se": 25,
    "se_deprovision_delay": 10,
    "se_name_prefix": "",
    "vcenter_folder": "",
}
DEFAULT: dict[str, Any] = COMMON | {
    "ha_mode": "HA_MODE_SHARED",
    "disk_per_se": 10,
    "min_cpu_usage": 20,
    "se_name_prefix": "SE1",
    "vcenter_folder": "VM1",
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = Path(tmp_path_factory.mktemp("seed")) / "data"
    with private_host():
        running = system.launch(system.Options.parse(folder, "127.0.0.1:9443", (), PASSWORD), None)
        try:
            client = Client(running.url, "admin", PASSWORD)
            client.login()
            client.call("POST", "serviceenginegroup", AA)
            default = client.named("serviceenginegroup", "Default-Group")
            assert default is not None
            client.call("PATCH", f"serviceenginegroup/{default['uuid']}", {"replace": DEFAULT})
            client.close()
            yield running.url
        finally:
            system.stop(folder, None, purge=True)


def shell(url: str, *commands: str, script: str | None = None) -> subprocess.CompletedProcess[str]:
    """The real program."""
    words = [sys.executable, "-m", "shoal", "shell", "--controller", url]
    for command in commands:
        words += ["-c", command]
    environment = os.environ | {"SHOAL_PASSWORD": PASSWORD}
    return subprocess.run(words, input=script or "", text=True, capture_output=True, env=environment, timeout=60)


def rows(text: str) -> list[str]:
    """``field value`` of each row of a table, indentation kept, the header left out."""
    found = []
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| Field "):
            field, _, value = line.strip("|").partition("|")
            found.append(f"{field[1:].rstrip()} {value.strip()}".rstrip())
    return found


@pytest.mark.parametrize(("name", "seed"), [("AA-SE-Group", AA_SE_GROUP), ("Default-Group", DEFAULT_GROUP)])
def test_the_seed_rows_come_first_in_this_order(url: str, name: str, seed: str) -> None:
    answer = shell(url, f"show serviceenginegroup {name} | more")
    assert answer.returncode == 0, answer.stderr
    shown = rows(answer.stdout)
    expected = seed.strip("\n").splitlines()
    assert shown[0].startswith("uuid serviceenginegroup-")
    assert shown[1 : len(expected) + 1] == expected


def test_ha_mode_alone_prints_the_choices_and_changes_nothing(url: str) -> None:
    before = shell(url, "show serviceenginegroup Default-Group").stdout
    answer = shell(url, "configure serviceenginegroup Default-Group ha_mode")
    assert answer.returncode == 0
    for mode in ("HA_MODE_SHARED", "HA_MODE_SHARED_PAIR", "HA_MODE_LEGACY_ACTIVE_STANDBY"):
        assert mode in answer.stdout
    assert "* HA_MODE_SHARED\n" in answer.stdout
    assert shell(url, "show serviceenginegroup Default-Group").stdout == before


def test_a_mode_changes_in_one_session_and_presets_follow(url: str) -> None:
    script = "configure serviceenginegroup fresh\nsave\nconfigure serviceenginegroup fresh ha_mode ha_mode_shared_pair\nsave\n"
    answer = shell(url, script=script)
    assert answer.returncode == 0, answer.stderr
    last = rows(answer.stdout.rsplit("+\n| Field", 1)[-1])
    for row in (
        "min_scaleout_per_vs 2",
        "ha_mode HA_MODE_SHARED_PAIR",
        "algo PLACEMENT_ALGO_DISTRIBUTED",
        "buffer_se 0",
    ):
        assert row in last


def test_a_closed_pipe_is_no_error(url: str) -> None:
    command = (
        f"{sys.executable} -m shoal shell --controller {url} -c 'show serviceenginegroup Default-Group' | head -n 3"
    )
    environment = os.environ | {"SHOAL_PASSWORD": PASSWORD}
    answer = subprocess.run(command, shell=True, text=True, capture_output=True, env=environment, timeout=60)
    assert answer.stdout.count("\n") == 3
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("shwo tenant", "Did you mean show?"),
        ("show serviceenginegroups", "Did you mean serviceenginegroup?"),
        ("show serviceenginegroup Defalt-Group", "Did you mean Default-Group?"),
        ("configure serviceenginegroup", "the name is required"),
        ("show tenant | gerp x", "Did you mean grep?"),
        ("show 'tenant", "can't be read"),
    ],
)
def test_mistakes_are_answered_with_the_nearest_word(url: str, command: str, said: str) -> None:
    answer = shell(url, command)
    assert answer.returncode == 1
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


def test_no_controller_is_said_in_words() -> None:
    answer = shell("https://127.0.0.1:1", "show tenant")
    assert answer.returncode == 1
    assert "does not answer" in answer.stderr and "Traceback" not in answer.stderr
