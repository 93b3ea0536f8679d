"""The fabric at a glance: margins, what flows, what is down and why, what happened."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Route, expect

from tests.api_served import Controller

from .person import Person
from .world import ConsoleWorld


@pytest.fixture
def broken(served: Controller) -> Iterator[ConsoleWorld]:
    """All servers of ``git`` refuse connections."""
    world = served.world
    assert isinstance(world, ConsoleWorld)
    pool = world.view.named("pool", "git-pool")
    assert pool is not None
    addresses = {server["ip"]["addr"] for server in pool["servers"]}
    world.troupe.down_servers |= addresses
    yield world
    world.troupe.down_servers -= addresses


def test_a_tired_operator_sees_what_is_down_and_why(person: Person, broken: ConsoleWorld) -> None:
    page = person.page
    groups = page.get_by_role("region", name="Service engine groups")
    expect(groups).to_contain_text(re.compile(r"stays up: any \d of \d"))
    expect(groups).to_contain_text(re.compile(r"keeps capacity: any \d"))
    # No "/" in these: the selector's own language takes it for the pattern's end.
    for chart, figure in (("Throughput: All engines", r"[kMG]?bit.s"), ("Requests: all", r"k?.s, errors [\d.]+ ?k?.s")):
        expect(page.get_by_role("img", name=re.compile(f"^{chart} [\\d.]+ ?{figure}"))).to_be_visible()
    down = page.get_by_role("region", name="What is down, and why")
    expect(down).to_contain_text("pool: none of its 3 servers is up")
    expect(page.get_by_role("link", name="Virtual services up")).to_contain_text(re.compile(r"\d+ of \d+"))
    expect(page.get_by_role("region", name="Recent events").get_by_role("listitem").first).to_contain_text("ago")
    down.get_by_role("link", name="git", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("git Down")
    expect(page.get_by_role("group", name="git: served by")).to_contain_text("Connection refused")


def test_an_engine_tells_its_load_its_part_and_whom_it_hears(person: Person, served: Controller) -> None:
    world, page = served.world, person.page
    assert isinstance(world, ConsoleWorld)
    group = world.view.named("serviceenginegroup", "core-aa")
    assert group is not None
    vip = next(iter(world.controller.ledger.vips[group["uuid"]].values()))
    person.go("/serviceengines")
    name = world.controller.ledger.engines[vip.placements[0].engine].name
    page.get_by_label("Find an engine").fill(name)
    row = page.get_by_role("row").filter(has_text=name)
    expect(row).to_contain_text(re.compile(r"\d+ %"))
    row.get_by_role("link", name=name).click()
    expect(page.get_by_role("img", name=re.compile(r"^CPU of one core: Engine [\d.]+ %"))).to_be_visible()
    expect(page.get_by_role("region", name="Serves")).to_contain_text("primary")
    expect(page.get_by_role("region", name="Would take over")).to_contain_text("from Avi-se")
    expect(page.get_by_role("region", name="Heartbeats")).to_contain_text(re.compile(r"alive\s*heard \d+ ms ago"))

    routers = [
        {"peer_ip": "10.0.0.1", "vrf_ref": "/api/vrfcontext/g", "state": "Established", "bfd": "Up", "routes": 3, "why": ""},
        {"peer_ip": "10.0.0.2", "vrf_ref": "/api/vrfcontext/g", "state": "Active", "bfd": "", "routes": 0, "why": "Hold timer expired"},
    ]  # fmt: skip

    gateways = [
        {"gateway_ip": "10.0.0.8", "up": True, "why": ""},
        {"gateway_ip": "10.0.0.9", "up": False, "why": "no answer"},
    ]

    def announcing(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "bgp_peers": routers, "gateways": gateways})

    page.route("**/api/serviceengine/*/runtime", announcing)
    page.reload()
    table = page.get_by_role("region", name="Routers, by BGP")
    expect(table.get_by_role("row").filter(has_text="10.0.0.1")).to_contain_text("Established")
    expect(table.get_by_role("row").filter(has_text="10.0.0.2")).to_contain_text("Hold timer expired")
    watched = page.get_by_role("region", name="Gateways")
    expect(watched.get_by_role("row").filter(has_text="10.0.0.8")).to_contain_text("answers")
    expect(watched.get_by_role("row").filter(has_text="10.0.0.9")).to_contain_text("lostno answer")
