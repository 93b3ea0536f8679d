"""Rate limits: from what is configured to what an engine carries out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.controller import limits
from shoal.controller.policies import connection_rules_of
from shoal.wire.policy import ADMISSION, SECURITY, Allow, Close, Drop, Limit, Respond
from tests.api_world import World, api_world


class Stored:
    def __init__(self, **documents: dict[str, Any]) -> None:
        self._documents = documents

    def get(self, type: str, uuid: str) -> dict[str, Any] | None:
        return self._documents.get(type)


def profile(action: str, count: int = 5) -> dict[str, Any]:
    return {"rate_limiter": {"count": count, "period": 2, "burst_sz": 1}, "action": {"type": action}}


def test_a_services_limits_and_those_of_its_application_profile() -> None:
    stored = Stored(
        virtualservice={
            "connections_rate_limit": profile("RL_ACTION_DROP_CONN"),
            "requests_rate_limit": {
                **profile("RL_ACTION_LOCAL_RSP"),
                "action": {"type": "RL_ACTION_LOCAL_RSP", "status_code": "HTTP_LOCAL_RESPONSE_STATUS_CODE_429"},
            },
        },
        applicationprofile={
            "dos_rl_profile": {
                "rl_profile": {
                    "client_ip_connections_rate_limit": profile("RL_ACTION_RESET_CONN", 3),
                    "client_ip_to_uri_requests_rate_limit": profile("RL_ACTION_NONE", 4),
                    "uri_requests_rate_limit": {"action": {"type": "RL_ACTION_CLOSE_CONN"}},
                }
            }
        },
    )
    found = limits.limits_of(stored, "vs", "ap", http=True)
    assert [(rule.phase, rule.actions) for rule in found] == [
        (ADMISSION, (Limit(count=5, period_s=2, burst=1, then=Drop()),)),
        (SECURITY, (Limit(count=5, period_s=2, burst=1, then=Respond(status=429)),)),
        (ADMISSION, (Limit(count=3, period_s=2, burst=1, by_client=True, then=Close()),)),
        (SECURITY, (Limit(count=4, period_s=2, burst=1, by_client=True, by_path=True),)),
    ]
    of_connections = limits.limits_of(stored, "vs", "ap", http=False)
    assert {rule.phase for rule in of_connections} == {ADMISSION} and len(of_connections) == 2


def test_connections_of_each_client_are_limited_and_who_exceeds_it_by_far_is_punished() -> None:
    for punishes in (False, True):
        stored = Stored(virtualservice={"max_cps_per_client": 20, "limit_doser": punishes})
        (found,) = limits.limits_of(stored, "vs", "ap", http=True)
        limit = Limit(count=20, by_client=True, punishes=punishes, then=Drop())
        assert (found.phase, found.actions) == (ADMISSION, (limit,))
    (said,) = limits.untaken({"limit_doser": True}, limits.OF_SERVICE)
    assert "without max_cps_per_client" in said


def test_a_rule_of_a_security_policy_lets_through_what_keeps_within_its_limit() -> None:
    rule = {
        "name": "r",
        "index": 1,
        "enable": True,
        "match": {},
        "action": "NETWORK_SECURITY_POLICY_ACTION_TYPE_RATE_LIMIT",
        "rl_param": {"max_rate": 10, "burst_size": 2},
    }
    (found,) = connection_rules_of(Stored(networksecuritypolicy={"rules": [rule]}), "/api/networksecuritypolicy/p")
    assert found.actions == (Limit(count=10, burst=2, then=Drop()), Allow())
    del rule["rl_param"]
    assert connection_rules_of(Stored(networksecuritypolicy={"rules": [rule]}), "/api/networksecuritypolicy/p") == ()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_world(tmp_path) as world:
        yield world


async def test_a_write_tells_what_a_limit_does_not_do(world: World) -> None:
    made = await world.service()
    path = f"/api/virtualservice/{made['uuid']}"
    limit = {**profile("RL_ACTION_LOCAL_RSP"), "fine_grain": True}
    change = {"connections_rate_limit": limit, "performance_limits": {"max_throughput": 10}}
    told = (await world.client.patch(path, json={"replace": change})).headers["x-shoal-warning"]
    assert "connections_rate_limit: a connection can't be answered" in told
    assert "no effect yet: connections_rate_limit.fine_grain" in told
    assert "max_throughput holds for fast paths only, not for ports 80" in told
    limit["rate_limiter"] = {"count": 1, "period": 100_000}
    problem = (await world.call("PATCH", path, 400, json={"replace": change}))["problems"][0]
    assert problem["path"] == "connections_rate_limit.rate_limiter.period"
