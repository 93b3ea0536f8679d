"""``shoal get``, ``diff``, ``apply``, ``delete`` against a served API, and the settings every command takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from shoal.errors import Invalid, ShoalError
from shoal.main import cli
from shoal.objects import load
from shoal.shell import declare, manifest, settings
from shoal.shell.client import Client
from tests.api_served import Controller
from tests.api_world import PASSWORD

SHOP = """
virtualservice:
  - name: shop
    services: [{port: 80}]
    pool_ref: shop-pool
    vsvip_ref: shop-vip
pool:
  - name: shop-pool
    lb_algorithm: lb_algorithm_round_robin
    health_monitor_refs: [System-TCP]
    servers:
      - {ip: 10.0.0.1, port: 80}
      - {ip: 10.0.0.2, port: 80}
---
vsvip:
  name: shop-vip
  vip: [{vip_id: "0", ip_address: 10.9.0.9}]
"""


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with Controller(tmp_path_factory.mktemp("declare")) as controller:
        yield controller


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CONTROLLER", "USER", "PASSWORD", "TENANT", "CA"):
        monkeypatch.delenv(f"SHOAL_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def shoal(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SHOAL_CONTROLLER", f"https://127.0.0.1:{controller.port}")
    monkeypatch.setenv("SHOAL_PASSWORD", PASSWORD)

    def run(*words: str, typed: str = "") -> Result:
        return CliRunner().invoke(cli, words, input=typed, standalone_mode=False, catch_exceptions=False)

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP)
    return path


def test_apply_makes_what_is_referred_to_first_and_said_again_changes_nothing(shoal: Any, file: Path) -> None:
    assert shoal("diff", "-f", str(file)).return_value == declare.EXIT_DIFFERENT
    first = shoal("apply", "-f", str(file))
    assert first.return_value == 0
    done = [line for line in first.output.splitlines() if line.endswith(": created")]
    assert (
        sorted(done[:2]) == ["pool shop-pool: created", "vsvip shop-vip: created"] and "virtualservice shop" in done[2]
    )
    again = shoal("apply", "-f", str(file))
    assert (again.return_value, again.output) == (0, "3 objects are as the files say.\n")
    assert shoal("diff", "-f", str(file)).return_value == 0
    changed = SHOP.replace("{ip: 10.0.0.2, port: 80}", "{ip: 10.0.0.2, port: 80, ratio: 3}\n      - {ip: 10.0.0.3}")
    different = shoal("diff", "-f", "-", typed=changed.replace("[System-TCP]", "[]"))
    assert different.output.splitlines() == [
        "~ pool shop-pool",
        "    - health_monitor_refs.1: System-TCP",
        "    servers.2.ratio: 1 -> 3",
        "    + servers.3.ip: 10.0.0.3",
        "2 objects are as the files say.",
    ]
    assert shoal("delete", "-f", str(file)).output.splitlines()[-3:] == [
        "virtualservice shop: deleted",
        "vsvip shop-vip: deleted",
        "pool shop-pool: deleted",
    ]
    assert shoal("delete", "-f", str(file)).return_value == 0  # what is gone is no error


def test_json_tells_every_change(shoal: Any, file: Path) -> None:
    made = json.loads(shoal("apply", "--json", "-f", str(file)).output)
    assert made["different"] == 3 and {c["outcome"] for c in made["changes"]} == {"created"}
    text = "pool: {name: shop-pool, description: 5, default_server_port: null}"
    found = json.loads(shoal("diff", "--json", "-f", "-", typed=text).output)["changes"][0]
    assert found["action"] == "update" and {"path": "description", "before": None, "after": "5"} in found["fields"]
    assert json.loads(shoal("get", "pool", "shop-pool", "--json").output)["pool"][0]["name"] == "shop-pool"
    assert json.loads(shoal("delete", "--json", "-f", str(file)).output)["different"] == 3


def test_everything_that_is_got_is_as_it_is(shoal: Any, file: Path, tmp_path: Path) -> None:
    """What `get` writes for every object of a controller, `apply` takes without a change, in either form."""
    shoal("apply", "-f", str(file))
    for words in (("get", "all"), ("get", "all", "--json"), ("get", "all", "--full")):
        everything = tmp_path / "all.yaml"
        everything.write_text(shoal(*words).output)
        different = shoal("diff", "-f", str(everything))
        assert different.return_value == 0, different.output
    shop = shoal("get", "pool,vsvip,virtualservice").output
    assert "uuid" not in shop and "tenant_ref" not in shop and "pool_ref: shop-pool" in shop
    before = {type: shoal("get", type, "--full").output for type in ("pool", "vsvip", "virtualservice")}
    shoal("delete", "-f", str(file))
    assert shoal("apply", "-f", "-", typed=shop).return_value == 0
    assert {type: shoal("get", type, "--full").output for type in before} == before
    shoal("delete", "-f", str(file))


def test_what_a_file_leaves_out_stays(shoal: Any, file: Path, controller: Controller) -> None:
    shoal("apply", "-f", str(file))
    shoal("apply", "-f", "-", typed="pool: [{name: shop-pool, servers: [{ip: 10.0.0.2, port: 80, enabled: false}]}]")
    pool = controller.ask(partial(controller.world.get, "/api/pool", name="shop-pool"))["results"][0]
    assert pool["lb_algorithm"] == "LB_ALGORITHM_ROUND_ROBIN"
    assert [(s["ip"]["addr"], s["enabled"]) for s in pool["servers"]] == [("10.0.0.2", False)]
    shoal("delete", "-f", str(file))


def test_nothing_is_done_when_one_object_can_not_be(shoal: Any, controller: Controller) -> None:
    with pytest.raises(ShoalError, match=r"pool 2: servers\[0\].port"):
        shoal("apply", "-f", "-", typed="pool: [{name: good}, {name: bad, servers: [{ip: 10.0.0.1, port: 99999}]}]")
    assert "good" not in shoal("get", "pool").output


def test_a_refusal_half_way_is_told_and_nothing_is_done(shoal: Any) -> None:
    text = "pool: [{name: one}]\nvirtualservice: [{name: x, services: [{port: 80}], vsvip_ref: nowhere}]\nstringgroup: {name: s, type: sg_type_string}"
    done = shoal("apply", "-f", "-", typed=text)
    assert done.return_value == 1
    assert "pool one: not done" in done.output and "virtualservice x: failed: vsvip_ref: " in done.output
    assert "stringgroup s: not done" in done.output and "changes[" not in done.output
    assert "one" not in shoal("get", "pool").output
    text = "pool: [{name: one, max_concurrent_connections_per_server: 5}, {name: two, description: x}]"
    assert shoal("apply", "-f", "-", typed=text).output.endswith("pool one: created\npool two: created\n")
    assert shoal("delete", "-f", "-", typed=text).output.endswith("pool two: deleted\npool one: deleted\n")


def test_more_than_a_transaction_holds_is_made_whole_too(shoal: Any) -> None:
    text = "pool: [" + ", ".join(f"{{name: many-{n}}}" for n in range(150)) + "]"
    taken = text[:-1] + ", {name: last, health_monitor_refs: [nowhere]}]"
    assert "pool last: failed: " in shoal("apply", "-f", "-", typed=taken).output
    assert "many-" not in shoal("get", "pool").output
    assert shoal("apply", "-f", "-", typed=text).output.count(": created") == 150
    assert shoal("delete", "-f", "-", typed=text).output.count(": deleted") == 150


def test_what_a_file_says_stays_though_a_mode_has_presets(shoal: Any, file: Path) -> None:
    group = "serviceenginegroup: [{name: both, ha_mode: HA_MODE_SHARED%s, min_scaleout_per_vs: 2}]"
    for mode in ("_PAIR", ""):
        file.write_text(group % mode)
        assert shoal("apply", "-f", str(file)).exit_code == 0
    assert "min_scaleout_per_vs: 2" in shoal("get", "serviceenginegroup", "both").output
    shoal("delete", "-f", str(file))


def test_secrets_are_set_again_and_never_shown(shoal: Any) -> None:
    text = "authprofile: {name: corp, type: auth_profile_ldap, ldap: {server: [10.0.0.1], settings: {admin_bind_dn: cn=a, user_id_attribute: uid, password: hush-hush-hush}}}"
    assert shoal("apply", "-f", "-", typed=text).return_value == 0
    again = shoal("apply", "-f", "-", typed=text).output
    assert "its secrets are set again (ldap.settings.password)" in again and "hush" not in again
    assert "hush" not in shoal("get", "authprofile", "corp").output
    shoal("delete", "authprofile", "corp")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pool: [{name: a}\n", r"-:\d+: "),
        ("pools: [{name: a}]", "Did you mean pool"),
        ("pool: [{nmae: a}]", "a name is required"),
        ("pool: [{name: a, servres: []}]", "Did you mean servers"),
        ("pool: [{name: a}, {name: a}]", "is in -: pool 1 already"),
        ("pool: {name: a, name: b}", "is there twice"),
        ("pool: 5", "must be an object"),
        ("- pool", "must be types with their objects"),
        ("serviceengine-inventory: {name: a}", "no object that can be configured"),
        ("pool: {name: a, default_server_port: yes}", "default_server_port"),
        ("\x00", "special characters"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(shoal: Any, text: str, words: str) -> None:
    with pytest.raises(ShoalError, match=words):
        shoal("apply", "-f", "-", typed=text)


def test_a_file_that_is_not_there(shoal: Any) -> None:
    with pytest.raises(Invalid, match="No such file"):
        shoal("diff", "-f", "/nonexistent.yaml")


def test_plain_words_stay_texts() -> None:
    found = yaml.load("[on, 22:10, 2024-01-01, 0x10, 010, 1_000, 5, true, '5', 1.5]", manifest._Loader)
    assert found == ["on", "22:10", "2024-01-01", "0x10", "010", "1_000", 5, True, "5", 1.5]


def test_references_order_objects() -> None:
    wanted = manifest.read(load(), ["-"], _Text(SHOP))
    assert [one.title for one in manifest.in_order(wanted)] == [
        "pool shop-pool",
        "vsvip shop-vip",
        "virtualservice shop",
    ]


class _Text:
    def __init__(self, text: str) -> None:
        self._text = text

    def read(self, characters: int) -> str:
        return self._text[:characters]


# --- settings ---


def configured(tmp_path: Path, text: str, mode: int = 0o600) -> None:
    file = tmp_path / "config" / "shoal" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    file.chmod(mode)


def test_the_file_of_settings_is_enough(controller: Controller, tmp_path: Path) -> None:
    configured(tmp_path, f'controller = "127.0.0.1:{controller.port}"\npassword = "{PASSWORD}"\n')
    done = CliRunner().invoke(cli, ["shell", "-c", "show tenant"], standalone_mode=False)
    assert "| admin | admin |" in done.output


def test_an_option_wins_over_a_variable_and_that_over_the_file(
    controller: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(tmp_path, f'controller = "127.0.0.1:1"\npassword = "{PASSWORD}"\ntenant = "nowhere"')
    monkeypatch.setenv("SHOAL_CONTROLLER", f"127.0.0.1:{controller.port}")
    words = ["shell", "--tenant", "admin", "-c", "show tenant"]
    assert "| admin | admin |" in CliRunner().invoke(cli, words, standalone_mode=False).output


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ('controler = "x"', 0o600, "Did you mean controller"),
        ("controller = 5", 0o600, "must be a text"),
        ("controller", 0o600, "is no TOML"),
        ('password = "x"', 0o644, "chmod 600"),
    ],
)
def test_wrong_settings_are_told(tmp_path: Path, text: str, mode: int, words: str) -> None:
    configured(tmp_path, text, mode)
    with pytest.raises(Invalid, match=words):
        settings.setting("controller")


def test_the_client_of_an_export_and_an_import(controller: Controller, tmp_path: Path) -> None:
    from shoal.shell.session import Session

    client = Client(f"https://127.0.0.1:{controller.port}", "admin", PASSWORD)
    client.login()
    session = Session(client, load(), "ctl")
    session.run("configure pool taken --servers.1.ip 10.0.0.4")
    file = tmp_path / "pool.yaml"
    assert session.run(f"export pool taken file {file}")[0] == f"1 object in {file}, without secrets."
    assert session.run(f"import file {file}")[0] == "1 object is as the files say."
    session.run("delete pool taken")
    assert "pool taken: created" in session.run(f"import file {file}")[0]
    assert "ip: 10.0.0.4\n" in session.run("export pool taken")[0]
    whole = tmp_path / "all.json"
    assert "without secrets" in session.run(f"export configuration file {whole}")[0]
    assert json.loads(whole.read_text())["Pool"][0]["name"] == "taken"
    session.run("delete pool taken")
    client.close()
