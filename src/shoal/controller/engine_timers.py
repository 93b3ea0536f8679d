"""Timers of an engine's life in force, from ControllerProperties (reference: elastic-ha 5.1).

The schema's defaults are the vendor's, for virtual machines that take minutes to start; as long as a field has its
default, what suits engines that start in a second is in force. Any other value is taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shoal.objects.views import view

TIMER_S_MIN = 1
"""Zero would be a loop without a pause."""


class Timers(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, under the fields' own names; the defaults here are the schema's."""

    se_spawn_retry_interval: int = 300
    """From a failed creation to the next try in the group; doubled with each failure."""
    max_se_spawn_interval_delay: int = 1800
    """The most it grows to."""
    se_create_timeout: int = 900
    """What the cloud gets for a creation."""
    vs_se_bootup_fail: int = 480
    """What a made engine gets to connect for the first time."""
    unresponsive_se_reboot: int = 300
    """A silent engine is started again after so long."""
    crashed_se_reboot: int = 900
    """One of which nothing runs."""
    del_offline_se_after_reboot_delay: int = 300
    """And deleted, when that did not help, after so long again."""


QUICKER = {
    "se_spawn_retry_interval": 5,
    "max_se_spawn_interval_delay": 300,
    "se_create_timeout": 120,
    "vs_se_bootup_fail": 60,
    "crashed_se_reboot": 300,
}
"""In force for a field that has the schema's default."""
VENDORS = msgspec.structs.asdict(Timers())


def in_force(properties: Mapping[str, Any] | None) -> Timers:
    """``properties``: the stored ControllerProperties, None before there is one."""
    return Timers(
        **{
            name: QUICKER.get(name, value) if value == VENDORS[name] else max(TIMER_S_MIN, value)
            for name, value in msgspec.structs.asdict(view(properties or {}, Timers)).items()
        }
    )
