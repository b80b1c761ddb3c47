"""The watch over a queue for bells: whether it is Holdfast's alone, written down where ringers and people see it.

A worker that meets somebody else's message opens an incident; as long as it is open, ringers leave that queue alone and
no worker receives from it. It is over when a worker that begins to listen finds the queue empty.
"""

import asyncio
import contextlib
from collections.abc import Callable
from uuid import UUID

from holdfast.core import telling
from holdfast.errors import DatabaseError
from holdfast.events import ForeignMessageHeard, LedgerLost, Sinks
from holdfast.postgres.dead_letters import open_incidents
from holdfast.postgres.ledger import AsyncLedger, Executor
from holdfast.services.incidents import IncidentBook

#: Seconds until what could not be written is tried again, and what is not yet taken for over is said again.
PAUSE = 5.0
#: Seconds for which is believed what the ledger said of the queue: a part of those that a stranger stays hidden.
BELIEVED = 2.0


async def is_foreign(ledger: Executor, queue: str) -> bool:
    """Whether somebody else's messages were met in this queue of SQS, and it is not known that they are gone."""
    known = await ledger.call(open_incidents([telling.FOREIGN]))
    return any(incident.key == queue and incident.status != "resolved" for incident in known)


class BellQueueWatch:
    """Writes for one worker. `foreign` and `clean` return at once; `run` writes, until cancelled."""

    def __init__(self, ledger: AsyncLedger, queue: str, sinks: Sinks, *, new_id: Callable[[], UUID]) -> None:
        self._ledger = ledger
        self._queue = queue
        self._sinks = sinks
        self._book = IncidentBook(ledger, [], sinks, new_id=new_id)
        self._is_foreign = self._told = False
        self._ask_at = float("-inf")
        self._news = asyncio.Event()

    def foreign(self) -> None:
        """Somebody else's message was met."""
        self._sinks.emit(ForeignMessageHeard(self._queue))
        self._is_foreign = True
        self._news.set()

    def clean(self) -> None:
        """The queue was found empty."""
        self._news.set()

    async def is_told(self) -> bool:
        """Whether an incident is open, whoever met the message; what was known last where the ledger does not say."""
        now = asyncio.get_running_loop().time()
        if now >= self._ask_at:
            self._ask_at = now + BELIEVED
            with contextlib.suppress(DatabaseError):
                self._told = await is_foreign(self._ledger, self._queue)
        return self._told

    async def run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._write()
            except DatabaseError as error:
                self._sinks.emit(LedgerLost("bell queue", str(error)))
                self._news.set()
                await asyncio.sleep(PAUSE)

    async def _write(self) -> None:
        found = [telling.foreign(self._queue)] if self._is_foreign else []
        await self._book.fold(found, [telling.FOREIGN], {telling.FOREIGN: [self._queue]})
        if not found and await is_foreign(self._ledger, self._queue):
            # It is over after more than one look, and this worker still listens.
            asyncio.get_running_loop().call_later(PAUSE, self._news.set)
