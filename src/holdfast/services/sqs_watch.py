"""The SQS watch: asks SQS in the background about the queues that matter here, for the health report."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.core.health import SqsQueue
from holdfast.errors import QueueError
from holdfast.services.background import Background
from holdfast.sqs.client import Sqs, queue_name

_log = logging.getLogger("holdfast")

#: Seconds: between looks where all is well, and where it is not, and until one is given up.
EVERY = 10.0
SOON = 2.0
DEADLINE = 5.0


@dataclass(frozen=True)
class WatchedQueue:
    """A queue to ask about. `role` is what it is here: bell, watched, dead letters."""

    url: str
    role: str


class SqsWatch:
    """Keeps what SQS said last of each queue."""

    def __init__(self, queues: Sequence[WatchedQueue]) -> None:
        self._queues = queues
        self._clients = {queue.url: Sqs(queue.url, wait=0) for queue in queues}
        self._seen: dict[str, SqsQueue] = {}
        self.loop = Background("SQS queues")

    @property
    def seen(self) -> tuple[SqsQueue, ...]:
        """The last answer about each queue that was asked about."""
        return tuple(self._seen[queue.url] for queue in self._queues if queue.url in self._seen)

    async def start(self) -> None:
        """Begin to ask; returns at once."""
        self.loop.start(self._run())

    async def stop(self) -> None:
        """End, and close the connections."""
        await self.loop.stop()
        for client in self._clients.values():
            await client.close()

    async def step(self) -> None:
        """Ask about all, side by side."""
        for queue, found in zip(self._queues, await asyncio.gather(*map(self._ask, self._queues)), strict=True):
            self._seen[queue.url] = found

    async def _run(self) -> None:
        while True:
            self.loop.turned()
            await self.step()
            await asyncio.sleep(SOON if any(queue.problem for queue in self.seen) else EVERY)

    async def _ask(self, queue: WatchedQueue) -> SqsQueue:
        name = queue_name(queue.url)
        try:
            async with asyncio.timeout(DEADLINE):
                found = await self._clients[queue.url].attributes(queue.url)
        except TimeoutError:
            return SqsQueue(name, queue.role, f"SQS did not answer within {DEADLINE:g} s")
        except QueueError as error:
            return SqsQueue(name, queue.role, str(error))
        except Exception:
            _log.exception("queue %s could not be asked, for an unforeseen reason", name)
            return SqsQueue(name, queue.role, "it could not be asked, for an unforeseen reason; see the log")
        return SqsQueue(name, queue.role, None, found.visible, found.in_flight)
