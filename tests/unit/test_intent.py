"""The one way in: references, uniqueness, presets, secrets, deletion; on the real store, view and rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.controller import bootstrap as bootstrapping
from shoal.controller.bootstrap import Options, bootstrap
from shoal.controller.intent import SYSTEM, Caller, Intent
from shoal.controller.secrets import Secrets
from shoal.controller.view import View
from shoal.errors import Duplicate, InUse, Invalid, NotAllowed, Refused, Stale
from shoal.objects import load
from shoal.store.memory import MemoryStore
from shoal.store.protocol import Conflict, Transaction
from tests.api_world import key_pair

ADMIN = Caller(user="admin")


@pytest.fixture
async def intent(tmp_path: Path) -> AsyncIterator[Intent]:
    store, registry = MemoryStore(), load()
    view = View(store, registry)
    await view.start()
    intent = Intent(store, view, registry, Secrets.open(tmp_path / "key"))
    await bootstrap(intent, view, Options(vip_networks=("10.9.0.0/29",)))
    yield intent
    await view.stop()
    await store.close()


async def vsvip(intent: Intent, name: str, **more: Any) -> dict[str, Any]:
    body = {"name": name, "vip": [{"auto_allocate_ip": True, **more}]}
    return (await intent.create("vsvip", body, ADMIN)).doc


async def service(intent: Intent, name: str, vip: str, port: int, **more: Any) -> dict[str, Any]:
    body = {"name": name, "vsvip_ref": f"/api/vsvip?name={vip}", "services": [{"port": port}], **more}
    return (await intent.create("virtualservice", body, ADMIN)).doc


async def test_omitted_fields_take_the_modes_preset_and_explicit_ones_stay(intent: Intent) -> None:
    made = await intent.create("serviceenginegroup", {"name": "a", "ha_mode": "HA_MODE_SHARED_PAIR"}, ADMIN)
    assert (made.doc["min_scaleout_per_vs"], made.doc["algo"], made.doc["buffer_se"]) == (
        2,
        "PLACEMENT_ALGO_DISTRIBUTED",
        0,
    )
    body = {"name": "b", "ha_mode": "HA_MODE_SHARED_PAIR", "min_scaleout_per_vs": 1}
    kept = await intent.create("serviceenginegroup", body, ADMIN)
    assert kept.doc["min_scaleout_per_vs"] == 1
    assert any("min_scaleout_per_vs 1" in warning for warning in kept.warnings)


async def test_presets_follow_a_patch_of_the_mode_and_chosen_values_stay(intent: Intent) -> None:
    made = await intent.create("serviceenginegroup", {"name": "a", "buffer_se": 3}, ADMIN)
    change = {"replace": {"ha_mode": "HA_MODE_SHARED_PAIR"}}
    after = (await intent.patch("serviceenginegroup", made.doc["uuid"], change, ADMIN)).doc
    assert (after["min_scaleout_per_vs"], after["algo"], after["buffer_se"]) == (2, "PLACEMENT_ALGO_DISTRIBUTED", 3)


async def test_the_legacy_mode_sets_what_it_fixes_and_gives_it_back(intent: Intent) -> None:
    made = await intent.create("serviceenginegroup", {"name": "a"}, ADMIN)
    names = ("ha_mode", "active_standby", "min_scaleout_per_vs", "max_scaleout_per_vs", "max_se", "buffer_se", "algo")
    before = [made.doc[name] for name in names]
    change = {"replace": {"ha_mode": "HA_MODE_LEGACY_ACTIVE_STANDBY"}}
    after = (await intent.patch("serviceenginegroup", made.doc["uuid"], change, ADMIN)).doc
    assert [after[name] for name in names[1:]] == [True, 2, 2, 2, 0, "PLACEMENT_ALGO_PACKED"]
    change = {"replace": {"ha_mode": "HA_MODE_SHARED"}}
    back = (await intent.patch("serviceenginegroup", made.doc["uuid"], change, ADMIN)).doc
    assert [back[name] for name in names] == before


async def test_dangling_and_wrong_references_are_named(intent: Intent) -> None:
    with pytest.raises(Invalid, match=r"pool_ref.*no Pool is found") as caught:
        await vsvip(intent, "v")
        await service(intent, "s", "v", 80, pool_ref="/api/pool?name=nope")
    assert "There is no pool yet" in str(caught.value)
    with pytest.raises(Invalid, match="a pool is needed"):
        await service(intent, "s", "v", 80, pool_ref="/api/vsvip/x")


async def test_addresses_are_allocated_released_and_run_out(intent: Intent) -> None:
    first = await vsvip(intent, "v0")
    assert first["vip"][0]["ip_address"]["addr"] == "10.9.0.1"
    for number in range(1, 6):
        await vsvip(intent, f"v{number}")
    with pytest.raises(Refused, match="no free IPv4 address"):
        await vsvip(intent, "one too many")
    await intent.delete("vsvip", first["uuid"], ADMIN)
    assert (await vsvip(intent, "again"))["vip"][0]["ip_address"]["addr"] == "10.9.0.1"


async def test_an_address_has_one_vsvip_and_a_port_one_service(intent: Intent) -> None:
    await vsvip(intent, "v", ip_address={"addr": "10.1.1.1", "type": "V4"})
    with pytest.raises(Duplicate, match="VsVip v already"):
        await vsvip(intent, "w", ip_address={"addr": "10.1.1.1", "type": "V4"})
    await service(intent, "web", "v", 80)
    with pytest.raises(Duplicate, match="Port 80 of this VIP is used by virtual service web"):
        await service(intent, "other", "v", 80)
    ports = [{"port": 8000, "port_range_end": 8100}]
    await intent.create("virtualservice", {"name": "r", "vsvip_ref": "/api/vsvip?name=v", "services": ports}, ADMIN)
    with pytest.raises(Duplicate, match="Port 8050"):
        await service(intent, "late", "v", 8050)


async def test_services_of_one_vip_share_a_group(intent: Intent) -> None:
    await intent.create("serviceenginegroup", {"name": "other"}, ADMIN)
    await vsvip(intent, "v")
    await service(intent, "a", "v", 80)
    with pytest.raises(Invalid, match="shares this VIP and is in another group"):
        await service(intent, "b", "v", 81, se_group_ref="/api/serviceenginegroup?name=other")


async def test_what_is_referred_to_stays(intent: Intent) -> None:
    vip = await vsvip(intent, "v")
    web = await service(intent, "web", "v", 80)
    with pytest.raises(InUse, match=r"Cannot delete, object is referred by: \['VirtualService web'\]"):
        await intent.delete("vsvip", vip["uuid"], ADMIN)
    await intent.delete("virtualservice", web["uuid"], ADMIN)
    await intent.delete("vsvip", vip["uuid"], ADMIN)


async def test_system_objects_and_engines_are_not_deleted_or_made_by_hand(intent: Intent) -> None:
    group = intent._view.named("serviceenginegroup", "Default-Group", "admin", None)
    group = group or next(d for d in intent._view.all("serviceenginegroup") if d["name"] == "Default-Group")
    with pytest.raises(NotAllowed, match="Cannot delete system default object"):
        await intent.delete("serviceenginegroup", group["uuid"], ADMIN)
    with pytest.raises(NotAllowed, match="made by the controller"):
        await intent.create("serviceengine", {"name": "x"}, ADMIN)


async def test_what_later_versions_start_with_is_made_unless_an_operator_has_made_it(
    intent: Intent, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(vip_networks=("10.9.0.0/29",))
    body = {"name": "System-To-Come", "type": "SG_TYPE_STRING", "kv": [{"key": "mine"}]}
    mine = (await intent.create("stringgroup", body, ADMIN)).doc
    later = [("stringgroup", body | {"kv": []}), ("stringgroup", body | {"name": "System-New"})]
    monkeypatch.setattr(bootstrapping, "system_objects", lambda options: later)
    await bootstrap(intent, intent._view, options)
    await bootstrap(intent, intent._view, options)
    found = [group for group in intent._view.all("stringgroup") if group["name"] in ("System-To-Come", "System-New")]
    assert found[0] == mine and len(found) == 2
    with pytest.raises(NotAllowed, match="system default"):
        await intent.delete("stringgroup", found[1]["uuid"], ADMIN)
    await intent.delete("stringgroup", mine["uuid"], ADMIN)


async def test_the_profiles_that_playbooks_name_are_there(intent: Intent) -> None:
    """As the vendor's documentation, its Kubernetes operator and its Terraform provider name them."""
    for type, names in {
        "applicationpersistenceprofile": ("Client-IP", "Http-Cookie", "TLS", "App-Cookie", "Custom-Http-Header"),
        "healthmonitor": ("HTTP", "HTTPS", "TCP", "UDP", "Ping"),
        "applicationprofile": ("HTTP", "Secure-HTTP", "L4-Application", "SSL-Application"),
        "sslprofile": ("Standard", "Standard-PFS"),
        "stringgroup": ("Compressible-Content-Types", "Cacheable-Resource-Types", "Devices-Mobile"),
        "actiongroupconfig": ("Alert-Level-High", "Alert-Level-Medium", "Alert-Level-Low"),
    }.items():
        kind = "System-Persistence-" if type == "applicationpersistenceprofile" else "System-"
        for name in names:
            assert intent._view.named(type, kind + name), name
    secure = intent._view.named("applicationprofile", "System-Secure-HTTP")
    assert secure and all(secure["http_profile"][field] for field in bootstrapping.SSL_EVERYWHERE)


async def test_a_stale_write_is_refused_and_a_taken_name_too(intent: Intent) -> None:
    made = (await intent.create("pool", {"name": "p"}, ADMIN)).doc
    changed = (await intent.replace("pool", made["uuid"], {"name": "p", "default_server_port": 81}, ADMIN)).doc
    assert int(changed["_last_modified"]) > int(made["_last_modified"])
    with pytest.raises(Stale):
        await intent.replace("pool", made["uuid"], made, ADMIN)
    with pytest.raises(Duplicate, match="already exists"):
        await intent.create("pool", {"name": "p"}, ADMIN)


async def test_secrets_are_sealed_at_rest_and_kept_on_a_masked_put(intent: Intent) -> None:
    key, certificate = key_pair()
    body = {"name": "c", "key": key, "certificate": {"certificate": certificate}}
    made = (await intent.create("sslkeyandcertificate", body, SYSTEM)).doc
    assert "PRIVATE" not in str(made)
    after = (await intent.replace("sslkeyandcertificate", made["uuid"], body | {"key": "<sensitive>"}, ADMIN)).doc
    assert after["key"] == made["key"]


async def test_every_change_leaves_an_audit_record_without_secrets(intent: Intent) -> None:
    await intent.create("pool", {"name": "p"}, Caller(user="eve", address="10.0.0.7"))
    records = [record.value for record in (await intent._store.list("/audit/")).records]
    assert b'"user":"eve"' in records[-1] and b'"address":"10.0.0.7"' in records[-1] and b'"name":"p"' in records[-1]


async def test_a_patch_adds_updates_and_removes_list_entries(intent: Intent) -> None:
    def server(last: int, **more: Any) -> dict[str, Any]:
        return {"ip": {"addr": f"10.0.0.{last}", "type": "V4"}, "port": 80, **more}

    uuid = (await intent.create("pool", {"name": "p", "servers": [server(1)]}, ADMIN)).doc["uuid"]
    added = await intent.patch("pool", uuid, {"add": {"servers": [server(2), server(1, ratio=3)]}}, ADMIN)
    assert [(s["ip"]["addr"], s["ratio"]) for s in added.doc["servers"]] == [("10.0.0.1", 3), ("10.0.0.2", 1)]
    less = await intent.patch("pool", uuid, {"delete": {"servers": [server(1)]}}, ADMIN)
    assert [s["ip"]["addr"] for s in less.doc["servers"]] == ["10.0.0.2"]
    change = [{"op": "replace", "path": "/servers/0/enabled", "value": False}]
    assert not (await intent.patch("pool", uuid, {"json_patch": change}, ADMIN)).doc["servers"][0]["enabled"]


async def test_text_that_looks_sealed_is_sealed_like_any_other(intent: Intent) -> None:
    key, certificate = key_pair()
    body = {"name": "c", "key": key, "key_passphrase": "enc:v1:planted", "certificate": {"certificate": certificate}}
    made = (await intent.create("sslkeyandcertificate", body, ADMIN)).doc
    assert made["key_passphrase"] != "enc:v1:planted"
    opened = intent._secrets.unseal(made["key_passphrase"], f"sslkeyandcertificate/{made['uuid']}/key_passphrase")
    assert opened == "enc:v1:planted"


async def test_a_conflict_is_waited_for_though_the_newest_write_is_no_document(
    intent: Intent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view is told of documents only: waiting for the store's newest revision would hold up all writes for ever."""
    commit, conflicts = intent._store.commit, [Conflict(("/name/pool/admin/-/p",))]

    async def meets_another(transaction: Transaction) -> int:
        if conflicts:
            raise conflicts.pop()
        return await commit(transaction)

    await commit(Transaction(puts=(("/accounts/somebody", b"{}"),)))
    monkeypatch.setattr(intent._store, "commit", meets_another)
    async with asyncio.timeout(5):
        written = await intent.create("pool", {"name": "p"}, Caller(user="admin"))
    assert written.created and not conflicts
