"""Rate, latency and CPU per request: Shoal, hand-written HAProxy, nginx and the direct server, paired (as root).

HTTP and TCP load is wrk's (16 connections), HTTP/2 load h2load's (4 connections of 16 streams), TLS 1.3 load `bench.rig.tls` (4 connections, a handshake and a request
each), which forces and counts resumption. CPU is that of the proxy's processes, master included, over the requests
answered; Shoal's ``engine_us`` adds agent and guard.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Callable

import msgspec
from bench.rig import contestants, figures, load, pem, processes
from bench.rig.stage import Stage, installed, play

from shoal.lab.api import Document

CASES = ("keep_alive", "close", "tls_full", "tls_resumed", "tcp", "tcp_close", "http2", "policies", "persistence")
CPU_LIMIT = 1.05
SETTLE_S = 2.0
READY_WITHIN_S = 15.0
HAND_WRITTEN = "hand_written"
KEPT = {"application_persistence_profile_ref": "/api/applicationpersistenceprofile?name=System-Persistence-Client-IP"}
BESIDE = {"policies": contestants.POLICIES_PORT, "persistence": contestants.PERSISTENCE_PORT}
"""Ports of the other proxies, which have one address."""


class Contestant(msgspec.Struct):
    """``at``: case -> address and port. ``pids`` of the proxy (none: the server is asked itself); ``engine`` gives all
    of a Shoal engine's."""

    at: dict[str, tuple[str, int]]
    pids: Callable[[], list[int]]
    engine: Callable[[], list[int]] = list


class Run(msgspec.Struct):
    loaded: load.Loaded
    cpu_us: float
    engine_us: float


def places(
    address: str, tcp: int = contestants.TCP_PORT, own: dict[str, int] | None = None
) -> dict[str, tuple[str, int]]:
    """``own``: ports by case where they are not those of a service of its own address."""
    ports = {
        "tls_full": contestants.TLS_PORT,
        "tls_resumed": contestants.TLS_PORT,
        "tcp": tcp,
        "tcp_close": tcp,
        "http2": contestants.HTTP2_PORT,
        **dict.fromkeys(("policies", "persistence"), 80),
        **(own or {}),
    }
    return {case: (address, ports.get(case, 80)) for case in CASES}


def made_load(stage: Stage, case: str, at: tuple[str, int], seconds: float) -> load.Loaded:
    if case.startswith("tls"):
        return load.tls(stage.lab, *at, seconds, resumed=case == "tls_resumed")
    if case == "http2":
        return load.http2(stage.lab, *at, seconds)
    return load.wrk(stage.lab, *at, seconds, close=case.endswith("close"))


def run(stage: Stage, case: str, who: Contestant, seconds: float) -> Run:
    pids, engine = who.pids(), who.engine()
    before, whole = processes.cpu_s(pids), processes.cpu_s(engine)
    loaded = made_load(stage, case, who.at[case], seconds)
    cpu, all_of_it = processes.cpu_s(pids) - before, processes.cpu_s(engine) - whole
    return Run(loaded, cpu / loaded.requests * 1e6, all_of_it / loaded.requests * 1e6)


def summary(who: str, runs: list[Run], plain: list[Run]) -> dict[str, object]:
    found: dict[str, object] = {
        "rps": round(statistics.median(r.loaded.rps for r in runs)),
        "p50_ms": round(statistics.median(r.loaded.p50_ms for r in runs), 3),
        "p99_ms": round(statistics.median(r.loaded.p99_ms for r in runs), 3),
    }
    if any(r.loaded.resumed for r in runs):
        found["resumed"] = round(statistics.fmean(r.loaded.resumed for r in runs), 3)
    if any(r.cpu_us for r in runs):
        found["cpu_us"] = round(statistics.median(r.cpu_us for r in runs), 2)
    if who == "shoal":
        found["engine_us"] = round(statistics.median(r.engine_us for r in runs), 2)
    if who != HAND_WRITTEN:
        rates = [(r.loaded.rps, p.loaded.rps) for r, p in zip(runs, plain, strict=True)]
        found["rps_to_hand_written"] = figures.paired_ratio(rates)
        if "cpu_us" in found:
            costs = [(r.cpu_us, p.cpu_us) for r, p in zip(runs, plain, strict=True)]
            found["cpu_to_hand_written"] = figures.paired_ratio(costs, CPU_LIMIT if who == "shoal" else None)
    return found


def compared(stage: Stage, field: dict[str, Contestant], case: str, pairs: int, seconds: float) -> dict[str, object]:
    """Each round has every contestant once, in another order."""
    runs: dict[str, list[Run]] = {name: [] for name in field}
    names = list(field)
    for number in range(-1, pairs):
        turn = number % len(names)
        order = names[turn:] + names[:turn]
        for name in order if number % 2 else order[::-1]:
            found = run(stage, case, field[name], seconds if number >= 0 else 0.3)
            if number >= 0:  # the first round warms up
                runs[name].append(found)
    return {name: summary(name, taken, runs[HAND_WRITTEN]) for name, taken in runs.items()}


class Play:
    """Contestants beside one Shoal; as many services as asked for on each."""

    def __init__(self, stage: Stage, options: argparse.Namespace) -> None:
        self.stage, self.options = stage, options
        self.pem = stage.folder / "bench.pem"
        self.server = self.group = ""
        self.shoal: dict[str, tuple[str, int]] = {}
        self.engine = ""
        self.filled = 0

    async def prepare(self) -> None:
        stage, api = self.stage, self.stage.api
        key, certificate = pem.self_signed("bench.example")
        self.pem.write_text(certificate + key)
        self.server = await stage.lab.node("server")
        await stage.lab.node("client")
        stage.haproxy("server", contestants.backend(self.server, str(self.pem)))
        self.group = await stage.group("bench")
        await api.post(
            "sslkeyandcertificate", {"name": "bench", "key": key, "certificate": {"certificate": certificate}}
        )
        servers = [(self.server, 80)]
        web = await api.service("web", servers, se_group_ref=self.group)
        tls = await api.service(
            "tls",
            servers,
            se_group_ref=self.group,
            services=[{"port": contestants.TLS_PORT, "enable_ssl": True}],
            ssl_key_and_certificate_refs=["/api/sslkeyandcertificate?name=bench"],
        )
        tcp = await api.service(
            "tcp",
            servers,
            se_group_ref=self.group,
            services=[{"port": contestants.TCP_PORT}],
            application_profile_ref="/api/applicationprofile?name=System-L4-Application",
        )
        http2 = await api.service(
            "http2",
            servers,
            se_group_ref=self.group,
            services=[{"port": contestants.HTTP2_PORT, "enable_ssl": True, "enable_http2": True}],
            ssl_key_and_certificate_refs=["/api/sslkeyandcertificate?name=bench"],
        )
        kept = await api.service("persistence", servers, se_group_ref=self.group, pool=KEPT)
        policies = await self.with_rules(servers)
        for made in (web, tls, tcp, http2, policies, kept):
            self.engine = (await stage.settled(made))["answers"]
        addresses = {"tls_full": tls, "tls_resumed": tls, "tcp": tcp, "tcp_close": tcp, "http2": http2}
        addresses |= {"policies": policies, "persistence": kept}
        self.shoal = {
            case: (addresses.get(case, web)["address"], port) for case, (_, port) in places(self.server).items()
        }

    async def with_rules(self, servers: list[tuple[str, int]]) -> Document:
        """The service that has `contestants.RULES` rules."""
        rules = [
            {
                "name": str(number),
                "index": number,
                "enable": True,
                "match": {"path": {"match_criteria": "BEGINS_WITH", "match_str": [contestants.rule(number)]}},
                "hdr_action": [
                    {"action": "HTTP_REPLACE_HDR", "hdr": {"name": "X-Rule", "value": {"val": str(number)}}}
                ],
            }
            for number in range(contestants.RULES)
        ]
        await self.stage.api.post("httppolicyset", {"name": "rules", "http_request_policy": {"rules": rules}})
        policies = [{"index": 11, "http_policy_set_ref": "/api/httppolicyset?name=rules"}]
        return await self.stage.api.service("policies", servers, se_group_ref=self.group, http_policies=policies)

    async def field(self, services: int) -> dict[str, Contestant]:
        stage = self.stage
        await stage.fill(range(self.filled, services - 1), [(self.server, 80)], self.group)
        self.filled = max(self.filled, services - 1)
        plain, nginx = await stage.lab.node(f"plain{services}"), await stage.lab.node(f"nginx{services}")
        text = contestants.haproxy(plain, self.server, str(self.pem), services)
        plain_pid = stage.haproxy(f"plain{services}", text)
        folder = stage.folder / f"nginx{services}"
        folder.mkdir()
        file = folder / "nginx.conf"
        file.write_text(contestants.nginx(nginx, self.server, str(self.pem), services, str(folder)))
        nginx_pid = stage.start(f"nginx{services}", "nginx", "-p", str(folder), "-c", str(file))
        await asyncio.sleep(SETTLE_S)
        haproxy = list(await stage.haproxy_of(self.engine))
        engine = stage.pids(self.engine)
        family = processes.family(nginx_pid)
        return {
            "shoal": Contestant(self.shoal, lambda: haproxy, lambda: engine),
            HAND_WRITTEN: Contestant(places(plain, own=BESIDE), lambda: [plain_pid]),
            "nginx": Contestant(places(nginx, own=BESIDE), lambda: family),
            "direct": Contestant(places(self.server, tcp=80), list),
        }

    async def measure(self) -> dict[str, object]:
        await self.prepare()
        found: dict[str, object] = {"bench": "throughput", "pairs": self.options.pairs, "seconds": self.options.seconds}
        for services in sorted(self.options.services):
            field = await self.field(services)
            found[f"services_{services}"] = {
                case: compared(self.stage, field, case, self.options.pairs, self.options.seconds)
                for case in self.options.cases
            }
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, nargs="+", default=[1], help="virtual services on the engine")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each run; wrk wants whole ones")
    options = parser.parse_args()
    installed("h2load", "nghttp2-client")
    installed("nginx", "nginx-light", "libnginx-mod-stream")
    play(lambda stage: Play(stage, options).measure())


if __name__ == "__main__":
    main()
