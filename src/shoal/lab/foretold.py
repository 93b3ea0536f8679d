"""Random small groups of real engines: what a what-if foretells, beside what comes when engines are killed."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from shoal.errors import NotReady

from .api import Api, Document, engine_name
from .network import Lab

MAX_SE = 30
"""Enough: who gets what of too little depends on which death is noticed first."""
SERVER = ("192.0.2.1", 80)
"""Nobody: who answers for a VIP does not depend on its servers."""
TAKEN_WITHIN_S = 1.0
REST_WITHIN_S = 40.0
REST_LOOKS = 3
"""So many looks in a row must find nothing in progress."""
LOOK_INTERVAL_S = 0.2
DRAWS_MAX = 20
FIRST_TURN_MS = 50
"""A taker whose turn comes later than the first is later by a heartbeat's interval at least."""


class Vip(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers for it, and who serves it; engines that came after the question are all called ``new``."""

    owner: str
    engines: tuple[str, ...]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One fault. ``differences``: sentences; () = all came as foretold. ``by_order``: the owner did, and beside it another of
    the engines that were left serves than foretold. Which of several deaths is noticed first decides that; after one death,
    which of its VIPs is placed first, as those that were taken over have to be adopted before: then all are spread over the engines
    as evenly as foretold."""

    seed: int
    group: Document
    killed: tuple[str, ...]
    verdict: tuple[str, ...]
    vips: int
    touched: int
    differences: tuple[str, ...]
    by_order: tuple[str, ...] = ()


class Foretold:
    """One group with its services in a running Shoal, from a seed."""

    def __init__(self, api: Api, lab: Lab, seed: int) -> None:
        self._api = api
        self._lab = lab
        self._seed = seed
        self._chance = random.Random(seed)
        self._name = f"fabric-{seed}"
        self._group: Document = {}
        self._made: list[tuple[str, str]] = []
        self._services: dict[str, str] = {}
        """A virtual service of each VIP, and its address, by address."""

    async def run(self, faults: int) -> list[Compared]:
        """Make it, let so many sets of engines fail one after another, remove it. Raises NotReady, Refusal."""
        try:
            await self._make()
            return [await self._fault() for _ in range(faults)]
        finally:
            await self._remove()

    async def _make(self) -> None:
        pick = self._chance.choice
        mode = pick(["HA_MODE_SHARED", "HA_MODE_SHARED_PAIR"])
        wanted = {
            "ha_mode": mode,
            "algo": pick(["PLACEMENT_ALGO_PACKED", "PLACEMENT_ALGO_DISTRIBUTED"]),
            "max_vs_per_se": pick([2, 3, 5]),
            "min_scaleout_per_vs": 2 if mode == "HA_MODE_SHARED_PAIR" else pick([1, 1, 2]),
            "buffer_se": pick([0, 1, 1]) if mode == "HA_MODE_SHARED" else 0,
        }
        body = {"name": self._name, "max_se": MAX_SE, "vs_scalein_timeout": 1, **wanted}
        self._group = {**wanted, "uuid": (await self._post("serviceenginegroup", body))["uuid"]}
        for number in range(pick([2, 3, 4])):
            name = f"{self._name}-{number}"
            await self._service(name, f"/api/vsvip?name={name}", 80)
            if self._chance.random() < 0.25:  # a second one on the same VIP: two slots together
                await self._service(f"{name}b", f"/api/vsvip?name={name}", 81)
        await self._rest("placed")

    async def _post(self, type: str, body: Document) -> Document:
        made: Document = await self._api.post(type, body)
        self._made.append((type, made["uuid"]))
        return made

    async def _service(self, name: str, vsvip: str, port: int) -> None:
        if port == 80:
            made = await self._post("vsvip", {"name": name, "vip": [{"auto_allocate_ip": True}]})
            address = made["vip"][0]["ip_address"]["addr"]
        server = {"ip": {"addr": SERVER[0], "type": "V4"}, "port": SERVER[1]}
        await self._post("pool", {"name": name, "servers": [server]})
        body = {
            "name": name,
            "vsvip_ref": vsvip,
            "pool_ref": f"/api/pool?name={name}",
            "se_group_ref": f"/api/serviceenginegroup?name={self._name}",
            "services": [{"port": port}],
        }
        service = await self._post("virtualservice", body)
        if port == 80:
            self._services[address] = service["uuid"]

    async def _remove(self) -> None:
        for type, uuid in reversed(self._made):
            await self._api.call("DELETE", f"{type}/{uuid}")

    async def _ask(self, **more: Any) -> Document:
        found: Document = await self._api.post("whatif", {"group": self._name, **more})
        return found

    async def _rest(self, what: str) -> None:
        """Until nothing is in progress in the group, by its own word."""
        quiet = 0

        async def check() -> bool:
            nonlocal quiet
            found = await self._ask()
            told = found["virtualservices"]
            lacking = told["down"] or told["waiting"] or told["reduced"] or told["unplaced"]
            rests = not (found["vips"] or found["notes"] or found["engines"]["made"] or lacking)
            quiet = quiet + 1 if rests else 0
            if quiet < REST_LOOKS:
                await asyncio.sleep(LOOK_INTERVAL_S)
            return quiet >= REST_LOOKS

        await self._api.until(f"{self._name} is {what} and at rest", check, REST_WITHIN_S)

    # --- a fault ---

    async def _engines(self) -> list[str]:
        """Those that are up."""
        found = []
        for engine in (await self._api.get("serviceengine?page_size=200"))["results"]:
            if engine["se_group_ref"].partition("#")[0].endswith(self._group["uuid"]):
                runtime = await self._api.get(f"serviceengine/{engine['uuid']}/runtime")
                if runtime["oper_status"]["state"] == "OPER_UP":
                    found.append(engine["name"])
        return sorted(found)

    async def _state(self, address: str, known: Iterable[str]) -> Vip:
        found = await self._api.placement(self._services[address])
        names = sorted(engine_name(p["se_ref"]) for p in found["placements"] if p["state"] == "ready")
        holders = await self._holders(address, names)
        if holders != [found["answers"]]:
            return Vip(owner=f"{found['answers']} by its word, {holders} by their interfaces", engines=tuple(names))
        return Vip(owner=_called([found["answers"]], known)[0], engines=tuple(sorted(_called(names, known))))

    async def _holders(self, address: str, engines: Iterable[str]) -> list[str]:
        """The engines that have the address on their data interface, by the kernel's word."""
        found = []
        for engine in engines:
            namespace = self._lab.fabric.addressing.namespace(engine)
            command = ("ip", "-n", namespace, "-br", "address", "show", "eth0")
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            out, _ = await process.communicate()
            if f" {address}/".encode() in out:
                found.append(engine)
        return found

    async def _draw(self, engines: list[str]) -> tuple[list[str], Document]:
        """Engines, and what is foretold without them. Where VIPs compete for a last slot, the one whose turn an engine
        comes to first gets it, and nobody can say which that will be: such a set is drawn again. Raises NotReady."""
        for _ in range(DRAWS_MAX):
            dead = self._chance.sample(engines, min(len(engines) - 1, self._chance.choice([1, 1, 2, 2, 3])))
            answers = [await self._ask(fail_engines=list(order)) for order in itertools.permutations(dead)]
            same = all(_ends(answer) == _ends(answers[0]) for answer in answers)
            if same and not _competes(answers[0]):
                return dead, answers[0]
        raise NotReady(f"Every set of engines of {self._name} competes for a last slot.")

    async def _fault(self) -> Compared:
        engines = await self._engines()
        before = {address: await self._state(address, engines) for address in self._services}
        dead, foretold = await self._draw(engines)
        told = {vip["address"]: vip for vip in foretold["vips"]}
        alive = [engine for engine in engines if engine not in dead]
        for engine in dead:
            self._lab.kill(engine)
        await asyncio.sleep(TAKEN_WITHIN_S)
        differences: list[str] = []
        by_order: list[str] = []
        for address, vip in told.items():
            if vip["what"] == "taken over":
                found, taker = await self._holders(address, alive), vip["right_after"][0]
                if found != [taker]:
                    differences.append(f"{address}: {found} answer after {TAKEN_WITHIN_S:g} s, foretold {taker}")
        await self._rest(f"whole without {', '.join(dead)}")
        swapped: list[tuple[str, Vip, Vip]] = []
        pairs: list[tuple[Vip, Vip]] = []
        for address, was in before.items():
            wanted = was
            if address in told:
                end = _called(told[address]["in_the_end"], engines)
                wanted = Vip(owner=end[0] if end else "", engines=tuple(sorted(end)))
            came = await self._state(address, engines)
            pairs.append((came, wanted))
            if came != wanted:
                alike = came.owner == wanted.owner and len(came.engines) == len(wanted.engines)
                if alike and not {*came.engines} & {*dead}:
                    swapped.append((address, came, wanted))
                else:
                    differences.append(f"{address}: {came}, foretold {wanted}")
        as_even = _loads(came for came, _ in pairs) == _loads(wanted for _, wanted in pairs)
        told_of = by_order if as_even or len(dead) > 1 else differences
        told_of.extend(f"{address}: {came}, foretold {wanted}" for address, came, wanted in swapped)
        more = len(await self._engines()) - len(engines) + len(dead)
        if more != foretold["engines"]["made"]:
            differences.append(f"{more} engines made, foretold {foretold['engines']['made']}")
        return Compared(
            seed=self._seed,
            group=self._group,
            killed=tuple(dead),
            verdict=tuple(foretold["verdict"]),
            vips=len(before),
            touched=len(told),
            differences=tuple(differences),
            by_order=tuple(by_order),
        )


def _loads(vips: Iterable[Vip]) -> list[int]:
    """How many VIPs engines have, whichever these are."""
    return sorted(Counter(engine for vip in vips for engine in vip.engines).values())


def _ends(answer: Document) -> dict[str, tuple[list[str], list[str]]]:
    return {vip["vip"]: (vip["right_after"], vip["in_the_end"]) for vip in answer["vips"]}


def _competes(answer: Document) -> bool:
    """Some VIP gets an engine that did not serve it, while another one finds none, or not its first."""
    new = any(v["what"] == "taken over" and v["right_after"][0] not in v["before"] for v in answer["vips"])
    late = any(v["what"] == "taken over" and v["not_answered_ms"]["least"] > FIRST_TURN_MS for v in answer["vips"])
    return new and (late or any(v["what"] in ("placed", "waits", "down") for v in answer["vips"]))


def _called(names: Iterable[str], known: Iterable[str]) -> list[str]:
    return [name if name in known else "new" for name in names]
