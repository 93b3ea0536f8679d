"""Fault trials: what the bench measures and CI checks. One fault on the engine that answers, under the outage probe."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec

from shoal import system
from shoal.errors import NotReady

from .api import Api
from .network import Lab
from .probe import Probed

KINDS = ("kill", "freeze", "cut")
"""Of these the outage is bounded by the failover alone."""
PARTIAL_KINDS = ("haproxy", "agent", "haproxy+agent", "deaf", "mute", "host")
"""HAProxy or agent killed, or both; the engine hears, or says, nothing any more; every engine of its host killed."""
LEGACY = "HA_MODE_LEGACY_ACTIVE_STANDBY"
MODES = {"HA_MODE_SHARED": 1, "HA_MODE_SHARED_PAIR": 2, LEGACY: 1}
"""Mode -> engines that serve a virtual service."""
ELASTIC = tuple(mode for mode in MODES if mode != LEGACY)
PROGRAMS = {"haproxy": "haproxy.cfg", "agent": "shoal.engine\0"}
PROBE_S = 2.5
WHOLE_WITHIN_S = 90.0
"""A controller that starts again starts every engine that died, and after many faults those are many."""
FAULT_AFTER_S = 0.8
ENDED_WITHIN_S = 5.0
PASSWORD = "trials-only"


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    mode: str
    kind: str
    controller: bool
    former: str
    outage_ms: float
    failed: int
    starts: int
    late_answer_ms: float


class Bench:
    """A running Shoal with three backends, a client, and one service per mode.

    ``ipv6``: the services have an address of each family, their servers IPv6 ones, and trials probe the IPv6 address.
    """

    def __init__(self, data_dir: Path, listen: str = "127.0.0.1:9443", *, ipv6: bool = False) -> None:
        self._ipv6 = ipv6
        self.options = system.Options.parse(data_dir, listen, (), PASSWORD)
        self.url = ""
        self.services: dict[str, dict[str, Any]] = {}

    def launch(self) -> None:
        self.url = system.launch(self.options, None).url

    def kill_controller(self) -> None:
        running = system.found(self.options.data_dir)
        if running is None:
            raise NotReady("No controller runs.")
        process = os.pidfd_open(running.pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select((process,), (), (), ENDED_WITHIN_S)  # until it has ended: a new one may be launched at once
        finally:
            os.close(process)

    def stop(self) -> None:
        system.stop(self.options.data_dir, None, purge=True)

    async def prepare(self, lab: Lab, api: Api, modes: Collection[str] = ELASTIC, **group: Any) -> None:
        """``group``: more fields of the groups."""
        backends = [await lab.backend(f"web{n}") for n in (1, 2, 3)]
        servers = [(backend.address6 if self._ipv6 else backend.address, backend.port) for backend in backends]
        vip = {"auto_allocate_ip": True, "auto_allocate_ip_type": "V4_V6" if self._ipv6 else "V4_ONLY"}
        await lab.node("client")
        for mode in modes:
            engines = MODES[mode]
            name = mode.lower().replace("_", "-")
            body = {"name": name, "ha_mode": mode, "max_se": 100, "vs_scalein_timeout": 2, **group}
            await api.post("serviceenginegroup", body)
            service = await api.service(
                f"vs-{name}", servers, se_group_ref=f"/api/serviceenginegroup?name={name}", vip=vip
            )
            self.services[mode] = service
            await api.placed(service["uuid"], engines)

    async def trial(self, lab: Lab, mode: str, kind: str, *, controller: bool) -> Trial:
        """One fault. Everything is whole again, and armed, before it returns."""
        (trial,) = await self.trials(lab, (mode,), kind, controller=controller)
        return trial

    async def trials(self, lab: Lab, modes: Sequence[str], kind: str, *, controller: bool) -> list[Trial]:
        """One fault in each of the modes, one after another; without a ``controller``, all while it is dead once."""
        async with Api(self.url, PASSWORD) as api:
            owners = {mode: (await api.placed(self.services[mode]["uuid"], MODES[mode]))["answers"] for mode in modes}
            hosts = {mode: await self._neighbours(api, owners[mode]) for mode in modes} if kind == "host" else {}
        if not controller:
            self.kill_controller()
        probed = {mode: await self._probed(lab, mode, kind, owners[mode], hosts.get(mode, [])) for mode in modes}
        if not controller:
            await asyncio.to_thread(self.launch)
        async with Api(self.url, PASSWORD) as api:
            for mode in modes:
                gone = {"kill": [owners[mode]], "host": hosts.get(mode, [])}.get(kind, [])
                await self._whole(api, mode, gone, f"{kind} of {owners[mode]}")
        return [
            Trial(
                mode=mode,
                kind=kind,
                controller=controller,
                former=owners[mode],
                outage_ms=round(found.outage_ms(), 1),
                failed=len(found.failed()),
                starts=len(found.starts),
                late_answer_ms=round(found.late_answers_ms(), 1),
            )
            for mode, found in probed.items()
        ]

    async def _probed(self, lab: Lab, mode: str, kind: str, owner: str, host: list[str]) -> Probed:
        """What the client saw of a fault, and of its end."""
        address = self.services[mode]["address6" if self._ipv6 else "address"]
        probing = asyncio.create_task(lab.probe("client", address, 80, PROBE_S))
        await asyncio.sleep(FAULT_AFTER_S)
        mend = await self._fault(lab, kind, owner, host)
        probed = await probing
        await mend()
        return probed

    async def _whole(self, api: Api, mode: str, gone: list[str], fault: str) -> None:
        """``gone``: engines that it can't be answered by."""
        service, engines = self.services[mode], MODES[mode]

        async def whole() -> bool:
            found = await api.placement(service["uuid"])
            ready = [p for p in found["placements"] if p["state"] == "ready"]
            settled = found["armed"] and found["answers"] not in ("", *gone)
            return bool(settled and len(ready) == engines == len(found["placements"]) and len(found["succession"]) > 1)

        try:
            await api.until(f"{mode} is whole again after {fault}", whole, WHOLE_WITHIN_S)
        except NotReady as late:
            found = await api.placement(service["uuid"])
            shown = {field: found[field] for field in ("placements", "succession", "armed", "answers")}
            raise NotReady(f"{late} It is {shown}.") from None

    async def _neighbours(self, api: Api, engine: str) -> list[str]:
        """The engine and all others on its host, of any group."""
        engines = (await api.get("serviceengine?page_size=200"))["results"]
        hosts = {e["name"]: (await api.get(f"serviceengine/{e['uuid']}/placement"))["host"] for e in engines}
        return [name for name, host in hosts.items() if host == hosts[engine]]

    async def _fault(self, lab: Lab, kind: str, engine: str, host: list[str]) -> Callable[[], Any]:
        """Do it; the result mends it. ``host``: all engines on the host of ``engine``."""

        async def nothing() -> None: ...

        async def thaw() -> None:
            lab.thaw(engine)

        match kind:
            case "kill" | "host":
                for victim in host if kind == "host" else [engine]:
                    lab.kill(victim)
            case "freeze":
                lab.freeze(engine)
                return thaw
            case "cut":
                await lab.cut(engine)
                return lambda: lab.heal(engine)
            case "haproxy" | "agent" | "haproxy+agent":
                lab.kill_some(engine, *(PROGRAMS[part] for part in kind.split("+")))
            case "deaf" | "mute":
                await lab.lose(engine, **{"to_percent" if kind == "deaf" else "from_percent": 100})
                return lambda: lab.mend(engine)
            case _:
                raise ValueError(kind)
        return nothing
