"""A worker's ears: it listens for bells on each queue of SQS that may have some for it.

That each is Holdfast's alone is watched meanwhile.
"""

import asyncio
from collections.abc import Callable, Sequence
from uuid import uuid4

from holdfast.core.bell import BellRoutes
from holdfast.errors import QueueError
from holdfast.events import QueueLost, Sinks
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.bell_queue import BellQueueWatch
from holdfast.sqs.bell import WAIT, SqsListener
from holdfast.sqs.client import queue_name

#: Seconds that the end waits for a long poll beyond its wait.
GRACE = 1.0


class Ears:
    """Listens from `start` until `stop`; `close` waits for long polls under way.

    A long poll is not cancelled: what it was just given would be hidden from everybody.
    """

    def __init__(
        self,
        ledger: AsyncLedger,
        routes: BellRoutes,
        queues: Sequence[str],
        sinks: Sinks,
        *,
        rung: Callable[[], None],
        has_room: Callable[[], bool],
        heard: Callable[[str, Sequence[str]], None] | None = None,
    ) -> None:
        self._sinks = sinks
        self._watches: list[BellQueueWatch] = []
        self._listeners: list[SqsListener] = []
        self._watching: list[asyncio.Task[None]] = []
        self._listening: list[asyncio.Task[None]] = []
        for url in routes.urls(queues):
            watch = BellQueueWatch(ledger, queue_name(url), sinks, new_id=uuid4)
            listener = SqsListener(
                url,
                [queue for queue in queues if routes.url_of(queue) == url],
                rung=rung,
                has_room=has_room,
                failed=self._failed,
                foreign=watch.foreign,
                clean=watch.clean,
                is_told=watch.is_told,
                heard=_about(queue_name(url), heard),
            )
            self._watches.append(watch)
            self._listeners.append(listener)

    def start(self) -> None:
        """Begin to listen."""
        loop = asyncio.get_running_loop()
        self._watching = [loop.create_task(watch.run()) for watch in self._watches]
        self._listening = [loop.create_task(listener.listen()) for listener in self._listeners]

    def stop(self) -> None:
        """Take no further bell."""
        for listener in self._listeners:
            listener.stop()

    async def close(self) -> None:
        """End, when the long polls under way have."""
        self.stop()
        if self._listening:
            await asyncio.wait(self._listening, timeout=WAIT + GRACE)
        for task in (*self._listening, *self._watching):
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)

    def _failed(self, error: QueueError) -> None:
        self._sinks.emit(QueueLost("listen", str(error)))


def _about(queue: str, heard: Callable[[str, Sequence[str]], None] | None) -> Callable[[Sequence[str]], None]:
    return (lambda _: None) if heard is None else (lambda traces: heard(queue, traces))
