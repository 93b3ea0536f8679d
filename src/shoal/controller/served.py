"""VS_UP and VS_DOWN: engines serve a virtual service, or none does any more (reference: elastic-ha 7.4).

They are read off the record that a plan writes, so no change is told twice, whichever controller makes it. That a pool has
no server left is not among them: the runtime says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shoal.placement.model import Snapshot

from .events import EventLog
from .margin import Change
from .scaling import ready
from .shortfalls import Shortfalls

UP, DOWN = "VS_UP", "VS_DOWN"


def tell(
    events: EventLog,
    snapshot: Snapshot,
    changes: Mapping[str, Change],
    short: Shortfalls,
    services: Callable[[str], Mapping[str, str]],
) -> None:
    """Raise them. ``changes``: by VIP, the records written now; ``services(vip)``: uuid -> name of those it is enabled for;
    none where nobody is meant to serve it."""
    turned = {vip: bool(ready(change.after)) for vip, change in changes.items() if _turns(change)}
    if not turned:
        return
    names = {engine.id: engine.name for engine in snapshot.engines}
    for vip, served in turned.items():
        if served:
            detail = f"served by {', '.join(names.get(p.engine, p.engine) for p in ready(changes[vip].after))}"
        else:
            why = short[vip].why if vip in short else "it is being placed anew"
            detail = f"no engine serves it: {why}"
        for uuid, name in services(vip).items():
            events.add(
                UP if served else DOWN,
                f"{name}: {detail}",
                level="info" if served else "error",
                virtualservice=uuid,
                vip=vip,
                serviceenginegroup=snapshot.group.id,
            )


def _turns(change: Change) -> bool:
    return change.after is not None and bool(ready(change.after)) != bool(ready(change.before))
