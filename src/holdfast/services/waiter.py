"""The waiter: one statement looks for all jobs that anybody in this program waits for."""

import asyncio
from uuid import UUID

from holdfast.errors import DatabaseUnavailable
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.reads import JobOutcome, job_outcomes

SHORTEST, LONGEST = 0.02, 0.5
MOST = 1000


class Waiter:
    """`wait` returns when the job has ended."""

    def __init__(self, ledger: AsyncLedger) -> None:
        self._ledger = ledger
        self._waiting: dict[UUID, asyncio.Future[JobOutcome]] = {}
        self._task: asyncio.Task[None] | None = None

    async def wait(self, job_id: UUID) -> JobOutcome:
        """Raises what the ledger raises when it cannot be reached."""
        future = self._waiting.get(job_id)
        if future is None or future.done():
            future = self._waiting[job_id] = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch())
        return await asyncio.shield(future)

    def close(self) -> None:
        """Whoever still waits is told, and does not wait for ever."""
        if self._task is not None:
            self._task.cancel()
        self._fail(DatabaseUnavailable("the connection was closed while this program waited; the job goes on"))

    async def _watch(self) -> None:
        pause = SHORTEST
        try:
            while self._waiting:
                found = 0
                ids = list(self._waiting)
                for start in range(0, len(ids), MOST):
                    for outcome in await self._ledger.call(job_outcomes(ids[start : start + MOST])):
                        found += 1
                        self._end(outcome)
                pause = SHORTEST if found else min(pause * 1.5, LONGEST)
                if self._waiting:
                    await asyncio.sleep(pause)
        except Exception as error:
            self._fail(error)
        finally:
            self._task = None

    def _fail(self, error: Exception) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody may be waiting any more, which is nothing to warn of
        self._waiting.clear()

    def _end(self, outcome: JobOutcome) -> None:
        future = self._waiting.pop(outcome.id, None)
        if future is not None and not future.done():
            future.set_result(outcome)
