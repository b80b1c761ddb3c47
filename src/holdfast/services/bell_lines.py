"""The bell lines: how a process rings over SQS, on one queue of it or several, without harm to anybody.

On each queue: no more bells than are needed lie there unheard, nobody rings where somebody else's messages were met,
and a queue that fails is left alone for a while. What was not rung is not kept here for long: the ringer looks at the
ledger, which knows what is due.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from holdfast.core.bell import Bell, BellRoutes
from holdfast.core.breaker import Breaker, State
from holdfast.errors import DatabaseError, QueueError, QueueRefused, QueueUnavailable
from holdfast.postgres.ledger import Executor
from holdfast.services.bell_queue import is_foreign
from holdfast.sqs.bell import SqsBells

#: Bells that may lie unheard in a queue of SQS, whoever rings; and where whoever enqueues rings no more: bells that
#: nobody takes mean that nobody has room, and who has some again looks by itself.
MOST, MOST_BY_ENQUEUER = 1000, 20
#: Bells that are sent without a look at how many lie there; seconds for which a look is believed, and one that found
#: enough of them; and until somebody who may not look asks again.
WITHOUT_A_LOOK = 10
BELIEVED, ENOUGH_BELIEVED, MAY_NOT_LOOK = 0.25, 1.0, 300.0
#: Seconds for which it is believed that a queue is ours alone, and that ringing may take.
OURS_FOR = 5.0
DEADLINE = 5.0

Failed = Callable[[QueueError], None]

_log = logging.getLogger("holdfast")


@dataclass(frozen=True)
class Rung:
    """How many bells were sent, and those that could not be: they may be tried again. Others were not needed."""

    sent: int = 0
    left: tuple[Bell, ...] = ()

    def __add__(self, other: "Rung") -> "Rung":
        return Rung(self.sent + other.sent, self.left + other.left)


class BellLines:
    """Rings over SQS for one process: each queue of the ledger on its line, or not at all."""

    def __init__(
        self,
        ledger: Executor,
        routes: BellRoutes,
        *,
        most: int = MOST,
        failed: Failed = lambda _: None,
        dice: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._routes = routes
        self._lines = {
            url: BellLine(ledger, SqsBells(url), most=most, failed=failed, dice=dice, clock=clock)
            for url in routes.urls()
        }

    async def ring(self, bells: Sequence[Bell]) -> Rung:
        """Send bells. Raises nothing for want of SQS."""
        its = {url: [bell for bell in bells if self._routes.url_of(bell.queue) == url] for url in self._lines}
        # Side by side: one that hangs makes no bell of the others late.
        rung = await asyncio.gather(*(self._lines[url].ring(some) for url, some in its.items() if some))
        return sum(rung, Rung())

    def may_ring(self) -> bool:
        """Whether there is a line that may be tried now."""
        return any(line.state() is not State.OPEN for line in self._lines.values())

    async def close(self) -> None:
        for line in self._lines.values():
            await line.close()


def lines_of_enqueuer(ledger: Executor, routes: BellRoutes) -> BellLines | None:
    """Those of a program that enqueues; a failure only means that the ringer will ring. None where nothing is rung."""

    def failed(error: QueueError) -> None:
        _log.debug("a bell was lost, which costs a poll: %s", error)

    return BellLines(ledger, routes, most=MOST_BY_ENQUEUER, failed=failed) if routes else None


class BellLine:
    """One queue of SQS, as one process rings on it."""

    def __init__(
        self,
        ledger: Executor,
        bells: SqsBells,
        *,
        most: int,
        failed: Failed,
        dice: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._bells = bells
        self._most = most
        self._failed = failed
        self._dice = dice
        self._clock = clock
        self._breaker = Breaker()
        self._unheard = 0
        self._since_look = 0
        self._look_at = self._may_look_at = float("-inf")
        self._is_foreign = False
        self._ask_at = float("-inf")

    def state(self) -> State:
        """Whether this line may be tried now."""
        return self._breaker.state(self._clock())

    async def ring(self, bells: Sequence[Bell]) -> Rung:
        """Send bells, within `DEADLINE`."""
        if self.state() is State.OPEN or await self._is_somebody_elses():
            return Rung(0, tuple(bells))
        try:
            async with asyncio.timeout(DEADLINE):
                rung = await self._send(bells)
        except (QueueError, TimeoutError) as error:
            self._breaker = self._breaker.failed(self._clock(), self._dice())
            self._failed(error if isinstance(error, QueueError) else self._late())
            return Rung(0, tuple(bells))
        if rung.left and not rung.sent:
            self._breaker = self._breaker.failed(self._clock(), self._dice())
            self._failed(QueueUnavailable(f"SQS takes no bell for queue {self._bells.queue!r}: it refuses each"))
        else:
            self._breaker = self._breaker.succeeded()
        return rung

    async def close(self) -> None:
        await self._bells.close()

    def _late(self) -> QueueError:
        return QueueUnavailable(f"SQS did not take bells for queue {self._bells.queue!r} within {DEADLINE:g} s")

    async def _send(self, bells: Sequence[Bell]) -> Rung:
        wanted = bells[: await self._room(len(bells))]
        if not wanted:
            return Rung()
        self._since_look += len(wanted)  # also where no answer comes: they may have been taken
        left = await self._bells.ring(wanted)
        return Rung(len(wanted) - len(left), tuple(left))

    async def _room(self, wanted: int) -> int:
        """How many bells may be sent. A quiet line is rung without a look first, which would make the bell late."""
        is_quiet = self._since_look + wanted <= min(WITHOUT_A_LOOK, self._most - self._unheard)
        if not is_quiet and self._clock() >= self._look_at:
            await self._look()
        return max(0, self._most - self._unheard - self._since_look)

    async def _look(self) -> None:
        self._unheard, self._since_look = await self._count(), 0
        is_enough = self._unheard >= self._most
        self._look_at = self._clock() + (ENOUGH_BELIEVED if is_enough else BELIEVED)

    async def _count(self) -> int:
        """Who may only send, and not look, is bound by the pace at which others do."""
        if self._clock() < self._may_look_at:
            return 0
        try:
            return await self._bells.unheard()
        except QueueRefused:
            self._may_look_at = self._clock() + MAY_NOT_LOOK
            return 0

    async def _is_somebody_elses(self) -> bool:
        if self._clock() >= self._ask_at:
            self._ask_at = self._clock() + OURS_FOR
            try:
                self._is_foreign = await is_foreign(self._ledger, self._bells.queue)
            except DatabaseError:
                return self._is_foreign
        return self._is_foreign
