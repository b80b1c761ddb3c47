"""The scheduler: enqueues periodic jobs when they are due. Every worker has one; each tick is had by one of them.

It sleeps until the next tick that it knows of, and looks again each 15 seconds, since other processes may have brought
a schedule forward. Only the ledger's clock decides what is due.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from holdfast.errors import DatabaseError
from holdfast.events import LedgerLost, ScheduleFailed, ScheduleTicked, Sinks
from holdfast.postgres import calls
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.reads import ping
from holdfast.services.periodic import Periodic

EVERY = 15.0
SHORTEST = 0.01


class Scheduler:
    """Ticks for the schedules that this program declares."""

    def __init__(self, ledger: AsyncLedger, sinks: Sinks, periodics: Mapping[str, Periodic]) -> None:
        self._ledger = ledger
        self._sinks = sinks
        self._periodics = periodics
        self._is_new = True

    async def run(self) -> None:
        """Tick until cancelled."""
        while self._periodics:
            try:
                pause = await self.step()
            except DatabaseError as error:
                self._sinks.emit(LedgerLost("schedules", str(error)))
                pause = 1.0
            await asyncio.sleep(min(max(pause, SHORTEST), EVERY))

    async def step(self) -> float:
        """Enqueue what is due; seconds until the next tick."""
        now = (await self._ledger.one(ping())).clock
        declared = await self._ledger.call(
            calls.declare_schedules(
                [(each.schedule, each.schedule.next_after(now)) for each in self._periodics.values()],
                takeover=self._is_new,
            )
        )
        self._is_new = False
        wait = EVERY
        for row in declared:
            if not row.is_ours or row.paused:
                continue
            next_at = await self._tick_safely(row) if row.next_at <= row.clock else row.next_at
            wait = min(wait, (next_at - row.clock).total_seconds())
        return wait

    async def _tick_safely(self, row: calls.DeclaredSchedule) -> datetime:
        """One schedule whose job cannot be made must not keep the others from theirs. It is tried again."""
        try:
            return await self._tick(row)
        except DatabaseError:
            raise
        except Exception as error:
            self._sinks.emit(ScheduleFailed(row.name, row.next_at, f"{type(error).__name__}: {error}"))
            return row.clock + timedelta(seconds=EVERY)

    async def _tick(self, row: calls.DeclaredSchedule) -> datetime:
        """Take this tick, or learn that somebody was quicker; when the next one is."""
        periodic = self._periodics[row.name]
        next_at = periodic.schedule.next_after(row.clock)
        job = periodic.prepare(row.next_at)
        ticked = await self._ledger.one(calls.tick_schedule(row.name, row.next_at, next_at, job))
        if ticked.verdict == "enqueued":
            await self._ledger.call(calls.ring([job.queue]))
        if ticked.verdict != "lost":
            late = (row.clock - row.next_at).total_seconds()
            self._sinks.emit(ScheduleTicked(row.name, row.next_at, ticked.verdict, ticked.job_id, round(late, 3)))
        return next_at
