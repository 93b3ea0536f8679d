"""Whatever people write, ``haproxy.cfg`` holds the sections and words meant, and no others. HAProxy is the oracle."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shoal.engine.haproxy import render
from shoal.engine.haproxy.escape import Unrenderable, address, backend_name, octets, quoted, token, word
from shoal.wire.desired import Listener, Monitor, Pool, Server, Service

HOSTILE = (
    "a\nbackend evil",
    "a\rb",
    "nul\0",
    "quote'end",
    'double"quote',
    "back\\slash\\",
    "\\'",
    "'",
    "# comment",
    "$HOME ${HOME}",
    "%[src] %% %",
    " lead and trail ",
    "tab\there",
    "é 漢字 \u2028 \ud800",
    "a, b{c}[d](e)",
    "",
    "x" * 5000,
)
text = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=60), st.text("'\"\\ #$%\n{}[]", max_size=12))


@given(text, text)
@example("a b", "a_b")
@example("a b", word("a b"))
@example("", "_")
def test_an_identifier_is_safe_and_no_two_texts_share_one(one: str, other: str) -> None:
    assert set(word(one)) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-")
    assert 0 < len(word(one)) <= 120
    assert (word(one) == word(other)) == (one == other)


@given(text)
def test_a_quoted_text_is_one_word_and_itself_or_refused(given: str) -> None:
    try:
        written = quoted(given)
    except Unrenderable:
        assert len(given) > 2000 or any(ord(c) < 32 or ord(c) > 126 for c in given)
        return
    assert "\n" not in written
    assert shlex.split(written) == [given]  # HAProxy's single quotes are the shell's


@given(text)
def test_octets_are_hexadecimal_digits_of_the_text(given: str) -> None:
    try:
        assert bytes.fromhex(octets(given)).decode() == given
    except Unrenderable:
        assert not given or len(given.encode(errors="replace")) > 2000
    except AssertionError:
        assert any(0xD800 <= ord(c) <= 0xDFFF for c in given)


@pytest.mark.parametrize("given", ["10.0.0.1 check", "fe80::1%x\nbackend evil", "10.0.0.256", "", "host", "::1]:80"])
def test_only_addresses_are_addresses(given: str) -> None:
    with pytest.raises(Unrenderable):
        address(given)


@pytest.mark.parametrize("given", ["a b", "a:b", "", "a\nb", "a" * 200])
def test_only_tokens_are_header_names(given: str) -> None:
    with pytest.raises(Unrenderable):
        token(given)


def _service(number: int, words: tuple[str, str, str, str, str]) -> Service:
    name, server, body, uri, header = words
    monitors = (
        Monitor(name=name, kind="HTTP", request=f"GET /{uri}\nX-Probe: {header}\n{name}: {body}", response=body),
        Monitor(name=name, kind="TCP", request=body, response=header, port=9),
    )
    pool = Pool(
        id=name,
        name=name,
        algorithm=header if number % 2 else "LB_ALGORITHM_CONSISTENT_HASH",
        hash="LB_ALGORITHM_CONSISTENT_HASH_CUSTOM_HEADER",
        hash_header=header,
        servers=(Server(name=server, address="127.0.0.1", port=80, hostname=uri),),
        monitors=monitors[number % 3 :],
    )
    return Service(
        id=f"{number}{name}"[:4000],
        name=name,
        vip=name,
        addresses=("127.0.0.1",),
        enabled=True,
        mode="http" if number % 2 else "tcp",
        listeners=(Listener(port=1000 + number, port_end=1000 + number),),
        pool=pool,
    )


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(words=st.lists(st.tuples(text, text, text, text, text), min_size=10, max_size=40))
@example(words=[(h, h, h, h, h) for h in HOSTILE])
@example(words=[(h, h, "ok", "ok", h) for h in HOSTILE])
@example(words=[("n", "s", h, "ok", "H") for h in HOSTILE])
@example(words=[("n", "s", "ok", h, "H") for h in HOSTILE])
def test_haproxy_reads_the_file_as_it_was_meant(tmp_path: Path, words: list[tuple[str, str, str, str, str]]) -> None:
    facts = render.Facts(directory=str(tmp_path), sockets=str(tmp_path), descriptors_max=4096, user="root")
    fragments, backends = {}, set()
    for number, group in enumerate(words):
        service = _service(number, group)
        try:
            fragments[service.id] = render.service_fragment(service, facts)
        except Unrenderable:
            continue
        assert service.pool is not None
        backends.add(f"backend {backend_name(service.id, service.pool.id)}")
    whole = render.config(facts, fragments)
    sections = [line for line in whole.split("\n") if line and not line.startswith(" ")]
    expected = {f"frontend {render.frontend_name(id)}" for id in fragments} | backends
    assert sorted(sections) == sorted({"global", "defaults", "frontend shoal_alive"} | expected)
    (tmp_path / "servers.state").write_text("1\n")
    (tmp_path / "draining.lst").write_text("")
    file = tmp_path / "haproxy.cfg"
    file.write_text(whole)
    checked = subprocess.run(["haproxy", "-c", "-f", str(file)], capture_output=True, text=True, errors="replace")
    assert checked.returncode == 0, _complaints(checked.stderr, whole)


def _complaints(output: str, whole: str) -> str:
    """Each alert with the line it is about."""
    lines = whole.split("\n")
    found = re.findall(r"haproxy\.cfg:(\d+)\] : (.*)", output)
    return "\n".join(f"{why}\n  {lines[int(number) - 1]!r}" for number, why in found) or output
