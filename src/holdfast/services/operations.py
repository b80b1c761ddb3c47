"""Makes the steps of actions on all jobs that match a filter, one after the other, while there are any.

Each step is one transaction of the ledger (the function step_bulk_operation), so whoever dies leaves nothing half done,
and any number of processes may do this beside each other.
"""

import asyncio
import logging
import time

from holdfast.errors import DatabaseError
from holdfast.postgres import searching
from holdfast.postgres.audit import prune_audit
from holdfast.postgres.ledger import Executor
from holdfast.services.background import Background

_log = logging.getLogger("holdfast")

#: Seconds: between two looks while there is nothing to do, between two steps, and between two prunes.
EVERY = 2.0
PAUSE = 0.02
PRUNE_EVERY = 3600.0


class Operations:
    """The loop. `wake` tells it that something was asked for here."""

    def __init__(self, ledger: Executor, *, every: float = EVERY) -> None:
        self._ledger = ledger
        self._every = every
        self._asked = asyncio.Event()
        self.loop = Background("operations")
        self._pruned_at = time.monotonic()

    async def start(self) -> None:
        """Begin; returns at once."""
        self.loop.start(self._run())

    async def stop(self) -> None:
        """End; a step under way is made whole or not at all."""
        await self.loop.stop()

    def wake(self) -> None:
        """Something was asked for."""
        self._asked.set()

    async def step(self) -> bool:
        """One step; whether there was one to make."""
        return bool(await self._ledger.call(searching.step_bulk_operation()))

    async def _run(self) -> None:
        while True:
            self.loop.turned()
            try:
                if await self.step():
                    await asyncio.sleep(PAUSE)
                    continue
                if time.monotonic() - self._pruned_at > PRUNE_EVERY:
                    self._pruned_at = time.monotonic()
                    await self._ledger.call(prune_audit())
            except DatabaseError:
                pass  # that the ledger is away is told elsewhere
            except Exception:
                _log.exception("a step of an operation failed in an unforeseen way")
            self._asked.clear()
            try:
                async with asyncio.timeout(self._every):
                    await self._asked.wait()
            except TimeoutError:
                pass
