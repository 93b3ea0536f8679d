"""What the REST face needs from the controller's running side."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

from shoal.controller.capture.wish import Wish
from shoal.controller.intent import Caller, Guard, Intent
from shoal.controller.plans import Plans
from shoal.controller.transfer.importing import Importing


class Runtime(Protocol):
    def below(self) -> tuple[tuple[str, str], ...]:
        """Every (object type, what) of `look` and `operate`."""
        ...

    async def look(self, type: str, uuid: str, what: str) -> Any:
        """Raises NotFound, NotReady. ``what``: ``runtime``, ``runtime/detail``, ``placement``, ``forecast`` ..."""
        ...

    async def whatif(self, body: Mapping[str, Any], intent: Intent, caller: Caller) -> dict[str, Any]:
        """What failures and edits would come to. Raises Invalid, NotFound, and what the edits would be refused with."""
        ...

    def summary(self, type: str, uuid: str) -> dict[str, Any]: ...

    def beside(self, type: str, uuid: str) -> dict[str, Any]:
        """The runtime members that the GET of an object carries beside its configuration."""
        ...

    def plans(self, intent: Intent) -> Plans:
        """Plans of what would be written through ``intent``."""
        ...

    def importing(self, intent: Intent) -> Importing:
        """Takes files over through ``intent``."""
        ...

    async def remove_engine(self, uuid: str, guard: Guard = ...) -> None:
        """Raises Refused while the service engine serves anything."""
        ...

    def pulse(self) -> Mapping[str, Any]:
        """By topic (``engines``, ``placements``, ``events``), something that is another one when what `look` shows is."""
        ...

    def cluster_runtime(self) -> dict[str, Any]: ...

    def cluster_status(self) -> dict[str, Any]: ...

    async def operate(
        self, type: str, uuid: str, operation: str, body: Mapping[str, Any], caller: Caller, guard: Guard = ...
    ) -> dict[str, Any]: ...

    async def incident(self, seconds: float, service: str = "") -> dict[str, Any]:
        """What happened in the last ``seconds``; ``service``: to this virtual service (a uuid) only."""
        ...

    def capture(self, service: str, wish: Wish) -> AsyncGenerator[bytes, None]:
        """A file of packets as it grows, until it is closed. Raises NotFound, Invalid, Refused, at the latest with the
        first piece."""
        ...
