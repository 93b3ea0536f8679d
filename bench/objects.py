"""Loading all object types; validating and encoding a full ServiceEngineGroup."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import msgspec

from shoal.objects import Field, load, structs

ROUNDS = 5_000
LOAD = "import time; t=time.perf_counter(); from shoal.objects import load; load(); print((time.perf_counter()-t)*1e3)"


def sample(field: Field) -> Any:
    """A valid value of a scalar field."""
    if field.has_default:
        return field.default
    if field.kind == "string":
        return field.enum[0] if field.enum else "value"
    if field.kind in ("integer", "number"):
        return int(field.range[0]) if field.range else 1
    return True if field.kind == "boolean" else None


def main() -> None:
    kind = load().type("serviceenginegroup")
    full = {n: v for n, f in kind.fields.items() if not f.read_only and (v := sample(f)) is not None}
    body = json.dumps(full).encode()
    decoder, encoder = structs.decoder(kind.message), msgspec.json.Encoder()
    began = time.perf_counter()
    for _ in range(ROUNDS):
        encoder.encode(decoder.decode(body))
    fast_us = (time.perf_counter() - began) / ROUNDS * 1e6
    began = time.perf_counter()
    for _ in range(ROUNDS // 5):
        kind.validate(body)
    complete_us = (time.perf_counter() - began) / (ROUNDS // 5) * 1e6
    loads = sorted(float(subprocess.check_output([sys.executable, "-c", LOAD])) for _ in range(5))
    figures = {
        "fields": len(full),
        "load_ms_median": round(loads[2], 1),
        "load_ms_limit": 300,
        "validate_and_encode_us": round(fast_us, 1),
        "validate_and_encode_us_limit": 50,
        "validate_to_document_us": round(complete_us, 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
