"""The enqueuers: write jobs for a program, in transactions of at most 1,000, and ring after the commit."""

import asyncio
import contextlib
from collections.abc import Sequence

from holdfast.errors import DatabaseError
from holdfast.postgres import calls
from holdfast.postgres.ledger import AsyncLedger, SyncLedger
from holdfast.services.batcher import Batcher

RING_EVERY = 0.05
CHUNK = 1000


class Enqueuer:
    """Callers in one event loop share round trips; each waits for its own commit."""

    def __init__(self, ledger: AsyncLedger) -> None:
        self._ledger = ledger
        self._batcher: Batcher[calls.NewJob, calls.Enqueued] = Batcher(self._send, max_items=CHUNK)
        self._to_ring: set[str] = set()
        self._ringer: asyncio.Task[None] | None = None

    async def enqueue(self, jobs: Sequence[calls.NewJob]) -> list[calls.Enqueued]:
        """Write jobs; their answers in the same order. Raises what the ledger raises; may then be repeated as it is."""
        if len(jobs) == 1:
            return [await self._batcher.submit(jobs[0])]
        answers: list[calls.Enqueued] = []
        for chunk in chunks(jobs):
            answers += await self._send(chunk)
        return answers

    async def idle(self) -> None:
        """Wait until everything is written and rung."""
        await self._batcher.idle()
        if self._ringer is not None:
            await asyncio.wait({self._ringer})

    async def _send(self, batch: Sequence[calls.NewJob]) -> list[calls.Enqueued]:
        call = calls.enqueue_many(batch)
        try:
            answers = await self._ledger.call(call)
        except DatabaseError:
            # The commit may have happened. The ids are ours, so the same call again doubles nothing.
            answers = await self._ledger.call(call)
        self._ring(_due_queues(batch))
        return in_order(answers)

    def _ring(self, queues: set[str]) -> None:
        """The first bell goes out at once, those of the next 50 ms together."""
        self._to_ring |= queues
        if self._to_ring and self._ringer is None:
            self._ringer = asyncio.get_running_loop().create_task(self._ring_soon())

    async def _ring_soon(self) -> None:
        try:
            while self._to_ring:
                queues, self._to_ring = sorted(self._to_ring), set()
                try:
                    await self._ledger.call(calls.ring(queues))
                except DatabaseError:
                    return  # a bell may be lost: workers poll
                await asyncio.sleep(RING_EVERY)
        finally:
            self._ringer = None


class SyncEnqueuer:
    """The same for programs without an event loop. Safe to share between threads."""

    def __init__(self, ledger: SyncLedger) -> None:
        self._ledger = ledger

    def enqueue(self, jobs: Sequence[calls.NewJob]) -> list[calls.Enqueued]:
        answers: list[calls.Enqueued] = []
        for chunk in chunks(jobs):
            call = calls.enqueue_many(chunk)
            try:
                found = self._ledger.call(call)
            except DatabaseError:
                # The commit may have happened. The ids are ours, so the same call again doubles nothing.
                found = self._ledger.call(call)
            answers += in_order(found)
            if queues := _due_queues(chunk):
                with contextlib.suppress(DatabaseError):  # a bell may be lost: workers poll
                    self._ledger.call(calls.ring(sorted(queues)))
        return answers


def chunks(jobs: Sequence[calls.NewJob]) -> list[Sequence[calls.NewJob]]:
    """What one statement may write at most."""
    return [jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK)]


def in_order(answers: Sequence[calls.Enqueued]) -> list[calls.Enqueued]:
    """The answers in the order of the jobs."""
    return sorted(answers, key=lambda answer: answer.ord)


def _due_queues(jobs: Sequence[calls.NewJob]) -> set[str]:
    return {job.queue for job in jobs if not job.delay and job.run_at is None}
