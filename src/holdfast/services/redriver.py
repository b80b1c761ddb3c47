"""The redriver: sends dead letters on their way again, as far as somebody asked for.

A redrive is rows in the ledger: which letters, and what became of each. Whoever holds its lease does the next step, so
one that was killed in the middle is gone on with by another. A job is given another life by the ledger itself, once. A
message is captured first, if it is still in its queue; then it is marked as being sent, sent, and settled: whoever dies
in between leaves it marked, and it is sent again. That is a double for programs that cannot take one, and is said so.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from holdfast.core.redrive import LOOK, Change, Redrive, Send, Wait, next_step
from holdfast.errors import DatabaseError, QueueError, QueueRefused
from holdfast.events import LedgerLost, QueueLost, RedriveChanged, Sinks
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.redrives import (
    MessageToSend,
    Sent,
    change_redrive,
    claim_redrive,
    redrive_jobs,
    settle_redrive_messages,
    take_redrive_messages,
)
from holdfast.services.dlq_queues import Found, Sources, find_queues, source_of
from holdfast.services.keeping import Keeping
from holdfast.sqs.capture import capture
from holdfast.sqs.client import Sqs, queue_name
from holdfast.sqs.sending import batches, entry_of

_log = logging.getLogger("holdfast")

#: Seconds: of the claim on a redrive, between looks for one, after a call that failed.
LEASE, EVERY, AFTER_TROUBLE = 60.0, 5.0, 10.0
#: Messages of one step; steps in which a message must be found in its queue.
MESSAGES, TRIES = 50, 3


class Redriver:
    """Works at redrives until cancelled. `one`: at this one only, and until it is at its end or paused."""

    def __init__(
        self,
        ledger: AsyncLedger,
        sources: Sources,
        sinks: Sinks,
        *,
        owner: UUID,
        new_id: Callable[[], UUID],
        one: UUID | None = None,
        turned: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._sources = sources
        self._sinks = sinks
        self._owner = owner
        self._new_id = new_id
        self._one = one
        self._turned = turned
        self._sqs = Sqs(sources.any_url) if sources.any_url else None
        self._found: Found | None = None
        self._looked_for: dict[UUID, int] = {}
        self._waiting: set[UUID] = set()

    async def run(self) -> None:
        try:
            while True:
                self._turned()
                pause = await self._guarded_step()
                if pause is None and self._one is not None:
                    return
                await asyncio.sleep(EVERY if pause is None else pause)
        finally:
            await self.close()

    async def close(self) -> None:
        """Close what was opened for it."""
        if self._sqs is not None:
            await self._sqs.close()

    async def _guarded_step(self) -> float | None:
        try:
            return await self.step()
        except DatabaseError as error:
            if self._one is not None:
                raise
            self._sinks.emit(LedgerLost("redrive", str(error)))
        except Exception:
            if self._one is not None:
                raise
            _log.exception("the redriver failed in an unforeseen way, and goes on")
        return AFTER_TROUBLE

    async def step(self) -> float | None:
        """Do what is next; the seconds until the step after it, None if there is nothing to do."""
        claimed = await self._ledger.call(claim_redrive(self._owner, LEASE, self._one))
        if not claimed:
            return None
        redrive = claimed[0]
        match next_step(redrive):
            case Wait(seconds):
                return self._after_the_others(redrive, seconds)
            case Change(action, reason):
                self._waiting.clear()
                await self._change(redrive, action, reason)
                return 0.0
            case Send(most):
                self._waiting.clear()
                return await self._send(redrive, most)

    def _after_the_others(self, redrive: Redrive, seconds: float) -> float:
        """One that waits holds up no other: there is a pause when all of them wait."""
        if redrive.id in self._waiting or self._one is not None:
            self._waiting.clear()
            return seconds
        self._waiting.add(redrive.id)
        return 0.0

    async def _change(self, redrive: Redrive, action: str, reason: str) -> None:
        status = await self._ledger.one(change_redrive(redrive.id, action, reason))
        self._sinks.emit(RedriveChanged(redrive.id, status or "", reason))

    async def _send(self, redrive: Redrive, most: int) -> float:
        done = await self._ledger.one(redrive_jobs(redrive.id, self._owner, most))
        if done == most:
            return 0.0
        wanted = take_redrive_messages(redrive.id, self._owner, min(most - done, MESSAGES))
        messages = await self._ledger.call(wanted)
        if not messages:
            return 0.0 if done else LOOK
        return await self._messages(redrive, messages)

    async def _messages(self, redrive: Redrive, messages: Sequence[MessageToSend]) -> float:
        if self._sqs is None:
            await self._back(redrive, messages)
            why = "no queue of SQS is set here (HOLDFAST_DLQ_URLS, SQS_QUEUE_URL): nothing can be sent"
            await self._change(redrive, "pause", why)
            return 0.0
        try:
            found = self._found = self._found or await find_queues(self._sqs, self._sources)
            for queue in sorted({each.queue for each in messages}):
                await self._of_queue(self._sqs, found, redrive, [each for each in messages if each.queue == queue])
        except QueueRefused as error:
            await self._back(redrive, messages)
            await self._change(redrive, "pause", str(error))
            return 0.0
        except QueueError as error:
            self._sinks.emit(QueueLost("redrive", str(error)))
            return AFTER_TROUBLE
        return 0.0

    async def _of_queue(self, sqs: Sqs, found: Found, redrive: Redrive, messages: Sequence[MessageToSend]) -> None:
        dead = {queue_name(url): url for url in found.urls}.get(messages[0].queue)
        outside = [each for each in messages if not each.captured]
        if outside and dead is None:
            why = f"{messages[0].queue} is none of the dead-letter queues that are watched here"
            await self._settle(redrive, [Sent(each.letter_id, "failed", why) for each in outside])
        elif outside and dead is not None:
            await self._take_out(sqs, dead, redrive, outside)
        by_target: dict[str, list[MessageToSend]] = {}
        for each in messages:
            if each.captured:
                try:
                    target = await self._target(sqs, redrive, dead, found.sources, each)
                except QueueError as error:
                    await self._settle(redrive, [Sent(each.letter_id, "failed", str(error))])
                else:
                    by_target.setdefault(target, []).append(each)
        for target, those in by_target.items():
            await self._to(sqs, target, redrive, those)

    async def _target(
        self, sqs: Sqs, redrive: Redrive, dead: str | None, known: Mapping[str, str], message: MessageToSend
    ) -> str:
        if redrive.target:
            return redrive.target if "://" in redrive.target else await sqs.url_named(redrive.target)
        arn = ((message.original or {}).get("system") or {}).get("DeadLetterQueueSourceArn")
        return await source_of(sqs, dead or message.queue, arn, known)

    async def _take_out(self, sqs: Sqs, url: str, redrive: Redrive, messages: Sequence[MessageToSend]) -> None:
        """Into the ledger with those that are still in their queue: from there they are sent, at another step."""
        meant = {each.key for each in messages}
        identity = self._sources.identity
        keeping = Keeping(self._ledger, queue_name(url), self._new_id, meant, identity=identity)
        taken = await capture(sqs, url, keeping.keep, enough=len(messages))
        if taken.only_counted is not None:
            why = f"it cannot be taken out of {queue_name(url)}: {taken.only_counted}"
            await self._settle(redrive, [Sent(each.letter_id, "failed", why) for each in messages])
            return
        results = []
        for each in messages:
            tries = self._looked_for[each.letter_id] = self._looked_for.get(each.letter_id, 0) + 1
            if tries <= TRIES:
                results.append(Sent(each.letter_id, "waiting"))
            else:
                results.append(Sent(each.letter_id, "failed", f"it was not found in {each.queue} any more"))
        await self._settle(redrive, results)

    async def _to(self, sqs: Sqs, target: str, redrive: Redrive, messages: Sequence[MessageToSend]) -> None:
        numbered = {str(number): each for number, each in enumerate(messages)}
        fifo = target.endswith(".fifo")
        entries = [
            entry_of(int(number), str(each.letter_id), each.returns, each.body or "", each.original or {}, fifo=fifo)
            for number, each in numbered.items()
        ]
        for batch in batches(entries):
            refused = await sqs.send_entries(target, batch)
            await self._settle(redrive, [_result(numbered[entry["Id"]], refused.get(entry["Id"])) for entry in batch])

    async def _back(self, redrive: Redrive, messages: Sequence[MessageToSend]) -> None:
        await self._settle(redrive, [Sent(each.letter_id, "waiting") for each in messages if not each.again])

    async def _settle(self, redrive: Redrive, results: Sequence[Sent]) -> None:
        await self._ledger.call(settle_redrive_messages(redrive.id, self._owner, results))


def _result(message: MessageToSend, refused: str | None) -> Sent:
    if refused is not None:
        return Sent(message.letter_id, "failed", f"SQS refused it: {refused}")
    return Sent(message.letter_id, "sent", "it may have been sent twice" if message.again else "")
