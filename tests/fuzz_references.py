"""What schemathesis loads beside the API's document: references and uuids lead to what is there, seven times in eight.

At random nearly every reference leads nowhere, and what a service does with its VIP, pool and profiles is never asked.
`tests.fuzz_api` keeps the file that says what is there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st

from shoal.objects import load

THERE = Path(os.environ["SHOAL_FUZZ_THERE"])
"""Type -> uuids, as JSON."""
LEFT_ALONE = ("user", "role", "useraccountprofile", "tenant", "authprofile", "cloud")
"""Whoever asks is a user by these: they are referred to, and not changed by their uuid."""
NEEDED = ("services", "vsvip_ref")
"""Of a virtual service that is no child of another: the document can't say so, and without these nothing else is looked at."""
Document = dict[str, Any]


class There:
    """The file as it is now; what it said before, while it is being written."""

    def __init__(self) -> None:
        self._at = 0
        self._found: dict[str, list[str]] = {}

    def uuid(self, type: str, number: int) -> str:
        if (at := THERE.stat().st_mtime_ns) != self._at:
            self._at, self._found = at, json.loads(THERE.read_text())
        found = self._found.get(type) or ["nowhere"]
        return found[number % len(found)]


def strategies(there: There, type: str) -> tuple[st.SearchStrategy[str], st.SearchStrategy[str]]:
    """(references, uuids)."""
    uuids = st.integers(0, 999).map(lambda number: there.uuid(type, number))
    references = uuids.map(lambda uuid: f"/api/{type}/{uuid}")
    some = st.text(max_size=20)
    return st.one_of(*[references] * 7, some), st.one_of(*[uuids] * 7, some)


for endpoint in load().types:
    references, uuids = strategies(There(), endpoint)
    schemathesis.openapi.format(f"reference-{endpoint}", references)
    schemathesis.openapi.format(f"uuid-{endpoint}", uuids)


def _certain(schema: Document) -> Document:
    """Without the null that means left out."""
    return {**schema, "type": next(type for type in schema["type"] if type != "null")}


def _marked(node: Any) -> None:
    """Strings of references get the format that generates them."""
    if isinstance(node, dict):
        if isinstance(node.get("x-refers-to"), str):
            node["format"] = f"reference-{node['x-refers-to'].lower()}"
        for value in node.values():
            _marked(value)
    elif isinstance(node, list):
        for value in node:
            _marked(value)


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: Document) -> None:
    schemas = raw_schema["components"]["schemas"]
    _marked(schemas)
    service, port = schemas["VirtualService.write"], schemas["Service.write"]["properties"]
    service["required"] = sorted({*service.get("required", ()), *NEEDED})
    service["properties"] |= {"services": {**_certain(service["properties"]["services"]), "minItems": 1}}
    service["properties"] |= {"vsvip_ref": _certain(service["properties"]["vsvip_ref"])}
    port |= {"port": {"type": "integer", "minimum": 1, "maximum": 65_535}}
    for path, item in raw_schema["paths"].items():
        words = path.split("/")
        if words[3:4] == ["{uuid}"] and words[2] not in LEFT_ALONE:
            for parameter in item["parameters"]:
                if parameter["name"] == "uuid":
                    parameter["schema"] = {**parameter["schema"], "format": f"uuid-{words[2]}"}
