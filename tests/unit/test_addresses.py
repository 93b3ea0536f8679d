"""Files about addresses, from what is uploaded to lists that engines have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shoal.api.uploading import form_of
from shoal.controller.addresses import contents as keeping
from shoal.controller.addresses.contents import KEPT
from shoal.controller.addresses.reading import GEO, REPUTATION, Content, Unreadable, read
from shoal.controller.addresses.uploads import reduced
from shoal.errors import Invalid
from shoal.wire import desired as wire
from shoal.wire.networks import Layer, Networks, joined, networks, packed, prefixes, range_of, unpacked, without
from tests.api_world import ControlledWorld, Document, controlled_world, warnings_of
from tests.mmdb import mmdb

COUNTRY, NAME = "ATTRIBUTE_COUNTRY_CODE", "ATTRIBUTE_COUNTRY_NAME"


def said(content: Content, attribute: str = COUNTRY) -> dict[str, list[str]]:
    """What the networks of each value are."""
    found: dict[str, list[str]] = {}
    for row in content.rows:
        found.setdefault(row.attributes.get(attribute, "-"), []).extend(unpacked(row.networks))
    return found


# --- ranges ---


def test_a_range_is_the_fewest_networks() -> None:
    first, last = (range_of(text)[1][0] for text in ("10.0.0.1", "10.0.1.8"))
    assert list(prefixes(first, last, 4)) == [
        *("10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/30", "10.0.0.8/29", "10.0.0.16/28", "10.0.0.32/27"),
        *("10.0.0.64/26", "10.0.0.128/25", "10.0.1.0/29", "10.0.1.8/32"),
    ]
    assert list(prefixes(0, 2**32 - 1, 4)) == ["0.0.0.0/0"] and list(prefixes(0, 2**128 - 1, 6)) == ["::/0"]


def test_ranges_are_joined_and_taken_away() -> None:
    assert joined([(5, 9), (1, 2), (3, 4), (20, 30), (22, 25)]) == [(1, 9), (20, 30)]
    assert without([(1, 9), (20, 30)], [(0, 1), (4, 5), (9, 22), (30, 40)]) == [(2, 3), (6, 8), (23, 29)]
    assert without([(1, 9)], [(0, 20)]) == [] and without([(1, 9)], []) == [(1, 9)]


def test_what_a_layer_says_hides_what_those_below_say() -> None:
    own = Layer((packed(["10.0.0.0/9"]),), (packed(["192.0.2.0/25"]),))
    part = Networks(layers=(own, Layer((packed(["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]),))))
    assert networks(part) == ["10.0.0.0/8", "192.0.2.128/25", "2001:db8::/32"]
    assert wire.decode_part(wire.encode_part(part)) == part


# --- files ---


def test_lines_say_what_country_a_network_or_a_range_is_in() -> None:
    text = '# ours\n"1.0.0.0","1.0.0.255",AU,Australia\n1.0.1.0,1.0.2.255,CN\n16777984,16778239,-,-\n2001:db8::,2001:db8::f,DE\n'
    content = read(GEO, text.encode())
    assert said(content) == {"AU": ["1.0.0.0/24"], "CN": ["1.0.1.0/24", "1.0.2.0/24"], "DE": ["2001:db8::/124"]}
    assert said(content, NAME)["Australia"] == ["1.0.0.0/24"]
    assert said(read(GEO, b"\xef\xbb\xbf192.0.2.0/24,DE\n192.0.2.7,FR")) == {
        "DE": [
            *("192.0.2.0/30", "192.0.2.4/31", "192.0.2.6/32", "192.0.2.8/29", "192.0.2.16/28", "192.0.2.32/27"),
            *("192.0.2.64/26", "192.0.2.128/25"),
        ],
        "FR": ["192.0.2.7/32"],
    }
    numbers = b"281470681743360,281470698520575,US\n42540766411282592856903984951653826560,42540766411282592856903984951653826575,NL"
    assert said(read(GEO, numbers)) == {"US": ["0.0.0.0/8"], "NL": ["2001:db8::/124"]}


def test_headings_say_what_the_columns_are_and_inner_networks_inherit() -> None:
    text = "IP/prefix;ISP Name;Country Code;Remark;Custom 1\n10.0.0.0/8;ours;DE;x;\n10.1.0.0/16;;;y;site a\n"
    content = read(GEO, text.encode())
    assert said(content)["DE"].count("10.1.0.0/16") == 1
    assert said(content, "ATTRIBUTE_CUSTOM_1")["site a"] == ["10.1.0.0/16"]
    assert "10.1.0.0/16" in said(content, "ATTRIBUTE_ISP_NAME")["ours"]


def test_an_inner_network_is_not_in_the_outer_ones_country_by_another_name() -> None:
    text = "10.0.0.0/8,DE,Germany\n10.1.0.0/16,FR\n"
    assert said(read(GEO, text.encode()), NAME)["-"] == ["10.1.0.0/16"]
    text = "network,Country Code,Region Name,City Name\n10.0.0.0/8,DE,Bayern,Fürth\n10.1.0.0/16,,Hessen,\n"
    content = read(GEO, text.encode())
    assert "10.1.0.0/16" in said(content)["DE"]
    assert (
        said(content, "ATTRIBUTE_REGION_NAME")["Hessen"] == said(content, "ATTRIBUTE_CITY_NAME")["-"] == ["10.1.0.0/16"]
    )


def test_reputations_may_be_several_of_one_network() -> None:
    text = "network,type\n192.0.2.0/24,SPAM_SOURCE\n192.0.2.7,IP_REPUTATION_TYPE_TOR,proxy\n"
    assert said(read(REPUTATION, text.encode()), "IP_REPUTATION_TYPE") == {
        "IP_REPUTATION_TYPE_SPAM_SOURCE": ["192.0.2.0/24"],
        "IP_REPUTATION_TYPE_TOR": ["192.0.2.7/32"],
        "IP_REPUTATION_TYPE_PROXY": ["192.0.2.7/32"],
    }


RECORDS: dict[str, Any] = {
    "1.0.0.0/24": {
        "country": {"iso_code": "AU", "names": {"en": "Australia", "de": "Australien"}},
        "continent": {"code": "OC", "names": {"en": "Oceania"}},
    },
    "1.0.1.0/24": {"country": {"iso_code": "CN"}, "continent": {"code": "AS"}},
    "1.0.2.0/23": {"country": {"iso_code": "CN"}, "continent": {"code": "AS"}},
    "192.0.2.0/24": {"registered_country": {"iso_code": "US"}},
    "2001:db8::/32": {"autonomous_system_number": 64500, "autonomous_system_organization": "Example"},
}


def test_maxminds_databases_are_read() -> None:
    content = read(GEO, mmdb(RECORDS))
    assert said(content) == {"AU": ["1.0.0.0/24"], "CN": ["1.0.1.0/24", "1.0.2.0/23"], "-": ["2001:db8::/32"]}
    assert said(content, NAME)["Australia"] == ["1.0.0.0/24"]
    assert said(content, "ATTRIBUTE_CONTINENT_CODE")["OC"] == ["1.0.0.0/24"]
    assert said(content, "ATTRIBUTE_AS_NUMBER")["64500"] == ["2001:db8::/32"]
    assert content.count == 4


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        (GEO, b"", "names no network"),
        (GEO, b"\xff\xfe", "no text in UTF-8"),
        (GEO, b"10.0.0.0/8,DE\n10.0.0.300/8,FR", "line 2: '10.0.0.300/8' is no address"),
        (GEO, b"10.0.0.0/33,DE", "line 1: '10.0.0.0/33' is neither an address nor headings"),
        (GEO, b"10.0.0.0/8,DE\n10.0.0.0/33,DE", "line 2: '10.0.0.0/33' has no length of 0 to 32"),
        (GEO, b"10.0.0.9,10.0.0.1,DE", "is no range"),
        (GEO, b"10.0.0.0,10.0.0.9,DE\n10.0.0.5,10.0.0.20,FR", "line 2: its range overlaps that of line 1"),
        (GEO, b"IP Start;Country Code\n10.0.0.0;DE", "headings with IP/prefix, or IP start and IP end"),
        (GEO, b"network;Colour\n10.0.0.0;red", "no heading is one of Country Code,"),
        (GEO, b"10.0.0.0/8," + b"x" * 201, "a value has 201 characters"),
        (REPUTATION, b"10.0.0.0/8", "line 1: names no type"),
        (REPUTATION, b"10.0.0.0/8,NICE", "line 1: NICE is no type"),
        (REPUTATION, mmdb(RECORDS), "says nothing of reputations"),
        (GEO, mmdb(RECORDS)[:80] + mmdb(RECORDS)[200:], "a damaged MaxMind database"),
        (GEO, mmdb({"1.0.0.0/24": {"city": {"names": {"en": "X"}}}}), "without countries"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(kind: str, data: bytes, words: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(kind, data)
    assert words in str(caught.value)


async def test_files_are_read_by_a_process_of_their_own() -> None:
    content = msgspec.msgpack.decode(await reduced(GEO, b"10.0.0.0/8,DE"), type=Content)
    assert said(content) == {"DE": ["10.0.0.0/8"]}
    with pytest.raises(Invalid, match="file: line 1: names no type"):
        await reduced(REPUTATION, b"10.0.0.0/8")


def test_a_form_says_what_is_in_it() -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="type"\r\n\r\nGEO_DB\r\n'
    body += b'--x\r\nContent-Disposition: form-data; name="file"; filename="a/b.csv"\r\n\r\n1\r\n--y\r\n2\r\n--x--\r\n'
    assert form_of(body, "multipart/form-data; boundary=x") == ({"type": "GEO_DB", "name": "b.csv"}, b"1\r\n--y\r\n2")
    for wrong, kind in (
        (body, "application/json"),
        (body, "multipart/form-data"),
        (b"", "multipart/form-data; boundary=x"),
    ):
        with pytest.raises(Invalid):
            form_of(wrong, kind)
    with pytest.raises(Invalid, match="colour: unknown field"):
        form_of(body.replace(b'"type"', b'"colour"'), "multipart/form-data; boundary=x")


# --- through the API to engines ---


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


async def upload(
    world: ControlledWorld, file: str, status: int = 201, kind: str = GEO, name: str = "lands"
) -> Document:
    form = {"type": kind, "name": name}
    reply = await world.client.post("/api/fileobject/upload", data=form, files={"file": ("f.csv", file.encode())})
    assert reply.status_code == status, reply.text
    found: Document = reply.json()
    return found


def geo(*values: str, operation: str = "IS_IN", attribute: str = COUNTRY) -> Document:
    return {"geo_matches": [{"attribute": attribute, "values": list(values), "match_operation": operation}]}


def denial(match: Document) -> Document:
    return {
        "name": "deny",
        "index": 1,
        "enable": True,
        "action": "NETWORK_SECURITY_POLICY_ACTION_TYPE_DENY",
        "match": match,
    }


async def lands(world: ControlledWorld) -> Document:
    await upload(world, "192.0.2.0/24,DE\n198.51.100.0/24,FR")
    file = {"name": "lands", "index": 1, "file_ref": "/api/fileobject?name=lands"}
    made: Document = await world.post("/api/geodb", {"name": "g", "files": [file]})
    return made


def lists(world: ControlledWorld, engine: str) -> dict[str, list[str]]:
    """Of an engine, by id: what it is told."""
    (uuid,) = [one.id for one in world.controller.ledger.engines.values() if one.name == engine]
    parts = world.controller.compiler.parts(uuid)
    told = {id: wire.decode_part(part.data) for id, part in parts.items() if id.startswith("networks/")}
    found = {id.partition("/")[2]: networks(part) for id, part in told.items() if isinstance(part, Networks)}
    services = [part for id, one in parts.items() if id.startswith("service/") for part in [wire.decode_part(one.data)]]
    assert {id for one in services if isinstance(one, wire.Service) for id in one.lists} == found.keys()
    return found


async def test_an_engine_has_each_list_that_its_services_name_once(world: ControlledWorld) -> None:
    geodb = await lands(world)
    body = {"name": "n", "geo_db_ref": geodb["url"], "rules": [denial(geo("DE", "fr"))]}
    await world.post("/api/networksecuritypolicy", body)
    rule = {
        "name": "r",
        "index": 1,
        "enable": True,
        "match": geo("DE", operation="IS_NOT_IN"),
        "action": {"action": "HTTP_SECURITY_ACTION_CLOSE_CONN"},
    }
    body = {"name": "h", "geo_db_ref": geodb["url"], "http_security_policy": {"rules": [rule]}}
    await world.post("/api/httppolicyset", body)
    service = await world.service()
    other = await world.service("other", "10.9.0.6")
    await world.call(
        "PATCH",
        service["url"],
        200,
        json={"replace": {"network_security_policy_ref": "/api/networksecuritypolicy?name=n"}},
    )
    sets = [{"index": 1, "http_policy_set_ref": "/api/httppolicyset?name=h"}]
    await world.call("PATCH", other["url"], 200, json={"replace": {"http_policies": sets}})
    (engine,) = await world.staged(1)
    await world.run(lambda: lists(world, engine))
    assert sorted(lists(world, engine).values()) == [["192.0.2.0/24"], ["198.51.100.0/24"]]

    before = lists(world, engine)
    again = await upload(world, "192.0.2.0/25,DE\n198.51.100.0/24,FR", 200)
    assert (again["networks"], again["attributes"]) == (2, [COUNTRY])
    after = lists(world, engine)
    assert sorted(after.values()) == [["192.0.2.0/25"], ["198.51.100.0/24"]]
    assert len(before.keys() & after.keys()) == 1, "what has not changed is not sent again"

    await world.restart()
    await world.run(lambda: lists(world, engine))
    assert lists(world, engine) == after, "it is read from the store"
    file = (await world.get("/api/fileobject"))["results"][0]
    await world.call("DELETE", file["url"], 400)


async def test_what_no_file_names_is_removed(world: ControlledWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "PIECE_BYTES_MAX", 20)
    first = await upload(world, "192.0.2.0/24,DE")
    assert len((await world.store.list(KEPT)).records) > 2
    await upload(world, "192.0.2.0/25,DE", 200)
    await world.controller.contents.keep(await reduced(GEO, b"203.0.113.0/24,NL"))  # and then it crashes
    await world.restart()
    kept = {record.key.split("/")[2] for record in (await world.store.list(KEPT)).records}
    file = await world.get(first["url"])
    assert kept == {file["content"]} and file["content"] != first["content"]
    await world.call("DELETE", first["url"], 204)
    await world.controller.contents.sweep()
    assert (await world.store.list(KEPT)).records == ()


async def test_nobody_but_the_controller_says_what_a_file_holds(world: ControlledWorld) -> None:
    file = await upload(world, "192.0.2.0/24,DE")
    changed = {**file, "content": "0" * 24, "networks": 7, "description": "ours"}
    put = await world.call("PUT", file["url"], 200, json=changed)
    assert (put["content"], put["networks"], put["description"]) == (file["content"], 1, "ours")
    reply = await world.client.post("/api/fileobject", json={"name": "e", "type": GEO, "content": "0" * 24})
    assert "content" not in reply.json()
    assert any("has no content yet" in text for text in warnings_of(reply))
    assert (await upload(world, "10.0.0.0/8", 400, REPUTATION))["problems"][0]["path"] == "file"
    assert (await upload(world, "10.0.0.0/8,TOR", 400, REPUTATION))["problems"][0]["path"] == "type"


async def test_rules_that_no_database_answers_are_told_of(world: ControlledWorld) -> None:
    geodb = await lands(world)
    match = {"ip_reputation_type": {"match_operation": "IS_IN", "reputation_types": ["IP_REPUTATION_TYPE_TOR"]}}
    for name, refs, wanted, words in (
        ("a", {}, geo("DE"), "geo_db_ref of the policy names no database"),
        (
            "b",
            {"geo_db_ref": geodb["url"]},
            geo("1", attribute="ATTRIBUTE_AS_NUMBER"),
            "says anything by ATTRIBUTE_AS_NUMBER",
        ),
        ("c", {}, match, "ip_reputation_db_ref of the policy names no database"),
        (
            "d",
            {"geo_db_ref": geodb["url"]},
            geo("Germany"),
            "ATTRIBUTE_COUNTRY_CODE Germany fits nobody: it is two letters",
        ),
    ):
        body = {"name": name, "rules": [denial(wanted)], **refs}
        reply = await world.client.post("/api/networksecuritypolicy", json=body)
        assert reply.status_code == 201 and words in " ".join(warnings_of(reply)), reply.text
    body = {"name": "e", "geo_db_ref": geodb["url"], "rules": [denial(geo("DE"))]}
    reply = await world.client.post("/api/networksecuritypolicy", json=body)
    assert reply.status_code == 201 and not warnings_of(reply)
    wrong = {"name": "r", "base_file_refs": ["/api/fileobject?name=lands"]}
    refused = await world.call("POST", "/api/ipreputationdb", 400, json=wrong)
    assert refused["problems"][0]["why"] == "is of type GEO_DB; it must be IP_REPUTATION"
