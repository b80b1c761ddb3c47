"""The mover: has SQS move all messages of a dead-letter queue itself (a message move task), and follows it to its end.

It is for everything, unfiltered: what was never seen here goes too, and nothing is kept of it. SQS does the work, so
whoever asked for it may be killed: who asks again follows the task that runs.
"""

import asyncio
from collections.abc import Callable

from holdfast.errors import QueueUnavailable
from holdfast.postgres.dead_letters import note_moved_letters
from holdfast.postgres.ledger import AsyncLedger
from holdfast.sqs.client import MoveTask, Sqs, queue_name

#: Seconds between two looks at a task, and until one that was begun must be in SQS's list.
EVERY, LISTED = 2.0, 30.0


class Mover:
    """Of one dead-letter queue, by its URL."""

    def __init__(self, sqs: Sqs, ledger: AsyncLedger, url: str, *, every: float = EVERY) -> None:
        self._sqs, self._ledger, self._url, self._every = sqs, ledger, url, every

    async def running(self) -> MoveTask | None:
        """The task that moves its messages just now. Raises `QueueError`."""
        return next((task for task in await self._tasks() if task.is_running), None)

    async def begin(self, *, to: str | None = None, rate: int | None = None) -> None:
        """Have them moved back to where they came from, or to the queue with the URL `to`. Raises `QueueError`."""
        before = await self._tasks()
        target = None if to is None else (await self._sqs.attributes(to)).arn
        await self._sqs.start_move(await self._arn(), target=target, rate=rate)
        until = asyncio.get_running_loop().time() + LISTED
        while await self._tasks() == before:
            if asyncio.get_running_loop().time() > until:
                raise QueueUnavailable(f"SQS has begun to move {queue_name(self._url)!r}, and does not list that")
            await asyncio.sleep(self._every)

    async def cancel(self) -> bool:
        """End the task that runs; whether there was one."""
        task = await self.running()
        if task is None or task.handle is None:
            return False
        await self._sqs.cancel_move(await self._arn(), task.handle)
        return True

    async def follow(self, by: str, told: Callable[[MoveTask], None]) -> MoveTask:
        """Until the newest task has ended. Letters that it has moved are redriven then, `by` whom it was asked for."""
        while True:
            task = next(iter(await self._tasks()), None)
            if task is None:
                raise QueueUnavailable(f"SQS lists no task any more that moves {queue_name(self._url)!r}")
            told(task)
            if not task.is_running:
                break
            await asyncio.sleep(self._every)
        if task.status == "COMPLETED" and task.started_at is not None:
            detail = f"SQS moved {task.moved:,} messages to {task.target or 'where they came from'}"
            await self._ledger.call(note_moved_letters(queue_name(self._url), task.started_at, by, detail))
        return task

    async def _tasks(self) -> list[MoveTask]:
        return await self._sqs.move_tasks(await self._arn())

    async def _arn(self) -> str:
        return (await self._sqs.attributes(self._url)).arn
