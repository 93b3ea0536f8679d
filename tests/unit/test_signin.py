"""Signing in by a real directory (Debian's slapd) and a real identity provider (oidc-provider-mock)."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from shoal.api.signin import BACK, COOKIE
from shoal.controller.pki import Authority
from shoal.controller.signin.directory import Person
from shoal.controller.signin.people import access
from tests.api_world import EPOCH, HOST, PASSWORD, World, api_world

READY_WITHIN_S = 30.0
SLAPD = shutil.which("slapd") or shutil.which("slapd", path="/usr/sbin:/sbin")
BASE = "dc=example,dc=org"
DIRECTORY_PASSWORD = "the directory's own"
LDIF = f"""\
dn: {BASE}
objectClass: dcObject
objectClass: organization
o: Example

dn: ou=people,{BASE}
objectClass: organizationalUnit

dn: ou=groups,{BASE}
objectClass: organizationalUnit

dn: uid=kim,ou=people,{BASE}
objectClass: inetOrgPerson
uid: kim
cn: Kim Kallas
sn: Kallas
mail: kim@example.org
userPassword: kims horse 9

dn: uid=lee,ou=people,{BASE}
objectClass: inetOrgPerson
uid: lee
cn: Lee
sn: Lee
userPassword: lees horse 9

dn: uid=admin,ou=people,{BASE}
objectClass: inetOrgPerson
uid: admin
cn: Not ours
sn: Admin
userPassword: somebody else

dn: cn=network operators,ou=groups,{BASE}
objectClass: groupOfNames
cn: network operators
member: uid=kim,ou=people,{BASE}
"""
CLAIMS: list[dict[str, Any]] = [
    {
        "sub": "1",
        "preferred_username": "kim",
        "name": "Kim Kallas",
        "email": "kim@example.org",
        "groups": ["operators"],
    },
    {"sub": "2", "preferred_username": "lee", "groups": ["guests"]},
    {"sub": "3", "preferred_username": "admin", "groups": ["operators"]},
]
Document = dict[str, Any]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def run(command: list[str], ready: Callable[[], object]) -> Iterator[None]:
    """A server of its own, until the block ends."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                ready()
                break
            except (OSError, httpx.HTTPError):
                assert process.poll() is None and time.monotonic() < deadline, f"{command[0]} does not come up"
                time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


# --- LDAP ---


class Directory:
    def __init__(self, plain: int, secure: int, authority: str) -> None:
        self.plain, self.secure, self.authority = plain, secure, authority


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    if SLAPD is None:
        pytest.skip("slapd is not here: scripts/setup --dev installs it")
    folder = tmp_path_factory.mktemp("slapd")
    (folder / "data").mkdir()
    authority = Authority.open(folder / "pki")
    certificate, key = authority.api_server_files(folder / "tls", ["localhost"], ["127.0.0.1"])
    config = folder / "slapd.conf"
    schema = "".join(f"include /etc/ldap/schema/{name}.schema\n" for name in ("core", "cosine", "inetorgperson"))
    config.write_text(
        f"{schema}modulepath /usr/lib/ldap\nmoduleload back_mdb.la\nTLSCertificateFile {certificate}\n"
        f"TLSCertificateKeyFile {key}\ndatabase mdb\nsuffix {BASE}\nrootdn cn=root,{BASE}\n"
        f'rootpw "{DIRECTORY_PASSWORD}"\ndirectory {folder / "data"}\naccess to * by * auth by dn.base=cn=root,{BASE} write\n'
    )
    (folder / "people.ldif").write_text(LDIF)
    add = [str(Path(SLAPD).with_name("slapadd")), "-f", str(config), "-l", str(folder / "people.ldif")]
    subprocess.run(add, check=True, capture_output=True)
    plain, secure = free_port(), free_port()
    listening = f"ldap://127.0.0.1:{plain}/ ldaps://127.0.0.1:{secure}/"

    def ready() -> None:
        socket.create_connection(("127.0.0.1", secure), timeout=1).close()

    with run([SLAPD, "-f", str(config), "-h", listening, "-d", "0"], ready):
        yield Directory(plain, secure, authority.ca_pem.decode())


async def name_directory(world: World, directory: Directory, **more: Any) -> None:
    """The system configuration takes people from it: network operators are Application-Operators of blue."""
    await world.post("/api/tenant", {"name": "blue"})
    ca = {"name": "directory-ca", "ca_certs": [{"certificate": directory.authority}]}
    await world.post("/api/pkiprofile", ca)
    settings = {
        "admin_bind_dn": f"cn=root,{BASE}",
        "password": DIRECTORY_PASSWORD,
        "user_search_dn": f"ou=people,{BASE}",
        "user_id_attribute": "uid",
        "group_search_dn": f"ou=groups,{BASE}",
    }
    ldap = {
        "server": ["127.0.0.1"],
        "port": directory.secure,
        "base_dn": BASE,
        "full_name_attribute": "cn",
        "email_attribute": "mail",
        "pki_profile_ref": "/api/pkiprofile?name=directory-ca",
        "settings": settings,
    } | more
    if "user_bind" in more:
        del ldap["settings"]
    made = await world.post("/api/authprofile", {"name": "directory", "type": "AUTH_PROFILE_LDAP", "ldap": ldap})
    assert DIRECTORY_PASSWORD not in str(made)
    await name_profile(world, "AUTH_PROFILE_LDAP", "directory", "network operators")


async def name_profile(world: World, type: str, profile: str, group: str) -> None:
    rule = {
        "index": 1,
        "group_match": {"criteria": "AUTH_MATCH_CONTAINS", "groups": [group]},
        "role_refs": ["/api/role?name=Application-Operator"],
        "tenant_refs": ["/api/tenant?name=blue"],
    }
    await world.post("/api/authmappingprofile", {"name": "map", "type": type, "rules": [rule]})
    remote = {
        "index": 1,
        "auth_profile_ref": f"/api/authprofile?name={profile}",
        "auth_mapping_profile_ref": "/api/authmappingprofile?name=map",
    }
    change = {"replace": {"admin_auth_configuration": {"remote_auth_configurations": [remote]}}}
    await world.call("PATCH", "/api/systemconfiguration", 200, json=change)


async def login(world: World, name: str, password: str) -> httpx.Response:
    async with world.stranger() as client:
        return await client.post("/login", data={"username": name, "password": password})


async def test_a_person_of_the_directory_gets_the_roles_of_the_groups(world: World, directory: Directory) -> None:
    await name_directory(world, directory)
    reply = await login(world, "kim", "kims horse 9")
    assert reply.status_code == 200, reply.text
    assert reply.json()["user"]["full_name"] == "Kim Kallas" and reply.json()["user"]["local"] is False
    assert [tenant["name"] for tenant in reply.json()["tenants"]] == ["blue"]
    async with world.stranger() as client:
        cookies = {"Cookie": f"sessionid={reply.cookies['sessionid']}", "X-CSRFToken": reply.cookies["csrftoken"]}
        assert (await client.get("/api/pool", headers=cookies)).status_code == 200
        assert (await client.post("/api/pool", json={"name": "p"}, headers=cookies)).status_code == 403
    again = await login(world, "kim", "kims horse 9")
    assert again.json()["user"]["uuid"] == reply.json()["user"]["uuid"]
    kept = next(user for user in (await world.get("/api/user"))["results"] if user["name"] == "kim")
    assert kept["local"] is False and not kept.get("password") and kept["email"] == "kim@example.org"
    assert (await login(world, "admin", PASSWORD)).status_code == 200


@pytest.mark.parametrize(
    "name, password",
    [
        ("kim", "wrong"),
        ("kim", ""),
        ("nobody", "kims horse 9"),
        ("*", "kims horse 9"),
        ("k*", "kims horse 9"),
        ("kim)(uid=*", "kims horse 9"),
        ("kim\x00", "kims horse 9"),
        ("", "kims horse 9"),
        ("lee", "lees horse 9"),  # is known there, and no rule gives him anything
        ("admin", "somebody else"),  # a local user's name is the local user's
    ],
)
async def test_whom_the_directory_does_not_vouch_for_stays_out(
    world: World, directory: Directory, name: str, password: str
) -> None:
    await name_directory(world, directory)
    assert (await login(world, name, password)).status_code == 401
    assert [user["name"] for user in world.view.all("user")] == ["admin"]


async def test_a_person_may_bind_by_a_template(world: World, directory: Directory) -> None:
    template = {"dn_template": f"uid=<user>,ou=people,{BASE}", "user_id_attribute": "uid"}
    await name_directory(world, directory, user_bind=template)
    reply = await login(world, "kim", "kims horse 9")
    assert reply.status_code == 401 and "no rule" in reply.text, "the bind is right, and gives no groups"
    assert (await login(world, "kim", "wrong")).status_code == 401
    for name in ("kim,ou=people", "kim+cn=x", 'kim",x="', "x" * 3_000):
        assert (await login(world, name, "kims horse 9")).status_code == 401, name


async def test_a_directory_that_can_not_prove_who_it_is_gets_no_password(world: World, directory: Directory) -> None:
    await name_directory(world, directory, pki_profile_ref=None)
    reply = await login(world, "kim", "kims horse 9")
    assert reply.status_code == 503 and "No LDAP server can be asked" in reply.text
    assert (await login(world, "admin", PASSWORD)).status_code == 200, "local users don't wait for it"


async def test_of_several_servers_one_that_answers_is_enough(world: World, directory: Directory) -> None:
    await name_directory(world, directory, server=["127.0.0.2", "127.0.0.1"])
    assert (await login(world, "kim", "kims horse 9")).status_code == 200


async def test_local_users_can_be_kept_out_but_for_the_first_admin(world: World, directory: Directory) -> None:
    await name_directory(world, directory)
    await world.post("/api/user", {"name": "pat", "password": "Correct horse 9!", "is_superuser": True})
    system = await world.get("/api/systemconfiguration")
    system["admin_auth_configuration"]["allow_local_user_login"] = False
    await world.call("PUT", "/api/systemconfiguration", 200, json=system)
    assert (await login(world, "pat", "Correct horse 9!")).status_code == 401
    assert (await login(world, "admin", PASSWORD)).status_code == 200
    assert (await login(world, "kim", "kims horse 9")).status_code == 200


async def test_only_superusers_change_who_vouches_for_people(world: World, directory: Directory) -> None:
    await name_directory(world, directory)
    access = [{"role_ref": "/api/role?name=System-Admin", "all_tenants": True}]
    await world.post("/api/user", {"name": "pat", "password": "Correct horse 9!", "access": access})
    reply = await login(world, "pat", "Correct horse 9!")
    async with world.stranger() as client:
        client.headers.update({"X-CSRFToken": reply.cookies["csrftoken"], "X-Avi-Version": "22.1.3"})
        client.cookies.set("sessionid", reply.cookies["sessionid"], domain="ctl.example")
        for type, change in (
            ("authprofile", {"description": "x"}),
            ("authmappingprofile", {"description": "x"}),
            ("systemconfiguration", {"admin_auth_configuration": {"allow_local_user_login": False}}),
        ):
            uuid = "" if type == "systemconfiguration" else f"/{world.view.all(type)[0]['uuid']}"
            refused = await client.patch(f"/api/{type}{uuid}", json={"replace": change})
            assert refused.status_code == 400 and "superuser" in refused.text, refused.text
        rule = {"index": 1, "is_superuser": True}
        body = {"name": "mine", "type": "AUTH_PROFILE_LDAP", "rules": [rule]}
        assert (await client.post("/api/authmappingprofile", json=body)).status_code == 400


# --- OpenID Connect ---


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    users = [word for claims in CLAIMS for word in ("--user-claims", json.dumps(claims))]
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port), *users]

    def ready() -> None:
        httpx.get(f"{url}/.well-known/openid-configuration", trust_env=False).raise_for_status()

    with run(command, ready):
        yield url


async def name_provider(world: World, provider: str, **more: Any) -> None:
    world.clock.s = time.time() - EPOCH  # the provider goes by the real one
    await world.login()
    await world.post("/api/tenant", {"name": "blue"})
    async with httpx.AsyncClient(trust_env=False) as http:
        found = (await http.get(f"{provider}/.well-known/openid-configuration")).json()
    app = {"client_id": "shoal", "client_secret": "a secret of ours", "scopes": ["openid", "profile", "email"]}
    names = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint")
    profile = {name: found[name] for name in names} | {"oauth_controller_settings": app} | more
    await world.post("/api/authprofile", {"name": "idp", "type": "AUTH_PROFILE_OAUTH", "oauth_profile": profile})
    await name_profile(world, "AUTH_PROFILE_OAUTH", "idp", "operators")


async def approved(world: World, client: httpx.AsyncClient, sub: str) -> str:
    """What a browser does at the provider; the address that it is sent back to."""
    begun = await client.get("/login/oidc?profile=idp")
    assert begun.status_code == 302, begun.text
    cookie = begun.headers["set-cookie"]
    assert all(word in cookie for word in ("Secure", "HttpOnly", "SameSite=lax", "Path=/login/oidc"))
    there = begun.headers["location"]
    assert parse_qs(urlsplit(there).query)["code_challenge_method"] == ["S256"]
    async with httpx.AsyncClient(trust_env=False) as browser:
        back = await browser.post(there, data={"sub": sub})
    assert back.status_code == 302, back.text
    address: str = back.headers["location"]
    assert address.startswith(f"https://{HOST}{BACK}?")
    return address


async def test_a_person_of_the_provider_gets_a_session(world: World, provider: str) -> None:
    await name_provider(world, provider)
    async with world.stranger() as client:
        ways = (await client.get("/api/initial-data")).json()["sign_in"]
        assert ways == [{"name": "idp", "url": "/login/oidc?profile=idp"}]
        reply = await client.get(await approved(world, client, "1"))
        assert reply.status_code == 303, reply.text
        assert reply.headers["location"] == "/"
        mine = (await client.get("/api/useraccount")).json()
        assert (mine["name"], mine["full_name"]) == ("kim", "Kim Kallas")
        assert (await client.get("/api/pool")).status_code == 200
        token = {"X-CSRFToken": reply.cookies["csrftoken"]}
        assert (await client.post("/api/pool", json={"name": "p"}, headers=token)).status_code == 403


@pytest.mark.parametrize("sub", ["2", "3"])
async def test_who_has_no_role_or_a_local_users_name_stays_out(world: World, provider: str, sub: str) -> None:
    await name_provider(world, provider)
    async with world.stranger() as client:
        reply = await client.get(await approved(world, client, sub))
        assert reply.status_code == 401 and "sessionid" not in reply.headers.get("set-cookie", "")


async def test_a_sign_in_is_finished_once_by_the_browser_that_began_it(world: World, provider: str) -> None:
    await name_provider(world, provider)
    async with world.stranger() as client, world.stranger() as other:
        address = await approved(world, client, "1")
        assert (await other.get(address)).status_code == 401, "a link that an attacker sends signs nobody in"
        address = await approved(world, client, "1")
        assert (await client.get(address)).status_code == 303
        assert (await client.get(address)).status_code == 401
        late = await approved(world, client, "1")
        world.clock.s += 601
        assert (await client.get(late)).status_code == 401
        for query in ("", "?state=x&code=y", "?error=access_denied", "?state=&code="):
            assert (await client.get(BACK + query)).status_code == 401, query
        client.cookies.set(COOKIE, "x", domain="ctl.example")
        assert (await client.get(BACK + "?state=x&code=y")).status_code == 401


async def test_a_token_that_proves_nothing_lets_nobody_in(
    world: World, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forged, unsigned, signed by the client's secret, for somebody else, of another sign-in, over."""
    await name_provider(world, provider)
    key, now = RSAKey.generate_key(2048, {"kid": "k"}), int(world.clock.now())
    secret = OctKey.import_key("a secret of ours, long enough to sign")
    forged: dict[str, Any] = {}

    async def post(self: httpx.AsyncClient, url: str, **more: Any) -> httpx.Response:
        request = httpx.Request("POST", url)
        if forged.get("key") == "none":
            parts = (json.dumps({"alg": "none"}), json.dumps(forged["claims"]))
            token = ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts) + "."
        else:
            token = jwt.encode(
                {"alg": forged["alg"], "kid": "k"}, forged["claims"], forged["key"], algorithms=[forged["alg"]]
            )
        return httpx.Response(200, json={"id_token": token, "access_token": ""}, request=request)

    real = httpx.AsyncClient.get

    async def get(self: httpx.AsyncClient, url: str, **more: Any) -> httpx.Response:
        if "jwks" not in url:
            return await real(self, url, **more)
        return httpx.Response(200, json={"keys": [key.as_dict(private=False)]}, request=httpx.Request("GET", url))

    async with world.stranger() as client:
        tries: list[tuple[Any, str, Document, int]] = [
            (key, "RS256", {}, 303),
            (RSAKey.generate_key(2048, {"kid": "k"}), "RS256", {}, 401),
            ("none", "none", {}, 401),
            (secret, "HS256", {}, 401),
            (key, "RS256", {"aud": "another"}, 401),
            (key, "RS256", {"iss": "https://evil.example"}, 401),
            (key, "RS256", {"nonce": "of another"}, 401),
            (key, "RS256", {"exp": now - 3_600}, 401),
            (key, "RS256", {"sub": None}, 401),
        ]
        for signer, alg, wrong, wanted in tries:
            begun = await client.get("/login/oidc")
            query = parse_qs(urlsplit(begun.headers["location"]).query)
            claims: Document = {
                "iss": provider,
                "aud": "shoal",
                "sub": "1",
                "preferred_username": "kim",
                "groups": ["operators"],
            }
            claims |= {"iat": now, "exp": now + 300, "nonce": query["nonce"][0]} | wrong
            forged |= {"key": signer, "alg": alg, "claims": {k: v for k, v in claims.items() if v is not None}}
            with monkeypatch.context() as patched:
                patched.setattr(httpx.AsyncClient, "post", post)
                patched.setattr(httpx.AsyncClient, "get", get)
                reply = await client.get(f"{BACK}?state={query['state'][0]}&code=x")
            assert reply.status_code == wanted, f"{alg} {wrong}: {reply.text}"


async def test_a_profile_that_can_not_be_used_says_why(world: World, provider: str) -> None:
    await name_provider(world, provider, token_endpoint="http://idp.example/token")
    async with world.stranger() as client:
        reply = await client.get("/login/oidc?profile=idp")
        assert reply.status_code == 400 and "token_endpoint" in reply.text and "https" in reply.text
        assert (await client.get("/login/oidc?profile=other")).status_code == 404
        assert (await client.post("/login/oidc")).status_code == 405


# --- from groups to roles ---


def test_rules_give_roles_by_group_and_attribute() -> None:
    def rule(index: int, **more: Any) -> Document:
        return {"index": index, "role_refs": ["/api/role/r"], "tenant_refs": ["/api/tenant/t"], **more}

    kim = Person(name="kim", groups=("cn=Ops,ou=groups",), attributes={"team": ("a", "b")})
    by_group = {"group_match": {"criteria": "AUTH_MATCH_CONTAINS", "groups": ["ops"]}}
    not_group = {"group_match": {"criteria": "AUTH_MATCH_DOES_NOT_CONTAIN", "groups": ["OPS"]}}
    by_team = {"attribute_match": {"criteria": "AUTH_MATCH_CONTAINS", "name": "Team", "values": ["b"]}}
    one = [{"role_ref": "/api/role/r", "tenant_ref": "/api/tenant/t"}]
    assert access({"rules": [rule(1, **by_group)]}, kim) == (one, False)
    assert access({"rules": [rule(1, **not_group)]}, kim) == ([], False)
    assert access({"rules": [rule(1, **by_group, **by_team)]}, kim) == (one, False)
    assert access({"rules": [rule(1, **by_team), rule(2, **by_group)]}, kim) == (one, False)
    everywhere = rule(1, **by_group, assign_tenant="ASSIGN_ALL", is_superuser=True)
    assert access({"rules": [everywhere]}, kim) == ([{"role_ref": "/api/role/r", "all_tenants": True}], True)
    assert access({}, kim) == ([], False)
