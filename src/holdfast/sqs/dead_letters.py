"""A look at a dead-letter queue that leaves everything in it.

SQS has no peek. Receiving again and again with a visibility of 0 shows a few messages over and over (10 of 57 in 20
tries), so messages are leased until the queue is empty, and then all released at once. That raises their receive counts
by one, so where the queue has a redrive policy of its own, which would move them on, or is FIFO, where a lease blocks
its group, they are only counted.
"""

from dataclasses import dataclass

from holdfast.errors import QueueError
from holdfast.sqs.client import Message, Sqs, queue_name

#: Seconds that a message is leased, and that a receive waits; messages of one look; empty answers that mean "empty".
LEASE = 60
WAIT = 1
MOST = 1000
EMPTY_ANSWERS = 2


@dataclass(frozen=True)
class Look:
    """What a look brought. `complete`: all that was there was seen. `only_counted`: why messages were not looked at."""

    queue: str
    count: int
    messages: tuple[Message, ...]
    complete: bool
    only_counted: str | None = None


async def look(sqs: Sqs, url: str, *, most: int = MOST) -> Look:
    """Look at what is in a dead-letter queue, `most` messages at most. Raises `QueueError`."""
    attributes = await sqs.attributes(url)
    count = attributes.visible + attributes.in_flight
    reason = _why_not(attributes.dead_letter_arn, is_fifo=attributes.is_fifo)
    if reason is not None:
        return Look(queue_name(url), count, (), complete=False, only_counted=reason)
    if count == 0:
        return Look(queue_name(url), 0, (), complete=True)
    seen: dict[str, Message] = {}
    empty = 0
    try:
        while len(seen) < most and empty < EMPTY_ANSWERS:
            messages = await sqs.receive(url, wait=WAIT, visibility=LEASE)
            empty = 0 if messages else empty + 1
            seen.update({message.id: message for message in messages})
    finally:
        await _release(sqs, url, seen)
    in_others_hands = attributes.in_flight > 0
    return Look(
        queue_name(url), max(count, len(seen)), tuple(seen.values()), complete=len(seen) < most and not in_others_hands
    )


async def _release(sqs: Sqs, url: str, seen: dict[str, Message]) -> None:
    """Give all back, and those that were refused once more; what still stays is visible again after its lease."""
    receipts = [message.receipt for message in seen.values()]
    try:
        refused = await sqs.release(url, receipts)
        if refused:
            await sqs.release(url, refused)
    except QueueError:
        return


def _why_not(own_dead_letters: str | None, *, is_fifo: bool) -> str | None:
    if own_dead_letters:
        return "it has a redrive policy of its own, which a look would set off"
    return "it is FIFO, and a look would block its groups" if is_fifo else None
