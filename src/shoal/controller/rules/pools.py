"""Pools: each server once, and which health monitors are run."""

from __future__ import annotations

from shoal.controller.desired import passed_over

from .change import Around, Change


def fill(change: Change, around: Around) -> None:
    change.default(around.view, "vrf_ref", "vrfcontext", "global")
    change.default(around.view, "analytics_profile_ref", "analyticsprofile", "System-Analytics-Profile")


def check(change: Change, around: Around) -> None:
    pool = change.document
    seen: dict[tuple[str, int], int] = {}
    for index, server in enumerate(pool.get("servers", ())):
        where = f"servers[{index}]"
        address = change.address(f"{where}.ip", server["ip"])
        if address is not None and address.version == 6 and address.is_link_local:
            change.wrong(f"{where}.ip.addr", "is a link-local address: engines don't know on which link", address)
        server.setdefault("hostname", server["ip"]["addr"])
        key = (server["ip"]["addr"], server.get("port") or pool["default_server_port"])
        if key in seen:
            change.wrong(where, f"is servers[{seen[key]}] again ({key[0]}:{key[1]})")
        seen[key] = index
    users = [uuid for type, uuid, _ in around.view.referrers(change.uuid) if type == "virtualservice"]
    change.warnings += passed_over(around.view, pool, users)
