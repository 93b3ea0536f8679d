"""JSON Patch (RFC 6902) on documents, with the appendix's examples where they apply."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.controller import json_patch
from shoal.errors import Invalid


def patched(document: dict[str, Any], *operations: dict[str, Any]) -> dict[str, Any]:
    json_patch.apply(document, list(operations))
    return document


@pytest.mark.parametrize(
    "document, operation, after",
    [
        ({"a": 1}, {"op": "add", "path": "/b", "value": 2}, {"a": 1, "b": 2}),
        ({"a": [1, 3]}, {"op": "add", "path": "/a/1", "value": 2}, {"a": [1, 2, 3]}),
        ({"a": [1]}, {"op": "add", "path": "/a/1", "value": 2}, {"a": [1, 2]}),
        ({"a": [1]}, {"op": "add", "path": "/a/-", "value": 2}, {"a": [1, 2]}),
        ({"a": [1, 2]}, {"op": "remove", "path": "/a/0"}, {"a": [2]}),
        ({"a": [1, 2]}, {"op": "replace", "path": "/a/1", "value": 3}, {"a": [1, 3]}),
        ({}, {"op": "replace", "path": "/a", "value": 3}, {"a": 3}),
        ({"a": {"b": 1}, "c": {}}, {"op": "move", "from": "/a/b", "path": "/c/d"}, {"a": {}, "c": {"d": 1}}),
        ({"a": [1, 2, 3]}, {"op": "move", "from": "/a/1", "path": "/a/2"}, {"a": [1, 3, 2]}),
        ({"a": [1, 2]}, {"op": "copy", "from": "/a/0", "path": "/a/-"}, {"a": [1, 2, 1]}),
        ({"m~n/o": 1}, {"op": "test", "path": "/m~0n~1o", "value": 1}, {"m~n/o": 1}),
    ],
)
def test_operations(document: dict[str, Any], operation: dict[str, Any], after: dict[str, Any]) -> None:
    assert patched(document, operation) == after


@pytest.mark.parametrize(
    "operation, path, why",
    [
        ({"op": "add", "path": "/a/3", "value": 1}, "path", "the list ends at 2"),
        ({"op": "replace", "path": "/a/2", "value": 1}, "path", "the list ends at 1"),
        ({"op": "remove", "path": "/a/2"}, "path", "the list ends at 1"),
        ({"op": "remove", "path": "/a/-"}, "path", "is no position"),
        ({"op": "remove", "path": "/a/-1"}, "path", "is no position"),
        ({"op": "add", "path": "/a/01", "value": 1}, "path", "is no position"),
        ({"op": "remove", "path": "/x"}, "path", "nothing is there"),
        ({"op": "add", "path": "/x/y", "value": 1}, "path", "nothing is there"),
        ({"op": "add", "path": "/n/y", "value": 1}, "path", "nothing is there"),
        ({"op": "copy", "from": "/a/9", "path": "/a/0"}, "from", "the list ends at 1"),
        ({"op": "move", "from": "/o", "path": "/o/p"}, "path", "lies in what is to be moved"),
        ({"op": "move", "path": "/a/0"}, "from", "must name a field"),
        ({"op": "add", "path": "a/0", "value": 1}, "path", "must name a field"),
        ({"op": "add", "path": "", "value": 1}, "path", "must name a field"),
        ({"op": "add", "path": "/a/0"}, "value", "required by add"),
        ({"op": "test", "path": "/n", "value": True}, "path", "the test failed"),
        ({"op": "append", "path": "/a"}, "op", "must be one of"),
        ({"op": ["add"], "path": "/a"}, "op", "must be one of"),
    ],
)
def test_what_leads_nowhere_is_refused_and_named(operation: dict[str, Any], path: str, why: str) -> None:
    with pytest.raises(Invalid) as caught:
        patched({"a": [1, 2], "n": 1, "o": {}}, operation)
    (problem,) = caught.value.problems
    assert problem.path == f"json_patch[0].{path}" and why in problem.why


def test_what_it_touches() -> None:
    document: dict[str, Any] = {"a": [1], "b": [2]}
    move, copied = {"op": "move", "from": "/a/0", "path": "/b/-"}, {"op": "copy", "from": "/b/0", "path": "/c"}
    assert json_patch.apply(document, [move, copied]) == {"a", "b", "c"}
    odd: Any
    for odd in ({}, "x", [5], [{}] * 501):
        with pytest.raises(Invalid):
            json_patch.apply(document, odd)


def test_copies_into_themselves_have_a_bound() -> None:
    with pytest.raises(Invalid, match="can't be copied"):
        patched({"a": [0, 1]}, *[{"op": "copy", "from": "/a", "path": "/a/-"}] * 400)
