"""Share round trips: what is submitted while one is under way travels together in the next.

An idle caller waits for nothing, a busy one fills batches by itself: no timer is needed.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from holdfast.core.batches import first_batch

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Collects items and sends them in batches of at most `max_items`, one batch at a time.

    Where items can be large, `weigh` gives their size, and a batch is bounded by that too (core/batches.py). `send`
    returns one result for each item, in order; what it raises is raised to every submitter of that batch.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        max_items: int = 500,
        weigh: Callable[[Item], int] = lambda _: 0,
    ) -> None:
        self._send = send
        self._max_items = max_items
        self._weigh = weigh
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Queue an item; the future ends with its result."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())
        return future

    async def idle(self) -> None:
        """Wait until everything submitted so far has been sent."""
        while self._task is not None:
            await asyncio.wait({self._task})

    async def _drain(self) -> None:
        await asyncio.sleep(0)
        try:
            while self._waiting:
                await self._send_one(self._next_batch())
        finally:
            self._task = None
            if self._waiting:
                self._task = asyncio.get_running_loop().create_task(self._drain())

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        weights = (self._weigh(item) for item, _ in itertools.islice(self._waiting, self._max_items))
        return [self._waiting.popleft() for _ in range(first_batch(weights, most=self._max_items))]

    async def _send_one(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._send([item for item, _ in batch])
        except BaseException as error:
            cancelled = isinstance(error, asyncio.CancelledError)
            for _, future in batch:
                if not future.done():
                    future.cancel() if cancelled else future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
