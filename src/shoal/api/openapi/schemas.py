"""JSON Schemas of the object model. Each message has two: what a client may send (``<name>.write``, of objects for PUT
``<name>.replace``: strict, and null means left out) and what is answered (``<name>``: later releases may add members)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shoal.objects import Field, MessageType, ObjectType
from shoal.objects.structs import INT_BOUNDS, special_numbers
from shoal.objects.types import IDENTITY, SENSITIVE_MASK, SERVER_MADE

Schema = dict[str, Any]
WRITE, REPLACE = ".write", ".replace"
NAME_CHARACTERS_MAX = 256
IDENTIFIED = ("uuid", "url")
"""What every answer of an object has."""


class Schemas:
    """Collects the components that what is described refers to."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def answered(self, message: MessageType) -> Schema:
        """The reference to the schema of a message in an answer."""
        if message.name not in self.components:
            self.components[message.name] = {}  # messages have no cycles, but are met several times
            properties = {name: self._answered(field) for name, field in message.fields.items()}
            self.components[message.name] = {"type": "object", "properties": properties}
        return _reference(message.name)

    def sent(self, message: MessageType) -> Schema:
        """The reference to the schema of a message in a request."""
        name = message.name + WRITE
        if name not in self.components:
            self.components[name] = {}
            self.components[name] = self._strict(message.fields.values())
        return _reference(name)

    def document(self, kind: ObjectType) -> Schema:
        """An object as it is answered: with its identity, which the same message has not where it lies in another object."""
        self.answered(kind.message)
        own = self.components[kind.name]
        for name in IDENTIFIED:
            own["properties"].setdefault(name, {"type": "string"})
        return {"allOf": [_reference(kind.name), {"required": list(IDENTIFIED)}]}

    def body(self, kind: ObjectType) -> Schema:
        """An object as it is sent with POST."""
        name = kind.name + WRITE
        if name not in self.components:
            schema = self._strict(kind.fields.values())
            made: dict[str, Schema] = {
                name: {} for name in sorted(SERVER_MADE | {"uuid", "url"}) if name not in schema["properties"]
            }
            schema["properties"] |= made  # accepted back, and dropped
            if "name" in kind.fields and not kind.singleton:
                limits = {"minLength": 1, "maxLength": NAME_CHARACTERS_MAX, "pattern": r"^[!-~]([ -~]*[!-~])?$"}
                schema["properties"]["name"] = {"type": "string", **limits}
            self.components[name] = schema
        return _reference(name)

    def replacement(self, kind: ObjectType) -> Schema:
        """An object as it is sent with PUT: what says which it is may be left out, and is kept then."""
        name = kind.name + REPLACE
        if name not in self.components:
            self.body(kind)
            whole = self.components[kind.name + WRITE]
            required = [field for field in whole.get("required", ()) if field not in IDENTITY]
            self.components[name] = {**whole, "required": required}
        return _reference(name)

    def _strict(self, fields: Iterable[Field]) -> Schema:
        properties: dict[str, Schema] = {}
        required: list[str] = []
        for field in fields:
            needed = field.required and not field.read_only and not field.has_default
            properties[field.name] = {} if field.read_only else _nullable(self._sent(field), needed=needed)
            if needed:
                required.append(field.name)
        schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        return {**schema, "required": required} if required else schema

    def _sent(self, field: Field) -> Schema:
        if field.kind == "message" and field.message is not None:
            return self.sent(field.message)
        if field.kind == "array" and field.item is not None:
            bounds = {"minItems": field.min_items, "maxItems": field.max_items}
            kept = {name: bound for name, bound in bounds.items() if bound is not None}
            return {"type": "array", "items": self._sent(field.item), **kept}
        return _scalar(field)

    def _answered(self, field: Field) -> Schema:
        if field.kind == "message" and field.message is not None:
            return self.answered(field.message)
        if field.kind == "array" and field.item is not None:
            return {"type": "array", "items": self._answered(field.item)}
        if field.sensitive:
            return {"type": "string", "enum": ["", SENSITIVE_MASK]}
        return _scalar(field)


def _scalar(field: Field) -> Schema:
    match field.kind:
        case "boolean":
            schema: Schema = {"type": "boolean"}
        case "integer" | "number":
            schema = _number(field)
        case _:
            schema = {"type": "string", "enum": list(field.enum)} if field.enum else {"type": "string"}
    if field.has_default and field.default is not None:
        schema["default"] = field.default
    if field.ref:
        schema["description"] = f"A reference to a {field.ref}: URL, path with uuid, or ?name="
        schema["x-refers-to"] = field.ref
    elif field.unit:
        schema["description"] = f"Unit: {field.unit}"
    if field.deprecated:
        schema["deprecated"] = True
    return schema


def _number(field: Field) -> Schema:
    if field.allowed:
        return {"type": field.kind, "enum": list(field.allowed)}
    low, high = INT_BOUNDS.get(field.format, INT_BOUNDS["int64"]) if field.kind == "integer" else (None, None)
    if field.range:
        whole = field.kind == "integer"
        low, high = (int(bound) if whole else bound for bound in field.range)  # type: ignore[assignment]
    within: Schema = {"type": field.kind}
    if low is not None and high is not None:
        within |= {"minimum": low, "maximum": high}
    outside = [int(value) if field.kind == "integer" else value for value in special_numbers(field)]
    return {"anyOf": [within, {"enum": outside}]} if outside else within


def _nullable(schema: Schema, *, needed: bool) -> Schema:
    """Null is the same as left out."""
    if needed:
        return schema
    if isinstance(schema.get("type"), str) and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
