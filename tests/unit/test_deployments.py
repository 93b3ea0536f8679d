"""A pool that is new in a group gets more by and by while its figures keep the rules, and is given up when they do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.controller import deployments as policy_of
from shoal.controller.deployments import Deployments
from shoal.controller.metrics import Metrics
from shoal.wire.counters import Counters, Counts, EngineCounts, PoolCounts, ServiceCounts
from shoal.wire.desired import Service, decode_part
from tests.api_world import ControlledWorld, controlled_world, lead_to_group

POOLS = ("old", "new", "spare")
RULE = {"metric_id": "l7_server.pct_response_errors", "operator": "CO_LE", "threshold": 5}
DURATION_S = 60


class World:
    """A virtual service with a group: one pool is in service, one is to prove itself, one stands by with a lower priority."""

    def __init__(self, world: ControlledWorld) -> None:
        self.world = world
        self.number = 0
        self.totals: dict[str, tuple[int, int]] = {}

    async def build(self) -> None:
        made = await self.world.service()
        self.service = made["uuid"]
        self.pools = await self.world.pools(POOLS)
        body = {
            "name": "by-and-by",
            "scheme": "CANARY",
            "test_traffic_ratio_rampup": 30,
            "target_test_traffic_ratio": 70,
            "evaluation_duration": DURATION_S,
            "rules": [RULE],
        }
        self.policy = await self.world.post("/api/poolgroupdeploymentpolicy", body)
        members = [
            {"pool_ref": self.pools["old"]["url"], "priority_label": "9", "ratio": 4, "deployment_state": "IN_SERVICE"},
            {"pool_ref": self.pools["new"]["url"], "priority_label": "9"},
            {"pool_ref": self.pools["spare"]["url"], "priority_label": "1"},
        ]
        body = {"name": "g", "members": members, "deployment_policy_ref": self.policy["url"]}
        self.group = await self.world.post("/api/poolgroup", body)
        await lead_to_group(self.world, made, self.group)
        (name,) = await self.world.staged(1)
        engines = self.world.controller.ledger.engines
        self.engine = next(id for id, engine in engines.items() if engine.name == name)
        await self.world.run(lambda: self.told() is not None)
        self.adopt()

    def adopt(self) -> None:
        """The controller's time is the test's."""
        self.metrics = Metrics(self.world.clock)
        self.deployments = self.world.controller.deployments
        self.deployments._clock, self.deployments._metrics = self.world.clock, self.metrics
        self.number, self.totals = 0, {}

    async def again(self) -> None:
        """Another controller on the same store."""
        await self.world.restart()
        await self.world.run(lambda: self.told() is not None)
        self.adopt()

    async def patch(self, type: str, document: dict[str, Any], **fields: Any) -> None:
        reply = await self.world.client.patch(f"/api/{type}/{document['uuid']}", json={"replace": fields})
        assert reply.status_code == 200, reply.text

    async def begin(self, candidate: str = "new") -> None:
        members = [
            {**one, "deployment_state": "EVALUATION_IN_PROGRESS"} if self.name_of(one) == candidate else one
            for one in self.stored()["members"]
        ]
        await self.patch("poolgroup", self.group, members=members)
        await self.deployments.look()

    def name_of(self, member: dict[str, Any]) -> str:
        uuid = member["pool_ref"].rpartition("/")[2].partition("#")[0]
        return next(name for name, pool in self.pools.items() if pool["uuid"] == uuid)

    def stored(self) -> dict[str, Any]:
        found = self.world.view.get("poolgroup", self.group["uuid"])
        assert found is not None
        return found

    def states(self) -> dict[str, str]:
        return {self.name_of(one): one.get("deployment_state", "") for one in self.stored()["members"]}

    def told(self) -> Service | None:
        part = self.world.controller.compiler.parts(self.engine).get(f"service/{self.service}")
        found = decode_part(part.data) if part is not None else None
        return found if isinstance(found, Service) and found.groups else None

    def shares(self) -> dict[str, int]:
        """Percent of the requests, of the pools that go first."""
        service = self.told()
        assert service is not None
        names = {pool["uuid"]: name for name, pool in self.pools.items()}
        taking = [one for one in service.groups[0].members if one.ratio > 0]
        best = max(one.priority for one in taking)
        ratios = {names[one.pool]: one.ratio for one in taking if one.priority == best}
        return {name: round(100 * ratio / sum(ratios.values())) for name, ratio in ratios.items()}

    def answers(self, **answered: tuple[int, int]) -> None:
        """(well, badly), by pool, in the half minute that passes."""
        self.world.clock.s += 30
        self.number += 1
        for name, (well, badly) in answered.items():
            before = self.totals.get(name, (0, 0))
            self.totals[name] = before[0] + well, before[1] + badly
        pools = tuple(
            PoolCounts(self.pools[name]["uuid"], (("s", Counts(responses_2xx=well, responses_5xx=badly)),))
            for name, (well, badly) in self.totals.items()
        )
        at = 30_000 * self.number
        services = (ServiceCounts("vs", Counts(), pools),)
        self.metrics.take(
            "se", Counters(epoch="e", number=self.number, at_ms=at, engine=EngineCounts(), services=services)
        )

    async def passes(self, **answered: tuple[int, int]) -> None:
        """The time of one evaluation."""
        for _ in range(2):
            self.answers(**answered)
        self.world.clock.s += 7
        await self.deployments.look()

    def events(self) -> list[str]:
        found = self.world.controller.events_log.read({})
        named = [event.name for event in reversed(found) if event.name.startswith("POOL_DEPLOYMENT_")]
        return [name.removeprefix("POOL_DEPLOYMENT_") for name in named]

    async def runtime(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.world.get(f"/api/poolgroup/{self.group['uuid']}/runtime")
        return found


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with controlled_world(tmp_path) as world:
        made = World(world)
        await made.build()
        made.answers(old=(10, 0), new=(0, 0))
        yield made


async def test_a_canary_gets_more_each_time_and_is_put_in_service(made: World) -> None:
    assert made.shares() == {"old": 80, "new": 20}, "nothing is evaluated yet"
    await made.begin()
    assert made.shares() == {"old": 70, "new": 30}
    shown = (await made.runtime())["deployment"]
    assert (shown["traffic_percent"], shown["target_percent"]) == (30, 70) and shown["pool_ref"].endswith("#new")
    await made.passes(old=(100, 50), new=(50, 1))
    assert made.shares() == {"old": 40, "new": 60}
    await made.passes(old=(100, 0), new=(50, 1))
    assert made.shares() == {"old": 30, "new": 70} and made.states()["new"] == "EVALUATION_IN_PROGRESS"
    await made.passes(old=(100, 0), new=(50, 1))
    assert made.states() == {"old": "OUT_OF_SERVICE", "new": "IN_SERVICE", "spare": ""}
    assert made.shares() == {"new": 100} and "deployment" not in await made.runtime()
    assert made.events() == ["STARTED", "RAMPED", "RAMPED", "PROMOTED"]
    assert (await made.world.store.list("/deployments/")).records == ()


async def test_a_pool_that_breaks_a_rule_or_goes_down_gets_nothing_any_more(made: World) -> None:
    await made.begin()
    await made.passes(old=(100, 0), new=(50, 5))
    assert made.states()["new"] == "EVALUATION_FAILED" and made.shares() == {"old": 100}
    (event, *_) = made.world.controller.events_log.read({})
    assert "l7_server.pct_response_errors is 9.091, and <= 5 is the rule" in event.detail and event.level == "warning"
    await made.begin()
    made.deployments._state = lambda pool: "OPER_DOWN" if pool == made.pools["new"]["uuid"] else "OPER_UP"
    await made.deployments.look()
    assert made.states()["new"] == "EVALUATION_FAILED", "its time is not waited for"
    assert made.events() == ["STARTED", "FAILED", "STARTED", "FAILED"]


async def test_without_requests_nothing_is_decided(made: World) -> None:
    await made.begin()
    await made.passes(old=(100, 0), new=(0, 0))
    assert made.shares()["new"] == 30 and "figures" in (await made.runtime())["deployment"]["waits_for"]
    await made.passes(old=(100, 0), new=(20, 0))
    assert made.shares()["new"] == 60 and "waits_for" not in (await made.runtime())["deployment"]


async def test_without_a_threshold_the_pools_in_service_are_the_measure(made: World) -> None:
    rules = [{"metric_id": "l7_server.pct_response_errors", "operator": "CO_LE"}]
    fields = {"scheme": "BLUE_GREEN", "test_traffic_ratio_rampup": 100, "auto_disable_old_prod_pools": False}
    await made.patch("poolgroupdeploymentpolicy", made.policy, rules=rules, **fields)
    for _ in range(2):
        made.answers(old=(90, 10))
    await made.begin()
    assert made.shares() == {"new": 100}
    await made.passes(new=(95, 5))
    assert made.states() == {"old": "IN_SERVICE", "new": "IN_SERVICE", "spare": ""}, (
        "it was better than the old one was"
    )
    assert made.shares() == {"new": 100}, "as it was when it proved itself"


@pytest.mark.parametrize("health", [90.0, 50.0])
async def test_the_health_score_is_a_figure_as_others(made: World, health: float) -> None:
    await made.patch("poolgroupdeploymentpolicy", made.policy, rules=[{"threshold": 80}])
    made.deployments._health = lambda pool: health
    await made.begin()
    await made.passes(old=(100, 0), new=(20, 0))
    assert made.events()[-1] == ("RAMPED" if health > 80 else "FAILED")


async def test_another_controller_goes_on_where_the_last_one_was(made: World) -> None:
    await made.begin()
    await made.passes(old=(100, 0), new=(50, 0))
    await made.again()
    assert made.shares()["new"] == 60
    await made.passes(old=(100, 0), new=(50, 0))
    assert made.shares()["new"] == 70 and made.events()[-1] == "RAMPED"


async def test_two_controllers_take_a_step_once(made: World) -> None:
    other = Deployments(
        made.world.controller.names,
        made.world.view,
        made.world.store,
        made.metrics,
        made.world.controller.events_log,
        made.world.clock,
        state=lambda pool: "OPER_UP",
        health=lambda pool: 100.0,
        on_change=lambda group: None,
    )
    other.write = made.deployments.write
    await made.begin()
    await other.look()
    assert made.events() == ["STARTED"]
    for _ in range(4):
        await made.passes(old=(100, 0), new=(50, 0))
        await other.look()
    assert made.events() == ["STARTED", "RAMPED", "RAMPED", "PROMOTED"]
    assert made.states() == {"old": "OUT_OF_SERVICE", "new": "IN_SERVICE", "spare": ""}


@pytest.mark.parametrize("broken", ["write", "record"])
async def test_a_controller_that_ends_between_two_writes_leaves_nothing_half_done(
    made: World, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made.patch("poolgroupdeploymentpolicy", made.policy, scheme="BLUE_GREEN")
    await made.begin()

    async def dies(*_: Any) -> None:
        raise RuntimeError("the power is gone")

    keep, last = made.deployments._keep, [broken == "record"]
    if broken == "write":
        monkeypatch.setattr(made.deployments, "write", dies)
    else:

        async def keeps(group: str, progress: Any) -> None:
            await (dies() if progress is None and last.pop() else keep(group, progress))

        monkeypatch.setattr(made.deployments, "_keep", keeps)
    with pytest.raises(RuntimeError):
        await made.passes(old=(100, 0), new=(50, 0))
    await made.again()
    await made.passes(old=(100, 0), new=(50, 0))
    assert made.states() == {"old": "OUT_OF_SERVICE", "new": "IN_SERVICE", "spare": ""}
    assert made.shares() == {"new": 100} and (await made.world.store.list("/deployments/")).records == ()


async def test_who_takes_the_policy_away_has_the_group_as_it_was_written(made: World) -> None:
    await made.begin()
    url = f"/api/poolgroup/{made.group['uuid']}"
    reply = await made.world.client.patch(url, json={"delete": {"deployment_policy_ref": made.policy["url"]}})
    assert reply.status_code == 200 and "evaluated by nothing" in reply.headers["x-shoal-warning"]
    await made.deployments.look()
    assert made.shares() == {"old": 80, "new": 20} and (await made.world.store.list("/deployments/")).records == ()


async def test_what_can_not_be_evaluated_is_refused(made: World) -> None:
    body = {"name": "odd", "rules": [{"metric_id": "l4_client.avg_bandwidth"}]}
    assert "rules[0].metric_id" in str(await made.world.post("/api/poolgroupdeploymentpolicy", body, 400))
    members = [{**one, "deployment_state": "EVALUATION_IN_PROGRESS"} for one in made.stored()["members"]]
    change = {"replace": {"members": members}}
    reply = await made.world.client.patch(f"/api/poolgroup/{made.group['uuid']}", json=change)
    assert reply.status_code == 400 and "one at a time" in reply.text


@pytest.mark.parametrize(
    ("members", "percent", "ratios"),
    [
        ([("IN_SERVICE", 1), ("EVALUATION_IN_PROGRESS", 0)], 1, [990, 10]),
        ([("", 3), ("EVALUATION_IN_PROGRESS", 1), ("", 1)], 20, [600, 200, 200]),
        ([("OUT_OF_SERVICE", 3), ("EVALUATION_IN_PROGRESS", 1)], 20, [3, 1]),
        ([("", 1000), ("EVALUATION_IN_PROGRESS", 1), ("", 1)], 50, [499, 500, 1]),
        ([("", 1), ("EVALUATION_IN_PROGRESS", 1), ("EVALUATION_IN_PROGRESS", 1)], 50, [500, 500, 0]),
    ],
)
def test_shares_are_ratios(members: list[tuple[str, int]], percent: int, ratios: list[int]) -> None:
    group = [{"deployment_state": state, "ratio": ratio} for state, ratio in members]
    assert [one["ratio"] for one in policy_of.shared(group, 1, percent)] == ratios
    assert [one["ratio"] for one in group] == [ratio for _, ratio in members], "the document stays"


def test_a_candidate_shares_with_its_own_priority_or_the_first_in_service() -> None:
    def group(*labels: str) -> list[dict[str, Any]]:
        states = ["", "EVALUATION_IN_PROGRESS", ""]
        return [{"deployment_state": s, "priority_label": label} for s, label in zip(states, labels, strict=True)]

    assert policy_of.peers(group("9", "1", "1"), 1) == [2]
    assert policy_of.peers(group("9", "5", "1"), 1) == [0]
    assert policy_of.shared(group("9", "5", "1"), 1, 50)[1]["priority_label"] == "9"
