"""The dead-letter monitor: sees to it that nothing dies unseen.

Jobs that went dead are collected every few seconds, dead-letter queues of SQS are looked at every few minutes, in one
process over all. What is found is kept in the ledger, grouped by cause, and told once when it arrives and once when
nothing of it is left. A look that fails is an incident of its own: a queue that nobody could look at is not empty.
A look leaves everything in its queue; only queues that were named for it are captured: their messages are moved here.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from uuid import UUID

from holdfast.core import telling
from holdfast.core.bell import read_bell
from holdfast.core.incident import Finding, Pace
from holdfast.core.telling import BLIND, COUNTED, LETTERS
from holdfast.errors import DatabaseError, QueueError
from holdfast.events import DeadLettersSeen, LedgerLost, QueueLost, Sinks
from holdfast.postgres.dead_letters import collect_dead_jobs, dead_letter_groups, note_dead_letters
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.reads import begin_sweep, end_sweep
from holdfast.services.dlq_queues import Sources, find_queues
from holdfast.services.incidents import IncidentBook
from holdfast.services.keeping import Keeping, new_letter
from holdfast.sqs.capture import capture
from holdfast.sqs.client import Sqs, queue_name
from holdfast.sqs.dead_letters import look

_log = logging.getLogger("holdfast")

JOBS, QUEUES = "collect_dead_jobs", "watch_dead_letters"
#: Seconds: between looks at jobs, between turns of the loop, until a look that failed is repeated.
JOBS_EVERY = 15.0
TURN = 5.0
RETRY_AFTER = 10.0


class DlqMonitor:
    """Watches until cancelled. `channels` are the names of those who are told; `turned` is called at each turn."""

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
    ) -> None:
        self._ledger = ledger
        self._sources = sources
        self._sinks = sinks
        self._book = IncidentBook(ledger, channels, sinks, new_id=new_id, pace=pace)
        self._interval = interval
        self._new_id = new_id
        self._turned = turned
        self._retry_after = retry_after
        url = sources.any_url
        self._sqs = Sqs(url) if url else None

    async def run(self) -> None:
        """Look, again and again; nothing that a queue or the ledger does ends it."""
        try:
            while True:
                try:
                    await self._turn()
                    if self._sqs and await self._ledger.call(begin_sweep(QUEUES, self._interval)):
                        await self.look_at_queues()
                except DatabaseError as error:
                    self._sinks.emit(LedgerLost("dead letters", str(error)))
                except Exception:
                    _log.exception("the dead-letter monitor failed in an unforeseen way, and goes on")
                await asyncio.sleep(min(TURN, self._interval / 2))
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
        await self._book.fold(await self._letters(), [LETTERS])

    async def look_at_queues(self) -> None:
        """Look at each queue; one that cannot be looked at does not stop the others, and is looked at once more."""
        assert self._sqs is not None
        seen: dict[str, int] = {}
        queues = await find_queues(self._sqs, self._sources, self._turn)
        lost = queues.problems
        found, problems = await self._look_at_all(self._sqs, queues.urls, seen)
        if lost or problems:
            await asyncio.sleep(self._retry_after)
            queues = await find_queues(self._sqs, self._sources, self._turn)
            lost = queues.problems
            again = [url for url in queues.urls if queue_name(url) not in seen]
            counted, problems = await self._look_at_all(self._sqs, again, seen)
            found += counted
        for name, why in {**lost, **problems}.items():
            self._sinks.emit(QueueLost(f"look at {name}", why))
            found.append(telling.blind(name, why))
        looked = {BLIND: self._sources.names | {*seen, *lost, *problems}, COUNTED: seen}
        await self._book.fold([*await self._letters(), *found], [LETTERS, BLIND, COUNTED], looked)
        await self._ledger.call(end_sweep(QUEUES, {"seen": seen, "blind": sorted({**lost, **problems})}))

    async def _look_at_all(
        self, sqs: Sqs, urls: Sequence[str], seen: dict[str, int]
    ) -> tuple[list[Finding], dict[str, str]]:
        found: list[Finding] = []
        problems = {}
        for url in urls:
            try:
                finding, seen[queue_name(url)] = await self._look_at(sqs, url)
            except QueueError as error:
                problems[queue_name(url)] = str(error)
            else:
                found += finding
            await self._turn()
        return found, problems

    async def _look_at(self, sqs: Sqs, url: str) -> tuple[list[Finding], int]:
        if queue_name(url) in self._sources.captured:
            return await self._capture(sqs, url)
        seen = await look(sqs, url)
        if seen.only_counted is not None:
            finding = telling.counted(seen.queue, seen.count, seen.only_counted)
            return ([finding] if seen.count else []), seen.count
        letters = [
            new_letter(self._new_id(), seen.queue, message)
            for message in seen.messages
            if read_bell(message.body) is None
        ]
        new = await self._ledger.one(note_dead_letters(seen.queue, letters, complete=seen.complete))
        self._sinks.emit(DeadLettersSeen(seen.queue, seen.count, len(letters), new, seen.complete))
        return [], seen.count

    async def _capture(self, sqs: Sqs, url: str) -> tuple[list[Finding], int]:
        """Round after round, each within the time that a turn may take, for half of the interval at most."""
        queue, clock = queue_name(url), asyncio.get_running_loop().time
        keeping = Keeping(self._ledger, queue, self._new_id)
        until = clock() + self._interval / 2
        while True:
            found = await capture(sqs, url, keeping.keep)
            if found.only_counted is not None:
                finding = telling.counted(queue, found.count, found.only_counted)
                return ([finding] if found.count else []), found.count
            if found.complete:
                await self._ledger.call(note_dead_letters(queue, [], complete=True))
            self._sinks.emit(DeadLettersSeen(queue, found.count, found.kept, keeping.new, found.complete))
            keeping.new = 0
            if found.complete or found.kept == 0 or clock() > until:
                return [], found.count
            await self._turn()

    async def _letters(self) -> list[Finding]:
        return [telling.letters(group) for group in await self._ledger.call(dead_letter_groups())]
