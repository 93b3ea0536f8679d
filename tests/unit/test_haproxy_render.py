"""From a virtual service to the text HAProxy reads, and from one state to the next without a reload."""

from __future__ import annotations

import msgspec
import pytest

from shoal.engine.haproxy import carry, monitors, render, runtime, servers, steer
from shoal.engine.haproxy.escape import Unrenderable
from shoal.engine.monitors import runners
from shoal.wire.desired import (
    ClientCertificates,
    Listener,
    Monitor,
    Persistence,
    Pool,
    Server,
    ServerId,
    ServerTls,
    Service,
    Tls,
)
from shoal.wire.policy import Http, Rewriting

FACTS = render.Facts(directory="/d", sockets="/d", descriptors_max=20_000)
A = Server(name="10.0.0.1:80", address="10.0.0.1", port=80)
B = Server(name="10.0.0.2:80", address="10.0.0.2", port=80, ratio=3)
POOL = Pool(id="p", name="pool", servers=(A, B), monitors=(Monitor(name="m", kind="TCP"),))
SERVICE = Service(
    id="virtualservice-1",
    name="web",
    vip="v",
    addresses=("192.0.2.1", "2001:db8::1"),
    enabled=True,
    mode="http",
    listeners=(Listener(port=80, port_end=80), Listener(port=8000, port_end=8010)),
    pool=POOL,
)


def change(service: Service = SERVICE, **pool: object) -> Service:
    assert service.pool is not None
    return msgspec.structs.replace(service, pool=msgspec.structs.replace(service.pool, **pool))


def lines(service: Service) -> list[str]:
    return [line.strip() for line in render.service_fragment(service, FACTS).text.splitlines()]


def test_a_virtual_service_is_a_frontend_and_a_backend() -> None:
    assert (
        render.service_fragment(SERVICE, FACTS).text
        == """\
frontend vs_virtualservice-1
    mode http
    bind 192.0.2.1:80
    bind [2001:db8::1]:80
    bind 192.0.2.1:8000-8010
    bind [2001:db8::1]:8000-8010
    timeout client 60s
    timeout http-keep-alive 60s
    http-after-response set-header Connection close if { str(v) -m str -f '/d/draining.lst' }
    default_backend be_virtualservice-1:p

backend be_virtualservice-1:p
    mode http
    timeout server 60s
    http-request del-header 'X-Forwarded-For'
    option forwardfor
    balance leastconn
    option tcp-check
    tcp-check connect
    timeout check 4s
    server 10.0.0.1:80 10.0.0.1:80 weight 1 check inter 10s rise 2 fall 2
    server 10.0.0.2:80 10.0.0.2:80 weight 3 check inter 10s rise 2 fall 2
"""
    )


@pytest.mark.parametrize(
    ("algorithm", "hash", "expected", "noted"),
    [
        ("ROUND_ROBIN", "", "balance roundrobin", False),
        ("LEAST_CONNECTIONS", "", "balance leastconn", False),
        ("FEWEST_SERVERS", "", "balance first", False),
        ("RANDOM", "", "balance random", False),
        ("FASTEST_RESPONSE", "", "balance roundrobin", False),
        ("LEAST_LOAD", "", "balance leastconn", True),
        ("FEWEST_TASKS", "", "balance roundrobin", False),
        ("CONSISTENT_HASH", "SOURCE_IP_ADDRESS", "balance source", False),
        ("CONSISTENT_HASH", "SOURCE_IP_ADDRESS_AND_PORT", "balance hash src,concat(:,txn.port)", False),
        ("CONSISTENT_HASH", "URI", "balance uri", False),
        ("CONSISTENT_HASH", "CUSTOM_HEADER", "balance hdr(X-Key)", False),
        ("CONSISTENT_HASH", "CALLID", "balance source", True),
    ],
)
def test_each_algorithm_has_its_counterpart_or_a_note(algorithm: str, hash: str, expected: str, noted: bool) -> None:
    service = change(
        algorithm=f"LB_ALGORITHM_{algorithm}", hash=f"LB_ALGORITHM_CONSISTENT_HASH_{hash}", hash_header="X-Key"
    )
    assert expected in lines(service)
    assert bool(render.service_fragment(service, FACTS).notes) is noted
    assert ("hash-type consistent" in lines(service)) is (algorithm == "CONSISTENT_HASH")


def test_tcp_mode_has_no_http_words() -> None:
    found = lines(msgspec.structs.replace(SERVICE, mode="tcp"))
    assert "mode tcp" in found
    assert not [line for line in found if "http" in line or "forwardfor" in line]


def test_servers_disabled_encrypted_and_bounded() -> None:
    service = change(servers=(msgspec.structs.replace(A, enabled=False, ratio=900),), tls=ServerTls())
    line = "server 10.0.0.1:80 10.0.0.1:80 weight 256 ssl verify none check inter 10s rise 2 fall 2 disabled"
    assert lines(service)[-1] == line


def test_a_pool_less_service_answers_503_and_a_limit_is_kept() -> None:
    found = lines(msgspec.structs.replace(SERVICE, pool=None, connections_max=7, http=Http(forwarded_for="")))
    assert "http-request deny deny_status 503" in found
    assert "maxconn 7" in found
    assert "option forwardfor" not in found


@pytest.mark.parametrize(
    "changes",
    [
        {"listeners": ()},
        {"listeners": (Listener(port=80, port_end=79),)},
        {"listeners": (Listener(port=1, port_end=65535),)},
        {"listeners": (Listener(port=443, port_end=443, tls=True),)},
        {"addresses": ("name.example",)},
    ],
)
def test_what_cannot_be_served_is_refused_with_words(changes: dict[str, object]) -> None:
    with pytest.raises(Unrenderable) as refused:
        render.service_fragment(msgspec.structs.replace(SERVICE, **changes), FACTS)
    assert str(refused.value).endswith(".")


def test_two_services_on_one_socket_are_not_both_served() -> None:
    other = msgspec.structs.replace(SERVICE, id="other", listeners=(Listener(port=8005, port_end=8005),))
    twice = msgspec.structs.replace(SERVICE, id="twice", addresses=("192.0.2.9",) * 2)
    found = render.overlaps([SERVICE, other, twice])
    assert found == {
        "other": "192.0.2.1:8005 is already served by virtual service 'web'.",
        "twice": "192.0.2.9:80 is already served by another of its own listeners.",
    }


def test_connections_are_what_descriptors_and_memory_carry() -> None:
    assert render.connections_max(FACTS) == 9_850
    assert render.connections_max(FACTS, descriptors=2_000) == 8_850
    assert render.connections_max(msgspec.structs.replace(FACTS, descriptors_max=1_000_000)) == 30_720
    fragment = render.service_fragment(SERVICE, FACTS)
    assert fragment.descriptors == 12 * 2 + 2
    assert f"maxconn {(20_000 - 300 - 26) // 2}\n" in render.config(FACTS, {"x": fragment})


def test_an_http_monitor_in_full() -> None:
    monitor = Monitor(
        name="m",
        kind="HTTPS",
        request="HEAD /x HTTP/1.1\\r\\nX-A: 1%\\r\\nEmpty:",
        codes=("HTTP_2XX", "HTTP_3XX"),
        port=99,
    )
    check = monitors.check(msgspec.structs.replace(POOL, monitors=(monitor,)))
    assert check.rules == (
        "option httpchk",
        "http-check connect port 99 ssl",
        "http-check send meth 'HEAD' uri '/x' ver 'HTTP/1.1' hdr 'X-A' '1%%' hdr Host '10.0.0.1'",
        "http-check expect status 200-299,300-399",
        "timeout check 4s",
    )
    assert check.server == "check inter 10s rise 2 fall 2 verify none"


def test_haproxy_runs_what_it_can_and_the_agent_the_rest() -> None:
    def check(*kinds: Monitor) -> monitors.Check:
        return monitors.check(msgspec.structs.replace(POOL, monitors=kinds))

    def split(*kinds: Monitor) -> tuple[str, str]:
        pool = msgspec.structs.replace(POOL, monitors=kinds)
        return " ".join(m.name for m in runners.by_haproxy(pool)), " ".join(m.name for m in runners.by_agent(pool))

    web = Monitor(name="web", kind="HTTP")
    talking = Monitor(name="talking", kind="TCP", request="hi", port=7)
    bare, late = Monitor(name="bare", kind="TCP"), Monitor(name="late", kind="TCP", port=8)
    ping, sctp = Monitor(name="ping", kind="PING"), Monitor(name="sctp", kind="SCTP")
    assert split(bare, talking) == ("bare talking", "")
    assert split(web, bare) == ("web", ""), "the HTTP monitor connects, too"
    assert split(web, talking, late, ping) == ("web late", "talking ping")
    assert split(msgspec.structs.replace(web, maintenance_codes=(503,))) == ("", "web")
    assert split(msgspec.structs.replace(web, user="u", password="p")) == ("", "web")
    assert check(web, ping).server == f"check inter 10s rise 2 fall 2 {monitors.TOLD}"
    assert check(ping) == monitors.Check(server=monitors.TOLD)
    assert monitors.check(msgspec.structs.replace(POOL, monitors=(ping,)), proxied=False) == monitors.Check()
    assert check(web, sctp).notes == ("The health monitor 'sctp' of type SCTP is not run.",)
    with pytest.raises(Unrenderable, match="SCTP"):
        check(sctp)
    with pytest.raises(Unrenderable, match="begins with 'nonsense'"):
        check(Monitor(name="odd", kind="HTTP", request="nonsense"))


def test_passive_monitoring_counts_connections_alone() -> None:
    pool = msgspec.structs.replace(POOL, monitors=(Monitor(name="web", kind="HTTP"),), passive=True)
    assert monitors.check(pool).server.endswith(" observe layer4 error-limit 5 on-error fail-check")
    assert "observe" not in monitors.check(msgspec.structs.replace(pool, passive=False)).server
    assert "observe" not in monitors.check(msgspec.structs.replace(pool, monitors=())).server, "it adds to a check"


def test_each_server_is_asked_by_its_own_name() -> None:
    asks = Monitor(name="m", kind="HTTP", request="GET / HTTP/1.1")
    servers = tuple(msgspec.structs.replace(one, hostname=name) for one, name in zip((A, B), "ab", strict=True))
    pool = msgspec.structs.replace(POOL, monitors=(asks,), servers=servers)
    assert runners.by_agent(pool) == (asks,)
    fixed = msgspec.structs.replace(asks, request="GET / HTTP/1.1\r\nHost: x")
    assert runners.by_haproxy(msgspec.structs.replace(pool, monitors=(fixed,))) == (fixed,)


# --- steering ---


def commands(before: Service, after: Service) -> list[str] | None:
    steering = steer.steer({"s": before}, {"s": after})
    return None if steering is None else [command.text for command in steering.commands]


def test_ratio_and_state_are_commands() -> None:
    path = "be_virtualservice-1:p/10.0.0.1:80"
    off = msgspec.structs.replace(A, enabled=False)
    assert commands(SERVICE, SERVICE) == []
    assert commands(SERVICE, change(servers=(msgspec.structs.replace(A, ratio=5), B))) == [
        f"set server {path} weight 5"
    ]
    assert commands(SERVICE, change(servers=(off, B))) == [f"set server {path} state drain"]
    assert commands(change(servers=(off, B)), SERVICE) == [f"set server {path} state ready"]
    at_once = change(servers=(A, B), graceful_disable_s=0)
    assert commands(at_once, change(at_once, servers=(off, B))) == [
        f"set server {path} state maint",
        f"shutdown sessions server {path}",
    ]


def test_servers_come_and_go_by_commands() -> None:
    path = "be_virtualservice-1:p/10.0.0.2:80"
    alone = change(servers=(A,))
    assert commands(alone, SERVICE) == [
        f"add server {path} 10.0.0.2:80 weight 3 check inter 10s rise 2 fall 2",
        f"enable health {path}",
        f"enable server {path}",
    ]
    assert commands(SERVICE, alone) == [f"set server {path} state maint"]
    leaving = steer.steer({"s": SERVICE}, {"s": alone})
    assert leaving is not None and leaving.remove == ((ServerId(SERVICE.id, "p", B.name), B),)
    assert steer.delete(ServerId("virtualservice-1", "p", B.name)).text == f"del server {path}"


def test_servers_of_every_pool_come_and_go_by_commands() -> None:
    canary = msgspec.structs.replace(POOL, id="q", servers=(A,))
    before = msgspec.structs.replace(SERVICE, others=(canary,))
    after = msgspec.structs.replace(SERVICE, others=(msgspec.structs.replace(canary, servers=(B,)),))
    assert commands(before, after) == [
        "set server be_virtualservice-1:q/10.0.0.1:80 state maint",
        "add server be_virtualservice-1:q/10.0.0.2:80 10.0.0.2:80 weight 3 check inter 10s rise 2 fall 2",
        "enable health be_virtualservice-1:q/10.0.0.2:80",
        "enable server be_virtualservice-1:q/10.0.0.2:80",
    ]
    assert commands(SERVICE, before) is None


def test_a_removed_server_that_is_still_there_returns() -> None:
    path = "be_virtualservice-1:p/10.0.0.2:80"
    alone, place = change(servers=(A,)), (B.address, B.port)
    back = steer.steer({"s": alone}, {"s": SERVICE}, {ServerId(SERVICE.id, "p", B.name): place})
    assert back is not None
    assert [c.text for c in back.commands] == [f"set server {path} weight 3", f"set server {path} state ready"]
    assert steer.steer({"s": alone}, {"s": SERVICE}, {ServerId(SERVICE.id, "p", B.name): ("10.0.0.9", 80)}) is None


def test_a_server_that_is_told_its_name_is_known_by_it() -> None:
    called = change(tells_names=True, servers=(msgspec.structs.replace(A, called="a.internal"), B))
    off = change(called, servers=(msgspec.structs.replace(A, called="a.internal", enabled=False), B))
    path = "be_virtualservice-1:p/a.internal"
    assert commands(called, off) == [f"set server {path} state drain"]
    assert commands(called, change(called, servers=(B,))) == [f"set server {path} state maint"]
    assert commands(called, change(called, servers=(A, B))) is None, "HAProxy renames nobody"
    begin, _ = steer.drains({"s": called}, {"s": off})
    (drain,) = begin
    assert [command.text for command in steer.cut(drain.server)] == [
        f"set server {path} state maint",
        f"shutdown sessions server {path}",
    ]
    kept = carry.kept({SERVICE.id: called}, {SERVICE.id: off}, {drain.server})
    assert kept["be_virtualservice-1:p", "a.internal"] == carry.CONFIGURED_MAINTENANCE | carry.FORCED_DRAIN


def test_a_disabled_server_that_cookies_lead_to_gets_none_of_them_unless_it_may() -> None:
    off = (msgspec.structs.replace(A, enabled=False), B)
    kept = Persistence(kind="cookie")
    path = "be_virtualservice-1:p/10.0.0.1:80"
    for admits, state, admin in ((False, "maint", carry.FORCED_MAINTENANCE), (True, "drain", carry.FORCED_DRAIN)):
        before = change(persistence=kept, admits_kept=admits)
        after = change(before, servers=off)
        assert commands(before, after) == [f"set server {path} state {state}"]
        draining = {ServerId(SERVICE.id, "p", A.name)}
        rows = carry.kept({SERVICE.id: before}, {SERVICE.id: after}, draining)
        assert rows["be_virtualservice-1:p", A.name] == carry.CONFIGURED_MAINTENANCE | admin


def test_hashing_knows_servers_whatever_their_order_and_the_others_have_no_ids() -> None:
    hashed = change(algorithm="LB_ALGORITHM_CONSISTENT_HASH").pool
    assert hashed is not None and servers.ids(POOL) == {}
    found = servers.ids(hashed)
    turned = msgspec.structs.replace(hashed, servers=hashed.servers[::-1])
    assert servers.ids(turned) == found and len(set(found.values())) == 2
    moved = tuple(msgspec.structs.replace(s, name=f"{s.address}:81", port=81) for s in hashed.servers)
    assert servers.ids(msgspec.structs.replace(hashed, servers=moved)).values() != found.values()
    by_address = msgspec.structs.replace(hashed, known_by_address=True)
    known = servers.ids(by_address)
    assert list(servers.ids(msgspec.structs.replace(by_address, servers=moved)).values()) == list(known.values())
    both = msgspec.structs.replace(by_address, servers=(*by_address.servers, *moved))
    assert len(set(servers.ids(both).values())) == 4, "two ports of one address are two servers"


def test_names_are_in_no_file() -> None:
    assert commands(SERVICE, msgspec.structs.replace(change(name="other"), name="other")) == []


@pytest.mark.parametrize(
    "after",
    [
        change(algorithm="LB_ALGORITHM_RANDOM"),
        change(servers=(msgspec.structs.replace(A, port=81), B)),
        change(monitors=()),
        msgspec.structs.replace(SERVICE, client_idle_s=61),
        msgspec.structs.replace(SERVICE, pool=None),
    ],
)
def test_all_else_is_a_reload(after: Service) -> None:
    assert commands(SERVICE, after) is None


def test_a_new_service_is_a_reload_and_keeps_the_drains_of_the_others() -> None:
    off = change(servers=(msgspec.structs.replace(A, enabled=False), B))
    other = msgspec.structs.replace(SERVICE, id="t")
    assert steer.steer({"s": SERVICE}, {"s": SERVICE, "t": other}) is None
    begin, end = steer.drains({"s": SERVICE}, {"s": off, "t": other})
    assert begin == (steer.Drain(ServerId(SERVICE.id, "p", A.name), 60),)
    assert ServerId(SERVICE.id, "p", A.name) not in end


# --- states across a reload ---

STATE = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight
3 be_virtualservice-1:p 1 10.0.0.1:80 10.0.0.1 0 0 1
3 be_virtualservice-1:p 2 10.0.0.2:80 10.0.0.2 2 8 3
4 be_gone 1 x 10.0.0.9 0 0 1
"""


def test_states_are_carried_over_as_far_as_they_are_still_true() -> None:
    off = msgspec.structs.replace(B, enabled=False)
    same = msgspec.structs.replace(SERVICE, id="s")
    before = {"s": same}
    text = STATE.replace("be_virtualservice-1", "be_s")

    def rows(after: Service, *draining: str) -> list[str]:
        out = carry.carried(text, carry.kept(before, {"s": after}, {ServerId("s", "p", name) for name in draining}))
        return [" ".join(line.split()[3:7]) for line in out.splitlines()[2:]]

    assert rows(same) == ["10.0.0.1:80 10.0.0.1 0 0", "10.0.0.2:80 10.0.0.2 2 0"]
    assert rows(change(same, servers=(A, off))) == ["10.0.0.1:80 10.0.0.1 0 0", "10.0.0.2:80 10.0.0.2 2 5"]
    assert rows(change(same, servers=(A, off)), B.name) == ["10.0.0.1:80 10.0.0.1 0 0", "10.0.0.2:80 10.0.0.2 2 12"]
    assert rows(change(same, servers=(msgspec.structs.replace(A, port=81), B))) == ["10.0.0.2:80 10.0.0.2 2 0"]
    assert rows(change(same, monitors=())) == []
    assert carry.carried("nonsense", carry.kept(before, before, ())) == carry.EMPTY


# --- what HAProxy says ---


def test_rows_of_show_stat_survive_commas_in_what_servers_said() -> None:
    text = (
        "# pxname,svname,scur,stot,bin,bout,econ,eresp,ereq,status,check_status,last_chk,req_tot,\n"
        'be_s,one,1,2,3,4,5,6,,DOWN,L7RSP,"a, ""b""",,\n'
        "vs_s,FRONTEND,7,8,9,10,,,1,OPEN,,,11,\n"
        "cut,short\n"
    )
    one, front = runtime.parse_rows(text)
    assert (one.name, one.status, one.check, one.errors) == ("one", "DOWN", 'L7RSP a, "b"', 11)
    assert (front.proxy, front.current, front.total, front.requests) == ("vs_s", 7, 8, 11)
    assert runtime.parse_rows("") == ()


def test_what_clients_may_speak_stands_on_the_bind_line() -> None:
    tls = Tls(
        version_min="TLSv1.2",
        version_max="TLSv1.3",
        ciphers="ECDHE+AESGCM",
        suites="TLS_AES_128_GCM_SHA256",
        client_order=True,
    )
    listeners = (Listener(port=443, port_end=443, tls=True),)
    service = msgspec.structs.replace(SERVICE, listeners=listeners, certificates=("c",), tls=tls)
    (bind, _) = [line for line in lines(service) if line.startswith("bind")]
    assert bind.endswith(
        " alpn http/1.1 ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.3 ciphers 'ECDHE+AESGCM' ciphersuites 'TLS_AES_128_GCM_SHA256'"
        " prefer-client-ciphers"
    )
    none = msgspec.structs.replace(service, tls=Tls(suites="::"))  # HAProxy takes no list without a suite
    assert not any("ciphersuites" in line for line in lines(none))


def test_idle_tcp_is_probed_or_closed() -> None:
    tcp = msgspec.structs.replace(SERVICE, mode="tcp", client_idle_s=600)
    closed = render.service_fragment(tcp, FACTS).text
    assert "timeout client 600s" in closed and "timeout server 600s" in closed and "tcpka" not in closed
    probed = render.service_fragment(msgspec.structs.replace(tcp, keepalive=True), FACTS).text
    for line in ("timeout client 86400s", "clitcpka-idle 600s", "timeout server 86400s", "srvtcpka-idle 600s"):
        assert line in probed
    assert "tcpka" not in render.service_fragment(msgspec.structs.replace(tcp, mode="http", keepalive=True), FACTS).text


def test_segments_and_dscp_are_the_profiles() -> None:
    small = msgspec.structs.replace(SERVICE.listeners[0], mss=100)
    text = render.service_fragment(msgspec.structs.replace(SERVICE, listeners=(small,), dscp=46), FACTS).text
    assert " mss 512" in text and "tcp-request connection set-tos 184" in text


def test_servers_are_asked_at_the_clients_port_and_checked_at_their_own() -> None:
    assert SERVICE.pool is not None
    one = msgspec.structs.replace(SERVICE.pool.servers[0], address="2001:db8::1")
    pool = msgspec.structs.replace(
        SERVICE.pool, service_port=True, servers=(one,), monitors=(Monitor(name="m", kind="TCP"),)
    )
    (line,) = [
        line
        for line in render.service_fragment(msgspec.structs.replace(SERVICE, pool=pool), FACTS).text.splitlines()
        if line.strip().startswith("server ")
    ]
    assert "[2001:db8::1] weight" in line and f" port {one.port}" in line


def test_lua_is_loaded_for_services_that_need_it_and_may_have_an_eighth_of_the_memory() -> None:
    changing = Http(rewriting=Rewriting(pairs=(("a", "b"),), types=("text/html",)))
    for http, needed in ((Http(), False), (changing, True)):
        text = render.config(FACTS, {"s": render.service_fragment(msgspec.structs.replace(SERVICE, http=http), FACTS)})
        assert ("/rewriting.lua'" in text, f"tune.lua.maxmem {FACTS.memory_mb // 8}\n" in text) == (needed, needed)


def test_the_memory_of_tls_sessions_is_what_services_ask_for_together() -> None:
    def size(*services: Service) -> str:
        text = render.config(FACTS, {str(n): render.service_fragment(one, FACTS) for n, one in enumerate(services)})
        return text.partition("tune.ssl.cachesize ")[2].partition("\n")[0]

    encrypted = msgspec.structs.replace(
        SERVICE, listeners=(Listener(port=443, port_end=443, tls=True),), certificates=("c",), sessions=1000
    )
    asking = msgspec.structs.replace(encrypted, client_certificates=ClientCertificates(trust="t"))
    forgetful = msgspec.structs.replace(encrypted, tls=Tls(resumes=False))
    assert (size(SERVICE), size(SERVICE, encrypted), size(encrypted, encrypted)) == ("", "2000", "4000")
    assert (size(asking), size(encrypted, forgetful)) == ("12000", "0")
    assert size(*[msgspec.structs.replace(encrypted, sessions=200_000)] * 2) == "500000"
