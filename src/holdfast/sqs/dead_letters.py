"""A look at a dead-letter queue that leaves everything in it.

SQS has no peek. Receiving again and again with a visibility of 0 shows a few messages over and over (10 of 57 in 20
tries), so messages are leased until the queue is empty, and then all released at once. That raises their receive counts
by one, so where the queue has a redrive policy of its own, which would move them on, or is FIFO, where a lease blocks
its group, or a task of SQS moves them just now, from which a lease would hide them, they are only counted.

A look that is cancelled ends itself first: a receive that is cut off leaves its messages hidden, and so does a release.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from holdfast.errors import QueueError
from holdfast.sqs.client import BATCH, Message, Sqs, queue_name

#: Seconds that a message is leased, that a receive waits, and after which none is begun; messages of one look; empty
#: answers that mean "empty".
LEASE = 60
WAIT = 1
LONGEST = 20.0
MOST = 1000
EMPTY_ANSWERS = 2
#: Why nothing was looked at, which is over soon.
MOVING = "SQS is moving its messages just now (a message move task)"


@dataclass(frozen=True)
class Look:
    """What a look brought. `complete`: all that was there was seen. `only_counted`: why messages were not looked at.

    `retention`: seconds after which SQS deletes a message.
    """

    queue: str
    count: int
    messages: tuple[Message, ...]
    complete: bool
    only_counted: str | None = None
    retention: int = 0


async def look(sqs: Sqs, url: str, *, most: int = MOST) -> Look:
    """Look at what is in a dead-letter queue, `most` messages at most. Raises `QueueError`."""
    stopped = asyncio.Event()
    looking = asyncio.create_task(_look(sqs, url, most, stopped))
    try:
        return await asyncio.shield(looking)
    except asyncio.CancelledError:
        stopped.set()
        await to_its_end(looking)
        raise


async def _look(sqs: Sqs, url: str, most: int, stopped: asyncio.Event) -> Look:
    attributes = await sqs.attributes(url)
    count, kept = attributes.visible + attributes.in_flight, attributes.retention
    reason = why_only_counted(attributes.dead_letter_arn, is_fifo=attributes.is_fifo)
    if reason is not None:
        return Look(queue_name(url), count, (), complete=False, only_counted=reason, retention=kept)
    if count == 0:
        return Look(queue_name(url), 0, (), complete=True, retention=kept)
    if await is_moving(sqs, attributes.arn):
        return Look(queue_name(url), count, (), complete=False, only_counted=MOVING, retention=kept)
    seen: dict[str, Message] = {}
    empty, clock = 0, asyncio.get_running_loop().time
    until = clock() + LONGEST
    try:
        while len(seen) < most and empty < EMPTY_ANSWERS and clock() < until and not stopped.is_set():
            # Where as many were seen as SQS had counted, nobody waits for more: the next look is for others.
            has_all = len(seen) >= count
            messages = await sqs.receive(url, wait=0 if has_all else WAIT, visibility=LEASE)
            if has_all and not messages:
                break
            empty = 0 if messages else empty + 1
            seen.update({message.id: message for message in messages})
    finally:
        await give_back(sqs, url, [message.receipt for message in seen.values()])
    # Another may look at the same time and have the rest in hand, so all that was counted must have been seen.
    is_all = count <= len(seen) < most and attributes.in_flight == 0
    return Look(queue_name(url), max(count, len(seen)), tuple(seen.values()), complete=is_all, retention=kept)


async def is_moving(sqs: Sqs, arn: str) -> bool:
    """Whether SQS moves messages of this queue itself; not where that cannot be asked (no right, another server)."""
    try:
        return any(task.is_running for task in await sqs.move_tasks(arn))
    except QueueError:
        return False


async def to_its_end(looking: "asyncio.Task[Any]") -> None:
    """Wait for it, however often this is cancelled: its calls have deadlines of their own."""
    while not looking.done():
        try:
            await asyncio.wait([looking])
        except asyncio.CancelledError:
            continue
    if not looking.cancelled():
        looking.exception()


async def give_back(sqs: Sqs, url: str, receipts: list[str]) -> None:
    """Give all back, and what did not go once more; what still stays is visible again after its lease."""
    for _ in range(2):
        receipts = await _release_once(sqs, url, receipts)


async def _release_once(sqs: Sqs, url: str, receipts: list[str]) -> list[str]:
    refused: list[str] = []
    for start in range(0, len(receipts), BATCH):
        try:
            refused += await sqs.release(url, receipts[start : start + BATCH])
        except QueueError:
            return [*refused, *receipts[start:]]
    return refused


def why_only_counted(own_dead_letters: str | None, *, is_fifo: bool) -> str | None:
    """The reason for which a queue's messages must not be received only to look at them; None where they may."""
    if own_dead_letters:
        return "it has a redrive policy of its own, which a look would set off"
    return "it is FIFO, and a look would block its groups" if is_fifo else None
