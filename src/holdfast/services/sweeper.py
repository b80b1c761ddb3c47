"""The sweeper: finds the stuck jobs and takes them back. Every worker has one; in each interval one of them sweeps."""

import asyncio
from collections.abc import Callable
from uuid import UUID

from holdfast.errors import DatabaseError
from holdfast.events import BrakeHeld, JobRescued, LedgerLost, Sinks, StaleJobLocked, Swept, WorkerMarkedGone
from holdfast.postgres import calls
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.reads import begin_sweep, end_sweep, locked_stale_jobs

MONITOR = "rescue_stale_jobs"
BATCH = 1000
#: Locked jobs whose holders are named to others.
NAMED = 3


class Sweeper:
    """Sweeps every `interval` seconds over all processes that share the ledger.

    `tells` of each sweep, not only of rescues.
    """

    def __init__(
        self,
        ledger: AsyncLedger,
        sinks: Sinks,
        *,
        interval: float,
        stale_after: float,
        tells: bool = False,
        turned: Callable[[], None] = lambda: None,
    ) -> None:
        self._tells = tells
        self._turned = turned
        self._ledger = ledger
        self._sinks = sinks
        self._interval = interval
        self._stale_after = stale_after

    async def run(self) -> None:
        """Sweep until cancelled. Half the interval apart, so that a sweep missed by its process is soon another's."""
        while True:
            self._turned()
            try:
                if await self._ledger.call(begin_sweep(MONITOR, self._interval)):
                    await self.step()
            except DatabaseError as error:
                self._sinks.emit(LedgerLost("sweep", str(error)))
            await asyncio.sleep(self._interval / 2)

    async def step(self) -> int:
        """One sweep: declare the silent workers gone (the brake permitting), rescue, and name who stands in the way.

        Returns how many jobs were rescued.
        """
        held: dict[str, int] = {}
        gone = 0
        for worker in await self._ledger.call(calls.mark_lapsed_workers()):
            if worker.verdict == "held":
                held[worker.cause or ""] = held.get(worker.cause or "", 0) + 1
            else:
                gone += 1
                self._sinks.emit(
                    WorkerMarkedGone(worker.worker_id, worker.cause or "", worker.seen_at, bool(worker.is_crash))
                )
        for cause, workers in held.items():
            self._sinks.emit(BrakeHeld(cause, workers))
        rescued = await rescue_all(self._ledger, self._sinks, stale_after=self._stale_after)
        locked = await self._ledger.call(locked_stale_jobs(self._stale_after))
        for job in locked:
            self._sinks.emit(StaleJobLocked(job.id, job.reason, job.pid, job.application_name, job.state, job.since))
        await self._ledger.call(calls.count_events(self._stale_after))
        result = {"rescued": rescued, "gone": gone, "held": held, "locked": len(locked)}
        holders = [
            {"job": str(job.id), "pid": job.pid, "application": job.application_name, "state": job.state}
            for job in locked[:NAMED]
        ]
        await self._ledger.call(end_sweep(MONITOR, {**result, "locked_by": holders}))
        if self._tells:
            self._sinks.emit(Swept(MONITOR, ", ".join(f"{name} {value or 0}" for name, value in result.items())))
        return rescued


async def rescue_all(ledger: AsyncLedger, sinks: Sinks, *, stale_after: float) -> int:
    """Take back everything that is due, in batches; returns how many."""
    total = 0
    after: tuple[UUID, UUID] | None = None
    while True:
        rescued = await ledger.call(calls.rescue_stale_jobs(stale_after, BATCH, after))
        for job in rescued:
            sinks.emit(_told(job))
        total += len(rescued)
        if not rescued:
            return total
        after = max((job.worker_id, job.id) for job in rescued if job.worker_id is not None)


def _told(job: calls.Rescued) -> JobRescued:
    seen = job.last_sign_of_life
    silent_for = None if seen is None else round((job.rescued_at - seen).total_seconds(), 3)
    return JobRescued(
        job.id, job.queue, job.kind, job.reason, job.lease, job.worker_id, job.status, seen, job.rescued_at, silent_for
    )
