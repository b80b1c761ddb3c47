"""Looks at dead-letter queues, several at once: what is there goes into the ledger, and stays, or is moved there whole.

One that hangs or refuses is a problem of its own, and stops no other. A round ends in time: what was not reached by
then is a problem too, since a queue that nobody could look at is not empty.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from holdfast.core.bell import read_bell
from holdfast.errors import QueueError
from holdfast.events import DeadLettersSeen, Sinks
from holdfast.postgres.dead_letters import note_dead_letters
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.dlq_queues import Sources
from holdfast.services.keeping import Keeping, new_letter
from holdfast.sqs.capture import LONGEST, Capture, capture
from holdfast.sqs.client import Sqs, queue_name
from holdfast.sqs.dead_letters import Look, look

#: Queues that are looked at at a time; seconds between two calls of `between` meanwhile.
AT_ONCE = 5
TURN = 1.0


@dataclass
class Looked:
    """What a round of looks brought: what SQS said of each queue, and why others could not be looked at."""

    seen: dict[str, Look | Capture] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


class QueueLooker:
    """Looks for `longest` seconds at most; messages are captured for half of it."""

    def __init__(
        self, ledger: AsyncLedger, sources: Sources, sinks: Sinks, *, longest: float, new_id: Callable[[], UUID]
    ) -> None:
        self._ledger = ledger
        self._sources = sources
        self._sinks = sinks
        self._longest = longest
        self._new_id = new_id

    async def look_at_all(self, sqs: Sqs, urls: Sequence[str], between: Callable[[], Awaitable[None]]) -> Looked:
        """Look at each; `between` runs now and then meanwhile. Raises `DatabaseError`."""
        looked, places, clock = Looked(), asyncio.Semaphore(AT_ONCE), asyncio.get_running_loop().time
        tasks = [asyncio.create_task(self._one(sqs, url, looked, places)) for url in urls]
        until, waiting = clock() + self._longest, set(tasks)
        try:
            while waiting and clock() < until:
                _, waiting = await asyncio.wait(waiting, timeout=TURN, return_when=asyncio.FIRST_EXCEPTION)
                await between()
                for task in tasks:
                    if task.done():
                        task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for url in urls:
            if queue_name(url) not in {**looked.seen, **looked.problems}:
                looked.problems[queue_name(url)] = f"the look did not come to its end within {self._longest:.0f} s"
        return looked

    async def _one(self, sqs: Sqs, url: str, looked: Looked, places: asyncio.Semaphore) -> None:
        async with places:
            try:
                looked.seen[queue_name(url)] = await self.look_at(sqs, url)
            except QueueError as error:
                looked.problems[queue_name(url)] = str(error)

    async def look_at(self, sqs: Sqs, url: str) -> Look | Capture:
        """Look at one queue, or capture it. Raises `QueueError` and `DatabaseError`."""
        if queue_name(url) in self._sources.captured:
            return await self._capture(sqs, url)
        seen = await look(sqs, url)
        if seen.only_counted is None:
            letters = [
                new_letter(self._new_id(), seen.queue, message, self._sources.identity)
                for message in seen.messages
                if read_bell(message.body) is None
            ]
            new = await self._ledger.one(note_dead_letters(seen.queue, letters, complete=seen.complete))
            self._sinks.emit(DeadLettersSeen(seen.queue, seen.count, len(letters), new, seen.complete))
        return seen

    async def _capture(self, sqs: Sqs, url: str) -> Capture:
        queue, clock = queue_name(url), asyncio.get_running_loop().time
        keeping = Keeping(self._ledger, queue, self._new_id, identity=self._sources.identity)
        until = clock() + self._longest / 2
        while True:
            found = await capture(sqs, url, keeping.keep, longest=min(LONGEST, self._longest / 2))
            if found.only_counted is not None:
                return found
            if found.complete:
                await self._ledger.call(note_dead_letters(queue, [], complete=True))
            self._sinks.emit(DeadLettersSeen(queue, found.count, found.kept, keeping.new, found.complete))
            keeping.new = 0
            if found.complete or found.kept == 0 or clock() > until:
                return found
