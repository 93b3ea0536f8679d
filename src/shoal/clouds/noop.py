"""A cloud that only keeps the books: its engines have a name, a host and addresses, and no process.

The no-op twin of the real clouds: lets the controller run alone, in tests and in the simulator.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from msgspec.structs import replace

from shoal.wire.recorded import Recording

from .protocol import CloudError, EngineHandle, EngineSpec, Host, Identity, quietest

SUBNET = "100.64.0.0/16"
HOSTS = ("host-1", "host-2", "host-3", "host-4")


class NoopCloud:
    """A `shoal.clouds.protocol.Cloud`."""

    def __init__(self, hosts: Sequence[str] = HOSTS, subnet: str = SUBNET) -> None:
        self._hosts = tuple(hosts)
        self._subnet = ipaddress.IPv4Network(subnet)
        self._engines: dict[str, EngineHandle] = {}
        self._made = 0
        self.renewed: dict[str, Identity] = {}

    async def start(self) -> None: ...

    async def create(self, spec: EngineSpec) -> EngineHandle:
        if spec.host and spec.host not in self._hosts:
            raise CloudError(f"There is no host {spec.host}. There are: {', '.join(self._hosts)}.")
        self._made += 1
        address = self._subnet.network_address + 1 + self._made
        handle = EngineHandle(
            id=spec.id,
            name=spec.name,
            host=spec.host or quietest(self._hosts, (handle.host for handle in self._engines.values())),
            address=str(address),
            prefix_length=self._subnet.prefixlen,
            mac="02:53:" + address.packed.hex(":"),
            running=True,
        )
        self._engines[spec.id] = handle
        return handle

    async def restart(self, engine_id: str) -> EngineHandle:
        if engine_id not in self._engines:
            raise CloudError(f"The cloud has no engine {engine_id}.")
        self.mark(engine_id, running=True)
        return self._engines[engine_id]

    async def renew(self, engine_id: str, identity: Identity) -> None:
        if engine_id not in self._engines:
            raise CloudError(f"The cloud has no engine {engine_id}.")
        self.renewed[engine_id] = identity

    async def plug(self, engine_id: str, vlans: Sequence[int]) -> None:
        if engine_id not in self._engines:
            raise CloudError(f"The cloud has no engine {engine_id}.")
        self._engines[engine_id] = replace(self._engines[engine_id], vlans=tuple(sorted(vlans)))

    async def delete(self, engine_id: str) -> None:
        self._engines.pop(engine_id, None)

    async def engines(self) -> list[EngineHandle]:
        return list(self._engines.values())

    async def hosts(self) -> list[Host]:
        return [Host(name=name) for name in self._hosts]

    async def recordings(self, engine_id: str, seconds: float) -> tuple[Recording, ...]:
        return ()

    async def stop(self) -> None: ...

    async def destroy(self) -> None:
        self._engines.clear()

    def handle(self, engine_id: str) -> EngineHandle:
        return self._engines[engine_id]

    def mark(self, engine_id: str, *, running: bool) -> None:
        """What a look at the engine's processes would show."""
        self._engines[engine_id] = replace(self._engines[engine_id], running=running)
