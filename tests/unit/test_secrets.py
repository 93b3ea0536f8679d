"""Secrets at rest and passwords."""

from __future__ import annotations

import asyncio
import base64
import logging
from pathlib import Path

import pytest

from shoal.controller import passwords
from shoal.controller.secrets import KEY_BYTES, Secrets
from shoal.errors import NotReady

CONTEXT = "sslkeyandcertificate/1/key"


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return Secrets.open(tmp_path / "secret.key")


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN KEY-----\nä€𝄞", "p" * 100_000, "enc:v1:not really"])
def test_what_is_sealed_opens_again(secrets: Secrets, text: str) -> None:
    sealed = secrets.seal(text, CONTEXT)
    assert secrets.is_sealed(sealed)
    assert len(text) < 8 or text not in sealed  # a short one may occur by chance
    assert secrets.unseal(sealed, CONTEXT) == text


def test_sealing_twice_gives_different_texts(secrets: Secrets) -> None:
    assert secrets.seal("a", CONTEXT) != secrets.seal("a", CONTEXT)


def test_a_sealed_text_moved_to_another_field_does_not_open(secrets: Secrets) -> None:
    sealed = secrets.seal("a", CONTEXT)
    with pytest.raises(NotReady, match="moved from another object"):
        secrets.unseal(sealed, "sslkeyandcertificate/2/key")


def test_a_changed_bit_anywhere_is_noticed(secrets: Secrets) -> None:
    data = bytearray(base64.b64decode(secrets.seal("secret", CONTEXT)[7:]))
    for index in range(len(data)):
        changed = bytearray(data)
        changed[index] ^= 1
        with pytest.raises(NotReady):
            secrets.unseal("enc:v1:" + base64.b64encode(changed).decode(), CONTEXT)


@pytest.mark.parametrize("text", ["", "plain", "enc:v1:", "enc:v1:AAAA", "enc:v1:%%%", "enc:v2:AAAA"])
def test_what_is_not_sealed_is_said_to_be_so(secrets: Secrets, text: str) -> None:
    with pytest.raises(NotReady, match="not in sealed form"):
        secrets.unseal(text, CONTEXT)


def test_the_key_file_is_private_kept_and_alone_in_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    sealed = Secrets.open(path).seal("a", CONTEXT)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_bytes()) == KEY_BYTES
    assert Secrets.open(path).unseal(sealed, CONTEXT) == "a"
    assert list(tmp_path.iterdir()) == [path], "something was left beside the key"


def test_another_key_file_is_named_in_the_error(tmp_path: Path) -> None:
    sealed = Secrets.open(tmp_path / "old.key").seal("a", CONTEXT)
    with pytest.raises(NotReady, match=r"another key than that in .*new\.key"):
        Secrets.open(tmp_path / "new.key").unseal(sealed, CONTEXT)


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_a_damaged_key_file_is_refused_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(NotReady, match=r"secret\.key has \d+ bytes"):
        Secrets.open(path)
    assert path.read_bytes() == content


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    Secrets.open(path)
    path.chmod(0o640)
    with pytest.raises(NotReady, match=r"chmod 600 .*secret\.key"):
        Secrets.open(path)


def test_a_key_file_in_no_directory_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=r"none/secret\.key"):
        Secrets.open(tmp_path / "none" / "secret.key")


def test_nothing_secret_is_shown_or_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = Secrets.open(tmp_path / "secret.key")
    sealed = secrets.seal("hunter2", CONTEXT)
    with pytest.raises(NotReady) as refused:
        secrets.unseal(sealed, "elsewhere")
    key = (tmp_path / "secret.key").read_bytes()
    shown = f"{secrets!r} {secrets} {refused.value} {caplog.text}"
    assert "hunter2" not in shown
    assert key.hex() not in shown and repr(key)[2:-1] not in shown


# --- passwords ---


async def test_a_password_verifies_against_its_own_hash_only() -> None:
    stored = await passwords.hash("correct horse")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify("correct horse", stored)
    assert not await passwords.verify("correct horse ", stored)
    assert not await passwords.verify("", stored)


async def test_equal_passwords_have_different_hashes() -> None:
    assert await passwords.hash("a") != await passwords.hash("a")


@pytest.mark.parametrize("stored", ["", "plain", "$argon2id$v=19$m=19456,t=2,p=1$broken", "$1$x$y", "ä"])
async def test_a_hash_that_is_none_verifies_nothing(stored: str) -> None:
    assert not await passwords.verify("a", stored)


async def test_odd_and_overlong_passwords_are_wrong_not_a_crash() -> None:
    stored = await passwords.hash("päss\ud800wörd")
    assert await passwords.verify("päss\ud800wörd", stored)
    assert not await passwords.verify("x" * 100_000, stored)
    with pytest.raises(ValueError, match="1024"):
        await passwords.hash("x" * 1025)


async def test_many_hashes_at_once_leave_the_event_loop_free() -> None:
    turns = 0

    async def count(until: asyncio.Future[list[str]]) -> None:
        nonlocal turns
        while not until.done():
            turns += 1
            await asyncio.sleep(0)

    hashes = asyncio.gather(*(passwords.hash("a") for _ in range(4)))
    await count(hashes)
    assert len(set(hashes.result())) == 4
    assert turns > 100


def test_generated_passwords_are_typable_and_never_the_same() -> None:
    made = {passwords.generate() for _ in range(100)}
    assert len(made) == 100
    for password in made:
        letters = password.replace("-", "")
        assert len(letters) * 5 >= 100, "five bits a letter"
        assert set(letters) <= set("abcdefghijkmnpqrstuvwxyz23456789")
