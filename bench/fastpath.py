"""TCP fast path beside TCP proxy and the direct server: rate and machine CPU, paired; UDP through pool changes (as root).

``direct_return`` is a fast path whose server answers clients itself (a ``dsr_profile``). ``forwarding`` is a machine that
only forwards, without a rule: what any engine on this network that sees both ways costs at least.
``keep_alive`` and ``close`` are small answers (a connection for all, and one each), ``bulk`` ones of 128 KiB. Load is wrk's, 16 connections. The kernel's work is nobody's process, so the machine's whole CPU is taken, client and
server included: ``added`` is what is left of it beside the direct server, of the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
from pathlib import Path

import msgspec
from bench.rig import contestants, figures, load
from bench.rig.stage import Stage, play

DIRECT, FORWARDING, FAST, RETURN, PROXY = "direct", "forwarding", "fast_path", "direct_return", "proxy"
ALIAS = 1999
"""Number of the node whose address the server has, too."""
CASES = ("keep_alive", "close", "bulk")
BULK_BYTES = 128 * 1024
RATE_LIMIT, CPU_LIMIT = 0.85, 0.5
DATAGRAMS = 10_000
CHANGE_EVERY_S = 0.3
SETTLE_S = 2.0
TICKS_PER_S = 100
"""Of /proc/stat (USER_HZ)."""
WAITING = (3, 4, 7)
"""Columns of /proc/stat that are no work: idle, iowait, steal."""
SERVER = """global
    maxconn 4000
    nbthread 1
    tune.bufsize 262144
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend web
    bind :80
    http-request return status 200 content-type application/octet-stream file {bulk} if {{ path /bulk }}
    http-request return status 200 content-type text/plain string "hello from the bench"
"""
L4 = "/api/applicationprofile?name=System-L4-Application"


class Run(msgspec.Struct, frozen=True):
    rps: float
    p99_ms: float
    cpu_us: float
    """Of the machine, for each request."""


def machine_s() -> float:
    """Time that the machine's cores have worked."""
    columns = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks for at, ticks in enumerate(columns) if at not in WAITING) / TICKS_PER_S


def run(stage: Stage, case: str, at: tuple[str, int], seconds: float) -> Run:
    before = machine_s()
    loaded = load.wrk(stage.lab, *at, seconds, close=case == "close", path="/bulk" if case == "bulk" else "/")
    return Run(loaded.rps, loaded.p99_ms, (machine_s() - before) / loaded.requests * 1e6)


def rates(ones: list[Run], others: list[Run]) -> dict[str, float]:
    return figures.paired_ratio([(one.rps, other.rps) for one, other in zip(ones, others, strict=True)])


def machines(ones: list[Run], others: list[Run]) -> dict[str, float]:
    return figures.paired_ratio([(one.cpu_us, other.cpu_us) for one, other in zip(ones, others, strict=True)])


def compared(
    stage: Stage, field: dict[str, tuple[str, int]], case: str, pairs: int, seconds: float
) -> dict[str, object]:
    runs: dict[str, list[Run]] = {name: [] for name in field}
    for number in range(-1, pairs):
        turn = number % len(field)
        names = list(field)[turn:] + list(field)[:turn]
        for name in names:
            found = run(stage, case, field[name], seconds if number >= 0 else 1)
            if number >= 0:  # the first round warms up
                runs[name].append(found)
    direct, forwarding, fast, returned, proxy = (runs[name] for name in (DIRECT, FORWARDING, FAST, RETURN, PROXY))
    added = [(f.cpu_us - d.cpu_us, p.cpu_us - d.cpu_us) for d, f, p in zip(direct, fast, proxy, strict=True)]
    return {
        **{
            name: {
                "rps": round(statistics.median(one.rps for one in taken)),
                "p99_ms": round(statistics.median(one.p99_ms for one in taken), 3),
                "machine_us": round(statistics.median(one.cpu_us for one in taken), 1),
            }
            for name, taken in runs.items()
        },
        "rate_to_direct": rates(fast, direct),
        "rate_of_direct_return_to_direct": rates(returned, direct),
        "rate_of_forwarding_to_direct": rates(forwarding, direct),
        "rate_to_forwarding": rates(fast, forwarding),
        "rate_of_proxy_to_direct": rates(proxy, direct),
        "machine_to_proxy": machines(fast, proxy),
        "machine_of_direct_return_to_proxy": machines(returned, proxy),
        "added_us": {
            FAST: round(statistics.median(a for a, _ in added), 1),
            PROXY: round(statistics.median(b for _, b in added), 1),
        },
        "added_to_proxy": figures.paired_ratio([(max(a, 0.01), max(b, 0.01)) for a, b in added]),
    }


async def forwarded(stage: Stage, server: str) -> str:
    """Another address of the server, which clients reach through a node that forwards, and whose answers go there, too."""
    router = await stage.lab.node("router")
    alias = stage.lab.fabric.addressing.node_address(ALIAS)
    for node, words in (
        (
            "router",
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0",
        ),
        ("server", f"ip addr add {alias}/32 dev lo"),
        ("server", f"ip route add default via {router} table 100"),
        ("server", f"ip rule add from {alias} lookup 100"),
        ("router", f"ip route add {alias}/32 via {server}"),
        ("client", f"ip route add {alias}/32 via {router}"),
    ):
        command = stage.lab.fabric.enter(f"lab-{node}", *words.split())
        await asyncio.to_thread(subprocess.run, command, check=True)
    return alias


async def through_changes(stage: Stage) -> dict[str, object]:
    """Datagrams of as many flows, while a server is disabled and enabled, leaves and comes back."""
    servers = [await stage.lab.backend(f"udp{number}") for number in range(3)]
    made = await stage.api.service(
        "datagrams",
        [(one.address, one.port) for one in servers],
        network_profile_ref="/api/networkprofile?name=System-UDP-Fast-Path",
    )
    await stage.settled(made)
    path = f"pool/{made['pool_ref'].partition('#')[0].rpartition('/')[2]}"
    words = ("shoal.lab.datagrams", str(made["address"]), "80", str(DATAGRAMS))
    child = stage.lab.start("client", *words, output=subprocess.PIPE)
    asked = asyncio.create_task(asyncio.to_thread(child.communicate))
    changes = 0
    all_ = (await stage.api.get(path))["servers"]
    fewer = [all_[0], {**all_[1], "enabled": False}]
    while not asked.done():
        pool = await stage.api.get(path)
        pool["servers"] = all_ if changes % 2 else fewer
        await stage.api.call("PUT", path, pool)
        changes += 1
        await asyncio.sleep(CHANGE_EVERY_S)
    answers: dict[str, int] = json.loads((await asked)[0])
    lost = answers.pop("", 0)
    return {
        "asked": DATAGRAMS,
        "answered": sum(answers.values()),
        "lost": lost,
        "changes": changes,
        "by_server": answers,
    }


async def measure(stage: Stage, options: argparse.Namespace) -> dict[str, object]:
    server = await stage.lab.node("server")
    await stage.lab.node("client")
    bulk = stage.folder / "bulk"
    bulk.write_bytes(bytes(BULK_BYTES))
    stage.haproxy("server", SERVER.format(bulk=bulk))
    field = {DIRECT: (server, 80), FORWARDING: (await forwarded(stage, server), 80)}
    returned = {
        "type": "PROTOCOL_TYPE_TCP_FAST_PATH",
        "tcp_fast_path_profile": {"dsr_profile": {"dsr_type": "DSR_TYPE_L2"}},
    }
    await stage.api.post("networkprofile", {"name": "direct-return", "profile": returned})
    profiles = {FAST: "System-TCP-Fast-Path", RETURN: "direct-return", PROXY: "System-TCP-Proxy"}
    for name, profile in profiles.items():
        profile = f"/api/networkprofile?name={profile}"
        # Who answers clients himself does so at the port that they came to.
        port = 80 if name == RETURN else contestants.TCP_PORT
        tcp = {"services": [{"port": port}], "application_profile_ref": L4, "network_profile_ref": profile}
        made = await stage.api.service(name.replace("_", "-"), [(server, 80)], **tcp)
        await stage.settled(made)
        field[name] = (str(made["address"]), port)
    await stage.lab.takes_part("server", field[RETURN][0])
    await asyncio.sleep(SETTLE_S)
    found: dict[str, object] = {"bench": "fastpath", "pairs": options.pairs, "seconds": options.seconds}
    found["limits"] = {"keep_alive.rate_to_direct": RATE_LIMIT, "close.added_to_proxy": CPU_LIMIT}
    for case in options.case or CASES:
        found[case] = compared(stage, field, case, options.pairs, options.seconds)
    found["udp_through_pool_changes"] = await through_changes(stage)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--case", choices=CASES, action="append", help="only these (default: all)")
    options = parser.parse_args()
    play(lambda stage: measure(stage, options))


if __name__ == "__main__":
    main()
