"""The waiter: one statement looks for all jobs that anybody in this program waits for."""

import asyncio
import time
from dataclasses import dataclass
from uuid import UUID

from holdfast.errors import DatabaseUnavailable, JobNotFound
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.reads import JobOutcome, job_outcomes

SHORTEST, LONGEST = 0.02, 0.5
MOST = 1000
#: Seconds that a job may be missing: the transaction that holds it may not have committed yet.
MISSING_FOR = 5.0


@dataclass
class _Wait:
    future: "asyncio.Future[JobOutcome]"
    waiters: int = 0
    missing_since: float | None = None


class Waiter:
    """`wait` returns when the job has ended."""

    def __init__(self, ledger: AsyncLedger, *, missing_for: float = MISSING_FOR) -> None:
        self._ledger = ledger
        self._missing_for = missing_for
        self._waiting: dict[UUID, _Wait] = {}
        self._task: asyncio.Task[None] | None = None

    async def wait(self, job_id: UUID) -> JobOutcome:
        """Raises `JobNotFound`, and what the ledger raises when it cannot be reached."""
        wait = self._waiting.get(job_id)
        if wait is None or wait.future.done():
            wait = self._waiting[job_id] = _Wait(asyncio.get_running_loop().create_future())
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch())
        wait.waiters += 1
        try:
            return await asyncio.shield(wait.future)
        finally:
            wait.waiters -= 1
            if not wait.waiters and self._waiting.get(job_id) is wait:
                del self._waiting[job_id]  # the last one gave up: nobody asks for this job any more

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
                        if outcome.status == "missing":
                            self._miss(outcome.id)
                        else:
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
        for wait in self._waiting.values():
            _raise(wait.future, error)
        self._waiting.clear()

    def _end(self, outcome: JobOutcome) -> None:
        wait = self._waiting.pop(outcome.id, None)
        if wait is not None and not wait.future.done():
            wait.future.set_result(outcome)

    def _miss(self, job_id: UUID) -> None:
        wait = self._waiting.get(job_id)
        if wait is None:
            return
        now = time.monotonic()
        wait.missing_since = wait.missing_since or now
        if now - wait.missing_since >= self._missing_for:
            del self._waiting[job_id]
            _raise(
                wait.future, JobNotFound(f"no job has the id {job_id}; it may have been removed after its retention")
            )


def _raise(future: "asyncio.Future[JobOutcome]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody may be waiting any more, which is nothing to warn of
