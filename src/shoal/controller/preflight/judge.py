"""What was heard means: checks with their reasons, and the mode that the network allows. Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import msgspec

from shoal.controller.bgp import ESTABLISHED
from shoal.wire.messages import BgpPeerState
from shoal.wire.preflight import Heard

from .steps import BACK, BETWEEN, FIRST, HANDED_ON, OUTWARD, RETURNED, TAKEN, Trial

YES, NO, UNKNOWN = "yes", "no", "unknown"
VXLAN_BYTES = 50
"""What a packet grows by (RFC 7348, IPv4, no VLAN)."""
ETHERNET_MTU = 1500


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """``ok``: yes, no or unknown. ``found``: what was seen. ``means``: what follows, where it is not a plain yes."""

    id: str
    what: str
    ok: str
    found: str
    means: str = ""


class Mode(msgspec.Struct, frozen=True, kw_only=True):
    """``settings``: fields to set, by object type."""

    name: str
    why: str
    settings: dict[str, dict[str, object]] = {}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    group: str
    engines: tuple[str, ...]
    address: str
    neighbour: str
    checks: tuple[Check, ...]
    mode: Mode
    problem: str = ""


def report(group: str, trial: Trial, bgp: Sequence[BgpPeerState]) -> Report:
    """``bgp``: the routers as the two engines see them."""
    checks = () if trial.problem else tuple(_checks(trial))
    spoken = _bgp(bgp)
    return Report(
        group=group,
        engines=(trial.a.name, trial.b.name),
        address=trial.address,
        neighbour=trial.neighbour,
        checks=(*checks, spoken),
        mode=mode({check.id: check.ok for check in (*checks, spoken)}, trial.problem),
        problem=trial.problem,
    )


def _checks(trial: Trial) -> Iterable[Check]:
    yield _address(trial)
    yield _announcement(trial)
    yield _moved_back(trial)
    yield _handed_on(trial)
    yield _direct_return(trial)
    yield _further_mac(trial)
    yield _mac_moves(trial)
    yield _mtu(trial)
    yield _tunnel(trial)


def _replies(heard: Iterable[Heard], number: int, kind: str = "reply") -> bool:
    return any(h.kind == kind and h.number == number for h in heard)


def _where(trial: Trial, number: int) -> str:
    """``a`` or ``b``, whichever heard the reply; "" if neither did."""
    if _replies(trial.heard_a, number):
        return "a"
    return "b" if _replies(trial.heard_b, number) else ""


def _address(trial: Trial) -> Check:
    check = functools.partial(Check, id="address", what="an engine may speak from an address that is not its own")
    if _where(trial, FIRST) == "a":
        found = f"{trial.neighbour} answers {trial.a.name} at {trial.address}"
        return check(ok=YES, found=found)
    return check(
        ok=NO,
        found=f"{trial.neighbour} does not answer {trial.a.name} at {trial.address}, though it answers its own address",
        means="The network ties addresses to ports (IP source guard, allowed address pairs), or the neighbour does not "
        "have the VIPs' network on its interface. Allow the VIPs there; else only BGP will do.",
    )


def _announcement(trial: Trial) -> Check:
    what = "gratuitous ARP is accepted: an address moves to the engine that announces it"
    return _move(trial, "gratuitous_arp", what, TAKEN, "b", trial.b.name, trial.a.name)


def _moved_back(trial: Trial) -> Check:
    return _move(trial, "moves_back", "and back again", BACK, "a", trial.a.name, trial.b.name)


def _move(trial: Trial, id: str, what: str, number: int, to: str, name: str, former: str) -> Check:
    check = functools.partial(Check, id=id, what=what)
    where = _where(trial, number)
    if where == to:
        return check(ok=YES, found=f"{trial.neighbour} answers {name} once it has announced itself")
    if _where(trial, FIRST) != "a":
        return check(ok=UNKNOWN, found="the address could not be used at all")
    if where:
        return check(
            ok=NO,
            found=f"{trial.neighbour} still answers {former}",
            means="It ignores gratuitous ARP, or the network drops it: after a failover clients wait until its ARP table "
            "forgets. Allow it (no ARP inspection or static entries for VIPs), or announce VIPs by BGP.",
        )
    return check(
        ok=NO,
        found=f"nobody is answered at {trial.address} once {name} has announced itself",
        means=f"The network drops what {name} sends from an address that was elsewhere before (port security, ARP "
        "inspection, an endpoint-learning fabric). Allow VIPs on all engines' ports, or announce them by BGP.",
    )


def _handed_on(trial: Trial) -> Check:
    check = functools.partial(Check, id="handing_on", what="a primary may hand a client's packet on to a secondary")
    if _replies(trial.heard_b, HANDED_ON, "echo"):
        return check(ok=YES, found=f"{trial.b.name} gets what {trial.a.name} hands on")
    return check(
        ok=NO,
        found=f"{trial.b.name} does not get what {trial.a.name} sends it from a client's address",
        means="The network checks where packets come from (IP source guard, anti-spoofing): scale-out at layer 2 is not "
        "possible. Let BGP and ECMP spread, or keep each VIP on one engine.",
    )


def _direct_return(trial: Trial) -> Check:
    check = functools.partial(Check, id="direct_return", what="direct return: a secondary may answer clients itself")
    where = _where(trial, RETURNED)
    if _where(trial, FIRST) != "a":
        return check(ok=UNKNOWN, found="the address could not be used at all")
    if where == "a":
        found = f"{trial.b.name}'s packets from {trial.address} arrive, and it stays {trial.a.name}'s"
        return check(ok=YES, found=found)
    if where == "b":
        found = f"{trial.neighbour} takes {trial.address} to be {trial.b.name}'s as soon as it sends from it"
        means = "It learns addresses from packets: the VIP would follow whoever answered last."
    else:
        found = f"{trial.b.name}'s packets from {trial.address} do not arrive while it is {trial.a.name}'s"
        means = "The network lets one MAC at a time use an address."
    return check(
        ok=NO,
        found=found,
        means=f"{means} Lead replies through the primary: se_tunnel_mode 1.",
    )


def _asked_by_further(heard: Iterable[Heard], trial: Trial) -> bool:
    return any(h.kind == "answer" and h.address == trial.neighbour and h.to_mac == trial.further_mac for h in heard)


def _further_mac(trial: Trial) -> Check:
    check = functools.partial(Check, id="further_mac", what="an engine may send from a MAC that is not its interface's")
    if _asked_by_further(trial.heard_a, trial):
        return check(ok=YES, found=f"{trial.neighbour} answers {trial.further_mac}")
    return check(
        ok=NO,
        found=f"{trial.neighbour} does not answer {trial.further_mac}, from {trial.a.name}'s port",
        means="One MAC a port (port security; on vSphere: forged transmits). When the primary of a scaled-out VIP dies, the next "
        "one can't ask the others for connections by copies of packets: those that are busy in the first second may break.",
    )


def _mac_moves(trial: Trial) -> Check:
    check = functools.partial(Check, id="mac_moves", what="a MAC may move to another engine's port")
    if _asked_by_further(trial.heard_b, trial):
        found = f"{trial.neighbour} answers {trial.further_mac} at {trial.b.name}, too"
        return check(ok=YES, found=found)
    if not _asked_by_further(trial.heard_a, trial):
        return check(ok=UNKNOWN, found="no further MAC could be used")
    return check(
        ok=NO,
        found=f"{trial.further_mac} is answered at {trial.a.name} only",
        means="Sticky MACs: VIPs move all the same, as each engine has a MAC of its own. An engine that is itself moved to "
        "another port (by a hypervisor) is cut off.",
    )


def _largest(trial: Trial, first: int) -> int:
    numbers = {h.number for h in trial.heard_a if h.kind == "reply"}
    return max((size for i, size in enumerate(trial.sizes) if first + i in numbers), default=0)


def _mtu(trial: Trial) -> Check:
    between, outward = _largest(trial, BETWEEN), _largest(trial, OUTWARD)
    check = functools.partial(Check, id="mtu", what="packets of full size pass, between engines and to the neighbour")
    found = f"{between} bytes between engines, {outward} to {trial.neighbour}; interfaces have {trial.mtu}"
    if min(between, outward) >= trial.mtu:
        return check(ok=YES, found=found)
    limit = min(between or outward, outward or between)
    return check(
        ok=NO,
        found=found,
        means=f"Larger packets vanish: connections open and then hang. Give the engines' interfaces an MTU of {limit}, or the "
        f"network {trial.mtu}.",
    )


def _tunnel(trial: Trial) -> Check:
    between = _largest(trial, BETWEEN)
    check = functools.partial(
        Check,
        id="tunnel_mtu",
        what=f"room for tunnels between engines ({VXLAN_BYTES} bytes for VXLAN) around packets of {ETHERNET_MTU}",
    )
    found = f"{between} bytes pass: {max(0, between - VXLAN_BYTES)} are left in a tunnel"
    if between >= ETHERNET_MTU + VXLAN_BYTES:
        return check(ok=YES, found=found)
    return check(
        ok=NO,
        found=found,
        means="Shoal's own ways need none (replies through the primary add no byte). An overlay under the engines needs "
        f"an MTU of {ETHERNET_MTU + VXLAN_BYTES} below it.",
    )


def _bgp(peers: Sequence[BgpPeerState]) -> Check:
    check = functools.partial(Check, id="bgp", what="routers are reached by BGP")
    if not peers:
        return check(
            ok=UNKNOWN,
            found="no VIP of these engines is announced",
            means="To try: give the VRF a bgp_profile with peers, and a virtual service enable_rhi.",
        )
    lost = [peer for peer in peers if peer.state != ESTABLISHED]
    if not lost:
        return check(ok=YES, found=f"{len(peers)} sessions are established")
    return check(
        ok=NO,
        found=", ".join(f"{peer.address} is {peer.state}{f' ({peer.why})' if peer.why else ''}" for peer in lost),
        means="See the routers' neighbour, AS, password and TCP port 179.",
    )


def mode(ok: dict[str, str], problem: str = "") -> Mode:
    """From the checks' answers by id."""
    if problem:
        return Mode(name="none can be named", why=problem)
    moves = ok["gratuitous_arp"] == YES and ok["moves_back"] == YES
    ecmp: dict[str, dict[str, object]] = {"VirtualService": {"enable_rhi": True, "scaleout_ecmp": True}}
    routers = {
        YES: "Routers are reached already.",
        NO: "Routers are configured, but not reached yet.",
        UNKNOWN: "Routers are yet to be configured (bgp_profile of the VRF).",
    }[ok["bgp"]]
    if not moves:
        why = "Addresses do not move between engines here, so neither failover nor scale-out works at layer 2."
        return Mode(name="BGP", why=f"{why} {routers}", settings=ecmp)
    if ok["handing_on"] == YES and ok["direct_return"] == YES:
        why = "Addresses move at once, engines hand packets on, and replies go straight to clients."
        return Mode(name="layer 2, direct return", why=why, settings={"ServiceEngineGroup": {"se_tunnel_mode": 0}})
    if ok["handing_on"] == YES:
        why = "Addresses move at once and engines hand packets on, but only the primary may speak from a VIP."
        tunnel: dict[str, dict[str, object]] = {"ServiceEngineGroup": {"se_tunnel_mode": 1}}
        return Mode(name="layer 2, replies through the primary", why=why, settings=tunnel)
    why = "Addresses move at once, but engines can't hand clients' packets on: each VIP stays on one engine."
    return Mode(
        name="layer 2, one engine for each VIP",
        why=f"{why} For more than one, BGP with ECMP. {routers}",
        settings={"ServiceEngineGroup": {"max_scaleout_per_vs": 1}},
    )
