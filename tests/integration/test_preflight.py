"""A preflight in networks each of which forbids one thing: that is found, and nothing else. Real frames and a real neighbour;
of the engines their namespaces are there, as nothing else of them takes part. All networks are tried at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from shoal.controller.preflight import judge, steps
from shoal.controller.preflight.judge import Report
from shoal.engine import preflight
from shoal.wire.preflight import Probe, Probed

from .private_host import NETNS, _enter

pytestmark = [pytest.mark.root, pytest.mark.beside]
TEST = "10.7.0.200"
ADDRESSES = {"gw": "10.7.0.1", "a": "10.7.0.2", "b": "10.7.0.3"}
MACS = {node: f"02:07:00:00:00:{last}" for node, last in (("gw", "01"), ("a", "0a"), ("b", "0b"))}
DIRECT, THROUGH = "layer 2, direct return", "layer 2, replies through the primary"
ONE, BGP = "layer 2, one engine for each VIP", "BGP"
FROM_TEST = f"arp saddr ip {TEST} drop; ip saddr {TEST} drop"
BINDING = f"arp saddr ip {TEST} update @bound {{ ether saddr }}; ip saddr {TEST} ether saddr != @bound drop"


class Network(msgspec.Struct, frozen=True):
    """``rules`` of the switch's ports: (port, direction as the switch sees it, nftables rules). ``found``: the checks that
    are not a yes."""

    mode: str
    found: dict[str, str]
    rules: tuple[tuple[str, str, str], ...] = ()
    mtu: int = 1500


NETWORKS = {
    "everything is allowed": Network(DIRECT, {}, mtu=9000),
    "announcements do not arrive": Network(
        BGP, {"gratuitous_arp": "no"}, (("gw", "egress", f"arp saddr ip {TEST} ether daddr ff:ff:ff:ff:ff:ff drop"),)
    ),
    "an address is bound to its port": Network(
        BGP, {"gratuitous_arp": "no", "direct_return": "no"}, (("b", "ingress", FROM_TEST),)
    ),
    "only who announced an address may use it": Network(THROUGH, {"direct_return": "no"}, (("b", "ingress", BINDING),)),
    "no address but the port's own": Network(
        BGP,
        {"address": "no", "gratuitous_arp": "unknown", "moves_back": "unknown", "direct_return": "unknown"},
        (("a", "ingress", FROM_TEST), ("b", "ingress", FROM_TEST)),
    ),
    "clients' addresses are checked": Network(
        ONE, {"handing_on": "no"}, (("a", "ingress", "ip saddr 192.0.2.0/24 drop"),)
    ),
    "one MAC a port": Network(
        DIRECT,
        {"further_mac": "no", "mac_moves": "unknown"},
        tuple((port, "ingress", f"ether saddr != {MACS[port]} drop") for port in ("a", "b")),
    ),
    "sticky MACs": Network(DIRECT, {"mac_moves": "no"}, (("b", "ingress", f"ether saddr != {MACS['b']} drop"),)),
    "a small MTU on the way": Network(DIRECT, {"mtu": "no"}, (("b", "egress", "ip length > 1400 drop"),)),
}


def run(*command: str, text: str = "") -> None:
    subprocess.run(command, check=True, input=text, text=True, capture_output=True)


@contextlib.contextmanager
def made(network: Network) -> Iterator[str]:
    """A switch and what hangs on it; yields the prefix of the namespaces' names."""
    prefix = f"shtest-pf-{secrets.token_hex(3)}-"
    names = [f"{prefix}{node}" for node in ("switch", *ADDRESSES)]
    try:
        for name in names:
            run("ip", "netns", "add", name)
        switch = names[0]
        lines = ["link add br0 type bridge forward_delay 0", f"link set br0 mtu {network.mtu} up"]
        for node in ADDRESSES:
            mac = MACS[node]
            lines.append(
                f"link add port-{node} type veth peer name eth0 address {mac} mtu {network.mtu} netns {prefix}{node}"
            )
            lines.append(f"link set port-{node} master br0 mtu {network.mtu} up")
        run("ip", "-n", switch, "-batch", "-", text="\n".join(lines))
        for node, address in ADDRESSES.items():
            own = ["link set lo up", f"addr add {address}/24 dev eth0", "link set eth0 up"]
            run("ip", "-n", f"{prefix}{node}", "-batch", "-", text="\n".join(own))
        chains = "".join(
            f'chain {port} {{ type filter hook {hook} device "port-{port}" priority 0; {rules}; }}\n'
            for port, hook, rules in network.rules
        )
        table = f"table netdev t {{ set bound {{ type ether_addr; flags dynamic; size 16; }}\n{chains} }}"
        run("ip", "netns", "exec", switch, "nft", "-f", "-", text=table)
        yield prefix
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


async def tried(threads: ThreadPoolExecutor, prefix: str, address: str = TEST) -> Report:
    def inside(node: str, probe: Probe) -> Probed:
        _enter(NETNS / f"{prefix}{node}")  # this thread only, which does nothing else
        return preflight.run(probe, "eth0", ADDRESSES[node])

    async def ask(node: str, probe: Probe) -> Probed:
        return await asyncio.get_running_loop().run_in_executor(threads, inside, node, probe)

    a, b = (steps.Party(node, node, ADDRESSES[node]) for node in ("a", "b"))
    trial = await steps.run(ask, steps.Trial(a=a, b=b, address=address, neighbour=ADDRESSES["gw"]))
    return judge.report("g", trial, [])


async def test_what_a_network_forbids_is_found(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(2 * len(NETWORKS) + 2))
        prefixes = {name: stack.enter_context(made(network)) for name, network in NETWORKS.items()}
        reports = await asyncio.gather(*(tried(threads, prefix) for prefix in prefixes.values()))
        taken = await tried(threads, prefixes["everything is allowed"], ADDRESSES["gw"])
    for (name, network), report in zip(NETWORKS.items(), reports, strict=True):
        found = {check.id: check.ok for check in report.checks if check.ok != "yes" and check.id != "bgp"}
        tunnels = {} if network.mtu > 1550 else {"tunnel_mtu": "no"}
        assert (report.mode.name, found) == (network.mode, {**network.found, **tunnels}), (name, report)
        if "mtu" in network.found:
            assert "1400 bytes between engines" in next(c.found for c in report.checks if c.id == "mtu")
    assert taken.problem == f"{ADDRESSES['gw']} is in use: {MACS['gw']} answers for it. Give another --address."
    assert taken.mode.name == "none can be named"
