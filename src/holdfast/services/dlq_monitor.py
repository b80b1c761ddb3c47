"""The dead-letter monitor: sees to it that nothing dies unseen.

Jobs that went dead are collected every few seconds, dead-letter queues of SQS are looked at every few minutes, each by
one process over all. What is found is kept in the ledger, grouped by cause, and told once when it arrives and once when
nothing of it is left. A look that fails is an incident of its own: a queue that nobody could look at is not empty.
A look leaves everything in its queue; only queues that were named for it are captured: their messages are moved here.
Of what is left in SQS it is told in time that SQS will delete it.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from uuid import UUID

from holdfast.core import telling
from holdfast.core.incident import Finding, Pace
from holdfast.core.telling import BLIND, COUNTED, EXPIRING, LETTERS, PRUNED
from holdfast.errors import DatabaseError
from holdfast.events import LedgerLost, QueueLost, Sinks
from holdfast.postgres.dead_letters import (
    begin_looks,
    collect_dead_jobs,
    dead_jobs_expiring,
    dead_letter_groups,
    end_look,
    list_dead_letter_queues,
)
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.reads import begin_sweep, end_sweep
from holdfast.services.dlq_looks import Looked, QueueLooker
from holdfast.services.dlq_queues import Found, Sources, find_queues
from holdfast.services.incidents import IncidentBook
from holdfast.sqs.capture import Capture
from holdfast.sqs.client import Sqs, queue_name
from holdfast.sqs.dead_letters import MOVING, Look

_log = logging.getLogger("holdfast")

JOBS, QUEUES = "collect_dead_jobs", "watch_dead_letters"
#: Seconds: between looks at jobs, between turns of the loop, until a look that failed is repeated, for which it is
#: believed which queues there are.
JOBS_EVERY = 15.0
TURN = 5.0
RETRY_AFTER = 10.0
FOUND_FOR = 3600.0
#: A round of looks takes this part of the interval at most; but so many seconds it may.
LONGEST, LEAST = 0.8, 30.0
#: How often it is asked which queues are due: this part of the interval, but so many seconds at least. A queue is due a
#: little early (begin_looks), so that no two looks are further apart than the interval.
ASKED, SOONEST = 1 / 30, 0.5


class DlqMonitor:
    """Watches until cancelled. `channels` are the names of those who are told; `turned` is called at each turn.

    `keep_dead`: seconds that dead jobs are kept, of whose end people are told before; None where nobody removes them.
    """

    def __init__(
        self,
        ledger: AsyncLedger,
        sources: Sources,
        channels: Sequence[str],
        sinks: Sinks,
        *,
        interval: float,
        new_id: Callable[[], UUID],
        turned: Callable[[], None] = lambda: None,
        retry_after: float = RETRY_AFTER,
        pace: Pace | None = None,
        keep_dead: float | None = None,
    ) -> None:
        self._ledger = ledger
        self._sources = sources
        self._sinks = sinks
        self._book = IncidentBook(ledger, channels, sinks, new_id=new_id, pace=pace)
        self._looker = QueueLooker(ledger, sources, sinks, longest=max(interval * LONGEST, LEAST), new_id=new_id)
        self._interval = interval
        self._ask_every = min(max(interval * ASKED, SOONEST), JOBS_EVERY)
        self._turned = turned
        self._retry_after = retry_after
        self._keep_dead = keep_dead
        url = sources.any_url
        self._sqs = Sqs(url) if url else None
        self._found: Found | None = None
        self._found_until = float("-inf")

    async def run(self) -> None:
        """Look, again and again; nothing that a queue or the ledger does ends it."""
        try:
            while True:
                try:
                    await self._turn()
                    if self._sqs:
                        await self._look_if_due(self._sqs)
                except DatabaseError as error:
                    self._sinks.emit(LedgerLost("dead letters", str(error)))
                except Exception:
                    _log.exception("the dead-letter monitor failed in an unforeseen way, and goes on")
                await asyncio.sleep(min(TURN, self._ask_every))
        finally:
            if self._sqs:
                await self._sqs.close()

    async def _turn(self) -> None:
        self._turned()
        if await self._ledger.call(begin_sweep(JOBS, JOBS_EVERY)):
            await self.look_at_jobs()

    async def look_at_jobs(self) -> None:
        """Collect what went dead, and tell of it."""
        await self._ledger.call(collect_dead_jobs())
        await self._book.fold([*await self._letters(), *await self._expiring_jobs()], [LETTERS, PRUNED])

    async def _expiring_jobs(self) -> list[Finding]:
        if self._keep_dead is None:
            return []
        found = await self._ledger.one(dead_jobs_expiring(self._keep_dead, telling.notice(self._keep_dead)))
        return [] if found.first_at is None else [telling.pruned(found.jobs, found.first_at, self._keep_dead)]

    async def _look_if_due(self, sqs: Sqs) -> None:
        queues = await self._queues(sqs)
        names = {*(queue_name(url) for url in queues.urls), *queues.problems}
        if not await self._ledger.call(begin_sweep(QUEUES, self._ask_every)) or not names:
            return
        due = await self._ledger.call(begin_looks(sorted(names), self._interval))
        if due:
            await self.look_at_queues(due)

    async def _queues(self, sqs: Sqs, *, anew: bool = False) -> Found:
        """Which queues there are, asked once an hour, and again while it is not known of some."""
        clock = asyncio.get_running_loop().time
        if self._found is None or self._found.problems or anew or clock() > self._found_until:
            self._found = await find_queues(sqs, self._sources, self._turn)
            self._found_until = clock() + FOUND_FOR
        return self._found

    async def look_at_queues(self, due: Collection[str] | None = None) -> None:
        """Look at those that are due (None: at all). One that cannot be looked at is looked at once more."""
        assert self._sqs is not None
        queues = await self._queues(self._sqs, anew=due is None)
        looked = await self._look(self._sqs, queues, due, {})
        if looked.problems:
            # What was found elsewhere need not wait for the one that fails.
            await self._book.fold(await self._letters(), [LETTERS])
            await asyncio.sleep(self._retry_after)
            queues = await self._queues(self._sqs, anew=True)
            looked = await self._look(self._sqs, queues, due, looked.seen)
        for name, why in looked.problems.items():
            self._sinks.emit(QueueLost(f"look at {name}", why))
        if due is None:
            await self._ledger.call(begin_looks(sorted({*looked.seen, *looked.problems}), 0.0))
        await self._tell(looked)

    async def _look(
        self, sqs: Sqs, queues: Found, due: Collection[str] | None, seen: dict[str, Look | Capture]
    ) -> Looked:
        wanted = [url for url in queues.urls if queue_name(url) not in seen]
        looked = await self._looker.look_at_all(
            sqs, [url for url in wanted if due is None or queue_name(url) in due], self._turn
        )
        lost = {name: why for name, why in queues.problems.items() if due is None or name in due}
        return Looked({**seen, **looked.seen}, {**lost, **looked.problems})

    async def _tell(self, looked: Looked) -> None:
        found: list[Finding] = []
        for name, why in looked.problems.items():
            for ended in await self._ledger.call(end_look(name, {"error": why})):
                found.append(telling.blind(name, why, ended.blind_since))
        for name, seen in looked.seen.items():
            found += await self._of(name, seen)
        known = await self._ledger.call(list_dead_letter_queues())
        left = {each.name for each in known if each.is_abandoned}
        mine = {*looked.seen, *looked.problems, *left}
        of_kind = {BLIND: self._sources.names | mine, COUNTED: {*looked.seen, *left}, EXPIRING: {*looked.seen, *left}}
        await self._book.fold([*await self._letters(), *found], [LETTERS, BLIND, COUNTED, EXPIRING], of_kind)
        counts = {name: seen.count for name, seen in looked.seen.items()}
        await self._ledger.call(end_sweep(QUEUES, {"seen": counts, "blind": sorted(looked.problems)}))

    async def _of(self, name: str, seen: Look | Capture) -> list[Finding]:
        facts = {
            "messages": seen.count,
            "captured": name in self._sources.captured,
            "only_counted": seen.only_counted,
            "retention": seen.retention,
        }
        found: list[Finding] = []
        for ended in await self._ledger.call(end_look(name, facts)):
            expiring = None if ended.lost_in is None else telling.expiring(name, ended.lost_in, seen.only_counted)
            found += [] if expiring is None else [expiring]
        if seen.only_counted not in (None, MOVING) and seen.count:
            found.append(telling.counted(name, seen.count, seen.only_counted))
        return found

    async def _letters(self) -> list[Finding]:
        return [telling.letters(group) for group in await self._ledger.call(dead_letter_groups())]
