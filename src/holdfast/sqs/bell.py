"""The bell over SQS: sent by whoever has written jobs, heard by workers that wait.

A bell only says "queue Q has work". One that is lost, doubled or late costs time at most: workers poll the ledger too,
and a claim has one path whatever woke the worker. So a bell is deleted as soon as it was heard.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from holdfast.core.bell import make_bell, read_bell
from holdfast.errors import QueueError
from holdfast.sqs.client import Sqs, queue_name

_log = logging.getLogger("holdfast")

#: Seconds: of a long poll, of a pause after an error, and between looks at whether there is room again.
WAIT = 5
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
NO_ROOM = 0.5


class SqsBells:
    """Sends bells to one SQS queue."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._sqs = Sqs(url)
        self.queue = queue_name(url)

    async def ring(self, queues: Sequence[str]) -> int:
        """Send one bell for each place in `queues`; how many SQS took. Raises `QueueError`."""
        return await self._sqs.send(self._url, [make_bell(queue) for queue in queues])

    async def close(self) -> None:
        await self._sqs.close()


class SqsListener:
    """Waits for bells and calls `rung`.

    `has_room` says whether a job could be started: without it no bell is taken, so that another worker hears it. At the
    first message that is no bell it stops for good and calls `foreign`: the queue is somebody else's. `clean` is called
    once, when the queue is first found empty.
    """

    def __init__(
        self,
        url: str,
        queues: Sequence[str],
        *,
        rung: Callable[[], None],
        has_room: Callable[[], bool],
        failed: Callable[[QueueError], None],
        foreign: Callable[[], None],
        clean: Callable[[], None] = lambda: None,
    ) -> None:
        self._url = url
        self._queues = frozenset(queues)
        self._rung = rung
        self._has_room = has_room
        self._failed = failed
        self._foreign = foreign
        self._clean = clean
        self._was_clean = False
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Take no further bell. `listen` returns when the receive under way has ended: it must not be cancelled."""
        self._stopped.set()

    async def listen(self) -> None:
        """Listen until stopped."""
        sqs = Sqs(self._url)
        pause, failures = FIRST_PAUSE, 0
        try:
            while not self._stopped.is_set():
                if not self._has_room():
                    await self._rest(NO_ROOM)
                    continue
                try:
                    is_ours = await self._hear(sqs)
                except QueueError as error:
                    failures += 1
                    if failures > 1:  # one alone is a moment's trouble
                        self._failed(error)
                    await self._rest(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
                    continue
                except Exception:
                    _log.exception("listening for bells failed in an unforeseen way, and goes on")
                    await self._rest(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
                    continue
                if not is_ours:
                    self._foreign()
                    return
                pause, failures = FIRST_PAUSE, 0
        finally:
            await sqs.close()

    async def _hear(self, sqs: Sqs) -> bool:
        messages = await sqs.receive(self._url, wait=WAIT)
        if not messages and not self._was_clean:
            self._was_clean = True
            self._clean()
        bells = [message for message in messages if read_bell(message.body) is not None]
        strangers = [message.receipt for message in messages if read_bell(message.body) is None]
        if bells:
            # Deleted before the claim: what it said is known now, and the ledger is asked anyway.
            await sqs.delete(self._url, [bell.receipt for bell in bells])
            if any(read_bell(bell.body) in self._queues for bell in bells):
                self._rung()
        if strangers:
            await sqs.release(self._url, strangers)
        return not strangers

    async def _rest(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return
