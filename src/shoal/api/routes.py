"""Which paths there are, what answers each, and what it shows: one table, read by the router, the gate and the tests
that enumerate it."""

from __future__ import annotations

import enum
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from starlette.responses import Response

from shoal.errors import NotFound

from .errors import method_not_allowed

Answer = Callable[..., Awaitable[Response]]
_STEP = re.compile(r"\{([a-z]+)(\.\.\.)?\}")


class Shows(enum.Enum):
    """What an answer may tell. Every route says which; the tenants' test holds it to that."""

    NOTHING = "nothing that belongs to a tenant"
    OWN = "only what the caller sees of objects: the handler filters by `Context.sight`"
    SELF = "the caller's own account"
    ALL = "what belongs to all tenants together: refused to callers who do not see the whole"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """``path``: literal steps, ``{name}`` for one step or its part, a last ``{name...}`` for the rest. ``answer`` is
    called with the context and the steps by name. ``needs``: the permission it takes; "" = that of the object type in
    ``{type}`` (`shoal.api.gate`), ``-`` = none by its path: whoever is logged in may ask, and the handler looks at
    ``context.rights`` for what it answers; ``*`` = all of them, a superuser's."""

    methods: tuple[str, ...]
    path: str
    answer: Answer
    shows: Shows
    needs: str = ""
    writes: bool = True
    """Whether a POST needs write access; False for questions that are too long for a query."""


class Match(msgspec.Struct, frozen=True):
    route: Route
    steps: dict[str, str]


class Router:
    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._patterns = [(re.compile(_pattern(route.path)), route) for route in self.routes]

    def match(self, method: str, path: str) -> Match:
        """The first path that fits decides. Raises NotFound, NotAllowed."""
        first: Route | None = None
        for pattern, route in self._patterns:
            found = pattern.fullmatch(path)
            if found is None or (first is not None and route.path != first.path):
                continue
            if ("GET" if method == "HEAD" else method) in route.methods:
                return Match(route, found.groupdict())
            first = first or route
        if first is None:
            raise NotFound(f"There is nothing at {path[:120]!r}.")
        allowed = ", ".join(m for route in self.routes if route.path == first.path for m in route.methods)
        raise method_not_allowed(method, path.rpartition("/")[2][:80], allowed)


def _pattern(path: str) -> str:
    def group(found: re.Match[str]) -> str:
        return f"(?P<{found[1]}>.+)" if found[2] else f"(?P<{found[1]}>[^/]+?)"

    at, parts = 0, []
    for found in _STEP.finditer(path):
        parts += [re.escape(path[at : found.start()]), group(found)]
        at = found.end()
    return "".join([*parts, re.escape(path[at:])])


def steps_of(path: str) -> list[str]:
    """The names of a path's open steps."""
    return [found[1] for found in _STEP.finditer(path)]


def filled(path: str, **steps: Any) -> str:
    """A path with its open steps given."""
    return _STEP.sub(lambda found: str(steps[found[1]]), path)
