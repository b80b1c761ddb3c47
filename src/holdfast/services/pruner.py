"""The pruner: removes what retention no longer keeps, in small steps. Every worker has one; one works at a time."""

import asyncio
from datetime import datetime
from uuid import UUID

from holdfast.errors import DatabaseError
from holdfast.events import JobsPruned, LedgerLost, Sinks
from holdfast.postgres import calls
from holdfast.postgres.dead_letters import prune_letters
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.rate_limit import rate_limit_prune
from holdfast.postgres.reads import begin_sweep, end_sweep

MONITOR = "prune"
EVERY = 60.0
STEP = 1000
PAUSE = 0.05
KEEP_INCIDENTS = 90 * 86400.0
#: Pages of the rate limiter's table that one step looks at (16 MB).
PAGES = 2000


class Pruner:
    """What is kept for how long, in seconds."""

    def __init__(
        self,
        ledger: AsyncLedger,
        sinks: Sinks,
        *,
        keep_finished: float,
        keep_dead: float,
        keep_incidents: float = KEEP_INCIDENTS,
    ) -> None:
        self._ledger = ledger
        self._sinks = sinks
        self._keep_finished = keep_finished
        self._keep_dead = keep_dead
        self._keep_incidents = keep_incidents

    async def run(self) -> None:
        """Prune each minute, in one process over all, until cancelled."""
        while True:
            try:
                if await self._ledger.call(begin_sweep(MONITOR, EVERY)):
                    await self.step()
            except DatabaseError as error:
                self._sinks.emit(LedgerLost("prune", str(error)))
            await asyncio.sleep(EVERY / 2)

    async def step(self) -> int:
        """Remove all that is due; returns how many jobs. Dead ones are told of: nobody redrove them in time."""
        finished = dead = 0
        after: tuple[datetime, UUID] | None = None
        while True:
            pruned = await self._ledger.one(calls.prune(self._keep_finished, self._keep_dead, STEP, after))
            finished += pruned.finished
            dead += pruned.dead
            if pruned.looked_at < STEP or pruned.last_at is None or pruned.last_id is None:
                break
            after = (pruned.last_at, pruned.last_id)
            await asyncio.sleep(PAUSE)
        await self._forget_identities()
        await self._ledger.call(calls.prune_bookkeeping())
        await self._ledger.call(prune_letters(self._keep_incidents))
        await self._ledger.call(end_sweep(MONITOR, {"finished": finished, "dead": dead}))
        if finished or dead:
            self._sinks.emit(JobsPruned(finished, dead))
        return finished + dead

    async def _forget_identities(self) -> None:
        """Those of the rate limiter whose windows have passed, over the whole table in steps."""
        page, pages = 0, 1
        while page < pages:
            _, pages = await self._ledger.one(rate_limit_prune(page, PAGES))
            page += PAGES
            await asyncio.sleep(PAUSE if page < pages else 0)
