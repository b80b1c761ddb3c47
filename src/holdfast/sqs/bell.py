"""The bell over SQS: sent by whoever has written jobs, heard by workers that wait.

A bell only says "queue Q has work". One that is lost, doubled or late costs time at most: workers poll the ledger too,
and a claim has one path whatever woke the worker. So a bell is deleted as soon as it was heard.
"""

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Awaitable, Callable, Sequence

from holdfast.core.bell import Bell, make_bell, read_bell
from holdfast.core.breaker import Breaker
from holdfast.errors import QueueError, QueueRefused, QueueUnavailable
from holdfast.sqs.client import Message, NewMessage, Sqs, queue_name

_log = logging.getLogger("holdfast")

#: Seconds: of a long poll (a worker that ends waits for the one under way), and between looks at whether there is room.
WAIT = 5
NO_ROOM = 0.5
#: Seconds for which somebody else's message stays hidden, in which the other workers learn of it and stop receiving:
#: each receive counts, and its owner's redrive policy may allow few.
HIDDEN = 15
#: The attribute of a bell that tells its trace, and the variable in which AWS's runtimes hand a program its own.
TRACEPARENT, XRAY = "traceparent", "_X_AMZN_TRACE_ID"


async def _nobody_told() -> bool:
    return False


class SqsBells:
    """Sends bells to one SQS queue, never with a delay: what is not due yet waits in the ledger."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._sqs = Sqs(url, wait=0)
        self.queue = queue_name(url)

    async def ring(self, bells: Sequence[Bell]) -> list[Bell]:
        """Send bells; those that SQS refused one by one. Raises `QueueError`."""
        refused = await self._sqs.send(self._url, [_message(bell) for bell in bells])
        return [bells[each.place] for each in refused]

    async def unheard(self) -> int:
        """How many bells lie there, about. Raises `QueueError`."""
        found = await self._sqs.attributes(self._url)
        return found.visible + found.in_flight

    async def close(self) -> None:
        await self._sqs.close()


class SqsListener:
    """Waits for bells and calls `rung`.

    `has_room` says whether a job could be started: without it no bell is taken, and one that comes too late is given
    back, so that another worker hears it. At the first message that is no bell it stops for good and calls `foreign`:
    the queue is somebody else's. It does so too when `is_told` says that another met one, and begins then only where
    nothing lies in the queue; `clean` is called once, when that is so. `heard` is called with the traces
    (traceparent) of bells. `failed` is told from the second failure in a row on: one alone is a moment's trouble.
    """

    def __init__(
        self,
        url: str,
        queues: Sequence[str],
        *,
        rung: Callable[[], None],
        has_room: Callable[[], bool],
        failed: Callable[[QueueError], None],
        foreign: Callable[[], None],
        clean: Callable[[], None] = lambda: None,
        is_told: Callable[[], Awaitable[bool]] = _nobody_told,
        heard: Callable[[Sequence[str]], None] = lambda _: None,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._url = url
        self._queues = frozenset(queues)
        self._rung = rung
        self._has_room = has_room
        self._failed = failed
        self._foreign = foreign
        self._clean = clean
        self._heard = heard
        self._dice = dice
        self._is_told = is_told
        self._has_begun = self._begins_anew = self._was_clean = False
        self._breaker = Breaker()
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Take no further bell. `listen` returns when the receive under way has ended: it must not be cancelled."""
        self._stopped.set()

    async def listen(self) -> None:
        """Listen until stopped."""
        sqs, is_ours = Sqs(self._url, wait=WAIT), True
        try:
            while is_ours and not self._stopped.is_set():
                if self._has_room():
                    is_ours = await self._turn(sqs)
                else:
                    await self._rest(NO_ROOM)
        finally:
            await sqs.close()
        if not is_ours:
            self._foreign()

    async def _turn(self, sqs: Sqs) -> bool:
        """Listen once, and rest where that failed; whether the queue is ours, as far as is known."""
        try:
            is_ours = await self._listen_once(sqs)
        except QueueError as error:
            await self._pause(error)
        except Exception:
            _log.exception("listening for bells failed in an unforeseen way, and goes on")
            await self._pause(None)
        else:
            self._breaker = self._breaker.succeeded()
            return is_ours
        return True

    async def _listen_once(self, sqs: Sqs) -> bool:
        if await self._is_somebody_elses(sqs):
            return False
        clock = asyncio.get_running_loop().time
        asked_at = clock()
        messages = await sqs.receive(self._url, wait=WAIT)
        if not messages:
            await self._found_empty(clock() - asked_at)
        bells = [message for message in messages if read_bell(message.body) is not None]
        strangers = [message for message in messages if read_bell(message.body) is None]
        if strangers:
            await self._give_back(sqs, strangers, hidden=HIDDEN)
        if bells and (self._stopped.is_set() or not self._has_room()):
            await self._give_back(sqs, bells)
        elif bells:
            await self._take(sqs, bells)
        return not strangers

    async def _is_somebody_elses(self, sqs: Sqs) -> bool:
        """As far as others have told. Who begins then looks whether anything lies there, and takes nothing."""
        is_told = await self._is_told()
        if not is_told or not self._has_begun:
            self._begins_anew = is_told and await self._is_empty(sqs)
            self._has_begun = True
        return is_told and not self._begins_anew

    async def _is_empty(self, sqs: Sqs) -> bool:
        """Who may not look finds out by a receive."""
        try:
            found = await sqs.attributes(self._url)
        except QueueRefused:
            return True
        return found.visible + found.in_flight + found.delayed == 0

    async def _found_empty(self, after: float) -> None:
        """What answers at once with nothing does not wait, and would be asked over and over: it may be no SQS."""
        if self._begins_anew and not self._was_clean:
            self._was_clean = True
            self._clean()
        if after < WAIT / 2:
            await self._rest(NO_ROOM)

    async def _take(self, sqs: Sqs, bells: Sequence[Message]) -> None:
        """What they said is known now: the ledger is asked at once, and whether or not the deletion works."""
        if any(read_bell(bell.body) in self._queues for bell in bells):
            self._rung()
        self._heard([bell.attributes[TRACEPARENT] for bell in bells if TRACEPARENT in bell.attributes])
        await asyncio.sleep(0)  # the claim goes out first: a job waits for it, and nobody for the deletion
        left = await sqs.delete(self._url, [bell.receipt for bell in bells])
        left = await sqs.delete(self._url, left) if left else left
        if left:
            name = queue_name(self._url)
            self._failed(QueueUnavailable(f"SQS did not delete {len(left)} bells of {name!r}: they will come again"))

    async def _give_back(self, sqs: Sqs, messages: Sequence[Message], *, hidden: int = 0) -> None:
        """What SQS does not take back is seen again when its visibility timeout is over."""
        with contextlib.suppress(QueueError):
            await sqs.release(self._url, [message.receipt for message in messages], visibility=hidden)

    async def _pause(self, error: QueueError | None) -> None:
        self._breaker = self._breaker.failed(0.0, self._dice())
        if error is not None and self._breaker.failures > 1:
            self._failed(error)
        await self._rest(self._breaker.until)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)


def _message(bell: Bell) -> NewMessage:
    attributes = {} if bell.traceparent is None else {TRACEPARENT: bell.traceparent}
    return NewMessage(make_bell(bell.queue), attributes, os.environ.get(XRAY) or None)
