"""Whom an owner spreads over: members that themselves say they serve, and each of these as long as it is well."""

from __future__ import annotations

from collections.abc import Iterable

from shoal.ownership import events as on
from shoal.ownership import initial, step
from shoal.ownership.events import Entry, Mode
from shoal.ownership.state import State
from shoal.wire.desired import Peer, Timing, Vip
from shoal.wire.guard import Desired
from shoal.wire.messages import Claim

PEERS = tuple(Peer(id=x, name=x, rank=i, address=f"10.1.0.{i}", mac="") for i, x in enumerate("abc", 1))


def vip(id: str, owner: str, *members: str, generation: int = 1, draining: tuple[str, ...] = ()) -> Vip:
    return Vip(
        id=id,
        addresses=(f"10.2.0.{ord(id)}",),
        generation=generation,
        owner=owner,
        members=(owner, *members),
        succession=("a", "b", "c"),
        list_version=generation,
        armed=True,
        draining=draining,
    )


class Engine:
    def __init__(self, name: str, *vips: Vip) -> None:
        self.name, self.now = name, 100.0
        self.state: State = initial()
        self.effects: list[on.Effect] = []
        self.feed(on.Started(name, ord(name) - 96, "first", {}), on.Haproxy(True))
        self.tell(*vips)
        for peer in PEERS:
            if peer.id != name:
                self.feed(on.Session(peer.id, True))

    def feed(self, *events: on.Event) -> None:
        for event in events:
            self.state, effects = step(self.state, event, self.now)
            self.effects += effects

    def tell(self, *vips: Vip) -> None:
        self.feed(on.Told(Desired(timing=Timing(), peers=PEERS, vips=vips, slots_max=10)))

    def pass_time(self, seconds: float, *heard: on.Heartbeat) -> None:
        for _ in range(round(seconds / 0.05)):
            self.now += 0.05
            self.feed(*map(on.Heard, heard), on.Tick())

    def spreads(self) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
        """What was spread since it was asked last."""
        found = [(e.vip, e.members, e.draining) for e in self.effects if isinstance(e, on.Spread)]
        self.effects.clear()
        return found

    def resigned(self) -> Iterable[on.Resign]:
        return (e.message for e in self.effects if isinstance(e, on.Send) and isinstance(e.message, on.Resign))


def says(engine: str, able: bool = True, **vips: Mode) -> on.Heartbeat:
    """``engine``'s heartbeat; what it holds, it holds by its first claim."""
    entries = (Entry(id, mode, Claim(1, 0, ord(engine) - 96) if mode else None, 1) for id, mode in vips.items())
    return on.Heartbeat(engine, "first", able, tuple(entries))


def test_a_member_gets_connections_once_it_says_itself_that_it_serves() -> None:
    """The plan names it, the controller has its acknowledgement: what counts is that its guard has the VIP, of which
    it hears when HAProxy is bound."""
    owner = Engine("a", vip("v", "a"))
    owner.pass_time(0.5, says("b"), says("c"))
    owner.tell(vip("v", "a", "b", generation=2))
    owner.pass_time(0.2, says("b"), says("c"))
    assert {members for _, members, _ in owner.spreads()} == {("a",)}
    owner.pass_time(0.05, says("b", v=Mode.READY))
    assert owner.spreads() == [("v", ("a", "b"), ())]
    owner.pass_time(0.05, says("b"))
    assert owner.spreads() == [("v", ("a",), ())]


def test_a_member_that_makes_way_elsewhere_stays_a_member() -> None:
    """`b` hands `w` over to its planned owner. It is as well as before, whatever its word of that comes after: its last
    heartbeat, or (it comes twice, by datagram and by session) the next one."""
    owner = Engine("a", vip("v", "a", "b"), vip("w", "b"))
    well = says("b", v=Mode.READY, w=Mode.HELD)
    owner.pass_time(0.5, well, says("c", w=Mode.READY))
    assert owner.spreads()[-1] == ("v", ("a", "b"), ())
    leaves = on.Resign("b", "w", Claim(1, 0, 2), "c", able=True)
    after = says("b", v=Mode.READY, w=Mode.READY)
    owner.feed(on.Heard(leaves), on.Heard(after), on.Heard(leaves))
    owner.pass_time(0.05, after)
    assert owner.spreads() == []


def test_a_member_that_is_unwell_gets_no_new_connections() -> None:
    owner = Engine("a", vip("v", "a", "b"), vip("w", "b"))
    owner.pass_time(0.5, says("b", v=Mode.READY, w=Mode.HELD))
    owner.spreads()
    owner.feed(on.Heard(on.Resign("b", "w", Claim(1, 0, 2), "a", able=False)))
    assert ("v", ("a",), ()) in owner.spreads()


def test_who_resigns_says_whether_it_is_well() -> None:
    holder = Engine("b", vip("w", "b"))
    holder.pass_time(0.5, says("a"), says("c"))
    want = on.Heartbeat("c", "first", True, (Entry("w", Mode.WANT, Claim(2, 0, 3), 1),))
    holder.feed(on.Heard(want))
    assert [(r.to, r.able) for r in holder.resigned()] == [("c", True)]

    ill = Engine("b", vip("w", "b"))
    ill.pass_time(0.5, says("a", w=Mode.READY), says("c", w=Mode.READY))
    ill.feed(on.Haproxy(False))
    assert [(r.to, r.able) for r in ill.resigned()] == [("a", False)]


def test_two_changes_of_owner_at_once_leave_no_member_out() -> None:
    """Both owners' words come in one batch: the one whose VIP is taken, and a member's that makes way elsewhere. The
    taker must ask that member for its connections, too (`Guard._spread` asks those of the first spread)."""
    taker = Engine("a", vip("v", "c", "b"), vip("w", "b"))
    taker.pass_time(0.5, says("b", v=Mode.READY, w=Mode.HELD), says("c", v=Mode.HELD, w=Mode.READY))
    taker.tell(vip("v", "a", "b", generation=2, draining=("c",)), vip("w", "c", generation=2, draining=("b",)))
    taker.spreads()
    makes_way = on.Resign("b", "w", Claim(1, 0, 2), "c", able=True)
    hands_over = on.Resign("c", "v", Claim(1, 0, 3), "a", able=True)
    taker.feed(on.Together((on.Heard(makes_way), on.Heard(hands_over))))
    assert taker.spreads() == [("v", ("a", "b"), ("c",))]
