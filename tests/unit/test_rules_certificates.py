"""Certificates: key and certificate are read and belong together; TLS has one (RFC 5280)."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from shoal.controller import certificates, key_exchange
from shoal.controller.intent import SYSTEM
from tests.api_world import ControlledWorld, controlled_world, key_pair, warnings_of
from tests.issuer import Issuer, exchange_parameters

PATH = "/api/sslkeyandcertificate"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


def body(key: str, certificate: str, **more: Any) -> dict[str, Any]:
    return {"name": "c", "key": key, "certificate": {"certificate": certificate}, **more}


async def test_what_is_in_a_certificate_is_shown(world: ControlledWorld) -> None:
    made = await world.post(PATH, body(*key_pair("www.example.org")))
    shown = made["certificate"]
    assert shown["subject"]["common_name"] == shown["issuer"]["common_name"] == "www.example.org"
    assert shown["self_signed"] and shown["version"] == "3" and shown["not_after"] > "2030"
    assert shown["expiry_status"] == "SSL_CERTIFICATE_GOOD" and 3600 < shown["days_until_expire"] <= 3650
    assert made["key_params"] == {
        "algorithm": "SSL_KEY_ALGORITHM_EC",
        "ec_params": {"curve": "SSL_KEY_EC_CURVE_SECP256R1"},
    }
    path = f"{PATH}/{made['uuid']}"
    await world.call("PUT", path, 200, json=await world.get(path))


async def test_what_can_not_be_read_or_does_not_match_is_refused(world: ControlledWorld) -> None:
    (key, certificate), (other, _) = key_pair(), key_pair()
    for given, path, words in (
        (body(key, "PEM"), "certificate.certificate", "is no certificate in PEM"),
        (body("nonsense", certificate), "key", "is no private key in PEM"),
        (body(other, certificate), "key", "is not the key of this certificate"),
        ({"name": "c", "certificate": {}}, "certificate.certificate", "required"),
        ({"name": "c", "key": key, "certificate": {}}, "certificate.subject.common_name", "required"),
        (body("###", certificate, key_base64=True), "key", "is no base64"),
        (body(key, "####", certificate_base64=True), "certificate.certificate", "is no base64"),
        (body(key, "AAAA", certificate_base64=True), "certificate.certificate", "neither in PEM nor in DER"),
        (body("AAAA", "", format="SSL_PKCS12"), "key", "is no PKCS #12 file"),
    ):
        problem = (await world.post(PATH, given, 400))["problems"][0]
        assert problem["path"] == path and words in problem["why"]
        assert "PRIVATE" not in problem["value"] + problem["why"]


async def test_a_request_is_made_here_and_its_certificate_imported(world: ControlledWorld) -> None:
    wanted = {
        "subject": {"common_name": "www.example.com", "organization": "Us"},
        "subject_alt_names": ["10.0.0.1", "b.c"],
    }
    curve = {"algorithm": "SSL_KEY_ALGORITHM_EC", "ec_params": {"curve": "SSL_KEY_EC_CURVE_SECP384R1"}}
    made = await world.post(PATH, {"name": "c", "certificate": wanted, "key_params": curve})
    assert made["status"] == "SSL_CERTIFICATE_PENDING" and "PRIVATE" not in str(made)
    text = made["certificate"]["certificate_signing_request"]
    asked = x509.load_pem_x509_csr(text.encode())
    assert asked.subject.rfc4514_string() == "O=Us,CN=www.example.com"
    names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["www.example.com", "10.0.0.1", "b.c"]
    key = asked.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp384r1"
    path = f"{PATH}/{made['uuid']}"
    again = await world.call("PUT", path, 200, json=await world.get(path))
    assert again["certificate"]["certificate_signing_request"] == text, "who signs has it already"

    service = await world.service()
    refs = {"replace": {"ssl_key_and_certificate_refs": [made["url"]]}}
    reply = await world.call("PATCH", f"/api/virtualservice/{service['uuid']}", 400, json=refs)
    assert "has no certificate yet" in reply["error"]
    stranger = {"replace": {"certificate": {"certificate": key_pair()[1]}}}
    assert "is not the key" in (await world.call("PATCH", path, 400, json=stranger))["error"]
    signed = {"certificate": {"certificate": Issuer("Root").sign(text)}}
    done = await world.call("PATCH", path, 200, json={"add": signed})
    assert done["status"] == "SSL_CERTIFICATE_FINISHED" and done["certificate"]["issuer"]["common_name"] == "Root"
    await world.call("PATCH", f"/api/virtualservice/{service['uuid']}", 200, json=refs)

    country = {"subject": {"common_name": "a", "country": "Narnia"}}
    problem = (await world.post(PATH, {"name": "d", "certificate": country}, 400))["problems"][0]
    assert problem["path"] == "certificate.subject.country"


async def test_a_request_that_is_none_is_not_kept(world: ControlledWorld) -> None:
    key, certificate = key_pair("www.example.org")
    given = {"certificate": certificate, "certificate_signing_request": "x"}
    made = await world.post(PATH, {"name": "c", "key": key, "certificate": given})
    assert "certificate_signing_request" not in made["certificate"]
    params = [{"name": "directory_url", "value": "https://acme.example/dir"}]
    managing = {"name": "m", "run_script_ref": "/api/alertscriptconfig?name=System-ACME", "script_params": params}
    managed = await world.post("/api/certificatemanagementprofile", managing)
    body = {"name": "d", "key": key, "certificate": given, "certificate_management_profile_ref": managed["url"]}
    made = await world.post(PATH, body)
    asked = x509.load_pem_x509_csr(made["certificate"]["certificate_signing_request"].encode())
    assert asked.subject.rfc4514_string() == "CN=www.example.org", "for its renewal"
    huge = {"algorithm": "SSL_KEY_ALGORITHM_RSA", "rsa_params": {"key_size": "SSL_KEY_999999_BITS"}}
    asking = {"name": "e", "certificate": {"subject": {"common_name": "a.b"}}, "key_params": huge}
    await world.post(PATH, asking, 400)
    for wrong, words in (
        ([], "https URL of an ACME directory"),
        ([{"name": "directory_url", "value": "http://plain.example/"}], "https URL of an ACME directory"),
        ([*params, {"name": "ca_certs", "value": "PEM"}], "is no certificate in PEM"),
    ):
        refused = await world.post("/api/certificatemanagementprofile", {**managing, "script_params": wrong}, 400)
        assert words in refused["error"]


async def test_a_self_signed_certificate_is_made(world: ControlledWorld) -> None:
    wanted = {"subject": {"common_name": "www.example.com"}, "self_signed": True, "days_until_expire": 90}
    made = await world.post(PATH, {"name": "c", "certificate": wanted})
    shown = made["certificate"]
    assert (
        made["status"] == "SSL_CERTIFICATE_FINISHED" and shown["self_signed"] and 88 <= shown["days_until_expire"] <= 90
    )
    assert shown["subject_alt_names"] == ["www.example.com"]
    assert made["key_params"]["rsa_params"]["key_size"] == "SSL_KEY_2048_BITS"


async def test_other_forms_become_pem(world: ControlledWorld) -> None:
    key, certificate = key_pair("www.example.org")
    loaded, parsed = serialization.load_pem_private_key(key.encode(), None), Issuer("Root").parsed
    der = base64.b64encode(
        x509.load_pem_x509_certificate(certificate.encode()).public_bytes(serialization.Encoding.DER)
    )
    both = {"certificate_base64": True, "key_base64": True}
    encoded = body(base64.b64encode(key.encode()).decode(), der.decode(), **both)
    own = x509.load_pem_x509_certificate(certificate.encode())
    pkcs = pkcs12.serialize_key_and_certificates(b"x", loaded, own, [parsed], BestAvailableEncryption(b"open"))  # type: ignore[arg-type]
    packed = {**body(base64.b64encode(pkcs).decode(), ""), "format": "SSL_PKCS12", "key_passphrase": "open"}
    for number, given in enumerate((encoded, packed)):
        made = await world.post(PATH, {**given, "name": f"c{number}"})
        assert made["certificate"]["subject"]["common_name"] == "www.example.org"
        assert made["certificate"]["certificate"].count("BEGIN CERTIFICATE") == 1 + number, "the chain comes along"
        stored = world.view.get("sslkeyandcertificate", made["uuid"]) or {}
        opened = world.intent._secrets.unseal(stored["key"], f"sslkeyandcertificate/{made['uuid']}/key")
        assert opened.startswith("-----BEGIN PRIVATE KEY-----")
        path = f"{PATH}/{made['uuid']}"
        await world.call("PUT", path, 200, json=await world.get(path))
    assert (
        "needs key_passphrase" in (await world.post(PATH, {**packed, "name": "d", "key_passphrase": ""}, 400))["error"]
    )


async def test_a_new_certificate_must_fit_the_key_that_is_kept(world: ControlledWorld) -> None:
    key, certificate = key_pair()
    made = await world.post(PATH, body(key, certificate))
    path = f"{PATH}/{made['uuid']}"
    _, other = key_pair()
    change = {"replace": {"certificate": {"certificate": other}}}
    assert "is not the key" in (await world.call("PATCH", path, 400, json=change))["error"]
    await world.call("PATCH", path, 200, json={"replace": {"certificate": {"certificate": certificate}}})


async def test_an_encrypted_key_is_opened_with_its_passphrase(world: ControlledWorld) -> None:
    plain, certificate = key_pair()
    loaded = serialization.load_pem_private_key(plain.encode(), None)
    form = serialization.PrivateFormat.PKCS8
    encrypted = loaded.private_bytes(serialization.Encoding.PEM, form, BestAvailableEncryption(b"open")).decode()
    assert "key_passphrase is missing" in (await world.post(PATH, body(encrypted, certificate), 400))["error"]
    wrong = body(encrypted, certificate, key_passphrase="shut")
    assert "is not its passphrase" in (await world.post(PATH, wrong, 400))["error"]
    made = await world.post(PATH, body(encrypted, certificate, key_passphrase="open"))
    stored = world.view.get("sslkeyandcertificate", made["uuid"]) or {}
    opened = world.intent._secrets.unseal(stored["key"], f"sslkeyandcertificate/{made['uuid']}/key")
    assert opened.startswith("-----BEGIN PRIVATE KEY-----")


def test_the_remaining_days_are_those_of_this_moment() -> None:
    def at(now: float) -> dict[str, Any]:
        return certificates.remaining("1970-04-11 00:00:00", now)  # 100 days

    assert at(0) == {"days_until_expire": 100, "expiry_status": "SSL_CERTIFICATE_GOOD"}
    assert at(75 * 86_400) == {"days_until_expire": 25, "expiry_status": "SSL_CERTIFICATE_EXPIRY_WARNING"}
    assert at(101 * 86_400)["expiry_status"] == "SSL_CERTIFICATE_EXPIRED"
    assert certificates.remaining("some day", 0) == {}


async def test_tls_without_a_certificate_is_refused_or_takes_the_systems(world: ControlledWorld) -> None:
    service = await world.service()
    path = f"/api/virtualservice/{service['uuid']}"
    tls = {"replace": {"services": [{"port": 443, "enable_ssl": True}]}}
    problem = (await world.call("PATCH", path, 400, json=tls))["problems"][0]
    assert problem["path"] == "ssl_key_and_certificate_refs" and "required by enable_ssl" in problem["why"]

    await world.intent.create("sslkeyandcertificate", body(*key_pair()) | {"name": "System-Default-Cert"}, SYSTEM)
    reply = await world.client.patch(path, json=tls)
    assert reply.status_code == 200
    assert reply.json()["ssl_key_and_certificate_refs"][0].endswith("#System-Default-Cert")
    assert any("System-Default-Cert is used" in text for text in warnings_of(reply))


async def test_a_certificate_that_serves_has_its_key(world: ControlledWorld) -> None:
    key, certificate = key_pair()
    await world.post(PATH, {"name": "keyless", "certificate": {"certificate": certificate}})
    service = await world.service()
    path = f"/api/virtualservice/{service['uuid']}"
    wanted = {"replace": {"ssl_key_and_certificate_refs": [f"{PATH}?name=keyless"]}}
    assert "keyless has no private key" in (await world.call("PATCH", path, 400, json=wanted))["error"]
    made = await world.post(PATH, body(key, certificate))
    await world.call("PATCH", path, 200, json={"replace": {"ssl_key_and_certificate_refs": [made["url"]]}})
    without = {"name": "c", "certificate": {"certificate": certificate}}
    reply = await world.call("PUT", f"{PATH}/{made['uuid']}", 400, json=without)
    assert "required by virtual service web" in reply["error"]


async def test_authorities_are_read_and_what_they_refuse_is_told(world: ControlledWorld) -> None:
    issuer, below = Issuer("Root"), Issuer("Below")
    for given, path, words in (
        ({}, "ca_certs", "required"),
        ({"ca_certs": [{"certificate": "PEM"}]}, "ca_certs[0].certificate", "is no certificate in PEM"),
        ({"ca_certs": [{"certificate": issuer.pem}], "crls": [{"body": "x"}]}, "crls[0].body", "is no certificate rev"),
    ):
        problem = (await world.post("/api/pkiprofile", {"name": "c", **given}, 400))["problems"][0]
        assert problem["path"] == path and words in problem["why"]
    made = await world.post("/api/pkiprofile", {"name": "plain", "ca_certs": [{"certificate": issuer.pem}]})
    assert made["ca_certs"][0]["subject"]["common_name"] == "Root"
    lists = [{"body": issuer.revoked(ended=True)}]
    body = {"name": "lists", "ca_certs": [{"certificate": issuer.pem + below.pem}], "crls": lists}
    reply = await world.client.post("/api/pkiprofile", json=body)
    assert reply.status_code == 201 and reply.json()["crls"][0]["common_name"] == "Root"
    assert [text.partition(":")[0] for text in warnings_of(reply)] == [
        "No list (CRL) of CN=Below",
        f"crls[0] ended at {reply.json()['crls'][0]['next_update']}".partition(":")[0],
    ]


async def test_a_pool_says_how_it_verifies(world: ControlledWorld) -> None:
    trust = await world.post("/api/pkiprofile", {"name": "t", "ca_certs": [{"certificate": Issuer("Root").pem}]})
    profile = await world.post("/api/sslprofile", {"name": "s", "accepted_versions": [{"type": "SSL_VERSION_TLS1_2"}]})
    verified = {"ssl_profile_ref": profile["url"], "pki_profile_ref": trust["url"]}
    checked = {**verified, "host_check_enabled": True}
    names = {"domain_name": ["a.example", "b.example"]}
    for number, (fields, said) in enumerate(
        (
            (checked, ""),
            ({**checked, **names}, "for a.example only"),
            ({**checked, **names, "server_name": "b.example"}, ""),
            (verified, "told no name"),
            ({**verified, "sni_enabled": False}, ""),
            ({"ssl_profile_ref": profile["url"], "host_check_enabled": True}, "no effect without pki_profile_ref"),
            ({"pki_profile_ref": trust["url"], "sni_enabled": False}, "pki_profile_ref has no effect without ssl_p"),
            ({**checked, "rewrite_host_header_to_sni": True}, "without sni_enabled and server_name"),
        )
    ):
        reply = await world.client.post("/api/pool", json={"name": f"p{number}", **fields})
        assert reply.status_code == 201, reply.text
        assert said in " ".join(warnings_of(reply)) if said else not warnings_of(reply), fields
    await world.post(PATH, {"name": "keyless", "certificate": {"certificate": key_pair()[1]}})
    for fields, path in (
        ({**checked, **names, "server_name": "c.example"}, "host_check_enabled"),
        ({**checked, "sni_enabled": False}, "host_check_enabled"),
        ({**checked, "server_name": "a b"}, "server_name"),
        ({**checked, "ssl_key_and_certificate_ref": f"{PATH}?name=keyless"}, "ssl_key_and_certificate_ref"),
    ):
        assert (await world.post("/api/pool", {"name": "no", **fields}, 400))["problems"][0]["path"] == path


async def test_who_asks_for_client_certificates_says_who_issues_them(world: ControlledWorld) -> None:
    body = {"name": "a", "type": "APPLICATION_PROFILE_TYPE_HTTP"}
    asked = {"ssl_client_certificate_mode": "SSL_CLIENT_CERTIFICATE_REQUIRE"}
    problem = (await world.post("/api/applicationprofile", {**body, "http_profile": asked}, 400))["problems"][0]
    assert problem["path"] == "http_profile.pki_profile_ref" and "required by SSL_CLIENT" in problem["why"]
    trust = await world.post("/api/pkiprofile", {"name": "t", "ca_certs": [{"certificate": Issuer("Root").pem}]})
    headers = [{"request_header": "a b", "request_header_value": "HTTP_POLICY_VAR_SSL_CLIENT_SUBJECT"}]
    action = {"pki_profile_ref": trust["url"], "ssl_client_certificate_action": {"headers": headers}}
    problem = (await world.post("/api/applicationprofile", {**body, "http_profile": asked | action}, 400))["problems"][
        0
    ]
    assert problem["path"] == "http_profile.ssl_client_certificate_action.headers[0].request_header"


def element(tag: int, content: bytes) -> bytes:
    """DER (X.690)."""
    return bytes([tag, 0x82]) + len(content).to_bytes(2) + content


def parameters(*numbers: int) -> str:
    """Of finite-field key exchange, in PEM."""
    integers = (element(0x02, one.to_bytes(one.bit_length() // 8 + 1, signed=True)) for one in numbers)
    text = base64.encodebytes(element(0x30, b"".join(integers))).decode()
    return f"-----BEGIN DH PARAMETERS-----\n{text}-----END DH PARAMETERS-----\n"


async def test_parameters_of_key_exchange_are_taken_or_refused(world: ControlledWorld) -> None:
    good = exchange_parameters("ffdhe2048")
    prime, _, *_ = key_exchange._integers(base64.b64decode("".join(good.splitlines()[1:-1])))
    profile = {"name": "t", "accepted_versions": [{"type": "SSL_VERSION_TLS1_2"}]}
    path = "/api/sslprofile"
    for given, words in (
        ("ffdhe2048", "must be one block of DH parameters in PEM, and nothing else"),
        (good + key_pair()[0], "must be one block of DH parameters in PEM, and nothing else"),
        (good.replace("MII", "AII", 1), "is no DH parameters in PEM"),
        (parameters(prime), "is no DH parameters in PEM"),
        (parameters(prime >> 1024 | 1, 2), "has a prime of 1024 bits; 2048 to 4096 can be"),
        (parameters(prime, 1), "has no generator"),
        (parameters(prime - 2, 2), "has no prime"),
    ):
        (problem,) = (await world.post(path, {**profile, "dhparam": given}, 400))["problems"]
        assert (problem["path"], problem["why"]) == ("dhparam", words) and "openssl dhparam 2048" in problem["hint"]
    made = await world.post(path, {**profile, "dhparam": good.strip().replace("\n", "\r\n")})
    assert made["dhparam"] == good.strip().replace("\n", "\r\n"), "as it was given"
    await world.call("PUT", f"{path}/{made['uuid']}", 200, json={**made, "description": "x"})
    await world.call("PATCH", f"{path}/{made['uuid']}", 400, json={"replace": {"dhparam": "x"}})
