"""DataScripts: which rules the common ones become, and which line of the others is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from shoal.controller.datascripts import REQUEST, RESPONSE, Untaken, rules
from shoal.engine.haproxy import rules as lines
from shoal.wire import policy
from shoal.wire.policy import Close, Header, Http, Piece, Redirect, Respond, Rewrite
from tests.api_world import ControlledWorld, controlled_world

SCRIPT = """\
-- moved
local host = avi.http.hostname()
if host == "old.example" or host == 'older.example' then
  avi.http.redirect("https://new.example" .. avi.http.get_uri(), 301)
elseif string.beginswith(avi.http.get_path(), "/admin") then
  avi.http.response(403, nil, "no")
else
  avi.http.add_header("X-A", "1"); avi.http.replace_header("X-IP", avi.vs.client_ip())
end
--[[ for
all ]] avi.http.remove_header("X-Debug")
"""


def test_a_script_becomes_rules_in_its_order() -> None:
    moved, admin, others, all_ = rules("s", REQUEST, SCRIPT)
    hosts = policy.Test(of="host", values=("old.example", "older.example"), sensitive=True)
    begins = policy.Test(of="path", how="begins", values=("/admin",), sensitive=True)
    no_host = msgspec.structs.replace(hosts, negated=True)
    new = (Piece(kind="text", text="new.example"),)
    assert (moved.tests, moved.actions) == ((hosts,), (Redirect(status=301, tls=True, host=new),))
    assert admin.tests == (no_host, begins)
    assert admin.actions == (Respond(status=403, content_type="text/html", body="no"),)
    assert others.tests == (no_host, msgspec.structs.replace(begins, negated=True))
    added = Header(action="add", name="X-A", value="1"), Header(action="replace", name="X-IP", variable="client_ip")
    assert others.actions == added
    assert (all_.tests, all_.actions) == ((), (Header(action="remove", name="X-Debug"),))
    made = lines.rules("one", Http(), (moved, admin, others, all_))
    assert any(
        "redirect code 301 location 'https://new.example%[path]%[var(txn.query)]'" in line for line in made.lines
    )


@pytest.mark.parametrize(
    ("script", "tests"),
    [
        ('if avi.http.get_header("X") ~= nil then', [("header", "exists", (), False)]),
        ('if not avi.http.get_cookie("a") then', [("cookie", "exists", (), True)]),
        ('if avi.http.method() ~= "GET" and avi.vs.port() == 80 then', [("method", "equals", ("GET",), True), ("port", "equals", ("80",), False)]),
        ('if (avi.http.get_path() == "/a" or avi.http.get_path() == "/b") and not string.endswith(avi.http.get_query(), "x") then', [("path", "equals", ("/a", "/b"), False), ("query", "ends", ("x",), True)]),
        ('if avi.vs.client_ip() == "192.0.2.1" then', [("client", "equals", ("192.0.2.1",), False)]),
    ],
)  # fmt: skip
def test_conditions(script: str, tests: list[object]) -> None:
    (rule,) = rules("s", REQUEST, f"{script} avi.http.close_conn() end")
    assert [(test.of, test.how, test.values, test.negated) for test in rule.tests] == tests
    assert rule.actions == (Close(),)
    assert lines.rules("one", Http(), (rule,)).lines


def test_paths_queries_and_responses() -> None:
    (rule,) = rules("s", REQUEST, 'avi.http.set_path("/new") avi.http.set_query("a=b")')
    assert rule.actions == (
        Rewrite(path=(Piece(kind="text", text="/new"),)),
        Rewrite(keep_query=False, add_query="a=b"),
    )
    (rule,) = rules("s", RESPONSE, 'if avi.http.status() == 404 then avi.http.add_header("X-S", "none") end')
    assert [(test.of, test.values) for test in rule.tests] == [("status", ("404",))]


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ('avi.http.close_conn()\navi.pool.select("p")', 2),
        ('\n\nx = avi.crypto.encrypt("a")', 3),
        ("for i = 1, 2 do end", 1),
        ('if avi.http.get_path() == "/a" then', 1),
        ('if avi.http.get_path() == "/a"\nand avi.http.method() == "GET"\nthen avi.http.close_conn() else avi.http.close_conn() end', 1),
        ('if avi.http.method() == "A" and avi.http.method() == "B" or avi.http.method() == "C" then avi.http.close_conn() end', 1),
        ('if not avi.http.method() == "A" then avi.http.close_conn() end', 1),
        ('if avi.http.get_path() == avi.http.get_query() then avi.http.close_conn() end', 1),
        ('if avi.http.get_path() == "/a" then\n  avi.http.set_path("/b")\nelse\n  avi.http.close_conn()\nend', 4),
        ('if avi.http.get_path() == "/a" then\n  x = "b"\nend', 2),
        ('avi.http.add_header("X Y", "1")', 1),
        ('avi.http.add_header("X", "a\\nb")', 1),
        ('avi.http.redirect("/elsewhere")', 1),
        ('avi.http.response(200, {a = "b"}, "x")', 1),
        ('avi.http.response(99)', 1),
        ('if avi.http.status() == 404 then avi.http.close_conn() end', 1),
        ("avi.http.close_conn() end", 1),
        ("$", 1),
        ("if " + "not (" * 500 + 'avi.http.get_header("a")' + ")" * 500 + " then end", 1),
    ],
)  # fmt: skip
def test_the_line_that_cannot_be_done_is_named(script: str, line: int) -> None:
    with pytest.raises(Untaken) as refused:
        rules("s", REQUEST, script)
    assert refused.value.line == line


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


async def test_a_script_that_is_not_taken_is_refused_when_written(world: ControlledWorld) -> None:
    body = {"name": "s", "datascript": [{"evt": REQUEST, "script": 'avi.http.close_conn()\navi.pool.select("p")'}]}
    (problem,) = (await world.post("/api/vsdatascriptset", body, 400))["problems"]
    assert problem["path"] == "datascript[0].script" and problem["why"].startswith("line 2: avi.pool.select")
    assert problem["value"] == 'avi.pool.select("p")'
    body["datascript"] = [{"evt": "VS_DATASCRIPT_EVT_DNS_REQ", "script": ""}]
    assert "are not run" in (await world.post("/api/vsdatascriptset", body, 400))["problems"][0]["why"]
    body["datascript"] = [{"evt": REQUEST, "script": SCRIPT}]
    await world.post("/api/vsdatascriptset", body)
