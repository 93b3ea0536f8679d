"""Legacy active/standby groups on the shipping controller and ownership, in virtual time: what operators do and read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shoal.errors import Invalid, Refused
from shoal.simulator.system_world import SystemWorld
from tests.simulation.playing import play_in

LEGACY = "HA_MODE_LEGACY_ACTIVE_STANDBY"
SE_1, SE_2 = "ACTIVE_STANDBY_SE_1", "ACTIVE_STANDBY_SE_2"
OPERATOR = type("Operator", (), {"user": "admin"})()


class Story(SystemWorld):
    """A world with one legacy group ``g``."""

    group = ""

    async def pair(self, *names: str, **more: Any) -> None:
        """The group with these virtual services, the first half of them of the first side, settled."""
        body = {"name": "g", "ha_mode": LEGACY, "vs_scalein_timeout": 5, **more}
        self.group = str((await self.create("serviceenginegroup", body))["uuid"])
        for index, name in enumerate(names):
            service = await self.service(name, "g")
            if index >= len(names) / 2 and more.get("distribute_load_active_standby"):
                await self.patch("virtualservice", service["uuid"], active_standby_se_tag=SE_2)
        await self.pass_time(6.0)
        await self.redistribute_if_needed()

    async def redistribute_if_needed(self) -> None:
        if any(self.active(s["name"]) != self.active_of(s) for s in self.running.view.all("virtualservice")):
            await self.group_operation("redistribute")
            await self.pass_time(8.0)

    def active_of(self, service: dict[str, Any]) -> str:
        """The engine of its side."""
        view = self.running.view.get("serviceenginegroup", self.group) or {}
        if not view["distribute_load_active_standby"]:
            return self.active(service["name"])
        side: str = self.engines()[service["active_standby_se_tag"] == SE_2]
        return side

    def engines(self) -> list[str]:
        return [engine.id for engine in self.controller.ledger.engines_of(self.group)]

    def id(self, service: str) -> str:
        return str(next(s["uuid"] for s in self.running.view.all("virtualservice") if s["name"] == service))

    def read(self, service: str, what: str) -> Any:
        return self.controller.read("virtualservice", self.id(service), what)

    def summary(self, service: str) -> Any:
        (vip,) = self.read(service, "runtime")["vip_summary"]
        return vip

    def active(self, service: str) -> str:
        return next(str(e["uuid"]) for e in self.summary(service)["service_engine"] if e["primary"])

    def standby(self, service: str) -> list[str]:
        return [str(e["uuid"]) for e in self.summary(service)["service_engine"] if e["standby"]]

    async def group_operation(self, operation: str) -> str:
        return str((await self.controller.operate("serviceenginegroup", self.group, operation, {}, OPERATOR))["status"])

    async def engine_operation(self, engine: str, operation: str) -> str:
        return str((await self.controller.operate("serviceengine", engine, operation, {}, OPERATOR))["status"])

    def told(self, name: str) -> list[str]:
        return [event.detail for event in self.controller.events_log.read({"name": name})]


def play(story: Callable[[Story], Awaitable[None]]) -> None:
    play_in(Story, story)


def test_a_client_sees_the_active_and_its_standby() -> None:
    async def story(world: Story) -> None:
        await world.pair("web")
        first, second = world.engines()
        summary = world.summary("web")
        assert (summary["num_se_requested"], summary["num_se_assigned"], summary["percent_ses_up"]) == (2, 2, 100)
        shown = [(e["uuid"], e["primary"], e["standby"], e["active_on_se"]) for e in summary["service_engine"]]
        assert shown == [(first, True, False, True), (second, False, True, True)]
        (vip,) = world.read("web", "runtime/detail")[0]["vip_runtime"]
        assert vip["requested_resource"] == {"num_se": 1, "num_standby_se": 1}
        assert [e["is_standby"] for e in vip["se_list"]] == [False, True]
        assert vip["scale_status"]["state"] == "SCALEOUT_SUCCESS"
        tags = [world.controller.read("serviceengine", e, "runtime")["active_tags"] for e in (first, second)]
        assert tags == [[SE_1], []]
        placement = world.controller.read("serviceengine", second, "placement")
        assert (placement["placements"], [p["virtualservices"] for p in placement["successor_of"]]) == ([], [["web"]])

    play(story)


def test_with_distributed_load_each_engine_shows_its_tag() -> None:
    async def story(world: Story) -> None:
        await world.pair("web", "shop", distribute_load_active_standby=True)
        first, second = world.engines()
        assert (world.active("web"), world.active("shop")) == (first, second)
        assert (world.standby("web"), world.standby("shop")) == ([second], [first])
        tags = [world.controller.read("serviceengine", e, "runtime")["active_tags"] for e in (first, second)]
        assert tags == [[SE_1], [SE_2]]

    play(story)


def test_a_takeover_is_not_undone_until_somebody_redistributes() -> None:
    async def story(world: Story) -> None:
        await world.pair("web", "shop", distribute_load_active_standby=True)
        first, second = world.engines()
        world.cloud.failures = 1000  # no replacement: the dead one returns
        world.kill(second)
        await world.pass_time(3.0)
        assert (world.active("shop"), world.standby("shop")) == (first, [])
        assert world.summary("shop")["num_se_assigned"] == 1
        assert any("served with no standby" in text for text in world.told("VS_SE_HA_COMPROMISED"))
        await world.cloud.restart(second)
        await world.pass_time(30.0)
        assert (world.active("shop"), world.standby("shop")) == (first, [second])
        assert "1 VIP is switching over" in await world.group_operation("redistribute")
        await world.pass_time(10.0)
        assert (world.active("shop"), world.active("web")) == (second, first)
        assert await world.group_operation("redistribute") == "Every virtual service is active on its side already."

    play(story)


def test_with_auto_redistribute_it_is_undone() -> None:
    async def story(world: Story) -> None:
        auto = {"distribute_load_active_standby": True, "auto_redistribute_active_standby_load": True}
        await world.pair("web", "shop", **auto)
        _, second = world.engines()
        world.cloud.failures = 1000
        world.kill(second)
        await world.pass_time(3.0)
        await world.cloud.restart(second)
        await world.pass_time(30.0)
        assert world.active("shop") == second

    play(story)


def test_switchover_of_a_service_and_of_an_engine() -> None:
    async def story(world: Story) -> None:
        await world.pair("web", "shop", "mail")
        first, second = world.engines()
        assert (await world.operate(world.id("web"), "switchover"))["status"] == "in progress"
        await world.pass_time(2.0)
        assert (world.active("web"), world.standby("web")) == (second, [first]), "while the former still drains, too"
        assert "2 VIPs are switching over" in await world.engine_operation(first, "switchover")
        await world.pass_time(10.0)
        assert {world.active(name) for name in ("web", "shop", "mail")} == {second}
        assert len(world.told("VS_SWITCHOVER")) == 3
        assert "is active for nothing" in await world.engine_operation(first, "switchover")
        with pytest.raises(Invalid, match="no such service engine"):
            await world.operate(world.id("web"), "switchover", se_uuid="nobody")

    play(story)


def test_maintenance_switch_over_then_delete_and_a_new_standby_is_made() -> None:
    async def story(world: Story) -> None:
        await world.pair("web")
        first, second = world.engines()
        with pytest.raises(Refused, match="switchover serviceengine"):
            await world.patch("serviceengine", first, enable_state="SE_STATE_DISABLED")
        with pytest.raises(Refused, match="switchover serviceengine"):
            await world.controller.remove_engine(first)
        await world.engine_operation(first, "switchover")
        await world.pass_time(10.0)
        await world.controller.remove_engine(first)
        await world.pass_time(5.0)
        assert world.active("web") == second
        (third,) = world.standby("web")
        assert world.engines() == [second, third]

    play(story)


def test_a_dead_engine_is_replaced_and_goes_when_it_returns() -> None:
    async def story(world: Story) -> None:
        await world.pair("web")
        first, second = world.engines()
        world.kill(first)
        await world.pass_time(5.0)
        (third,) = world.standby("web")
        assert (world.active("web"), third not in (first, second)) == (second, True)
        await world.cloud.restart(first)
        await world.pass_time(10.0)
        assert world.engines() == [second, third]

    play(story)


def test_a_live_group_that_two_engines_cannot_hold_is_refused_with_the_numbers() -> None:
    async def story(world: Story) -> None:
        await world.pair(ha_mode="HA_MODE_SHARED", max_vs_per_se=2)
        for name in ("web", "shop", "mail"):
            await world.service(name, "g")
        await world.pass_time(6.0)
        with pytest.raises(Refused) as refused:
            await world.patch("serviceenginegroup", world.group, ha_mode=LEGACY)
        said = f"take 3 placements, on {len(world.engines())} service engines now"
        assert said in str(refused.value)
        assert "max_vs_per_se is 2. Raise max_vs_per_se to 3, or move" in str(refused.value)
        await world.patch("serviceenginegroup", world.group, ha_mode=LEGACY, max_vs_per_se=3)
        await world.pass_time(60.0)
        assert len(world.engines()) == 2
        assert all(len(world.standby(name)) == 1 for name in ("web", "shop", "mail"))

    play(story)


@pytest.mark.parametrize(("mode", "engines"), [("HA_MODE_SHARED", 1), ("HA_MODE_SHARED_PAIR", 2)])
def test_a_pair_becomes_elastic_again(mode: str, engines: int) -> None:
    async def story(world: Story) -> None:
        await world.pair("web")
        await world.patch("serviceenginegroup", world.group, ha_mode=mode)
        await world.pass_time(20.0)
        summary = world.summary("web")
        assert (summary["num_se_requested"], summary["num_se_assigned"], world.standby("web")) == (engines, engines, [])

    play(story)


def test_scaling_and_migrating_are_refused_with_what_to_use() -> None:
    async def story(world: Story) -> None:
        await world.pair("web")
        for operation, instead in (
            ("scaleout", "HA_MODE_SHARED_PAIR"),
            ("scalein", "Disable"),
            ("migrate", "switchover"),
        ):
            with pytest.raises(Refused, match=instead):
                await world.operate(world.id("web"), operation)

    play(story)


def test_the_oldest_of_a_vip_decides_its_side() -> None:
    async def story(world: Story) -> None:
        await world.pair("web", distribute_load_active_standby=True)
        whole = world.running.view.get("virtualservice", world.id("web")) or {}
        shared = {name: whole[name] for name in ("vsvip_ref", "pool_ref", "se_group_ref")}
        body = {"name": "tls", "services": [{"port": 8080}], **shared}
        with pytest.raises(Invalid, match="web is the oldest of this VIP and says ACTIVE_STANDBY_SE_1"):
            await world.create("virtualservice", {**body, "active_standby_se_tag": SE_2})
        await world.create("virtualservice", body)
        with pytest.raises(Invalid, match="web is the oldest"):
            await world.patch("virtualservice", world.id("tls"), active_standby_se_tag=SE_2)
        await world.patch("virtualservice", world.id("web"), active_standby_se_tag=SE_2)
        await world.patch("virtualservice", world.id("tls"), enabled=True)
        await world.pass_time(3.0)
        await world.group_operation("redistribute")
        await world.pass_time(8.0)
        assert world.active("tls") == world.active("web") == world.engines()[1]

    play(story)
