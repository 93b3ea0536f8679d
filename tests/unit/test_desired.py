"""From documents to what an engine is told."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.controller.desired import VipIntent, certificate_part, service_part
from shoal.objects import views


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


class Nothing:
    def get(self, type: str, uuid: str) -> dict[str, Any] | None:
        return None


@pytest.mark.parametrize(
    "flow_dist", ["LOAD_AWARE", "CONSISTENT_HASH_SOURCE_IP_ADDRESS", "CONSISTENT_HASH_SOURCE_IP_ADDRESS_AND_PORT"]
)
def test_engines_are_told_how_flows_are_shared(flow_dist: str) -> None:
    service = views.view({"uuid": "s", "name": "s", "flow_dist": flow_dist}, views.VirtualService)
    vip = VipIntent(id="v", name="v", address="10.0.0.1", services=(service,), created=0.0)
    assert service_part(Nothing(), service, vip).flow_dist == flow_dist
