"""What goes on by itself waits for a store that can't be used now; only who is waited for by a caller says so at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from shoal.errors import NotReady
from shoal.store.protocol import Unavailable

RETRY_S = 1.0

log = logging.getLogger("shoal.store")

_T = TypeVar("_T")


async def patiently(work: Callable[[], Awaitable[_T]], what: str, until_not: type[NotReady] = Unavailable) -> _T:
    """The result of ``work``, which is repeated for as long as it raises ``until_not``: until the store can be used. It must
    do no harm twice, as what raised `Unavailable` may have been applied. ``what``, in words, is for the log."""
    waits = False
    while True:
        try:
            return await work()
        except until_not as error:
            if not waits:
                log.warning("%s waits for the store: %s", what, error)
            waits = True
            await asyncio.sleep(RETRY_S)
