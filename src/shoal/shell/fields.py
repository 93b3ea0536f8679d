"""Fields in words: what they take, what a typed value means."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from typing import Any

from shoal.errors import Invalid, Problem
from shoal.objects import Field, MessageType
from shoal.objects.check import meant

Document = dict[str, Any]
ADDRESS = "IpAddr"
DERIVED = {
    "SSLCertificate": ("certificate", frozenset({
        "subject", "issuer", "not_before", "not_after", "serial_number", "fingerprint", "signature_algorithm", "self_signed",
        "public_key", "version", "subject_alt_names", "days_until_expire", "expiry_status", "key_params",
    })),
    "CRL": ("body", frozenset({"distinguished_name", "common_name", "last_update", "next_update", "fingerprint"})),
}  # fmt: skip
"""Message -> the member that others follow from, and those."""
UNIT_WORDS = {"SEC": "sec", "MIN": "min", "PERCENT": "percent"}
REFERENCE_PREFIXES = ("/api/", "https://", "http://")


def given(message: MessageType, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without what the controller has read out of a certificate: it follows from that, and some of it from the day."""
    source, derived = DERIVED.get(message.name, ("", frozenset()))
    if not document.get(source):
        return document
    return {name: value for name, value in document.items() if name not in derived}


def help_of(field: Field, *, idle: bool = False) -> str:
    """``integer, 1..600 sec, default 30``; ``idle``: setting it does nothing yet."""
    item = field.item or field
    parts = [
        _kind(field),
        "" if item.enum or item.allowed else item.choices() or field.choices(),
        f"in {_unit(field)}" if field.unit and not item.range and not field.range else "",
        f"default {_shown(field.default)}" if field.default not in (None, "", []) else "",
        "required" if field.required else "",
        "secret" if field.sensitive else "",
        f"deprecated since {field.deprecated}" if field.deprecated else "",
        "no effect yet" if idle else "",
    ]
    return ", ".join(part for part in parts if part)


def _kind(field: Field) -> str:
    item = field.item or field
    if field.nested is not None:
        return f"list of {field.nested.name}" if field.item else f"settings ({field.nested.name})"
    if item.ref:
        return f"names of {item.ref}" if field.item else f"name of a {item.ref}"
    word = "choice" if item.enum else "text" if item.kind == "string" else item.kind
    return f"list of {word}" if field.item else word


def _unit(field: Field) -> str:
    return UNIT_WORDS.get(field.unit, field.unit.lower().replace("_", " "))


def _shown(value: Any) -> str:
    return str(value) if not isinstance(value, list | dict) else json.dumps(value)


def placeholder(field: Field) -> str:
    """What stands for the value of a field that has no choices."""
    item = field.item or field
    if field.nested is not None and field.nested.name == ADDRESS:
        return "ADDRESS"
    return "NUMBER" if item.kind in ("integer", "number") else "WORD"


def parsed(field: Field, text: str) -> Any:
    """The value a word means for a field; the controller checks ranges, this only types. Raises Invalid."""
    match field.kind:
        case "integer" | "number":
            try:
                return int(text) if field.kind == "integer" else float(text)
            except ValueError:
                why = f"must be a {'whole ' if field.kind == 'integer' else ''}number"
                raise Invalid([Problem(path=field.name, value=text[:60], why=why, hint=_takes(field))]) from None
        case "boolean":
            if text.lower() not in ("true", "false"):
                raise Invalid([Problem(path=field.name, value=text[:60], why="must be true or false")])
            return text.lower() == "true"
    if field.enum:
        if text.upper() not in field.enum:
            hint = meant(text.upper(), field.enum)
            raise Invalid([Problem(path=field.name, value=text[:60], why=f"must be {field.choices()}", hint=hint)])
        return text.upper()
    if field.ref and text and not text.startswith(REFERENCE_PREFIXES):
        return reference(field, text)
    return text


def _takes(field: Field) -> str:
    return f"It takes {field.choices()}." if field.choices() else ""


def reference(field: Field, name: str) -> str:
    """To the object of that name."""
    return f"/api/{field.ref.lower()}/?name={name}"


def name_in(reference: str) -> str:
    """The object's name in a reference as the controller or an operator writes it; "" if it has none."""
    _, mark, name = reference.partition("#")
    return name if mark else reference.partition("?name=")[2]


def address(text: str) -> Document | None:
    """An IpAddr; None if the text is none."""
    try:
        return {"addr": text, "type": f"V{ipaddress.ip_address(text).version}"}
    except ValueError:
        return None


def addresses(field: Field, words: list[str]) -> list[Document]:
    """``ip 10.1.1.1`` means an IpAddr with its type; empty when the words are something else."""
    if field.nested is None or field.nested.name != ADDRESS or (len(words) > 1 and field.item is None):
        return []
    found = [address(word) for word in words]
    return [one for one in found if one is not None] if all(found) else []


def choices(field: Field, present: Any) -> str:
    """What a field takes, the present value marked. Nothing is changed by asking."""
    item = field.item or field
    here = present if isinstance(present, list) else [present]
    lines = [f"{field.name}: " + ("give one of these values" if item.enum else "a value is required")]
    if item.enum:
        lines += [f"  {'*' if value in here else ' '} {value}" for value in item.enum]
    else:
        lines.append(f"  {help_of(field)}")
        if present is not None:
            shown = (name_in(one) or one if item.ref and isinstance(one, str) else one for one in here)
            lines.append(f"  present value: {', '.join(map(str, shown))}")
    return "\n".join(lines)
