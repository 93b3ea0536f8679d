"""The fast paths of an engine, as far as they are pure: shares, plans, rules, DNS, verdicts, totals."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
import pytest

from shoal.engine.fastpath import buckets, lists
from shoal.engine.fastpath.family import IPV4, IPV6, Family
from shoal.engine.fastpath.gate import gate
from shoal.engine.fastpath.parts import counter
from shoal.engine.fastpath.plan import OURS, TCP, Plan, Unservable, paced, plan, versions
from shoal.engine.fastpath.rules import ruleset
from shoal.engine.fastpath.table import NOTHING, _step
from shoal.engine.fastpath.tally import Tally
from shoal.engine.guard.netlink import attribute
from shoal.engine.guard.sockets import Carried
from shoal.engine.monitors import dns
from shoal.engine.monitors.checks import Health
from shoal.engine.monitors.probe import Ill, probe, text_octets
from shoal.lab.backend import Datagrams
from shoal.wire import networks, policy
from shoal.wire.counters import Counts, ServiceCounts
from shoal.wire.desired import Listener, Monitor, Persistence, Pool, Server, Service
from shoal.wire.monitors import DnsQuestion
from shoal.wire.policy import Action, Allow, Close, Drop, Limit, Rule


def servers(*ratios: int) -> tuple[Server, ...]:
    return tuple(Server(name=f"s{n}", address=f"10.0.0.{n}", port=53, ratio=r) for n, r in enumerate(ratios, 1))


def service(pool: Pool | None = None, **more: object) -> Service:
    base = Service(
        id="one",
        name="one",
        vip="v",
        addresses=("10.1.0.1",),
        enabled=True,
        mode="tcp",
        listeners=(Listener(port=53, port_end=53, protocol="udp"),),
        pool=pool or Pool(id="p", name="p", algorithm="LB_ALGORITHM_ROUND_ROBIN", servers=servers(1, 3)),
    )
    return msgspec.structs.replace(base, **more)


# --- shares ---


def test_a_round_has_each_server_by_its_ratio_and_spreads_its_turns() -> None:
    assert buckets.turns({"a": 1, "b": 3}) == ("b", "a", "b", "b")
    assert Counter(buckets.turns({"a": 4, "b": 8, "c": 0})) == Counter(a=1, b=2)
    assert buckets.turns({}) == ()


def test_a_round_is_bounded_whatever_the_ratios() -> None:
    many = {f"s{n}": 1 + n % 20 for n in range(400)}
    assert len(buckets.turns(many)) <= 2 * buckets.TURNS_MAX
    assert set(buckets.turns(many)) == set(many)


def test_a_server_that_goes_moves_its_own_buckets_only() -> None:
    before = buckets.hashed({"a": 1, "b": 1, "c": 2})
    after = buckets.hashed({"a": 1, "c": 2})
    assert all(old == new for old, new in zip(before, after, strict=True) if old != "b")
    share = Counter(before)
    assert 90 < share["c"] < 166 and min(share["a"], share["b"]) > 38
    assert buckets.hashed({"c": 2, "b": 1, "a": 1}) == before, "in whatever order they are named"


# --- plans ---


def test_servers_that_are_down_or_disabled_take_nothing() -> None:
    disabled = (*servers(1, 3)[:1], msgspec.structs.replace(servers(1, 3)[1], enabled=False))
    pool = Pool(id="p", name="p", servers=(*disabled, Server(name="s3", address="10.0.0.3", port=53)))
    made = plan(service(pool), 4, {"s3"}, ())
    assert [target.name for target in made.taking] == ["s1"]
    assert "round robin" in made.notes[0], "least connections is said to be approximated"


def test_a_server_has_the_same_mark_in_every_life() -> None:
    one, two = plan(service(), 4, (), ()), plan(service(), 4, {"s2"}, ())
    assert one.taking[0] == two.taking[0] and one.taking[0].mark & OURS
    assert len({target.mark for target in one.taking}) == 2


@pytest.mark.parametrize("address", ["nonsense", "10.0.0.1; drop", "", "fe80::1%; drop"])
def test_what_is_no_address_never_becomes_a_rule(address: str) -> None:
    bad = Pool(id="p", name="p", servers=(Server(name="x", address=address, port=53),))
    with pytest.raises(Unservable):
        plan(service(bad), 4, (), ())
    with pytest.raises(Unservable):
        versions(service(addresses=(address,)))


@pytest.mark.parametrize(
    ("hash", "choice"),
    [
        ("LB_ALGORITHM_CONSISTENT_HASH_SOURCE_IP_ADDRESS", "saddr"),
        ("LB_ALGORITHM_CONSISTENT_HASH_SOURCE_IP_ADDRESS_AND_PORT", "saddr and port"),
    ],
)
def test_hashes_are_the_kernels(hash: str, choice: str) -> None:
    pool = Pool(id="p", name="p", algorithm="LB_ALGORITHM_CONSISTENT_HASH", hash=hash, servers=servers(1, 1))
    made = plan(service(pool), 4, (), ())
    assert (made.choice, made.notes, len(made.shares)) == (choice, (), buckets.HASH_BUCKETS)


@pytest.mark.parametrize(
    ("bits", "mask", "mask6"), [(24, "255.255.255.0", "ffff:ff00::"), (0, "0.0.0.0", "::"), (-1, "", "")]
)
def test_so_much_of_an_address_is_hashed_as_persistence_says(bits: int, mask: str, mask6: str) -> None:
    six = Server(name="six", address="2001:db8::1", port=53)
    pool = Pool(id="p", name="p", servers=(*servers(1, 1), six), persistence=Persistence(kind="client", bits=bits))
    one = service(pool, addresses=("10.1.0.1", "2001:db8::53"))
    four, also = (plan(one, version, (), ()) for version in (4, 6))
    assert (four.mask, also.mask) == (mask, mask6)
    text = ruleset([four], "10.0.0.1").chains
    assert any(f"jhash ip saddr & {mask} mod" in rules for _, rules in text.values()) is bool(mask)


def test_hashing_may_know_servers_by_their_addresses_alone() -> None:
    def shares(port: int, *, by_address: bool) -> list[str]:
        listed = tuple(Server(name=f"10.0.0.{n}:{port}", address=f"10.0.0.{n}", port=port) for n in (1, 2, 3))
        pool = Pool(
            id="p", name="p", algorithm="LB_ALGORITHM_CONSISTENT_HASH", servers=listed, known_by_address=by_address
        )
        made = plan(service(pool), 4, (), ())
        addresses = {one.mark: one.address for one in made.taking}
        return [addresses[mark] for mark in made.shares]

    assert shares(53, by_address=True) == shares(54, by_address=True)
    assert shares(53, by_address=False) != shares(54, by_address=False)


def test_a_pool_may_need_servers_enough() -> None:
    pool = Pool(id="p", name="p", servers=servers(1, 1, 1), servers_min=2)
    assert len(plan(service(pool), 4, {"s1"}, ()).taking) == 2
    assert plan(service(pool), 4, {"s1", "s2"}, ()).taking == ()


def test_new_connections_to_a_server_are_limited_on_fast_paths_and_behind_the_proxy() -> None:
    rate = Limit(count=5, period_s=1, burst=2)
    pool = Pool(id="p", name="p", servers=servers(1, 1), rate=rate)
    carried = plan(service(pool), 4, (), ())
    limit = "limit rate over 5/second burst 7 packets"
    caps = [rules for name, (_, rules) in ruleset([carried], "10.0.0.1").chains.items() if name.startswith("n_")]
    assert caps == [f"{limit} reject"] * 2
    proxied = service(pool, listeners=(Listener(port=80, port_end=80),))
    (found,) = paced(proxied, 4)
    assert list(paced(proxied, 6)) == []
    made = ruleset([], "10.0.0.1", paced=[found], proxy=42)
    hook, met = made.chains["connecting"]
    assert "hook output" in hook and met.startswith("meta skuid 42 ")
    (set_,) = made.sets
    assert (
        f"add @{set_} {{ ip daddr . tcp dport timeout 2s {limit} }} reject with tcp reset" in made.chains["pacing"][1]
    )
    assert not made.forwards and ruleset([], "10.0.0.1", paced=[]).chains == {}


# --- rules ---


def test_only_udp_services_are_tracked_and_without_any_there_is_no_table() -> None:
    assert ruleset([], "10.0.0.9") == NOTHING
    rules = ruleset([plan(service(), 4, (), ())], "10.0.0.9")
    assert rules.chains["raw_in"][1].endswith("notrack")
    assert "10.1.0.1 . 53" in rules.chains["raw_in"][1]
    assert rules.chains["passing"][0].endswith("policy drop")
    assert "closed" not in rules.chains, "packets pay for a hook without rules, too"


def test_each_version_of_ip_has_its_own_servers_and_words() -> None:
    six = Server(name="six", address="2001:db8::1", port=53)
    both = service(Pool(id="p", name="p", servers=(*servers(1), six)), addresses=("10.1.0.1", "2001:db8::53"))
    assert versions(both) == (4, 6)
    made = plan(both, 6, (), ())
    assert [one.name for one in made.taking] == ["six"]
    chains = ruleset([made], "2001:db8::2", IPV6).chains
    assert "ip6 daddr . udp dport { 2001:db8::53 . 53 }" in chains["raw_in"][1]
    assert not any(f" {word} " in f" {rules} " for _, rules in chains.values() for word in ("ip", "10.1.0.1", "icmp"))
    only_four = service(addresses=("2001:db8::53",))
    assert "No server has an IPv6 address" in plan(only_four, 6, (), ()).notes[0]


def test_a_pool_with_all_servers_down_is_refused_by_the_kernel_itself() -> None:
    """No rule speaks of its ports: nobody listens there, and the client is told by ICMP."""
    assert ruleset([plan(service(), 4, {"s1", "s2"}, ())], "10.0.0.9") == NOTHING


def test_new_flows_are_refused_while_only_draining_servers_are_left() -> None:
    before = plan(service(), 4, (), ())
    rules = ruleset([plan(service(), 4, {"s1", "s2"}, before.taking)], "10.0.0.9")
    assert "reject" in rules.chains["closed"][1] and rules.chains["arriving"][1] == ""


def test_a_change_of_one_service_touches_no_other() -> None:
    two = service(id="two", addresses=("10.1.0.2",))
    before = ruleset([plan(service(), 4, (), ()), plan(two, 4, (), ())], "10.0.0.9")
    after = ruleset([plan(service(), 4, (), ()), _turned(plan(two, 4, (), ()))], "10.0.0.9")
    text = _step(IPV4.table, IPV4, before, after)
    (mine,) = (name for name, chain in after.chains.items() if chain != before.chains[name])
    assert text.count("flush chain") == 1 and f"flush chain ip shoal_fast {mine}\n" in text


def _turned(made: Plan) -> Plan:
    return msgspec.structs.replace(made, shares=tuple(reversed(made.shares)) + made.shares)


# --- verdicts ---


def test_the_first_check_decides_and_later_ones_by_rise_and_fall() -> None:
    health = Health(Monitor(name="m", kind="UDP", rise=2, fall=3))
    assert health.note("silent") and health.why == "silent"
    assert not health.note("") and health.note("") and health.why == ""
    assert not health.note("x") and not health.note("x") and not health.note("") and not health.note("x")


@pytest.mark.parametrize(
    ("text", "octets"), [("hi\\r\\n", b"hi\r\n"), ("\\x00\\xff", b"\0\xff"), ("é", b"\xe9"), ("€", "€".encode())]
)
def test_a_monitors_text_may_name_octets(text: str, octets: bytes) -> None:
    assert text_octets(text) == octets


async def verdict(monitor: Monitor, port: int) -> str:
    """ "" or what is wrong."""
    try:
        await probe(monitor, "127.0.0.1", port)
    except Ill as ill:
        return str(ill)
    return ""


QUESTION = DnsQuestion(name="www.example.org")


def answer(number: int, flags: int, *records: tuple[int, bytes]) -> bytes:
    head = struct.pack("!HHHHHH", number, flags, 1, len(records), 0, 0)
    asked = dns.query(number, QUESTION)[12:]
    return head + asked + b"".join(b"\xc0\x0c" + struct.pack("!HHIH", t, 1, 60, len(d)) + d for t, d in records)


def test_dns_answers_are_judged_by_code_type_and_text() -> None:
    good = dns.parsed(answer(7, 0x8180, (1, bytes([192, 0, 2, 1]))), 7)
    assert good is not None and dns.judged(good, QUESTION, "192.0.2.1") == ""
    assert "without '192.0.2.9'" in dns.judged(good, QUESTION, "192.0.2.9")
    refused = dns.parsed(answer(7, 0x8183), 7)
    assert refused is not None and "RCODE 3" in dns.judged(refused, QUESTION, "")
    anything = msgspec.structs.replace(QUESTION, code="RCODE_ANYTHING", answer="DNS_ANY_THING")
    assert dns.judged(refused, anything, "") == ""
    alias = dns.parsed(answer(7, 0x8180, (5, b"\0")), 7)
    assert alias is not None and "type A" in dns.judged(alias, QUESTION, "")
    assert dns.judged(alias, msgspec.structs.replace(QUESTION, answer="DNS_ANY_TYPE"), "") == ""


@pytest.mark.parametrize("cut", [0, 5, 11, 14, 20, 40])
def test_broken_and_foreign_dns_answers_are_no_answers(cut: int) -> None:
    whole = answer(7, 0x8180, (1, bytes(4)))
    assert dns.parsed(whole[:cut], 7) is None
    assert dns.parsed(whole, 8) is None
    assert dns.parsed(answer(7, 0x0100), 7) is None


@pytest.fixture
async def backend() -> AsyncIterator[int]:
    """The lab's UDP server; its port."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams("b"), local_addr=("127.0.0.1", 0))
    yield transport.get_extra_info("sockname")[1]
    transport.close()


@pytest.mark.parametrize(
    ("monitor", "why"),
    [
        (Monitor(name="m", kind="UDP", request="hi", response="b hi"), ""),
        (Monitor(name="m", kind="UDP", request="hi", response="other", timeout_s=1), "no answer within 1 s"),
        (Monitor(name="m", kind="UDP", request="hi", timeout_s=1), ""),
        (Monitor(name="m", kind="DNS", response="192.0.2.1", asks=QUESTION), ""),
        (Monitor(name="m", kind="DNS", response="192.0.2.9", asks=QUESTION), "answers without '192.0.2.9'"),
    ],
)
async def test_a_server_is_asked_as_its_monitor_says(backend: int, monitor: Monitor, why: str) -> None:
    assert await verdict(monitor, backend) == why


async def test_a_refusal_is_a_failure_where_silence_would_not_be(backend: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert await verdict(Monitor(name="m", kind="UDP", request="hi"), port) == "Connection refused"


# --- totals ---


def test_totals_go_on_when_a_server_leaves_and_comes_back() -> None:
    made = plan(service(), 4, (), ())
    one, two = made.taking
    tally, none = Tally(), ServiceCounts("one", Counts())

    def reading(first: int, second: int | None) -> dict[str, tuple[int, int]]:
        found = {counter("new", one.mark): (first, 0), counter("in", one.mark): (first, 10 * first)}
        return found | ({counter("new", two.mark): (second, 0)} if second is not None else {})

    tally.take(reading(5, 5), made.taking)
    tally.keep({counter("new", one.mark), counter("in", one.mark)}, {"one"})
    tally.take(reading(6, None), made.taking[:1])
    tally.take(reading(7, 2), made.taking)
    counted = tally.added(none, service(), {"s1": 3})
    assert (counted.counts.connections, counted.counts.bytes_in, counted.counts.open) == (14, 70, 3)
    assert dict(counted.pools[0].servers)["s2"].connections == 7


# --- TCP ---

BOTH = (Listener(port=53, port_end=53, protocol="udp"), Listener(port=53, port_end=63, fast=True, idle_s=300))


def test_tcp_and_udp_of_a_service_have_marks_and_ways_of_their_own() -> None:
    both = service(listeners=(*BOTH, Listener(port=80, port_end=80)))
    udp, tcp = (plan(both, 4, (), (), protocol=protocol) for protocol in ("udp", "tcp"))
    assert not {t.mark for t in udp.targets} & {t.mark for t in tcp.targets}
    assert {t.protocol for t in tcp.targets} == {"tcp"} and {t.protocol for t in udp.targets} == {"udp"}
    rules = ruleset([udp, tcp], "10.0.0.9")
    raw = rules.chains["raw_in"][1]
    assert "ip daddr . tcp dport { 10.1.0.1 . 53-63 } accept" in raw, "and not the proxied port 80"
    assert "ip daddr . udp dport { 10.1.0.1 . 53 } accept" in raw
    assert {one.name for one in rules.timeouts} == {
        "udp_10",
        "tcp_300_2",
        "tcp_300_70",
        "tcp_432000_2",
        "tcp_432000_70",
    }
    closed = ruleset([plan(both, 4, {"s1", "s2"}, tcp.taking, protocol="tcp")], "10.0.0.9").chains["closed"][1]
    assert closed.endswith("{ 10.1.0.1 . 53-63 } reject with tcp reset")


# --- rules on connections ---

LOCAL = policy.Test(of="client", values=("10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"))


def gated(*rules: Rule, family: Family = IPV4) -> tuple[str, ...]:
    return gate(rules, "tcp", family, "c").connection


def rule(*actions: Action, tests: tuple[policy.Test, ...] = (LOCAL,)) -> Rule:
    return Rule(name="r", phase="connection", tests=tests, actions=actions)


def test_rules_on_connections_speak_of_their_own_version_of_ip() -> None:
    assert gated(rule(Allow())) == ("ip saddr { 10.0.0.0/8 } return",), "ranges that overlap are no set"
    assert gated(rule(Close()), family=IPV6) == ("ip6 saddr { 2001:db8::/32 } reject with tcp reset",)
    four = policy.Test(of="client", values=("10.0.0.1",))
    assert gated(rule(Close(), tests=(four,)), family=IPV6) == (), "none of these clients speaks IPv6"
    none_of = msgspec.structs.replace(four, negated=True)
    assert gated(rule(Drop(), tests=(none_of,)), family=IPV6) == ("drop",), "all others do"


def test_ports_are_joined_and_conditions_hold_together() -> None:
    ports = policy.Test(of="client_port", values=("80", "1:5", "4:9"), negated=True)
    line = "ip saddr { 10.0.0.0/8 } tcp sport != { 1-9, 80 } reject with tcp reset"
    assert gated(rule(Close(), tests=(LOCAL, ports))) == (line,)


@pytest.mark.parametrize(
    ("limit", "rate"),
    [
        (Limit(count=10, burst=2), "10/second burst 12 packets"),
        (Limit(count=10, period_s=60), "10/minute burst 10 packets"),
        (Limit(count=1, period_s=10), "6/minute burst 1 packets"),
        (Limit(count=7, period_s=11), "384872/week burst 7 packets"),
        (Limit(count=10**12), "1000000000/second burst 1000000000 packets"),
    ],
)
def test_a_limit_is_a_rate_in_the_kernels_units(limit: Limit, rate: str) -> None:
    assert gated(rule(msgspec.structs.replace(limit, then=Drop()), tests=())) == (f"limit rate over {rate} drop",)
    assert gated(rule(limit, tests=())) == (), "one that only counts does nothing"


def test_clients_have_a_limit_each_and_a_new_limit_a_new_set() -> None:
    limits = [Limit(count=count, by_client=True, then=Close()) for count in (5, 6)]
    one, other = (gate([rule(limit)], "tcp", IPV4, "c") for limit in limits)
    (name,) = one.sets
    assert one.connection[0].startswith(
        f"ip saddr {{ 10.0.0.0/8 }} add @{name} {{ ip saddr timeout 2s limit rate over 5/"
    )
    assert one.sets.keys() != other.sets.keys()


@pytest.mark.parametrize("values", [("nonsense",), ("1.2.3.4; drop",), ("fe80::1%; drop",)])
def test_what_is_no_network_never_becomes_a_rule(values: tuple[str, ...]) -> None:
    bad = rule(Allow(), tests=(policy.Test(of="client", values=values),))
    with pytest.raises(Unservable, match="'r'"):
        plan(service(rules=(bad,)), 4, (), ())
    for port in ("80; drop", "70000", "9:1", ""):
        with pytest.raises(Unservable):
            plan(service(rules=(rule(tests=(policy.Test(of="port", values=(port,)),)),)), 4, (), ())


def test_servers_may_be_asked_at_the_port_the_client_came_to() -> None:
    pool = Pool(id="p", name="p", algorithm="LB_ALGORITHM_ROUND_ROBIN", servers=servers(1, 1), service_port=True)
    two = service(pool, id="two", listeners=(Listener(port=60, port_end=70, fast=True),))
    both = service(pool, listeners=BOTH)
    rules = ruleset([plan(one, 4, (), (), protocol="tcp") for one in (both, two)], "10.0.0.9")
    assert "tcp sport { 10.0.0.1 . 53-70, 10.0.0.2 . 53-70 }" in rules.chains["raw_in"][1], "overlapping ranges are one"
    assert " : 10.0.0.1," in rules.chains["give_tcp"][1] and "10.0.0.1 . " not in rules.chains["give_tcp"][1]


# --- the kernel's words ---


def packed(kind: int, *parts: bytes) -> bytes:
    return attribute(kind, b"".join(parts))


def ends(kind: int, source: str, sport: int, target: str, dport: int) -> bytes:
    ip = packed(1, packed(1, socket.inet_aton(source)), packed(2, socket.inet_aton(target)))
    ports = packed(2, packed(1, b"\x06"), packed(2, struct.pack("!H", sport)), packed(3, struct.pack("!H", dport)))
    return packed(kind, ip, ports)


def told(state: int, snat: str, mark: int = OURS | TCP) -> bytes:
    """A flow of a dump: 10.9.0.1:5000 -> 10.1.0.1:53 by 10.0.0.1:53."""
    body = bytes(4) + ends(1, "10.9.0.1", 5000, "10.1.0.1", 53) + ends(2, "10.0.0.1", 53, snat, 5001)
    body += packed(8, struct.pack("!I", mark)) + packed(4, packed(1, packed(1, bytes([state]))))
    return struct.pack("=IHHII", 16 + len(body), 0x100, 2, 1, 0) + body


def test_a_guard_finds_carried_connections_by_either_end() -> None:
    carried, client, server = object.__new__(Carried), (b"\x0a\x09\0\1", 5000, 53), (b"\x0a\0\0\1", 53, 5001)
    assert carried.parsed(told(3, "10.0.0.9"), "10.1.0.1") == ([client], False)
    assert carried.parsed(told(3, "10.0.0.9"), "10.1.0.2") == ([], False)
    assert carried.parsed(told(7, "10.0.0.9"), "10.1.0.1") == ([], False), "in TIME_WAIT nobody misses it"
    assert carried.parsed(told(3, "10.1.0.9"), "10.1.0.9") == ([server], False), "a source of the VIP's"
    assert carried.parsed(told(3, "10.1.0.1"), "10.1.0.1") == ([client, server], False)
    done = struct.pack("=IHHII", 16, 3, 2, 1, 0)
    assert carried.parsed(told(3, "10.0.0.9") + done, "10.1.0.1") == ([client], True)


async def test_a_set_of_the_kernels_is_not_made_of_too_many_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "NETWORKS_MAX", 1)
    listed = networks.packed(["192.0.2.0/24", "2001:db8::/32"])
    part = networks.Networks(layers=(networks.Layer((listed,)),))
    test = policy.Test(of="client", lists=("a",))
    rule = policy.Rule(name="r", phase=policy.CONNECTION, tests=(test,), actions=(policy.Close(),))
    one = {"s": service(rules=(rule,))}
    made = await lists.texts(one.values(), {"a": part}, {})
    assert made == {} and lists.refused(one, made).keys() == {"s"}
