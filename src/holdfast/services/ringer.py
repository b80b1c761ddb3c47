"""The ringer: rings bells over SQS for queues with due jobs and idle workers.

Whoever enqueues through this library rings at once. The ringer sees to what nobody rang for: jobs written in a
transaction of the caller's own, retries and rescues that have become due, bells that were lost. Several may run; the
ledger lets one of them ring for a queue at a time.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from holdfast.core.bell import Bell
from holdfast.errors import DatabaseError
from holdfast.events import LedgerLost, Sinks
from holdfast.postgres import calls
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.bell_lines import BellLines

_log = logging.getLogger("holdfast")

EVERY = 1.0
#: Seconds without a claim after which a queue with due jobs is rung again.
AGAIN_AFTER = 15.0


class Ringer:
    """Rings until cancelled. A line that fails is left alone for longer and longer: jobs run all the same, by polling.

    What could not be sent on a line is sent when it answers again, each queue's bells once.
    """

    def __init__(
        self,
        ledger: AsyncLedger,
        lines: BellLines,
        sinks: Sinks,
        *,
        every: float = EVERY,
        turned: Callable[[], None] = lambda: None,
    ) -> None:
        self._turned = turned
        self._ledger = ledger
        self._lines = lines
        self._sinks = sinks
        self._every = every
        self._owed: dict[str, int] = {}

    async def run(self) -> None:
        while True:
            self._turned()
            try:
                await self.step()
            except DatabaseError as error:
                self._sinks.emit(LedgerLost("ring", str(error)))
            except Exception:
                _log.exception("the ringer failed in an unforeseen way, and goes on")
            await asyncio.sleep(self._every)

    async def step(self) -> int:
        """Ring for every queue that needs it; how many bells SQS took."""
        if not self._lines.may_ring():
            return 0
        for due in await self._ledger.call(calls.queues_to_ring(AGAIN_AFTER)):
            self._owed[due.queue] = max(due.bells, self._owed.get(due.queue, 0))
        rung = await self._lines.ring([Bell(queue) for queue, count in self._owed.items() for _ in range(count)])
        self._owed = Counter(bell.queue for bell in rung.left)
        return rung.sent
