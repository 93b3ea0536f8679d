"""The operational status of an object, as clients know it (reference: elastic-ha 7)."""

from __future__ import annotations

from typing import Any

OPER_CODES = {
    "OPER_UP": 0,
    "OPER_DOWN": 1,
    "OPER_CREATING": 2,
    "OPER_RESOURCES": 3,
    "OPER_INACTIVE": 4,
    "OPER_DISABLED": 5,
    "OPER_INITIALIZING": 9,
    "OPER_DISABLING": 15,
}


def oper_status(state: str, at: float, *reasons: str) -> dict[str, Any]:
    return {
        "state": state,
        "reason_code": OPER_CODES.get(state, 0),
        "reason": [reason for reason in reasons if reason],
        "last_changed_time": {"secs": int(at), "usecs": int(at % 1 * 1e6)},
    }
