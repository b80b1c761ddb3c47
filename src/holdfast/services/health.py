"""The health watch: looks at the ledger in the background, and keeps what it saw for whoever asks.

A request reads the last snapshot and runs no check, so an answer takes microseconds whatever hangs. Each look has its
own rhythm and deadline: a ping each 2 seconds decides whether the ledger answers, the parts of a report feed the
checks. They share one connection of their own, one after the other, the ping first, so that a look that hangs delays
the others by its deadline at most; it is asked for more rarely then. A look that fails leaves what was seen before to
grow old, and too old is said to be not known. A check that nobody judged for a while is a failure of its own.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from holdfast.core.health import PARTS, Check, Ledger, Limits, Process, Report, Status, worst
from holdfast.core.health_checks import LOOK_OF, SEVERITIES, judge
from holdfast.core.readiness import IN_WORDS, NotReady, Ping, judge_ping, judge_readiness
from holdfast.core.steadiness import Steady, steady
from holdfast.errors import DatabaseUnavailable, HoldfastError, SchemaMismatch
from holdfast.postgres import reads
from holdfast.postgres.health import health_part
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.background import Background

_log = logging.getLogger("holdfast")

#: Parts of a report that change slowly.
_SLOW = {"server", "jobs", "limits"}
#: Times of its rhythm that a look which failed waits longer, at most.
MOST_BACK_OFF = 3
#: Seconds that what is known is kept put together, unless something is judged before.
KEPT_FOR = 0.25


@dataclass(frozen=True)
class Rhythm:
    """How often the watch looks, and when it gives up. Times in seconds.

    `ping`, `look`, `slow`: between pings, looks, and looks at what changes slowly; `itself`: between looks of this
    process at itself, when it sees how much its event loop lags. `stuck`: a check that was not judged anew for so long
    is said not to run, and after three times that its loop is.
    """

    ping: float = 2.0
    ping_deadline: float = 2.0
    look: float = 5.0
    slow: float = 10.0
    look_deadline: float = 1.5
    itself: float = 0.5
    stuck: float = 20.0


@dataclass(frozen=True)
class Health:
    """What is known at `at` (monotonic seconds). `changed_at`: since when each check has its status."""

    at: float
    checks: tuple[Check, ...]
    changed_at: dict[str, datetime]

    @property
    def status(self) -> Status:
        return worst(self.checks)


@dataclass
class Look:
    """One look's rhythm, and when it is due, came about last and was judged last (monotonic seconds)."""

    name: str
    every: float
    due_at: float = 0.0
    seen_at: float | None = None
    judged_at: float | None = None
    took: float = 0.0
    failed: int = 0
    error_id: str = ""


class HealthWatch:
    """Watches one ledger. `process` tells what this process knows of itself."""

    def __init__(
        self,
        dsn: str,
        *,
        schema_version: int,
        stale_after: float = 600.0,
        limits: Limits | None = None,
        rhythm: Rhythm | None = None,
        process: Callable[[], Process] = Process,
    ) -> None:
        self._rhythm = rhythm or Rhythm()
        self._ledger = AsyncLedger(dsn, name="holdfast health", deadline=self._rhythm.ping_deadline)
        self._schema_version = schema_version
        self._stale_after = stale_after
        self._limits = limits or Limits()
        self._process = process
        self._ping: Ping | None = None
        self._schema_seen: int | None = None
        self._report = Report()
        every = {**dict.fromkeys(PARTS, self._rhythm.look), **dict.fromkeys(_SLOW, self._rhythm.slow)}
        every |= {"ping": self._rhythm.ping, "process": self._rhythm.itself}
        self._looks = {name: Look(name, seconds) for name, seconds in every.items()}
        self._told: dict[str, Steady] = {}
        self._kept: tuple[float, Health] | None = None
        self._loops = Background("health looks"), Background("health of this process")
        self.loop_lag = 0.0
        self.started = False
        self.draining = False

    async def start(self) -> None:
        """Begin to look; returns at once."""
        for loop, run in zip(self._loops, (self._run, self._watch_itself), strict=True):
            loop.start(run())
        self.started = True

    async def stop(self) -> None:
        """End, and close the connection."""
        for loop in self._loops:
            await loop.stop()
        await self._ledger.close()

    # What is known ------------------------------------------------------------

    def readiness(self, *, database: bool = False) -> NotReady | None:
        """Why this instance is not ready; None is ready. `database`: the ledger must answer, too."""
        schema = (self._schema_seen, self._schema_version)
        now = time.monotonic()
        return judge_readiness(self._ping, now, schema, draining=self.draining, database=database)

    def stuck(self) -> list[str]:
        """What of this process's own loops does not turn: nothing of it is anybody else's fault."""
        now = time.monotonic()
        loops = [loop.problem for loop in self._loops if loop.problem]
        late = [
            f"{look.name} was not looked at for {now - look.judged_at:.0f} s"
            for look in self._looks.values()
            if look.judged_at is not None and now - look.judged_at > 3 * self._rhythm.stuck
        ]
        return loops + late

    def health(self) -> Health:
        """What is known now. Checks that nobody judged for a while are failures."""
        now = time.monotonic()
        if self._kept is None or now - self._kept[0] > KEPT_FOR:
            self._kept = now, self._put_together(now)
        return self._kept[1]

    def _put_together(self, now: float) -> Health:
        checks = [check for name in LOOK_OF if (check := self._check(name, now)) is not None]
        at = min((look.judged_at for look in self._looks.values() if look.judged_at is not None), default=now)
        since = {name: each.changed_at for name, each in self._told.items()}
        newest = self._looks["ping"].judged_at
        return Health(at if newest is None else newest, tuple(checks), since)

    def _check(self, name: str, now: float) -> Check | None:
        look, told = self._looks[LOOK_OF[name]], self._told.get(name)
        if look.judged_at is None:
            ours = look.name == "process"
            return None if ours else Check(name, Status.FAIL, "not known: never seen", severity=SEVERITIES[name])
        if told is None:
            return None
        if now - look.judged_at > self._rhythm.stuck:
            words = f"this check has not run for {now - look.judged_at:.0f} s"
            return replace(told.told, status=Status.FAIL, output=words)
        return told.told

    @property
    def report(self) -> Report | None:
        """All parts of a report, once each was seen."""
        return self._report if all(self._looks[part].seen_at is not None for part in PARTS) else None

    def knows(self, part: str) -> bool:
        """Whether a part of the report was seen not too long ago to be believed."""
        age = self.age(part)
        return age is not None and age <= self._limits.blind_after

    @property
    def seen(self) -> Report:
        """The last that was seen; ask `knows` for each part of it."""
        return self._report

    def looks(self) -> Sequence[Look]:
        """The looks and how they went, for metrics."""
        return tuple(self._looks.values())

    @property
    def schema(self) -> tuple[int | None, int]:
        """The ledger's level as it was seen last, and ours."""
        return self._schema_seen, self._schema_version

    def age(self, part: str) -> float | None:
        """Seconds since a look came about; None: never."""
        seen_at = self._looks[part].seen_at
        return None if seen_at is None else time.monotonic() - seen_at

    # Looking ------------------------------------------------------------

    async def ping(self) -> Ping:
        """One ping."""
        before, look, began = self._ping, self._looks["ping"], time.monotonic()
        problem = await self._ask()
        now = time.monotonic()
        self._ping = Ping(now, problem, None if problem else now - began)
        look.took, look.seen_at = now - began, now if problem is None else look.seen_at
        look.due_at = began + look.every
        if before is None or before.problem is not problem:
            _log.log(logging.WARNING if problem else logging.INFO, "the ledger's ping: %s", problem or "pass")
        self._fold("ping")
        return self._ping

    async def look(self, part: str) -> None:
        """One look at a part of the report. Where it does not come, the last one grows old."""
        look, began = self._looks[part], time.monotonic()
        try:
            found = await self._ledger.call(health_part(part, self._stale_after), deadline=self._rhythm.look_deadline)
        except Exception as error:
            look.failed += 1
            look.error_id = secrets.token_hex(4)
            level = logging.INFO if isinstance(error, HoldfastError) else logging.ERROR
            _log.log(level, "the health look at %s did not come (error %s): %s", part, look.error_id, error)
        else:
            self._report = replace(self._report, **found[0])
            look.seen_at, look.failed = time.monotonic(), 0
        look.took = time.monotonic() - began
        look.due_at = began + look.every * (1 + min(look.failed, MOST_BACK_OFF))
        self._fold(part)

    async def refresh(self) -> None:
        """Look at everything now, and tell what is seen at once, whatever was told before."""
        self._told.clear()
        await self.ping()
        for part in PARTS:
            await self.look(part)
        self._told.clear()
        for name in self._looks:
            self._fold(name)

    async def _run(self) -> None:
        ping, parts = self._looks["ping"], [self._looks[part] for part in PARTS]
        while True:
            self._loops[0].turned()
            if ping.due_at <= time.monotonic():
                await self.ping()
            due = [look for look in parts if look.due_at <= time.monotonic()]
            if self._ping is None or self._ping.problem is not None:
                self._skip(due)
            elif due:
                await self.look(min(due, key=lambda each: each.due_at).name)
            soonest = min(look.due_at for look in (ping, *parts))
            await asyncio.sleep(max(0.0, soonest - time.monotonic()))

    def _skip(self, due: Iterable[Look]) -> None:
        """While the ledger does not answer a ping, nothing else is asked of it; what was seen grows old."""
        for look in due:
            look.due_at = time.monotonic() + look.every
            self._fold(look.name)

    async def _watch_itself(self) -> None:
        every = self._rhythm.itself
        while True:
            self._loops[1].turned()
            before = time.monotonic()
            self._fold("process")
            await asyncio.sleep(every)
            self.loop_lag = max(0.0, time.monotonic() - before - every)

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
        self._schema_seen = pong.schema_version
        return None if pong.schema_version >= self._schema_version else NotReady.SCHEMA

    # Judging ------------------------------------------------------------

    def _fold(self, look: str) -> None:
        """Judge anew what this look tells of."""
        self._kept = None
        moment = datetime.now(UTC)
        try:
            process = self._process()
            checks = judge(self._judged_ledger(), self._report, process, self._limits, self.age)
        except Exception:
            _log.exception("the health checks failed in an unforeseen way")
            return
        for check in checks:
            if LOOK_OF[check.name] == look:
                seen = self._with_error(check, look)
                worsen, clear = self._limits.worsen, self._limits.clear
                before = self._told.get(check.name)
                self._told[check.name] = steady(before, seen, moment, worsen=worsen, clear=clear)
        self._looks[look].judged_at = time.monotonic()

    def _with_error(self, check: Check, look: str) -> Check:
        """Of an error of ours only its number is told; the text is in the log."""
        error_id = self._looks[look].error_id if self._looks[look].failed else ""
        if not (error_id and check.output.startswith("not known")):
            return check
        return replace(check, output=f"{check.output} (error {error_id} in the log)")

    def _judged_ledger(self) -> Ledger:
        problem = judge_ping(self._ping, time.monotonic())
        words = None if problem in (None, NotReady.SCHEMA) else IN_WORDS[problem]
        return Ledger(
            words,
            self._ping.round_trip if self._ping else None,
            IN_WORDS[problem] if problem is NotReady.SCHEMA else None,
            self._schema_seen,
            self._schema_version,
        )
