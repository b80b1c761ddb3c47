"""What the health probes answer: decided from a snapshot that a background task keeps, never by asking then and there.

`/livez` passes while the event loop turns. `/readyz` passes while the last ping of the ledger succeeded and is younger
than FRESH seconds; otherwise it fails with one of the reasons below, which tell nothing of the database.
"""

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from enum import StrEnum

from holdfast.errors import DatabaseUnavailable, HoldfastError, SchemaMismatch
from holdfast.postgres import reads
from holdfast.postgres.ledger import AsyncLedger

_log = logging.getLogger("holdfast")

#: Seconds: between pings, until one is given up, and for how long an answer counts.
EVERY = 2.0
DEADLINE = 2.0
FRESH = 6.0


class NotReady(StrEnum):
    """Why an instance is not ready, as anybody may know it: no address, no text of an error."""

    STARTING = "starting"
    STALE = "check_is_stale"
    UNAVAILABLE = "database_unavailable"
    SCHEMA = "schema_mismatch"
    ERROR = "database_error"


@dataclass(frozen=True)
class Ping:
    """One ping that has ended: when (monotonic seconds), and what was wrong (None: nothing)."""

    at: float
    problem: NotReady | None


def judge(last: Ping | None, now: float) -> NotReady | None:
    """Whether an instance is ready at `now`; None is yes."""
    if last is None:
        return NotReady.STARTING
    if now - last.at >= FRESH:
        return NotReady.STALE
    return last.problem


class LedgerProbe:
    """Pings the ledger in the background, over a connection of its own."""

    def __init__(self, dsn: str, *, schema_version: int) -> None:
        self._ledger = AsyncLedger(dsn, name="holdfast probe", deadline=DEADLINE)
        self._schema_version = schema_version
        self._last: Ping | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to ping; returns at once."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End, and close the connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._ledger.close()

    def readiness(self) -> NotReady | None:
        """Why this instance is not ready, from the last ping; None is ready."""
        return judge(self._last, time.monotonic())

    async def step(self) -> Ping:
        """One ping."""
        before, problem = self._last, await self._ping()
        self._last = Ping(time.monotonic(), problem)
        if before is None or before.problem is not problem:
            _log.log(logging.WARNING if problem else logging.INFO, "readiness %s", problem or "pass")
        return self._last

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            await self.step()
            await asyncio.sleep(max(0.0, began + EVERY - time.monotonic()))

    async def _ping(self) -> NotReady | None:
        try:
            pong = await self._ledger.one(reads.ping())
        except DatabaseUnavailable:
            return NotReady.UNAVAILABLE
        except SchemaMismatch:
            return NotReady.SCHEMA
        except HoldfastError:
            return NotReady.ERROR
        except Exception:
            _log.exception("the readiness check failed in an unforeseen way")
            return NotReady.ERROR
        return None if pong.schema_version == self._schema_version else NotReady.SCHEMA
