"""What a running Shoal told people: of use where a test fails."""

from __future__ import annotations

from shoal.lab.api import Api


async def story(api: Api, events: int = 100) -> str:
    """The last ``events``, newest first."""
    found = (await api.get(f"analytics/logs?type=2&page_size={events}"))["results"]
    return "\n".join(f"{e['report_timestamp']:.3f} {e['event_id']} {e['event_description']}" for e in found)
