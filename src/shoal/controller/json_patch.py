"""``json_patch`` of a PATCH: the operations of RFC 6902 on JSON Pointers (RFC 6901).

One thing is laxer: what a document leaves out because it is unset can be replaced as if it were there.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from shoal.errors import Invalid, Problem
from shoal.objects.check import shown

OPERATIONS_MAX = 500
COPIED_VALUES_MAX = 2_000
"""A copy into itself doubles: without a bound a short patch would fill the memory."""
KNOWN = ("add", "remove", "replace", "move", "copy", "test")
APPEND = "-"
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
Steps = list[str]


class _Nowhere(Exception):
    """Why a pointer leads to nothing that can be had."""


def apply(document: dict[str, Any], operations: Any) -> set[str]:
    """Changes the document; returns the first-level fields it touched. Raises Invalid, naming the operation."""
    if not isinstance(operations, list) or len(operations) > OPERATIONS_MAX:
        raise Invalid([Problem(path="json_patch", why=f"must be a list of at most {OPERATIONS_MAX} operations")])
    touched: set[str] = set()
    for index, operation in enumerate(operations):
        where = f"json_patch[{index}]"
        if not isinstance(operation, Mapping):
            raise Invalid([Problem(path=where, why="must be an object with op and path")])
        touched |= _apply(document, operation, where)
    return touched


def _apply(document: dict[str, Any], operation: Mapping[str, Any], where: str) -> set[str]:
    op = operation.get("op")
    if op not in KNOWN:
        raise Invalid([Problem(path=f"{where}.op", value=shown(op), why=f"must be one of {', '.join(KNOWN)}")])
    steps = _pointer(operation, "path", where)
    if op in ("add", "replace", "test") and "value" not in operation:
        raise Invalid([Problem(path=f"{where}.value", why=f"required by {op}, and missing")])
    if op in ("move", "copy"):
        return _transfer(document, op, _pointer(operation, "from", where), steps, where)
    try:
        if op == "test":
            found = _get(document, steps)
            if found != operation["value"] or isinstance(found, bool) is not isinstance(operation["value"], bool):
                why = f"the test failed: it is {shown(found)}"
                raise Invalid([Problem(path=f"{where}.path", value=_text(steps), why=why)])
        elif op == "remove":
            _remove(document, steps)
        else:
            _put(document, steps, operation["value"], insert=op == "add")
    except _Nowhere as why:
        raise Invalid([Problem(path=f"{where}.path", value=_text(steps), why=str(why))]) from None
    return {steps[0]}


def _transfer(document: dict[str, Any], op: str, source: Steps, target: Steps, where: str) -> set[str]:
    if op == "move" and len(target) > len(source) and target[: len(source)] == source:
        raise Invalid([Problem(path=f"{where}.path", value=_text(target), why="lies in what is to be moved")])
    member, steps = "from", source
    try:
        found = _get(document, source)
        if op == "copy" and _values(found, COPIED_VALUES_MAX) > COPIED_VALUES_MAX:
            raise _Nowhere(f"more than {COPIED_VALUES_MAX} values can't be copied")
        value = copy.deepcopy(found)
        if op == "move":
            _remove(document, source)
        member, steps = "path", target
        _put(document, target, value, insert=True)
    except _Nowhere as why:
        raise Invalid([Problem(path=f"{where}.{member}", value=_text(steps), why=str(why))]) from None
    return {source[0], target[0]} if op == "move" else {target[0]}


def _pointer(operation: Mapping[str, Any], member: str, where: str) -> Steps:
    text = operation.get(member)
    if not isinstance(text, str) or not text.startswith("/") or text == "/":
        why = "must name a field, such as /servers/0/enabled"
        raise Invalid([Problem(path=f"{where}.{member}", value="" if text is None else shown(text), why=why)])
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def _text(steps: Steps) -> str:
    return shown("/" + "/".join(steps))


def _get(document: Any, steps: Steps) -> Any:
    for step in steps:
        if isinstance(document, list):
            document = document[_index(step, len(document) - 1)]
        elif isinstance(document, dict) and step in document:
            document = document[step]
        else:
            raise _Nowhere("nothing is there")
    return document


def _index(step: str, last: int) -> int:
    if not _INDEX.fullmatch(step):
        raise _Nowhere(f"{shown(step)} is no position in a list")
    if int(step) > last:
        raise _Nowhere(f"the list ends at {last}" if last >= 0 else "the list is empty")
    return int(step)


def _put(document: Any, steps: Steps, value: Any, *, insert: bool) -> None:
    parent, last = _get(document, steps[:-1]), steps[-1]
    if isinstance(parent, list) and insert:
        parent.insert(len(parent) if last == APPEND else _index(last, len(parent)), value)
    elif isinstance(parent, list):
        parent[_index(last, len(parent) - 1)] = value
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        raise _Nowhere("nothing is there")


def _remove(document: Any, steps: Steps) -> None:
    _get(document, steps)
    parent, last = _get(document, steps[:-1]), steps[-1]
    del parent[int(last) if isinstance(parent, list) else last]


def _values(value: Any, limit: int) -> int:
    """How many values it holds, counted to just past ``limit``."""
    count, level = 0, [value]
    while level and count <= limit:
        count += len(level)
        level = [child for item in level for child in _children(item)]
    return count


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
