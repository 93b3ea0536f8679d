"""BGP as a VRF has it, for engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from shoal.objects import views
from shoal.objects.views import view
from shoal.wire import desired as wire
from shoal.wire.messages import BgpPeerState

from .protocols import Documents

ESTABLISHED = "Established"
"""The state of a session in which routes are told."""
SECRET = "bgp_profile.peers.md5_secret"
WELL_KNOWN = {
    "internet": (0, 0),
    "no-export": (65535, 65281),
    "no-advertise": (65535, 65282),
    "local-as": (65535, 65283),
}
"""RFC 1997."""
COMMUNITY_MAX = 65535


def bgp_part(documents: Documents, vrf: str, unseal: Callable[[str, str], str]) -> wire.Bgp | None:
    """None where no router is configured. ``unseal`` opens what is encrypted at rest."""
    document = documents.get("vrfcontext", vrf)
    context = view(document, views.VrfContext) if document is not None else None
    profile = context.bgp_profile if context else None
    if context is None or profile is None or profile.shutdown:
        return None

    def secret(peer: views.BgpPeer) -> str:
        return unseal(peer.md5_secret, f"vrfcontext/{vrf}/{SECRET}") if peer.md5_secret else ""

    bfd, sent = context.bfd_profile, profile.send_community
    timers = {"bfd_tx_ms": bfd.mintx, "bfd_rx_ms": bfd.minrx, "bfd_misses": bfd.multi} if bfd else {}
    peers = tuple(
        peer_part(profile, peer, address, secret(peer))
        for peer in profile.peers
        if not peer.shutdown
        for address in peer.addresses
    )
    if not peers:
        return None
    return wire.Bgp(
        id=vrf,
        peers=peers,
        communities=_communities(profile.community) if sent else (),
        by_address=tuple(map(_by_address, profile.ip_communities)) if sent else (),
        local_preference=profile.local_preference,
        prepend=profile.num_as_path_prepend,
        **timers,
    )


def peer_part(profile: views.BgpProfile, peer: views.BgpPeer, address: str, secret: str) -> wire.BgpPeer:
    local = peer.local_as or profile.local_as
    hold = profile.hold_time if peer.hold_time is None else peer.hold_time
    keepalive = profile.keepalive_interval if peer.keepalive_interval is None else peer.keepalive_interval
    return wire.BgpPeer(
        address=address,
        local_as=local,
        remote_as=local if profile.ibgp else peer.remote_as or 0,
        label=peer.label,
        secret=secret,
        bfd=peer.bfd,
        multihop=peer.ebgp_multihop,
        hold_s=hold,
        keepalive_s=keepalive,
        connect_s=peer.connect_timer,
        advertise=peer.advertise_vip,
    )


def community(text: str) -> tuple[int, int] | None:
    """``65001:100`` or a name of RFC 1997; None for anything else."""
    known = WELL_KNOWN.get(text.lower())
    if known is not None:
        return known
    high, colon, low = text.partition(":")
    if not colon or not (high.isascii() and high.isdigit() and low.isascii() and low.isdigit()):
        return None
    pair = (int(high), int(low))
    return pair if max(pair) <= COMMUNITY_MAX else None


def turns(before: Iterable[BgpPeerState], now: Iterable[BgpPeerState]) -> list[BgpPeerState]:
    """The routers that an engine has reached, or lost, since ``before``."""
    reached = {(peer.vrf, peer.address) for peer in before if peer.state == ESTABLISHED}
    return [peer for peer in now if (peer.state == ESTABLISHED) != ((peer.vrf, peer.address) in reached)]


def _communities(texts: Iterable[str]) -> tuple[tuple[int, int], ...]:
    return tuple(pair for text in texts if (pair := community(text)) is not None)


def _by_address(some: views.IpCommunity) -> wire.Communities:
    last = some.ip_end or some.ip_begin
    return wire.Communities(some.ip_begin.addr, last.addr, _communities(some.community))
