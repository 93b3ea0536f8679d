"""The network of one Shoal on one machine: a bridge in a namespace of its own, nodes as namespaces around it.

The host gets one veth and one route of each family. Nothing host-wide is changed. Works in whatever network namespace the program
itself runs in (tests run whole systems inside a private one).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import logging
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from .addressing import SUBNETS_COUNT, Addressing, Network
from .protocol import CloudError

log = logging.getLogger("shoal.fabric")

NETNS = Path("/run/netns")
IPV6_SETTINGS = Path("/proc/sys/net/ipv6/conf")
SITE_BITS = 48
"""Of an IPv6 address (RFC 4193, RFC 6177)."""
BRIDGE = "br0"
PLAIN_SWITCH = 'for file in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e "$file" ] || echo 0 >"$file"; done'
"""A machine that has br_netfilter sends each bridged packet by the hooks of iptables: of the CPU that small answers by way of
an engine took, client and server included, 6 % went there. A switch has none."""
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
    """Signal every process in one of our namespaces, and those that they start meanwhile; returns their pids."""
    signalled: dict[int, None] = {}
    while pids := [pid for pid in processes_in(namespace) if pid != os.getpid() and pid not in signalled]:
        for pid in pids:
            signalled[pid] = None
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    return list(signalled)


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


def vlan_port_of(node: str, vlan: int) -> str:
    """The same in a VLAN."""
    return port_of(f"{node}.{vlan}")


class _Kept(msgspec.Struct):
    subnet: str
    vip_network: str
    subnet6: str = ""
    vip_network6: str = ""


class Fabric:
    """``addressing`` may change at `start` when a subnet is taken; the choice is kept in ``fabric.json``.

    ``ipv6`` is False on a machine whose kernel has none.
    """

    def __init__(self, data_dir: Path, addressing: Addressing) -> None:
        self._data_dir = data_dir
        self._file = data_dir / "fabric.json"
        self.addressing = addressing
        self.ipv6 = IPV6_SETTINGS.exists()
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
        known = {field: value for field, value in msgspec.structs.asdict(kept).items() if value}
        self.addressing = msgspec.structs.replace(self.addressing, **known)
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
        await ip("netns", "exec", names.fabric, "sh", "-c", PLAIN_SWITCH)
        if names.host_link not in await ip("-o", "link", "show"):
            await self._attach_host()

    async def _choose_subnet(self) -> None:
        networks = await _routed()
        default = Addressing.of(self._data_dir)
        given = [v for v in self.addressing.vip_networks if v not in default.vip_networks]
        for shift in range(SUBNETS_COUNT):
            choice = Addressing.of(self._data_dir, [str(network) for network in given], shift)
            if not any(_overlap(own, network) for own in choice.networks for network in networks):
                self.addressing = choice
                kept = msgspec.convert(choice, _Kept, from_attributes=True)
                self._file.write_bytes(msgspec.json.encode(kept))
                return
        raise CloudError("Every subnet of 100.64.0.0/10 is in use on this machine.")

    async def _attach_host(self) -> None:
        names = self.addressing
        link, routed = names.host_link, await _routed()
        for vips in names.vip_networks:
            if (taken := next((network for network in routed if _overlap(vips, network)), None)) is not None:
                raise CloudError(
                    f"The VIP network {vips} overlaps {taken}, which this machine has a route to.",
                    hint="Give another --vip-network, or leave it out.",
                )
        await ip("link", "add", link, "type", "veth", "peer", "name", "host0", "netns", names.fabric)
        await ip("-n", names.fabric, batch=[f"link set host0 master {BRIDGE}", "link set host0 up"])
        await ip(batch=self._up(names.gateway, link, self.ipv6 and _enable_ipv6(link)))

    def _up(self, address: str, interface: str, ipv6: bool) -> list[str]:
        """Addresses, then the link, then routes."""
        names = self.addressing
        lines = [f"addr add {address}/{names.network.prefixlen} dev {interface}"]
        if ipv6:  # no other can have it: it need not be looked for
            lines.append(f"addr add {names.address6(address)}/{names.network6.prefixlen} dev {interface} nodad")
        lines.append(f"link set {interface} up")
        for vips, own in zip(names.vip_networks, names.networks, strict=True):
            if not _within(vips, own) and (ipv6 or vips.version == 4):
                lines.append(f"route add {vips} dev {interface}")
        return lines

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
        """Attach a namespace with ``eth0`` at ``address`` (and `Addressing.address6`); returns its MAC."""
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
                lines = [*(_link_local(mac, "eth0") if self.ipv6 else ()), *self._up(address, "eth0", self.ipv6)]
                await ip("-n", namespace, batch=["link set lo up", *lines])
            except CloudError:
                await ip("netns", "delete", namespace)
                raise
        return mac

    async def plug(self, node: str, address: str, vlan: int) -> None:
        """Put the node into a VLAN: a bridge of its own here, so that the kernel need not know tags. It gets an interface
        ``eth0.<vlan>`` with the MAC of ``eth0`` (``address`` is the node's there), as a VLAN of ``eth0`` has."""
        names, bridge, name = self.addressing, f"vlan{vlan}", f"eth0.{vlan}"
        namespace, port, mac = names.namespace(node), vlan_port_of(node, vlan), names.mac(address)
        async with self._adding:
            links = await ip("-n", names.fabric, "-o", "link", "show")
            lines = [f"link delete {port}"] if f" {port}@" in links else []
            if f" {bridge}:" not in links:
                lines += [f"link add {bridge} type bridge forward_delay 0", f"link set {bridge} up"]
            lines += [
                f"link add {port} type veth peer name {name} address {mac} netns {namespace}",
                f"link set {port} alias {node}",
                f"link set {port} master {bridge}",
                f"link set {port} up",
            ]
            await ip("-n", names.fabric, batch=lines)
        await ip("-n", namespace, batch=[*(_link_local(mac, name) if self.ipv6 else ()), f"link set {name} up"])

    async def unplug(self, node: str, vlan: int) -> None:
        """Take the node out of a VLAN. No error if it is not there."""
        with contextlib.suppress(CloudError):
            await ip("-n", self.addressing.fabric, "link", "delete", vlan_port_of(node, vlan))

    async def remove(self, node: str, vlans: Sequence[int] = ()) -> None:
        """End everything in the node and remove it. No error if it is gone."""
        namespace = self.addressing.namespace(node)
        if not (NETNS / namespace).exists():
            return
        await end_all(namespace)
        with contextlib.suppress(CloudError):  # its interface has gone by itself
            await ip("-n", self.addressing.fabric, "link", "delete", port_of(node))
        for vlan in vlans:
            await self.unplug(node, vlan)
        await ip("netns", "delete", namespace)  # the kernel takes its time to take it apart

    async def cut(self, node: str) -> None:
        """Take the node's link away, with the VLANs on it (carrier is lost)."""
        await self._switch(node, "down")

    async def heal(self, node: str) -> None:
        await self._switch(node, "up")

    async def _switch(self, node: str, way: str) -> None:
        fabric = self.addressing.fabric
        links = json.loads(await ip("-n", fabric, "-j", "link", "show"))
        ports = [port_of(node), *(link["ifname"] for link in links if link.get("ifalias") == node)]
        await ip("-n", fabric, batch=[f"link set {port} {way}" for port in ports])

    def enter(self, node: str, *command: str) -> list[str]:
        """The command line that runs ``command`` inside a node."""
        return ["nsenter", f"--net={NETNS / self.addressing.namespace(node)}", *command]


def _link_local(mac: str, interface: str) -> list[str]:
    """The address the kernel would give it (RFC 4291, appendix A), at once. Until the kernel had found that no other has
    it (1 to 2 s), it would ask for no neighbour."""
    first, second, third, *rest = bytes.fromhex(mac.replace(":", ""))
    packed = bytes([0xFE, 0x80, *bytes(6), first ^ 2, second, third, 0xFF, 0xFE, *rest])
    address = ipaddress.IPv6Address(packed)
    return [f"link set {interface} addrgenmode none", f"addr add {address}/64 dev {interface} nodad"]


def _enable_ipv6(link: str) -> bool:
    """On our own link of the host, whatever its default for new ones; and nobody tells the host of routes there."""
    try:
        (IPV6_SETTINGS / link / "disable_ipv6").write_text("0")
        (IPV6_SETTINGS / link / "accept_ra").write_text("0")
        (IPV6_SETTINGS / link / "dad_transmits").write_text("0")
    except OSError as error:
        log.warning("this machine itself will not reach IPv6 VIPs: %s: %s", link, error)
        return False
    return True


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _within(inner: Network, outer: Network) -> bool:
    return inner.subnet_of(outer)  # type: ignore[arg-type]


async def _routed() -> list[Network]:
    """The networks and addresses this machine has, or reaches by a route of its own (default routes and what every
    IPv6 interface has apart; a route to many sites at once, such as fd00::/8, counts as a default one)."""
    found = []
    lines = (await ip("-4", "route", "show", "table", "all")).splitlines()
    lines += (await ip("-6", "route", "show", "table", "all")).splitlines() if IPV6_SETTINGS.exists() else []
    for line in lines:
        words = [word for word in line.split() if word not in ROUTE_TYPES]
        network = _network(words[0]) if words else None
        if network is None or network.is_link_local or network.is_multicast:
            continue
        if network.prefixlen >= (SITE_BITS if network.version == 6 else 1):
            found.append(network)
    return found


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
