"""Sends the messages of rescued rows: from the ledger, where each was written with its row's new status, to SQS.

A message is sent at least once: whoever dies between SQS's answer and the ledger's leaves it to be sent again. What
SQS refuses waits with growing delays, and people are told.
"""

from collections.abc import Sequence
from uuid import UUID

from holdfast.errors import QueueError
from holdfast.events import QueueLost, Sinks
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.watches import WatchMessage, settle_watch_messages, take_watch_messages
from holdfast.sqs.client import Sqs, queue_name
from holdfast.sqs.sending import batches

#: Messages of a step; seconds that whoever took them has to send them, and between tries at first and at last.
MOST, LEASE = 100, 60.0
FIRST_DELAY, LONGEST_DELAY = 5.0, 300.0


class WatchSender:
    """Sends what is due, a step at a time. Each queue has a client of its own: they may be in several regions."""

    def __init__(self, ledger: AsyncLedger, sinks: Sinks) -> None:
        self._ledger = ledger
        self._sinks = sinks
        self._clients: dict[str, Sqs] = {}

    async def step(self) -> int:
        """Send what is due; how many were sent. Raises `DatabaseError`."""
        sent = 0
        while messages := await self._ledger.call(take_watch_messages(MOST, LEASE)):
            for url in sorted({each.queue_url for each in messages}):
                sent += await self._to(url, [each for each in messages if each.queue_url == url])
            if len(messages) < MOST:
                break
        return sent

    async def close(self) -> None:
        """Close what was opened for it."""
        for client in self._clients.values():
            await client.close()

    async def _to(self, url: str, messages: Sequence[WatchMessage]) -> int:
        by_id = {str(each.id): each for each in messages}
        entries = [_entry(each) for each in messages]
        sent = 0
        for batch in batches(entries):
            taken = [by_id[entry["Id"]] for entry in batch]
            try:
                client = self._clients.setdefault(url, Sqs(url, wait=0))
                refused = await client.send_entries(url, batch)
            except QueueError as error:
                self._sinks.emit(QueueLost(f"send to {queue_name(url)}", str(error)))
                refused = dict.fromkeys(by_id, str(error))
            results = [_result(each, refused.get(str(each.id))) for each in taken]
            await self._ledger.call(settle_watch_messages(results))
            sent += sum(error is None for _, error, _ in results)
        return sent


def _entry(message: WatchMessage) -> dict[str, object]:
    entry: dict[str, object] = {"Id": str(message.id), **message.entry}
    if message.queue_url.endswith(".fifo"):
        entry["MessageDeduplicationId"] = str(message.id)
    return entry


def _result(message: WatchMessage, refused: str | None) -> tuple[UUID, str | None, float]:
    delay = min(FIRST_DELAY * 2 ** min(message.attempts - 1, 10), LONGEST_DELAY)
    return message.id, refused, 0.0 if refused is None else delay
