"""The dead-letter monitor: sees to it that nothing dies unseen.

Jobs that went dead are collected every few seconds, dead-letter queues of SQS are looked at every few minutes, in one
process over all. What is found is kept in the ledger, grouped by cause, and told once when it arrives and once when
nothing of it is left. A look that fails is an incident of its own: a queue that nobody could look at is not empty.
A look leaves everything in its queue; only queues that were named for it are captured: their messages are moved here.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from holdfast.core import telling
from holdfast.core.incident import Finding
from holdfast.core.letters import describe
from holdfast.core.payload import is_storable
from holdfast.core.telling import BLIND, COUNTED, LETTERS
from holdfast.errors import DatabaseError, QueueError
from holdfast.events import DeadLettersSeen, LedgerLost, QueueLost, Sinks
from holdfast.postgres.calls import Call
from holdfast.postgres.dead_letters import (
    NewLetter,
    capture_dead_letters,
    collect_dead_jobs,
    dead_letter_groups,
    note_dead_letters,
)
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.reads import begin_sweep, end_sweep
from holdfast.services.incidents import IncidentBook
from holdfast.sqs.capture import capture
from holdfast.sqs.client import Message, Sqs, queue_name
from holdfast.sqs.dead_letters import look

_log = logging.getLogger("holdfast")

JOBS, QUEUES = "collect_dead_jobs", "watch_dead_letters"
#: Seconds: between looks at jobs, between turns of the loop, until a look that failed is repeated.
JOBS_EVERY = 15.0
TURN = 5.0
RETRY_AFTER = 10.0
MOST_BODY = 262_144


@dataclass(frozen=True)
class Sources:
    """Where to look: dead-letter queues themselves, and queues whose own are found by their redrive policies.

    `captured`: the names of dead-letter queues whose messages are moved into the ledger.
    """

    dead_letter_urls: Sequence[str] = ()
    source_urls: Sequence[str] = ()
    captured: Collection[str] = ()

    @property
    def any_url(self) -> str | None:
        """One of them, for the region and endpoint of all."""
        return next(iter([*self.dead_letter_urls, *self.source_urls]), None)


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
    ) -> None:
        self._ledger = ledger
        self._sources = sources
        self._sinks = sinks
        self._book = IncidentBook(ledger, channels, sinks, new_id=new_id)
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
        urls, lost = await self._find_queues(self._sqs)
        found, problems = await self._look_at_all(self._sqs, urls, seen)
        if lost or problems:
            await asyncio.sleep(self._retry_after)
            more, lost = await self._find_queues(self._sqs)
            again = [url for url in more if queue_name(url) not in seen]
            counted, problems = await self._look_at_all(self._sqs, again, seen)
            found += counted
        for name, why in {**lost, **problems}.items():
            self._sinks.emit(QueueLost(f"look at {name}", why))
            found.append(telling.blind(name, why))
        looked = {BLIND: self._own_names() | {*seen, *lost, *problems}, COUNTED: seen}
        await self._book.fold([*await self._letters(), *found], [LETTERS, BLIND, COUNTED], looked)
        await self._ledger.call(end_sweep(QUEUES, {"seen": seen, "blind": sorted({**lost, **problems})}))

    def _own_names(self) -> set[str]:
        urls = [*self._sources.dead_letter_urls, *self._sources.source_urls]
        return {*(queue_name(url) for url in urls), *self._sources.captured}

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

    async def _find_queues(self, sqs: Sqs) -> tuple[list[str], dict[str, str]]:
        """The dead-letter queues to look at, and what could not be found out."""
        urls, problems = list(self._sources.dead_letter_urls), {}
        for source in self._sources.source_urls:
            try:
                arn = (await sqs.attributes(source)).dead_letter_arn
                if arn is not None:
                    urls.append(await sqs.url_of(arn))
            except QueueError as error:
                problems[queue_name(source)] = str(error)
            await self._turn()
        if not problems:
            problems = self._unknown({queue_name(url) for url in urls})
        return list(dict.fromkeys(urls)), problems

    def _unknown(self, names: Collection[str]) -> dict[str, str]:
        """A queue that was to be captured and is not found would be left to its retention, and nobody would know."""
        why = "HOLDFAST_DLQ_CAPTURE names it, and it is none of the dead-letter queues that are watched"
        return dict.fromkeys(sorted(set(self._sources.captured) - set(names)), why)

    async def _look_at(self, sqs: Sqs, url: str) -> tuple[list[Finding], int]:
        if queue_name(url) in self._sources.captured:
            return await self._capture(sqs, url)
        seen = await look(sqs, url)
        if seen.only_counted is not None:
            finding = telling.counted(seen.queue, seen.count, seen.only_counted)
            return ([finding] if seen.count else []), seen.count
        letters = [_letter(self._new_id(), seen.queue, message) for message in seen.messages]
        new = await self._ledger.one(note_dead_letters(seen.queue, letters, complete=seen.complete))
        self._sinks.emit(DeadLettersSeen(seen.queue, seen.count, len(letters), new, seen.complete))
        return [], seen.count

    async def _capture(self, sqs: Sqs, url: str) -> tuple[list[Finding], int]:
        """Round after round, each within the time that a turn may take, for half of the interval at most."""
        queue, clock = queue_name(url), asyncio.get_running_loop().time
        keeping = _Keeping(self._ledger, queue, self._new_id)
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


class _Keeping:
    """Keeps messages of one queue in the ledger; `new` counts those that were not known."""

    def __init__(self, ledger: AsyncLedger, queue: str, new_id: Callable[[], UUID]) -> None:
        self._ledger, self._queue, self._new_id = ledger, queue, new_id
        self.new = 0

    async def keep(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Those that are in the ledger as they came. What Postgres cannot hold (NUL) is noted, and stays there."""
        whole = [each for each in messages if is_storable("".join([each.body, *each.attributes.values()]))]
        other = [each for each in messages if each not in whole]
        letters = [
            replace(_letter(self._new_id(), self._queue, each), body=each.body, original=each.original)
            for each in whole
        ]
        if letters:
            await self._count(capture_dead_letters(self._queue, letters))
        if other:
            noted = [_letter(self._new_id(), self._queue, each) for each in other]
            await self._count(note_dead_letters(self._queue, noted, complete=False))
        return whole

    async def _count(self, call: Call[int]) -> None:
        new = await self._ledger.one(call)  # not `+= await`: lanes run at once, and each would forget the others'
        self.new += new


def _letter(id: UUID, queue: str, message: Message) -> NewLetter:
    about = describe(queue, message.body, message.attributes)
    return NewLetter(
        id,
        message.id,
        about.job_id,
        about.kind,
        about.cause,
        about.fingerprint,
        message.body.replace("\x00", "")[:MOST_BODY],
        message.attributes,
        message.received,
        message.sent_at,
    )
