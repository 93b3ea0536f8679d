"""The interactive shell as a person meets it: the real program in a terminal of 80 and of 200 columns, a real API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.api_served import Controller
from tests.api_world import PASSWORD
from tests.compat.terminal import CTRL_C, CTRL_D, CTRL_Q, ENTER, TAB, UP, Terminal

pytestmark = [
    pytest.mark.timeout(180),
    # From Python 3.12 on: the controller is a thread here, and pexpect forks to start the program.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

TOP = "[admin:Controller-1]: >"
GROUP = "[admin:Controller-1]: serviceenginegroup>"
NESTED = "[admin:Controller-1]: serviceenginegroup:vcenter_clusters>"
EDIT = "configure serviceenginegroup Default-Group"
UPDATING = "Updating an existing object. Currently, the object is:"
COLUMNS = (80, 200)
OWN = ("uuid", "url", "_last_modified")
"""What each object has its own of."""


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with Controller(tmp_path_factory.mktemp("terminal")) as controller:
        for name in ("web-group", "blue group"):
            controller.ask(partial(controller.world.post, "/api/serviceenginegroup", {"name": name}))
        yield controller


def opened(controller: Controller, columns: int, password: str | None = PASSWORD) -> Terminal:
    environment = {"SHOAL_PASSWORD": password} if password else {}
    url = f"https://127.0.0.1:{controller.port}"
    return Terminal("shell", "--controller", url, environment=environment, columns=columns)


@pytest.fixture(scope="module")
def terminals(controller: Controller) -> Iterator[Callable[[int], Terminal]]:
    """One that stands at the top prompt: the last test's, where that left it in order."""
    kept: dict[int, Terminal] = {}

    def at_the_top(columns: int) -> Terminal:
        terminal = kept.get(columns)
        if terminal is None or terminal.line != TOP:
            if terminal is not None:
                terminal.close()
            terminal = kept[columns] = opened(controller, columns)
            terminal.stands_at(TOP)
        terminal.clear(TOP)
        return terminal

    yield at_the_top
    for terminal in kept.values():
        terminal.close()


@pytest.fixture(params=COLUMNS)
def terminal(terminals: Callable[[int], Terminal], request: pytest.FixtureRequest) -> Terminal:
    return terminals(request.param)


@pytest.fixture
def narrow(terminals: Callable[[int], Terminal]) -> Terminal:
    """Of 80 columns, for what does not depend on the width."""
    return terminals(80)


def stored(controller: Controller, name: str = "Default-Group") -> dict[str, Any] | None:
    """The group as the API has it."""
    found = controller.ask(lambda: controller.world.get("/api/serviceenginegroup", name=name))["results"]
    return found[0] if found else None


def value(controller: Controller, field: str) -> Any:
    group = stored(controller)
    assert group is not None
    return group.get(field)


# --- completion and help ---


def test_tab_lists_names_and_finishes_the_only_one(terminal: Terminal) -> None:
    terminal.type("show serviceenginegroup " + TAB)
    terminal.shows("Default-Group", "web-group", "blue group")
    terminal.type("De")
    terminal.stands_at(f"{TOP} show serviceenginegroup De")
    terminal.type(TAB)
    terminal.stands_at(f"{TOP} show serviceenginegroup Default-Group")
    terminal.type("x")
    terminal.stands_at(f"{TOP} show serviceenginegroup Default-Group x")  # a blank was put behind the name
    terminal.type(CTRL_C)
    terminal.stands_at(TOP)


@pytest.mark.parametrize(("typed", "becomes"), [("bl", "'blue group'"), ('"blue g', '"blue group"'), ("'", None)])
def test_names_with_blanks_are_completed_in_quotes(narrow: Terminal, typed: str, becomes: str | None) -> None:
    narrow.type(f"show serviceenginegroup {typed}{TAB}")
    if becomes:
        narrow.stands_at(f"{TOP} show serviceenginegroup {becomes}")
    else:
        narrow.shows("Default-Group", "web-group", "blue group")
    narrow.type(CTRL_C)
    narrow.stands_at(TOP)


def test_choices_have_a_help_column(terminal: Terminal) -> None:
    terminal.type("re" + TAB)
    terminal.shows("reboot  start a service engine anew", "restart  disable a virtual service")
    terminal.type(CTRL_C)
    terminal.stands_at(TOP)
    terminal.type("show tenant | " + TAB)
    terminal.shows("more   a screen at a time", "grep ", "count  how many lines", "json ")
    terminal.type(CTRL_C)
    terminal.stands_at(TOP)


def test_fields_and_values_are_completed_in_any_case(narrow: Terminal) -> None:
    narrow.run(EDIT, TOP, GROUP)
    narrow.clear(GROUP)
    narrow.type("algo placement_algo_d" + TAB)
    narrow.stands_at(f"{GROUP} algo PLACEMENT_ALGO_DISTRIBUTED")
    narrow.type(CTRL_C)
    narrow.stands_at(GROUP)
    narrow.type("max_s" + TAB)
    narrow.shows("integer, 0..1000, default 10")
    narrow.type(CTRL_C)
    narrow.stands_at(GROUP)
    narrow.type("vcenter_clusters inc" + TAB)
    narrow.stands_at(f"{GROUP} vcenter_clusters include")
    narrow.type(CTRL_C)
    narrow.stands_at(GROUP)
    narrow.run("cancel", GROUP, TOP)


@pytest.mark.parametrize(
    "typed", ["configure nothing x ", "show cluster ", "show nothing ", "nothing ", "show 'a' b c "]
)
def test_tab_where_nothing_is_known_does_nothing(narrow: Terminal, typed: str) -> None:
    narrow.type(typed + TAB + "?")
    narrow.shows("Nothing is known that may stand here.")
    narrow.stands_at(f"{TOP} {typed}".rstrip())
    assert "Traceback" not in narrow.text and "ENTER" not in narrow.text
    narrow.type(CTRL_C)
    narrow.stands_at(TOP)


def test_a_question_mark_tells_what_may_come_next(terminal: Terminal) -> None:
    terminal.type("?")
    terminal.shows(
        "configure          change an object, or make a new one",
        "exit               leave the mode, or the shell",
    )
    terminal.stands_at(TOP)
    terminal.type("configure ?")
    terminal.shows("vsvip", "virtualservice", "VirtualService")
    terminal.stands_at(f"{TOP} configure")
    assert "serviceenginegroup  ServiceEngineGroup" in terminal.everything
    assert "serviceengine-inventory" not in terminal.everything
    terminal.type("serviceenginegr?")
    terminal.stands_at(f"{TOP} configure serviceenginegr")
    terminal.until(lambda: terminal.rows[-2].split() == ["serviceenginegroup", "ServiceEngineGroup"], "the only one")
    terminal.stands_at(f"{TOP} configure serviceenginegr")  # what was typed is still there
    terminal.type(CTRL_C)
    terminal.stands_at(TOP)


def test_a_question_mark_inside_a_mode(narrow: Terminal) -> None:
    narrow.run(EDIT, TOP, GROUP)
    narrow.type("?")
    narrow.shows("cancel", "where", "what is pending")
    narrow.stands_at(GROUP)
    assert "max_vs_per_se" in narrow.everything
    narrow.type("max_se ?")
    narrow.shows("NUMBER  integer, 0..1000, default 10")
    narrow.stands_at(f"{GROUP} max_se")
    narrow.type(CTRL_C)
    narrow.stands_at(GROUP)
    narrow.run("vcenter_clusters", GROUP, NESTED)
    narrow.type("?")
    narrow.shows("cluster_refs", "include", "boolean, default False")
    narrow.stands_at(NESTED)
    narrow.run("cancel", NESTED, GROUP)
    narrow.run("cancel", GROUP, TOP)


def test_a_question_mark_inside_quotes_is_one(narrow: Terminal) -> None:
    narrow.run(EDIT, TOP, GROUP)
    said = narrow.run("description 'why? because'", GROUP)
    assert "what is pending" not in said
    assert "| description | why? because |" in narrow.run("where | grep description", GROUP)
    narrow.type(f"description why{CTRL_Q}?")
    narrow.stands_at(f"{GROUP} description why?")
    narrow.type(CTRL_C)
    narrow.stands_at(GROUP)
    narrow.run("cancel", GROUP, TOP)


# --- editing ---


def test_an_edit_from_configure_to_save(terminal: Terminal, controller: Controller) -> None:
    said = terminal.run(EDIT, TOP, GROUP)
    assert UPDATING in said and "| Field | Value |" in said and "| name | Default-Group |" in said
    terminal.run("max_se 7", GROUP)
    assert "Overwriting the previously entered value for ha_mode" in terminal.run("ha_mode ha_mode_shared_pair", GROUP)
    terminal.run("vcenter_clusters", GROUP, NESTED)
    terminal.run("include", NESTED)
    assert "| include | True |" in terminal.run("where", NESTED)
    terminal.run("save", NESTED, GROUP)
    said = terminal.run("where", GROUP)
    assert "Tenant: admin" in said and "| max_se | 7 |" in said and "| ha_mode | HA_MODE_SHARED_PAIR |" in said
    assert "| auto_rebalance | False |" in terminal.run("no auto_rebalance", GROUP)
    said = terminal.run("do show serviceenginegroup Default-Group | grep max_se", GROUP)
    assert "| max_se | 10 |" in said  # nothing is sent before it is saved
    said = terminal.run("save", GROUP, TOP)
    assert "| max_se | 7 |" in said and "| include | True |" in said
    assert value(controller, "max_se") == 7
    terminal.run(EDIT, TOP, GROUP)
    terminal.run("no vcenter_clusters", GROUP)
    terminal.run("max_se 10", GROUP)
    terminal.run("ha_mode ha_mode_shared", GROUP)
    terminal.run("save", GROUP, TOP)
    assert value(controller, "max_se") == 10 and value(controller, "vcenter_clusters") is None


def test_cancel_discards_at_each_level(narrow: Terminal, controller: Controller) -> None:
    before = stored(controller)
    narrow.run(EDIT, TOP, GROUP)
    narrow.run("max_se 4", GROUP)
    assert "New object being created" in narrow.run("vcenter_clusters include", GROUP, NESTED)
    narrow.run("cancel", NESTED, GROUP)
    said = narrow.run("where | grep -e 'max_se \\|clusters'", GROUP)
    assert "| max_se | 4 |" in said and "| vcenter_clusters |" not in said
    narrow.run("cancel", GROUP, TOP)
    assert stored(controller) == before


def test_a_new_object_is_made_by_save_only(narrow: Terminal, controller: Controller) -> None:
    assert "New object being created" in narrow.run("configure serviceenginegroup fresh", TOP, GROUP)
    narrow.run("max_se 3", GROUP)
    assert stored(controller, "fresh") is None
    assert "| max_se | 3 |" in narrow.run("save", GROUP, TOP)
    assert stored(controller, "fresh") is not None
    assert "is deleted" in narrow.run("delete serviceenginegroup fresh", TOP)


def test_lists_of_messages_keep_no_half_made_entry(narrow: Terminal) -> None:
    pool, server = "[admin:Controller-1]: pool>", "[admin:Controller-1]: pool:servers>"
    narrow.run("configure pool p1", TOP, pool)
    assert "Did you mean port?" in narrow.run("servers prot 80", pool)
    assert "must be a whole number" in narrow.run("servers port eighty", pool)
    assert "servers" not in narrow.run("where", pool)
    narrow.run("servers port 80", pool, server)
    narrow.run("save", server, pool)
    narrow.run("servers index 1 port 81", pool, server)
    narrow.run("cancel", server, pool)
    assert "| port | 80 |" in narrow.run("where", pool)
    assert "there are 1" in narrow.run("servers index 2", pool)
    narrow.run("cancel", pool, TOP)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("shwo tenant", "There is no command shwo. Did you mean show?"),
        ("show serviceenginegroops", "Did you mean serviceenginegroup?"),
        ("show serviceenginegroup web-gruop", "Did you mean web-group?"),
        ("show serviceenginegroup web-group sumary", "Did you mean summary?"),
        ("show tenant | gerp x", "Did you mean grep?"),
        ("show tenant | grep 'x", "the ' is not closed"),
        ("show tenant | grep -E (", "is no pattern"),
        ("| grep x", "a command is required"),
        ("delete serviceenginegroup ''", "the name is required"),
    ],
)
def test_a_mistake_is_told_and_the_session_goes_on(narrow: Terminal, line: str, said: str) -> None:
    assert said in narrow.run(line, TOP)
    assert "| admin | admin |" in narrow.run("show tenant", TOP)


def test_mistakes_in_an_edit_leave_it_as_it_was(terminal: Terminal) -> None:
    terminal.run(EDIT, TOP, GROUP)
    before = terminal.run("where", GROUP)
    for line, said in (
        ("max_sex 3", "Did you mean max_se?"),
        ("cancle", "Did you mean cancel?"),
        ("ha_mode ha_mode_sharde", "must be one of HA_MODE_SHARED_PAIR, HA_MODE_SHARED"),
        ("ha_mode ha_mode_sharde", "Did you mean HA_MODE_SHARED?"),
        ("max_se many", "must be a whole number"),
        ("auto_rebalance maybe", "must be true or false"),
        ("vcenter_clusters inclde", "Did you mean include?"),
        ("uuid x", "is read-only"),
        ("do configure pool p", "finish the edit first"),
        ("do switchto tenant admin", "finish the edit first"),
        ("do exit", "finish the edit first"),
    ):
        assert said in terminal.run(line, GROUP)
    assert terminal.run("where", GROUP) == before
    terminal.run("max_se 5000", GROUP)
    assert "max_se: 5000 is not allowed: must be 0..1000" in terminal.run("save", GROUP)  # the edit is still open
    terminal.run("max_se 10", GROUP)
    assert "Nothing was changed." in terminal.run("save", GROUP, TOP)


def test_a_pasted_script_runs_line_by_line_and_stops_at_a_mistake(narrow: Terminal, controller: Controller) -> None:
    def paste(*lines: str) -> None:
        narrow.type("\x1b[200~" + "\n".join(lines) + "\n\x1b[201~")
        narrow.shows(*lines)
        narrow.type(ENTER)

    paste("configure serviceenginegroup pasted", "max_se 3", "save")
    narrow.stands_at(TOP)
    assert stored(controller, "pasted") is not None
    narrow.run("delete serviceenginegroup pasted", TOP)
    narrow.clear(TOP)
    paste("configure serviceenginegroup pasted", "max_sex 3", "save")
    narrow.shows("Did you mean max_se?", "1 more pasted lines were left out, from: save")
    narrow.stands_at(GROUP)
    assert stored(controller, "pasted") is None
    narrow.run("cancel", GROUP, TOP)


def test_a_line_goes_on_after_a_backslash_and_a_text_until_its_end(narrow: Terminal) -> None:
    narrow.type("show \\" + ENTER)
    narrow.stands_at(">")
    narrow.type("tenant" + ENTER)
    narrow.stands_at(TOP)
    assert "| admin | admin |" in narrow.text
    narrow.run(EDIT, TOP, GROUP)
    narrow.type("description <<END" + ENTER)
    narrow.stands_at(">")
    narrow.type("who | what" + ENTER)
    narrow.stands_at(">")
    narrow.type("END" + ENTER)
    narrow.stands_at(GROUP)
    assert "| description | who | what |" in narrow.run("where | grep description", GROUP)
    narrow.type("description <<END" + ENTER)
    narrow.stands_at(">")
    narrow.type("half" + CTRL_C)
    narrow.stands_at(GROUP)
    assert "who | what" in narrow.run("where | grep description", GROUP)
    narrow.run("cancel", GROUP, TOP)


FIVE = {
    "healthmonitor": "--type HEALTH_MONITOR_HTTP --http_monitor.http_request 'GET /ok HTTP/1.0' --send_interval 3"
    " --http_monitor.http_response_code HTTP_2XX HTTP_3XX",
    "applicationprofile": "--type APPLICATION_PROFILE_TYPE_HTTP --http_profile.xff_enabled false",
    "vsvip": "--vip.1.vip_id 0 --vip.1.ip_address 10.9.0.99",
    "stringgroup": "--type SG_TYPE_STRING --kv.1.key 'a  b' --kv.1.value \"it's\" --kv.2.key c",
    "ipaddrgroup": "--addrs.1 10.0.0.1 --ranges.1.begin 10.1.0.1 --ranges.1.end 10.1.0.9",
}


def pasted_back(terminal: Terminal, controller: Controller, type: str, words: str) -> dict[str, Any]:
    """The object as it was, after what the script mode shows of it was typed again."""

    def found() -> dict[str, Any] | None:
        results = controller.ask(lambda: controller.world.get(f"/api/{type}", name="paste-me"))["results"]
        return {name: value for name, value in results[0].items() if name not in OWN} if results else None

    terminal.run(f"configure {type} paste-me {words}", TOP)
    before = found()
    assert before is not None
    terminal.run("terminal mode linux_command_line", TOP)
    shown = terminal.run(f"show {type} paste-me", TOP)
    terminal.run(f"delete {type} paste-me", TOP)
    terminal.clear(TOP)
    for line in shown.splitlines()[1:]:  # as a terminal without bracketed paste sends it
        terminal.type(line.strip() + ENTER)
    terminal.until(lambda: found() is not None, "the object")
    terminal.stands_at(TOP)
    assert found() == before
    terminal.run("terminal mode default", TOP)
    terminal.run(f"delete {type} paste-me", TOP)
    return before


def test_what_the_script_mode_shows_is_pasted_back(terminal: Terminal, controller: Controller) -> None:
    words = "--servers.1.ip 10.0.0.1 --servers.1.port 81 --servers.2.ip ::5"
    found = pasted_back(terminal, controller, "pool", words)
    assert [server["ip"]["addr"] for server in found["servers"]] == ["10.0.0.1", "::5"]


@pytest.mark.parametrize("type", FIVE)
def test_so_it_is_with_five_other_types(
    terminals: Callable[[int], Terminal], controller: Controller, type: str
) -> None:
    pasted_back(terminals(200), controller, type, FIVE[type])


def test_watch_goes_on_until_ctrl_c(terminal: Terminal, controller: Controller) -> None:
    terminal.type("watch interval 1 show tenant | grep admin" + ENTER)
    terminal.shows("Every 1 s, Ctrl-C ends it: show tenant", "| admin | admin |")
    controller.go_away()
    try:
        terminal.shows("Error: The controller at")
    finally:
        controller.come_back()
    terminal.shows("| admin | admin |")
    terminal.type(CTRL_C)
    terminal.stands_at(TOP)
    assert "Traceback" not in terminal.everything


# --- leaving, stopping ---


def test_ctrl_c_drops_the_line_and_keeps_the_edit(terminal: Terminal, controller: Controller) -> None:
    terminal.type("configure serviceenginegroup half" + CTRL_C)
    terminal.shows("serviceenginegroup half")
    terminal.stands_at(TOP)
    terminal.run("configure serviceenginegroup half", TOP, GROUP)
    terminal.run("max_se 3", GROUP)
    terminal.type("max_se 4" + CTRL_C)
    terminal.stands_at(GROUP)
    terminal.run("vcenter_clusters include", GROUP, NESTED)
    terminal.type("include false" + CTRL_C)
    terminal.stands_at(NESTED)
    terminal.run("cancel", NESTED, GROUP)
    said = terminal.run("where", GROUP)
    assert "| max_se | 3 |" in said and "vcenter_clusters" not in said
    assert stored(controller, "half") is None
    terminal.run("cancel", GROUP, TOP)


def test_ctrl_c_stops_a_command_that_waits(narrow: Terminal, controller: Controller) -> None:
    narrow.run(EDIT, TOP, GROUP)
    narrow.run("max_se 6", GROUP)
    with controller.held():
        narrow.type("do show tenant" + ENTER)
        narrow.until(lambda: controller.arrived.is_set() and narrow.busy, "the request")
        narrow.type(CTRL_C)
        narrow.shows("Interrupted. What was sent may have been done. The edit is kept.")
        narrow.stands_at(GROUP)
    assert "| max_se | 6 |" in narrow.run("where | grep max_se", GROUP)
    assert "| admin | admin |" in narrow.run("do show tenant", GROUP)
    narrow.run("cancel", GROUP, TOP)


def test_a_slow_controller_does_not_stop_the_typing(controller: Controller) -> None:
    with opened(controller, 80) as terminal:
        terminal.stands_at(TOP)
        with controller.held():
            terminal.type("show serviceenginegroup " + TAB)
            terminal.until(controller.arrived.is_set, "the request")
            terminal.type("web")
            terminal.stands_at(f"{TOP} show serviceenginegroup web")
        terminal.type("-group | grep ' name'" + ENTER)
        terminal.shows("| name ")
        terminal.stands_at(TOP)
        terminal.type(UP)
        terminal.stands_at(f"{TOP} show serviceenginegroup web-group | grep ' name'")
        terminal.type(CTRL_C)
        terminal.stands_at(TOP)
        terminal.type("exit" + ENTER)
        assert terminal.ends() == 0


def test_ctrl_d_leaves_and_says_what_is_dropped(controller: Controller) -> None:
    before = stored(controller)
    with opened(controller, 80) as terminal:
        terminal.stands_at(TOP)
        terminal.type(CTRL_D)
        assert terminal.ends() == 0
        assert "dropped" not in terminal.text
    with opened(controller, 200) as terminal:
        terminal.stands_at(TOP)
        terminal.run(EDIT, TOP, GROUP)
        terminal.run("max_se 9", GROUP)
        terminal.type(CTRL_D)
        assert terminal.ends() == 0
        assert "The edit of serviceenginegroup Default-Group was not saved, and is dropped." in terminal.text
    assert stored(controller) == before


def test_the_password_is_asked_for_and_not_shown(controller: Controller) -> None:
    with opened(controller, 80, password=None) as terminal:
        terminal.stands_at("Password of admin:")
        terminal.type(PASSWORD + ENTER)
        terminal.stands_at(TOP)
        assert PASSWORD not in terminal.everything
    with opened(controller, 80, password=None) as terminal:
        terminal.stands_at("Password of admin:")
        terminal.type("guess" + ENTER)
        assert terminal.ends() == 1
        assert "Error:" in terminal.text and "Traceback" not in terminal.text and "guess" not in terminal.text
    with opened(controller, 80, password=None) as terminal:
        terminal.stands_at("Password of admin:")
        terminal.type(CTRL_C)
        assert terminal.ends() == 130
        assert "Traceback" not in terminal.text


def test_the_settings_file_says_where_the_controller_is(controller: Controller, tmp_path: Path) -> None:
    """Of a person's home; with nothing in the environment."""
    file = tmp_path / ".config" / "shoal" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f'controller = "https://127.0.0.1:{controller.port}"\npassword = "{PASSWORD}"\n')
    environment = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": ""}
    with Terminal("shell", environment=environment, columns=80) as terminal:
        terminal.shows("Error:", "others may read it", "Try: chmod 600")
        assert terminal.ends() == 1
    file.chmod(0o600)
    with Terminal("shell", environment=environment, columns=80) as terminal:
        terminal.stands_at(TOP)
        assert "| admin | admin |" in terminal.run("show tenant", TOP)


# --- long and wide ---


def test_more_shows_a_screen_at_a_time(terminal: Terminal) -> None:
    terminal.type("show serviceenginegroup Default-Group | more" + ENTER)
    terminal.shows("| Field", "| uuid", "| name")
    assert terminal.line != TOP and "waf_mempool" not in terminal.text
    terminal.type(" ")
    terminal.until(lambda: "| uuid" not in terminal.text, "the next screen")
    terminal.type("q")
    terminal.stands_at(TOP)
    assert "| admin | admin |" in terminal.run("show tenant | more", TOP)  # what fits is just printed
    terminal.run("terminal length 0", TOP)
    assert "| uuid" in terminal.run("show serviceenginegroup Default-Group | more", TOP)
    terminal.run("terminal length 40", TOP)


def test_grep_and_count(terminal: Terminal) -> None:
    said = terminal.run("show serviceenginegroup Default-Group | grep -e 'max_se \\|min_se '", TOP)
    assert "| max_se |" in said and "| min_se |" in said and "uuid" not in said and "+--" not in said
    said = terminal.run("show serviceenginegroup | grep -v Default-Gr | grep -i GROUP", TOP)
    assert "| web-group |" in said and "| Default-Group |" not in said
    assert terminal.run("show serviceenginegroup | grep group | count", TOP).split()[-1] == "3"


def test_a_wide_table_stays_one_on_a_narrow_screen(terminal: Terminal, controller: Controller) -> None:
    group = stored(controller)
    assert group is not None
    said = terminal.run("show serviceenginegroup Default-Group", TOP)
    assert f"| uuid | {group['uuid']} |" in said
    rows = said.splitlines()[1:]
    assert rows[0] == rows[2] == rows[-1] and set(rows[0]) == {"+", "-"}
    assert {len(row) for row in rows} == {len(rows[0])} and len(rows[0]) <= terminal.columns
    assert all(row.startswith("| ") and row.endswith(" |") for row in (rows[1], *rows[3:-1]))
    listed = terminal.run("show serviceenginegroup", TOP).splitlines()[1:]
    assert {len(row) for row in listed} == {len(listed[0])} and len(listed[0]) <= terminal.columns
    assert any(row.startswith("| Default-Group ") and row.endswith("| Default-Cloud |") for row in listed)


# --- the controller goes away ---


def test_the_controller_away_is_said_and_the_edit_kept(terminal: Terminal, controller: Controller) -> None:
    terminal.run(EDIT, TOP, GROUP)
    terminal.run("max_se 8", GROUP)
    controller.go_away()
    try:
        for line in ("save", "do show tenant"):
            said = terminal.run(line, GROUP)
            assert "does not answer" in said and "Is it running" in said and "Traceback" not in said
        terminal.type("do show virtualservice " + TAB + "?")
        terminal.shows("the names can't be had: The controller at")
        terminal.type(CTRL_C)
        terminal.stands_at(GROUP)
        assert "| max_se | 8 |" in terminal.run("where | grep max_se", GROUP)
    finally:
        controller.come_back()
    controller.pass_time(16 * 60)  # and its sessions are gone
    controller.ask(controller.world.login)
    assert "| max_se | 8 |" in terminal.run("save", GROUP, TOP)
    assert value(controller, "max_se") == 8
    terminal.run(f"{EDIT} max_se 10", TOP, GROUP)
    terminal.run("save", GROUP, TOP)


# --- top ---


@pytest.mark.parametrize("columns", COLUMNS)
def test_top_draws_until_q_and_survives_a_controller_away(controller: Controller, columns: int) -> None:
    environment = {"SHOAL_PASSWORD": PASSWORD, "SHOAL_CONTROLLER": f"https://127.0.0.1:{controller.port}"}
    with Terminal("top", "--interval", "1", environment=environment, columns=columns) as terminal:
        terminal.shows("GROUP", "ENGINE", "SERVICE", "every 1 s; q ends it")
        controller.go_away()
        try:
            terminal.shows("does not answer", "SERVICE")
        finally:
            controller.come_back()
        terminal.shows("every 1 s; q ends it")
        terminal.type("q")
        assert terminal.ends() == 0
