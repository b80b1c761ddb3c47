"""The ringer: rings bells over SQS for queues with due jobs and idle workers.

Whoever enqueues through this library rings at once. The ringer sees to what nobody rang for: jobs written in a
transaction of the caller's own, retries and rescues that have become due, bells that were lost. Several may run; the
ledger lets one of them ring for a queue at a time.
"""

import asyncio
import logging
from collections.abc import Callable

from holdfast.errors import DatabaseError, QueueError
from holdfast.events import LedgerLost, QueueLost, Sinks
from holdfast.postgres import calls
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.bell_queue import is_foreign
from holdfast.sqs.bell import SqsBells

_log = logging.getLogger("holdfast")

EVERY = 1.0
#: Seconds without a claim after which a queue with due jobs is rung again.
AGAIN_AFTER = 15.0
LONGEST_PAUSE = 30.0


class Ringer:
    """Rings until cancelled. With SQS away it pauses longer and longer: jobs run all the same, since workers poll."""

    def __init__(
        self,
        ledger: AsyncLedger,
        bells: SqsBells,
        sinks: Sinks,
        *,
        every: float = EVERY,
        turned: Callable[[], None] = lambda: None,
    ) -> None:
        self._turned = turned
        self._ledger = ledger
        self._bells = bells
        self._sinks = sinks
        self._every = every

    async def run(self) -> None:
        pause = self._every
        while True:
            self._turned()
            try:
                await self.step()
                pause = self._every
            except DatabaseError as error:
                self._sinks.emit(LedgerLost("ring", str(error)))
            except QueueError as error:
                self._sinks.emit(QueueLost("ring", str(error)))
                pause = min(pause * 2, LONGEST_PAUSE)
            except Exception:
                _log.exception("the ringer failed in an unforeseen way, and goes on")
            await asyncio.sleep(pause)

    async def step(self) -> int:
        """Ring for every queue that needs it; how many bells SQS took. A queue with others' messages is not rung."""
        if await is_foreign(self._ledger, self._bells.queue):
            return 0
        due = await self._ledger.call(calls.queues_to_ring(AGAIN_AFTER))
        bells = [each.queue for each in due for _ in range(each.bells)]
        return await self._bells.ring(bells) if bells else 0
