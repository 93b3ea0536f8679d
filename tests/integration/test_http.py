"""HTTP policy sets, HTTP profiles and pools, as documents, on a real HAProxy: what clients and servers then see."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shoal.controller import answers as engine_answers
from shoal.controller import http_profile, policies, pools
from shoal.controller.addresses.contents import Contents
from shoal.controller.addresses.reading import GEO, REPUTATION, read
from shoal.controller.desired import VipIntent, service_part
from shoal.controller.view import View
from shoal.engine.haproxy import lists, render, runtime
from shoal.objects import load, views
from shoal.objects.views import FailAction, HttpPolicies
from shoal.store.memory import MemoryStore
from shoal.wire.desired import Listener, Persistence, Pool, Server, Service, decode_part
from shoal.wire.networks import Networks
from shoal.wire.policy import Http, Rule

from .private_host import private_host

pytestmark = [pytest.mark.root, pytest.mark.beside]

PORT, BACKEND = 8080, 9000
STARTED_WITHIN_S = 5.0
SLOW_S = 0.3
Document = Mapping[str, Any]
Documents = dict[tuple[str, str], dict[str, Any]]
Answers = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
PLAIN = Http()
EMPTY: Document = {}
SERVERS = tuple(Server(name=f"s{n}", address="127.0.0.1", port=BACKEND + n) for n in (0, 1))
MANY = 300
GROUPS: dict[tuple[str, str], dict[str, Any]] = {
    ("stringgroup", "stringgroup-1"): {"kv": [{"key": "/admin"}, {"key": "/root"}]},
    ("ipaddrgroup", "ipaddrgroup-1"): {"ranges": [{"begin": {"addr": "127.0.0.1"}, "end": {"addr": "127.0.0.9"}}]},
}


class Stored:
    """Documents: the groups, and one policy set."""

    def __init__(self, policy_set: Document) -> None:
        self._documents = {**GROUPS, ("httppolicyset", "httppolicyset-1"): dict(policy_set)}

    def add(self, type: str, uuid: str, document: Document) -> None:
        self._documents[type, uuid] = dict(document)

    def get(self, type: str, uuid: str) -> dict[str, Any] | None:
        return self._documents.get((type, uuid))


class Seen(msgspec.Struct):
    """An answer; ``head`` is the request's as the server saw it, "" when none did."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def head(self) -> str:
        return self.body if self.headers.get("x-server") else ""

    def sent(self, name: str) -> str:
        """The value of a header that the server got."""
        lines = (line.partition(": ") for line in self.head.splitlines()[1:])
        return ", ".join(value for header, _, value in lines if header.lower() == name.lower())


async def _echo(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with the request's head; ``/status/N`` and headers ``Give-NAME: value`` say what else is answered."""
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ", 2)[1]
            await asyncio.sleep(SLOW_S if path.endswith("/slow") else 0)
            status = path.partition("/status/")[2][:3] or "200"
            given = [line[5:] for line in head.split("\r\n") if line.lower().startswith("give-")]
            body = head.encode()
            lines = [f"HTTP/1.1 {status} Text", f"X-Server: {name}", f"Content-Length: {len(body)}", *given]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    writer.close()


async def _greet(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A TCP server that says who it is."""
    writer.write(name.encode())
    writer.close()


def pool_of(*servers: int, **fields: Any) -> dict[str, Any]:
    """A pool document of servers sN."""
    named = [{"ip": {"addr": "127.0.0.1", "type": "V4"}, "port": BACKEND + number} for number in servers]
    return {"name": "p", "lb_algorithm": "LB_ALGORITHM_ROUND_ROBIN", "servers": named, **fields}


def of_documents(
    documents: Documents, ports: tuple[int, ...] = (PORT,), *, logged: bool = False, **fields: Any
) -> Service:
    """The virtual service of these fields, as an engine gets it."""
    stored = Stored({})
    for (type, uuid), document in documents.items():
        stored.add(type, uuid, {"uuid": uuid, "name": uuid, **document})
    document = {"uuid": "one", "name": "one", "services": [{"port": port} for port in ports], **fields}
    typed = views.view(document, views.VirtualService)
    intent = VipIntent(id="v", name="one", addresses=("127.0.0.1",), services=(typed,), created=0.0)
    made = service_part(stored, typed, intent)
    return made if logged else msgspec.structs.replace(made, log=None)


@contextlib.asynccontextmanager
async def serving(
    folder: Path,
    policy_set: Document = EMPTY,
    http: Http = PLAIN,
    pool: Pool | None = None,
    rules: tuple[Rule, ...] = (),
) -> AsyncIterator[None]:
    """``rules`` come before those of the policy set."""
    rules += policies.rules_of(
        Stored(policy_set), [HttpPolicies(index=1, http_policy_set_ref="/api/x/httppolicyset-1")]
    )
    service = Service(
        id="one",
        name="one",
        vip="v",
        addresses=("127.0.0.1",),
        enabled=True,
        mode="http",
        listeners=(Listener(port=PORT, port_end=PORT),),
        pool=pool or Pool(id="p", name="p", servers=SERVERS),
        http=http,
        rules=rules,
    )
    async with running(folder, service):
        yield


def facts_of(folder: Path, threads: int = 1) -> render.Facts:
    return render.Facts(directory=str(folder), sockets=str(folder), descriptors_max=4000, threads=threads)


@contextlib.asynccontextmanager
async def running(
    folder: Path, service: Service, answers: Answers = _echo, children: tuple[Service, ...] = (), threads: int = 1
) -> AsyncIterator[None]:
    """HAProxy with this service and its virtual hosts, and servers s0 to s3."""
    folder.mkdir(exist_ok=True)
    facts = facts_of(folder, threads)
    Path(render.draining_file(facts)).touch()
    Path(render.chroot_folder(facts)).mkdir()
    Path(render.state_file(facts)).write_text("1\n")
    file = folder / "haproxy.cfg"
    fragments = {child.id: render.service_fragment(child, facts) for child in children}
    fragments["one"] = render.service_fragment(service, facts, children)
    file.write_text(render.config(facts, fragments))
    render.write_pages(facts, fragments.values())
    servers = [
        await asyncio.start_server(partial(answers, f"s{number}"), "0.0.0.0", BACKEND + number) for number in range(4)
    ]
    child = await asyncio.create_subprocess_exec("haproxy", "-db", "-f", str(file), stderr=subprocess.PIPE)
    try:
        async with asyncio.timeout(STARTED_WITHIN_S):
            while child.returncode is None:
                with contextlib.suppress(ConnectionRefusedError):
                    with contextlib.suppress(ConnectionResetError):  # it serves, and refuses this client
                        (await asyncio.open_connection("127.0.0.1", PORT))[1].close()
                    break
                await asyncio.sleep(0.01)
        assert child.returncode is None, (await child.stderr.read()).decode() if child.stderr else ""
        yield
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()
        for server in servers:
            server.close()


async def ask(
    path: str = "/", method: str = "GET", host: str = "www.example.com", client: str = "127.0.0.1", **headers: str
) -> Seen | None:
    """None when the connection is closed without an answer. Header names are given with underscores."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT, local_addr=(client, 0))
    except ConnectionResetError:  # it was over before it was seen to be made
        return None
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        answer = (await reader.read()).decode()
    except ConnectionError:
        return None
    finally:
        writer.close()
    if not answer:
        return None
    head, _, body = answer.partition("\r\n\r\n")
    status, *rest = head.split("\r\n")
    pairs = (line.partition(": ") for line in rest)
    return Seen(int(status.split()[1]), {name.lower(): value for name, _, value in pairs}, body)


async def answered(path: str = "/", **request: Any) -> Seen:
    found = await ask(path, **request)
    assert found is not None, "the connection was closed"
    return found


def rule(index: int, **parts: Any) -> dict[str, Any]:
    return {"name": f"rule-{index}", "index": index, "enable": True, **parts}


def text(criteria: str, *values: str, **more: Any) -> dict[str, Any]:
    return {"match_criteria": criteria, "match_str": list(values), **more}


def pieces(*tokens: Any) -> dict[str, Any]:
    """Texts, and (type, first, last)."""
    return {
        "type": "URI_PARAM_TYPE_TOKENIZED",
        "tokens": [
            {"type": "URI_TOKEN_TYPE_STRING", "str_value": one}
            if isinstance(one, str)
            else {"type": f"URI_TOKEN_TYPE_{one[0]}", "start_index": one[1], "end_index": one[2]}
            for one in tokens
        ],
    }


@pytest.fixture(autouse=True)
def alone() -> Any:
    with private_host():
        yield


async def test_requests_are_redirected_rewritten_answered_and_changed(tmp_path: Path) -> None:
    header = {"action": "HTTP_REPLACE_HDR", "hdr": {"name": "X-Tier", "value": {"val": "50% 'gold'"}}}
    client = {"action": "HTTP_ADD_HDR", "hdr": {"name": "X-Peer", "value": {"var": "HTTP_POLICY_VAR_CLIENT_IP"}}}
    cookie = {"action": "HTTP_ADD_HDR", "cookie": {"name": "seen", "value": "1"}}
    drop = {"action": "HTTP_REMOVE_HDR", "hdr": {"name": "X-Secret"}}
    moved = {"protocol": "HTTPS", "port": 8443, "path": pieces("new", ("PATH", 1, 65535)), "add_string": "from=old"}
    page = {"content_type": "text/html", "file_content": "<h1>it's\n100% closed</h1>\n"}
    rules = [
        rule(5, match={"path": text("EQUALS", "/never")}, switching_action={"action": "HTTP_SWITCHING_SELECT_LOCAL"}),
        rule(1, match={"path": text("BEGINS_WITH", "/old/")}, redirect_action=moved),
        rule(
            2,
            match={
                "host_hdr": {"match_criteria": "HDR_ENDS_WITH", "value": [".Example.com"]},
                "method": {"match_criteria": "IS_NOT_IN", "methods": ["HTTP_METHOD_POST"]},
                "path": text("REGEX_DOES_NOT_MATCH", "^/(closed|raw)"),
            },
            hdr_action=[header, client, cookie, drop],
            rewrite_url_action={"host_hdr": pieces("inner", ("HOST", 1, 2)), "path": pieces("v2", ("PATH", 0, 65535))},
        ),
        rule(
            3,
            match={"path": text("CONTAINS", "closed")},
            switching_action={
                "action": "HTTP_SWITCHING_SELECT_LOCAL",
                "status_code": "HTTP_LOCAL_RESPONSE_STATUS_CODE_404",
                "file": page,
            },
        ),
        rule(4, enable=False, hdr_action=[drop]),
    ]
    async with serving(tmp_path, {"http_request_policy": {"rules": rules}}):
        found = await answered("/old/a/b?x=1")
        assert (found.status, found.headers["location"]) == (302, "https://www.example.com:8443/new/a/b?from=old&x=1")
        assert (await answered("/old/a")).headers["location"] == "https://www.example.com:8443/new/a?from=old"
        found = await answered("/a/b?q=%2F", X_Secret="s", X_Tier="none")
        assert found.head.startswith("GET /v2/a/b?q=%2F HTTP/1.1")
        names = ("host", "x-tier", "x-peer", "cookie", "x-secret")
        assert [found.sent(name) for name in names] == ["inner.example.com", "50% 'gold'", "127.0.0.1", "seen=1", ""]
        assert (await answered("/a", method="POST")).head.startswith("POST /a ")
        assert (await answered("/a", host="example.org")).sent("host") == "example.org"
        found = await answered("/closed")
        assert (found.status, found.body) == (404, page["file_content"])
        assert (await answered("/raw", X_Secret="s")).sent("x-secret") == "s"


async def test_what_string_groups_say_becomes_part_of_a_url(tmp_path: Path) -> None:
    kv = [("/old", "/new/home"), ("/old/shop", "shop.example/50% 'off'"), ("/none", "")]
    groups: Documents = {
        ("stringgroup", "long"): {"kv": [{"key": key, "value": value} for key, value in kv], "longest_match": True},
        ("stringgroup", "first"): {"kv": [{"key": "/first", "value": "1"}, {"key": "/first/x", "value": "2"}]},
        ("stringgroup", "hosts"): {"kv": [{"key": "www.example.com", "value": "web.example"}]},
    }
    found = {"type": "URI_PARAM_TYPE_TOKENIZED", "tokens": [{"type": "URI_TOKEN_TYPE_STRING_GROUP"}]}
    plus = {**found, "tokens": [*pieces("in")["tokens"], *found["tokens"], *pieces(("PATH", 1, 65535))["tokens"]]}

    def match(group: str, field: str = "path", how: str = "BEGINS_WITH") -> dict[str, Any]:
        return {field: {"match_criteria": how, "string_group_refs": [ref("stringgroup", group)]}}

    rules = [
        rule(1, match=match("long"), redirect_action={"protocol": "HTTPS", "path": found, "keep_query": False}),
        rule(2, match=match("first"), rewrite_url_action={"path": plus}),
        rule(3, match=match("hosts", "host_hdr", "HDR_EQUALS"), rewrite_url_action={"host_hdr": found}),
    ]
    async with running(tmp_path, with_policies({"http_request_policy": {"rules": rules}}, groups)):
        for path, target in (("/old/a", "new/home"), ("/OLD/SHOP/b", kv[1][1]), ("/none", "")):
            assert (await answered(path)).headers["location"] == f"https://www.example.com/{target}"
        seen = await answered("/first/x/y")
        assert seen.head.startswith("GET /in/1/x/y ") and seen.sent("host") == "web.example"
        assert (await answered("/a", host="other.example")).sent("host") == "other.example"


async def test_cookies_are_taken_away_and_changed_and_users_told(tmp_path: Path) -> None:
    def cookie(action: str, name: str, **value: str) -> dict[str, Any]:
        return {"action": f"HTTP_{action}_HDR", "cookie": {"name": name, **value}}

    told = [
        {"action": "HTTP_REPLACE_HDR", "hdr": {"name": name, "value": {"var": f"HTTP_POLICY_VAR_{var}"}}}
        for name, var in (("X-User", "USER_NAME"), ("X-Id", "REQUEST_ID"))
    ]
    asked = [cookie("REMOVE", "a.b"), cookie("REPLACE", "lang", value="50%"), *told]
    sets = {
        "http_request_policy": {"rules": [rule(1, hdr_action=asked)]},
        "http_response_policy": {"rules": [rule(1, hdr_action=[cookie("REPLACE", "lang", value="de")])]},
    }
    cases = {
        "a.b=1": "",
        "a.b=1; c=2": "c=2",
        "c=2; a.b=1": "c=2",
        "c=2; a.b=1; lang=en; d=3": "c=2; lang=50%; d=3",
        "aXb=1; xa.b=1; lang=": "aXb=1; xa.b=1; lang=50%",
    }
    async with running(tmp_path, with_policies(sets)):
        for given, expected in cases.items():
            assert (await answered("/", Cookie=given)).sent("cookie") == expected
        found = await answered("/", Give_Set_Cookie="lang=en; path=/", Authorization="Basic YWxpY2U6cHc=")
        assert (found.headers["set-cookie"], found.sent("x-user")) == ("lang=de; path=/", "alice")
        other = await answered("/", Give_Set_Cookie="xlang=en", X_User="root")
        assert (other.headers["set-cookie"], other.sent("x-user")) == ("xlang=en", "")
        assert len(found.sent("x-id")) == 36 and found.sent("x-id") != other.sent("x-id")


def with_policies(sets: Document, documents: Documents | None = None) -> Service:
    documents = {("pool", "a"): pool_of(0), ("httppolicyset", "set"): dict(sets), **(documents or {})}
    links = [{"index": 1, "http_policy_set_ref": ref("x", "set")}]
    return of_documents(documents, pool_ref=ref("pool", "a"), http_policies=links)


async def test_security_rules_allow_refuse_and_limit(tmp_path: Path) -> None:
    limit = {
        "per_client_ip": True,
        "rate_limiter": {"count": 3, "period": 60, "burst_sz": 1},
        "action": {"type": "RL_ACTION_LOCAL_RSP", "status_code": "HTTP_LOCAL_RESPONSE_STATUS_CODE_429"},
    }
    action = "HTTP_SECURITY_ACTION_"
    rules = [
        rule(
            1, match={"hdrs": [{"hdr": "X-Pass", "match_criteria": "HDR_EXISTS"}]}, action={"action": f"{action}ALLOW"}
        ),
        rule(
            2,
            match={
                "path": {"match_criteria": "BEGINS_WITH", "string_group_refs": ["/api/stringgroup/stringgroup-1"]},
                "client_ip": {"match_criteria": "IS_IN", "group_refs": ["/api/ipaddrgroup/ipaddrgroup-1"]},
            },
            action={"action": f"{action}SEND_RESPONSE", "status_code": "HTTP_LOCAL_RESPONSE_STATUS_CODE_403"},
        ),
        rule(
            3,
            match={"query": {"match_criteria": "QUERY_MATCH_CONTAINS", "match_str": ["<script"]}},
            action={"action": f"{action}CLOSE_CONN"},
        ),
        rule(
            4,
            match={"cookie": {"name": "bot", "match_criteria": "HDR_EQUALS", "value": "1"}},
            action={"action": f"{action}RATE_LIMIT", "rate_profile": limit},
        ),
        rule(5, match={"geo_matches": [{}]}, action={"action": f"{action}CLOSE_CONN"}),
    ]
    async with serving(tmp_path, {"http_security_policy": {"rules": rules}}):
        assert (await answered("/adMIN/x")).status == 403
        assert (await answered("/%61dmin")).status == 403, "the decoded path is compared"
        assert (await answered("/admin", X_Pass="1")).status == 200
        assert await ask("/?q=%3Cscript%3E") is None
        assert [(await answered("/", Cookie="bot=1")).status for _ in range(6)] == [200] * 4 + [429] * 2
        assert (await answered("/", Cookie="bot=0")).status == 200


GERMANY, FRANCE, NETHERLANDS, SPAIN, UNKNOWN = (f"127.0.0.{number}" for number in range(11, 16))


async def known(kind: str, text: str, contents: Contents) -> dict[str, Any]:
    """A FileObject with that content."""
    digest, content = await contents.keep(msgspec.msgpack.encode(read(kind, text.encode())))
    attributes = sorted({name for row in content.rows for name in row.attributes})
    return {"type": kind, "content": digest, "attributes": attributes}


async def by_address(folder: Path, network: list[dict[str, Any]], rules: list[dict[str, Any]]) -> Service:
    """The virtual service with these rules, by databases of where clients are and of what is said of them."""
    folder.mkdir()
    store, stored = MemoryStore(), Stored({})
    contents = Contents(stored, View(store, load()), store)
    lands = f"{GERMANY},DE\n{FRANCE},FR\n127.0.0.13,127.0.0.14,NL\n::1,DE"
    databases = {"geo_db_ref": "/api/geodb/g", "ip_reputation_db_ref": "/api/ipreputationdb/r"}
    documents: Documents = {
        ("fileobject", "lands"): await known(GEO, lands, contents),
        ("fileobject", "own"): await known(GEO, f"network;Country Code;Custom 1\n{SPAIN};ES;site a", contents),
        ("fileobject", "bad"): await known(REPUTATION, f"{FRANCE},TOR\n{SPAIN},TOR,PROXY", contents),
        ("geodb", "g"): {
            "files": [{"index": n, "file_ref": f"/api/fileobject/{one}"} for n, one in enumerate(("lands", "own"))]
        },
        ("ipreputationdb", "r"): {"base_file_refs": ["/api/fileobject/bad"]},
        ("networksecuritypolicy", "n"): {"rules": network, **databases},
        ("httppolicyset", "h"): {"http_security_policy": {"rules": rules}, **databases},
        ("pool", "p"): pool_of(0),
    }
    for (type, uuid), document in documents.items():
        stored.add(type, uuid, {"uuid": uuid, "name": uuid, **document})
    document = {
        "uuid": "one",
        "name": "one",
        "services": [{"port": PORT}],
        "pool_ref": "/api/pool/p",
        "network_security_policy_ref": "/api/networksecuritypolicy/n",
        "http_policies": [{"index": 1, "http_policy_set_ref": "/api/httppolicyset/h"}],
    }
    typed = views.view(document, views.VirtualService)
    intent = VipIntent(id="v", name="one", addresses=("127.0.0.1",), services=(typed,), created=0.0)
    made = service_part(contents, typed, intent)
    told = {id: decode_part(part.data) for id in made.lists if (part := contents.part(id)) is not None}
    lists.write(facts_of(folder), {id: part for id, part in told.items() if isinstance(part, Networks)})
    return msgspec.structs.replace(made, log=None)


def where(*values: str, attribute: str = "COUNTRY_CODE", operation: str = "IS_IN") -> dict[str, Any]:
    return {"geo_matches": [{"attribute": f"ATTRIBUTE_{attribute}", "values": values, "match_operation": operation}]}


def spoken(*types: str, operation: str = "IS_IN") -> dict[str, Any]:
    names = [f"IP_REPUTATION_TYPE_{name}" for name in types]
    return {"ip_reputation_type": {"reputation_types": names, "match_operation": operation}}


async def test_where_clients_are_and_what_is_said_of_them_decides(tmp_path: Path) -> None:
    def respond(index: int, status: int, match: dict[str, Any]) -> dict[str, Any]:
        code = f"HTTP_LOCAL_RESPONSE_STATUS_CODE_{status}"
        return rule(index, match=match, action={"action": "HTTP_SECURITY_ACTION_SEND_RESPONSE", "status_code": code})

    deny = {"action": "NETWORK_SECURITY_POLICY_ACTION_TYPE_DENY"}
    network = [
        rule(1, match={**where("fr"), **spoken("ALL")}, **deny),
        rule(2, match=spoken("BOTNETS"), **deny),
    ]
    security = [
        respond(1, 403, where("DE", "FR")),
        respond(2, 404, where("site a", attribute="CUSTOM_1")),
        respond(3, 429, where("NL")),
        respond(4, 401, where("DE", "FR", "NL", "ES", operation="IS_NOT_IN")),
    ]

    async def found() -> dict[str, int | None]:
        clients = {"de": GERMANY, "fr": FRANCE, "nl": NETHERLANDS, "es": SPAIN, "?": UNKNOWN}
        seen = {name: await ask(client=address) for name, address in clients.items()}
        return {name: one.status if one is not None else None for name, one in seen.items()}

    async with running(tmp_path / "a", await by_address(tmp_path / "a", network, security)):
        assert await found() == {"de": 403, "fr": None, "nl": 429, "es": 404, "?": 401}
    network = [rule(1, match=spoken("TOR", operation="IS_NOT_IN"), action=deny["action"])]
    async with running(tmp_path / "b", await by_address(tmp_path / "b", network, [])):
        assert await found() == {"de": None, "fr": 200, "nl": None, "es": 200, "?": None}


async def test_responses_are_changed_by_what_the_request_was(tmp_path: Path) -> None:
    location = {"protocol": "HTTPS", "port": 8443, "keep_query": True}
    remove = {"action": "HTTP_REMOVE_HDR", "hdr": {"name": "X-Server-Version"}}
    rules = [
        rule(
            1,
            match={"status": {"match_criteria": "IS_IN", "ranges": [{"begin": 300, "end": 399}]}},
            loc_hdr_action=location,
        ),
        rule(
            2,
            match={
                "path": text("BEGINS_WITH", "/api"),
                "rsp_hdrs": [{"hdr": "X-Server-Version", "match_criteria": "HDR_EXISTS"}],
            },
            hdr_action=[remove, {"action": "HTTP_ADD_HDR", "hdr": {"name": "X-Api", "value": {"val": "yes"}}}],
        ),
    ]
    async with serving(tmp_path, {"http_response_policy": {"rules": rules}}):
        found = await answered("/status/302", Give_Location="http://inner:8080/a?b=c")
        assert found.headers["location"] == "https://inner:8443/a?b=c"
        found = await answered("/api/x", Give_X_Server_Version="1")
        assert (found.headers.get("x-server-version"), found.headers["x-api"]) == (None, "yes")
        found = await answered("/web", Give_X_Server_Version="1")
        assert (found.headers["x-server-version"], found.headers.get("x-api")) == ("1", None)


async def test_the_client_is_told_as_the_profile_says(tmp_path: Path) -> None:
    profile = {"xff_enabled": True, "x_forwarded_proto_enabled": True, "secure_cookie_enabled": True}
    cases = (
        ("REPLACE_XFF_HEADERS", "127.0.0.1"),
        ("APPEND_TO_THE_XFF_HEADER", "6.6.6.6, 127.0.0.1"),
        ("ADD_NEW_XFF_HEADER", "6.6.6.6, 127.0.0.1"),
    )
    for number, (update, expected) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        http = http_profile.http_of(Stored({}), {**profile, "xff_update": update, "httponly_enabled": number == 1})
        async with serving(folder, {}, http):
            found = await answered("/", X_Forwarded_For="6.6.6.6", Give_Set_Cookie="a=b; path=/")
            assert found.sent("x-forwarded-for") == expected
            assert found.sent("x-forwarded-proto") == "http"
            only = "; HttpOnly" if number == 1 else ""
            assert found.headers["set-cookie"] == f"a=b; path=/; Secure{only}"
            assert (await answered("/", Give_Set_Cookie="a=b; secure")).headers["set-cookie"] == f"a=b; secure{only}"
    http = http_profile.http_of(
        Stored({}), {"xff_enabled": False, "client_max_body_size": 1, "websockets_enabled": False}
    )
    folder = tmp_path / "last"
    folder.mkdir()
    async with serving(folder, {}, http):
        assert (await answered("/", X_Forwarded_For="6.6.6.6")).sent("x-forwarded-for") == "6.6.6.6"
        assert (await answered("/", method="POST", Content_Length="1025")).status == 413
        assert (await answered("/", Upgrade="websocket")).status == 403


async def servers_of(count: int, **headers: str) -> list[str]:
    return [(await answered("/", **headers)).headers["x-server"] for _ in range(count)]


async def test_clients_come_back_to_their_server(tmp_path: Path) -> None:
    kinds = {
        "cookie": Persistence(kind="cookie", name="SRV", timeout_s=60, http_only=True),
        "app": Persistence(kind="app_cookie", name="JSESSIONID"),
        "header": Persistence(kind="header", name="X-Key"),
        "client": Persistence(kind="client"),
    }
    for name in kinds:
        (tmp_path / name).mkdir()
    turns = Pool(id="p", name="p", algorithm="LB_ALGORITHM_ROUND_ROBIN", servers=SERVERS)

    def kept(name: str) -> Pool:
        return msgspec.structs.replace(turns, persistence=kinds[name])

    async with serving(tmp_path / "cookie", pool=kept("cookie")):
        assert set(await servers_of(4)) == {"s0", "s1"}
        first = await answered("/")
        cookie = first.headers["set-cookie"]
        assert cookie.startswith("SRV=") and "HttpOnly" in cookie
        again = await servers_of(4, Cookie=cookie.partition(";")[0])
        assert set(again) == {first.headers["x-server"]}
        assert (await answered("/", Cookie=cookie.partition(";")[0])).sent("cookie") == "", "the server never sees it"
    async with serving(tmp_path / "app", pool=kept("app")):
        first = await answered("/", Give_Set_Cookie="JSESSIONID=abc; path=/")
        cookie = first.headers["set-cookie"].partition(";")[0]
        assert cookie.endswith("~abc")
        assert set(await servers_of(4, Cookie=cookie)) == {first.headers["x-server"]}
        assert (await answered("/", Cookie=cookie)).sent("cookie") == "JSESSIONID=abc", "the server sees its own"
    async with serving(tmp_path / "header", pool=kept("header")):
        by_key = [set(await servers_of(3, X_Key=str(key))) for key in range(12)]
        assert {len(servers) for servers in by_key} == {1} and set.union(*by_key) == {"s0", "s1"}
    async with serving(tmp_path / "client", pool=kept("client")):
        assert len(set(await servers_of(6))) == 1


async def test_a_pool_without_servers_does_as_it_says(tmp_path: Path) -> None:
    down = tuple(msgspec.structs.replace(server, enabled=False) for server in SERVERS)
    page = {"file": {"content_type": "text/plain", "file_content": "come\nback"}}
    redirect = {
        "host": "sorry.example",
        "path": "/down",
        "query": "a=b",
        "status_code": "HTTP_REDIRECT_STATUS_CODE_307",
    }
    cases: dict[str, Document] = {
        "close": {"type": "FAIL_ACTION_CLOSE_CONN"},
        "answer": {"type": "FAIL_ACTION_HTTP_LOCAL_RSP", "local_rsp": page},
        "redirect": {"type": "FAIL_ACTION_HTTP_REDIRECT", "redirect": redirect},
    }
    found = {}
    for name, action in cases.items():
        (tmp_path / name).mkdir()
        wanted = pools.without_servers(msgspec.convert(action, FailAction))
        async with serving(tmp_path / name, pool=Pool(id="p", name="p", servers=down, without_servers=wanted)):
            found[name] = await ask("/x?y=z")
    assert found["close"] is None
    assert found["answer"] is not None and (found["answer"].status, found["answer"].body) == (503, "come\nback")
    assert found["redirect"] is not None and found["redirect"].status == 307
    assert found["redirect"].headers["location"] == "https://sorry.example/down?a=b"


async def test_a_server_gets_no_more_than_its_limit(tmp_path: Path) -> None:
    one = Pool(id="p", name="p", servers=SERVERS[:1], connections_max=1)
    (tmp_path / "queue").mkdir()
    async with serving(tmp_path, pool=one):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answered("/slow")) for _ in range(3)]
        assert sorted(task.result().status for task in tasks) == [200, 503, 503]
    async with serving(tmp_path / "queue", pool=msgspec.structs.replace(one, queue_max=1)):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answered("/slow")) for _ in range(3)]
        assert sorted(task.result().status for task in tasks) == [200, 200, 503]


async def test_connections_are_denied_by_client_and_port(tmp_path: Path) -> None:
    action = "NETWORK_SECURITY_POLICY_ACTION_TYPE_"
    here = {"client_ip": {"match_criteria": "IS_IN", "prefixes": [{"ip_addr": {"addr": "127.0.0.0"}, "mask": 8}]}}
    elsewhere = {"client_ip": {"match_criteria": "IS_NOT_IN", "addrs": [{"addr": "127.0.0.1"}]}}
    high = {"client_port": {"match_criteria": "IS_NOT_IN", "ranges": [{"start": 1, "end": 1023}]}}
    policy = {
        "rules": [
            rule(3, match=here, action=f"{action}DENY"),
            rule(1, match=elsewhere, action=f"{action}DENY"),
            rule(2, match=high | {"vs_port": {"match_criteria": "IS_IN", "ports": [PORT]}}, action=f"{action}ALLOW"),
        ]
    }
    stored = Stored({})
    stored.add("networksecuritypolicy", "networksecuritypolicy-1", policy)
    for name, wanted, answers in (("ordered", [1, 2, 3], True), ("denied", [1, 3], False)):
        chosen = {"rules": [one for one in policy["rules"] if one["index"] in wanted]}
        stored.add("networksecuritypolicy", "networksecuritypolicy-1", chosen)
        rules = policies.connection_rules_of(stored, "/api/networksecuritypolicy/networksecuritypolicy-1")
        (tmp_path / name).mkdir()
        async with serving(tmp_path / name, rules=rules):
            assert (await ask("/") is not None) is answers


# --- what engines answer by themselves ---


def kept(**config: Any) -> Http:
    """A profile with a cache."""
    return Http(
        cache=engine_answers.cache_of(
            Stored(EMPTY), {"cache_config": {"enabled": True, "min_object_size": 1, **config}}
        )
    )


async def hit(path: str, **headers: str) -> bool:
    """Whether the second answer to a request comes out of the cache."""
    first = await answered(path, **headers)
    second = await answered(path, **headers)
    assert first.status == second.status == 200
    assert first.headers.get("x-cache") is None
    return second.headers.get("x-cache") == "HIT"


async def test_answers_are_kept_as_they_allow(tmp_path: Path) -> None:
    lasting, allowed = {"Give_Cache_Control": "max-age=60"}, {"Give_Cache_Control": "public"}
    never = {"match_criteria": "BEGINS_WITH", "match_str": ["/cart"]}
    async with serving(tmp_path, http=kept(uri_non_cacheable=never, mime_types_block_lists=["image/*"])):
        assert await hit("/a", **lasting) and await hit("/b", **allowed)
        assert not await hit("/c"), "nothing is said of being kept"
        assert not await hit("/d", Give_Cache_Control="no-store")
        assert not await hit("/e?x=1", **lasting)
        assert not await hit("/Cart/1", **lasting)
        assert not await hit("/f", Give_Content_Type="image/png", **lasting)
        assert not await hit("/g", Cache_Control="no-cache", **lasting)
        found = await answered("/b")
        assert {"age", "date"} <= found.headers.keys()
        assert found.headers["cache-control"] == "public, max-age=600"
        posted = await answered("/a", method="POST")
        assert posted.headers.get("x-cache") is None


async def test_a_cache_may_take_more_and_tell_less(tmp_path: Path) -> None:
    config = {"aggressive": True, "query_cacheable": True, "ignore_request_cache_control": True, "age_header": False}
    async with serving(
        tmp_path,
        http=kept(**config, default_expire=7, min_object_size=120, mime_types_list=["text/"], xcache_header=False),
    ):
        text = {"Give_Content_Type": "text/html"}
        first = await answered("/a?b=1", Cache_Control="no-cache", **text)
        again = await answered("/a?b=1", Cache_Control="no-cache", **text)
        assert first.body == again.body
        assert again.headers["cache-control"] == "max-age=7" and not {"age", "x-cache"} & again.headers.keys()
        assert first.sent("Cache-Control") == "", "servers don't hear of it"
        small = [await answered("/s", **text), await answered("/s", **text)]
        assert len(small[0].body) < 120 and "age" not in small[1].headers and "x-cache" not in small[1].headers
        other = [await answered("/b", Give_Content_Type="image/png", X_Number=str(n)) for n in range(2)]
        assert other[0].body != other[1].body


PAGES = {
    "error_pages": [
        {
            "index": 2,
            "match": {"match_criteria": "IS_IN", "ranges": [{"begin": 400, "end": 599}]},
            "error_page_body_ref": "/api/errorpagebody/errorpagebody-1",
        },
        {
            "index": 1,
            "match": {"match_criteria": "IS_IN", "status_codes": [403]},
            "error_redirect": "https://sorry.example/50%25",
        },
    ]
}
BODY = "<p>%[src] it's $HOME \\\n" + "long " * 900


async def test_errors_of_the_engine_have_pages_and_those_of_servers_stay(tmp_path: Path) -> None:
    stored = Stored(EMPTY)
    stored.add("errorpageprofile", "errorpageprofile-1", PAGES)
    stored.add("errorpagebody", "errorpagebody-1", {"error_page_body": BODY})
    errors = engine_answers.error_pages(stored, "/api/errorpageprofile/errorpageprofile-1")
    async with serving(tmp_path, http=Http(errors=errors, websockets=False, body_kb_max=1)):
        refused = await answered(Upgrade="websocket")
        assert refused.status == 302
        assert refused.headers["location"] == "https://sorry.example/50%25" and "x-shoal-error" not in refused.headers
        large = await answered(method="POST", Content_Length="9999999")
        assert (large.status, large.headers["content-type"]) == (413, "text/html")
        assert large.body == BODY
        theirs = await answered("/status/404")
        assert theirs.status == 404 and theirs.head


# --- pools, and groups of them ---


def ref(type: str, uuid: str) -> str:
    return f"/api/{type}/{uuid}"


def group_of(*members: tuple[str, int, str], **fields: Any) -> dict[str, Any]:
    """(pool, ratio, priority) each."""
    listed = [
        {"pool_ref": ref("pool", pool), "ratio": ratio, "priority_label": label} for pool, ratio, label in members
    ]
    return {"members": listed, **fields}


def switch(index: int, path: str, **action: Any) -> dict[str, Any]:
    kind = "POOLGROUP" if "pool_group_ref" in action else "POOL"
    return rule(
        index,
        match={"path": text("BEGINS_WITH", path)},
        switching_action={"action": f"HTTP_SWITCHING_SELECT_{kind}", **action},
    )


async def drawn(count: int, path: str = "/", **headers: str) -> list[str]:
    return [(await answered(path, **headers)).headers["x-server"] for _ in range(count)]


async def test_requests_are_switched_to_pools_groups_and_servers(tmp_path: Path) -> None:
    again = {"ip": {"addr": "127.0.0.1", "type": "V4"}, "port": BACKEND + 1}
    rules = [
        switch(1, "/blue", pool_ref=ref("pool", "b")),
        switch(2, "/bl", pool_ref=ref("pool", "c")),
        switch(3, "/group", pool_group_ref=ref("poolgroup", "g")),
        switch(4, "/one", pool_ref=ref("pool", "a"), server=again),
        switch(5, "/gone", pool_ref=ref("pool", "no")),
    ]
    documents = {
        ("pool", "a"): pool_of(0, 1),
        ("pool", "b"): pool_of(2),
        ("pool", "c"): pool_of(3),
        ("poolgroup", "g"): group_of(("b", 0, ""), ("c", 1, "")),
        ("httppolicyset", "set"): {"http_request_policy": {"rules": rules}},
    }
    service = of_documents(
        documents, pool_ref=ref("pool", "a"), http_policies=[{"index": 1, "http_policy_set_ref": ref("x", "set")}]
    )
    async with running(tmp_path, service):
        assert await drawn(4) == ["s0", "s1"] * 2 and await drawn(2, "/gone") == ["s0", "s1"]
        assert await drawn(2, "/blue") == ["s2"] * 2, "the first rule that switches counts"
        assert await drawn(2, "/black") == ["s3"] * 2
        assert await drawn(4, "/group") == ["s3"] * 4, "a ratio of 0 gets nothing"
        assert await drawn(4, "/one") == ["s1"] * 4


async def test_a_group_shares_by_ratio_and_falls_back_by_priority(tmp_path: Path) -> None:
    page = {"type": "FAIL_ACTION_HTTP_LOCAL_RSP", "local_rsp": {"status_code": "FAIL_HTTP_STATUS_CODE_503"}}
    documents = {
        ("pool", "a"): pool_of(0),
        ("pool", "b"): pool_of(1),
        ("pool", "c"): pool_of(2, 3),
        ("poolgroup", "g"): group_of(("a", 30, "10"), ("b", 10, "10"), ("c", 1, "2"), fail_action=page),
    }
    service = of_documents(documents, pool_group_ref=ref("poolgroup", "g"))
    admin = f"{tmp_path}/admin.sock"

    async def set_state(pool: str, number: int, state: str) -> None:
        said = await runtime.command(admin, f"set server be_one:{pool}/127.0.0.1:{BACKEND + number} state {state}")
        assert not said.strip()

    async with running(tmp_path, service):
        found = await drawn(MANY)
        assert set(found) == {"s0", "s1"} and 0.6 < found.count("s0") / MANY < 0.9
        await set_state("a", 0, "maint")
        assert set(await drawn(9)) == {"s1"}, "the share of a pool that is down goes to its equals"
        await set_state("b", 1, "maint")
        assert set(await drawn(9)) == {"s2", "s3"}
        for number in (2, 3):
            await set_state("c", number, "maint")
        assert (await answered("/")).status == 503 and (await answered("/")).headers.get("x-server") is None
        await set_state("a", 0, "ready")
        assert set(await drawn(9)) == {"s0"}


async def test_lower_priorities_help_until_there_are_servers_enough(tmp_path: Path) -> None:
    labels: dict[str, Any] = {"equivalent_labels": [{"labels": ["gold", "best"]}, {"labels": ["silver"]}]}
    documents: Documents = {
        ("prioritylabels", "l"): labels,
        ("pool", "a"): pool_of(0),
        ("pool", "b"): pool_of(1),
        ("pool", "c"): pool_of(2),
        ("poolgroup", "g"): group_of(
            ("c", 1, "lead"), ("b", 1, "silver"), ("a", 1, "gold"), min_servers=2, priority_labels_ref=ref("x", "l")
        ),
    }
    async with running(tmp_path, of_documents(documents, pool_group_ref=ref("poolgroup", "g"))):
        assert set(await drawn(40)) == {"s0", "s1"}


async def test_clients_come_back_to_their_pool_of_a_group(tmp_path: Path) -> None:
    profiles: dict[str, dict[str, Any]] = {
        "cookie": {"persistence_type": "PERSISTENCE_TYPE_HTTP_COOKIE", "http_cookie_persistence_profile": {}},
        "client": {"persistence_type": "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS"},
        "header": {
            "persistence_type": "PERSISTENCE_TYPE_CUSTOM_HTTP_HEADER",
            "hdr_persistence_profile": {"prst_hdr_name": "X-Key"},
        },
    }

    def service(kind: str) -> Service:
        kept = {"application_persistence_profile_ref": ref("x", kind)}
        documents: Documents = {
            ("applicationpersistenceprofile", kind): profiles[kind],
            ("pool", "a"): pool_of(0, 1, **kept),
            ("pool", "b"): pool_of(2, 3, **kept),
            ("poolgroup", "g"): group_of(("a", 1, ""), ("b", 1, "")),
        }
        return of_documents(documents, pool_group_ref=ref("poolgroup", "g"))

    async with running(tmp_path / "cookie", service("cookie")):
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        head = (await reader.read()).decode().partition("\r\n\r\n")[0]
        writer.close()
        given = [line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("set-cookie")]
        assert len(given) == 2, "one for the pool, one for the server"
        server = next(line[10:] for line in head.split("\r\n") if line.startswith("x-server"))
        cookies = "; ".join(one.partition(";")[0] for one in given)
        assert set(await drawn(20, Cookie=cookies)) == {server}
        assert "set-cookie" not in (await answered("/", Cookie=cookies)).headers
        both = (f"be_one:{'a' if server in ('s0', 's1') else 'b'}/127.0.0.1:{BACKEND + n}" for n in range(4))
        for path in both:
            await runtime.command(f"{tmp_path}/cookie/admin.sock", f"set server {path} state maint")
        moved = await answered("/", Cookie=cookies)
        assert moved.headers["x-server"] not in ("s0", "s1") or server in ("s2", "s3")
        assert "set-cookie" in moved.headers, "its pool is down: it belongs to another one from now on"
    async with running(tmp_path / "client", service("client")):
        assert len(set(await drawn(20))) == 1
    async with running(tmp_path / "header", service("header")):
        by_key = [set(await drawn(4, X_Key=str(key))) for key in range(16)]
        assert {len(servers) for servers in by_key} == {1} and len(set.union(*by_key)) > 2


async def said(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()


async def test_connections_go_to_pools_by_port_and_client(tmp_path: Path) -> None:
    def chosen(index: int, match: Document, kind: str, target: str) -> dict[str, Any]:
        field = "pool_ref" if kind == "POOL" else "pool_group_ref"
        action = {"action_type": f"L4_RULE_ACTION_SELECT_{kind}", field: target}
        return {"name": str(index), "index": index, "match": match, "action": {"select_pool": action}}

    elsewhere = {"client_ip": {"match_criteria": "IS_NOT_IN", "addrs": [{"addr": "127.0.0.1"}]}}
    at = {"match_criteria": "IS_IN", "port_ranges": [{"start": PORT + 1, "end": PORT + 1}]}
    udp = {"protocol": {"match_criteria": "IS_IN", "protocol": "PROTOCOL_UDP"}}
    l4 = {
        "rules": [
            chosen(3, {"port": at}, "POOL", ref("pool", "b")),
            chosen(1, elsewhere, "POOL", ref("pool", "d")),
            chosen(2, udp, "POOL", ref("pool", "d")),
            chosen(4, {"port": {"match_criteria": "IS_IN", "ports": [PORT + 2]}}, "POOLGROUP", ref("poolgroup", "g")),
        ]
    }
    documents: Documents = {
        ("applicationprofile", "l4"): {"type": "APPLICATION_PROFILE_TYPE_L4"},
        ("l4policyset", "l4"): {"l4_connection_policy": l4},
        **{("pool", name): pool_of(number) for number, name in enumerate("abcd")},
        ("poolgroup", "g"): group_of(("c", 1, "")),
    }
    service = of_documents(
        documents,
        (PORT, PORT + 1, PORT + 2, PORT + 3),
        application_profile_ref=ref("x", "l4"),
        pool_ref=ref("pool", "a"),
        l4_policies=[{"index": 1, "l4_policy_set_ref": ref("x", "l4")}],
        service_pool_select=[{"service_port": PORT + 3, "service_pool_ref": ref("pool", "d")}],
    )
    async with running(tmp_path, service, _greet):
        assert [await said(PORT + offset) for offset in range(4)] == ["s0", "s1", "s2", "s3"]


async def test_a_request_that_a_server_did_not_answer_goes_to_another(tmp_path: Path) -> None:
    async def failing(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if name == "s0":
            status = b"HTTP/1.1 503 No\r\nX-Server: s0\r\nContent-Length: 0\r\n\r\n" if b"/busy" in head else b""
            writer.write(status)
            writer.close()
        else:
            await _echo(name, _again(head), writer)

    reselect = {"enabled": True, "num_retries": 2, "svr_resp_code": {"resp_code_block": ["HTTP_RSP_5XX"]}}
    found = {}
    for every in (False, True):
        again = {**reselect, "retry_nonidempotent": every}
        documents = {("pool", "a"): pool_of(0, 1, server_reselect=again)}
        async with running(tmp_path / str(every), of_documents(documents, pool_ref=ref("pool", "a")), failing):
            assert {(await answered(path)).headers["x-server"] for path in ("/busy", "/", "/busy", "/")} == {"s1"}
            posted = [(await answered("/busy", method="POST")).status for _ in range(4)]
            found[every] = set(posted)
    assert found == {False: {200, 503}, True: {200}}, "a POST is not repeated unless that is asked for"


def vh_match(host: str, **path: Any) -> dict[str, Any]:
    return {"host": host, "rules": [{"name": "r", "matches": {"path": path} if path else {}}]}


async def test_requests_lead_to_virtual_hosts_by_host_and_path(tmp_path: Path) -> None:
    """Each with policies, pool and profile of its own; what none of them wants is the parent's."""

    def begins(*paths: str) -> dict[str, Any]:
        return {"match_criteria": "BEGINS_WITH", "match_str": list(paths)}

    parent: dict[str, Any] = {
        "name": "one",
        "type": "VS_TYPE_VH_PARENT",
        "vh_type": "VS_TYPE_VH_ENHANCED",
        "services": [{"port": PORT}],
    }
    close = rule(1, match={"path": begins("/shop/no")}, action={"action": "HTTP_SECURITY_ACTION_CLOSE_CONN"})
    tls = rule(2, match={"protocol": {"match_criteria": "IS_IN", "protocols": "HTTPS"}}, action=close["action"])
    documents: Documents = {
        ("virtualservice", "one"): parent,
        ("httppolicyset", "closing"): {"http_security_policy": {"rules": [close, tls]}},
        **{("pool", name): pool_of(number) for number, name in enumerate("abcd")},
    }
    shared: dict[str, Any] = {
        "type": "VS_TYPE_VH_CHILD",
        "vh_type": "VS_TYPE_VH_ENHANCED",
        "vh_parent_vs_ref": ref("x", "one"),
    }
    policies = [{"index": 1, "http_policy_set_ref": ref("x", "closing")}]
    matches = {
        "b": [vh_match("www.example.com", **begins("/shop"))],
        "c": [vh_match("www.example.com", **begins("/shop/cart", "/cart")), vh_match("*.example.net")],
        "d": [vh_match("www.example.net", match_criteria="EQUALS", match_str=["/"])],
    }
    children = tuple(
        of_documents(
            documents,
            (),
            uuid=name,
            pool_ref=ref("pool", name),
            vh_matches=found,
            host_name_xlate="inside.test" if name == "c" else "",
            http_policies=policies if name == "b" else [],
            **shared,
        )
        for name, found in matches.items()
    )
    service = of_documents(documents, **parent, pool_ref=ref("pool", "a"))
    async with running(tmp_path, service, children=children):
        asked = {
            "www.example.com/": "s0",
            "other.example.org/shop": "s0",
            "www.example.com/shop/x": "s1",
            "WWW.example.com/SHOP": "s1",
            "www.example.com/shop/cart/1": "s2",
            "www.example.com/cart": "s2",
            "deep.www.example.net/any": "s2",
            "www.example.net/any": "s2",
            "www.example.net/": "s3",
        }
        found = {}
        for one in asked:
            host, slash, path = one.partition("/")
            found[one] = (await answered(slash + path, host=host)).headers["x-server"]
        assert found == asked
        assert await ask("/shop/no") is None, "it is closed without an answer, as without the way through the parent"
        assert (await answered("/shop")).sent("X-Forwarded-For") == "127.0.0.1"
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        for path, server in (("/shop", "s1"), ("/", "s0"), ("/cart", "s2")):  # one connection, several virtual hosts
            writer.write(f"GET {path} HTTP/1.1\r\nHost: www.example.com\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert f"x-server: {server}" in head
            await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
        writer.close()


async def test_servers_are_told_another_host_and_clients_get_their_own_back(tmp_path: Path) -> None:
    documents: Documents = {("pool", "a"): pool_of(0)}
    service = of_documents(documents, pool_ref=ref("pool", "a"), host_name_xlate="inside.test")
    async with running(tmp_path, service):
        given = {
            "Give_Location": "http://inside.test:8000/next?a=1",
            "Give_Set_Cookie": "a=b; Domain=.Inside.test; Path=/",
        }
        found = await answered("/", host="www.example.com:8080", **given)
        assert found.sent("Host") == "inside.test"
        assert found.headers["location"] == "http://www.example.com:8080/next?a=1"
        assert found.headers["set-cookie"] == "a=b; Domain=www.example.com; Path=/"
        away = {"Give_Location": "http://inside.test.example.org/"}
        assert (await answered("/", **away)).headers["location"] == "http://inside.test.example.org/"


async def test_the_servers_side_has_a_time_out_of_its_own(tmp_path: Path) -> None:
    async def slow(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(1.3 if b"/slow" in head else 0)
            writer.write(b"HTTP/1.1 200 OK\r\nX-Server: s0\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    quick = {"profile": {"type": "PROTOCOL_TYPE_TCP_PROXY", "tcp_proxy_profile": {"idle_connection_timeout": 1}}}
    documents: Documents = {("pool", "a"): pool_of(0), ("networkprofile", "quick"): quick}
    for name, profile, status in (("both", "", 200), ("own", ref("x", "quick"), 504)):
        service = of_documents(documents, pool_ref=ref("pool", "a"), server_network_profile_ref=profile)
        async with running(tmp_path / name, service, slow):
            assert (await answered("/slow")).status == status and (await answered("/")).status == 200


def _again(data: bytes) -> asyncio.StreamReader:
    """A reader of what was read already."""
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader
