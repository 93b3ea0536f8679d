"""From the API's answer to the effect a client sees, for each class of change, with how the engine applied it (as root).

A client connects again and again (`bench.rig.watch`, some 300 times a second) while one thing is changed. Each change
is a first one: the engine has been at rest for longer than a burst's window.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.rig import contestants, figures, pem
from bench.rig.stage import ROOT, Stage, play

from shoal.errors import NotReady, ShoalError
from shoal.lab.api import Document

NEW_SERVICE_LIMITS_MS = {100: 300, 1000: 1000}
APPLIED = re.compile(r" applied \S+ by (\w+) in")
WAYS = ("start", "reload", "certificate", "runtime", "map", "none")
"""The costliest first: a change may be followed by smaller ones. "none": HAProxy had nothing to do, the guard had."""
REST_S = 1.5
"""Longer than the engine's window for bursts, which is twice what a reload of a thousand services takes."""
SEEN_WITHIN_S = 10.0
SAME_IN_A_ROW = 4
"""Two servers that take turns never answer so often in a row."""
Saw = list[tuple[float, str]]
Seen = Callable[[Saw], float | None]
"""Of what a client saw: when the effect was there, or None while it is not."""


def any_of(wanted: Callable[[str], bool]) -> Seen:
    """The first answer that is wanted."""
    return lambda saw: next((at for at, said in saw if wanted(said)), None)


def run_of(wanted: Callable[[str], bool]) -> Seen:
    """The first of several such answers in a row."""

    def seen(saw: Saw) -> float | None:
        began, length = 0.0, 0
        for at, said in saw:
            began, length = (at, 1) if not length else (began, length + 1)
            if not wanted(said):
                length = 0
            elif length == SAME_IN_A_ROW:
                return began
        return None

    return seen


class Watched:
    """A warm client that looks at one address; ``async with``."""

    def __init__(self, stage: Stage, address: str, port: int, how: str) -> None:
        command = stage.lab.fabric.enter("lab-client", sys.executable, "-m", "bench.rig.watch", address, str(port), how)
        self._command = command

    async def __aenter__(self) -> Watched:
        self._child = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )
        await self._line()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._child.kill()
        await self._child.wait()

    async def _line(self) -> tuple[float, str]:
        assert self._child.stdout is not None
        at, _, said = (await self._child.stdout.readline()).decode().strip().partition(" ")
        return float(at), said

    async def until(self, seen: Seen, since: float) -> float:
        """When the effect was there, of what was seen since then. Raises NotReady."""
        saw: Saw = []
        try:
            async with asyncio.timeout(SEEN_WITHIN_S):
                while True:
                    line = await self._line()
                    if line[0] >= since:
                        saw.append(line)
                        if (at := seen(saw[-2 * SAME_IN_A_ROW :])) is not None:
                            return at
        except TimeoutError:
            last = saw[-1][1] if saw else "nothing"
            raise NotReady(f"No effect within {SEEN_WITHIN_S:.0f} s; last seen: {last}.") from None


class Play:
    def __init__(self, stage: Stage, options: argparse.Namespace) -> None:
        self.stage, self.options, self.api = stage, options, stage.api
        self.servers: list[str] = []
        self.web: Document = {}
        self.tls: Document = {}
        self.alone: Document = {}
        self.group = ""
        self.engine = ""
        self.made = 0
        self.filled = 0

    async def prepare(self) -> None:
        stage, api = self.stage, self.api
        key, certificate = pem.self_signed("bench.example")
        file = stage.folder / "bench.pem"
        file.write_text(certificate + key)
        for name in ("s1", "s2", "s3"):
            address = await stage.lab.node(name)
            self.servers.append(address)
            stage.haproxy(name, contestants.backend(address, str(file), name))
        await stage.lab.node("client")
        self.group = await stage.group("bench")
        pair = [(address, 80) for address in self.servers[:2]]
        body = {"name": "bench", "key": key, "certificate": {"certificate": certificate}}
        await api.post("sslkeyandcertificate", body)
        self.web = await api.service("web", pair, se_group_ref=self.group)
        self.tls = await api.service(
            "tls",
            pair,
            se_group_ref=self.group,
            services=[{"port": contestants.TLS_PORT, "enable_ssl": True}],
            ssl_key_and_certificate_refs=["/api/sslkeyandcertificate?name=bench"],
        )
        self.alone = await api.service("alone", pair, se_group_ref=await stage.group("alone", engines=2))
        for made in (self.web, self.tls, self.alone):
            await stage.settled(made)
        self.engine = (await api.placed(self.web["uuid"], 1))["answers"]

    # --- one change ---

    async def took(self, watched: Watched, change: Callable[[], Awaitable[Any]], seen: Seen) -> tuple[float, str]:
        """(milliseconds from the API's answer to the effect, how the engine applied it)"""
        await asyncio.sleep(REST_S)
        log = self.stage.bench.options.data_dir / "engines" / self.engine / "agent.log"
        size, began = log.stat().st_size, time.monotonic()
        await change()
        answered = time.monotonic()
        at = await watched.until(seen, began)
        await asyncio.sleep(0.1)  # the engine's word follows the deed
        said = set(APPLIED.findall(log.read_bytes()[size:].decode(errors="replace")))
        return max(0.0, (at - answered) * 1000), next((how for how in WAYS if how in said), "guard")

    async def _uuid(self, name: str) -> str:
        return str((await self.api.get(f"serviceengine?name={name}"))["results"][0]["uuid"])

    async def edit(self, path: str, change: Callable[[Document], object]) -> Callable[[], Awaitable[Any]]:
        """A PUT, its document read beforehand."""
        document = await self.api.get(path)
        change(document)
        return lambda: self.api.call("PUT", path, document)

    # --- the classes ---

    async def pool(self, watched: Watched) -> dict[str, tuple[float, str]]:
        """Changes of a pool, each of them undone by a later one."""
        path = "pool/" + (await self.api.get("pool?name=web-pool"))["results"][0]["uuid"]
        third = {"ip": {"addr": self.servers[2], "type": "V4"}, "port": 80}

        def first(**fields: Any) -> Callable[[Document], object]:
            return lambda pool: pool["servers"][0].update(fields)

        def hashing(pool: Document) -> None:
            pool["lb_algorithm"] = "LB_ALGORITHM_CONSISTENT_HASH"
            pool["lb_algorithm_hash"] = "LB_ALGORITHM_CONSISTENT_HASH_SOURCE_IP_ADDRESS"

        def by_turns(pool: Document) -> None:
            pool["lb_algorithm"] = "LB_ALGORITHM_ROUND_ROBIN"

        found: dict[str, tuple[float, str]] = {}
        steps: list[tuple[str, Callable[[Document], object], Seen]] = [
            ("server_add", lambda pool: pool["servers"].append(third), any_of(lambda said: said.startswith("s3"))),
            ("server_remove", lambda pool: pool["servers"].pop(), run_of(lambda said: not said.startswith("s3"))),
            ("ratio", first(ratio=20), run_of(lambda said: said.startswith("s1"))),
            ("", first(ratio=1), any_of(lambda said: said.startswith("s2"))),
            ("server_disable", first(enabled=False), run_of(lambda said: said.startswith("s2"))),
            ("server_enable", first(enabled=True), any_of(lambda said: said.startswith("s1"))),
            ("pool_algorithm", hashing, same_in_a_row),
            ("", by_turns, turns_in_a_row),
        ]
        for name, change, seen in steps:
            timed = await self.took(watched, await self.edit(path, change), seen)
            if name:
                found[name] = timed
        return found

    async def certificate(self) -> tuple[float, str]:
        path = "sslkeyandcertificate/" + (await self.api.get("sslkeyandcertificate?name=bench"))["results"][0]["uuid"]
        key, certificate = pem.self_signed("other.example")
        change = await self.edit(path, lambda d: d.update(key=key, certificate={"certificate": certificate}))
        digest = pem.digest(certificate)
        async with Watched(self.stage, self.tls["address"], contestants.TLS_PORT, "tls") as watched:
            return await self.took(watched, change, any_of(lambda said: said == digest))

    async def new_service(self) -> tuple[float, str]:
        self.made += 1
        name, api = f"new{self.made}", self.api
        address = {"addr": self.servers[0], "type": "V4"}
        await api.post("pool", {"name": f"{name}-pool", "servers": [{"ip": address, "port": 80}]})
        vip = await api.post("vsvip", {"name": f"{name}-vip", "vip": [{"auto_allocate_ip": True}]})
        body = {
            "name": name,
            "vsvip_ref": f"/api/vsvip?name={name}-vip",
            "pool_ref": f"/api/pool?name={name}-pool",
            "services": [{"port": 80}],
            "se_group_ref": self.group,
        }
        async with Watched(self.stage, vip["vip"][0]["ip_address"]["addr"], 80, "plain") as watched:
            return await self.took(watched, lambda: api.post("virtualservice", body), any_of(lambda said: said != "-"))

    async def scaling(self) -> dict[str, tuple[float, str]]:
        """By the operator's word, and by an edit of the group; the second engine is warm."""
        service, found = self.alone["uuid"], {}
        path = "serviceenginegroup/" + (await self.api.get("serviceenginegroup?name=alone"))["results"][0]["uuid"]
        async with Watched(self.stage, self.alone["address"], 80, "plain") as watched:
            owner = self.of_engine((await self.api.placed(service, 1))["answers"])
            other = any_of(lambda said: said != "-" and not said.endswith(f" {owner}"))
            out = lambda: self.api.post(f"virtualservice/{service}/scaleout", {"vip_id": "0"})  # noqa: E731
            found["scale_out"] = await self.took(watched, out, other)
            await self.api.placed(service, 2)
            await self.api.post(f"virtualservice/{service}/scalein", {"vip_id": "0"})
            await self.stage.settled(self.alone, 1)
            edit = await self.edit(path, lambda group: group.update(min_scaleout_per_vs=2))
            found["group_edit"] = await self.took(watched, edit, other)
            await self.api.placed(service, 2)
            await (await self.edit(path, lambda group: group.update(min_scaleout_per_vs=1)))()
            await self.api.post(f"virtualservice/{service}/scalein", {"vip_id": "0"})
            await self.stage.settled(self.alone, 1)
        return found

    def of_engine(self, name: str) -> str:
        """Its address, which is what servers see."""
        file = self.stage.bench.options.data_dir / "engines" / name / "engine.json"
        return str(json.loads(file.read_text())["address"])

    # --- all ---

    async def measure(self) -> dict[str, object]:
        await self.prepare()
        found: dict[str, object] = {"bench": "changes", "repeat": self.options.repeat}
        for services in sorted(self.options.services):
            try:
                pair = [(address, 80) for address in self.servers[:2]]
                wanted = services - 2 - self.made - self.options.repeat  # the new ones are of the number, too
                await self.stage.fill(range(self.filled, wanted), pair, self.group)
                self.filled = max(self.filled, wanted)
                filled = {"fill_s": round(self.stage.fill_s, 1)}
                found[f"services_{services}"] = filled | await self.classes(services)
            except (TimeoutError, ShoalError) as error:
                found[f"services_{services}"] = {"failed": f"{type(error).__name__}: {error}"[:300]}
                break
        return found | {"missed": figures.missed(found)}

    async def classes(self, services: int) -> dict[str, object]:
        taken: dict[str, list[tuple[float, str]]] = {}
        for _ in range(self.options.repeat):
            async with Watched(self.stage, self.web["address"], 80, "plain") as watched:
                once = await self.pool(watched)
            once["certificate"] = await self.certificate()
            once["new_service"] = await self.new_service()
            once |= await self.scaling()
            for name, timed in once.items():
                taken.setdefault(name, []).append(timed)
        found: dict[str, object] = {}
        for name, all_of_it in taken.items():
            row: dict[str, object] = {"how": "/".join(sorted({how for _, how in all_of_it}))}
            row["ms"] = figures.spread([ms for ms, _ in all_of_it])
            if name == "new_service" and services in NEW_SERVICE_LIMITS_MS:
                row["limit_ms"] = NEW_SERVICE_LIMITS_MS[services]
            found[name] = row
        return found


def same_in_a_row(saw: Saw) -> float | None:
    """When one and the same server began to answer every time."""
    last = saw[-SAME_IN_A_ROW:]
    names = {said.split(" ")[0] for _, said in last}
    return last[0][0] if len(last) == SAME_IN_A_ROW and len(names) == 1 and "-" not in names else None


def turns_in_a_row(saw: Saw) -> float | None:
    """When more than one server answers."""
    return saw[-1][0] if len({said.split(" ")[0] for _, said in saw if said != "-"}) > 1 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, nargs="+", default=[2, 100], help="on the engine; up to 1000")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    play(lambda stage: Play(stage, options).measure())


if __name__ == "__main__":
    main()
