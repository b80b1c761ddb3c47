"""The enqueuer: writes jobs for a program, many callers' jobs in one transaction, and rings after the commit."""

import asyncio
from collections.abc import Sequence

from holdfast.errors import DatabaseError
from holdfast.postgres import calls
from holdfast.postgres.ledger import Executor
from holdfast.services.batcher import Batcher

RING_EVERY = 0.05
CHUNK = 1000


class Enqueuer:
    """Callers in one event loop share round trips; each waits for its own commit."""

    def __init__(self, ledger: Executor) -> None:
        self._ledger = ledger
        self._batcher: Batcher[calls.NewJob, calls.Enqueued] = Batcher(self._send, max_items=CHUNK)
        self._to_ring: set[str] = set()
        self._ringer: asyncio.Task[None] | None = None

    async def enqueue(self, jobs: Sequence[calls.NewJob]) -> list[calls.Enqueued]:
        """Write jobs; their answers in the same order. Raises what the ledger raises; may then be repeated as it is."""
        if len(jobs) == 1:
            return [await self._batcher.submit(jobs[0])]
        answers: list[calls.Enqueued] = []
        for start in range(0, len(jobs), CHUNK):
            answers += await self._send(jobs[start : start + CHUNK])
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
        self.ring_for(batch)
        return sorted(answers, key=lambda answer: answer.ord)

    def ring_for(self, jobs: Sequence[calls.NewJob]) -> None:
        """Tell the workers of committed jobs. The first bell goes out at once, those of the next 50 ms together."""
        self._to_ring |= {job.queue for job in jobs if not job.delay and job.run_at is None}
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
