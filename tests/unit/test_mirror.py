"""What engines tell one another of TCP connections: who is told, how often, and what is believed."""

from __future__ import annotations

import socket
from itertools import pairwise

import msgspec
import pytest

from shoal.engine.fastpath.conntrack import Connection
from shoal.engine.fastpath.mirror import AGAIN_S, FLOWS_BYTES_MAX, Mirror, Mirrored, packed
from shoal.engine.fastpath.plan import Target, plan, target
from shoal.wire.desired import Listener, Peer, Pool, Server, Service, Settings, Timing, Vip

SNAT, KEY = "10.1.0.9", b"key"


def service(**more: object) -> Service:
    base = Service(
        id="one",
        name="one",
        vip="v",
        addresses=("10.1.0.1",),
        enabled=True,
        mode="tcp",
        listeners=(Listener(port=80, port_end=81, fast=True, mirrored=True, idle_s=300),),
        pool=Pool(id="p", name="p", servers=(Server(name="s", address="10.0.0.1", port=8080),)),
        sources=(SNAT,),
    )
    return msgspec.structs.replace(base, **more)


def targets(one: Service) -> dict[int, Target]:
    assert one.pool is not None
    found = target(one, one.pool.servers[0], "tcp")
    return {found.mark: found}


def settings(key: bytes = KEY) -> Settings:
    peers = tuple(Peer(id=id, name=id, rank=n, address=f"10.9.0.{n}", mac="") for n, id in enumerate("abc", 1))
    return Settings(group="g", group_name="g", peers=peers, timing=Timing(), slots_max=9, heartbeat_key=key)


VIP = Vip(
    id="v",
    addresses=("10.1.0.1",),
    generation=1,
    owner="a",
    members=("a",),
    succession=("b", "c"),
    list_version=1,
    armed=True,
    sources=(SNAT,),
)


def mirror(engine: str, one: Service | None = None, owned: tuple[str, ...] = (), key: bytes = KEY) -> Mirror:
    one = one or service()
    made = Mirror(engine, "127.0.0.1", lambda: owned, lambda: targets(one))
    made.want(settings(key), (VIP,), (one,))
    return made


def connection(one: Service, **more: object) -> Connection:
    """As the owner's kernel has it. ``more``: what a liar says."""
    values: dict[str, object] = {
        "mark": next(iter(targets(one))),
        "vip": "10.1.0.1",
        "port": 80,
        "server": "10.0.0.1",
        "at": 8080,
        "source": SNAT,
    }
    said = values | more
    vip, server, source = (socket.inet_aton(str(said[name])) for name in ("vip", "server", "source"))
    client = socket.inet_aton("10.7.0.1")
    port, at, mark = (int(str(said[name])) for name in ("port", "at", "mark"))
    return Connection(mark, (client, 5000, vip, port), (server, at, source, 6000))


def datagram(sender: Mirror, *connections: Connection, engine: str = "a") -> bytes:
    ((version, flows),) = packed(connections)
    data = msgspec.msgpack.encode(Mirrored(engine, version, flows))
    return sender._signature(data) + data


def test_a_successor_believes_what_it_would_have_done_itself() -> None:
    told = connection(service())
    assert mirror("b").judged(datagram(mirror("a"), told), "10.9.0.1") == [told]
    kept = service(sources=(), keeps_client=True)
    own = connection(kept, source="10.7.0.1")
    assert mirror("b", kept).judged(datagram(mirror("a"), own), "10.9.0.1") == [own]


@pytest.mark.parametrize(
    "lie",
    [
        {"mark": 5},
        {"vip": "10.1.0.2"},
        {"port": 82},
        {"server": "10.0.0.2"},
        {"at": 22},
        {"source": "10.7.0.1"},
    ],
)
def test_nothing_else_comes_into_the_kernel(lie: dict[str, object]) -> None:
    assert mirror("b").judged(datagram(mirror("a"), connection(service(), **lie)), "10.9.0.1") == []


def test_nobody_is_believed_who_is_no_engine_of_the_group_and_an_owner_believes_none() -> None:
    data = datagram(mirror("a"), connection(service()))
    assert mirror("b", key=b"other").judged(data, "10.9.0.1") == []
    assert mirror("b", key=b"").judged(data, "10.9.0.1") == []
    assert mirror("b").judged(data, "10.9.0.7") == [], "from another address"
    assert mirror("b").judged(datagram(mirror("a"), connection(service()), engine="x"), "10.9.0.1") == []
    assert mirror("b", owned=("v",)).judged(data, "10.9.0.1") == []
    for cut in range(len(data)):
        assert mirror("b").judged(data[:cut], "10.9.0.1") == []
    sender = mirror("a")
    for body in (
        b"",
        b"\xc1",
        msgspec.msgpack.encode(Mirrored("a", 5, b"")),
        msgspec.msgpack.encode(Mirrored("a", 4, b"x")),
    ):
        assert mirror("b").judged(sender._signature(body) + body, "10.9.0.1") == []


def test_a_connection_is_told_twice_at_first_and_then_now_and_again() -> None:
    owner, one = mirror("a", owned=("v",)), connection(service())
    times = [now for now in range(100) if owner._due([one], float(now))]
    assert times[:2] == [0, 1] and {later - before for before, later in pairwise(times[1:])} == {AGAIN_S}
    owner.want(settings(), (msgspec.structs.replace(VIP, succession=("c",)),), (service(),))
    assert owner._due([one], 100.0) == [one], "a new successor knows nothing"
    assert owner._ways == {"v": ("10.9.0.3",)}


def test_a_datagram_fits_a_frame() -> None:
    many = [connection(service(), port=80)] * 1_000
    assert all(len(flows) <= FLOWS_BYTES_MAX for _, flows in packed(many))
    assert sum(len(flows) for _, flows in packed(many)) == 28 * 1_000


def test_copies_are_not_this_engines_and_only_what_can_go_on_elsewhere_is_mirrored() -> None:
    assert mirror("b").elsewhere == {"one"} and mirror("a", owned=("v",)).elsewhere == frozenset()
    alone = service(sources=())
    assert mirror("a", alone)._services == {}
    assert "connection_mirror has no effect" in " ".join(plan(alone, 4, (), (), protocol="tcp").notes)
    assert "connection_mirror" not in " ".join(plan(service(), 4, (), (), protocol="tcp").notes)
