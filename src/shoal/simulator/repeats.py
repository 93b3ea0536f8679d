"""Heartbeats that say what was said before, on their way to one engine. All that they change is when it heard its peer last.

Nearly all that is ever sent are these, so a step of the machine for each would be nearly all that a simulation does. They are
noted here instead, and entered (`Repeats.entered`) before the engine's state is looked at or stepped on: with the state that
each would have left, had it been stepped on alone. Whatever could make a difference to one that is still on its way takes it
out again (`Repeats.taken`), and it arrives like any other.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from msgspec.structs import replace

from shoal.ownership.events import Heartbeat
from shoal.ownership.state import NEVER, State, repeats_itself, silence_s


class OnItsWay(NamedTuple):
    message: Heartbeat
    comes: float
    came: float = NEVER
    """The one before it, if that is not entered yet."""


class Repeats:
    """To one engine, by sender: one on its way at a time."""

    def __init__(self) -> None:
        self._of: dict[str, OnItsWay] = {}
        self._due = math.inf
        """When there is something to enter."""

    def __bool__(self) -> bool:
        return bool(self._of)

    def put(self, state: State, message: Heartbeat, now: float, arrives: float) -> bool:
        """False if it must arrive like any other."""
        before = self._of.get(message.engine)
        if before is not None and before.comes > now:
            return False
        came = NEVER if before is None else before.comes
        peer = state.peers.get(message.engine)
        if peer is None or not repeats_itself(state, peer, message):
            return False
        if arrives >= max(peer.heard_at, came) + silence_s(state, peer):
            return False
        self._of[message.engine] = OnItsWay(message, arrives, came)
        self._due = min(self._due, arrives)
        return True

    def entered(self, state: State, now: float) -> State:
        """``state`` with all that has come."""
        if now < self._due:
            return state
        peers, stepped_at, left = dict(state.peers), state.stepped_at, {}
        for sender, one in self._of.items():
            heard = one.comes if one.comes <= now else one.came
            if one.comes > now:
                left[sender] = one._replace(came=NEVER)
            if heard != NEVER:
                peers[sender] = replace(peers[sender], heard_at=heard)
                stepped_at = max(stepped_at, heard)
        self._of = left
        self._due = min((one.comes for one in left.values()), default=math.inf)
        return replace(state, peers=peers, stepped_at=stepped_at)

    def taken(self, sender: str = "") -> list[OnItsWay]:
        """Those on their way (of ``sender``, if given), which are no more here. Call `entered` before."""
        taken = [one for name, one in self._of.items() if sender in ("", name)]
        for one in taken:
            del self._of[one.message.engine]
        return taken
