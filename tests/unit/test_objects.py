"""The object model: what is taken, what is refused and with which words."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.errors import Invalid, NotFound
from shoal.objects import ObjectType, load
from shoal.objects import check as checking

GROUP = load().type("serviceenginegroup")
POOL = load().type("pool")


def refused(kind: ObjectType, body: Any) -> str:
    with pytest.raises(Invalid) as caught:
        kind.validate(body)
    return str(caught.value)


def test_a_type_is_found_by_any_case_and_the_nearest_is_named() -> None:
    assert load().type("ServiceEngineGroup") is GROUP
    with pytest.raises(NotFound, match="Did you mean pool"):
        load().type("pol")


def test_defaults_are_filled_in_present_messages_only() -> None:
    document = GROUP.validate({"name": "g"})
    assert (document["max_vs_per_se"], document["ha_mode"]) == (10, "HA_MODE_SHARED")
    assert "vcenter_clusters" not in document
    assert GROUP.validate({"name": "g", "vcenter_clusters": {}})["vcenter_clusters"] == {"include": False}


def test_every_problem_is_told_with_path_value_and_choices() -> None:
    words = refused(GROUP, {"name": "g", "max_sex": 1, "max_se": 5000, "ha_mode": "X", "buffer_se": "two"})
    for part in (
        "max_sex: unknown field. Did you mean max_se?",
        "max_se: 5000 is not allowed: must be 0..1000.",
        "ha_mode: X is not allowed: must be one of",
        "buffer_se: two is not allowed: must be a whole number, not a string",
    ):
        assert part in words


def test_required_fields_and_paths_into_lists() -> None:
    words = refused(POOL, {"servers": [{"ip": {"addr": "10.0.0.1", "type": "V4"}}, {"ip": {"addr": 7}, "ratio": 99}]})
    assert "name: required, and missing" in words
    assert "servers[1].ip.addr: 7 is not allowed: must be a string" in words
    assert "servers[1].ratio: 99 is not allowed: must be 1..20" in words


def test_special_values_lie_outside_the_range_and_nothing_between_does() -> None:
    assert POOL.validate({"name": "p", "graceful_disable_timeout": -1})["graceful_disable_timeout"] == -1
    assert POOL.validate({"name": "p", "capacity_estimation_ttfb_thresh": 0})["name"] == "p"
    assert "must be 1..7200 min, or" in refused(POOL, {"name": "p", "graceful_disable_timeout": -2})


def test_every_default_of_every_message_is_valid() -> None:
    wrong = []
    for message in load().messages.values():
        for name, field in message.fields.items():
            if field.has_default:
                _, problems = checking.inspect(message, {name: field.default})
                wrong += [f"{message.name}.{name}" for p in problems if p.path.split(".")[0] == name]
    assert wrong == []


def test_enum_values_may_be_typed_in_lower_case() -> None:
    assert GROUP.validate({"name": "g", "ha_mode": "ha_mode_shared_pair"})["ha_mode"] == "HA_MODE_SHARED_PAIR"


def test_a_legacy_name_field_becomes_a_reference() -> None:
    document = load().type("virtualservice").validate({"name": "v", "application_profile_name": "System-HTTP"})
    assert document["application_profile_ref"] == "/api/applicationprofile/?name=System-HTTP"


def test_what_is_emitted_is_accepted_back() -> None:
    stored = GROUP.validate({"name": "g"}) | {"uuid": "serviceenginegroup-1", "_last_modified": "5"}
    answer = GROUP.emit(stored) | {"url": "https://x/api/serviceenginegroup/serviceenginegroup-1"}
    again = GROUP.validate(answer)
    assert {k: v for k, v in again.items() if k != "uuid"} == GROUP.validate({"name": "g"})


def test_later_fields_are_hidden_and_identity_never() -> None:
    stored = POOL.validate({"name": "p"}) | {"uuid": "pool-1", "tenant_ref": "/api/tenant/admin", "_last_modified": "5"}
    old, new = POOL.emit(stored, version="17.2.1"), POOL.emit(stored, version="22.1.3")
    assert "append_port" in new and "append_port" not in old
    assert {"uuid", "name", "tenant_ref", "_last_modified"} <= old.keys()


def test_secrets_are_masked_mapped_and_merged() -> None:
    kind = load().type("sslkeyandcertificate")
    stored = {"name": "c", "key": "PRIVATE", "certificate": {"certificate": "PEM"}}
    assert kind.emit(stored)["key"] == "<sensitive>"
    assert kind.emit(stored | {"key": ""})["key"] == ""
    assert kind.map_sensitive(stored, lambda path, value: f"{path}!")["key"] == "key!"
    assert kind.merge_sensitive({"name": "c", "key": "<sensitive>"}, stored)["key"] == "PRIVATE"


def test_references_are_found_at_any_depth() -> None:
    kind = load().type("serviceenginegroup")
    document = {"cloud_ref": "/api/cloud/c", "vcenter_clusters": {"cluster_refs": ["/api/vimgrclusterruntime/x"]}}
    found = [(r.path, r.type_name, r.value) for r in kind.references(document)]
    assert ("cloud_ref", "Cloud", "/api/cloud/c") in found
    assert ("vcenter_clusters.cluster_refs", "VIMgrClusterRuntime", "/api/vimgrclusterruntime/x") in found


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"name": 1e999}',
        b'{"name": NaN}',
        b'{"name": "x", "max_se": 123456789012345678901234567890}',
        b'{"a":' + b"[" * 100_000,
        b'{"vcenter_clusters":' * 50 + b"1" + b"}" * 50,
        b'{"name": "' + b"x" * 1_100_000 + b'"}',
    ],
    ids=["empty", "list", "null", "no utf-8", "infinite", "nan", "huge number", "deep list", "deep object", "long"],
)
def test_hostile_bodies_are_refused_in_words(body: bytes) -> None:
    assert len(refused(GROUP, body)) > 10
