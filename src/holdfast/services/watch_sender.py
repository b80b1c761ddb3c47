"""Sends the messages of rescued rows: from the ledger, where each was written with its row's new status, to SQS.

A message is sent at least once: whoever dies between SQS's answer and the ledger's leaves it to be sent again. What
SQS refuses waits with growing delays, and people are told. A queue that does not answer is asked once a step: whoever
looks at tables meanwhile does not wait for it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from holdfast.errors import DatabaseError, QueueError, QueueNotFound, QueueUnavailable
from holdfast.events import QueueLost, Sinks
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.watches import WatchMessage, settle_watch_messages, take_watch_messages
from holdfast.sqs.client import Sqs, queue_name
from holdfast.sqs.sending import batches

_log = logging.getLogger("holdfast")

#: Messages of a step; seconds that whoever took them has to send them, and between tries at first and at last.
MOST, LEASE = 100, 60.0
FIRST_DELAY, LONGEST_DELAY = 5.0, 300.0


class WatchSender:
    """Sends what is due, a step at a time. Each queue has a client of its own: they may be in several regions."""

    def __init__(self, ledger: AsyncLedger, sinks: Sinks) -> None:
        self._ledger = ledger
        self._sinks = sinks
        self._clients: dict[str, Sqs] = {}
        self._wanted = asyncio.Event()

    async def run(self, interval: float) -> None:
        """Send until cancelled: when it was woken, and each `interval` seconds."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), interval)
            self._wanted.clear()
            try:
                await self.step()
            except DatabaseError:
                pass  # whoever looks at the tables tells of it
            except Exception:
                _log.exception("the sender of rescued rows' messages failed in an unforeseen way, and goes on")

    def wake(self) -> None:
        """There are messages to send."""
        self._wanted.set()

    async def step(self) -> None:
        """Send what is due. Raises `DatabaseError`."""
        while messages := await self._ledger.call(take_watch_messages(MOST, LEASE)):
            urls = sorted({each.queue_url for each in messages})
            answered = [await self._to(url, [each for each in messages if each.queue_url == url]) for url in urls]
            if len(messages) < MOST or not all(answered):
                break

    async def close(self) -> None:
        """Close what was opened for it."""
        for client in self._clients.values():
            await client.close()

    async def _to(self, url: str, messages: Sequence[WatchMessage]) -> bool:
        """Send these to one queue; whether it answered. When it does not, the rest is not tried."""
        by_id = {str(each.id): each for each in messages}
        silent: str | None = None
        for batch in batches([_entry(each) for each in messages]):
            taken = [by_id[str(entry["Id"])] for entry in batch]
            refused = dict.fromkeys(by_id, silent)
            if silent is None:
                refused, silent = await self._batch(url, batch)
            await self._ledger.call(settle_watch_messages([_result(each, refused.get(str(each.id))) for each in taken]))
        return silent is None

    async def _batch(self, url: str, batch: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str | None], str | None]:
        """What is refused, by id, and why the queue did not answer."""
        try:
            client = self._clients.setdefault(url, Sqs(url, wait=0))
            return dict(await client.send_entries(url, batch)), None
        except QueueError as error:
            self._sinks.emit(QueueLost(f"send to {queue_name(url)}", str(error)))
            silent = str(error) if isinstance(error, QueueUnavailable | QueueNotFound) else None
            return {str(entry["Id"]): str(error) for entry in batch}, silent


def _entry(message: WatchMessage) -> dict[str, object]:
    entry: dict[str, object] = {"Id": str(message.id), **message.entry}
    if message.queue_url.endswith(".fifo"):
        entry["MessageDeduplicationId"] = str(message.id)
    return entry


def _result(message: WatchMessage, refused: str | None) -> tuple[UUID, str | None, float]:
    delay = min(FIRST_DELAY * 2 ** min(message.attempts - 1, 10), LONGEST_DELAY)
    return message.id, refused, 0.0 if refused is None else delay
