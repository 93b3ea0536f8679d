"""From documents to what an engine is told."""

from __future__ import annotations

from typing import Any

from shoal.controller.desired import certificate_part


def test_a_chain_is_served_behind_its_certificate() -> None:
    def held(pem: str, **more: Any) -> dict[str, Any]:
        return {"uuid": pem, "name": pem, "certificate": {"certificate": pem}, **more}

    documents = {
        "leaf": held("leaf", ca_certs=[{"ca_ref": "/api/sslkeyandcertificate/issuer"}]),
        "issuer": held("issuer"),
    }

    class Documents:
        def get(self, type: str, uuid: str) -> dict[str, Any] | None:
            return documents.get(uuid)

    part = certificate_part(Documents(), "leaf", lambda text, context: text)
    assert part is not None and part.pem == "leaf\nissuer\n"
