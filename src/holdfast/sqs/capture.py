"""Taking messages out of a dead-letter queue, so that its retention can delete none that nobody read.

Each message is kept by somebody else first, and only then deleted. Whoever dies in between leaves it in the queue,
where it is seen again when its lease ends, and kept and deleted then. Several lanes do so at once: while one waits for
the ledger, another waits for SQS.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from holdfast.sqs.client import Message, Sqs, queue_name
from holdfast.sqs.dead_letters import (
    EMPTY_ANSWERS,
    LEASE,
    MOVING,
    WAIT,
    give_back,
    is_moving,
    to_its_end,
    why_only_counted,
)

LANES = 4
#: Messages, and characters of their bodies, that are kept by one call.
MOST_KEPT, MOST_BYTES = 100, 2_000_000
#: Seconds after which no receive is begun.
LONGEST = 20.0

#: Keeps messages for good; answers those that it kept, and that may be deleted.
Keep = Callable[[Sequence[Message]], Awaitable[Sequence[Message]]]


@dataclass(frozen=True)
class Capture:
    """What was taken out. `count` is how many there were by SQS; `complete`: nothing is left.

    `only_counted`: why none was taken.
    """

    queue: str
    count: int
    kept: int
    complete: bool
    only_counted: str | None = None
    retention: int = 0


async def capture(sqs: Sqs, url: str, keep: Keep, *, longest: float = LONGEST, enough: int | None = None) -> Capture:
    """Take messages out until none comes, `enough` were kept, or `longest` seconds have passed.

    Raises `QueueError` and what `keep` raises: what was not kept is given back then.
    """
    work = _Work(sqs, url, keep, asyncio.get_running_loop().time() + longest, enough)
    taking = asyncio.create_task(work.run())
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        # A receive that is cut off leaves its messages hidden: it ends by itself.
        work.stopped = True
        await to_its_end(taking)
        raise


class _Work:
    def __init__(self, sqs: Sqs, url: str, keep: Keep, until: float, enough: int | None) -> None:
        self._sqs, self._url, self._keep, self._until, self._enough = sqs, url, keep, until, enough
        self._kept = 0
        self._count = self._received = 0
        self._empty = 0  # answers one after the other, whichever lane they came to
        self._left: list[str] = []
        self.stopped = False

    async def run(self) -> Capture:
        name, attributes = queue_name(self._url), await self._sqs.attributes(self._url)
        self._count = count = attributes.visible + attributes.in_flight
        reason = why_only_counted(attributes.dead_letter_arn, is_fifo=False)
        if reason is not None or count == 0:
            return Capture(name, count, 0, complete=reason is None, only_counted=reason, retention=attributes.retention)
        if await is_moving(self._sqs, attributes.arn):
            return Capture(name, count, 0, complete=False, only_counted=MOVING, retention=attributes.retention)
        ended = await asyncio.gather(*(self._lane() for _ in range(LANES)), return_exceptions=True)
        await give_back(self._sqs, self._url, self._left)
        for error in ended:
            if isinstance(error, BaseException):
                raise error
        is_all = count <= self._kept and not self._left and not self.stopped and attributes.in_flight == 0
        return Capture(name, max(count, self._kept), self._kept, complete=is_all, retention=attributes.retention)

    async def _lane(self) -> None:
        try:
            while self._empty < self._enough_empty and not self._is_over():
                messages = await self._receive()
                self._empty = 0 if messages else self._empty + 1
                if messages:
                    await self._take(messages)
        except BaseException:
            self.stopped = True  # the other lanes end their rounds, and begin none
            raise

    @property
    def _enough_empty(self) -> int:
        return 1 if self._has_all else EMPTY_ANSWERS

    @property
    def _has_all(self) -> bool:
        """Whether as many were received as SQS had counted: then nobody waits for more."""
        return self._received >= self._count

    def _is_over(self) -> bool:
        return self.stopped or asyncio.get_running_loop().time() >= self._until

    async def _receive(self) -> list[Message]:
        """As many as are kept by one statement: until none comes."""
        found: list[Message] = []
        try:
            while len(found) < MOST_KEPT and sum(len(each.body) for each in found) < MOST_BYTES:
                wait = 0 if found or self._has_all else WAIT
                more = await self._sqs.receive(self._url, wait=wait, visibility=LEASE)
                found += more
                self._received += len(more)
                if not more or self._is_over() or (self._enough is not None and len(found) >= self._enough):
                    break
        except BaseException:
            self._left += [each.receipt for each in found]
            raise
        return found

    async def _take(self, messages: Sequence[Message]) -> None:
        """Keep, then delete. What is not deleted is given back at the end: at once, it would be received again."""
        receipts = {message.receipt for message in messages}
        try:
            kept = {message.receipt for message in await self._keep(messages)}
            refused = set(await self._sqs.delete(self._url, sorted(kept)))
            receipts -= kept - refused
            self._kept += len(kept - refused)
            if self._enough is not None and self._kept >= self._enough:
                self.stopped = True
        finally:
            self._left += receipts
