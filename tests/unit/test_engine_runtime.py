"""How an engine stands, in the field's words (reference: elastic-ha 5.3)."""

from __future__ import annotations

import pytest

from shoal.controller.records import EngineRecord
from shoal.controller.runtime.serviceengine import engine_state
from shoal.placement.model import EngineState

UP, DOWN = EngineState.UP, EngineState.DOWN
ENABLED, DISABLED, FORCE = "SE_STATE_ENABLED", "SE_STATE_DISABLED", "SE_STATE_DISABLED_FORCE"


@pytest.mark.parametrize(
    ("state", "wish", "migrate_state", "oper"),
    [
        (UP, ENABLED, "", "OPER_UP"),
        (UP, "SE_STATE_DISABLED_FOR_PLACEMENT", "", "OPER_UP"),
        (UP, DISABLED, "", "OPER_DISABLING"),
        (UP, DISABLED, "STARTED", "OPER_DISABLING"),
        (UP, DISABLED, "FINISHED", "OPER_DISABLED"),
        (UP, DISABLED, "FINISHED_WITH_FAILURE", "OPER_ERROR_DISABLED"),
        (UP, FORCE, "FINISHED", "OPER_DISABLED"),
        (DOWN, DISABLED, "FINISHED", "OPER_DOWN"),
        (DOWN, ENABLED, "", "OPER_DOWN"),
        (EngineState.SUSPECT, ENABLED, "", "OPER_PARTITIONED"),
        (EngineState.CREATING, ENABLED, "", "OPER_CREATING"),
    ],
)
def test_the_state_of_an_engine_in_the_fields_words(
    state: EngineState, wish: str, migrate_state: str, oper: str
) -> None:
    record = EngineRecord(id="e", name="e", rank=1, group="g", created=True, seen=True, migrate_state=migrate_state)
    assert engine_state(record, state, wish, "")[0] == oper
