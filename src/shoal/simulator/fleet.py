"""Fleets of the design's size: the real controller, placement and store contract, with a simpler data network.

In place of guards that exchange heartbeats there is one that knows all (`QuietNetwork`): an owner claims what its plan
gives it once the former owner has resigned or is silent, and what a silent engine owned goes, after the time that takes,
to the first living engine of the last armed list. Who owns what is so beyond doubt here; ownership's own promises are for
the smaller runs. Everything the controller sees and does is real.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from shoal.clouds.protocol import EngineSpec
from shoal.controller.ledger import Changes, Ledger, engine_name
from shoal.controller.records import EngineRecord
from shoal.ownership.events import Tell
from shoal.store.protocol import Transaction
from shoal.wire.desired import Vip
from shoal.wire.guard import Desired
from shoal.wire.messages import Claim, Owned, Ownership

from .deeds import Deeds
from .history import Event, Shape
from .ownership_world import World
from .process import NO_IDENTITY
from .system_world import SystemWorld
from .virtual_time import VirtualLoop, run

Document = dict[str, Any]
GROUP = "g-1"
ENGINES_A_HOST = 20
MAX_VS_PER_SE = 20
DETECTION_S = 0.3
HANDOVER_S = 0.002
PUTS_AT_ONCE = 120
FIRST_RANK = 100
PAUSE_S = 0.1
FLEET_SETTLE_S_MAX = 600.0
FOREVER_S = float("inf")


class QuietNetwork(World):
    """Who owns each VIP is kept in one place; nothing is sent."""

    def __init__(self, world: World) -> None:
        super().__init__((), seed=world.seed, schedule=world.schedule, on_tell=world.on_tell)
        self._owners: dict[str, tuple[str, Claim]] = {}
        self._armed: dict[str, Vip] = {}
        self._owned: dict[str, dict[str, Claim]] = {}

    def owned(self, engine: str) -> tuple[Owned, ...]:
        return tuple(Owned(vip=vip, claim=claim) for vip, claim in self._owned.get(engine, {}).items())

    def check(self) -> None:
        self.checked += 1

    def start(self, name: str) -> None:
        engine = self.engines[name]
        engine.running, engine.frozen, engine.lease_until = True, False, FOREVER_S
        engine.incarnation += 1

    def kill(self, name: str) -> None:
        self.engines[name].running = False
        self._silent(name)

    def freeze(self, name: str) -> None:
        self.engines[name].frozen = True
        self._silent(name)

    def thaw(self, name: str) -> None:
        self.engines[name].frozen = False
        if self.engines[name].desired is not None:
            self.tell(name, self.engines[name].desired)  # type: ignore[arg-type]

    def link(self, name: str, up: bool) -> None:
        self.engines[name].link = up
        if not up:
            self._silent(name)

    def set_haproxy(self, name: str, up: bool) -> None:
        self.engines[name].haproxy = up

    def tell(self, name: str, desired: Desired) -> None:
        engine = self.engines[name]
        engine.desired = desired
        if not self._able(name):
            return
        known = {vip.id for vip in desired.vips}
        for gone in [vip for vip in self._owned.get(name, {}) if vip not in known]:
            self._give_up(name, gone, "not served here any more")
        for vip in desired.vips:
            if vip.armed:
                self._armed[vip.id] = vip
            if vip.owner == name:
                self._take_planned(name, vip)

    def _take_planned(self, name: str, vip: Vip) -> None:
        holder, claim = self._owners.get(vip.id, ("", Claim(0, 0, 0)))
        if claim.generation >= vip.generation and holder:
            return
        if holder and self._able(holder):
            self._give_up(holder, vip.id, "planned change of owner")
        wanted = Claim(vip.generation, 0, self.engines[name].rank)
        self.at(self.now + HANDOVER_S, lambda: self._take(name, vip, wanted, holder, 0.0))

    def _take(self, name: str, vip: Vip, claim: Claim, former: str, detected_ms: float) -> None:
        _, known = self._owners.get(vip.id, ("", Claim(0, 0, 0)))
        if not self._able(name) or claim <= known:
            return
        self._owners[vip.id] = (name, claim)
        self._owned.setdefault(name, {})[vip.id] = claim
        self.engines[name].addresses.update(dict.fromkeys(vip.addresses, vip.id))
        ownership = Ownership(vip=vip.id, owner=True, claim=claim, why="", from_engine=former, detected_ms=detected_ms)
        self.on_tell(name, Tell(ownership))

    def _give_up(self, name: str, vip: str, why: str) -> None:
        claim = self._owned.get(name, {}).pop(vip, None)
        machine = self.engines[name]
        machine.addresses = {address: held for address, held in machine.addresses.items() if held != vip}
        if claim is not None and self._able(name):
            self.on_tell(name, Tell(Ownership(vip=vip, owner=False, claim=claim, why=why)))

    def _silent(self, name: str) -> None:
        """What it owned is taken over."""
        for vip in list(self._owned.get(name, {})):
            self._give_up(name, vip, "")
            self.at(self.now + DETECTION_S, lambda vip=vip: self._take_over(name, vip))  # type: ignore[misc]

    def _take_over(self, former: str, id: str) -> None:
        holder, claim = self._owners.get(id, ("", Claim(0, 0, 0)))
        armed = self._armed.get(id)
        if holder != former or armed is None:
            return
        for engine in armed.succession:
            if engine != former and engine in self.engines and self._able(engine):
                wanted = Claim(max(claim.generation, armed.generation), claim.count + 1, self.engines[engine].rank)
                self._take(engine, armed, wanted, former, DETECTION_S * 1000)
                return

    def _able(self, name: str) -> bool:
        engine = self.engines.get(name)
        return engine is not None and engine.running and not engine.frozen and engine.link


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """What a fleet did. ``cpu_s``: processor seconds of the whole simulation, ``settle_s``: virtual ones until all was
    as intended again."""

    engines: int
    services: int
    steps: list[dict[str, object]]
    checked: dict[str, int]


class Stopwatch:
    def __init__(self, world: SystemWorld, progress: Callable[[str], None]) -> None:
        self._world, self._progress = world, progress
        self.steps: list[dict[str, object]] = []
        self._plans = 0
        self._start()

    def _start(self) -> None:
        self._cpu, self._virtual, self._before = time.process_time(), self._world.now, self._plans

    def planned(self, *decided: object) -> None:
        self._plans += 1

    def lap(self, what: str) -> None:
        cpu_s, settle_s = time.process_time() - self._cpu, self._world.now - self._virtual
        plans = self._plans - self._before
        self.steps.append({"what": what, "cpu_s": round(cpu_s, 2), "settle_s": round(settle_s, 1), "plans": plans})
        self._progress(
            f"{what:<24} {cpu_s:8.2f} s of processor, {settle_s:6.1f} s virtual, {plans} plans that did something"
        )
        self._start()


def documents(templates: dict[str, Document], services: int) -> Iterator[tuple[str, bytes]]:
    """Keys and values of virtual services like the first one, each with a pool and an address of its own."""
    base = int(ipaddress.IPv4Address("10.9.16.0"))
    address = str(templates["vsvip"]["vip"][0]["ip_address"]["addr"])
    texts = {type: json.dumps(template) for type, template in templates.items()}
    for number in range(1, services):
        for type, text in texts.items():
            mine = text.replace("s-0", f"s-{number}").replace(address, str(ipaddress.IPv4Address(base + number)))
            for other, template in templates.items():
                mine = mine.replace(str(template["uuid"]), _uuid(other, number))
            yield f"/intent/{type}/{_uuid(type, number)}", mine.encode()


def _uuid(type: str, number: int) -> str:
    return f"{type}-fleet-{number:06d}"


async def fill(world: SystemWorld, engines: int, services: int) -> None:
    """Put engines and virtual services into the store, as if they had been made one by one (which is not what is looked
    at here). The controller is dead afterwards."""
    body = {"name": GROUP, "max_se": engines, "max_vs_per_se": MAX_VS_PER_SE, "se_deprovision_delay": 0}
    group = (await world.create("serviceenginegroup", body))["uuid"]
    first = await world.service("s-0", GROUP)
    view = world.running.view
    found = {"pool": view.named("pool", "s-0-pool"), "vsvip": view.named("vsvip", "s-0-vip"), "virtualservice": first}
    await world.kill_controller()
    ledger = Ledger(world.store)
    await ledger.load()
    for number in range(engines):
        id = f"se-fleet-{number:05d}"
        host = world.hosts[number % len(world.hosts)]
        rank = FIRST_RANK + number
        name = engine_name("Avi", id)
        spec = EngineSpec(id=id, name=name, rank=rank, group=group, host=host, identity=NO_IDENTITY)
        handle = await world.cloud.make(spec)
        record = EngineRecord(
            id=id,
            name=name,
            rank=rank,
            group=group,
            host=host,
            address=handle.address,
            mac=handle.mac,
            created=True,
            seen=True,
            created_at=world.clock.now(),
        )
        await ledger.write(Changes(engines={id: record}))
    puts = list(documents({type: document for type, document in found.items() if document}, services))
    for start in range(0, len(puts), PUTS_AT_ONCE):
        await world.store.commit(Transaction(puts=tuple(puts[start : start + PUTS_AT_ONCE])))


def happenings(shape: Shape) -> Iterator[Event]:
    """What happens to a fleet, again and again."""
    for number in itertools.count(1):
        yield Event(do="kill", engine="s-0:0", wait_s=2.0)
        yield Event(do="create", service=f"new-{number}", target=GROUP, wait_s=2.0)
        yield Event(do="host", target=shape.host_names[number % shape.hosts], wait_s=2.0)
        yield Event(do="operate", service=f"new-{number}", target="scaleout", wait_s=2.0)
        yield Event(do="host_return", target=shape.host_names[number % shape.hosts], wait_s=2.0)
        yield Event(do="operate", service="s-0", target="migrate", wait_s=2.0)
        yield Event(do="crash")
        yield Event(do="delete", service=f"new-{number}", wait_s=2.0)


def fleet(seed: int, engines: int, services: int, events: int, progress: Callable[[str], None]) -> Fleet:
    """Place all of it from nothing, then let ``events`` things happen one after another, each until all is as intended
    again. Raises Broken."""

    async def main(loop: VirtualLoop) -> Fleet:
        shape = Shape(hosts=max(2, engines // ENGINES_A_HOST), racks=2, modes=("HA_MODE_SHARED",))
        world = SystemWorld(loop, seed, shape.host_names)
        world.segment = QuietNetwork(world.segment)
        await world.start()
        watch = Stopwatch(world, progress)
        await fill(world, engines, services)
        watch.lap("made")
        await _running(world, watch)
        watch.lap("placed and served")
        deeds = Deeds(world, shape)
        for event in itertools.islice(happenings(shape), events):
            await deeds.do(event)
            await _running(world, watch)
            watch.lap(event.do if not event.target or event.do != "operate" else event.target)
        return Fleet(
            engines=engines,
            services=services,
            steps=watch.steps,
            checked={**world.witness.counts, "settled": world.settled},
        )

    return run(main)


async def _running(world: SystemWorld, watch: Stopwatch) -> None:
    """With a controller, and all as intended."""
    if world.process is None:
        await world.start_controller()
        reconciler = world.controller.reconciler
        reconciler.on_decided = watch.planned
        reconciler.pause_s_min = PAUSE_S  # what happens meanwhile is planned together, as when plans take time
    await world.settle(FLEET_SETTLE_S_MAX)
