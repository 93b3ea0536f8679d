"""Addresses of the embedded cloud's engines: nobody gets one that another may still be known by."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from shoal.clouds.addressing import Addressing
from shoal.clouds.fabric import Fabric
from shoal.clouds.namespaces import NamespacesCloud
from shoal.clouds.protocol import EngineSpec, Identity


class Paper(Fabric):
    """Takes its time to remove a node, and starts nothing."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, Addressing.of(data_dir))
        self.gone = asyncio.Event()

    async def start(self) -> None: ...

    async def add(self, node: str, address: str) -> str:
        return self.addressing.mac(address)

    async def remove(self, node: str, vlans: Sequence[int] = ()) -> None:
        await self.gone.wait()

    def namespaces(self) -> list[str]:
        return []

    def enter(self, node: str, *command: str) -> list[str]:
        return ["true"]


def spec(number: int) -> EngineSpec:
    nobody = Identity(key_pem=b"", certificate_pem=b"", ca_pem=b"")
    return EngineSpec(id=f"se-{number}", name=f"engine-{number}", rank=number, group="group", identity=nobody)


async def started(folder: Path) -> tuple[NamespacesCloud, Paper]:
    fabric = Paper(folder)
    cloud = NamespacesCloud(folder, fabric, [])
    await cloud.start()
    return cloud, fabric


async def ended(*clouds: NamespacesCloud) -> None:
    """All that was started has ended and is reaped."""
    while any(cloud._children for cloud in clouds):
        await asyncio.sleep(0.01)
        for cloud in clouds:
            await cloud.engines()


def test_an_address_is_not_given_away_while_its_engine_is_being_removed(tmp_path: Path) -> None:
    async def play() -> None:
        cloud, fabric = await started(tmp_path)
        former = await cloud.create(spec(1))
        removing = asyncio.create_task(cloud.delete("se-1"))
        await asyncio.sleep(0)
        cloud._next = 0  # as if all others had had their turn
        second = await cloud.create(spec(2))
        assert second.address != former.address
        fabric.gone.set()
        await removing
        await ended(cloud)

    asyncio.run(play())


def test_addresses_go_round(tmp_path: Path) -> None:
    async def play() -> None:
        cloud, fabric = await started(tmp_path)
        fabric.gone.set()
        first, second = await cloud.create(spec(1)), await cloud.create(spec(2))
        await cloud.delete("se-1")
        third = await cloud.create(spec(3))
        assert len({first.address, second.address, third.address}) == 3

        again, _ = await started(tmp_path)
        fourth = await again.create(spec(4))
        assert fourth.address not in (first.address, second.address, third.address)
        await ended(cloud, again)

    asyncio.run(play())
