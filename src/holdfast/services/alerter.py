"""The alerter: delivers notifications at least once, each to its channel, one after the other, or many as a digest.

They are rows in the ledger, written with what they tell of. A channel that is away delays them and loses none; the
pause that it asks for (Retry-After) is kept by all alerters, for all that waits for it. A channel that refuses for good
is said to be broken, here and by the health report, and is tried again from time to time: somebody may have mended it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from holdfast.core import telling
from holdfast.errors import DatabaseError
from holdfast.events import LedgerLost, NotificationDelivered, NotificationFailed, Sinks
from holdfast.notify.channel import Again, Broken, Channel, Delivered, Outcome
from holdfast.postgres.dead_letters import (
    Notification,
    adopt_notifications,
    announce_channels,
    claim_notifications,
    pause_channel,
    settle_notification,
)
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.incidents import IncidentBook

_log = logging.getLogger("holdfast")

#: Seconds: between looks for what is due, of the claim on a notification.
EVERY = 1.0
ANNOUNCE_EVERY = 15.0
LEASE = 60.0
FIRST_PAUSE, LONGEST_PAUSE, BROKEN_PAUSE = 5.0, 600.0, 300.0
#: Posts of one step, which together take less time than a claim lasts. Where more is due, it is one post, a digest, of
#: so many incidents at most.
BATCH, DIGEST = 4, 100


class Alerter:
    """Delivers to `channels`, by name, until cancelled."""

    def __init__(
        self,
        ledger: AsyncLedger,
        channels: Mapping[str, Channel],
        sinks: Sinks,
        *,
        new_id: Callable[[], UUID],
        pace: float | None = None,
        turned: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._channels = channels
        self._sinks = sinks
        self._pace = pace
        self._book = IncidentBook(ledger, list(channels), sinks, new_id=new_id)
        self._broken: dict[str, bool | None] = dict.fromkeys(channels)
        self._turned = turned

    async def run(self) -> None:
        announced_at = float("-inf")
        try:
            while True:
                self._turned()
                try:
                    if time.monotonic() - announced_at >= ANNOUNCE_EVERY:
                        await self._ledger.call(announce_channels(list(self._channels), ANNOUNCE_EVERY))
                        await self._ledger.call(adopt_notifications(next(iter(self._channels))))
                        announced_at = time.monotonic()
                    if await self.step():
                        continue
                except DatabaseError as error:
                    self._sinks.emit(LedgerLost("alerter", str(error)))
                except Exception:
                    _log.exception("the alerter failed in an unforeseen way, and goes on")
                await asyncio.sleep(EVERY)
        finally:
            for channel in self._channels.values():
                await channel.close()

    async def step(self) -> int:
        """Try what is due, channel by channel; how many notifications were delivered."""
        delivered = 0
        for name in self._channels:
            most = DIGEST if self._channels[name].takes_digests else BATCH
            claimed = await self._ledger.call(claim_notifications([name], most, LEASE))
            if len(claimed) > BATCH:
                delivered += await self._try(name, claimed)
                continue
            for number, notification in enumerate(claimed):
                if not await self._try(name, [notification]):
                    await self._put_back(claimed[number + 1 :])
                    break
                delivered += 1
        return delivered

    async def _put_back(self, those: Sequence[Notification]) -> None:
        """They were not tried: the one before them was not taken."""
        for notification in those:
            await self._ledger.call(settle_notification(notification.id, "it waits for the channel", FIRST_PAUSE))

    async def _try(self, name: str, those: Sequence[Notification]) -> int:
        """One post of one notification, or of many."""
        one = those[0] if len(those) == 1 else None
        if one is not None:
            content = {**one.content, "incident": str(one.incident_id), "notification": str(one.id)}
        else:
            content = telling.digest([(each.reason, each.content) for each in those])
        outcome = await self._channels[name].send(one.reason if one else digest_reason(those), content)
        for notification in those:
            await self._settle(notification, outcome)
        if isinstance(outcome, Again) and outcome.after is not None:
            await self._ledger.call(pause_channel(name, outcome.after))
        await self._note(name, outcome)
        self._turned()
        await asyncio.sleep(self._channels[name].pace if self._pace is None else self._pace)
        return len(those) if isinstance(outcome, Delivered) else 0

    async def _note(self, name: str, outcome: Outcome) -> None:
        """That a channel refuses is an incident, for the other channels; and that it takes what it is sent again."""
        is_broken = isinstance(outcome, Broken)
        if isinstance(outcome, Again) or self._broken[name] is is_broken:
            return
        found = [telling.broken(name, outcome.why)] if isinstance(outcome, Broken) else []
        await self._book.fold(found, [telling.BROKEN], {telling.BROKEN: {name}})
        self._broken[name] = is_broken

    async def _settle(self, notification: Notification, outcome: Outcome) -> None:
        error, pause = _what_next(outcome, notification.attempts)
        await self._ledger.call(settle_notification(notification.id, error, pause))
        if error is None:
            self._sinks.emit(NotificationDelivered(notification.channel, notification.reason, notification.attempts))
        else:
            self._sinks.emit(NotificationFailed(notification.channel, error, notification.attempts, pause or 0.0))


def digest_reason(those: Sequence[Notification]) -> str:
    """Why a digest is sent: as the most urgent one in it."""
    reasons = {each.reason for each in those}
    return next(reason for reason in ("first", "worse", "repeat", "resolved", "test") if reason in reasons)


def _what_next(outcome: Outcome, attempts: int) -> tuple[str | None, float | None]:
    """The error, and in how many seconds to try again."""
    match outcome:
        case Delivered():
            return None, None
        case Again(why, after):
            return why, after or min(FIRST_PAUSE * 2 ** min(attempts - 1, 10), LONGEST_PAUSE)
        case Broken(why):
            return why, BROKEN_PAUSE
