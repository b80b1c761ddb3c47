"""The health watch: looks at the ledger in the background, and keeps what it saw for whoever asks.

A request reads the last snapshot and runs no check, so an answer takes microseconds whatever hangs. Two looks share one
connection of their own: a ping each 2 seconds decides whether this process is ready, a report each 5 feeds the checks.
A look that fails leaves what was seen before to grow old, and too old is said to be not known.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from holdfast.core.health import Check, Ledger, Limits, Process, Report, Status, judge, worst
from holdfast.errors import DatabaseUnavailable, HoldfastError, SchemaMismatch
from holdfast.postgres import reads
from holdfast.postgres.health import health_report
from holdfast.postgres.ledger import AsyncLedger

_log = logging.getLogger("holdfast")

#: Seconds: between pings, between reports, until either is given up, and for how long a ping counts.
PING_EVERY = 2.0
REPORT_EVERY = 5.0
DEADLINE = 2.0
FRESH = 6.0
#: Seconds after which checks that were not judged anew are said not to run.
STUCK = 10.0


class NotReady(StrEnum):
    """Why an instance is not ready, as anybody may know it: no address, no text of an error."""

    STARTING = "starting"
    STALE = "check_is_stale"
    UNAVAILABLE = "database_unavailable"
    SCHEMA = "schema_mismatch"
    ERROR = "database_error"


_IN_WORDS = {
    NotReady.STARTING: "it has not answered yet: this process has just started",
    NotReady.STALE: "it has not been asked for a while: this process is too busy, or stuck",
    NotReady.UNAVAILABLE: "it does not answer",
    NotReady.SCHEMA: "its schema is not that of this version; run: holdfast migrate status",
    NotReady.ERROR: "it answers with an error; see the log",
}


@dataclass(frozen=True)
class Ping:
    """One ping that has ended: when (monotonic seconds), what was wrong (None: nothing), how long it took."""

    at: float
    problem: NotReady | None
    round_trip: float | None = None


@dataclass(frozen=True)
class Health:
    """What is known at `at` (monotonic seconds). `changed_at`: since when each check has its status."""

    at: float
    checks: tuple[Check, ...]
    changed_at: dict[str, datetime]
    report: Report | None = None

    @property
    def status(self) -> Status:
        return worst(self.checks)


def judge_ping(last: Ping | None, now: float) -> NotReady | None:
    """Whether an instance is ready at `now`; None is yes."""
    if last is None:
        return NotReady.STARTING
    if now - last.at >= FRESH:
        return NotReady.STALE
    return last.problem


class HealthWatch:
    """Watches one ledger. `process` tells what this process knows of itself."""

    def __init__(
        self,
        dsn: str,
        *,
        schema_version: int,
        stale_after: float = 600.0,
        limits: Limits | None = None,
        process: Callable[[], Process] = Process,
    ) -> None:
        self._ledger = AsyncLedger(dsn, name="holdfast health", deadline=DEADLINE)
        self._schema_version = schema_version
        self._stale_after = stale_after
        self._limits = limits or Limits()
        self._process = process
        self._ping: Ping | None = None
        self._report: tuple[float, Report] | None = None
        self._health = Health(time.monotonic(), (), {})
        self._task: asyncio.Task[None] | None = None
        self._judge()

    async def start(self) -> None:
        """Begin to look; returns at once."""
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
        return judge_ping(self._ping, time.monotonic())

    def health(self) -> Health:
        """What is known now. Checks that nobody judged for a while are a failure of their own."""
        known, now = self._health, time.monotonic()
        if now - known.at <= STUCK:
            return known
        stuck = Check("snapshot", Status.FAIL, f"the checks have not run for {now - known.at:.0f} s")
        return replace(known, checks=(*known.checks, stuck))

    @property
    def report(self) -> Report | None:
        """The last report, unless it is too old to be believed."""
        if self._report is None or time.monotonic() - self._report[0] > self._limits.blind_after:
            return None
        return self._report[1]

    async def ping(self) -> Ping:
        """One ping."""
        before, began = self._ping, time.monotonic()
        problem = await self._ask()
        now = time.monotonic()
        self._ping = Ping(now, problem, None if problem else now - began)
        if before is None or before.problem is not problem:
            _log.log(logging.WARNING if problem else logging.INFO, "readiness %s", problem or "pass")
        self._judge()
        return self._ping

    async def look(self) -> None:
        """One report. Where it does not come, the last one grows old."""
        try:
            report = await self._ledger.one(health_report(self._stale_after))
        except HoldfastError as error:
            _log.debug("the health report did not come: %s", error)
        except Exception:
            _log.exception("the health report failed in an unforeseen way")
        else:
            self._report = (time.monotonic(), report)
        self._judge()

    async def _run(self) -> None:
        report_due = 0.0
        while True:
            began = time.monotonic()
            if (await self.ping()).problem is None and began >= report_due:
                report_due = began + REPORT_EVERY
                await self.look()
            await asyncio.sleep(max(0.0, began + PING_EVERY - time.monotonic()))

    def _judge(self) -> None:
        now = time.monotonic()
        problem = judge_ping(self._ping, now)
        at, report = self._report or (None, None)
        checks = judge(
            Ledger(problem and _IN_WORDS[problem], self._ping.round_trip if self._ping else None),
            report,
            None if at is None else now - at,
            self._process(),
            self._limits,
        )
        self._health = Health(now, checks, self._changes(checks), report)

    def _changes(self, checks: tuple[Check, ...]) -> dict[str, datetime]:
        before = {check.name: check.status for check in self._health.checks}
        moment = datetime.now(UTC)
        kept = self._health.changed_at
        return {check.name: kept[check.name] if before.get(check.name) is check.status else moment for check in checks}

    async def _ask(self) -> NotReady | None:
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
