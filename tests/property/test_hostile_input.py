"""Whatever comes in: references, filters, patches and wire messages are understood or refused in words, never a fault.

`scripts/fuzz` does it for longer."""

from __future__ import annotations

import asyncio
import copy
import functools
import random
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from shoal.api import listing, log_query
from shoal.api.logs import EVENT_FIELDS
from shoal.controller.patch import patched
from shoal.controller.references import References
from shoal.controller.sight import EVERYTHING, Sight
from shoal.controller.transfer.reading import File
from shoal.controller.view import View
from shoal.engine.guard import sections
from shoal.errors import Problem, ShoalError
from shoal.objects import ObjectType, load
from shoal.wire import desired, messages
from shoal.wire.channel import Channel, ChannelClosed, ProtocolError
from tests.api_world import controlled_world

from .hostile import EXAMPLES, PIECES, text

Document = dict[str, Any]
REGISTRY = load()
TYPES = [kind for kind in REGISTRY.types.values() if not kind.read_only]
hostile = st.one_of(
    st.text(max_size=20),
    st.sampled_from(PIECES),
    st.integers(0, 2**32).map(lambda seed: text(random.Random(seed))[:5000]),
)
references = st.one_of(
    hostile,
    st.builds("/api/{}/{}".format, st.sampled_from([kind.endpoint for kind in TYPES]), hostile),
    st.builds(
        "/api/{}/?name={}&tenant={}&cloud={}".format, st.sampled_from(["pool", "tenant"]), hostile, hostile, hostile
    ),
    st.builds("https://{}/api/pool?name={}#{}".format, hostile, hostile, hostile),
)
json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64), st.floats(), hostile, references),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(hostile, inner, max_size=4)),
    max_leaves=12,
)
slow = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@functools.cache
def view() -> View:
    """The documents of a Shoal with a virtual service."""

    async def made() -> View:
        with tempfile.TemporaryDirectory() as folder:
            async with controlled_world(Path(folder)) as world:
                await world.post("/api/tenant", {"name": "blue"})
                await world.service()
                return world.view

    return asyncio.run(made())


def stored(type: str) -> Document:
    return view().all(type)[-1]


def refused(error: ShoalError) -> None:
    assert error.status < 500 and str(error).strip()


@slow
@given(st.sampled_from(TYPES), references, hostile, st.sampled_from(["admin", "blue", "", "nobody"]), st.data())
def test_a_reference_is_found_or_refused(
    kind: ObjectType, value: str, cloud: str, tenant: str, data: st.DataObject
) -> None:
    documents = view().all(kind.endpoint)
    document = copy.deepcopy(documents[-1]) if documents else {"name": "x"}
    fields = [name for name, field in kind.fields.items() if field.ref]
    for name in data.draw(st.lists(st.sampled_from(fields), max_size=2)) if fields else ():
        given: Any = [value] if kind.fields[name].kind == "array" else value
        document[name] = given
    before = copy.deepcopy(document)
    result, versions, problems = References(view(), REGISTRY).resolve(
        kind, document, tenant, cloud, sight=Sight(tenant=tenant)
    )
    assert document == before, "it is not changed in place"
    assert all(isinstance(problem, Problem) and problem.sentence() for problem in problems)
    assert all(view().get(*target) is not None for target in versions)
    known = {reference.value for reference in kind.references(result)}
    assert problems or all(one.startswith("/api/") for one in known)


@slow
@given(
    st.sampled_from(["pool", "virtualservice", "sslkeyandcertificate"]),
    st.dictionaries(
        st.one_of(
            hostile,
            st.sampled_from(
                ["search", "isearch", "refers_to", "referred_by", "sort", "page", "page_size", "limit_by", "exclude"]
            ),
            st.builds("{}.{}".format, st.sampled_from(["servers", "name", "key", "uuid", "servers.ip"]), hostile),
            st.builds("name.{}".format, st.sampled_from(list(listing.OPERATORS))),
        ),
        st.one_of(hostile, references, st.builds("pool:{}".format, hostile)),
        max_size=4,
    ),
)
def test_a_filter_is_applied_passed_over_or_refused(type: str, query: dict[str, str]) -> None:
    kind = REGISTRY.type(type)
    try:
        selection = listing.Selection(view(), REGISTRY, kind, query, EVERYTHING)
        found = selection.apply(view().all(type))
        page = listing.page(found, query)
    except ShoalError as error:
        refused(error)
        return
    assert len(page.documents) <= len(view().all(type))
    assert all(isinstance(sentence, str) for sentence in selection.warnings())


@slow
@given(
    st.lists(st.one_of(hostile, st.builds("{}({},{})".format, hostile, hostile, hostile)), max_size=3), hostile, hostile
)
def test_a_filter_of_the_event_log_is_read_or_refused(filters: list[str], start: str, duration: str) -> None:
    pairs = [("filter", one) for one in filters] + [("start", start), ("duration", duration)]
    import urllib.parse

    query = urllib.parse.urlencode(pairs, errors="replace").encode()
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": query})
    try:
        log_query.where(log_query.asked(request, dict(request.query_params)), EVENT_FIELDS)
    except ShoalError as error:
        refused(error)


patches = st.one_of(
    json,
    st.dictionaries(
        st.sampled_from(["add", "replace", "delete", "remove", "update", "json_patch", "x"]),
        st.one_of(
            json,
            st.dictionaries(
                st.sampled_from(["servers", "name", "enabled", "no_such", "uuid", "services"]), json, max_size=3
            ),
            st.lists(
                st.fixed_dictionaries(
                    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "x"])},
                    optional={
                        "path": st.one_of(
                            hostile, st.sampled_from(["", "/", "/servers/0", "/servers/-", "/servers/99/ip/addr"])
                        ),
                        "from": st.sampled_from(["", "/servers", "/servers/0", "/name", "/servers/0/ip"]),
                        "value": json,
                    },
                ),
                max_size=5,
            ),
        ),
        max_size=3,
    ),
)


@slow
@given(st.sampled_from(["pool", "virtualservice", "vsvip"]), patches)
def test_a_patch_is_applied_or_refused_and_changes_nothing_in_place(type: str, patch: Any) -> None:
    kind, document = REGISTRY.type(type), stored(type)
    before = copy.deepcopy(document)
    if not isinstance(patch, dict):
        patch = {"replace": patch}
    try:
        result, _ = patched(kind, document, patch)
        kind.validate(result)
    except ShoalError as error:
        refused(error)
    assert document == before


@slow
@given(st.dictionaries(st.one_of(hostile, st.sampled_from([kind.name for kind in TYPES])), json, max_size=4))
def test_a_file_to_import_is_read_or_refused(document: Document) -> None:
    try:
        file = File(document, REGISTRY)
    except ShoalError as error:
        refused(error)
        return
    assert len({id(item) for item, again in file.ordered() if not again}) == len(file.items)


# --- bytes from engines, controllers and guards ---

WHOLE = [
    msgspec.msgpack.encode(message)
    for message in (
        messages.Fetch(("a", "b")),
        messages.Leaving("done"),
        messages.Rejected("no"),
        messages.Parts((("a", b"x"),)),
        messages.Shares({"v": {"a": 1}}),
        desired.Vip(
            id="v",
            addresses=("10.0.0.1",),
            generation=1,
            owner="a",
            members=("a",),
            succession=("a",),
            list_version=1,
            armed=True,
        ),
    )
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A message with some bytes changed, cut off, or said twice; or nothing of the kind."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    data = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] + data[draw(st.integers(0, len(data))) :])


@slow
@given(mutated())
def test_bytes_are_a_message_or_refused(data: bytes) -> None:
    for type in (messages.FromEngine, messages.FromController, sections.Section | sections.Contents | sections.Again):
        try:
            msgspec.msgpack.Decoder(type).decode(data)
        except (msgspec.MsgspecError, ValueError):
            pass
    try:
        desired.decode_part(data)
    except ValueError:
        pass


@slow
@given(st.lists(st.one_of(mutated(), mutated().map(lambda data: len(data).to_bytes(4, "big") + data)), max_size=4))
def test_a_channel_ends_in_words_whatever_is_sent(pieces: list[bytes]) -> None:
    asyncio.run(channel(b"".join(pieces)))


async def channel(data: bytes) -> None:
    async def hostile_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.close()

    with tempfile.TemporaryDirectory() as folder:
        place = f"{folder}/s"
        server = await asyncio.start_unix_server(hostile_client, place)
        reader, writer = await asyncio.open_unix_connection(place)
        link: Channel[messages.FromEngine] = Channel(reader, writer, messages.FromEngine)
        try:
            async with asyncio.timeout(5):
                while True:
                    await link.receive()
        except (ChannelClosed, ProtocolError) as error:
            assert str(error).strip()
        finally:
            await link.close()
            server.close()
