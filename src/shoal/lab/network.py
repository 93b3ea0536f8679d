"""Backends and clients as nodes of a running Shoal's fabric, beside the faults one can do to its engines."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from shoal.clouds.fabric import Fabric, ip
from shoal.clouds.faults import Faults
from shoal.clouds.namespaces import LAB
from shoal.errors import NotReady

from .probe import Probed

QUIET = ("net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2")
"""Nobody is answered for an address that is not of the interface he asks at."""
FIRST_INDEX = 1500
"""Lab nodes take addresses well behind the engines'."""


class Backend(msgspec.Struct, frozen=True):
    """``address6`` is "" on a machine without IPv6."""

    name: str
    address: str
    port: int
    address6: str = ""


class Lab(Faults):
    """Use as ``async with Lab(data_dir) as lab``: everything it made is removed at the end."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(Fabric.existing(data_dir.resolve()))
        self._nodes: list[str] = []
        self._children: list[subprocess.Popen[bytes]] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def __aenter__(self) -> Lab:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        for node in self._nodes:
            await self.fabric.remove(node)
        self._nodes.clear()
        for child in self._children:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()
        self._children.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    async def node(self, name: str) -> str:
        """A bare node; returns its address."""
        address = self.fabric.addressing.node_address(FIRST_INDEX + len(self._nodes))
        await self.fabric.remove(LAB + name)
        await self.fabric.add(LAB + name, address)
        self._nodes.append(LAB + name)
        return address

    async def bare(self, name: str) -> str:
        """A namespace without any network, removed at the end as nodes are; returns its name."""
        namespace = self.fabric.addressing.namespace(LAB + name)
        await self.fabric.remove(LAB + name)
        await ip("netns", "add", namespace)
        self._nodes.append(LAB + name)
        return namespace

    def folder(self, name: str) -> Path:
        """For the files of one of its nodes, gone at the end."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="shoal-lab-")
        made = Path(self._folder.name) / name
        made.mkdir(exist_ok=True)
        return made

    def run(self, node: str, *command: str) -> subprocess.Popen[bytes]:
        """Run any program inside one of its nodes."""
        child = subprocess.Popen(
            self.fabric.enter(LAB + node, *command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._children.append(child)
        return child

    async def backend(self, name: str, port: int = 80) -> Backend:
        """A node with an HTTP server that answers its own name (and TCP echo on the next port)."""
        address = await self.node(name)
        address6 = self.fabric.addressing.address6(address) if self.fabric.ipv6 else ""
        await self.serve(name, port, *filter(None, (address, address6)))
        return Backend(name, address, port, address6)

    async def serve(self, name: str, port: int, *addresses: str) -> None:
        """A backend's server at these addresses of the node."""
        child = self.start(name, "shoal.lab.backend", ",".join(addresses), str(port), name, output=subprocess.PIPE)
        assert child.stdout is not None
        if await asyncio.to_thread(child.stdout.readline) != b"ready\n":
            raise NotReady(f"Backend {name} did not start.", hint=f"It ended with status {child.wait()}.")

    async def takes_part(self, node: str, *vips: str) -> None:
        """The node has these addresses of VIPs, too, and tells nobody: servers that answer clients themselves need it."""
        namespace = self.fabric.addressing.namespace(LAB + node)
        await ip("netns", "exec", namespace, "sysctl", "-qw", *QUIET)
        for vip in vips:
            await ip("-n", namespace, "address", "replace", vip, "dev", "lo")

    def start(
        self, node: str, module: str, *arguments: str, output: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        """Run a module of the lab inside one of its nodes."""
        command = self.fabric.enter(LAB + node, sys.executable, "-m", module, *arguments)
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, start_new_session=True)
        self._children.append(child)
        return child

    async def probe(self, node: str, address: str, port: int, seconds: float) -> Probed:
        """The outage probe, from a client node."""
        child = self.start(node, "shoal.lab.probe", address, str(port), str(seconds), output=subprocess.PIPE)
        out, _ = await asyncio.to_thread(child.communicate)
        self._children.remove(child)
        return msgspec.json.decode(out, type=Probed)
