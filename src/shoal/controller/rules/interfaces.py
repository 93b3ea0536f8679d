"""VLAN interfaces of service engines: an operator gives them, with the engine's address in each."""

from __future__ import annotations

import ipaddress

from shoal.controller import interfaces
from shoal.controller.interfaces import Network
from shoal.controller.ipam import addresses_of
from shoal.objects.views import uuid_of

from . import segments
from .change import Around, Change, Document

VLAN_MAX = 4094
VLANS_MAX = 32
"""Of an engine: its guard has two sockets in each."""
HOST_BITS_MIN = 2
"""A network has room for the engine and a VIP, beside its own and its broadcast address."""
NAME_MAX = 15
EMPTIED = ("SE_STATE_DISABLED", "SE_STATE_DISABLED_FORCE")


def check(change: Change, around: Around, before: Document) -> None:
    """``before``: the engine as stored."""
    vnics, known = change.document.get("data_vnics") or [], before.get("data_vnics") or []
    if vnics == known:
        return
    if len(vnics) < len(known):
        change.wrong("data_vnics", f"has {len(known)} interfaces that the cloud made, and they can't be taken away")
        return
    taken = _data_networks(vnics)
    for index, vnic in enumerate(vnics):
        where = f"data_vnics[{index}]"
        if index >= max(1, len(known)):
            hint = "Add a VLAN to vlan_interfaces of the first one."
            change.wrong(where, "the cloud makes interfaces, and gave this engine no more", hint=hint)
            return
        if known:
            _same(change, where, vnic, known[index])
        if len(vnic.get("vlan_interfaces") or []) > VLANS_MAX:
            change.wrong(f"{where}.vlan_interfaces", f"an engine can be in {VLANS_MAX} VLANs at most")
            return
        for number, vlan in enumerate(vnic.get("vlan_interfaces") or []):
            _vlan(change, around, f"{where}.vlan_interfaces[{number}]", vnic, vlan, taken)
        _once(change, where, vnic.get("vlan_interfaces") or [])
    if not change.problems:
        _unused(change, around, before)
        _of_one_vrf(change, around, before)


def _same(change: Change, where: str, vnic: Document, known: Document) -> None:
    for field in sorted(vnic.keys() | known.keys()):
        if field != "vlan_interfaces" and vnic.get(field) != known.get(field):
            hint = "vlan_interfaces can be."
            change.wrong(
                f"{where}.{field}", "can't be changed: the cloud made this interface", vnic.get(field, ""), hint
            )


def _once(change: Change, where: str, vlans: list[Document]) -> None:
    seen: dict[int, int] = {}
    for number, vlan in enumerate(vlans):
        if seen.setdefault(vlan["vlan_id"], number) != number:
            path = f"{where}.vlan_interfaces[{number}].vlan_id"
            change.wrong(path, f"is that of vlan_interfaces[{seen[vlan['vlan_id']]}], too", vlan["vlan_id"])


def _vlan(
    change: Change, around: Around, where: str, vnic: Document, vlan: Document, taken: dict[Network, str]
) -> None:
    number, name = vlan["vlan_id"], f"{vnic.get('if_name') or 'eth0'}.{vlan['vlan_id']}"
    if not 1 <= number <= VLAN_MAX:
        change.wrong(f"{where}.vlan_id", f"must be from 1 to {VLAN_MAX}", number)
    elif vlan["if_name"] != name or len(name) > NAME_MAX:
        change.wrong(f"{where}.if_name", f"must be {name}, after the interface and the VLAN", vlan["if_name"])
    for field in ("dhcp_enabled", "is_mgmt"):
        if vlan.get(field):
            change.wrong(f"{where}.{field}", "is not served on VLANs", True, "Leave it out, and give addresses.")
    if not vlan.get("vnic_networks"):
        hint = (
            'Give one, such as [{"mode": "STATIC", "ip": {"ip_addr": {"addr": "10.0.0.2", "type": "V4"}, "mask": 24}}].'
        )
        change.wrong(f"{where}.vnic_networks", "required, and missing: VIPs are known by the network", hint=hint)
    for index, one in enumerate(vlan.get("vnic_networks") or []):
        _address(change, around, f"{where}.vnic_networks[{index}]", one, vlan["if_name"], taken)


def _address(change: Change, around: Around, where: str, one: Document, name: str, taken: dict[Network, str]) -> None:
    if one["mode"] != "STATIC":
        change.wrong(f"{where}.mode", "is not served on VLANs", one["mode"], "Give STATIC and an address.")
    address, mask = change.address(f"{where}.ip.ip_addr", one["ip"]["ip_addr"]), one["ip"]["mask"]
    if address is None:
        return
    if not 1 <= mask <= address.max_prefixlen - HOST_BITS_MIN:
        change.wrong(f"{where}.ip.mask", f"must be from 1 to {address.max_prefixlen - HOST_BITS_MIN}", mask)
        return
    network = ipaddress.ip_network((address, mask), strict=False)
    edges = (network.network_address, *([network.broadcast_address] if network.version == 4 else []))
    if address in edges or address.is_multicast or address.is_loopback or address.is_unspecified:
        change.wrong(f"{where}.ip", "is not the address of one machine in its network", f"{address}/{mask}")
    elif around.reserved(str(network[0])) or around.reserved(str(network[-1])):
        change.wrong(f"{where}.ip", "lies in the engines' own network", f"{address}/{mask}")
    elif clash := next((known for known in taken if _overlap(known, network)), None):
        why = f"{network} overlaps {clash} of {taken[clash]}: an engine has one HAProxy and one table of routes"
        change.wrong(f"{where}.ip", why, f"{address}/{mask}")
    elif other := interfaces.owner(around.view.all("serviceengine"), address, change.uuid):
        change.wrong(f"{where}.ip", f"is the address of {other}", address)
    elif holders := around.view.holders(address):
        change.wrong(f"{where}.ip", f"is the address of VsVip {holders[0]['name']}", address)
    else:
        taken[network] = name


def _data_networks(vnics: list[Document]) -> dict[Network, str]:
    """In which the engine is without a VLAN, by the interface's name."""
    return {
        own.network: str(vnic.get("if_name") or "the data interface")
        for vnic in vnics
        for own in interfaces.addresses(vnic)
    }


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _unused(change: Change, around: Around, before: Document) -> None:
    """A network with VIPs that this engine may answer for can't go under their feet."""
    gone = interfaces.networks(before) - interfaces.networks(change.document)
    if not gone or before.get("enable_state") in EMPTIED:
        return
    names = sorted(_vips_in(around, gone, uuid_of(before.get("se_group_ref", ""))))
    if names:
        which = ", ".join(sorted(map(str, gone)))
        why = f"{which} has VIPs that this engine may be serving: {', '.join(names[:8])}"
        hint = "Set enable_state to SE_STATE_DISABLED first: what it serves moves to others."
        change.wrong("data_vnics", why, hint=hint)


def _of_one_vrf(change: Change, around: Around, before: Document) -> None:
    """VIPs of the engine's group that are in a VLAN are in its VRF."""
    after = [change.document if one["uuid"] == change.uuid else one for one in around.view.all("serviceengine")]
    group = uuid_of(before.get("se_group_ref", ""))
    for vsvip in _vsvips(around, group):
        for why in segments.obstacles(around, vsvip, [group], after):
            change.wrong("data_vnics", f"{vsvip['name']}: {why}")


def _vsvips(around: Around, group: str) -> list[Document]:
    """Those that virtual services of the group have."""
    services = (one for one in around.view.all("virtualservice") if uuid_of(one.get("se_group_ref", "")) == group)
    found = (around.view.get("vsvip", uuid_of(one.get("vsvip_ref", ""))) for one in services)
    return list({one["uuid"]: one for one in found if one is not None}.values())


def _vips_in(around: Around, networks: set[Network], group: str) -> set[str]:
    """The names of the VsVips that the group has in them."""
    return {
        str(vsvip["name"])
        for vsvip in _vsvips(around, group)
        for text in addresses_of(vsvip)
        if any(ipaddress.ip_address(text) in network for network in networks)
    }
