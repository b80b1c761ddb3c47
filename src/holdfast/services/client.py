"""The client: what a program needs of the ledger in one event loop, to write jobs and to wait for them."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from holdfast.core.bell import BellRoutes
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.bell_lines import lines_of_enqueuer
from holdfast.services.enqueuer import Enqueuer
from holdfast.services.waiter import Waiter

T = TypeVar("T")


class Client:
    """Two connections, opened when they are needed: one for calls, one for the waiter, which may be slow.

    routes: the queues of SQS that are rung as well when jobs are due.
    """

    def __init__(self, dsn: str, routes: BellRoutes | None = None) -> None:
        self.ledger = AsyncLedger(dsn, name="holdfast app")
        self._lines = lines_of_enqueuer(self.ledger, routes or BellRoutes())
        self.enqueuer = Enqueuer(self.ledger, None if self._lines is None else self._lines.ring)
        self._waiting = AsyncLedger(dsn, name="holdfast wait")
        self.waiter = Waiter(self._waiting)

    async def close(self) -> None:
        """Write and ring what is under way, tell who still waits, and close both connections."""
        await self.enqueuer.idle()
        await self.ledger.close()
        await self._waiting.close()
        if self._lines is not None:
            await self._lines.close()
        self.waiter.close()

    def abandon(self) -> None:
        """Cut both connections, from outside of the event loop or after its end."""
        self.ledger.drop()
        self._waiting.drop()


class Background:
    """An event loop in a thread of its own: so threads that wait share one statement, as tasks do."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="holdfast-wait", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there, and wait for what it returns or raises."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
