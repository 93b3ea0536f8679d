"""Backups: whole or refused, opened by their passphrase alone, and another machine's data directory once restored."""

from __future__ import annotations

import asyncio
import base64
import itertools
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shoal import data_directory
from shoal.controller.accounts import Accounts
from shoal.controller.backup import contents, replacing, sealed
from shoal.controller.backup.kept import Backups
from shoal.controller.backup.restoring import restore
from shoal.controller.intent import Intent
from shoal.controller.secrets import Secrets
from shoal.controller.view import View
from shoal.errors import Invalid, NotReady
from shoal.objects import load
from shoal.store.protocol import Transaction
from shoal.store.sqlite import SqliteStore
from tests.api_world import PASSWORD, ControlledWorld, controlled_world, key_pair

WORDS = "a long enough one"
SECRET = "community-string-of-ours"
Document = dict[str, Any]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    (tmp_path / "old" / "pki").mkdir(parents=True)
    (tmp_path / "old" / "pki" / "ca-key.pem").write_bytes(b"the authority")
    async with controlled_world(tmp_path / "old") as world:
        yield world


async def handed(world: ControlledWorld, words: str = WORDS) -> bytes:
    reply = await world.client.post("/api/configuration/backup", json={"passphrase": words})
    assert reply.status_code == 200, reply.text
    return reply.content


async def test_restored_elsewhere_everything_is_there(world: ControlledWorld, tmp_path: Path) -> None:
    key, certificate = key_pair()
    body = {"name": "cert", "key": key, "certificate": {"certificate": certificate}}
    made = await world.post("/api/sslkeyandcertificate", body)
    await world.service()
    (tmp_path / "b").write_bytes(await handed(world))
    new = tmp_path / "new"
    await restore(tmp_path / "b", WORDS, new)
    assert (new / "pki" / "ca-key.pem").read_bytes() == b"the authority"
    assert (new / "keys" / "secrets.key").stat().st_mode & 0o777 == 0o600
    assert new.stat().st_mode & 0o077 == 0
    store = await SqliteStore.open(new / "shoal.db")
    old, found = (await world.store.list("")).records, (await store.list("")).records
    assert {r.key: r.value for r in found} == {r.key: r.value for r in old}
    view = View(store, load())
    await view.start()
    assert [d["name"] for d in view.all("pool")] == [d["name"] for d in world.view.all("pool")]
    context = f"sslkeyandcertificate/{made['uuid']}/key"
    stored = view.get("sslkeyandcertificate", made["uuid"])
    assert stored is not None
    secrets = Secrets.open(new / "keys" / "secrets.key")
    assert secrets.unseal(stored["key"], context) == key
    await Accounts(store, view, Intent(store, view, load(), secrets)).verify("admin", PASSWORD)
    await view.stop()
    await store.close()


async def test_nothing_can_be_read_in_it(world: ControlledWorld) -> None:
    await world.post("/api/pool", {"name": "a-pool-of-ours"})
    data = await handed(world)
    for text in (b"a-pool-of-ours", WORDS.encode(), b"the authority", PASSWORD.encode()):
        assert text not in data


async def test_a_torn_changed_or_foreign_file_restores_nothing(tmp_path: Path) -> None:
    whole = sealed.seal(b"x" * 2_500_000, WORDS)
    assert sealed.opened(whole, WORDS) == b"x" * 2_500_000
    third = sealed.HEAD_BYTES + 2 * (4 + 1_000_016)
    cuts = [0, 3, 8, 20, sealed.HEAD_BYTES, sealed.HEAD_BYTES + 2, third - 1_000_020, third, third + 4, len(whole) - 1]
    wrong = [whole[:cut] for cut in cuts] + [whole + b"x", b"no backup at all" * 10, whole[8:]]
    first = whole[sealed.HEAD_BYTES : sealed.HEAD_BYTES + 1_000_020]
    second = whole[sealed.HEAD_BYTES + 1_000_020 : third]
    wrong += [whole[: sealed.HEAD_BYTES] + second + first + whole[third:], whole[: sealed.HEAD_BYTES] + second]
    for at in (9, 25, sealed.HEAD_BYTES + 1, sealed.HEAD_BYTES + 100, third + 100, len(whole) - 1):
        wrong.append(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    file = tmp_path / "b"
    for data in wrong:
        file.write_bytes(data)
        with pytest.raises(Invalid):
            await restore(file, WORDS, tmp_path / "new")
        assert not (tmp_path / "new").exists()
    file.write_bytes(whole)
    with pytest.raises(Invalid, match="passphrase is wrong"):
        await restore(file, "another passphrase", tmp_path / "new")
    with pytest.raises(NotReady, match="can't be read"):
        await restore(tmp_path / "none", WORDS, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


@pytest.mark.parametrize("name", ["../outside", "/etc/shoal-outside", "keys/../../outside"])
async def test_a_file_outside_of_the_directory_is_not_written(tmp_path: Path, name: str) -> None:
    made = contents.Contents(format=1, shoal="0", made_at=0.0, revision=1, files={name: b"x"}, records=[("/a", b"1")])
    file = tmp_path / "b"
    import zlib

    file.write_bytes(sealed.seal(zlib.compress(msgspec.msgpack.encode(made)), WORDS))
    with pytest.raises(Invalid, match="outside"):
        await restore(file, WORDS, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


async def test_what_is_there_already_stays(world: ControlledWorld, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(await handed(world))
    with pytest.raises(NotReady, match="is not empty"):
        await restore(tmp_path / "b", WORDS, tmp_path / "old")
    assert (tmp_path / "old" / "keys" / "secrets.key").exists()


async def test_a_disk_that_fills_up_leaves_nothing(
    world: ControlledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b").write_bytes(await handed(world))

    async def full(store: SqliteStore, transaction: Transaction) -> int:
        raise NotReady("The disk is full.")

    monkeypatch.setattr(SqliteStore, "commit", full)
    with pytest.raises(NotReady, match="full"):
        await restore(tmp_path / "b", WORDS, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "old"]


async def test_kept_ones_are_as_many_as_their_configuration_says(world: ControlledWorld, tmp_path: Path) -> None:
    body = {"name": "nightly", "backup_passphrase": WORDS, "maximum_backups_stored": 2, "backup_file_prefix": "a/b"}
    await world.post("/api/backupconfiguration", body)
    names = []
    for _ in range(4):
        kept = await world.post("/api/configuration/backup", {"backup_config": "nightly"})
        names.append(kept["file_name"])
        await asyncio.sleep(0.002)
    folder = tmp_path / "old" / "backups"
    assert sorted(path.name for path in folder.iterdir()) == sorted(names[2:])
    listed = await world.get("/api/backup")
    assert [document["file_name"] for document in listed["results"]] == names[2:]
    reply = await world.client.get(listed["results"][0]["local_file_url"])
    (tmp_path / "b").write_bytes(reply.content)
    await restore(tmp_path / "b", WORDS, tmp_path / "new")
    assert (await world.client.get("/api/configuration/backup/..%2Fkeys%2Fsecrets.key")).status_code == 404
    assert (await world.client.get(f"/api/configuration/backup/{names[0]}")).status_code == 404
    shutil.rmtree(folder)
    assert (await world.client.get(listed["results"][0]["local_file_url"])).status_code == 404


async def test_a_file_is_looked_into_and_nothing_is_written(world: ControlledWorld, tmp_path: Path) -> None:
    (tmp_path / "old" / "pki" / "ca.pem").write_bytes(b"the authority's certificate")
    await world.service()
    data = await handed(world)
    revision = (await world.store.list("")).revision
    body = {"backup": base64.b64encode(data).decode(), "passphrase": WORDS}
    told = await world.post("/api/configuration/opened", body, 200)
    assert told["objects"]["Pool"] == told["objects"]["VirtualService"] == 1
    assert told["same_controller"] is True and told["data_directory"] == str(tmp_path / "old")
    (tmp_path / "old" / "pki" / "ca.pem").write_bytes(b"another one's")
    assert (await world.post("/api/configuration/opened", body, 200))["same_controller"] is False
    assert (await world.store.list("")).revision == revision
    for wrong, words in (
        ({**body, "passphrase": "another long one"}, "passphrase is wrong"),
        ({**body, "backup": base64.b64encode(data[:-9]).decode()}, "cut off"),
        ({**body, "backup": base64.b64encode(b"hello").decode()}, "no backup"),
        ({**body, "backup": "{}"}, "base64"),
        ({"backup": body["backup"]}, "passphrase"),
        ({**body, "backup": 5}, "must be base64"),
    ):
        reply = await world.client.post("/api/configuration/opened", json=wrong)
        assert reply.status_code == 400 and words in reply.json()["error"], reply.text


async def test_what_can_not_be_sealed_is_refused(world: ControlledWorld) -> None:
    await world.post("/api/backupconfiguration", {"name": "open"})
    for body, word in (
        ({"passphrase": "short"}, "passphrase"),
        ({"backup_config": "open"}, "backup_passphrase"),
        ({"backup_config": "none"}, "no BackupConfiguration"),
        ({}, "passphrase"),
        ({"passphrase": 5}, "must be a string"),
    ):
        reply = await world.client.post("/api/configuration/backup", json=body)
        assert reply.status_code in (400, 404) and word in reply.json()["error"], body


async def staged(world: ControlledWorld, data_dir: Path) -> Path:
    """By the REST face of a controller that may begin anew. Returns where what is there will be."""
    wished: list[bool] = []
    backups = Backups(world.store, world.view, world.intent, data_dir, lambda: wished.append(True))
    told = await backups.restore(await handed(world), WORDS, "admin from here")
    assert wished == [True] and replacing.is_staged(data_dir)
    with pytest.raises(NotReady, match="already"):
        await backups.restore(await handed(world), WORDS, "admin from here")
    return Path(told["before"])


async def test_a_backup_takes_the_place_of_what_is_there_wherever_a_crash_cuts_it(
    world: ControlledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tmp_path / "old"
    await world.post("/api/pool", {"name": "of-then"})
    before = (await staged(world, data_dir)).name
    for name in ("shoal.db", "controller.log", "notes.txt", "fabric.json"):
        (data_dir / name).write_text("of now")
    (data_dir / "logs").mkdir(exist_ok=True)
    rename = Path.rename
    for cut in itertools.count():
        shutil.copytree(data_dir, copy := tmp_path / f"cut{cut}")
        left = [cut]

        def cutting(path: Path, target: Path, left: list[int] = left) -> Path:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(5, "Input/output error")
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", cutting)
        try:
            assert replacing.finish(copy).name == before
        except NotReady:
            assert replacing.is_staged(copy)
        whole = left[0] >= 0
        monkeypatch.setattr(Path, "rename", rename)
        assert whole or replacing.finish(copy) == copy / before
        assert not replacing.is_staged(copy)
        assert (copy / "pki" / "ca-key.pem").read_bytes() == b"the authority"
        assert (copy / before / "shoal.db").read_text() == (copy / before / "fabric.json").read_text() == "of now"
        assert (copy / before / "logs").is_dir() and not (copy / "logs").exists()
        for name in ("controller.log", "notes.txt"):  # the process's own, and somebody else's
            assert (copy / name).read_text() == "of now"
        if whole:
            break
    assert cut > 6
    store = await SqliteStore.open(copy / "shoal.db")
    assert any(b"of-then" in record.value for record in (await store.list("/intent/pool")).records)
    await store.close()
    replacing.call_back(copy / before)
    failed = replacing.finish(copy)
    assert (copy / "shoal.db").read_text() == "of now" and (failed / "shoal.db").exists()
    assert not replacing.is_former(failed)
    data_directory.purge(copy)
    assert [path.name for path in copy.iterdir()] == ["notes.txt"]


async def test_a_controller_that_can_not_begin_anew_says_how_to_restore(world: ControlledWorld) -> None:
    body = {"backup": base64.b64encode(await handed(world)).decode(), "passphrase": WORDS}
    reply = await world.client.post("/api/configuration/restore", json=body)
    assert reply.status_code == 503 and "shoal restore" in reply.text


async def test_a_restore_that_can_not_be_staged_leaves_all_as_it_is(
    world: ControlledWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir, data = tmp_path / "old", await handed(world)
    backups = Backups(world.store, world.view, world.intent, data_dir, lambda: pytest.fail("it begins anew"))
    present = sorted(data_dir.iterdir())

    async def full(store: SqliteStore, transaction: Transaction) -> int:
        raise NotReady("The disk is full.")

    with pytest.raises(Invalid, match="passphrase is wrong"):
        await backups.restore(data, "another passphrase", "admin from here")
    monkeypatch.setattr(SqliteStore, "commit", full)
    with pytest.raises(NotReady, match="full"):
        await backups.restore(data, WORDS, "admin from here")
    assert sorted(data_dir.iterdir()) == present
