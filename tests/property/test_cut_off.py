"""A controller that loses all engines from sight at one moment, whatever the moments of their statuses."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from shoal.placement.model import EngineState
from shoal.wire import messages
from tests.sighted import sighted

LOOKS_APART_S = 0.1
SEEN_S = 8.0

late = st.integers(0, 17).map(lambda tenths: tenths / 10.0)
"""A status is due each second, and may be late by most of another one."""
groups = st.lists(st.lists(late, min_size=1, max_size=4), min_size=1, max_size=4).filter(
    lambda found: sum(map(len, found)) >= 3
)


@settings(max_examples=300, deadline=None)
@example([[1.0, 0.4], [0.2, 0.1]])
@given(groups)
def test_whoever_was_heard_last_nobody_is_given_up(silent: list[list[float]]) -> None:
    """``silent``: by group, how long ago each engine's last status was when the way was cut. Engines of a group hear one another."""
    named = {f"{group}-{n}": ago_s for group, members in enumerate(silent) for n, ago_s in enumerate(members)}
    fleet, records, clock = sighted(named, {engine: engine.partition("-")[0] for engine in named})
    for engine, record in records.items():
        peers = tuple(
            messages.PeerState(engine=peer, alive=True, heard_ms_ago=0.0, session=True)
            for peer, other in records.items()
            if other.group == record.group and peer != engine
        )
        fleet.live(engine).status = messages.Status(root="", haproxy=True, link=True, peers=peers)
    for _ in range(int(SEEN_S / LOOKS_APART_S)):
        clock.s += LOOKS_APART_S
        states = fleet.look(records)
        assert EngineState.DOWN not in states.values(), (silent, states)
    assert set(states.values()) == {EngineState.SUSPECT}
