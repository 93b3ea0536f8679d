"""Configurations as files: an export of the vendor's form taken over, told object by object, in one transaction."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from shoal.errors import NotReady
from shoal.store.protocol import Transaction
from tests.api_world import ControlledWorld, controlled_world, key_pair

Document = dict[str, Any]
PASSPHRASE = "a long enough one"
KEY, CERTIFICATE = key_pair("shop.example.org")


def avi_export() -> Document:
    """As another controller writes it: references by name, objects of types and with fields that are not known here."""
    scope = "tenant=admin&cloud=Default-Cloud"
    return {
        "META": {"version": {"Version": "22.1.3", "Product": "controller"}, "upgrade_mode": False},
        "VirtualService": [
            {
                "name": "shop",
                "uuid": "virtualservice-1111",
                "url": "https://10.1.1.1/api/virtualservice/virtualservice-1111",
                "_last_modified": "1600000000000000",
                "tenant_ref": "/api/tenant/?name=admin",
                "cloud_ref": "/api/cloud/?tenant=admin&name=Default-Cloud",
                "services": [{"port": 443, "enable_ssl": True}],
                "pool_ref": f"/api/pool/?{scope}&name=shop-pool",
                "vsvip_ref": f"/api/vsvip/?{scope}&name=shop-vip",
                "application_profile_ref": "/api/applicationprofile/?tenant=admin&name=System-Secure-HTTP",
                "ssl_key_and_certificate_refs": ["/api/sslkeyandcertificate/?tenant=admin&name=shop-cert"],
                "se_group_ref": f"/api/serviceenginegroup/?{scope}&name=Default-Group",
                "saml_sp_config": {
                    "entity_id": "shop",
                    "single_signon_url": "https://shop.example/sso",
                    "signing_ssl_key_and_certificate_ref": "/api/sslkeyandcertificate/?tenant=admin&name=mirror",
                },
                "waf_policy_ref": "/api/wafpolicy/?tenant=admin&name=strict",
            },
            {
                "name": "lost",
                "uuid": "virtualservice-2222",
                "services": [{"port": 80}],
                "pool_ref": f"/api/pool/?{scope}&name=odd-pool",
                "vsvip_ref": f"/api/vsvip/?{scope}&name=shop-vip",
            },
        ],
        "Pool": [
            {
                "name": "shop-pool",
                "uuid": "pool-1111",
                "servers": [{"ip": {"addr": "10.0.0.1", "type": "V4"}, "port": 8443}],
                "health_monitor_refs": ["/api/healthmonitor/?tenant=admin&name=System-TCP"],
                "analytics_profile_ref": "/api/analyticsprofile/?tenant=admin&name=System-Analytics-Profile",
            },
            {"name": "odd-pool", "uuid": "pool-2222", "lb_algorithm": "LB_ALGORITHM_OF_TOMORROW"},
        ],
        "VsVip": [
            {
                "name": "shop-vip",
                "uuid": "vsvip-1111",
                "vip": [{"vip_id": "0", "ip_address": {"addr": "10.9.0.7", "type": "V4"}}],
            }
        ],
        "SSLKeyAndCertificate": [
            {"name": "shop-cert", "uuid": "cert-1", "key": KEY, "certificate": {"certificate": CERTIFICATE}}
        ],
        "WafPolicy": [{"name": "strict", "uuid": "wafpolicy-1"}],
        "ServiceEngine": [{"name": "10.1.1.9", "uuid": "se-1"}],
        "MicroServiceGroup": [{"name": "parts", "uuid": "parts-1"}],
    }


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


async def taken(world: ControlledWorld, configuration: Document, status: int = 200, **more: Any) -> Document:
    found: Document = await world.post(
        "/api/configuration/import", {"configuration": configuration, **more}, status=status
    )
    return found


def of(report: Document, name: str) -> Document:
    found: Document = next(one for one in report["objects"] if one["name"] == name)
    return found


def fields(one: Document) -> set[str]:
    return {difference["field"] for difference in one["differences"]}


async def everything(world: ControlledWorld) -> dict[str, int]:
    return {record.key: record.version for record in (await world.store.list("")).records}


async def test_each_object_is_told_about_and_nothing_is_written(world: ControlledWorld) -> None:
    before = await everything(world)
    report = await taken(world, avi_export())
    assert not report["applied"]
    assert await everything(world) == before
    assert of(report, "shop-pool")["result"] == "taken over"
    shop = of(report, "shop")
    assert shop["result"] == "different" and shop["action"] == "create"
    config = {"saml_sp_config", "saml_sp_config.signing_ssl_key_and_certificate_ref"}
    assert fields(shop) == {"waf_policy_ref", *config}
    for name, why in (
        ("odd-pool", "lb_algorithm"),
        ("lost", "Pool odd-pool"),
        ("strict", "no object type WafPolicy"),
        ("10.1.1.9", "made by the controller"),
    ):
        assert of(report, name)["result"] == "not supported"
        assert why in of(report, name)["why"]
    assert of(report, "parts")["differences"] == [{"field": "", "why": "kept, and without any effect yet"}]
    assert report["counts"]["not_supported"] == 4


async def test_the_placement_and_what_it_survives_are_shown(world: ControlledWorld) -> None:
    report = await taken(world, avi_export())
    (group,) = report["placement"]["groups"]
    (vip,) = group["vips"]
    assert vip["address"] == "10.9.0.7" and vip["to"] == ["new engine 1"]
    (survives,) = report["survives"]
    assert survives["vips"] == 1 and survives["of_engines"] >= 1
    assert {"stays_up", "keeps_capacity"} <= survives.keys()


async def test_applied_it_is_there_under_its_own_uuids(world: ControlledWorld) -> None:
    report = await taken(world, avi_export(), apply=True)
    assert report["applied"] and report["created"] == 5
    shop = await world.get("/api/virtualservice/virtualservice-1111")
    assert shop["pool_ref"].endswith("/api/pool/pool-1111")
    assert "waf_policy_ref" not in shop and "signing_ssl_key_and_certificate_ref" not in shop.get("saml_sp_config", {})
    assert await world.get("/api/virtualservice?name=lost") == {"count": 0, "results": []}
    cert = world.view.get("sslkeyandcertificate", "cert-1")
    assert cert is not None and cert["key"].startswith("enc:v1:")
    again = await taken(world, avi_export(), apply=True)
    assert again["created"] == again["replaced"] == 0, "the same file again changes nothing"
    log = await world.get("/api/analytics/logs", type="2", page_size="1000")
    assert "admin" in {event.get("user") for event in log["results"] if event.get("obj_name") == "shop"}


async def test_an_object_of_the_same_name_is_replaced_and_keeps_its_uuid(world: ControlledWorld) -> None:
    made = await world.post("/api/pool", {"name": "shop-pool", "default_server_port": 1})
    report = await taken(world, avi_export(), apply=True)
    assert of(report, "shop-pool")["action"] == "replace"
    assert (await world.get(f"/api/pool/{made['uuid']}"))["servers"][0]["port"] == 8443
    assert (await world.get("/api/virtualservice?name=shop"))["results"][0]["pool_ref"].endswith(made["uuid"])


def many(count: int) -> Document:
    base = avi_export()
    pools = [copy.deepcopy(base["Pool"][0]) | {"name": f"pool-{n}", "uuid": f"pool-n{n}"} for n in range(count)]
    return {"Pool": pools}


async def test_past_the_caps_of_a_transaction_it_is_seen_all_at_once(world: ControlledWorld) -> None:
    counts: set[int] = set()
    versions: list[int] = []
    world.view.subscribe(lambda *change: versions.append(len(world.view.all("pool"))))

    async def look() -> None:
        while True:
            counts.add(len(world.view.all("pool")))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    report = await taken(world, many(200), apply=True)
    looking.cancel()
    assert report["created"] == 200
    assert counts == {0, 200}, "a reader saw half of it"
    assert not [key for key in await everything(world) if key.startswith(("/staged/", "/decided"))]
    await world.post("/api/pool", {"name": "after"})


async def test_a_disk_that_fills_up_on_the_way_leaves_all_or_nothing(
    world: ControlledWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = world.store.commit, 12

    async def commit(transaction: Transaction) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise NotReady("The disk is full.")
        return await real(transaction)

    for after in range(0, 30, 3):
        left = after
        monkeypatch.setattr(world.store, "commit", commit)
        reply = await world.client.post("/api/configuration/import", json={"configuration": many(200), "apply": True})
        assert len(world.view.all("pool")) in (0, 200)
        monkeypatch.setattr(world.store, "commit", real)
        if reply.status_code == 200:
            break
        assert reply.status_code == 503
        await world.post("/api/stringgroup", {"name": f"after-{after}", "type": "SG_TYPE_STRING"})
        assert len(world.view.all("pool")) in (0, 200)
        if len(world.view.all("pool")) == 200:
            break
    assert len(world.view.all("pool")) == 200


async def test_two_imports_and_a_writer_at_once_all_get_through(world: ControlledWorld) -> None:
    async def write() -> None:
        for n in range(5):
            await world.post("/api/pool", {"name": f"beside-{n}"})

    first, second, _ = await asyncio.gather(
        taken(world, many(30), apply=True), taken(world, avi_export(), apply=True), write()
    )
    assert first["applied"] and second["applied"]
    assert len(world.view.all("pool")) == 36


async def test_an_export_without_secrets_has_none_and_with_a_passphrase_it_carries_them(
    world: ControlledWorld, tmp_path: Path
) -> None:
    await taken(world, avi_export(), apply=True)
    masked = await world.get("/api/configuration/export")
    assert KEY.splitlines()[1] not in str(masked)
    assert masked["SSLKeyAndCertificate"][-1]["key"] == "<sensitive>"
    sealed = await world.post("/api/configuration/export", {"passphrase": PASSPHRASE}, status=200)
    assert KEY.splitlines()[1] not in str(sealed)
    (tmp_path / "other").mkdir()
    async with controlled_world(tmp_path / "other") as other:
        refused = await taken(other, sealed, status=400, passphrase="another passphrase")
        assert "not the one" in refused["error"]
        without = await taken(other, sealed)
        assert fields(of(without, "shop-cert")) == {"key"}
        assert of(without, "shop")["result"] == "not supported"
        assert (await taken(other, sealed, passphrase=PASSPHRASE, apply=True))["applied"]
        stored = other.view.get("sslkeyandcertificate", "cert-1")
        kind = other.intent.registry.type("sslkeyandcertificate")
        assert stored is not None and other.intent.opened(kind, stored)["key"] == KEY


async def test_secrets_that_only_the_other_controller_opens_are_told_of_object_by_object(
    world: ControlledWorld,
) -> None:
    file = avi_export()
    (certificate,) = file["SSLKeyAndCertificate"]
    certificate["key"] = "gAAAAABl0sealedByAnotherController=="
    locked = serialization.load_pem_private_key(KEY.encode(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"words of its owner"),
    )
    file["SSLKeyAndCertificate"] += [
        {"name": "locked", "key": locked.decode(), "certificate": {"certificate": CERTIFICATE}},
        {
            "name": "opens",
            "key": locked.decode(),
            "key_passphrase": "words of its owner",
            "certificate": {"certificate": CERTIFICATE},
        },
    ]
    monitor = {"type": "HEALTH_MONITOR_HTTP", "authentication": {"username": "probe", "password": "c2VhbGVk"}}
    file["HealthMonitor"] = [{"name": "asks", **monitor}, {"name": "plain", "type": "HEALTH_MONITOR_TCP"}]
    file["User"] = [{"name": "pat", "username": "pat", "password": "pbkdf2_sha256$36000$salt$hash"}]
    report = await taken(world, file, apply=True)
    assert of(report, "shop-cert")["secrets"] == of(report, "locked")["secrets"] == ["key"]
    assert "only the controller it comes from" in str(of(report, "shop-cert")["differences"])
    assert of(report, "opens")["secrets"] == of(report, "plain")["secrets"] == []
    assert set(of(report, "asks")["secrets"]) == {"authentication.password", "authentication.username"}
    assert "sealed: then give it anew" in str(of(report, "asks")["differences"])
    assert "give a password anew" in str(of(report, "pat"))
    assert report["secrets_to_give"] == 4 and "4 objects need a secret given anew" in report["sentence"]
    stored = world.view.named("sslkeyandcertificate", "shop-cert")
    assert stored is not None and not stored.get("key"), "nothing that is no key is kept as one"
    assert of(report, "shop")["result"] == "not supported" and "shop-cert" in of(report, "shop")["why"]
    own = await world.get("/api/configuration/export")
    async with world.stranger() as client:
        refused = await client.post("/login", data={"username": "pat", "password": "pbkdf2_sha256$36000$salt$hash"})
        assert refused.status_code == 401, "a hash must never be a password"
    again = await taken(world, own)
    assert of(again, "opens")["secrets"] == [], "what is here already stays"


NO_EXPORTS: list[tuple[Document, str]] = [
    ({}, "no objects"),
    ({"Pool": 5}, "Pool: must hold objects"),
    ({"Pool": [5]}, "Pool: must hold objects"),
    ({"META": 5}, "no objects"),
]
WRONG_OBJECTS: list[Document] = [
    {},
    {"name": 5},
    {"uuid": {"a": 1}},
    {"name": "x", "tenant_ref": 7, "pool_ref": ["a"]},
    {"name": "x", "tenant_ref": "/api/tenant/?name=nobody"},
    {"name": "x", "servers": "many"},
    {"name": "x", "servers": [[[]]]},
    {"name": "\n"},
    {"name": "x", "cloud_ref": "http://[", "health_monitor_refs": ["http://[::1"]},
]


async def test_what_is_wrong_is_refused_with_a_reason_and_takes_nothing_with_it(world: ControlledWorld) -> None:
    for configuration, word in NO_EXPORTS:
        assert word in (await taken(world, configuration, status=400))["error"]
    report = await taken(world, {"Pool": [*WRONG_OBJECTS, {"name": "good"}]}, apply=True)
    *wrong, good = report["objects"]
    assert good["result"] == "taken over"
    for entry, one in zip(WRONG_OBJECTS, wrong, strict=True):
        assert one["result"] == "not supported" and one["why"], entry


async def test_what_refers_to_each_other_in_a_circle_is_taken_over_whole(world: ControlledWorld) -> None:
    configuration = {
        "Cloud": [
            {
                "name": "other",
                "vtype": "CLOUD_NONE",
                "se_group_template_ref": "/api/serviceenginegroup/?name=template&cloud=other",
            }
        ],
        "ServiceEngineGroup": [{"name": "template", "cloud_ref": "/api/cloud/?name=other"}],
    }
    report = await taken(world, configuration, apply=True)
    assert report["counts"]["not_supported"] == 0, report["objects"]
    cloud, group = world.view.named("cloud", "other"), world.view.all("serviceenginegroup")[-1]
    assert cloud is not None and cloud["se_group_template_ref"] == f"/api/serviceenginegroup/{group['uuid']}"
