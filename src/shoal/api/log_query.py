"""What of a log is asked for: filters ``op(field,value)``, times, pages (reference: api.md 7).

``op``: ``eq``, ``ne``, ``co`` (contains), ``nc``, ``sw`` (begins with), ``lt``, ``le``, ``gt``, ``ge``. ``value``: text or a
number, or a list ``[a,b]``, one of which must match (with ``ne`` and ``nc``: none). The field ``all`` is any of them.
Case doesn't matter. Several filters must all match.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request

from shoal.controller.day_files import Where
from shoal.errors import Invalid, Problem
from shoal.objects.check import meant, shown

from .inventory import moment, number

OPERATORS = ("eq", "ne", "co", "nc", "sw", "lt", "le", "gt", "ge")
NEGATED = {"ne": "eq", "nc": "co"}
ORDERED = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
ANY = "all"
FILTERS_MAX = 20
VALUES_MAX = 100
_FILTER = re.compile(r"\s*([a-z]{2})\(\s*([A-Za-z0-9_.]{1,64})\s*,(.*)\)\s*", re.DOTALL)


class Filter(msgspec.Struct, frozen=True):
    operator: str
    field: str
    values: tuple[str, ...]

    @property
    def numbers(self) -> list[float]:
        """Its values as numbers; none when one of them is no number."""
        try:
            return [float(value) for value in self.values]
        except ValueError:
            return []


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds since the epoch."""

    filters: tuple[Filter, ...]
    since: float
    until: float
    oldest_first: bool = False


def asked(request: Request, query: Mapping[str, str]) -> LogQuery:
    """Raises Invalid."""
    given = [item for item in request.query_params.getlist("filter") if item]
    if len(given) > FILTERS_MAX:
        raise Invalid([Problem(path="filter", why=f"at most {FILTERS_MAX} are taken")])
    since = moment("start", query["start"]) if query.get("start") else 0.0
    until = moment("end", query["end"]) if query.get("end") else float("inf")
    if query.get("duration") and not query.get("start"):
        since = min(until, time.time()) - number("duration", query["duration"])
    order = query.get("orderby") or "-report_timestamp"
    if order.lstrip("-+ ") not in ("report_timestamp", "timestamp"):
        why = "logs are ordered by time only"
        hint = "Give report_timestamp, or -report_timestamp for the newest first."
        raise Invalid([Problem(path="orderby", value=shown(order), why=why, hint=hint)])
    filters = tuple(understood(item) for item in given)
    return LogQuery(filters=filters, since=since, until=until, oldest_first=not order.startswith("-"))


def understood(text: str) -> Filter:
    """Raises Invalid."""
    found = _FILTER.fullmatch(text)
    if found is None or found[1] not in OPERATORS:
        why = f"must look like eq(response_code,[404,503]); operators are {', '.join(OPERATORS)}"
        raise Invalid([Problem(path="filter", value=shown(text), why=why)])
    value = found[3].strip()
    values = value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else [value]
    if len(values) > VALUES_MAX:
        raise Invalid([Problem(path="filter", value=shown(text), why=f"at most {VALUES_MAX} values are taken")])
    return Filter(found[1], found[2], tuple(_unquoted(one) for one in values))


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def where(
    asked: LogQuery,
    columns: Mapping[str, str],
    *more: tuple[str, Sequence[object]],
    inside: Callable[[str], str] = lambda name: "",
) -> Where:
    """The rows that are asked for. ``columns``: name -> SQL type; ``more``: further conditions and their values; ``inside(name)``:
    the expression for a text that is in no column of its own, "" = there is none. Raises Invalid for a field that is
    nowhere."""
    tests, values = [sql for sql, _ in more], [value for _, given in more for value in given]
    for filter in asked.filters:
        expression = filter.field if filter.field in columns else inside(filter.field)
        if filter.field != ANY and not expression:
            hint = meant(filter.field, columns) or f"Fields are: {', '.join(sorted(columns))}."
            raise Invalid([Problem(path="filter", value=shown(filter.field), why="is no field of this log", hint=hint)])
        sql, given = _sql(filter, columns, expression)
        tests.append(sql)
        values += given
    return Where(sql=" AND ".join(tests), values=tuple(values), since=asked.since, until=asked.until)


def _sql(filter: Filter, columns: Mapping[str, str], expression: str) -> tuple[str, list[Any]]:
    if filter.operator in NEGATED:
        sql, values = _sql(Filter(NEGATED[filter.operator], filter.field, filter.values), columns, expression)
        return f"NOT coalesce({sql}, 0)", values
    names = [expression] if filter.field != ANY else list(columns)
    tests: list[str] = []
    values = []
    for name in names:
        for test, value in _column(filter, name, numeric=columns.get(name) == "NUMERIC"):
            tests.append(test)
            values.append(value)
    return f"({' OR '.join(tests) or '0'})", values


def _column(filter: Filter, name: str, *, numeric: bool) -> Collection[tuple[str, object]]:
    text = f"lower(cast({name} AS TEXT))"
    if filter.operator in ORDERED:
        return [(f"{name} {ORDERED[filter.operator]} ?", value) for value in filter.numbers] if numeric else []
    if filter.operator == "co":
        return [(f"instr({text}, ?) > 0", value.lower()) for value in filter.values]
    if filter.operator == "sw":
        return [(f"instr({text}, ?) = 1", value.lower()) for value in filter.values]
    if numeric:
        words = {"true": 1.0, "false": 0.0}
        found = [words.get(value.lower()) for value in filter.values]
        return [(f"{name} = ?", value) for value in [*filter.numbers, *(word for word in found if word is not None)]]
    return [(f"{text} = ?", value.lower()) for value in filter.values]
