"""BGP before a packet flows: what is refused, what engines get, what BIRD is told, who announces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shoal.controller.bgp import bgp_part, community, turns
from shoal.controller.secrets import Secrets
from shoal.engine.bgp.config import Place, config
from shoal.engine.bgp.control import peer_states
from shoal.engine.bgp.health import unready
from shoal.ownership import events as on
from shoal.ownership import initial, step
from shoal.ownership.state import draws
from shoal.wire.desired import Bgp, BgpPeer, Communities, Pool, Route, Server, Service, Timing, Vip
from shoal.wire.guard import Desired
from shoal.wire.messages import BgpPeerState, ServerState
from tests.api_world import ControlledWorld, controlled_world

HERE = Place("10.0.0.2", 24, "fd00::2")
ROUTER = BgpPeer(address="10.0.0.1", local_as=65001, remote_as=65000, secret="s e", hold_s=9, keepalive_s=3)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlledWorld]:
    async with controlled_world(tmp_path) as world:
        yield world


def v4(address: str) -> dict[str, str]:
    return {"addr": address, "type": "V4"}


async def put(world: ControlledWorld, status: int, **profile: Any) -> Any:
    vrf = (await world.get("/api/vrfcontext?name=global"))["results"][0]
    base = {"local_as": 65001, "ibgp": False}
    return await world.call(
        "PUT", f"/api/vrfcontext/{vrf['uuid']}", status, json={**vrf, "bgp_profile": base | profile}
    )


@pytest.mark.parametrize(
    "profile, path",
    [
        ({"peers": [{"remote_as": 1}]}, "bgp_profile.peers[0]"),
        ({"peers": [{"peer_ip": v4("10.0.0.256"), "remote_as": 1}]}, "bgp_profile.peers[0].peer_ip.addr"),
        ({"peers": [{"peer_ip": v4("10.0.0.1")}]}, "bgp_profile.peers[0].remote_as"),
        ({"peers": [{"peer_ip": v4("10.0.0.1"), "remote_as": 65001}]}, "bgp_profile.peers[0].remote_as"),
        ({"ibgp": True, "peers": [{"peer_ip": v4("10.0.0.1"), "remote_as": 1}]}, "bgp_profile.peers[0].remote_as"),
        (
            {"peers": [{"peer_ip": v4("10.0.0.1"), "remote_as": 1}, {"peer_ip": v4("10.0.0.1"), "remote_as": 2}]},
            "bgp_profile.peers[1].peer_ip",
        ),
        (
            {"peers": [{"peer_ip": v4("10.0.0.1"), "remote_as": 1, "md5_secret": 'a"; } log "/etc/x"'}]},
            "bgp_profile.peers[0].md5_secret",
        ),
        (
            {"peers": [{"peer_ip": v4("10.0.0.1"), "remote_as": 1, "md5_secret": "x" * 81}]},
            "bgp_profile.peers[0].md5_secret",
        ),
        (
            {"hold_time": 10, "peers": [{"peer_ip": v4("10.0.0.1"), "remote_as": 1}]},
            "bgp_profile.peers[0].keepalive_interval",
        ),
        ({"community": ["65001:70000"]}, "bgp_profile.community[0]"),
        (
            {"ip_communities": [{"ip_begin": v4("10.0.0.9"), "ip_end": v4("10.0.0.1"), "community": ["1:1"]}]},
            "bgp_profile.ip_communities[0].ip_end",
        ),
    ],
)
async def test_what_no_router_could_be_spoken_to_with_is_refused(
    world: ControlledWorld, profile: dict[str, Any], path: str
) -> None:
    reply = await put(world, 400, **profile)
    assert [problem["path"] for problem in reply["problems"]] == [path], reply


async def test_engines_get_the_profile_with_its_secret_and_clients_do_not(
    world: ControlledWorld, tmp_path: Path
) -> None:
    unseal = Secrets.open(tmp_path / "keys" / "secrets.key").unseal
    peer = {"peer_ip": v4("10.0.0.1"), "remote_as": 65000, "md5_secret": "s e", "keepalive_interval": 3, "hold_time": 9}
    shown = await put(world, 200, peers=[peer], community=["no-export", "65001:7"])
    assert shown["bgp_profile"]["peers"][0]["md5_secret"] == "<sensitive>"
    part = bgp_part(world.view, shown["uuid"], unseal)
    assert part == Bgp(id=shown["uuid"], peers=(ROUTER,), communities=((65535, 65281), (65001, 7)))
    again = await put(world, 200, **shown["bgp_profile"] | {"shutdown": True})
    assert bgp_part(world.view, again["uuid"], unseal) is None


def test_communities() -> None:
    assert [community(text) for text in ("65001:7", "local-AS", "65001", "1:x", "-1:1", "1:65536")] == [
        (65001, 7),
        (65535, 65283),
        None,
        None,
        None,
        None,
    ]


def vip(id: str = "v", *addresses: str, **changes: Any) -> Vip:
    base: dict[str, Any] = {
        "id": id,
        "addresses": addresses or ("10.9.0.1",),
        "generation": 1,
        "owner": "a",
        "members": ("a",),
        "succession": ("a", "b"),
        "list_version": 1,
        "armed": True,
        "route": Route(vrf="r"),
    }
    return Vip(**base | changes)


def test_a_peer_hears_of_the_vips_of_its_vrf_and_label_alone() -> None:
    east, west = (
        BgpPeer(address=f"10.0.0.{n}", local_as=1, remote_as=2, label=label, bfd=False)
        for n, label in ((1, "east"), (3, "west"))
    )
    silent = BgpPeer(address="10.0.0.4", local_as=1, remote_as=2, advertise=False, bfd=False)
    six = BgpPeer(address="fd00::1", local_as=1, remote_as=1, bfd=False)
    bgp = Bgp(id="r", peers=(east, west, silent, six), prepend=2, local_preference=7)
    vips = [
        vip("all", "10.9.0.1", "fd00:9::1"),
        vip("east", "10.9.0.2", route=Route(vrf="r", labels=("east",))),
        vip("other", "10.9.0.3", route=Route(vrf="q")),
        vip("still", "10.9.0.4", route=None),
    ]
    text = config([bgp], vips, HERE)
    filters = {name: body for name, _, body in (part.partition(" ") for part in text.split("filter to_")[1:])}
    assert "[ 10.9.0.1/32, 10.9.0.2/32 ]" in filters["peer0_0"]
    assert "[ 10.9.0.1/32 ]" in filters["peer0_1"] and filters["peer0_1"].count("prepend(1)") == 2
    assert filters["peer0_2"].startswith("{ reject; }")
    assert "[ fd00:9::1/128 ]" in filters["peer0_3"] and "bgp_local_pref = 7;" in filters["peer0_3"]
    assert "bgp_local_pref" not in filters["peer0_0"], "it means nothing to another AS"
    assert "peer0_3" not in config([bgp], vips, Place("10.0.0.2", 24, "")), "no IPv6 here, no session"


def test_what_a_session_is_configured_with() -> None:
    far = BgpPeer(address="192.0.2.1", local_as=1, remote_as=1)
    bgp = Bgp(
        id="r",
        peers=(ROUTER, far),
        communities=((1, 2),),
        by_address=(Communities("10.9.0.5", "10.9.0.9", ((3, 4),)),),
        bfd_tx_ms=50,
    )
    text = config([bgp], [vip()], HERE)
    first, second = text.split("protocol bgp ")[1:]
    for line in (
        "local 10.0.0.2 as 65001;",
        "neighbor 10.0.0.1 as 65000;",
        "direct;",
        'password "s e";',
        "hold time 9;",
        "keepalive time 3;",
        "bfd { min tx interval 50 ms; min rx interval 100 ms; multiplier 3; };",
    ):
        assert line in first
    assert "multihop 64;" in second, "an own router may be anywhere"
    assert (
        "if net.ip ~ [ 10.9.0.5..10.9.0.9 ] then { bgp_community.add((3,4)); }\n  else { bgp_community.add((1,2)); }"
        in text
    )
    with pytest.raises(ValueError, match="quotation mark"):
        config([Bgp(id="r", peers=(BgpPeer(address="10.0.0.1", local_as=1, remote_as=2, secret='"'),))], [], HERE)


def test_birds_words_on_its_sessions() -> None:
    sessions = {name: (Bgp(id="r", peers=()), peer) for name, peer in (("peer0_0", ROUTER), ("peer0_1", ROUTER))}
    protocols = """Name       Proto      Table      State  Since         Info
kernel4    Kernel     drawn4     up     12:17:11.268
  Routes:         7 imported, 7 exported, 7 preferred
peer0_0    BGP        ---        up     12:17:12.158  Established
  BGP state:          Established
  Channel ipv4
    Routes:         0 imported, 2 exported, 0 preferred
peer0_1    BGP        ---        start  12:17:12.158  Active        Socket: Connection refused
  BGP state:          Active
    Last error:       Socket: Connection refused""".splitlines()
    bfd = ["bfd1:", "IP address  Interface  State", "10.0.0.1    eth0       Up    12:17:29  0.100 0.300"]
    up = BgpPeerState(vrf="r", address="10.0.0.1", state="Established", routes=2, bfd="Up")
    refused = BgpPeerState(vrf="r", address="10.0.0.1", state="Active", bfd="Up", why="Socket: Connection refused")
    assert peer_states(protocols, bfd, sessions) == (up, refused)
    assert {peer.state for peer in peer_states([], [], sessions)} == {"Down"}


def service(id: str, pool: Pool | None, vip: str = "v") -> Service:
    return Service(id=id, name=id, vip=vip, addresses=(), enabled=True, mode="http", listeners=(), pool=pool)


def test_a_vip_is_announced_while_anything_behind_it_is_up() -> None:
    pool = Pool(id="p", name="p", servers=(Server(name="x", address="10.1.0.1", port=80),))

    def seen(state: str) -> list[ServerState]:
        return [ServerState(service="one", pool="p", server="x", state=state)]

    one = {"one": service("one", pool)}
    assert unready([vip()], one, []) == (), "nobody has looked yet"
    assert unready([vip()], one, seen("up")) == unready([vip()], one, seen("drain")) == ()
    assert unready([vip()], one, seen("down")) == unready([vip()], one, seen("maint")) == ("v",)
    assert unready([vip()], {}, []) == ("v",), "HAProxy refused all of it"
    assert unready([vip()], {"one": service("one", Pool(id="p", name="p"))}, []) == ("v",), "a pool without servers"
    assert unready([vip()], {**one, "two": service("two", None)}, seen("down")) == (), "one that redirects"
    assert unready([vip(route=Route(vrf="r", though_down=True))], one, seen("down")) == ()
    assert unready([vip(route=None)], one, seen("down")) == ()


class Guard:
    """The state machine of engine ``name``; HAProxy answers."""

    def __init__(self, name: str, told: Vip) -> None:
        self.state = initial()
        self.now = 100.0
        for event in (on.Started(name, 1, "i", {}), on.Haproxy(True)):
            self.feed(event)
        self.tell(told)

    def feed(self, event: on.Event) -> None:
        self.state, _ = step(self.state, event, self.now)

    def tell(self, told: Vip) -> None:
        self.feed(on.Told(Desired(timing=Timing(), peers=(), vips=(told,), slots_max=10)))

    def own(self) -> Guard:
        for _ in range(40):
            self.now += 0.05
            self.feed(on.Tick())
        return self

    @property
    def draws(self) -> bool:
        (view,) = self.state.vips.values()
        return draws(self.state, view)


def test_the_owner_announces_and_with_ecmp_all_members() -> None:
    both = ("a", "b")
    assert Guard("b", vip(members=both)).draws is False
    assert Guard("b", vip(members=both, ecmp=True)).draws is True
    assert Guard("c", vip(members=both, ecmp=True)).draws is False, "a successor is no member"
    assert Guard("a", vip(members=both)).own().draws is True


def test_who_drains_makes_way_at_once_where_others_announce_too() -> None:
    leaving = vip(members=("a",), draining=("b",), ecmp=True)
    assert Guard("b", leaving).draws is False
    alone = Guard("a", vip(ecmp=True)).own()
    assert alone.draws is True
    alone.tell(vip(members=(), draining=("a",), ecmp=True))
    assert alone.draws is True, "there is nobody else"
    back = Guard("b", leaving).own()
    assert back.draws is True, "it has taken the address back, as nobody else lives"


@pytest.mark.parametrize("ecmp", [False, True])
def test_a_primary_that_is_left_is_announced_until_another_one_is(ecmp: bool) -> None:
    """It passes new flows on to a member that lives; with ecmp that one announces itself already."""
    guard = Guard("a", vip(members=("a", "b"), ecmp=ecmp)).own()
    guard.tell(vip(members=("b",), draining=("a",), ecmp=ecmp))
    entry = on.Entry("v", on.Mode.READY, None, 1)
    guard.feed(on.Heard(on.Heartbeat("b", "i", True, (entry,))))
    (view,) = guard.state.vips.values()
    assert view.spread is not None and view.spread.members == ("b",)
    assert guard.draws is not ecmp


def test_without_haproxy_nothing_is_drawn() -> None:
    member = Guard("b", vip(members=("a", "b"), ecmp=True))
    member.feed(on.Haproxy(False, "killed"))
    assert member.draws is False
    owner = Guard("a", vip()).own()
    owner.feed(on.Stopping())
    assert owner.draws is False


def test_only_a_router_reached_or_lost_is_an_event() -> None:
    up, down, trying = (
        BgpPeerState(vrf="r", address="10.0.0.1", state=s) for s in ("Established", "Active", "Connect")
    )
    assert turns((), (down,)) == turns((down,), (trying,)) == turns((up,), (up,)) == turns((up,), ()) == []
    assert (turns((), (up,)), turns((up,), (down,))) == ([up], [down])
