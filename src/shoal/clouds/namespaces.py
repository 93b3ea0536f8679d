"""The embedded cloud: engines are network namespaces on this machine; hosts are labels."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from shoal import whole_file
from shoal.observe import ring
from shoal.wire.engine_config import JOIN_KEY, JOIN_TOKEN, EngineConfig
from shoal.wire.recorded import Recording

from . import memory
from .fabric import NETNS, Fabric, end_all, processes_in
from .protocol import CloudError, EngineHandle, EngineSpec, Host, Identity, quietest

DEFAULT_HOSTS = ("host-1", "host-2", "host-3", "host-4")
RECORD = "record.json"
LAB = "lab-"
"""Nodes with this prefix belong to trials, not to the cloud."""
ENGINES_MAX = 1500
"""Trials have the addresses beyond."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What a restarted controller needs to adopt an engine."""

    id: str
    name: str
    host: str
    index: int
    address: str
    mac: str
    vlans: tuple[int, ...] = ()


def engines_in(data_dir: Path, fabric: Fabric) -> list[str]:
    """The names of the engines that have a namespace, in order; what else has one belongs to the fabric or a trial."""
    there = set(fabric.namespaces())
    found = []
    for file in data_dir.glob(f"engines/*/{RECORD}"):
        with contextlib.suppress(OSError, ValueError):  # being made or removed
            found.append(msgspec.json.decode(file.read_bytes(), type=Record).name)
    return sorted(name for name in found if fabric.addressing.namespace(name) in there)


class NamespacesCloud:
    """``controllers``: host:port of the wire listeners that engines connect to."""

    def __init__(
        self, data_dir: Path, fabric: Fabric, controllers: Sequence[str], hosts: Sequence[str] = DEFAULT_HOSTS
    ) -> None:
        self._folder = data_dir / "engines"
        self._fabric = fabric
        self._controllers = tuple(controllers)
        self._hosts = tuple(hosts)
        self._records: dict[str, Record] = {}
        self._reserved: set[int] = set()
        """Indices of engines that are being made or removed."""
        self._next = 0
        self._children: list[subprocess.Popen[bytes]] = []

    async def start(self) -> None:
        await self._fabric.start()
        self._folder.mkdir(parents=True, exist_ok=True)
        for folder in sorted(self._folder.iterdir()):
            try:
                record = msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
            except (OSError, ValueError):
                shutil.rmtree(folder)  # half made by a controller that died
                continue
            self._records[record.id] = record
        self._next = max((record.index + 1 for record in self._records.values()), default=0)
        known = {self._fabric.addressing.namespace(record.name) for record in self._records.values()}
        for namespace in self._fabric.namespaces():
            node = namespace.removeprefix(self._fabric.addressing.prefix)
            if namespace not in known and namespace != self._fabric.addressing.fabric and not node.startswith(LAB):
                await self._fabric.remove(node)

    async def create(self, spec: EngineSpec) -> EngineHandle:
        if spec.host and spec.host not in self._hosts:
            raise CloudError(f"There is no host {spec.host}. There are: {', '.join(self._hosts)}.")
        index = self._free_index()
        self._reserved.add(index)
        try:
            address = self._fabric.addressing.node_address(index)
            mac = self._fabric.addressing.mac(address)
            host = quietest(self._hosts, (record.host for record in self._records.values()))
            record = Record(id=spec.id, name=spec.name, host=spec.host or host, index=index, address=address, mac=mac)
            self._records[spec.id] = record
            try:
                self._write(record, spec)
                await self._fabric.add(spec.name, address)
                self._launch(record)
            except (OSError, CloudError) as error:
                await self.delete(spec.id)
                raise error if isinstance(error, CloudError) else CloudError(f"{spec.name}: {error}") from error
        finally:
            self._reserved.discard(index)
        return self._handle(record)

    async def restart(self, engine_id: str) -> EngineHandle:
        record = self._found(engine_id)
        await end_all(self._fabric.addressing.namespace(record.name))
        try:
            await self._revive(record)
        except OSError as error:
            raise CloudError(f"{record.name} can't be started: {error}") from error
        return self._handle(record)

    async def renew(self, engine_id: str, identity: Identity) -> None:
        folder = self._folder / self._found(engine_id).name
        try:
            for name, content in (("key.pem", identity.key_pem), ("certificate.pem", identity.certificate_pem)):
                aside = folder / f"{name}.new"
                aside.touch(mode=0o600)
                aside.write_bytes(content)
            for name in ("key.pem", "certificate.pem"):  # an engine that reads between the two tries again
                (folder / f"{name}.new").replace(folder / name)
        except OSError as error:
            raise CloudError(f"The identity of {folder.name} can't be written: {error}") from error

    async def plug(self, engine_id: str, vlans: Sequence[int]) -> None:
        record = self._found(engine_id)
        wanted = tuple(sorted(vlans))
        for vlan in wanted:
            if vlan not in record.vlans:
                await self._fabric.plug(record.name, record.address, vlan)
        self._records[engine_id] = msgspec.structs.replace(record, vlans=wanted)
        try:
            whole_file.write(self._folder / record.name / RECORD, msgspec.json.encode(self._records[engine_id]))
        except OSError as error:
            raise CloudError(f"The record of {record.name} can't be written: {error}") from error
        for vlan in set(record.vlans) - set(wanted):
            await self._fabric.unplug(record.name, vlan)

    async def delete(self, engine_id: str) -> None:
        record = self._records.pop(engine_id, None)
        if record is None:
            return
        self._reserved.add(record.index)  # as long as it answers there, also if this fails
        await self._fabric.remove(record.name, record.vlans)
        self._reserved.discard(record.index)
        shutil.rmtree(self._folder / record.name, ignore_errors=True)
        memory.remove(self._fabric.addressing.namespace(record.name))
        self._reap()

    async def engines(self) -> list[EngineHandle]:
        self._reap()
        return [self._handle(record) for record in self._records.values()]

    async def hosts(self) -> list[Host]:
        return [Host(name=name) for name in self._hosts]

    async def recordings(self, engine_id: str, seconds: float) -> tuple[Recording, ...]:
        record = self._records.get(engine_id)
        if record is None:
            return ()
        try:
            data = (self._folder / record.name / "engine.json").read_bytes()
            config = msgspec.json.decode(data, type=EngineConfig)
        except (OSError, ValueError):  # just being removed
            return ()
        return await asyncio.to_thread(ring.read_engine, Path(config.recorder or config.directory), seconds)

    async def stop(self) -> None:
        """Engines keep serving; nothing is held that needs letting go."""

    async def destroy(self) -> None:
        await self._fabric.destroy()
        shutil.rmtree(self._folder, ignore_errors=True)
        memory.remove_all(self._fabric.addressing.prefix)
        self._records.clear()
        self._reap()

    # --- one engine ---

    def _found(self, engine_id: str) -> Record:
        record = self._records.get(engine_id)
        if record is None:
            raise CloudError(f"The cloud has no engine {engine_id}.")
        return record

    def _free_index(self) -> int:
        """One that was not in use for long: peers may still know an engine that is gone by its address and MAC."""
        used = {record.index for record in self._records.values()} | self._reserved
        for index in itertools.chain(range(self._next, ENGINES_MAX), range(self._next)):
            if index not in used:
                self._next = index + 1
                return index
        raise CloudError(f"All {ENGINES_MAX} addresses for engines are in use.")

    def _write(self, record: Record, spec: EngineSpec) -> None:
        folder = self._folder / record.name
        folder.mkdir(mode=0o700, parents=True)
        config = EngineConfig(
            id=record.id,
            name=record.name,
            rank=spec.rank,
            directory=str(folder),
            controllers=self._controllers,
            address=record.address,
            prefix_length=self._fabric.addressing.network.prefixlen,
            mac=record.mac,
            memory_mb=spec.memory_mb,
            threads=spec.vcpus,
            recorder=memory.folder(self._fabric.addressing.namespace(record.name)),
        )
        files = {
            "engine.json": msgspec.json.encode(config),
            JOIN_KEY if spec.identity.joins else "key.pem": spec.identity.key_pem,
            JOIN_TOKEN if spec.identity.joins else "certificate.pem": spec.identity.certificate_pem,
            "ca.pem": spec.identity.ca_pem,
            RECORD: msgspec.json.encode(record),  # last: without it the folder counts as half made
        }
        for name, content in files.items():
            path = folder / name
            path.touch(mode=0o600)
            path.write_bytes(content)

    async def _revive(self, record: Record) -> None:
        if not (NETNS / self._fabric.addressing.namespace(record.name)).exists():
            await self._fabric.add(record.name, record.address)
            for vlan in record.vlans:
                await self._fabric.plug(record.name, record.address, vlan)
        self._launch(record)

    def _launch(self, record: Record) -> None:
        """Start the agent; it outlives this controller."""
        folder = self._folder / record.name
        command = [sys.executable, "-m", "shoal.engine", str(folder / "engine.json")]
        with (folder / "agent.log").open("ab") as log:
            child = subprocess.Popen(
                self._fabric.enter(record.name, *command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self._children.append(child)

    def _running(self, record: Record) -> bool:
        return bool(processes_in(self._fabric.addressing.namespace(record.name)))

    def _reap(self) -> None:
        self._children = [child for child in self._children if child.poll() is None]

    def _handle(self, record: Record) -> EngineHandle:
        return EngineHandle(
            id=record.id,
            name=record.name,
            host=record.host,
            address=record.address,
            prefix_length=self._fabric.addressing.network.prefixlen,
            mac=record.mac,
            running=self._running(record),
            vlans=record.vlans,
        )
