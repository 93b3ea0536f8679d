"""One machine state for all that behave alike from here on, so that an exhaustive search meets itself again.

Sound because the machine is invariant under a shift of all its times (it only compares and subtracts them), and because
each thing forgotten here is one that no later comparison can tell apart; the reason stands beside each.
"""

from __future__ import annotations

import math

from msgspec.structs import replace

from shoal.ownership.events import Mode
from shoal.ownership.state import NEVER, PeerView, State, VipView, detection_s, interval_s

TICKS_PER_S = 1_000_000
"""The search counts time in whole microseconds."""
LATENESS_S = 1e-9
"""A step due at an instant comes this much after it, as timers do: floats then never disagree about "is it due"."""


def at_rest(state: State, now: float) -> State:
    """``state`` with its times relative to ``now`` and in whole microseconds. Behaves as before, from time 0 on."""
    old = -round(detection_s(state) + (len(state.configured) + 1) * interval_s(state), 6)
    return replace(
        state,
        epoch=0,  # only ever compared with `PeerView.settled_at`
        stepped_at=_since(state.stepped_at, now),
        beat_at=_since(state.beat_at, now),
        calm_until=_ahead(state.calm_until, now),
        listen_until=_ahead(state.listen_until, now),
        gateway_probed_at=_since(state.gateway_probed_at, now),
        gateway_answered_at=_since(state.gateway_answered_at, now),
        alone_since=_since(state.alone_since, now),
        peers={k: _peer(p, state.epoch, now, old) for k, p in state.peers.items()},
        vips={k: _vip(v, now, old) for k, v in state.vips.items()},
    )


def _peer(peer: PeerView, epoch: int, now: float, old: float) -> PeerView:
    """A session's end before the last heartbeat says nothing any more. A peer silent since before ``old`` is dead and
    every candidate's turn after it has come (at most one interval for each engine), however long ago that was."""
    lost_at = NEVER if peer.lost_at < peer.heard_at else _since(peer.lost_at, now, old)
    return replace(
        peer,
        heard_at=_since(peer.heard_at, now, old),
        lost_at=lost_at,
        settled_at=0 if peer.settled_at == epoch else -1,
    )


def _vip(view: VipView, now: float, old: float) -> VipView:
    """Asking begins with fresh times, so those of an engine that does not ask are of no use; the rest as for peers."""
    asks = view.mode is Mode.WANT
    return replace(
        view,
        vacant_at=_since(view.vacant_at, now, old),
        blocked_until=_ahead(view.blocked_until, now),
        outbid_at=_since(view.outbid_at, now, old),
        asked_at=_since(view.asked_at, now, old) if asks else NEVER,
        probed_at=_since(view.probed_at, now, old) if asks else NEVER,
        answered_at=_since(view.answered_at, now, old) if asks else NEVER,
        disputed_at=NEVER,
        taken_at=NEVER,  # asked for only when a stranger speaks, and there are none in a search
    )


def _since(when: float, now: float, old: float = NEVER) -> float:
    if math.isinf(when):
        return when
    return max(round((when - now) * TICKS_PER_S) / TICKS_PER_S, old)


def _ahead(when: float, now: float) -> float:
    """For a bound that only ever holds something back: once past, it is as if it had never been."""
    return NEVER if when <= now else _since(when, now)
