"""Paths and operations, from the table of routes: a route that is added is in the document without further ado, and says
more where it is named here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from shoal import API_VERSION
from shoal.controller.metric_ids import ENTITY_TYPES
from shoal.controller.operations import KINDS as OPERATIONS
from shoal.controller.patch import OPERATORS
from shoal.objects import ObjectType, Registry

from ..routes import Route, steps_of
from .schemas import Schema, Schemas

JSON, TEXT = "application/json", "text/plain"
DONE_BY_THE_API = (("serviceenginegroup", "rebalance"),)
READ_REFUSALS, WRITE_REFUSALS = (400, 401, 403, 404, 405, 503), (400, 401, 403, 404, 405, 409, 412, 413, 429, 503)
UUID: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"}
WORD: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,60}$"}
OBJECT: Schema = {"type": "object"}
PATH_STEPS: dict[str, Schema] = {
    "uuid": UUID,
    "kind": {"type": "string", "enum": list(ENTITY_TYPES)},
    "token": UUID,
    "file": WORD,
}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a route takes and gives, beyond its path. ``status`` None: 200."""

    summary: str
    query: tuple[tuple[str, Schema], ...] = ()
    body: Schema | None = None
    body_required: bool = True
    takes: str = JSON
    gives: Schema | None = None
    media: str = JSON
    status: int = 200
    also: tuple[int, ...] = ()
    """Other statuses of success."""


def _whole(least: int) -> Schema:
    return {"anyOf": [{"type": "integer", "minimum": least, "maximum": 999_999_999}, {"const": ""}]}


FLAG: Schema = {"type": "string", "description": "Counts by its presence, whatever its value."}
OBJECT_QUERY = (("include_name", FLAG), ("skip_default", FLAG), ("fields", {"type": "string"}))
LIST_QUERY = (
    ("page", _whole(1)),
    ("page_size", {**_whole(1), "description": "More than 200 counts as 200."}),
    ("limit_by", _whole(0)),
    ("name", {"type": "string"}),
    ("uuid", {"type": "string"}),
    ("search", {"type": "string"}),
    ("isearch", {"type": "string"}),
    ("sort", {"type": "string"}),
    *OBJECT_QUERY,
)
MEASURED = (
    ("metric_id", {"type": "string"}),
    ("step", {"anyOf": [{"type": "integer"}, {"const": ""}]}),
    ("limit", _whole(1)),
    ("start", {"type": "string"}),
    ("stop", {"type": "string"}),
    ("pad_missing_data", {"type": "string"}),
)
LIST: Schema = {
    "type": "object",
    "properties": {"count": {"type": "integer"}, "results": {"type": "array"}, "next": {"type": "string"}},
    "required": ["count", "results"],
}
TREE: Schema = {
    "type": "object",
    "properties": {"model_name": {"type": "string", "minLength": 1}, "data": OBJECT},
    "required": ["model_name", "data"],
    "additionalProperties": False,
}
WRITES: Schema = {
    "type": "object",
    "properties": {
        "changes": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "method": {"type": "string", "enum": ["POST", "PATCH", "DELETE"]},
                    "type": {"type": "string"},
                    "uuid": {"type": "string", "description": "Of what is changed or deleted."},
                    "body": OBJECT,
                },
                "required": ["method", "type"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["changes"],
    "additionalProperties": False,
}
RESULTS: Schema = {"type": "object", "properties": {"results": {"type": "array"}}, "required": ["results"]}
PASSWORDS: Schema = {
    "type": "object",
    "properties": {"old_password": {"type": "string"}, "password": {"type": "string"}},
    "required": ["old_password", "password"],
}
ANSWERS: dict[tuple[str, str], Answer] = {
    ("GET", "/metrics"): Answer(summary="Totals for Prometheus", gives={"type": "string"}, media=TEXT),
    ("GET", "/api/useraccount"): Answer(summary="The own account", gives=OBJECT),
    ("PUT", "/api/useraccount"): Answer(summary="Change the own password", body=PASSWORDS),
    ("POST", "/api/macro"): Answer(summary="Create a tree of objects", body=TREE, gives=OBJECT, status=201),
    ("PUT", "/api/macro"): Answer(summary="Replace a tree of objects", body=TREE, gives=OBJECT),
    ("DELETE", "/api/macro"): Answer(summary="Delete a tree of objects", body=TREE, status=204),
    ("POST", "/api/changes"): Answer(summary="Several writes, all of them or none", body=WRITES, gives=RESULTS),
    ("GET", "/api/analytics/logs"): Answer(
        summary="Events, the audit trail and logs",
        query=(
            ("type", {"type": "string", "enum": ["0", "1", "2"]}),
            ("filter", {"type": "string"}),
            ("page", _whole(1)),
            ("page_size", _whole(1)),
            ("start", {"type": "string"}),
            ("end", {"type": "string"}),
            ("duration", {"type": "string"}),
        ),
        gives=LIST,
    ),
    ("GET", "/api/analytics/metric_id"): Answer(summary="Which metrics there are", gives=LIST),
    ("GET", "/api/analytics/metrics/{kind}"): Answer(summary="Measured history", query=MEASURED, gives=OBJECT),
    ("GET", "/api/analytics/metrics/{kind}/{uuid}"): Answer(summary="Measured history", query=MEASURED, gives=OBJECT),
    ("POST", "/api/analytics/metrics/collection"): Answer(
        summary="Measured history, several questions at once",
        body={
            "type": "object",
            "properties": {"metric_requests": {"type": "array", "items": OBJECT, "minItems": 1}},
            "required": ["metric_requests"],
        },
        gives=OBJECT,
    ),
    ("POST", "/api/whatif"): Answer(summary="What failures and edits would come to", body=OBJECT, gives=OBJECT),
    ("POST", "/api/upgrade"): Answer(
        summary="Start the engines of groups anew, one after another", body=OBJECT, gives=OBJECT
    ),
    ("POST", "/api/fileobject/upload"): Answer(
        summary="A file about addresses, as a FileObject of that name",
        takes="multipart/form-data",
        body={
            "type": "object",
            "properties": {
                "file": {"type": "string", "format": "binary"},
                "name": {"type": "string"},
                "type": {"enum": ["GEO_DB", "IP_REPUTATION"]},
                "description": {"type": "string"},
                "version": {"type": "string"},
            },
            "required": ["file", "type"],
            "additionalProperties": False,
        },
        gives=OBJECT,
        status=201,
        also=(200,),
    ),
    ("GET", "/api/stream"): Answer(summary="What changes, as it changes", media="text/event-stream"),
}
OPEN = {
    "/api/initial-data": "Version and session cookie",
    "/api/cluster/status": "Whether the controller is up",
    "/api/cluster/runtime": "The controller's nodes",
    "/api/openapi.json": "This document",
}
"""Readable without login."""


def document(registry: Registry, routes: Iterable[Route], below: Iterable[tuple[str, str]]) -> Schema:
    """The whole of it. ``below``: (type, what) of what can be read and done below an object."""
    made = _Document(registry, below)
    for path, summary in OPEN.items():
        made.add(path, "GET", Answer(summary=summary, gives=OBJECT), tag="controller", free=True)
    for route in routes:
        for path, method, answer, tag in made.operations(route):
            made.add(path, method, answer, tag)
    return made.whole()


class _Document:
    def __init__(self, registry: Registry, below: Iterable[tuple[str, str]]) -> None:
        self._registry = registry
        self._beneath = sorted({*below, *DONE_BY_THE_API})
        self._schemas = Schemas()
        self._paths: dict[str, dict[str, Any]] = {}

    def whole(self) -> Schema:
        problem = {name: {"type": "string"} for name in ("path", "value", "why", "hint")}
        error = {
            "type": "object",
            "properties": {
                "error": {"type": "string"},
                "problems": {"type": "array", "items": {"type": "object", "properties": problem}},
            },
            "required": ["error"],
        }
        text = {"description": "Refused", "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
        plain = {**text, "content": {**text["content"], TEXT: {"schema": {"type": "string"}}}}  # type: ignore[dict-item]
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Shoal",
                "version": API_VERSION,
                "description": "Clients of Avi Vantage / NSX ALB talk to it as they are. `X-Avi-Version` says which "
                "version a request speaks, `X-Avi-Tenant` (or `X-Avi-Tenant-UUID`) for which tenant. Instead of "
                "`<x>_ref` a body may give `<x>_name`. Basic authentication goes everywhere, once the system configuration "
                "allows it.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": self._paths,
            "components": {
                "schemas": {**self._schemas.components, "Error": error},
                "responses": {"Refused": text, "Unauthenticated": plain},
                "securitySchemes": {
                    "session": {"type": "apiKey", "in": "cookie", "name": "avi-sessionid"},
                    "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRFToken"},
                    "basic": {"type": "http", "scheme": "basic"},
                },
            },
        }

    # --- routes to operations ---

    def operations(self, route: Route) -> Iterator[tuple[str, str, Answer, str]]:
        """(path, method, answer, tag)."""
        match route.path:
            case "/api/{type}":
                for kind in self._types():
                    yield from self._of_collection(kind)
            case "/api/{type}/{uuid}":
                for kind in self._types():
                    yield from self._of_object(kind)
            case "/api/{type}/{uuid}/{what...}":
                yield from self._below()
            case path:
                for method in route.methods:
                    answer = ANSWERS.get((method, path)) or _plain(method, path)
                    yield path, method, answer, path.split("/")[2] if path.startswith("/api/") else "controller"

    def _types(self) -> Iterator[ObjectType]:
        special = ("useraccount",)
        return (kind for kind in self._registry.types.values() if kind.endpoint not in special)

    def _of_collection(self, kind: ObjectType) -> Iterator[tuple[str, str, Answer, str]]:
        path, tag = f"/api/{kind.endpoint}", kind.endpoint
        if path.endswith("-inventory"):
            return
        if kind.singleton:
            yield from self._one(kind, path, ("GET", "PUT", "PATCH"))
            return
        results: Schema = {"type": "array", "items": self._schemas.document(kind)}
        page: Schema = {**LIST, "properties": {**LIST["properties"], "results": results}}
        yield path, "GET", Answer(summary=f"List {kind.name} objects", query=LIST_QUERY, gives=page), tag
        if not kind.read_only:
            made = self._schemas.document(kind)
            body = self._schemas.body(kind)
            yield path, "POST", Answer(summary=f"Create a {kind.name}", body=body, gives=made, status=201), tag

    def _of_object(self, kind: ObjectType) -> Iterator[tuple[str, str, Answer, str]]:
        if kind.endpoint.endswith("-inventory"):
            return
        methods = ("GET",) if kind.read_only else ("GET", "PUT", "PATCH")
        path = f"/api/{kind.endpoint}/{{uuid}}"
        yield from self._one(kind, path, methods)
        if not kind.read_only and not kind.singleton:
            yield path, "DELETE", Answer(summary=f"Delete a {kind.name}", status=204), kind.endpoint

    def _one(self, kind: ObjectType, path: str, methods: Sequence[str]) -> Iterator[tuple[str, str, Answer, str]]:
        found, tag = self._schemas.document(kind), kind.endpoint
        for method in methods:
            match method:
                case "GET":
                    yield path, method, Answer(summary=f"A {kind.name}", query=OBJECT_QUERY, gives=found), tag
                case "PUT":
                    body = self._schemas.replacement(kind)
                    yield path, method, Answer(summary=f"Replace a {kind.name}", body=body, gives=found), tag
                case "PATCH":
                    yield path, method, Answer(summary=f"Change a {kind.name}", body=_patch(kind), gives=found), tag

    def _below(self) -> Iterator[tuple[str, str, Answer, str]]:
        for type, what in self._beneath:
            path, summary = f"/api/{type}/{{uuid}}/{what}", f"{what} of a {type}"
            if (type, what) in (*OPERATIONS, *DONE_BY_THE_API):
                yield path, "POST", Answer(summary=summary, body=OBJECT, body_required=False, gives=OBJECT), type
            else:
                yield path, "GET", Answer(summary=summary), type
        capture = Answer(
            summary="Packets of a virtual service, as they come",
            body=OBJECT,
            body_required=False,
            media="application/x-pcapng",
        )
        yield "/api/virtualservice/{uuid}/capture", "POST", capture, "virtualservice"

    # --- one operation ---

    def add(self, path: str, method: str, answer: Answer, tag: str, *, free: bool = False) -> None:
        item = self._paths.setdefault(path, {})
        steps = steps_of(path)
        if steps and "parameters" not in item:
            item["parameters"] = [
                {"name": step, "in": "path", "required": True, "schema": PATH_STEPS.get(step, WORD)} for step in steps
            ]
        operation: Schema = {
            "operationId": _id(method, path),
            "summary": answer.summary,
            "tags": [tag],
            "responses": _responses(method, answer, free=free),
        }
        if not free:
            session: Schema = {"session": []} if method == "GET" else {"session": [], "csrf": []}
            operation["security"] = [session, {"basic": []}] if path == "/metrics" else [session]
        if answer.query:
            operation["parameters"] = [{"name": n, "in": "query", "schema": schema} for n, schema in answer.query]
        if answer.body is not None:
            operation["requestBody"] = {
                "required": answer.body_required,
                "content": {answer.takes: {"schema": answer.body}},
            }
        item[method.lower()] = operation


def _responses(method: str, answer: Answer, *, free: bool) -> Schema:
    good: Schema = {"description": "Done"}
    if answer.gives is not None or answer.media != JSON:
        content = {"schema": answer.gives} if answer.gives is not None else {}
        good["content"] = {answer.media: content}
    elif method == "GET":
        good["content"] = {answer.media: {}}
    if answer.status == 201:
        good["headers"] = {"Location": {"schema": {"type": "string"}}}
    refusals = [405] if free else READ_REFUSALS if method == "GET" else WRITE_REFUSALS
    found: Schema = {str(answer.status): good}
    found |= {str(status): {"description": "Done"} for status in answer.also}
    for status in refusals:
        name = "Unauthenticated" if status == 401 else "Refused"
        found[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return found


def _patch(kind: ObjectType) -> Schema:
    fields: Schema = {"type": "object", "propertyNames": {"enum": sorted(kind.fields)}}
    operators: dict[str, Schema] = {name: fields for name in OPERATORS if name != "json_patch"}
    operation = {
        "type": "object",
        "properties": {
            "op": {"enum": ["add", "remove", "replace", "move", "copy", "test"]},
            "path": {"type": "string", "pattern": "^/"},
        },
        "required": ["op", "path"],
    }
    return {
        "type": "object",
        "properties": {**operators, "json_patch": {"type": "array", "items": operation}},
        "additionalProperties": False,
        "minProperties": 1,
    }


def _plain(method: str, path: str) -> Answer:
    """Of a route that nothing more is said about."""
    body = OBJECT if method in ("POST", "PUT", "PATCH") else None
    return Answer(
        summary=f"{method} {path}", body=body, body_required=False, gives=None, also=(201, 204) if body else ()
    )


def _id(method: str, path: str) -> str:
    words = [word.strip("{}") for word in path.removeprefix("/api/").strip("/").split("/")]
    return "_".join([method.lower(), *(word.replace(".", "_").replace("-", "_") for word in words)])
