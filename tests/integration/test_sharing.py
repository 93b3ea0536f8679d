"""Which engine of a VIP gets a new flow: by the client's address, whatever else happens; established ones stay."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.wire.guard import Sharing
from shoal.wire.messages import Shares
from tests.integration.guard_lab import (
    VIP,
    VIP6,
    Lab,
    LabEngine,
    LongConnections,
    lab,
    run,
    shares,
    wait,
    wait_for_spread,
)

pytestmark = pytest.mark.root

NAMES = ("a", "b", "c")
SOURCES6 = tuple(f"fd99::a{n}" for n in range(150, 190))
SOURCES = tuple(f"10.99.0.{n}" for n in range(150, 190))

# Prints as JSON: for each source address, which engines answered its connections, each from another port.
BY_SOURCE = """
import json, socket, sys
vip, each, *sources = sys.argv[1:]
found = {}
for source in sources:
    for _ in range(int(each)):
        with socket.create_connection((vip, 80), timeout=2, source_address=(source, 0)) as s:
            found.setdefault(source, set()).add(s.recv(20).decode())
print(json.dumps({k: sorted(v) for k, v in found.items()}))
"""


@pytest.fixture
def guards(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, NAMES) as value:
        for source, source6 in zip(SOURCES, SOURCES6, strict=True):
            run("ip", "-n", value.client, "addr", "add", f"{source}/24", "dev", "eth0")
            run("ip", "-n", value.client, "addr", "add", f"{source6}/64", "dev", "eth0", "nodad")
        yield value


def homes(guards: Lab) -> dict[str, list[str]]:
    """The engines that answer each source address."""
    found: dict[str, list[str]] = json.loads(
        guards.in_client(BY_SOURCE, guards.vip, "5", *(SOURCES6 if guards.vip == VIP6 else SOURCES))
    )
    return found


@pytest.mark.parametrize("vip", [VIP, VIP6])
def test_a_source_address_has_one_engine_also_after_the_primarys_death(guards: Lab, vip: str) -> None:
    guards.vip = vip
    guards.sharing = (Sharing(vip="vip", by_source=((80, 80),)),)
    guards.start(members=NAMES, succession=NAMES[1:])
    a, b = guards.engines["a"], guards.engines["b"]
    wait_for_spread(a, NAMES)
    before = homes(guards)
    assert all(len(engines) == 1 for engines in before.values()), before
    assert set(Counter(engines[0] for engines in before.values())) == set(NAMES)
    a.kill()
    wait(lambda: b.owns)
    wait_for_spread(b, ("b", "c"))
    after = homes(guards)
    assert {k: v for k, v in after.items() if before[k] != ["a"]} == {k: v for k, v in before.items() if v != ["a"]}
    assert all(len(engines) == 1 for engines in after.values())


def test_the_way_of_sharing_changes_under_connections(guards: Lab) -> None:
    guards.start(members=NAMES)
    a = guards.engines["a"]
    wait_for_spread(a, NAMES)
    held = LongConnections(guards, 150)
    assert set(held.homes) == set(NAMES)
    assert any(len(engines) > 1 for engines in homes(guards).values())
    for sharing in (
        Sharing(vip="vip", by_source=((80, 90), (443, 443))),
        Sharing(vip="vip", by_source=((443, 443),), by_source_and_port=((80, 80),)),
    ):
        guards.sharing = (sharing,)
        guards.tell(members=NAMES)
        first = sharing.by_source[0][0]
        wait_for_elements(a, "by_source", str(first))
        assert all(len(engines) == 1 for engines in homes(guards).values()) == (first == 80)
        assert held.alive() == 150
    guards.sharing = ()
    guards.tell(members=NAMES)
    wait_for_elements(a, "by_source_and_port", "")
    assert held.alive() == 150
    held.close()
    assert 590 < max(_lives_s(a)) <= 600
    guards.idle_s = 930
    guards.tell(members=NAMES)
    wait(
        lambda: (
            "15m30s" in run("ip", "netns", "exec", a.namespace, "nft", "list", "chain", *["netdev", "shoal", "known"])
        )
    )
    held = LongConnections(guards, 20)
    assert held.alive() == 20
    assert sum(lives > 900 for lives in _lives_s(a)) >= 20, "flows live as long as the services say"
    held.close()


def _lives_s(engine: LabEngine) -> list[int]:
    """How long each flow that the engine remembers will live without a packet."""
    listed = engine.nft("map netdev shoal flows")["nftables"]
    assert isinstance(listed, list)
    elements = next(entry["map"]["elem"] for entry in listed if "map" in entry)
    return [key["elem"]["expires"] for key, _ in elements]


def wait_for_elements(engine: LabEngine, name: str, text: str) -> None:
    """Until the kernel set has ``text`` among its elements, or, with "", no elements."""

    def there() -> bool:
        listed = json.dumps(engine.nft(f"set netdev shoal {name}"))
        return text in listed if text else "elem" not in listed

    wait(there)


def test_shares_shift_new_flows_only_and_the_next_primary_knows_them(guards: Lab) -> None:
    guards.start(members=NAMES, succession=NAMES[1:])
    a, b = guards.engines["a"], guards.engines["b"]
    wait_for_spread(a, NAMES)
    held = LongConnections(guards, 150)
    before = a.nft("map netdev shoal buckets")
    for engine in guards.engines.values():
        engine.tell(Shares({"vip": {"a": 250, "b": 750, "c": 2000}}))
    wait(lambda: a.nft("map netdev shoal buckets") != before)
    count = shares(guards)
    assert count["a"] < count["b"] < count["c"] and count["c"] > 300, count
    assert held.alive() == 150
    guards.tell(members=NAMES, succession=NAMES[1:], list_version=2)
    assert shares(guards)["c"] > 300, "a new desired state does not make them forgotten"
    a.kill()
    wait(lambda: b.owns)
    wait_for_spread(b, ("b", "c"))
    count = shares(guards)
    assert count["c"] > 2 * count["b"] > 0, count
    assert held.alive_by_home() == Counter({name: held.homes[name] for name in ("b", "c")})
    held.close()
