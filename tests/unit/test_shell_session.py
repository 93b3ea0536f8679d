"""The shell's commands against a served API: every type, both modes of printing, the pipes, and lines made at random."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shoal.errors import Invalid, NotFound, Refused, ShoalError
from shoal.objects import MessageType, load
from shoal.shell.client import Client
from shoal.shell.command import Choice
from shoal.shell.commands import COMMANDS
from shoal.shell.complete import Choices, page
from shoal.shell.edit import Edit
from shoal.shell.layout import fitted
from shoal.shell.plan import Declined
from shoal.shell.session import Leave, Session
from shoal.shell.terminal import ask_again
from shoal.shell.words import commands, unfinished, whole_commands
from tests.api_served import Controller
from tests.api_world import PASSWORD, ControlledWorld, controlled_world, key_pair

RANDOM_LINES = 500
OWN = {"uuid", "url"}
"""Fields that nobody sets."""


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with Controller(tmp_path_factory.mktemp("shell")) as controller:
        yield controller


@pytest.fixture(scope="module")
def client(controller: Controller) -> Iterator[Client]:
    client = Client(f"https://127.0.0.1:{controller.port}", "admin", PASSWORD)
    client.login()
    yield client
    client.close()


@pytest.fixture(scope="module")
def shop(controller: Controller) -> dict[str, Any]:
    """A virtual service with its pool and VIP."""
    return controller.ask(partial(controller.world.service, "shop", "10.9.0.9"))


@pytest.fixture
def session(client: Client) -> Iterator[Session]:
    yield Session(client, load(), "ctl", frame=lambda text: frames.append(text))
    client.tenant, client.cloud, client.on_call = "admin", "", None
    frames.clear()


frames: list[str] = []


def said(session: Session, *lines: str) -> str:
    """What the last of them prints."""
    text = ""
    for line in lines:
        text, _ = session.run(line)
    return text


def rows(text: str) -> dict[str, str]:
    cells = [line.strip("|").partition("|") for line in text.splitlines() if line.startswith("| ")]
    return {field[1:].rstrip(): value.strip() for field, _, value in cells}


def stored(session: Session, type: str, name: str) -> dict[str, Any]:
    found = session.client.named(type, name)
    assert found is not None
    return found


def without_identity(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in ("uuid", "url", "_last_modified", "name")}


# --- words over several lines ---


def test_a_backslash_continues_a_line_and_a_here_document_is_one_word() -> None:
    lines = ["configure pool p \\", "  --x 1", "key <<END", "a | b", "", "END", "save"]
    whole = list(whole_commands(lines))
    assert whole == ["configure pool p   --x 1", "key <<END\na | b\n\nEND", "save"]
    assert commands(whole[1]) == [["key", "a | b\n"]]
    assert unfinished("key <<END\na") and unfinished("show \\") and not unfinished("key '<<END'")


def test_two_here_documents_come_in_order() -> None:
    assert commands("x <<A --y <<B\n1\nA\n2\n3\nB") == [["x", "1", "--y", "2\n3"]]
    with pytest.raises(Invalid, match="has no end"):
        commands("x <<A\n1")


# --- every type, everything in it ---


def nested(message: MessageType, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The fields that lead down to each structure; one that holds itself is gone into once."""
    for name, field in message.fields.items():
        if field.nested is not None and not field.read_only and field.nested.name not in above:
            yield (name,)
            yield from ((name, *rest) for rest in nested(field.nested, (*above, field.nested.name)))


def test_every_nested_structure_of_every_type_is_a_mode(session: Session) -> None:
    choices = Choices(session)
    count = 0
    for kind in load().types.values():
        for path in () if kind.read_only else nested(kind.message):
            edit = session.edit = Edit(kind, "x", None)
            for step in path:
                said(session, step)
            assert session.prompt == f"[admin:ctl]: {':'.join((kind.endpoint, *path))}> "
            offered = {choice.word for choice in choices.next("")}
            assert offered > {name for name, field in edit.level.message.fields.items() if not field.read_only} - OWN
            for _ in path:
                said(session, "save")
            shown = rows(said(session, "where"))
            for depth, step in enumerate(path):
                label = "  " * depth + step
                assert label in shown or f"{label}[1]" in shown, f"{kind.endpoint} {path}"
            count += 1
    session.edit = None
    assert count > 1000


# --- show ---


@pytest.mark.parametrize("type", sorted(load().types))
def test_every_type_is_listed_or_shown(session: Session, type: str) -> None:
    try:
        text = said(session, f"show {type}")
    except ShoalError as error:
        assert load().types[type].read_only, error
    else:
        assert (text.startswith("+-") and text.endswith("-+")) or text == f"There is no {type}."


FIVE = {
    "virtualservice": {"name": "shop", "services[1]": "", "  port": "80", "pool_ref": "shop-pool"},
    "pool": {"servers[1]": "", "  ip": "", "    addr": "10.0.0.1", "  port": "80"},
    "vsvip": {"vip[1]": "", "  vip_id": "0", "  ip_address": "", "    addr": "10.9.0.9"},
    "healthmonitor": {"receive_timeout": "4 sec", "send_interval": "10 sec", "type": "HEALTH_MONITOR_TCP"},
    "applicationprofile": {"type": "APPLICATION_PROFILE_TYPE_HTTP", "http_profile": ""},
}
NAMES = {"pool": "shop-pool", "vsvip": "shop-vip", "healthmonitor": "System-TCP", "applicationprofile": "System-HTTP"}


@pytest.mark.parametrize("type", FIVE)
def test_five_types_keep_the_listings_conventions(session: Session, shop: dict[str, Any], type: str) -> None:
    name = NAMES.get(type, "shop")
    text = said(session, f"show {type} {name}")
    found = rows(text)
    for field, value in FIVE[type].items():
        assert found[field] == value
    lines = text.splitlines()
    assert lines[0] == lines[2] == lines[-1] and set(lines[0]) == {"+", "-"}
    assert [*found][:3] == ["Field", "uuid", "name"]
    shown = [field.partition("[")[0] for field in found if not field.startswith(" ") and field != "Field"]
    assert shown == [
        field for field in load().type(type).fields if field in shown
    ]  # the schema's order, not the alphabet's
    assert {"True", "False"} & {*found.values()} and not {"true", "false"} & {*found.values()}
    assert not any("/api/" in value for value in found.values())  # references by name
    uuid = found["uuid"].removeprefix(f"{type}-").split("-")
    assert [len(part) for part in uuid] == [8, 4, 4, 4, 12]


def test_runtime_documents_tell_times_as_times_and_lists_entry_by_entry(session: Session) -> None:
    said(session, "terminal timezone Asia/Tokyo")
    changed = {"last_changed_time": {"secs": 1_700_000_000, "usecs": 5}, "other": {"secs": 1}}
    found = session.plain([changed, {"a": [1, {"b": "/api/pool/pool-1#web"}]}]).text
    assert rows(found)["last_changed_time"] == "2023-11-15 07:13:20" and rows(found)["  secs"] == "1"
    assert (rows(found)["a[1]"], rows(found)["  b"]) == ("1", "web") and found.count("| Field ") == 2
    assert session.plain([]).text == "There is none."


def test_json_is_what_the_api_says(session: Session, shop: dict[str, Any]) -> None:
    assert json.loads(said(session, "show virtualservice shop | json"))["uuid"] == shop["uuid"]
    assert json.loads(said(session, "show virtualservice | json"))[0] == {"name": "shop", "uuid": shop["uuid"]}
    assert json.loads(said(session, "show virtualservice shop summary | json"))["percent_ses_up"] == 100
    assert [e["event_id"] for e in json.loads(said(session, "show events event_id SE_UP | json"))] == ["SE_UP"]
    with pytest.raises(Invalid, match="Put it first"):
        session.run("show virtualservice | grep shop | json")


def test_grep_takes_several_patterns(session: Session) -> None:
    group = "show serviceenginegroup Default-Group"
    assert set(rows(said(session, f"{group} | grep -e 'max_se \\| min_se '"))) == {"max_se", "min_se"}
    assert set(rows(said(session, f"{group} | grep -E 'max_se |min_se '"))) == {"max_se", "min_se"}
    assert set(rows(said(session, f"{group} | grep -e 'max_se ' -e 'min_se '"))) == {"max_se", "min_se"}
    assert set(rows(said(session, f"{group} | grep -i MAX_SE | grep -v scale"))) == {"max_se"}
    assert "|" not in said(session, f"{group} | grep -v '|'") and "+-" in said(session, f"{group} | grep -v '|'")
    assert said(session, f"{group} | grep '[|+]'") == said(session, group)
    assert set(rows(said(session, f"{group} | grep '^| m\\(ax\\|in\\)_se '"))) == {"max_se", "min_se"}


def test_events_are_narrowed(session: Session, shop: dict[str, Any]) -> None:
    assert said(session, "show events event_id SE_DOWN,VS_UP").count("\n") == 5
    assert "CONFIG_CREATE" in said(session, "show events virtualservice shop since 10m")
    assert len(json.loads(said(session, "show events virtualservice shop last 1 | json"))) == 1
    for line, words in (("since soon", "Give 90s"), ("last 0", "must be 1 to"), ("latest 3", "Did you mean last")):
        with pytest.raises(Invalid, match=words):
            session.run(f"show events {line}")
    assert said(session, "show log virtualservice shop since 1h").startswith("Nothing is logged: ")


def test_logged_requests_are_a_table(session: Session, shop: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    entry = {
        "report_timestamp": 1_700_000_000.25, "vs_name": "shop", "client_ip": "10.9.9.9", "method": "GET", "uri_path": "/buy",
        "response_code": 503, "total_time": 12.345, "significance": "status 503: the server broke it off",
    }  # fmt: skip

    def call(method: str, path: str, body: object = None, **more: Any) -> Any:
        asked.append(path)
        return {"results": [{"uuid": "virtualservice-1"}] if path.startswith("virtualservice") else [entry]}

    monkeypatch.setattr(session.client, "call", call)
    text = said(session, "show log virtualservice shop last 5 filter ge(response_code,500)")
    assert (
        asked[-1]
        == "analytics/logs?virtualservice=virtualservice-1&type=1&filter=ge%28response_code%2C500%29&page_size=5"
    )
    assert (
        "| 2023-11-14 22:13:20 | 10.9.9.9 | GET    | /buy | 503    | 12.3 | status 503: the server broke it off |"
        in text
    )
    assert "Virtual service" not in text and "| shop " in said(session, "show log connections")


def test_a_mistaken_type_is_compared_with_events_too(session: Session) -> None:
    with pytest.raises(NotFound, match="Did you mean events"):
        session.run("show evnets")


def test_watch_shows_again_and_again(session: Session) -> None:
    assert said(session, "watch interval 1 count 2 show tenant | grep admin") == ""
    assert len(frames) == 2 and "| admin | admin |" in frames[1] and "+--" not in frames[1]
    with pytest.raises(Invalid, match="For example"):
        session.run("watch delete tenant admin")
    said(session, "configure pool p", "do watch count 1 show tenant", "watch count 1 show tenant")
    assert "| admin | admin |" in frames[-1] and session.edit is not None


# --- the session ---


def test_api_calls_are_told_for_one_command_or_for_all(session: Session) -> None:
    text = said(session, "show serviceenginegroup Default-Group --api-detail | grep API")
    assert f"API: GET {session.client.url}/api/serviceenginegroup?name=Default-Group&include_name=" in text
    assert "API:" not in said(session, "show tenant")
    assert "API:" in said(session, "terminal display_api_details", "show tenant")
    said(
        session,
        "configure authprofile corp type auth_profile_ldap",
        "ldap settings admin_bind_dn cn=shoal",
        "user_id_attribute uid",
    )
    said(session, "password hush-hush-hush", "save")
    said(session, "save", "ldap server 10.0.0.1", "save")
    text = said(session, "save")
    assert "API: POST" in text and '"password": "<sensitive>"' in text and "hush" not in text
    assert "API:" not in said(session, "terminal display_api_details false", "delete authprofile corp", "show tenant")
    assert "hush" not in said(session, "history") and "<sensitive>" in said(session, "history")


@pytest.mark.parametrize(
    ("line", "remembered"),
    [
        ("ldap settings password hush hush", "ldap settings password <sensitive>"),
        ("--ldap.settings.password hush --name b", "--ldap.settings.password <sensitive> --name b"),
        ("--ldap.settings.password=hush", "--ldap.settings.password <sensitive>"),
        ("ldap server 10.0.0.1", "ldap server 10.0.0.1"),
        ("description 'two  words'", "description 'two  words'"),
    ],
)
def test_history_has_no_secrets(session: Session, line: str, remembered: str) -> None:
    said(session, "configure authprofile corp", line)
    assert session.past[-1] == remembered
    assert "hush" not in said(session, "do history")


def test_the_terminal_tells_what_is_set(session: Session) -> None:
    said(session, "terminal length 0", "terminal timezone Asia/Tokyo", "terminal session_timeout 0")
    found = rows(said(session, "terminal"))
    assert (found["length"], found["timezone"], found["session_timeout"]) == ("0", "Asia/Tokyo", "never")
    assert "Time (Asia/Tokyo)" in said(session, "show events")
    for line, words in (
        ("mode linux", "must be default or linux_command_line"),
        ("timezone Europe/Brelin", "Did you mean Europe/Berlin"),
        ("lenght 3", "Did you mean length"),
        ("length many", "use terminal length"),
    ):
        with pytest.raises(Invalid, match=words):
            session.run(f"terminal {line}")


def test_switchto_changes_the_context(session: Session) -> None:
    assert said(session, "switchto cloud Default-Cloud") != ""
    assert "Default-Group" in said(session, "show serviceenginegroup")
    said(session, "configure cloud elsewhere vtype cloud_none", "save", "switchto cloud elsewhere")
    assert "Default-Group" not in said(session, "show serviceenginegroup")
    said(session, "configure serviceenginegroup there", "save")
    assert stored(session, "serviceenginegroup", "there")["cloud_ref"].endswith("#elsewhere")
    said(session, "switchto cloud all")
    assert "Default-Group" in said(session, "show serviceenginegroup")
    said(session, "delete serviceenginegroup there", "delete cloud elsewhere")
    for line, words in (("tenant admni", "Did you mean admin"), ("cloud Defalt-Cloud", "Did you mean Default-Cloud")):
        with pytest.raises(NotFound, match=words):
            session.run(f"switchto {line}")
    assert session.client.tenant == "admin"


def test_a_command_is_no_field(session: Session) -> None:
    said(session, "configure pool half")
    for line, words in (("switchto tenant admin", "finish the edit first"), ("scaleout", "In a mode: do scaleout")):
        with pytest.raises(ShoalError, match=words):
            session.run(line)
    assert session.edit is not None


def test_commands_of_other_products_are_pointed_elsewhere(session: Session) -> None:
    with pytest.raises(Invalid, match="shoal down --purge"):
        session.run("purge")


def test_each_command_has_a_manual(session: Session) -> None:
    for name, command in COMMANDS.items():
        text = said(session, f"help {name}")
        assert text.startswith(f"{name}: {command.summary}.") and command.usage[0] in text
        assert f"  {name} " in said(session, "help")
    assert max(len(line) for line in said(session, "help").splitlines()) <= 80


def test_the_password_is_asked_for_again_after_an_idle_time(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter(["guess", PASSWORD, "guess", "guess", "guess"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(typed))
    ask_again(15, client.password_is)
    with pytest.raises(EOFError):
        ask_again(15, client.password_is)


# --- operations ---


@pytest.mark.parametrize(
    ("line", "operation", "body"),
    [
        ("scaleout virtualservice shop to_new_se", "scaleout", {"vip_id": "0", "to_new_se": True}),
        ("scalein virtualservice shop scalein_primary", "scalein", {"vip_id": "0", "scalein_primary": True}),
        ("migrate virtualservice shop to_host_ref h1", "migrate", {"vip_id": "0", "to_host_ref": "h1"}),
        ("retryplacement virtualservice shop", "retryplacement", {"vip_id": "0"}),
    ],
)
def test_operations_reach_the_api(
    session: Session, controller: Controller, shop: dict[str, Any], line: str, operation: str, body: dict[str, Any]
) -> None:
    assert f"{operation} of shop is in progress; show virtualservice shop placement has" in said(session, line)
    assert controller.world.runtime.calls[-1] == ("virtualservice", shop["uuid"], operation, body)


def test_initialplacement_is_for_services_without_an_engine(
    session: Session, controller: Controller, shop: dict[str, Any]
) -> None:
    runtime = controller.world.runtime
    runtime.scale = 1
    with pytest.raises(Refused, match="is placed already"):
        session.run("initialplacement virtualservice shop serviceengine se-9")
    runtime.scale = 0
    said(session, "initialplacement virtualservice shop serviceengine se-9")
    assert runtime.calls[-1][2:] == ("scaleout", {"vip_id": "0", "to_se_ref": "se-9"})


def test_restart_ends_with_the_service_enabled(session: Session, controller: Controller, shop: dict[str, Any]) -> None:
    controller.world.runtime.scale = 0
    assert said(session, "restart virtualservice shop") == "shop was disabled and is enabled again."
    changes = [e["event_description"] for e in json.loads(said(session, "show events event_id config_update | json"))]
    assert stored(session, "virtualservice", "shop")["enabled"] is True
    assert len([text for text in changes if "shop" in text]) >= 2


def test_restart_broken_off_leaves_the_service_enabled(
    session: Session, controller: Controller, shop: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    controller.world.runtime.scale = 1  # its engine never lets go
    monkeypatch.setattr("time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        session.run("restart virtualservice shop")
    assert stored(session, "virtualservice", "shop")["enabled"] is True


def interrupt(seconds: float) -> None:
    raise KeyboardInterrupt


# --- editing ---


def test_nested_structures_and_lists(session: Session) -> None:
    said(session, "configure pool nested", "servers ip 10.0.0.1", "port 80", "save", "servers ip 10.0.0.2", "save")
    said(session, "servers index 2 port 81", "save", "no servers index 1", "fail_action")
    assert session.prompt == "[admin:ctl]: pool:fail_action> "
    said(session, "type fail_action_http_redirect", "redirect host example.org")
    assert session.prompt == "[admin:ctl]: pool:fail_action:redirect> "
    said(session, "save", "save")
    found = rows(said(session, "save"))
    assert found["servers[1]"] == "" and found["    addr"] == "10.0.0.2" and found["    host"] == "example.org"
    said(session, "delete pool nested")


@pytest.mark.parametrize("typed", ["min_scaleout_per_vs 2", "--min_scaleout_per_vs 2"])
def test_what_is_typed_stays_though_a_mode_has_presets(session: Session, typed: str) -> None:
    """Also where it is as it was: the other mode's preset."""
    said(session, "configure serviceenginegroup both --ha_mode HA_MODE_SHARED_PAIR")
    said(session, "configure serviceenginegroup both", "ha_mode ha_mode_shared", typed, "save")
    found = stored(session, "serviceenginegroup", "both")
    assert (found["ha_mode"], found["min_scaleout_per_vs"], found["buffer_se"]) == ("HA_MODE_SHARED", 2, 1)
    said(session, "configure serviceenginegroup both max_se 10")
    assert said(session, "save") == "Nothing was changed."
    said(session, "delete serviceenginegroup both")


def test_a_copy_begins_as_the_other(session: Session, shop: dict[str, Any]) -> None:
    said(session, "copy pool shop-pool shop2-pool", "save")
    one, other = stored(session, "pool", "shop-pool"), stored(session, "pool", "shop2-pool")
    assert without_identity(one) == without_identity(other) and one["uuid"] != other["uuid"]
    said(session, "delete pool shop2-pool")


def test_copies_leave_secrets_out_and_say_so(session: Session) -> None:
    key, certificate = key_pair()
    body = {"name": "web", "key": key, "certificate": {"certificate": certificate}}
    session.client.call("POST", "sslkeyandcertificate", body)
    text = said(session, "copy sslkeyandcertificate web other")
    assert "Secrets are not copied; set: key" in text
    said(session, "cancel", "terminal mode linux_command_line")
    assert said(session, "show sslkeyandcertificate web").startswith("# Secret, and not in it: key.\nconfigure ")
    said(session, "delete sslkeyandcertificate web")


# --- objects as command lines ---


@pytest.mark.parametrize("output", ["multi_line", "single_line"])
@pytest.mark.parametrize("type", FIVE)
def test_what_the_script_mode_prints_makes_the_object_again(
    session: Session, shop: dict[str, Any], type: str, output: str
) -> None:
    name = NAMES.get(type, "shop")
    text = said(
        session, "terminal mode linux_command_line", f"terminal --linux_cmd_output {output}", f"show {type} {name}"
    )
    assert ("\n" in text) is (output == "multi_line")
    before = stored(session, type, name)
    if type in ("virtualservice", "vsvip"):  # there can't be two on one address
        said(session, "delete virtualservice shop", *(["delete vsvip shop-vip"] if type == "vsvip" else []))
    else:
        text = text.replace(f"configure {type} {name}", f"configure {type} again")
    for line in whole_commands(text.splitlines()):
        session.run(line)
    if type == "vsvip":
        said(session, "configure virtualservice shop --services.1.port 80 --pool_ref shop-pool --vsvip_ref shop-vip")
    again = stored(session, type, name if type in ("virtualservice", "vsvip") else "again")
    assert without_identity(again) | {"vs_refs": 0} == without_identity(before) | {"vs_refs": 0}
    if type not in ("virtualservice", "vsvip"):
        said(session, f"delete {type} again")


def test_texts_of_several_lines_come_as_here_documents(session: Session) -> None:
    said(session, "terminal mode linux_command_line")
    said(session, "configure errorpagebody page --error_page_body <<END\n<h1>\n'No' | \\ \"way\"\n</h1>\nEND")
    text = said(session, "show errorpagebody page")
    assert "--error_page_body <<END" in text and "HTML\n<h1>\n'No' | \\ \"way\"\n</h1>\nEND" in text
    said(session, "delete errorpagebody page", *whole_commands(text.splitlines()))
    assert stored(session, "errorpagebody", "page")["error_page_body"] == "<h1>\n'No' | \\ \"way\"\n</h1>"
    said(session, "delete errorpagebody page")


def test_options_are_taken_inside_an_edit_too(session: Session) -> None:
    said(
        session,
        "terminal mode linux_command_line",
        "configure pool typed",
        "--servers.1.ip 10.0.0.7 --servers.1.port 81",
    )
    assert "--servers.1.ip 10.0.0.7\n--servers.1.port 81" in said(session, "where")
    said(session, "--servers.1.port 82 --enabled false", "save")
    assert stored(session, "pool", "typed")["servers"][0]["port"] == 82
    said(session, "configure pool typed --servers.2.ip 10.0.0.8 --health_monitor_refs System-TCP System-HTTP")
    found = stored(session, "pool", "typed")
    assert [len(found["servers"]), len(found["health_monitor_refs"]), found["enabled"]] == [2, 2, False]
    said(session, "delete pool typed")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--servres.1.port 80", "Did you mean servers"),
        ("--servers.3.port 80", "must be a number from 1 to 1"),
        ("--servers.0.port 80", "must be a number from 1 to 1"),
        ("--servers.1.ip nonsense", "is made of addr, type"),
        ("--servers.1.port", "a value is required"),
        ("--enabled.x true", "has no members"),
        ("--uuid pool-1", "is read-only"),
        ("--max_conn_rate_per_server.count many", "whole number|has no field|no members"),
    ],
)
def test_a_wrong_option_changes_nothing(session: Session, line: str, words: str) -> None:
    said(session, "configure pool half")
    with pytest.raises(ShoalError, match=words):
        session.run(f"--default_server_port 81 {line}")
    assert session.edit is not None and session.edit.level.content == {"name": "half"}


def test_pasted_certificates(session: Session) -> None:
    key, certificate = key_pair()
    said(session, "configure sslkeyandcertificate pasted", f"key <<END\n{key}\nEND", "certificate")
    said(session, f"certificate <<END\n{certificate}\nEND", "save", "save")
    found = stored(session, "sslkeyandcertificate", "pasted")
    assert found["certificate"]["subject"]["common_name"] == "www.example.org"
    assert "PRIVATE" not in said(session, "history")
    file = said(session, "export sslkeyandcertificate pasted")
    assert "BEGIN CERTIFICATE" in file and "expire" not in file and "subject" not in file  # it says what it says
    said(session, "delete sslkeyandcertificate pasted")


def test_texts_of_others_do_nothing_to_the_terminal(session: Session) -> None:
    """Whoever may describe an object must not write on the screens of those who look at it."""
    evil = "two\nlines\x1b]0;x\x07\x9b31m"
    session.client.call("POST", "stringgroup", {"name": "evil", "type": "SG_TYPE_STRING", "description": evil})
    lines = ["show stringgroup evil", "show stringgroup evil | json", "export stringgroup"]
    shown = [said(session, line) for line in lines]
    shown.append(said(session, "terminal mode linux_command_line", lines[0]))
    assert all("lines" in text for text in shown)
    assert not {"\x1b", "\x9b", "\x07"} & set("".join(shown))
    assert json.loads(shown[1])["description"] == evil
    said(session, "delete stringgroup evil")
    assert "\x1b" not in page([Choice("a\x1b[2J", "help")], 80)


# --- certificates, captures, foreign configurations, idle engines ---


def test_a_certificate_is_uploaded_and_renewed(session: Session, tmp_path: Path) -> None:
    key, certificate = key_pair()
    (tmp_path / "c.pem").write_text(certificate)
    (tmp_path / "k.pem").write_text(key)
    words = f"upload sslkeyandcertificate www certificate {tmp_path}/c.pem"
    with pytest.raises(Invalid, match="needs its key"):
        said(session, words)
    with pytest.raises(Invalid, match="is no PEM file"):
        said(session, f"upload sslkeyandcertificate www certificate {__file__}")
    text = said(session, f"{words} key {tmp_path}/k.pem passphrase hush-hush --api-detail")
    assert "www.example.org" in text and "hush" not in text + said(session, "history")
    first = stored(session, "sslkeyandcertificate", "www")
    again = key_pair("new.example.org")
    (tmp_path / "c.pem").write_text(again[1])
    with pytest.raises(ShoalError, match="not the key"):
        said(session, words)
    (tmp_path / "k.pem").write_text(again[0])
    said(session, f"{words} key {tmp_path}/k.pem")
    renewed = stored(session, "sslkeyandcertificate", "www")
    assert renewed["uuid"] == first["uuid"] and renewed["certificate"] != first["certificate"]
    said(session, "delete sslkeyandcertificate www")


def test_a_file_about_addresses_is_uploaded_and_named_by_a_database(session: Session, tmp_path: Path) -> None:
    file = tmp_path / "lands.csv"
    file.write_text("192.0.2.0/24,DE\n")
    assert "networks" in said(session, f"upload fileobject countries file {file} type geo_db")
    said(session, "configure geodb places", "files", "name countries", "index 1", "file_ref countries", "save", "save")
    found = stored(session, "geodb", "places")["files"][0]
    assert found["file_ref"].endswith("#countries")
    for line, words in (
        (f"upload fileobject countries file {file}", "a type is required"),
        (f"upload fileobject countries file {tmp_path}/none type geo_db", "can't be read: No such file"),
        (f"upload fileobject other file {file} type ip_reputation", "line 1: DE is no type"),
        (f"upload pool countries file {file}", "is for sslkeyandcertificate and fileobject"),
    ):
        with pytest.raises(ShoalError, match=words):
            said(session, line)
    said(session, "delete geodb places", "delete fileobject countries")


def test_what_a_capture_takes_is_said_by_debug(session: Session, shop: dict[str, Any]) -> None:
    with pytest.raises(NotFound, match="Did you mean shop"):
        said(session, "debug virtualservice shpo")
    text = said(session, "debug virtualservice shop", "capture_params num_pkts 5", "save")
    assert "shoal capture shop" in said(session, "cancel", "debug virtualservice shop") and not text
    said(session, "capture_params num_pkts 7", "save", "save")
    assert stored(session, "debugvirtualservice", "shop")["capture_params"]["num_pkts"] == 7
    assert "capture_params" in words_after(session, "debug virtualservice shop cap")
    said(session, "delete debugvirtualservice shop")


def test_an_exported_configuration_is_converted(session: Session, shop: dict[str, Any], tmp_path: Path) -> None:
    avi = {
        "META": {"version": {"Version": "22.1.3"}},
        "Pool": [
            {
                "name": "old",
                "tenant_ref": "/api/tenant/?name=admin",
                "cloud_ref": "/api/cloud/?tenant=admin&name=Default-Cloud",
                "health_monitor_refs": ["/api/healthmonitor/?tenant=admin&name=System-TCP"],
                "servers": [{"ip": {"addr": "10.0.0.4", "type": "V4"}, "port": 80}],
            },
            {"name": "theirs", "tenant_ref": "/api/tenant/?name=red"},
        ],
        "HealthMonitor": [{"name": "System-TCP"}],
        "SystemConfiguration": [{"dns_configuration": {}}],
        "GslbGeoDbState": [],
    }
    (tmp_path / "avi.json").write_text(json.dumps(avi))
    text = said(session, f"convert file {tmp_path}/avi.json")
    assert "# GslbGeoDbState left out" in text and "theirs" not in text and "System-TCP" in text
    assert "1 object in" in said(session, f"convert file {tmp_path}/avi.json to {tmp_path}/avi.yaml")
    assert "pool old: created" in said(session, f"import file {tmp_path}/avi.yaml")
    assert "System-TCP" in said(session, "show pool old")
    said(session, "delete pool old")


def test_idle_engines_go_at_once_but_those_that_the_buffer_needs(tmp_path: Path) -> None:
    with Controller(tmp_path, controlled_world) as controller:
        world = controller.world
        assert isinstance(world, ControlledWorld)
        controller.ask(partial(world.service, "shop", "10.9.0.9"))
        engines = controller.ask(partial(world.staged, 5))
        client = Client(f"https://127.0.0.1:{controller.port}", "admin", PASSWORD)
        client.login()
        asked: list[str] = []

        def confirm(text: str) -> bool:
            asked.append(text)
            return True

        session = Session(client, load(), "ctl", confirm=confirm)
        with pytest.raises(Invalid, match="purge serviceenginegroup"):
            said(session, "purge virtualservice shop")
        text = said(session, "purge serviceenginegroup Default-Group")
        left = set(engines) - {line.partition(" ")[0] for line in text.splitlines() if line.endswith("is deleted.")}
        assert "would be deleted" in asked[0] and 2 <= len(left) < len(engines), text
        client.close()


# --- completion ---


def words_after(session: Session, text: str) -> list[str]:
    return [choice.word for choice in Choices(session).next(text)]


def test_completion_knows_the_new_words(session: Session, shop: dict[str, Any]) -> None:
    assert words_after(session, "watch show virtualservice sh") == ["shop"]
    assert words_after(session, "terminal mode ") == ["default", "linux_command_line"]
    assert words_after(session, "switchto cloud ") == ["Default-Cloud", "all"]
    assert words_after(session, "show events virtualservice SHO") == ["shop"]
    assert words_after(session, "show serviceenginegroup Default-Group s") == ["summary"]
    assert words_after(session, "configure pool p --servers.1.po") == ["--servers.1.port"]
    assert words_after(session, "configure pool p --lb_algorithm lb_algorithm_ro") == ["LB_ALGORITHM_ROUND_ROBIN"]
    assert words_after(session, "show tenant | grep -") == ["-e", "-E", "-v", "-i", "PATTERN"]
    assert "REQUIRED" not in words_after(session, "configure pool p servers ip ")


def test_help_comes_from_the_schema(session: Session) -> None:
    def help(text: str) -> str:
        return Choices(session).next(text)[0].help

    group = "configure serviceenginegroup Default-Group "
    assert help(group + "max_se").startswith("integer, 0..1000, default 10")
    assert help(group + "se_deprovision_delay").startswith("integer, 0..525600 min, default 120")
    assert help(group + "ha_mode").startswith("choice, default HA_MODE_SHARED")
    assert help(group + "vcenter_folder").endswith("no effect yet")
    assert help("configure virtualservice v pool_ref").startswith("name of a Pool")


# --- lines at random ---


def line_at_random(choices: Choices, chance: random.Random) -> str:
    """A walk down what completion offers, sometimes broken."""
    text = ""
    for _ in range(chance.randint(1, 8)):
        found = choices.next(text)
        if not found:
            break
        choice = chance.choice(found)
        text += (value_at_random(choice, chance) if choice.free else choice.word) + " "
    if chance.random() < 0.3:
        position = chance.randint(0, len(text))
        text = (
            text[:position]
            + chance.choice(["'", '"', "\\", "|", " -- ", "<<X ", "--a.b.1 ", "\x1b[2J", "é", "%s"])
            + text[position:]
        )
    return text + chance.choice(["", "", "| grep a", "| json", "| count", "--api-detail"])


def value_at_random(choice: Choice, chance: random.Random) -> str:
    values = {"NUMBER": ["1", "0", "-1", "99999999999999999999", "x"], "ADDRESS": ["10.0.0.1", "::1", "300.1.1.1"]}
    return chance.choice(
        values.get(choice.word, ["a", "''", "b-1", "1h", "x" * 300, "/nonexistent/file", "Default-Group"])
    )


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of a controller that really plans."""
    with Controller(tmp_path_factory.mktemp("planner"), controlled_world) as controller:
        controller.ask(partial(controller.world.service, "shop", "10.9.0.9"))
        client = Client(f"https://127.0.0.1:{controller.port}", "admin", PASSWORD)
        client.login()
        yield client
        client.close()


@pytest.mark.parametrize("seed", range(5))
def test_no_line_at_random_ends_in_a_traceback(
    planner: Client, seed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """500 of them: whatever is typed, the answer is words."""
    monkeypatch.setattr("time.sleep", interrupt)
    monkeypatch.setattr("shoal.shell.operations.EMPTY_WITHIN_S", 0.0)
    monkeypatch.setattr("shoal.controller.operations.ANSWER_WITHIN_S", 0.01)
    monkeypatch.chdir(tmp_path)  # export writes files
    chance = random.Random(seed)
    session = Session(planner, load(), "ctl", frame=lambda text: None)
    choices = Choices(session)
    worked = 0
    for _ in range(RANDOM_LINES // 5):
        line = line_at_random(choices, chance)
        if chance.random() < 0.1:
            session.edit = None
        try:
            answer, _ = session.run(line)
            fitted(answer, 80)
            worked += 1
        except (ShoalError, Leave, Declined, KeyboardInterrupt):
            continue
        except Exception as error:
            raise AssertionError(f"seed {seed}: {line!r}") from error
    assert worked > RANDOM_LINES / 5 / 10
