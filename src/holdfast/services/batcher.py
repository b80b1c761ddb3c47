"""Share round trips: what is submitted while one is under way travels together in the next.

An idle caller waits for nothing, a busy one fills batches by itself: no timer is needed.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, TypeVar, cast

from holdfast.core.batches import first_batch

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Called with the result, or with None and what was raised instead.
Told = Callable[[Result | None, BaseException | None], None]


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
        self._waiting: deque[tuple[Item, Told[Result]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def post(self, item: Item, told: Told[Result]) -> None:
        """Queue an item; `told` is called with what becomes of it. Must not raise."""
        self._waiting.append((item, told))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Queue an item; the future ends with its result."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.post(item, partial(_resolve, future))
        return future

    @property
    def is_busy(self) -> bool:
        """Whether a batch is under way or about to leave."""
        return self._task is not None

    async def idle(self) -> None:
        """Wait until everything submitted so far has been sent."""
        while self._task is not None:
            await asyncio.wait({self._task})

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._send_one(self._next_batch())
        finally:
            self._task = None
            if self._waiting:
                self._task = asyncio.get_running_loop().create_task(self._drain())

    def _next_batch(self) -> list[tuple[Item, Told[Result]]]:
        weights = (self._weigh(item) for item, _ in itertools.islice(self._waiting, self._max_items))
        return [self._waiting.popleft() for _ in range(first_batch(weights, most=self._max_items))]

    async def _send_one(self, batch: list[tuple[Item, Told[Result]]]) -> None:
        try:
            results = await self._send([item for item, _ in batch])
        except BaseException as error:
            for _, told in batch:
                told(None, error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, told), result in zip(batch, results, strict=True):
            told(result, None)


def _resolve(future: "asyncio.Future[Result]", result: Result | None, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(cast("Result", result))
    elif isinstance(error, asyncio.CancelledError):
        future.cancel()
    else:
        future.set_exception(error)
