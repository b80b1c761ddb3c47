"""The watcher: looks at the tables that other programs keep their jobs in, and takes back what is stuck there.

One process over all looks at each table in each interval. A look reads the stale rows, decides about each, and changes
the status of those that are still what was read, with the message for each in the same statement; the messages are sent
afterwards, from the ledger, at least once. A table that cannot be looked at is an incident, and stops no other.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from holdfast.core import watch_telling
from holdfast.core.incident import Finding, Pace
from holdfast.core.telling import many
from holdfast.core.watch import Rescue, StaleRow, Watch, decide_rescue
from holdfast.errors import DatabaseError
from holdfast.events import LedgerLost, Sinks, WatchedRowRescued, WatchedTableLost
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.watches import (
    Attempted,
    WatchEnded,
    begin_watches,
    end_watch,
    examine_watch,
    find_watched,
    forget_watch,
    list_watches,
    rescue_watched,
)
from holdfast.services.incidents import IncidentBook
from holdfast.services.watch_sender import WatchSender

_log = logging.getLogger("holdfast")

#: Rows of one look, and of one statement that takes them back; seconds between turns at least.
MOST, BATCH = 1000, 200
SHORTEST_TURN = 0.5


@dataclass(frozen=True)
class Looked:
    """What a look at one table came to. `stale`: rows that are stuck still; `advice`: how it would cost less.

    `rows`: those that it found. `refused`: why the table itself did not let rows be taken back, once for each of them.
    """

    stale: int = 0
    rescues: Sequence[Rescue] = ()
    advice: str | None = None
    rows: Sequence[StaleRow] = ()
    refused: Sequence[str] = ()

    @property
    def problem(self) -> str | None:
        """What keeps rows from being taken back."""
        if not self.refused:
            return None
        return f"{many(len(self.refused), 'row')} cannot be taken back: {self.refused[0]}"


class Watcher:
    """Watches until cancelled, each table each `interval` seconds over all processes."""

    def __init__(
        self,
        ledger: AsyncLedger,
        watches: Sequence[Watch],
        channels: Sequence[str],
        sinks: Sinks,
        *,
        interval: float,
        new_id: Callable[[], UUID],
        turned: Callable[[], None] = lambda: None,
        pace: Pace | None = None,
    ) -> None:
        self._ledger = ledger
        self._watches = {watch.name: watch for watch in watches}
        self._sinks = sinks
        self._interval = interval
        self._new_id = new_id
        self._turned = turned
        self._book = IncidentBook(ledger, channels, sinks, new_id=new_id, pace=pace)
        self.sender = WatchSender(ledger, sinks)

    async def run(self) -> None:
        sending = asyncio.create_task(self.sender.run(max(self._interval, SHORTEST_TURN)))
        try:
            while True:
                self._turned()
                try:
                    await self.step(sends=False)
                except DatabaseError as error:
                    self._sinks.emit(LedgerLost("watched tables", str(error)))
                except Exception:
                    _log.exception("the watcher failed in an unforeseen way, and goes on")
                await asyncio.sleep(max(self._interval / 2, SHORTEST_TURN))
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await self.sender.close()

    async def step(self, *, everything: bool = False, sends: bool = True) -> dict[str, Looked | str]:
        """Look at the tables whose turn it is (or at all), send what is to be sent, and tell of it.

        Returns what each look came to, or why it could not be. `sends`: whether it waits until messages are sent; else
        the sender's own loop is woken.
        """
        due = await self._ledger.call(begin_watches(list(self._watches.values()), self._interval))
        due = list(self._watches) if everything else due
        found: list[Finding] = []
        looks: dict[str, Looked | str] = {}
        for name in due:
            looks[name] = await self._guarded_look(self._watches[name])
            found += await self._note(self._watches[name], looks[name])
        if sends:
            await self.sender.step()
        else:
            self.sender.wake()
        if due:
            kinds = watch_telling.KINDS
            # What is open about a table that was taken out of the settings is over: nobody watches it any more.
            left = {each.name for each in await self._ledger.call(list_watches(abandoned=True))}
            await self._book.fold(found, kinds, {kind: {*due, *left} for kind in kinds})
        return looks

    async def forget(self, name: str) -> bool:
        """Nobody watches it any more, and what is open about it is over; whether it was known."""
        known = await self._ledger.call(forget_watch(name))
        await self._book.fold([], watch_telling.KINDS, {kind: {name} for kind in watch_telling.KINDS})
        return bool(known)

    async def _guarded_look(self, watch: Watch) -> Looked | str:
        try:
            return await self.look(watch)
        except DatabaseError as error:
            return str(error)
        except Exception as error:
            _log.exception("table %s cannot be looked at, for an unforeseen reason", watch.table)
            return f"an unforeseen error, {type(error).__name__}; see the log"

    async def _note(self, watch: Watch, looked: Looked | str) -> list[Finding]:
        if isinstance(looked, str):
            return await self._blind(watch, looked)
        for rescue in looked.rescues:
            self._sinks.emit(_told(watch, rescue))
        final = sum(rescue.is_final for rescue in looked.rescues)
        result: dict[str, object] = {"stale": looked.stale, "rescued": len(looked.rescues) - final, "given_up": final}
        if looked.problem is not None:
            self._sinks.emit(WatchedTableLost(watch.name, watch.table, looked.problem))
            result["problem"] = looked.problem
        (ended,) = await self._ledger.call(end_watch(watch.name, {**result, "advice": looked.advice}))
        found = _findings(watch, looked.stale, ended)
        if looked.problem is not None:
            found.append(watch_telling.refused(watch, looked.problem, ended.blind_since))
        return found

    async def look(self, watch: Watch, *, dry: bool = False) -> Looked | str:
        """One look at one table, or why it cannot be looked at. `dry`: nothing is changed."""
        problems = await self._ledger.call(examine_watch(watch))
        errors = [f"{each.problem}: {each.advice}" for each in problems if each.level == "error"]
        if errors:
            return "; ".join(errors)
        advice = next((each.advice for each in problems if each.level == "warn"), None)
        rows = await self._ledger.call(find_watched(watch, MOST))
        wanted = {self._new_id(): rescue for row in rows if (rescue := decide_rescue(watch, row)) is not None}
        if dry:
            return Looked(len(rows), list(wanted.values()), advice, rows)
        tried: list[Attempted] = []
        ids = list(wanted)
        for start in range(0, len(ids), BATCH):
            part = {id: wanted[id] for id in ids[start : start + BATCH]}
            tried += await self._ledger.call(rescue_watched(watch, part))
        done = [wanted[each.id] for each in tried if each.refused is None]
        refused = [each.refused for each in tried if each.refused is not None]
        return Looked(len(rows) - len(done), done, advice, rows, refused)

    async def _blind(self, watch: Watch, why: str) -> list[Finding]:
        self._sinks.emit(WatchedTableLost(watch.name, watch.table, why))
        ended = await self._ledger.call(end_watch(watch.name, {"problem": why}))
        return [watch_telling.blind(watch, why, each.blind_since) for each in ended]


def _findings(watch: Watch, stale: int, ended: WatchEnded) -> list[Finding]:
    stuck = watch_telling.stuck(watch, stale, ended.rescued, ended.given_up)
    found = [] if stuck is None else [stuck]
    if ended.unsent:
        found.append(watch_telling.unsent(watch, ended.unsent, ended.unsent_since, ended.unsent_why or ""))
    return found


def _told(watch: Watch, rescue: Rescue) -> WatchedRowRescued:
    row = rescue.row
    return WatchedRowRescued(watch.name, watch.table, row.row_id, row.status, rescue.to_status, row.silent_since)
