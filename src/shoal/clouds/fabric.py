"""The network of one Shoal on one machine: a bridge in a namespace of its own, nodes as namespaces around it.

The host gets one veth and one route. Nothing host-wide is changed. Works in whatever network namespace the program
itself runs in (tests run whole systems inside a private one).
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from .addressing import SUBNETS_COUNT, Addressing
from .protocol import CloudError

NETNS = Path("/run/netns")
BRIDGE = "br0"
COMMAND_WITHIN_S = 20.0
DEATH_WITHIN_S = 5.0
DEATH_POLL_S = 0.005
ROUTE_TYPES = ("local", "broadcast", "multicast", "unreachable", "blackhole", "prohibit", "anycast", "unicast")


async def ip(*arguments: str, batch: Sequence[str] = ()) -> str:
    """Run ``ip`` (with ``batch`` lines on its input). Raises CloudError with its words."""
    command = ["ip", *arguments, *(["-batch", "-"] if batch else [])]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, input="\n".join(batch), text=True, capture_output=True, timeout=COMMAND_WITHIN_S)

    try:
        done = await asyncio.to_thread(run)
    except subprocess.TimeoutExpired:
        raise CloudError(f"`{' '.join(command)}` did not end within {COMMAND_WITHIN_S:.0f} s.") from None
    if done.returncode:
        raise CloudError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


def processes_in(namespace: str) -> list[int]:
    """The pids whose network namespace is the named one."""
    try:
        inode = (NETNS / namespace).stat().st_ino
    except OSError:
        return []
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if os.stat(f"/proc/{entry.name}/ns/net").st_ino == inode:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def alive(pid: int) -> bool:
    """Running, and not a zombie that its parent has not collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def signal_all(namespace: str, number: signal.Signals) -> list[int]:
    """Signal every process in one of our namespaces; returns their pids."""
    pids = [pid for pid in processes_in(namespace) if pid != os.getpid()]
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
    return pids


async def end_all(namespace: str) -> None:
    """kill -9 every process in one of our namespaces, and wait until they are gone."""
    deadline = asyncio.get_running_loop().time() + DEATH_WITHIN_S
    while any(alive(pid) for pid in signal_all(namespace, signal.SIGKILL)):
        if asyncio.get_running_loop().time() > deadline:
            raise CloudError(f"Processes in {namespace} survive kill -9: {processes_in(namespace)}.")
        await asyncio.sleep(DEATH_POLL_S)


def port_of(node: str) -> str:
    """The bridge-side interface of a node."""
    return "v" + hashlib.blake2b(node.encode(), digest_size=5).hexdigest()


class _Kept(msgspec.Struct):
    subnet: str
    vip_network: str


class Fabric:
    """``addressing`` may change at `start` when the subnet is taken; the choice is kept in ``fabric.json``."""

    def __init__(self, data_dir: Path, addressing: Addressing) -> None:
        self._data_dir = data_dir
        self._file = data_dir / "fabric.json"
        self._wanted_vips = addressing.vip_network
        self.addressing = addressing
        self._adding = asyncio.Lock()

    @classmethod
    def existing(cls, data_dir: Path) -> Fabric:
        """The fabric of a Shoal that runs. Raises CloudError when none does."""
        fabric = cls.of(data_dir)
        if not fabric._file.exists():
            raise CloudError(f"No Shoal runs on {data_dir}.")
        return fabric

    @classmethod
    def of(cls, data_dir: Path) -> Fabric:
        """The directory's fabric, with the subnet it remembers, if it does. Names follow from the path alone."""
        fabric = cls(data_dir, Addressing.of(data_dir))
        fabric._recall()
        return fabric

    def _recall(self) -> bool:
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=_Kept)
        except (OSError, ValueError):
            return False
        self.addressing = Addressing(id=self.addressing.id, subnet=kept.subnet, vip_network=kept.vip_network)
        return True

    # --- whole ---

    async def start(self) -> None:
        """Make what is missing; adopt what is there."""
        if not self._recall():
            await self._choose_subnet()
        names = self.addressing
        if not (NETNS / names.fabric).exists():
            await ip("netns", "add", names.fabric)
        links = await ip("-n", names.fabric, "-o", "link", "show")
        if f" {BRIDGE}:" not in links:
            await ip(
                "-n",
                names.fabric,
                batch=[f"link add {BRIDGE} type bridge forward_delay 0", f"link set {BRIDGE} up", "link set lo up"],
            )
        if names.host_link not in await ip("-o", "link", "show"):
            await self._attach_host()

    async def _choose_subnet(self) -> None:
        networks = await _routed()
        default_vips = Addressing.of(self._data_dir).vip_network
        explicit = self._wanted_vips if self._wanted_vips != default_vips else None
        for shift in range(SUBNETS_COUNT):
            choice = Addressing.of(self._data_dir, explicit, shift)
            if not any(choice.network.overlaps(network) for network in networks):
                self.addressing = choice
                kept = _Kept(subnet=choice.subnet, vip_network=choice.vip_network)
                self._file.write_bytes(msgspec.json.encode(kept))
                return
        raise CloudError("Every subnet of 100.64.0.0/10 is in use on this machine.")

    async def _attach_host(self) -> None:
        names = self.addressing
        vips = ipaddress.IPv4Network(names.vip_network)
        if (taken := next((n for n in await _routed() if n.overlaps(vips)), None)) is not None:
            raise CloudError(
                f"The VIP network {vips} overlaps {taken}, which this machine has a route to.",
                hint="Give another --vip-network, or leave it out.",
            )
        await ip("link", "add", names.host_link, "type", "veth", "peer", "name", "host0", "netns", names.fabric)
        await ip("-n", names.fabric, batch=[f"link set host0 master {BRIDGE}", "link set host0 up"])
        length = names.network.prefixlen
        await ip(
            batch=[
                f"addr add {names.gateway}/{length} dev {names.host_link}",
                f"link set {names.host_link} up",
                *self._vip_route(names.host_link),
            ]
        )

    def _vip_route(self, interface: str) -> list[str]:
        vips = ipaddress.IPv4Network(self.addressing.vip_network)
        return [] if vips.subnet_of(self.addressing.network) else [f"route add {vips} dev {interface}"]

    async def destroy(self) -> None:
        """Remove every namespace with our id and all in them, and the host's link."""
        for name in self.namespaces():
            await end_all(name)
        for name in self.namespaces():
            await ip("netns", "delete", name)
        if self.addressing.host_link in await ip("-o", "link", "show"):
            try:
                await ip("link", "delete", self.addressing.host_link)
            except CloudError as error:
                if "Cannot find" not in str(error):  # it vanished with the fabric's namespace
                    raise
        self._file.unlink(missing_ok=True)

    def namespaces(self) -> list[str]:
        """All of ours, the fabric's last."""
        try:
            names = [n for n in os.listdir(NETNS) if n.startswith(self.addressing.prefix)]
        except OSError:
            return []
        return sorted(names, key=lambda name: (name == self.addressing.fabric, name))

    # --- nodes ---

    async def add(self, node: str, address: str) -> str:
        """Attach a namespace with ``eth0`` at ``address``; returns its MAC."""
        names = self.addressing
        namespace, port, mac = names.namespace(node), port_of(node), names.mac(address)
        async with self._adding:
            await ip("netns", "add", namespace)
            try:
                await ip(
                    "-n",
                    names.fabric,
                    batch=[
                        f"link add {port} type veth peer name eth0 address {mac} netns {namespace}",
                        f"link set {port} master {BRIDGE}",
                        f"link set {port} up",
                    ],
                )
                await ip(
                    "-n",
                    namespace,
                    batch=[
                        f"addr add {address}/{names.network.prefixlen} dev eth0",
                        "link set lo up",
                        "link set eth0 up",
                        *self._vip_route("eth0"),
                    ],
                )
            except CloudError:
                await ip("netns", "delete", namespace)
                raise
        return mac

    async def remove(self, node: str) -> None:
        """End everything in the node and remove it. No error if it is gone."""
        namespace = self.addressing.namespace(node)
        if not (NETNS / namespace).exists():
            return
        await end_all(namespace)
        await ip("netns", "delete", namespace)

    async def cut(self, node: str) -> None:
        """Take the node's link away (carrier is lost)."""
        await ip("-n", self.addressing.fabric, "link", "set", port_of(node), "down")

    async def heal(self, node: str) -> None:
        await ip("-n", self.addressing.fabric, "link", "set", port_of(node), "up")

    def enter(self, node: str, *command: str) -> list[str]:
        """The command line that runs ``command`` inside a node."""
        return ["nsenter", f"--net={NETNS / self.addressing.namespace(node)}", *command]


async def _routed() -> list[ipaddress.IPv4Network]:
    """The networks and addresses this machine has, or reaches by a route of its own (the default route apart)."""
    found = []
    for line in (await ip("-4", "route", "show", "table", "all")).splitlines():
        words = [word for word in line.split() if word not in ROUTE_TYPES]
        network = _network(words[0]) if words else None
        if network is not None and network.prefixlen:
            found.append(network)
    return found


def _network(text: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        return None
