"""A thousand bodies that are wrong, generated from the schema: each a 4xx that says why, none a 5xx, nothing stored."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shoal.objects import Field, MessageType, ObjectType, load
from tests.api_world import api_world

BODIES = 1_000
SEED = 20_240
OTHER_KINDS: dict[str, list[Any]] = {
    "string": [5, True, [], {}, ["x"]],
    "integer": ["x", True, [], {}, 1.5, 2**70, -(2**70), 1e300],
    "number": ["x", True, [], {}],
    "boolean": ["x", 0, 1, [], {}],
    "array": ["x", 5, True, {}],
    "message": ["x", 5, True, [], [{}]],
}
ENCODINGS: list[Callable[[str], bytes]] = [
    lambda text: text.encode("utf-16"),
    lambda text: text.encode("utf-32"),
    lambda text: b"\xff" + text.encode(),
    lambda text: text.encode()[:-2],
    lambda text: text.encode().replace(b'"', b"'"),
    lambda text: text.encode() + b"{}",
    lambda text: text.replace("x", "\\ud800").encode() + b" \x00",
    lambda text: f"[{text}]".encode(),
    lambda text: text.encode()[:1].ljust(50, b"{"),
    lambda text: json.dumps(text).encode(),
    lambda text: b"null",
    lambda text: b"",
    lambda text: b'{"name": NaN}',
]
HUGE_CHARACTERS = 1_100_000
DEEP_LEVELS = (30, 500, 200_000)


def wrong_bodies(rng: random.Random, kind: ObjectType) -> Iterator[bytes]:
    """For ever: bodies for one type, each wrong in at least one way."""
    ways = [wrong_kind, out_of_range, unknown_field, dangling, wrong_encoding, huge, deep, not_an_object]
    weights = [30, 20, 15, 15, 10, 1, 3, 6]
    while True:
        body = rng.choices(ways, weights)[0](rng, kind)
        if body is not None:
            yield body


def wrong_kind(rng: random.Random, kind: ObjectType) -> bytes | None:
    path, field = _any_field(rng, kind.message)
    return _encoded(_nested(path, rng.choice(OTHER_KINDS[field.kind])))


def out_of_range(rng: random.Random, kind: ObjectType) -> bytes | None:
    path, field = _any_field(rng, kind.message)
    if field.enum:
        return _encoded(_nested(path, rng.choice(["", "x", "HA_MODE_NONE", "\u0000", "x" * 5000])))
    if field.range is None or field.kind != "integer":
        return None
    value = rng.choice([int(field.range[0]) - 1, int(field.range[1]) + 1, 2**63, -1 - 2**63])
    if value == field.default or str(value) in field.special or field.range[0] <= value <= field.range[1]:
        return None
    return _encoded(_nested(path, value))


def unknown_field(rng: random.Random, kind: ObjectType) -> bytes | None:
    name = rng.choice(list(kind.fields))
    return _encoded({rng.choice([name + "z", name[:-1] + "\u00e9", "", "$where", "__proto__", "a" * 3000]): 1})


def dangling(rng: random.Random, kind: ObjectType) -> bytes | None:
    refs = [f for f in kind.fields.values() if (f.ref or (f.item and f.item.ref)) and not f.read_only]
    if not refs:
        return None
    field = rng.choice(refs)
    target = rng.choice(
        ["/api/pool/none", "?name=none", "https://[::1", "/api/user?name=none", "none", "x" * 5000, "/"]
    )
    return _encoded({field.name: [target] if field.kind == "array" else target})


def wrong_encoding(rng: random.Random, kind: ObjectType) -> bytes | None:
    return rng.choice(ENCODINGS)(json.dumps({"name": "x", "description": "xx"}))


def huge(rng: random.Random, kind: ObjectType) -> bytes | None:
    return _encoded({"name": "x" * HUGE_CHARACTERS})


def deep(rng: random.Random, kind: ObjectType) -> bytes | None:
    levels = rng.choice(DEEP_LEVELS)
    opening = rng.choice([b"[", b'{"name":'])
    return b'{"name": ' + opening * levels + b"1" + (b"]" if opening == b"[" else b"}") * levels + b"}"


def not_an_object(rng: random.Random, kind: ObjectType) -> bytes | None:
    return rng.choice([b"5", b'"x"', b"[]", b"true", b"[{}]", b" ", b"{", b"\x00", b"-", b'{"name"}'])


def _any_field(rng: random.Random, message: MessageType) -> tuple[list[Field], Field]:
    """A writable field at some depth, with the fields on the way."""
    path: list[Field] = []
    while True:
        field = rng.choice([f for f in message.fields.values() if not f.read_only and f.name not in ("url", "uuid")])
        path.append(field)
        if field.nested is None or rng.random() < 0.4 or not field.nested.fields:
            return path, field
        if all(f.read_only or f.name in ("url", "uuid") for f in field.nested.fields.values()):
            return path, field
        message = field.nested


def _nested(path: list[Field], value: Any) -> Any:
    """``value`` at the end of the path; a last array or message gets it as itself."""
    for field in reversed(path[1:]):
        value = {field.name: value}
        above = path[path.index(field) - 1]
        value = [value] if above.kind == "array" else value
    return {path[0].name: value}


def _encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


async def test_a_thousand_malformed_bodies_are_refused_with_a_reason_and_leave_nothing(tmp_path: Path) -> None:
    kinds = [k for k in load().types.values() if not (k.singleton or k.read_only or k.endpoint == "serviceengine")]
    async with api_world(tmp_path) as world:
        world.client.headers["Content-Type"] = "application/json"
        pool = await world.post("/api/pool", {"name": "kept"})
        before = (await world.store.list("/")).records
        for number in range(BODIES):
            rng = random.Random(SEED + number)
            kind = kinds[number % len(kinds)]
            method, path = rng.choice([("POST", f"/api/{kind.endpoint}")] * 4 + [("PUT", f"/api/pool/{pool['uuid']}")])
            body = next(wrong_bodies(rng, kind if method == "POST" else load().type("pool")))
            reply = await world.client.request(method, path, content=body)
            told = f"seed {SEED + number}: {method} {path} {body[:300]!r} -> {reply.status_code} {reply.text[:500]}"
            assert 400 <= reply.status_code < 500, told
            assert reply.status_code not in (401, 405), told
            error = reply.json()["error"]
            assert len(error) > 10 and error.isprintable() and "Traceback" not in error, told
        assert (await world.store.list("/")).records == before


async def test_malformed_patches_are_refused_too(tmp_path: Path) -> None:
    async with api_world(tmp_path) as world:
        pool = await world.post("/api/pool", {"name": "kept"})
        before = (await world.store.list("/")).records
        step = {"op": "replace", "path": "/servers/0/port", "value": 1}
        bodies: list[dict[str, Any]] = [
            {"add": 5},
            {"add": {"servers": 5}},
            {"add": {"servers": [5]}},
            {"add": {"nothing": 1}},
            {"replace": {"servers": "x"}},
            {"replace": {"vrf_ref": []}},
            {"update": {"name": {}}},
            {"replace": {"uuid": "x"}, "name": "y"},
            {"delete": []},
            {"json_patch": {}},
            {"json_patch": [5]},
            {"json_patch": [step]},
            {"json_patch": [{**step, "path": "servers"}]},
            {"json_patch": [{**step, "path": "/"}]},
            {"json_patch": [{**step, "path": "/name/x"}]},
            {"json_patch": [{**step, "op": []}]},
            {"json_patch": [{"op": "add", "path": "/description"}]},
            {"json_patch": [{"op": "remove", "path": "/name/0"}]},
            {"json_patch": [{**step, "path": "/servers/-9/port"}]},
            {"json_patch": [{**step, "path": "/servers/" + "9" * 5000}]},
            {},
        ]
        for body in bodies:
            reply = await world.client.patch(f"/api/pool/{pool['uuid']}", json=body)
            assert reply.status_code == 400, f"{body} -> {reply.status_code} {reply.text}"
            assert len(reply.json()["error"]) > 10
        assert (await world.store.list("/")).records == before
