"""An engine as its controller and its clients see it: real HAProxy, real sockets, real mutual TLS."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from shoal.engine.haproxy.process import CAPABILITIES
from shoal.wire import messages, policy
from shoal.wire.desired import Certificate, Group, Listener, Member, Monitor, Service, digest, encode_part
from shoal.wire.monitors import Script
from shoal.wire.networks import Layer, Networks, packed
from shoal.wire.policy import SECURITY, Respond, Rule

from .engine_lab import ENGINE, QUICK, VIP, Lab, engine, pool, servers, service, settings, vip
from .private_host import private_host

pytestmark = [pytest.mark.root, pytest.mark.beside]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    with private_host():
        async with engine(tmp_path) as made:
            yield made


async def owning(lab: Lab) -> None:
    """Serve one virtual service and own its VIP."""
    await lab.controller.push(settings(), vip(), service())
    await lab.controller.hear(messages.Ownership, lambda m: m.owner and m.vip == "v")


def state(status: messages.Status, server: str) -> str:
    return next((s.state for s in status.servers if s.server == server), "absent")


async def test_traffic_flows_with_the_clients_address_in_x_forwarded_for(lab: Lab) -> None:
    await owning(lab)
    assert await lab.names() == {"a", "b"}
    assert "x-forwarded-for" in lab.backends["a"].seen[-1].lower()
    status = await lab.controller.hear_status(lambda s: bool(s.services) and s.services[0].requests_total >= 6)
    assert (status.haproxy, status.link, [o.vip for o in status.owned]) == (True, True, ["v"])


async def test_it_sends_what_it_has_recorded(lab: Lab) -> None:
    await owning(lab)
    told = await lab.controller.recall(60.0)
    recorded = {recording.writer: [record.kind for record in recording.records] for recording in told.recordings}
    assert {"agent started", "controller", "applied"} <= set(recorded["agent"])
    steps = [
        kind for kind in recorded["guard"] if kind in ("guard started", "haproxy up", "told", "claim", "take", "took")
    ]
    assert steps[0] == "guard started" and steps[-3:] == ["claim", "take", "took"]
    alive = [recording.alive_ns for recording in told.recordings]
    assert all(0 <= told.monotonic_ns - alive_ns < 2_000_000_000 for alive_ns in alive)
    hello = await lab.controller.hear(messages.Hello)
    assert hello.recorder, "it says that it can be asked"
    assert (await lab.controller.recall(0.0)).recordings[0].records == ()


async def test_parts_that_were_not_sent_along_are_fetched(lab: Lab) -> None:
    lab.controller.send_inline = False
    applied = await lab.controller.push(settings(), vip(), service())
    assert applied.problems == ()
    fetch = await lab.controller.hear(messages.Fetch)
    assert fetch.ids == ("service/one", "settings", "vip/v")


async def test_a_disabled_server_finishes_what_it_has_and_gets_nothing_new(lab: Lab) -> None:
    await owning(lab)
    backend = lab.backends["a"]
    backend.hold.clear()
    waiting = [asyncio.create_task(lab.get()) for _ in range(2)]  # round robin: one of them at a
    async with asyncio.timeout(5):
        while not backend.seen:
            await asyncio.sleep(0.01)
    applied = await lab.controller.push(settings(), vip(), service(pool=pool(servers=servers(a={"enabled": False}))))
    assert applied.how == "runtime"
    assert await lab.names() == {"b"}
    backend.hold.set()
    assert {body for _, body in await asyncio.gather(*waiting)} == {"a", "b"}
    assert state(await lab.controller.hear_status(lambda s: state(s, "a") == "drain"), "b") == "up"
    applied = await lab.controller.push(settings(), vip(), service())
    assert (applied.how, await lab.names()) == ("runtime", {"a", "b"})


async def test_ratio_and_new_and_removed_servers_need_no_reload(lab: Lab) -> None:
    await owning(lab)
    one = servers()[:1]
    applied = await lab.controller.push(settings(), vip(), service(pool=pool(servers=one)))
    assert (applied.how, await lab.names()) == ("runtime", {"a"})
    applied = await lab.controller.push(settings(), vip(), service(pool=pool(servers=servers(b={"ratio": 3}))))
    assert applied.how == "runtime"
    await lab.controller.hear_status(lambda s: state(s, "b") == "up")
    answers = [(await lab.get())[1] for _ in range(8)]
    assert (answers.count("a"), answers.count("b")) == (2, 6)


async def test_a_dead_server_is_marked_down_and_stays_down_through_a_reload(lab: Lab) -> None:
    await owning(lab)
    await lab.backends["a"].stop()
    status = await lab.controller.hear_status(lambda s: state(s, "a") == "down")
    assert "L4CON" in next(s.check for s in status.servers if s.server == "a")
    assert await lab.names() == {"b"}
    applied = await lab.controller.push(settings(), vip(), service("a-first", port=81), service())
    assert applied.how == "reload"
    status = await lab.controller.hear_status(lambda s: any(x.service == "a-first" for x in s.servers))
    assert {s.state for s in status.servers if (s.service, s.server) == ("one", "a")} == {"down"}
    await lab.backends["a"].start()
    await lab.controller.hear_status(lambda s: state(s, "a") == "up")


async def test_a_service_without_pools_enough_has_no_open_port_if_it_says_so(lab: Lab) -> None:
    both = msgspec.structs.replace(pool(), servers=servers()[:1]), pool(id="q", servers=servers()[1:])
    members = tuple(Member(pool=one.id) for one in both)
    group: dict[str, Any] = {
        "pool": None,
        "others": both,
        "groups": (Group(id="g", name="g", members=members),),
        "group": "g",
    }
    shut = service(shut_when_down=True, pools_up_min=2, **group)
    plain = service("plain", port=81)
    await lab.controller.push(settings(), vip(), shut, plain)
    await lab.controller.hear(messages.Ownership, lambda m: m.owner and m.vip == "v")
    assert await lab.names(20) == {"a", "b"}
    await lab.backends["a"].stop()
    await lab.until_refused(80)
    assert (await lab.get(port=81))[0] == 200, "one server is enough for it"
    await lab.backends["b"].stop()
    async with asyncio.timeout(5):
        while (await lab.get(port=81))[0] != 503:
            await asyncio.sleep(0.05)
    applied = await lab.controller.push(settings(), vip(), msgspec.structs.replace(shut, client_idle_s=7), plain)
    assert applied.how == "reload"
    await lab.until_refused(80)
    for backend in lab.backends.values():
        await backend.start()
    async with asyncio.timeout(5):
        while not await lab.is_open(80):
            await asyncio.sleep(0.05)
    assert await lab.names(20) == {"a", "b"}


async def test_an_engine_that_is_told_of_nothing_answers_for_nothing_once_it_says_so(lab: Lab) -> None:
    """As one that is being deleted is: its addresses are given to others when it has confirmed."""
    await owning(lab)
    since = len(lab.controller.heard)
    await lab.controller.push()
    gone = await lab.controller.hear(messages.Ownership, lambda m: m.vip == "v", since=since)
    assert not gone.owner
    assert (await lab.controller.hear_status(lambda s: True)).owned == ()


async def test_a_bad_part_is_set_aside_and_the_others_are_served(lab: Lab) -> None:
    bad = service("bad", certificates=("missing",), listeners=(Listener(port=82, port_end=82, tls=True),))
    clash = service("two", port=80)
    applied = await lab.controller.push(settings(), vip(), service(), bad, clash)
    problems = {p.part: p.why for p in applied.problems}
    assert problems.keys() == {"service/bad", "service/two"}
    assert "unable to stat SSL certificate from file 'certificates/missing.pem'" in problems["service/bad"]
    assert problems["service/two"] == f"{VIP}:80 is already served by virtual service 'one'."
    await lab.controller.hear(messages.Ownership, lambda m: m.owner)
    assert await lab.names() == {"a", "b"}
    # and when HAProxy runs already
    worse = service("worse", certificates=("gone",), listeners=(Listener(port=84, port_end=84, tls=True),))
    applied = await lab.controller.push(settings(), vip(), service(), worse, bad, service("more", port=83))
    assert applied.how == "reload"
    assert {p.part for p in applied.problems} == {"service/bad", "service/worse"}
    assert "certificates/gone.pem" in {p.part: p.why for p in applied.problems}["service/worse"]
    assert await lab.names() == {"a", "b"}
    assert (await lab.controller.push(settings(), vip(), service())).how == "reload"


async def test_reloads_under_load_drop_no_new_connection(lab: Lab) -> None:
    await owning(lab)
    stop, answered = asyncio.Event(), 0

    async def client() -> None:
        nonlocal answered
        while not stop.is_set():
            status, _ = await lab.get()
            assert status == 200
            answered += 1

    async with asyncio.TaskGroup() as clients:
        for _ in range(4):
            clients.create_task(client())
        for port in (8001, 8002, 8003):
            assert (await lab.controller.push(settings(), vip(), service(), service("more", port=port))).how == "reload"
        stop.set()
    assert answered > 100


async def test_a_killed_agent_leaves_traffic_and_the_one_its_guard_starts_adopts(lab: Lab) -> None:
    await owning(lab)
    master, guards = lab.processes("haproxy.cfg")[0], lab.processes("guard.json")
    lab.kill_agent()
    assert await lab.names() == {"a", "b"}
    since = len(lab.controller.heard)
    hello = await lab.controller.hear(messages.Hello, since=since)
    assert {id for id, _ in hello.parts} == {"settings", "vip/v", "service/one"}
    applied = await lab.controller.push(settings(), vip(), service())
    assert applied.how == "none"
    assert (lab.processes("haproxy.cfg")[0], lab.processes("guard.json")) == (master, guards)
    await lab.controller.hear_status(lambda s: [o.vip for o in s.owned] == ["v"] and state(s, "a") == "up")


async def test_haproxy_that_dies_is_started_again_without_a_controller(lab: Lab) -> None:
    await owning(lab)
    await lab.controller.stop()
    for victim in (0, -1):  # the master, then the worker
        pids = lab.processes("haproxy.cfg")
        os.kill(pids[victim], signal.SIGKILL)
        async with asyncio.timeout(5):
            while len(fresh := lab.processes("haproxy.cfg")) < 2 or set(fresh) & set(pids):
                await asyncio.sleep(0.01)
            while True:
                try:
                    assert (await lab.get())[0] == 200
                    break
                except OSError:
                    await asyncio.sleep(0.01)


async def test_haproxy_has_no_rights_and_no_files_where_it_talks_to_clients(lab: Lab) -> None:
    await owning(lab)
    again = await lab.controller.push(settings(), vip(), service(), service("more", port=8001))
    assert again.how == "reload"  # the master has begun anew
    assert (await lab.get())[0] == 200
    master, *workers = lab.processes("haproxy.cfg")
    assert workers
    nobody = pwd.getpwnam("haproxy")
    for pid in (master, *workers):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        assert status["NoNewPrivs"] == ["1"]
        assert bin(int(status["CapBnd"][0], 16)).count("1") == len(CAPABILITIES)
        if pid != master:
            assert status["Uid"] == [str(nobody.pw_uid)] * 4 and status["Gid"] == [str(nobody.pw_gid)] * 4
            assert {int(status[name][0], 16) for name in ("CapEff", "CapPrm", "CapAmb")} == {0}
            assert Path(f"/proc/{pid}/root").readlink() == lab.home / "empty"
    assert not list((lab.home / "empty").iterdir())


async def test_a_restarted_engine_serves_its_last_state_with_no_controller(lab: Lab) -> None:
    await owning(lab)
    await lab.controller.stop()
    assert await lab.terminate_agent() == 0
    assert lab.processes("") == []
    lab.start_agent()
    async with asyncio.timeout(10):
        while True:
            try:
                assert await lab.names(2) <= {"a", "b"}
                break
            except OSError:
                await asyncio.sleep(0.02)


async def test_a_stopped_engine_says_goodbye_and_leaves_no_process(lab: Lab) -> None:
    await owning(lab)
    assert await lab.terminate_agent() == 0
    await lab.controller.hear(messages.Ownership, lambda m: not m.owner)
    await lab.controller.hear(messages.Leaving)
    assert lab.processes("") == []


async def test_a_drained_vip_is_reported_once_its_last_connection_has_gone(lab: Lab) -> None:
    await owning(lab)
    _, writer = await asyncio.open_connection(VIP, 80)
    await lab.controller.push(settings(), vip(draining=(ENGINE,)), service())
    status = await lab.controller.hear_status(lambda s: s.root == lab.controller.manifest().root)
    assert status.drained == ()
    writer.close()
    await writer.wait_closed()
    await lab.controller.hear_status(lambda s: s.drained == ("v",))


async def test_a_monitors_hostile_texts_arrive_as_they_were_written(lab: Lab) -> None:
    uri = '/it\'s"quoted"\\$HOME#%5B%[src]'
    header = "it's \"%[src]\" \\ $HOME ${HOME} # %% 'end"
    monitor = Monitor(name="m", kind="HTTP", interval_s=1, request=f"GET {uri} HTTP/1.0\r\nX-Probe: {header}")
    await lab.controller.push(settings(), vip(), service(pool=pool(monitors=(monitor,))))
    async with asyncio.timeout(5):
        while not lab.backends["a"].seen:
            await asyncio.sleep(0.01)
    lines = lab.backends["a"].seen[0].split("\r\n")
    assert lines[0] == f"GET {uri} HTTP/1.0"
    assert f"x-probe: {header}" in (line.replace("X-Probe", "x-probe") for line in lines)


@pytest.mark.parametrize(
    ("failing", "why"),
    [
        (Monitor(name="t", kind="TCP", port=7099, interval_s=1, fall=1), "L4CON"),
        (Monitor(name="b", kind="HTTP", interval_s=1, fall=1, response='it\'s not "there"'), "L7RSP"),
        (Monitor(name="c", kind="HTTP", interval_s=1, fall=1, codes=("HTTP_4XX",)), "L7STS"),
        (Monitor(name="s", kind="HTTPS", interval_s=1, fall=1, timeout_s=1), "L6"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
async def test_every_monitor_of_a_pool_must_pass(lab: Lab, failing: Monitor, why: str) -> None:
    passing = (*QUICK, Monitor(name="tcp", kind="TCP", interval_s=1, fall=1))
    await lab.controller.push(settings(), vip(), service(pool=pool(monitors=passing)))
    await lab.controller.hear_status(lambda s: state(s, "a") == "up" and "L7OK" in s.servers[0].check)
    applied = await lab.controller.push(settings(), vip(), service(pool=pool(monitors=(*passing, failing))))
    assert (applied.problems, applied.notes) == ((), ())
    status = await lab.controller.hear_status(lambda s: {x.state for x in s.servers} == {"down"})
    assert status.servers[0].check.startswith(why)


async def test_some_monitors_of_a_pool_may_fail_where_fewer_suffice(lab: Lab) -> None:
    closed = Monitor(name="closed", kind="TCP", port=7099, interval_s=1, fall=1)
    other = Monitor(name="other", kind="HTTP", interval_s=1, rise=1, fall=1, request="GET /health HTTP/1.0")
    await owning(lab)
    for least, up in ((2, True), (3, False), (1, True)):
        checked = pool(monitors=(*QUICK, closed, other), monitors_min=least)
        await lab.controller.push(settings(), vip(), service(pool=checked))
        if up:
            await lab.controller.hear_status(lambda s: {x.state for x in s.servers} == {"up"})
            assert await lab.names() == {"a", "b"}
        else:
            await lab.controller.hear_status(lambda s: {x.state for x in s.servers} == {"down"})
    await lab.backends["b"].stop()
    await lab.controller.hear_status(lambda s: state(s, "b") == "down")
    assert await lab.names() == {"a"}


TASKS = """#!/bin/sh
[ "$POOL" = pool ] && echo up
[ "$2" = 7000 ] && count=99 || count=1
echo $count > "$0.$POOL.$1.$2.tasks"
"""


async def test_servers_get_shares_by_their_answers_and_by_what_they_have_to_do(lab: Lab) -> None:
    async def favoured(name: str) -> None:
        """It gets nearly all, once it is known to be better off."""
        async with asyncio.timeout(15):
            while [(await lab.get())[1] for _ in range(10)].count(name) < 9:
                pass

    await owning(lab)
    lab.backends["b"].thinks_s = 0.1
    await lab.controller.push(settings(), vip(), service(pool=pool(algorithm="LB_ALGORITHM_FASTEST_RESPONSE")))
    await favoured("a")
    lab.backends["b"].thinks_s = 0
    asks = Monitor(name="s", kind="EXTERNAL", interval_s=1, timeout_s=3, asks=Script(code=TASKS))
    few = pool(algorithm="LB_ALGORITHM_FEWEST_TASKS", feedback_s=1, monitors=(asks,))
    await lab.controller.push(settings(), vip(), service(pool=few))
    await favoured("b")
    applied = await lab.controller.push(settings(), vip(), service(pool=pool(monitors=(asks,))))
    assert applied.how == "reload" and await lab.names(4) == {"a", "b"}, "nobody is favoured any more"


async def test_tcp_monitors_talk_and_listen(lab: Lab) -> None:
    asks = Monitor(
        name="x", kind="TCP", interval_s=1, fall=1, request="GET /health HTTP/1.0\r\n\r\n", response="200 OK"
    )
    await lab.controller.push(settings(), vip(), service(pool=pool(monitors=(asks,))))
    await lab.controller.hear_status(lambda s: state(s, "a") == "up" and "L7OK" in s.servers[0].check)
    deaf = msgspec.structs.replace(asks, response="500", timeout_s=1)
    await lab.controller.push(settings(), vip(), service(pool=pool(monitors=(asks, deaf))))
    await lab.controller.hear_status(lambda s: {x.state for x in s.servers} == {"down"})


SCRIPT = """#!/bin/sh
[ "$(id -un)" = nobody ] && [ "$PORT $2 $3" = "$WANTED $WANTED two words" ] && [ ! -e "$FLAG" ] && echo up
echo "as $(id -un) for $IP" >&2
"""


async def test_what_the_agent_finds_takes_a_server_out_of_haproxy_too(lab: Lab, tmp_path: Path) -> None:
    """Beside a check of HAProxy's own, through a reload, and through the agent's death."""
    flag = Path("/tmp") / f"shoal-{tmp_path.name}"
    first = lab.backends["a"].port
    asks = Script(code=SCRIPT, parameters=("two words",), variables=(f"WANTED={first}", f"FLAG={flag}"))
    script = Monitor(name="s", kind="EXTERNAL", interval_s=1, timeout_s=3, rise=1, fall=1, asks=asks)
    ping = Monitor(name="p", kind="PING", interval_s=1, timeout_s=1)
    checked = pool(monitors=(*QUICK, ping, script))
    await lab.controller.push(settings(), vip(), service(pool=checked))
    await lab.controller.hear(messages.Ownership, lambda m: m.owner and m.vip == "v")
    status = await lab.controller.hear_status(lambda s: state(s, "b") == "down")
    assert state(status, "a") == "up" and await lab.names() == {"a"}
    why = next(s.check for s in status.servers if s.server == "b")
    assert why.startswith("EXTERNAL the script ends with") or "as nobody for 127.0.0.1" in why
    applied = await lab.controller.push(settings(), vip(), service(pool=checked, client_idle_s=77))
    assert applied.how == "reload" and await lab.names() == {"a"}
    lab.kill_agent()
    assert await lab.names() == {"a"}, "the verdict stands without the agent"
    flag.touch()
    try:
        await lab.controller.hear_status(lambda s: {x.state for x in s.servers} == {"down"})
    finally:
        flag.unlink()
    await lab.controller.hear_status(lambda s: state(s, "a") == "up")


async def test_tls_is_terminated_and_a_new_certificate_replaces_the_old(lab: Lab) -> None:
    secure = service(listeners=(Listener(port=443, port_end=443, tls=True, http2=True),), certificates=("c",))
    for number in (1, 2):
        key, chain = lab.authority.issue_server([f"site{number}.test"], [])
        certificate, private = (chain, key) if b"PRIVATE KEY" in key else (key, chain)
        pem = (certificate + private).decode()
        applied = await lab.controller.push(settings(), vip(), secure, Certificate(id="c", name="c", pem=pem))
        assert applied.problems == ()
        await lab.controller.hear(messages.Ownership, lambda m: m.owner)
        context = ssl.create_default_context(cadata=lab.authority.ca_pem.decode())
        reader, writer = await asyncio.open_connection(VIP, 443, ssl=context, server_hostname=f"site{number}.test")
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert b"200 OK" in await reader.read()
        writer.close()
        await writer.wait_closed()
    await lab.controller.push(settings(), vip(), service())
    assert not list((lab.home / "certificates").iterdir())


async def test_shares_are_told_to_the_guard_and_come_back_in_a_hello_and_change_nothing_else(lab: Lab) -> None:
    await owning(lab)
    since = len(lab.controller.heard)
    await lab.controller.share({"v": {ENGINE: 700}})
    await lab.controller.hear_status(lambda s: True)
    await lab.controller.hear_status(lambda s: True)
    assert not [m for m in lab.controller.heard[since:] if isinstance(m, messages.Applied)], (
        "nothing was applied for it"
    )
    await lab.controller.stop()
    await lab.controller.start(lab.authority)
    hello = await lab.controller.hear(messages.Hello, since=since)
    assert hello.shares == {"v": {ENGINE: 700}}


async def test_what_still_lives_when_a_vip_leaves_is_reset(lab: Lab) -> None:
    """Also a connection of an old HAProxy worker, whose client only waits."""
    await owning(lab)
    reader, writer = await asyncio.open_connection(VIP, 80, local_addr=("127.0.0.1", 0))
    await lab.controller.push(settings(), vip(), service(), service("other", 81))
    await lab.controller.push(settings(), vip(draining=(ENGINE,)), service(), service("other", 81))
    assert not reader.at_eof()
    await lab.controller.push(settings())
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(1):
            await reader.read()
    writer.close()


async def test_lists_of_networks_come_once_and_go_when_nobody_names_them(lab: Lab) -> None:
    everyone = Networks(layers=(Layer((packed(["0.0.0.0/0", "::/0"]),)),))
    others = Networks(layers=(Layer((packed(["203.0.113.0/24", "2001:db8::/32"]),)),))

    def refusing(list: Networks, id: str = "one", port: int = 80) -> Service:
        test = policy.Test(of="client", lists=(digest(encode_part(list)),))
        rule = Rule(name="r", phase=SECURITY, tests=(test,), actions=(Respond(status=403),))
        return service(id, port, rules=(rule,))

    await lab.controller.push(settings(), vip(), others, refusing(others))
    await lab.controller.hear(messages.Ownership, lambda m: m.owner and m.vip == "v")
    assert (await lab.get())[0] == 200
    applied = await lab.controller.push(settings(), vip(), everyone, refusing(everyone), refusing(everyone, "two", 81))
    assert (applied.how, applied.problems) == ("reload", ())
    assert [(await lab.get(port=port))[0] for port in (80, 81)] == [403, 403]
    (file,) = (lab.home / "lists").iterdir()
    assert file.read_text().split() == ["0.0.0.0/0", "::/0"]
    lab.kill_agent()
    await lab.controller.hear(messages.Hello, since=len(lab.controller.heard))
    applied = await lab.controller.push(settings(), vip(), everyone, refusing(everyone), refusing(everyone, "two", 81))
    assert (applied.how, (await lab.get())[0]) == ("none", 403)
    applied = await lab.controller.push(settings(), vip(), refusing(others))
    assert "one" in applied.problems[0].part, "a rule that has lost its list does not let anybody in"


async def test_a_link_is_shared_by_weight_while_weights_differ(lab: Lab) -> None:
    def shaped() -> bool:
        shown = subprocess.run(["tc", "qdisc", "show"], capture_output=True, text=True, check=True)
        return "htb 5a0:" in shown.stdout

    linked = msgspec.structs.replace(settings(), link_mbit=100)
    await lab.controller.push(linked, vip(), service(), service("two", 81, weight=3))
    await lab.controller.hear(messages.Ownership, lambda m: m.owner and m.vip == "v")
    assert shaped() and [(await lab.get(port=port))[0] for port in (80, 81)] == [200, 200]
    applied = await lab.controller.push(linked, vip(), service(), service("two", 81))
    assert not shaped() and applied.notes == ()


async def test_clients_of_a_service_that_changes_or_rests_are_cut_off_and_no_others(lab: Lab) -> None:
    await owning(lab)
    cutting, other = service(cuts_clients=True), service("other", 81)
    await lab.controller.push(settings(), vip(), cutting, other)
    (mine, writing), (others, writing_there) = [await asyncio.open_connection(VIP, port) for port in (80, 81)]
    for writer in (writing, writing_there):
        writer.write(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
    for reader in (mine, others):
        await reader.readuntil(b"\r\n\r\n")
    again = msgspec.structs.replace(other, client_idle_s=7)
    await lab.controller.push(settings(), vip(list_version=2), cutting, again)
    assert not mine.at_eof(), "it has not changed itself"
    await lab.controller.push(settings(), vip(), msgspec.structs.replace(cutting, client_idle_s=8), again)
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(1):
            await mine.read(100)
            await mine.read(100)
    assert await lab.names() == {"a", "b"}
    resting = msgspec.structs.replace(again, enabled=False)
    await lab.controller.push(settings(), vip(), cutting, resting)
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(1):
            await others.read(100)
            await others.read(100)
    await lab.until_refused(81)
    assert await lab.names() == {"a", "b"}
    for writer in (writing, writing_there):
        writer.close()


async def test_tokens_are_asked_for_until_the_service_no_longer_says_so(lab: Lab) -> None:
    key = ECKey.generate_key("P-256", private=True)
    known = policy.TokenKey(pem=key.as_pem(private=False).decode(), algorithms=("ES256",))
    bearer = policy.Bearer(issuer="i", audience="a", keys=(known,), parameter="jwt")
    asking = service(http=policy.Http(bearer=bearer))
    token = jwt.encode({"alg": "ES256"}, {"iss": "i", "aud": "a", "exp": int(time.time()) + 600}, key)
    applied = await lab.controller.push(settings(), vip(), asking)
    assert applied.problems == ()
    await lab.controller.hear(messages.Ownership, lambda m: m.owner and m.vip == "v")
    assert [(await lab.get(path))[0] for path in ("/", f"/?jwt={token}", f"/?jwt={token}x")] == [401, 200, 401]
    other = service("two", 81)
    applied = await lab.controller.push(settings(), vip(), asking, other)
    assert (applied.problems, [(await lab.get("/", port))[0] for port in (80, 81)]) == ((), [401, 200])
    applied = await lab.controller.push(settings(), vip(), service(), other)
    assert (applied.how, (await lab.get())[0]) == ("reload", 200)
