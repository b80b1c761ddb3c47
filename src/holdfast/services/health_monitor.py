"""The health monitor: a check that fails, and goes on failing, is an incident, so that somebody is told.

It looks at what the health report looks at, in one process over all, and it judges by the same rules: no worker lives
while jobs are due, nobody asks for a queue, a monitor has stopped, SQS does not answer. Two looks in a row must fail.
Rate limits that were decided without Postgres are told of as well.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from holdfast.core import telling
from holdfast.core.health import Ledger, Limits, Process, Status
from holdfast.core.health_checks import judge
from holdfast.core.incident import Pace
from holdfast.core.ledger_watch import KINDS, Watched, watch
from holdfast.core.limit_watch import Seen, look
from holdfast.errors import DatabaseError
from holdfast.events import LedgerLost, Sinks
from holdfast.postgres.dead_letters import oldest_transaction
from holdfast.postgres.health import health_report
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.reads import begin_sweep, end_sweep
from holdfast.services.incidents import IncidentBook
from holdfast.services.sqs_watch import SqsWatch, WatchedQueue

_log = logging.getLogger("holdfast")

MONITOR = "watch_health"
EVERY = 15.0
TURN = 5.0
#: Looks in a row that must fail before somebody is told.
STRIKES = 2


class HealthMonitor:
    """Watches until cancelled. `queues` are those of SQS whose answers matter here."""

    def __init__(
        self,
        ledger: AsyncLedger,
        queues: Sequence[WatchedQueue],
        channels: Sequence[str],
        sinks: Sinks,
        *,
        stale_after: float,
        limits: Limits | None = None,
        new_id: Callable[[], UUID],
        pace: Pace | None = None,
        turned: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._sinks = sinks
        self._stale_after = stale_after
        self._limits = limits or Limits()
        self._turned = turned
        self._sqs = SqsWatch(queues)
        self._book = IncidentBook(ledger, channels, sinks, new_id=new_id, pace=pace)

    async def run(self) -> None:
        try:
            while True:
                self._turned()
                try:
                    for left in await self._ledger.call(begin_sweep(MONITOR, EVERY)):
                        await self.step(left.get("strikes") or {}, Seen.read(left.get("limits")), left.get("watched"))
                except DatabaseError as error:
                    self._sinks.emit(LedgerLost("health monitor", str(error)))
                except Exception:
                    _log.exception("the health monitor failed in an unforeseen way, and goes on")
                await asyncio.sleep(TURN)
        finally:
            await self._sqs.stop()

    async def step(
        self, strikes: dict[str, int], limits: Seen | None = None, before: Mapping[str, Any] | None = None
    ) -> None:
        """One look. `strikes`: how many looks in a row each check has failed so far. `limits`: the totals then.

        `before`: what the look before left of the ledger.
        """
        await self._sqs.step()
        report = await self._ledger.one(health_report(self._stale_after))
        checks = judge(Ledger(), report, Process(sqs=self._sqs.seen), self._limits)
        failing = {check.name: check for check in checks if check.status is Status.FAIL}
        strikes = {name: strikes.get(name, 0) + 1 for name in failing}
        found = [telling.failing(check) for name, check in failing.items() if strikes[name] >= STRIKES]
        # What fails for the first time neither opens an incident nor ends one.
        kept = [telling.still(name) for name in failing if strikes[name] < STRIKES]
        seen, alone = look(limits, report.rate_limits)
        if seen.kept:
            found.append(telling.alone(alone))
        oldest = next(iter(await self._ledger.call(oldest_transaction())), None)
        watched, more = watch(Watched.read(before), report.monitors, oldest, checks)
        await self._book.fold([*found, *kept, *more], [telling.FAILING, telling.ALONE, *KINDS])
        left = {"strikes": strikes, "limits": seen.as_json(), "watched": watched.as_json()}
        await self._ledger.call(end_sweep(MONITOR, left))
