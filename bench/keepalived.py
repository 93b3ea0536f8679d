"""Outage of a keepalived pair (VRRP, advert_int 1 and 0.1) beside Shoal's, same probe, same faults, one run (as root).

Two nodes of the fabric with plain HAProxy and keepalived stand next to Shoal's engines: same bridge, servers, client
and probe (a start every 5 ms, `shoal.lab.probe`). Contestants take turns, fault by fault.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Callable

import msgspec
from bench.rig import figures
from bench.rig.stage import Stage, installed, play

from shoal.errors import NotReady
from shoal.lab.trials import KINDS, MODES

NODES = ("vrrp1", "vrrp2")
PRIORITY = {"vrrp1": 150, "vrrp2": 100}
LIMITS = {1.0: 5.0, 0.1: 1.0}
"""advert_int in seconds -> how many times shorter Shoal's median outage has to be."""
PROBE_STEP_MS = 5.0
PID_FILES = ("pid", "vrrp_pid")
VIP_INDEX = 1900
"""An address of the nodes' range that nobody else takes."""
FAULT_AFTER_S = 0.8
SETTLED_WITHIN_S = 15.0
CALM_S = 1.0

HAPROXY = """global
    maxconn 2000
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    retries 3
    option redispatch 1
frontend web
    bind {vip}:80
    default_backend web
backend web
    balance roundrobin
{servers}
"""
KEEPALIVED = """global_defs {{
    router_id {node}
    vrrp_version 3
}}
vrrp_instance web {{
    state BACKUP
    nopreempt
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int {interval}
    virtual_ipaddress {{
        {vip}/32 dev eth0
    }}
}}
"""
"""VRRP version 3: version 2 knows whole seconds only. Without a fail-back, as Shoal has none."""


class Trial(msgspec.Struct, frozen=True):
    contestant: str
    kind: str
    outage_ms: float
    late_answer_ms: float


class Pair:
    """The two nodes, one of which has the address."""

    def __init__(self, stage: Stage, servers: list[tuple[str, int]]) -> None:
        self.stage, self.servers = stage, servers
        self.vip = stage.lab.fabric.addressing.node_address(VIP_INDEX)
        self.addresses: dict[str, str] = {}

    async def prepare(self) -> None:
        for node in NODES:
            self.addresses[node] = await self.stage.lab.node(node)
            await self._in(node, "sysctl", "-q", "-w", "net.ipv4.ip_nonlocal_bind=1")

    async def _in(self, node: str, *command: str) -> str:
        child = await asyncio.create_subprocess_exec(
            *self.stage.lab.fabric.enter(f"lab-{node}", *command),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # `ip` minds namespaces of others that vanish
        )
        out, _ = await child.communicate()
        return out.decode()

    async def start(self, interval: float) -> None:
        """Both anew, and the first of them has the address."""
        lines = "\n".join(f"    server s{n} {address}:{port}" for n, (address, port) in enumerate(self.servers))
        for node in NODES:
            self.stage.haproxy(node, HAPROXY.format(vip=self.vip, servers=lines))
            file = self.stage.folder / f"{node}-keepalived.conf"
            values = {"node": node, "priority": PRIORITY[node], "interval": interval, "vip": self.vip}
            file.write_text(KEEPALIVED.format(**values))
            file.chmod(0o644)
            pids = [self.stage.folder / f"{node}-{name}" for name in PID_FILES]
            for pid in pids:
                pid.unlink(missing_ok=True)  # a killed keepalived's, which may be anybody's by now
            options = [f"--{name}={pid}" for name, pid in zip(PID_FILES, pids, strict=True)]
            self.stage.start(node, "keepalived", "--dont-fork", "--log-console", "--vrrp", *options, "-f", str(file))
        await self._until(lambda owners: len(owners) == 1)
        await asyncio.sleep(CALM_S + 2 * interval)  # the other has heard of it, or shows now that it has not
        await self._until(lambda owners: len(owners) == 1)

    async def stop(self) -> None:
        for node in NODES:
            self.stage.lab.kill(f"lab-{node}")
            await self.stage.lab.heal(f"lab-{node}")
        await asyncio.sleep(0.1)
        self.stage.collect()
        for node in NODES:
            if self.vip in await self._in(node, "ip", "-4", "addr", "show", "dev", "eth0"):
                await self._in(node, "ip", "addr", "del", f"{self.vip}/32", "dev", "eth0")

    async def owners(self) -> list[str]:
        return [n for n in NODES if f"{self.vip}/" in await self._in(n, "ip", "-4", "addr", "show", "dev", "eth0")]

    async def _until(self, good: Callable[[list[str]], bool]) -> None:
        deadline = asyncio.get_running_loop().time() + SETTLED_WITHIN_S
        while not good(owners := await self.owners()):
            if asyncio.get_running_loop().time() > deadline:
                raise NotReady(f"After {SETTLED_WITHIN_S:.0f} s these have keepalived's address: {owners}.")
            await asyncio.sleep(0.05)

    async def trial(self, kind: str, interval: float) -> Trial:
        await self.start(interval)
        try:
            (owner,) = await self.owners()
            seconds = FAULT_AFTER_S + 2.5 + 5 * interval
            probing = asyncio.create_task(self.stage.lab.probe("client", self.vip, 80, seconds))
            await asyncio.sleep(FAULT_AFTER_S)
            lab, node = self.stage.lab, f"lab-{owner}"
            if kind == "kill":
                lab.kill(node)
            elif kind == "freeze":
                lab.freeze(node)
            else:
                await lab.cut(node)
            probed = await probing
        finally:
            await self.stop()
        if not probed.starts or not probed.starts[-1].ok:
            raise NotReady(f"keepalived had not taken over when the probe ended ({kind}, {interval} s).")
        late = round(probed.late_answers_ms(), 1)
        return Trial(f"keepalived_{interval:g}s", kind, round(probed.outage_ms(), 1), late)


class Play:
    def __init__(self, stage: Stage, options: argparse.Namespace) -> None:
        self.stage, self.options = stage, options

    async def measure(self) -> dict[str, object]:
        bench, lab = self.stage.bench, self.stage.lab
        await bench.prepare(lab, self.stage.api, modes=self.options.modes)
        placed = await self.stage.api.get("pool?page_size=100")
        servers = [(s["ip"]["addr"], s["port"]) for s in placed["results"][0]["servers"]]
        pair = Pair(self.stage, servers)
        await pair.prepare()
        trials: list[Trial] = []
        for number in range(self.options.faults):
            for kind in self.options.kinds:
                for mode in self.options.modes:
                    shoal = await bench.trial(lab, mode, kind, controller=True)
                    trials.append(Trial(f"shoal_{mode}", kind, shoal.outage_ms, shoal.late_answer_ms))
                trials += [await pair.trial(kind, interval) for interval in LIMITS]
            print(f"\rround {number + 1}/{self.options.faults} ", end="", file=sys.stderr)
        print(file=sys.stderr)
        return {"bench": "keepalived", "faults": self.options.faults, "kinds": by_kind(trials)}


def by_kind(trials: list[Trial]) -> dict[str, object]:
    found: dict[str, object] = {}
    for kind in dict.fromkeys(trial.kind for trial in trials):
        outages: dict[str, list[float]] = {}
        for trial in trials:
            if trial.kind == kind:
                outages.setdefault(trial.contestant, []).append(trial.outage_ms)
        medians = {who: statistics.median(values) for who, values in outages.items()}
        row: dict[str, object] = {}
        for who, values in outages.items():
            late = max(t.late_answer_ms for t in trials if t.contestant == who and t.kind == kind)
            shown: dict[str, object] = {"outage_ms": figures.spread(values), "all_ms": sorted(values)}
            shown["late_answer_ms_max"] = late
            for interval, factor in LIMITS.items() if who.startswith("shoal") else ():
                name = f"keepalived_{interval:g}s"
                shown[f"times_better_than_{name}"] = round(medians[name] / max(medians[who], PROBE_STEP_MS), 2)
                shown[f"times_better_than_{name}_limit"] = factor
            row[who] = shown
        found[kind] = row
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=3, help="per kind and contestant")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--modes", nargs="+", default=["HA_MODE_SHARED"], choices=list(MODES), help="of Shoal")
    options = parser.parse_args()
    installed("keepalived", "keepalived")
    play(lambda stage: Play(stage, options).measure())


if __name__ == "__main__":
    main()
