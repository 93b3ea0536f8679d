"""Which packets are copied to a machine that listens."""

from __future__ import annotations

from shoal.engine.fastpath import copies
from shoal.engine.fastpath.family import FAMILIES
from shoal.engine.fastpath.rules import Ruleset
from shoal.wire.desired import Listener, Pool, Server, Service

NOTHING = Ruleset({}, frozenset(), frozenset())


def test_ports_of_a_server_that_overlap_are_joined_and_families_kept_apart() -> None:
    ranged = Pool(id="a", name="a", servers=(Server(name="s", address="10.0.0.5", port=80),), service_port=True)
    fixed = Pool(id="b", name="b", servers=(Server(name="s", address="10.0.0.5", port=85),))
    service = Service(
        id="one",
        name="one",
        vip="v",
        addresses=("10.0.0.1",),
        enabled=True,
        mode="tcp",
        listeners=(Listener(port=80, port_end=90),),
        pool=ranged,
        others=(fixed,),
        copies_to=("10.0.0.8", "10.0.0.9", "no address"),
    )
    four, six = (copies.added(NOTHING, [service], family) for family in FAMILIES)
    assert six is NOTHING
    hook, rule = four.chains["copied_out"]
    assert "postrouting" in hook and "{ 10.0.0.5 . 80-90 }" in rule
    assert "dup to symhash mod 2 map { 0 : 10.0.0.8, 1 : 10.0.0.9 }" in rule
