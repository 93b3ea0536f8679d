"""The tech-support bundle: what is needed is there, and no planted secret is."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from shoal.controller.accounts import Accounts
from shoal.controller.bootstrap import Options, bootstrap
from shoal.controller.clock import SystemClock
from shoal.controller.events import EventLog
from shoal.controller.intent import Caller, Intent
from shoal.controller.secrets import Secrets
from shoal.controller.view import View
from shoal.errors import NotReady
from shoal.main import cli
from shoal.objects import load
from shoal.store.sqlite import SqliteStore
from shoal.techsupport import Scrubber, collect
from tests.api_world import key_pair

ADMIN = Caller(user="admin", address="10.0.0.7")
FIRST = "first-password-of-admin"
PLANTED = {
    "user": "a users planted password 1",
    "mail": "a mails planted password 2",
    "hook": 'a hook"s\\planted \u00e9 secret 3',
    "ldap": "a directorys planted password 4",
}
Files = dict[str, str]


async def directory(folder: Path) -> tuple[list[str], list[str]]:
    """A data directory with secrets in all kinds of places: (secrets, what may be seen)."""
    (folder / "keys").mkdir(parents=True)
    store = await SqliteStore.open(folder / "shoal.db")
    view = View(store, load())
    await view.start()
    intent = Intent(store, view, load(), Secrets.open(folder / "keys" / "secrets.key"))
    await bootstrap(intent, view, Options(vip_networks=("10.9.0.0/24",)))
    accounts = Accounts(store, view, intent)
    await accounts.ensure_admin(FIRST)
    key, certificate = key_pair()
    await intent.create(
        "sslkeyandcertificate", {"name": "c", "key": key, "certificate": {"certificate": certificate}}, ADMIN
    )
    await intent.create("user", {"name": "pat", "password": PLANTED["user"]}, ADMIN)
    mail = {"smtp_type": "SMTP_SERVER", "auth_username": "shoal", "auth_password": PLANTED["mail"]}
    await intent.patch("systemconfiguration", "default", {"replace": {"email_configuration": mail}}, ADMIN)
    hook = {"name": "h", "level": "ALERT_LOW", "external_only": False, "webhook_url": "https://hook.example/x"}
    await intent.create("actiongroupconfig", hook | {"webhook_secret": PLANTED["hook"]}, ADMIN)
    ldap = {
        "server": ["ldap.example"],
        "settings": {"admin_bind_dn": "cn=x", "password": PLANTED["ldap"], "user_id_attribute": "uid"},
    }
    await intent.create("authprofile", {"name": "l", "type": "AUTH_PROFILE_LDAP", "ldap": ldap}, ADMIN)
    await intent.create("pool", {"name": "web-pool-to-be-seen"}, ADMIN)
    _, token = await accounts.tokens.make("user-admin", "ci", 1)
    hash = intent.passwords.opened(view.get("user", "user-admin") or {})
    events = EventLog(store, SystemClock())
    events.add("SE_DOWN", f"an event to be seen, and in it {PLANTED['mail']}")
    await events._write(list(events._pending))
    await view.stop()
    await store.close()
    engine = folder / "engines" / "Avi-se-1"
    engine.mkdir(parents=True)
    session = "abcdefghijklmnopqrstuvwxyz0123456789"
    pem_line = key.splitlines()[2]
    (folder / "controller.log").write_text(
        f"a line to be seen\nbound with {PLANTED['ldap']}\n{json.dumps(PLANTED['hook'])}\nCookie: sessionid={session}\n"
        f"Authorization: Bearer {token}\nX-CSRFToken: {session}\npassword={FIRST}\n{key}\n{pem_line} alone\n{hash}\n"
    )
    (folder / "controller.log.1").write_text(f"older, to be seen\n'passphrase': '{session}'\n")
    (folder / "up.out").write_text(f"The password of user admin is {FIRST}\n")
    (engine / "agent.log").write_text(f"agent to be seen\n{key}\n")
    (engine / "haproxy.cfg").write_text("frontend to-be-seen\n  bind :443 ssl crt /x/y.pem\n")
    (engine / "desired.msgpack").write_bytes(key.encode())
    (engine / "certificate.pem").write_text(key)
    (folder / "pki").mkdir()
    (folder / "pki" / "ca-key.pem").write_text(key)
    secrets = [
        *PLANTED.values(),
        json.dumps(PLANTED["hook"])[1:-1],
        FIRST,
        token,
        token.split("_", 2)[2],
        session,
        hash,
    ]
    secrets += [line for line in key.splitlines() if "-----" not in line and len(line) > 8]
    return secrets, [
        "a line to be seen",
        "older, to be seen",
        "agent to be seen",
        "an event to be seen",
        "web-pool-to-be-seen",
    ]


def unpacked(file: Path) -> Files:
    with tarfile.open(file) as archive:
        found = {}
        for member in archive.getmembers():
            source = archive.extractfile(member)
            assert source is not None and member.mode == 0o600 and ".." not in member.name
            found[member.name.partition("/")[2]] = source.read().decode()
    return found


async def bundle(tmp_path: Path, *, without_key: bool = False) -> tuple[Files, list[str], list[str]]:
    secrets, seen = await directory(tmp_path / "data")
    if without_key:
        (tmp_path / "data" / "keys" / "secrets.key").unlink()
    import asyncio

    await asyncio.to_thread(collect, tmp_path / "data", tmp_path / "b.tar.gz")
    return unpacked(tmp_path / "b.tar.gz"), secrets, seen


async def test_no_planted_secret_is_in_the_bundle_and_what_helps_is(tmp_path: Path) -> None:
    files, secrets, seen = await bundle(tmp_path)
    everything = "\n".join(files.values())
    for secret in secrets:
        assert secret not in everything, f"{secret[:12]}... is in {[n for n, t in files.items() if secret in t]}"
    assert "enc:v1:" not in everything and "PRIVATE KEY-----" not in everything
    for words in seen:
        assert words in everything, words
    assert {
        "MANIFEST.txt",
        "configuration.json",
        "events.json",
        "changes.json",
        "records.json",
        "versions.json",
    } <= files.keys()
    assert {"engines/Avi-se-1/haproxy.cfg", "engines/Avi-se-1/agent.log", "machine/memory.txt"} <= files.keys()
    assert not [
        name for name in files if name.startswith(("keys", "pki", "up.out")) or name.endswith((".pem", ".msgpack"))
    ]
    configuration: dict[str, list[Any]] = json.loads(files["configuration.json"])
    assert [c["key"] for c in configuration["sslkeyandcertificate"] if c["name"] == "c"] == ["<sensitive>"]
    assert (tmp_path / "b.tar.gz").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


async def test_without_the_key_what_looks_like_a_secret_is_left_out_still_and_it_is_said(tmp_path: Path) -> None:
    files, *_ = await bundle(tmp_path, without_key=True)
    assert "by their looks only" in files["MANIFEST.txt"]
    configuration = files["configuration.json"]
    assert not [secret for secret in PLANTED.values() if secret in configuration]
    assert "enc:v1:" not in "".join(files.values())
    assert not (tmp_path / "data" / "keys" / "secrets.key").exists(), "no new key is made"


async def test_it_is_one_command_that_overwrites_nothing(tmp_path: Path) -> None:
    await directory(tmp_path / "data")
    import asyncio

    output = tmp_path / "out.tar.gz"
    arguments = ["techsupport", "--data-dir", str(tmp_path / "data"), "--output", str(output)]
    done = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
    assert done.exit_code == 0 and "secrets left out" in done.output, done.output
    again = [*arguments[:-1], str(tmp_path / "again.tar.gz"), "--json"]
    found = json.loads((await asyncio.to_thread(CliRunner().invoke, cli, again)).stdout)
    assert found["file"] == again[-2] and "configuration.json" in str(found["parts"])
    with pytest.raises(NotReady, match="is there already"):
        await asyncio.to_thread(collect, tmp_path / "data", output)
    with pytest.raises(NotReady, match="no data directory"):
        collect(tmp_path, tmp_path / "x.tar.gz")
    with pytest.raises(NotReady, match="can't be written"):
        await asyncio.to_thread(collect, tmp_path / "data", tmp_path / "none" / "x.tar.gz")


@pytest.mark.parametrize(
    "text, kept",
    [
        ("user=admin password=hunter22", "user=admin password=<secret>"),
        ('{"token": "abc", "name": "x"}', '{"token": "<secret>", "name": "x"}'),
        ("Set-Cookie: sessionid=abc; Path=/", "Set-Cookie: <secret>; Path=/"),
        ("nothing here", "nothing here"),
    ],
)
def test_what_stands_behind_telling_words_goes(text: str, kept: str) -> None:
    assert Scrubber([]).clean(text, named=True) == kept
