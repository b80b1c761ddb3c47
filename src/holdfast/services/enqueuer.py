"""The enqueuers: write jobs for a program, in transactions of at most 1,000, and ring after the commit."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from holdfast.core.batches import first_batch
from holdfast.core.bell import Bell
from holdfast.errors import DatabaseError, QueueError
from holdfast.postgres import calls
from holdfast.postgres.ledger import Executor, SyncLedger
from holdfast.services.batcher import Batcher

_log = logging.getLogger("holdfast")

#: Seconds between two bells of one program: after a quiet time the shortest, and twice as long each time.
RING_SOONEST, RING_EVERY = 0.002, 0.05
CHUNK = 1000

Ring = Callable[[Sequence[Bell]], Awaitable[object]]


def weight(job: calls.NewJob) -> int:
    """What a job adds to a statement."""
    return len(job.args)


def chunks(jobs: Sequence[calls.NewJob]) -> Iterator[Sequence[calls.NewJob]]:
    """The jobs in order, as many at a time as one statement writes at most."""
    start = 0
    while start < len(jobs):
        count = first_batch(map(weight, jobs[start : start + CHUNK]), most=CHUNK)
        yield jobs[start : start + count]
        start += count


def in_order(jobs: Sequence[calls.NewJob], answers: Sequence[calls.Enqueued]) -> list[calls.Enqueued]:
    """The answers for these jobs in their order, one for each; what was created has its caller's id.

    ALL is told by what it is, not by its value: a job may have the nil UUID.
    """
    if len(answers) == 1 and answers[0].id is calls.ALL:
        return [calls.Enqueued(place, job.id, True) for place, job in enumerate(jobs, 1)]
    return sorted(answers, key=lambda answer: answer.ord)


class Enqueuer:
    """Callers in one event loop share round trips; each waits for its own commit.

    `bell` rings over SQS, besides the one in Postgres.
    """

    def __init__(self, ledger: Executor, bell: Ring | None = None) -> None:
        self._ledger = ledger
        self._batcher: Batcher[calls.NewJob, calls.Enqueued] = Batcher(
            self.enqueue_together, max_items=CHUNK, weigh=weight
        )
        self._alone = asyncio.Lock()
        self._coalescers = [_Coalescer(self._notify)] + ([] if bell is None else [_Coalescer(bell)])

    async def enqueue(self, jobs: Sequence[calls.NewJob]) -> list[calls.Enqueued]:
        """Write jobs; their answers in the same order. Raises what the ledger raises; may then be repeated as it is."""
        if len(jobs) == 1:
            return await self._enqueue_one(jobs)
        answers: list[calls.Enqueued] = []
        ahead: asyncio.Task[list[calls.Enqueued]] | None = None
        for chunk in chunks(jobs):
            following = asyncio.get_running_loop().create_task(self.enqueue_together(chunk))
            await asyncio.sleep(0)  # so that it is ready to be sent when the connection is free
            if ahead is not None:
                try:
                    answers += await ahead
                except BaseException:
                    following.cancel()
                    await asyncio.wait({following})
                    raise
            ahead = following
        return answers + (await ahead if ahead else [])

    async def _enqueue_one(self, jobs: Sequence[calls.NewJob]) -> list[calls.Enqueued]:
        """Alone where nobody shares the round trip, which spares a task; else with whom comes meanwhile."""
        if self._alone.locked() or self._batcher.is_busy:
            return [await self._batcher.submit(jobs[0])]
        async with self._alone:
            return await self.enqueue_together(jobs)

    async def enqueue_together(self, batch: Sequence[calls.NewJob]) -> list[calls.Enqueued]:
        """Write jobs in one transaction, all or none; the caller bounds their number and size."""
        call = calls.enqueue_many(batch)
        try:
            answers = await self._ledger.call(call)
        except DatabaseError:
            # The commit may have happened. The ids are ours, so the same call again doubles nothing.
            answers = await self._ledger.call(call)
        self.ring_for(batch)
        return in_order(batch, answers)

    async def idle(self) -> None:
        """Wait until everything is written and rung."""
        async with self._alone:
            await self._batcher.idle()
        for coalescer in self._coalescers:
            await coalescer.idle()

    def ring_for(self, jobs: Sequence[calls.NewJob]) -> None:
        """Tell the workers of committed jobs, those of the same queue together."""
        for coalescer in self._coalescers:
            coalescer.add(_bells(jobs))

    async def _notify(self, bells: Sequence[Bell]) -> None:
        await self._ledger.call(calls.ring([bell.queue for bell in bells]))


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
            answers += in_order(chunk, found)
            if queues := _bells(chunk):
                with contextlib.suppress(DatabaseError):  # a bell may be lost: workers poll
                    self._ledger.call(calls.ring(sorted(queues)))
        return answers


class _Coalescer:
    """Rings for the first at once, and for those that come soon after together: the longer that lasts, the rarer."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._waiting: dict[str, Bell] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, bells: Mapping[str, Bell]) -> None:
        self._waiting |= bells
        if self._waiting and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def idle(self) -> None:
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        pause = RING_SOONEST
        try:
            while self._waiting:
                bells, self._waiting = sorted(self._waiting.values()), {}
                try:
                    await self._ring(bells)
                except (DatabaseError, QueueError) as error:
                    _log.debug("a bell was lost, which costs a poll: %s", error)
                    return
                await asyncio.sleep(pause)
                pause = min(2 * pause, RING_EVERY)
        finally:
            self._task = None


def _bells(jobs: Sequence[calls.NewJob]) -> dict[str, Bell]:
    """By queue, one for all its jobs that are due; a bell too many costs a look."""
    now = datetime.now(UTC)
    due = (job for job in jobs if not job.delay and (job.run_at is None or job.run_at <= now))
    return {job.queue: Bell(job.queue, job.traceparent) for job in due}
