"""Real guards in namespaces: killed, frozen, cut off, told to move; a raw socket watches who answers."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from shoal.engine.guard import ENGINE_PORT
from shoal.ownership.state import CALL_S, DISPUTED_S
from tests.integration.guard_lab import CLIENT, VIP, VIP6, Lab, LongConnections, lab, run, shares, wait, wait_for_spread

pytestmark = pytest.mark.root

ANSWER_AFTER_CLAIM_S_MAX = 0.020


@pytest.fixture
def guards(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as value:
        yield value


def answers(path: Path) -> list[tuple[float, str]]:
    """(when, MAC) of all that was said about the VIP."""
    complete = [line.split() for line in path.read_text().splitlines()]
    return [(float(words[0]), words[1]) for words in complete if len(words) == 3]


@pytest.mark.parametrize("vip", [VIP, VIP6])
@pytest.mark.parametrize("fault", ["kill", "freeze", "cut"])
def test_the_first_successor_takes_over_and_nobody_else_answers(guards: Lab, fault: str, vip: str) -> None:
    guards.vip = vip
    guards.start()
    owner, successor = guards.engines["a"], guards.engines["b"]
    witness = guards.witness()
    wait(lambda: any(mac == owner.mac for _, mac in answers(witness)))
    if fault == "kill":
        owner.kill()
    elif fault == "freeze":
        owner.signal(signal.SIGSTOP)
    else:
        owner.carrier(False)
    wait(lambda: successor.owns)
    wait(lambda: any(mac == successor.mac for _, mac in answers(witness)))
    claimed = successor.changes[-1][0]
    if fault == "freeze":
        owner.signal(signal.SIGCONT)
    elif fault == "cut":
        owner.carrier(True)
    if fault != "kill":  # it is heard again, knows that it lost the VIP, and stays silent
        wait(lambda: guards.hears_all(successor))
        wait(lambda: not owner.owns)
    count = len(answers(witness))
    wait(lambda: len(answers(witness)) > count + 50)
    late = [when - claimed for when, mac in answers(witness) if mac == owner.mac and when > claimed]
    assert [s for s in late if s > ANSWER_AFTER_CLAIM_S_MAX] == []
    what = successor.changes[-1][1].ownership
    assert (what.from_engine, what.claim.count) == ("a", 1)
    assert guards.engines["c"].owns is False


@pytest.mark.parametrize("vip", [VIP, VIP6])
@pytest.mark.parametrize(
    "first, second, long_after, stays", [("a", "b", 0, "a"), ("b", "a", 0, "a"), ("b", "a", 1, "b")]
)
def test_two_that_do_not_know_each_other_and_both_answer_find_out(
    guards: Lab, first: str, second: str, long_after: bool, stays: str, vip: str
) -> None:
    """Engines of two plans, or of two groups: both have come up with what they knew long ago, and neither hears the other."""
    guards.vip = vip
    pair = guards.engines[first], guards.engines[second]
    for engine in pair:
        run("bridge", "-n", guards.bridge, "link", "set", "dev", f"v{engine.name}", "isolated", "on")
        engine.start()
    for engine in pair:
        told = guards.desired(owner=engine.name, members=(engine.name,), succession=())
        engine.tell(replace(told, peers=(), heartbeat_key=engine.name.encode()))
        wait(lambda: engine.owns)  # noqa: B023
        if long_after and engine is pair[0]:
            time.sleep(DISPUTED_S + 0.2)
    for engine in pair:
        run("bridge", "-n", guards.bridge, "link", "set", "dev", f"v{engine.name}", "isolated", "off")
    wait(lambda: [engine.name for engine in pair if engine.owns] == [stays])
    witness = guards.witness()
    wait(lambda: len(answers(witness)) > 100)
    assert {mac for _, mac in answers(witness)} == {guards.engines[stays].mac}
    guards.engines[stays].kill()
    (other,) = [engine for engine in pair if engine.name != stays]
    wait(lambda: other.owns)


@pytest.mark.parametrize("vip", [VIP, VIP6])
def test_two_of_one_group_that_have_both_answered_for_long_settle_it_by_their_claims(guards: Lab, vip: str) -> None:
    """What they announced when they took it is over, and neither's plan names the other; ``a`` goes by the newer one."""
    guards.vip = vip
    pair = guards.engines["a"], guards.engines["b"]
    for engine, generation in zip(pair, (2, 1), strict=True):
        run("bridge", "-n", guards.bridge, "link", "set", "dev", f"v{engine.name}", "isolated", "on")
        engine.start()
        told = guards.desired(owner=engine.name, members=(engine.name,), succession=(), generation=generation)
        engine.tell(replace(told, peers=(), heartbeat_key=b"of the group"))
        wait(lambda: engine.owns)  # noqa: B023
    time.sleep(DISPUTED_S + 0.2)
    assert [engine.owns for engine in pair] == [True, True]
    for engine in pair:
        run("bridge", "-n", guards.bridge, "link", "set", "dev", f"v{engine.name}", "isolated", "off")
    wait(lambda: [engine.owns for engine in pair] == [True, False], CALL_S + 2.0)
    assert pair[1].changes[-1][1].ownership.why == "a holds it by a higher claim"
    witness = guards.witness()
    wait(lambda: len(answers(witness)) > 100)
    assert {mac for _, mac in answers(witness)} == {pair[0].mac}
    pair[0].kill()
    wait(lambda: pair[1].owns)


# Says again what was called out, as heard and cut short, from its own address; prints how much it is sent there.
PARROT = """
import socket, sys, time
everybody, own = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
to = "255.255.255.255", int(sys.argv[2])
everybody.bind(to); everybody.settimeout(5.0)
own.bind((sys.argv[1], to[1])); own.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1); own.setblocking(False)
heard, count = everybody.recv(65000), 0
for _ in range(30):
    for size in (len(heard), len(heard) - 1, 20, 0):
        own.sendto(heard[:size], to)
    time.sleep(0.05)
    try:
        while own.recv(65000): count += 1
    except BlockingIOError:
        pass
print(count)
"""


def test_who_says_again_what_an_engine_called_out_is_told_nothing(guards: Lab) -> None:
    pair = guards.engines["a"], guards.engines["b"]
    for engine in pair:
        engine.start()
        engine.tell(replace(guards.desired(), peers=()))
    wait(lambda: pair[0].owns)
    assert guards.in_client(PARROT, CLIENT, str(ENGINE_PORT)) == "0\n"
    assert all(engine.processes["guard"].poll() is None for engine in pair)


def test_a_move_and_a_stop_lose_no_connection_attempt_and_wait_for_nothing(guards: Lab) -> None:
    guards.start()
    a, b = guards.engines["a"], guards.engines["b"]
    held = LongConnections(guards)
    try:
        guards.tell(generation=2, owner="b", members=("b", "a"), draining=("a",), succession=("c",), list_version=2)
        wait(lambda: b.owns and not a.owns)
        assert b.changes[-1][1].ownership.why == "a resigned"
        assert held.alive() == 60, "b sends what it does not know to the engine that had it"
        assert shares(guards) == {"b": 600}
    finally:
        held.close()
    b.processes["guard"].terminate()
    wait(lambda: guards.engines["c"].owns)
    assert guards.engines["c"].changes[-1][1].ownership.why == "b resigned"
    assert b.processes["guard"].wait(timeout=5) == 0


def test_haproxys_death_hands_the_vip_on_at_once(guards: Lab) -> None:
    guards.start()
    guards.engines["a"].processes["haproxy"].kill()
    wait(lambda: guards.engines["b"].owns)
    a = guards.engines["a"]
    wait(lambda: not a.owns)
    assert a.changes[-1][1].ownership.why == "HAProxy does not answer; resigned to b"
    assert shares(guards, 50) == {"b": 50}


def test_a_restarted_guard_listens_and_does_not_take_the_vip_back(guards: Lab) -> None:
    guards.start()
    a, b = guards.engines["a"], guards.engines["b"]
    a.processes["guard"].kill()
    a.processes["guard"].wait()
    wait(lambda: b.owns)
    a.start_guard()
    guards.tell()
    wait(lambda: guards.hears_all(a) and guards.hears_all(b))
    first = time.monotonic()
    wait(lambda: time.monotonic() > first + 0.5)  # longer than it listens
    assert (a.owns, b.owns) == (False, True)


def test_flows_are_spread_evenly_and_stay_where_they_are(guards: Lab) -> None:
    guards.start()
    a = guards.engines["a"]
    held = LongConnections(guards)  # from before there was anything to spread over
    try:
        for version, members in enumerate((("a", "b"), ("a", "b", "c")), 2):
            guards.tell(members=members, list_version=version)
            wait_for_spread(a, members)
            assert held.alive() == 60
        count = shares(guards, 900)
        assert set(count) == {"a", "b", "c"}
        assert min(count.values()) > 200, count
    finally:
        held.close()
    held = LongConnections(guards)
    try:
        guards.tell(members=("a", "b"), draining=("c",), list_version=4)
        wait_for_spread(a, ("a", "b"))
        assert held.alive() == 60, "a draining engine keeps its connections"
        assert set(shares(guards)) == {"a", "b"}
        guards.engines["b"].kill()
        wait_for_spread(a, ("a",))
        assert shares(guards) == {"a": 600}, "a dead member gets nothing any more"
    finally:
        held.close()


@pytest.mark.parametrize("vip", [VIP, VIP6])
def test_a_neighbour_that_has_it_wrong_learns_when_addresses_are_announced_anew(guards: Lab, vip: str) -> None:
    guards.vip = vip
    guards.start()
    owner = guards.engines["a"]
    neighbours = ("ip", "-n", guards.client, "neigh")

    def seen_at() -> str:
        return run(*neighbours, "show", vip).split()[4]

    def forget_for(seconds: float) -> None:
        """It would ask only once it had something to send."""
        run(*neighbours, "replace", vip, "lladdr", "02:99:00:00:00:ee", "dev", "eth0", "nud", "stale")
        began = time.monotonic()
        wait(lambda: time.monotonic() > began + seconds)

    time_of_takeover = owner.changes[-1][0]
    wait(lambda: time.monotonic() > time_of_takeover + 1.5)  # it has been said for the last time
    forget_for(2.5)
    assert seen_at() == "02:99:00:00:00:ee"
    owner.tell(replace(guards.desired(), announce_every_s=1))
    wait(lambda: seen_at() == owner.mac)
    forget_for(2.5)
    assert seen_at() == owner.mac, "again and again"
    owner.tell(guards.desired())
    forget_for(2.5)
    assert seen_at() == "02:99:00:00:00:ee"


@pytest.mark.parametrize("vip", [VIP, VIP6])
def test_the_lease_fences_the_kernel_and_raw_sockets_alike(guards: Lab, vip: str) -> None:
    """Killed between two renewals, nothing of the engine says a word about the VIP, although the address is there."""
    guards.vip = vip
    guards.start(succession=())
    a = guards.engines["a"]
    witness = guards.witness()
    a.kill()
    wait(lambda: bool(answers(witness)) and time.monotonic() - answers(witness)[-1][0] > 0.5)
    script = (
        "from shoal.engine.guard.neighbours import Neighbours\n"
        "import sys\n"
        "for _ in range(5): Neighbours('eth0').announce(sys.argv[1])\n"
    )
    count = len(answers(witness))
    assert a.execute(sys.executable, "-c", script, vip).wait(timeout=10) == 0
    first = time.monotonic()
    wait(lambda: time.monotonic() > first + 0.1)
    assert len(answers(witness)) == count


def test_a_lease_that_ended_cannot_be_renewed(guards: Lab) -> None:
    """Compare and set in this kernel: what the whole fence rests on."""
    script = (
        "import time\n"
        "from shoal.engine.guard.lease import Lease\n"
        "from shoal.engine.guard.nft import Nft, ruleset\n"
        "nft = Nft(); nft.run(ruleset('eth0', '02:00:00:00:00:01', 60, 1000).encode())\n"
        "lease = Lease(nft); lease.set_length(60)\n"
        "said = [lease.renew()]\n"
        "lease.acquire()\n"
        "for _ in range(4): time.sleep(0.03); said.append(lease.renew())\n"
        "time.sleep(0.1); said.append(lease.renew()); said.append(lease.renew())\n"
        "lease.acquire(); lease.acquire(); said.append(lease.renew()); lease.drop(); said.append(lease.renew())\n"
        "print(*map(int, said))\n"
    )
    assert guards.in_client(script).split() == ["0", "1", "1", "1", "1", "0", "0", "1", "0"]


def test_a_guard_whose_agent_dies_before_it_connects_starts_it(guards: Lab, tmp_path: Path) -> None:
    """The agent started it and was killed at once: an engine of a guard alone would be neither dead nor alive."""
    marker = tmp_path / "agent-was-started"
    guards.engines["a"].launch_guard(("touch", str(marker)))
    wait(marker.exists)
