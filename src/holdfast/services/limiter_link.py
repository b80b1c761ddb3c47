"""The rate limiter's link to Postgres: its own connections, its beat, and its breaker.

A flight that fails opens the breaker at once, and so does the fifth in a row that is late. While it is open, a task in
the background and never a request finds out whether Postgres is back: it must accept a write, and answer an empty
flight within the deadline of a real one.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Mapping
from typing import Protocol, TypeVar
from uuid import UUID, uuid4

from holdfast.errors import DatabaseError, SchemaMismatch
from holdfast.postgres import calls, rate_limit
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.background import Background

_log = logging.getLogger("holdfast")
Row = TypeVar("Row")

#: Seconds: between beats, for a look at whether Postgres is back, between such looks, for an administrator's call.
BEAT = 1.0
PROBE_DEADLINE = 5.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
ADMIN_DEADLINE = 10.0
#: The least that a decision gets where each is a request over HTTPS.
HTTPS_DEADLINE = 0.5
#: Seconds for what is told at the end.
LAST_WORDS = 2.0
#: Late flights in a row that open the breaker.
MOST_LATE = 5


class _Limiter(Protocol):
    """What the link needs of the limiter."""

    id: UUID

    def switch(self, *, alone: bool, why: str, instances: int, tell: bool) -> None: ...
    def forget(self) -> None: ...
    def rehash(self) -> None: ...
    def untold(self) -> tuple[Mapping[tuple[str, str, str], int], dict[tuple[str, str], int]]: ...


class Link:
    """Whether Postgres decides. `instances`: processes that lived when it was last asked; `since`: monotonic time."""

    def __init__(self, limiter: _Limiter, dsn: str, most_identities: int) -> None:
        self._limiter = limiter
        self._ledger = AsyncLedger(dsn, name="holdfast limiter", deadline=PROBE_DEADLINE)
        self._spare = AsyncLedger(dsn, name="holdfast limiter", deadline=PROBE_DEADLINE)
        self._most_identities = most_identities
        self.secret: bytes | None = None
        self.instances = 1
        self.is_full = False
        self.lacks_schema = False
        self.why = "it has not looked for Postgres yet"
        self.since = time.monotonic()
        self._generation = 0
        self._told: dict[tuple[str, str, str], int] = {}
        self._is_up = False
        self._is_late = False
        self._is_alone = True
        self._late_in_a_row = 0
        self._lost = asyncio.Event()
        self._looked = asyncio.Event()
        self.loop = Background("the rate limiter's link")
        self.has_begun = False
        self._began = 0.0
        self.deadline = 0.05

    def start(self) -> None:
        """Begin to look."""
        self.has_begun = True
        self._began = time.monotonic()
        # Made here and not with the limiter: processes that were forked after that are not one.
        self._limiter.id = uuid4()
        self._lost.set()
        self._looked.clear()
        self.loop.start(self._run())

    async def looked(self, timeout: float) -> None:
        """Wait until the first look has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._looked.wait()

    @property
    def has_looked(self) -> bool:
        """Whether the first look has ended."""
        return self._looked.is_set()

    async def first_look(self) -> None:
        """Begin, where nobody has, and wait for the first look, as long as a decision of Postgres may take.

        Else the first requests of each new process would be decided in memory though Postgres answers.
        """
        if not self.has_begun:
            self.start()
        left = self._began + 2 * self.deadline - time.monotonic()
        if left > 0:
            await self.looked(left)

    async def stop(self) -> None:
        """Say good-bye and close."""
        await self.loop.stop()
        if self._is_up:
            with contextlib.suppress(DatabaseError, TimeoutError):
                async with asyncio.timeout(LAST_WORDS):
                    await self._beat()
                    await self._ledger.call(rate_limit.rate_limit_leave(self._limiter.id))
        self._is_up = False
        await self._ledger.close()
        await self._spare.close()

    @property
    def is_up(self) -> bool:
        """Whether flights may leave."""
        return self._is_up and not self._is_late

    async def call(self, call: calls.Call[Row], *, spare: bool = False) -> list[Row]:
        """Run a call on a connection of the limiter's own; it is given up after 5 seconds."""
        return await (self._spare if spare else self._ledger).call(call)

    def late(self) -> None:
        """A flight is overdue: memory decides until it lands."""
        self._is_late = True
        self._switch(alone=True, why="a flight is late", tell=False)

    def landed(self, *, late: bool, others_late: bool) -> None:
        """A flight has landed."""
        self._is_late = others_late
        self._late_in_a_row = self._late_in_a_row + 1 if late else 0
        if self._late_in_a_row >= MOST_LATE:
            self._late_in_a_row = 0
            self.lost(f"{MOST_LATE} flights in a row were late")
        elif late and not others_late and self._is_up:
            self._switch(alone=False, why="the late flight has landed", tell=False)

    def lost(self, why: str) -> None:
        """Open the breaker."""
        self._is_up = self._is_late = False
        self._switch(alone=True, why=why)
        self._lost.set()

    def _switch(self, *, alone: bool, why: str, tell: bool = True) -> None:
        if alone is not self._is_alone:
            self._is_alone, self.since = alone, time.monotonic()
        self.why = why
        self._limiter.switch(alone=alone, why=why, instances=self.instances, tell=tell)

    async def _run(self) -> None:
        pause = SHORTEST_PAUSE
        while True:
            self.loop.turned()
            try:
                if self._lost.is_set():
                    # The first look is at once; later ones wait longer and longer, until a beat was accepted again.
                    if pause > SHORTEST_PAUSE:
                        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                    pause = min(pause * 2, LONGEST_PAUSE)
                    if not await self._is_back():
                        continue
                    self._lost.clear()
                    self._is_up, self._is_late = True, False
                    self._switch(alone=False, why="it answers")
                    self._looked.set()
                # Not wait_for: where the wait ends as its task is cancelled, that forgets the cancellation.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT * random.uniform(0.9, 1.1)):  # noqa: S311
                        await self._lost.wait()
                    continue
                await self._beat()
                pause = SHORTEST_PAUSE
            except DatabaseError as error:
                self.lost(str(error))
            except Exception:
                _log.exception("the rate limiter's look for Postgres failed in an unforeseen way")
                await asyncio.sleep(LONGEST_PAUSE)

    async def _is_back(self) -> bool:
        try:
            await self._beat()
            began = time.monotonic()
            await self._ledger.call(rate_limit.rate_limit_hits([], [], [], [], []))
            self.lacks_schema = False
            return time.monotonic() - began <= max(self.deadline, SHORTEST_PAUSE / 2)
        except DatabaseError as error:
            self.why, self.lacks_schema = str(error), isinstance(error, SchemaMismatch)
            return False
        finally:
            self._looked.set()

    async def _beat(self) -> None:
        counts, refused = self._limiter.untold()
        now = dict(counts)
        news = {place: count - self._told.get(place, 0) for place, count in now.items()}
        news = {place: count for place, count in news.items() if count}
        call = rate_limit.rate_limit_beat(self._limiter.id, news, refused, self._most_identities)
        link = await self._ledger.one(call)
        self._told = now
        self.instances, self.is_full = max(link.instances, 1), link.is_full
        if self.secret != bytes(link.secret):
            self.secret = bytes(link.secret)
            self._limiter.rehash()
        if link.generation != self._generation:
            self._generation = link.generation
            self._limiter.forget()
