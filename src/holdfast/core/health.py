"""What health is made of: checks with their verdicts, and what was seen that they are judged by. No I/O, no clock.

A look at the ledger brings a `Report`, a ping tells whether it answers; from both, and from what a process knows of
itself, each check is judged (core/health_checks.py). The whole is as good as its worst check, each as far as its
severity goes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from holdfast.core.ratelimit import Source
from holdfast.errors import ConfigurationError


class Status(StrEnum):
    """As in draft-inadarei-api-health-check-06: warn is still healthy, fail is not."""

    PASS = "pass"  # noqa: S105
    WARN = "warn"
    FAIL = "fail"


class Severity(StrEnum):
    """What a check that fails means for the whole: it fails, it is degraded (warn), or nothing."""

    CRITICAL = "critical"
    DEGRADED = "degraded"
    INFO = "info"


_ORDER = {Status.PASS: 0, Status.WARN: 1, Status.FAIL: 2}
_MOST = {Severity.CRITICAL: Status.FAIL, Severity.DEGRADED: Status.WARN, Severity.INFO: Status.PASS}


@dataclass(frozen=True)
class Check:
    """One check's verdict.

    `output` says why it did not pass; `observed` are numbers for people and programs.
    """

    name: str
    status: Status
    output: str = ""
    observed: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity = Severity.CRITICAL

    @property
    def weight(self) -> Status:
        """What it means for the whole."""
        return min(self.status, _MOST[self.severity], key=_ORDER.__getitem__)


def worst(checks: Sequence[Check]) -> Status:
    """The status of the whole.

    >>> worst([Check("a", Status.PASS), Check("b", Status.FAIL, severity=Severity.DEGRADED)])
    <Status.WARN: 'warn'>
    """
    return max((check.weight for check in checks), key=_ORDER.__getitem__, default=Status.PASS)


@dataclass(frozen=True)
class QueueLimits:
    """How long a queue's due job may wait, in seconds, until its check warns, and until it fails (None: never)."""

    warn_after: float = 300.0
    fail_after: float | None = None


def parse_queue_limits(text: str) -> tuple[str, QueueLimits]:
    """A queue with limits of its own: name=seconds, or name=seconds:seconds. Raises `ConfigurationError`.

    >>> parse_queue_limits("mail=60:600")
    ('mail', QueueLimits(warn_after=60.0, fail_after=600.0))
    """
    name, _, given = text.rpartition("=")
    warn, _, fail = given.partition(":")
    try:
        limits = QueueLimits(float(warn), float(fail) if fail else None)
    except ValueError:
        limits = QueueLimits(-1.0)
    if not name or not 0 < limits.warn_after < (limits.fail_after or float("inf")):
        raise ConfigurationError(
            f"{text[:100]!r} are no limits of a queue; write NAME=SECONDS, or NAME=SECONDS:SECONDS to warn and to fail"
        )
    return name, limits


@dataclass(frozen=True)
class Limits:
    """Where a check stops to pass. Times in seconds.

    `queue`: how long a due job may wait; `queues`: in these it is another time. `unserved_after`: it may wait for so
    long where nobody takes it. `restart_within`: for so long there may be no worker at all, as while they are
    restarted. `blind_after`: a look at the ledger counts for so long. `bell_after`: a bell may go unheard for so long.
    `worsen`, `clear`: looks in a row that a verdict must last before it is told.
    """

    queue: QueueLimits = field(default_factory=QueueLimits)
    queues: Mapping[str, QueueLimits] = field(default_factory=dict)
    bell_after: float = 60.0
    unserved_after: float = 60.0
    restart_within: float = 15.0
    blind_after: float = 30.0
    slow_ping: float = 0.5
    replication_lag: float = 60.0
    worsen: int = 2
    clear: int = 2


@dataclass(frozen=True)
class Postgres:
    """The server. `oldest_transaction` in seconds, of all clients; `replication_lag`, of the slowest standby."""

    version: int = 0
    connections: int = 0
    max_connections: int = 100
    oldest_transaction: float = 0.0
    standbys: int = 0
    replication_lag: float | None = None


@dataclass(frozen=True)
class Workers:
    """Worker processes that were not declared gone. `silent`: past their lost_after. `slots`: of the live ones.

    `lost`: those that died or fell silent within the hour.
    """

    live: int = 0
    silent: int = 0
    draining: int = 0
    slots: int = 0
    longest_lag: float = 0.0
    idle: int = 0
    lost: int = 0


@dataclass(frozen=True)
class Queue:
    """One queue.

    `queued` is counted to `counted_to`; `room`: free slots of the workers that serve it; `due_for`: how long its oldest
    due job waits; `asked_ago`: the last claim; `rung_ago`: the last bell; `longest_run`: how long its oldest run lasts;
    `longest_silence`: since the oldest sign of life of one that runs.
    """

    name: str
    paused: bool
    queued: int
    running: int
    workers: int
    room: int
    due_for: float | None
    asked_ago: float | None
    rung_ago: float | None = None
    longest_run: float | None = None
    longest_silence: float | None = None
    counted_to: int = 1000


@dataclass(frozen=True)
class UnknownKind:
    """Due jobs of a kind that no live worker of their queue knows."""

    queue: str
    kind: str
    due_for: float


@dataclass(frozen=True)
class Ended:
    """What became of jobs within the last hour, as their workers counted. `since`: seconds, to the first of it.

    `failed`: attempts. `waits` and `runs`: counts by the bounds of core/histogram.py.
    """

    since: float | None = None
    succeeded: int = 0
    failed: int = 0
    dead: int = 0
    cancelled: int = 0
    waits: tuple[int | None, ...] = ()
    runs: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class JobTotal:
    """What became of the jobs of one queue and kind since they are counted. `waited` and `ran` in seconds."""

    queue: str
    kind: str
    succeeded: int
    failed: int
    dead: int
    cancelled: int
    waited: float
    ran: float
    waits: tuple[int, ...]
    runs: tuple[int, ...]


@dataclass(frozen=True)
class Stale:
    """Running jobs that somebody must take back now, by reason."""

    count: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class WatchedTable:
    """Another program's table that is watched, as it was seen last; else `problem` says why. Times in seconds."""

    name: str
    table: str
    action: str
    every: float
    looked_ago: float | None
    stale: int
    rescued: int
    given_up: int
    unsent: int
    problem: str | None


@dataclass(frozen=True)
class Monitor:
    """One monitor over all processes. `every`: how often it is meant to sweep, where it has a rhythm of its own."""

    name: str
    every: float | None
    swept_ago: float | None
    is_held: bool
    last_result: Mapping[str, Any]


@dataclass(frozen=True)
class LetterQueue:
    """A dead-letter queue of SQS: its messages, counted to 1,000, and the age of the oldest in seconds."""

    name: str
    letters: int
    oldest: float


@dataclass(frozen=True)
class Notifications:
    """Those that were not delivered yet, counted to 1,000. `failing`: tried in vain; `oldest` in seconds."""

    waiting: int = 0
    failing: int = 0
    oldest: float = 0.0
    last_error: str | None = None


@dataclass(frozen=True)
class Incident:
    """One that is open. `open_for` in seconds."""

    kind: str
    title: str
    open_for: float


@dataclass(frozen=True)
class LimitTotal:
    """Decisions of the rate limiters of all processes, of one policy, by who decided and how."""

    policy: str
    source: str
    outcome: str
    decisions: int


@dataclass(frozen=True)
class Report:
    """What looks at the ledger brought (the SQL functions health_*). Times in seconds.

    Each `PARTS` brings some of it, so that one that hangs does not hide the others.
    """

    clock: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    postgres: Postgres = field(default_factory=Postgres)
    workers: Workers = field(default_factory=Workers)
    queues: tuple[Queue, ...] = ()
    unknown_kinds: tuple[UnknownKind, ...] = ()
    running: int = 0
    ended: Ended = field(default_factory=Ended)
    totals: tuple[JobTotal, ...] = ()
    stale: Stale = field(default_factory=Stale)
    watches: tuple[WatchedTable, ...] = ()
    dead: int = 0
    letters: int = 0
    letter_queues: tuple[LetterQueue, ...] = ()
    monitors: tuple[Monitor, ...] = ()
    notifications: Notifications = field(default_factory=Notifications)
    incidents: tuple[Incident, ...] = ()
    rate_limits: tuple[LimitTotal, ...] = ()


#: The looks that a report is put together from: what each brings.
PARTS: Mapping[str, tuple[str, ...]] = {
    "server": ("postgres",),
    "workers": ("workers", "running"),
    "queues": ("queues", "unknown_kinds"),
    "jobs": ("ended", "totals"),
    "stale": ("stale", "watches"),
    "dead": ("dead", "letters", "letter_queues"),
    "told": ("notifications", "incidents"),
    "monitors": ("clock", "monitors"),
    "limits": ("rate_limits",),
}


@dataclass(frozen=True)
class Ledger:
    """Whether the ledger answers: `problem` is None or says what is wrong, without any address.

    `schema`: why its schema does not serve this version. `schema_version`: its level, `expected` ours.
    """

    problem: str | None = None
    round_trip: float | None = None
    schema: str | None = None
    schema_version: int | None = None
    expected: int | None = None


@dataclass(frozen=True)
class Pool:
    """This process's connections for requests. `waiting`: requests that wait for one."""

    size: int
    taken: int
    waiting: int


@dataclass(frozen=True)
class SqsQueue:
    """A queue of SQS as this process sees it.

    `role`: bell, watched or dead letters; `problem`: why it cannot be asked.
    """

    name: str
    role: str
    problem: str | None = None
    visible: int | None = None
    in_flight: int | None = None


@dataclass(frozen=True)
class Limiter:
    """This process's rate limiter: who decides now and since when (seconds), and what it decided since its start.

    `debtors`: identities that were admitted something that Postgres does not know of yet. `is_full`: its table is, so
    that new identities share places. `lacks_schema`: its tables or functions are not those of this version.
    """

    mode: Source
    mode_for: float = 0.0
    admitted: int = 0
    refused: int = 0
    identities: int = 0
    debtors: int = 0
    is_full: bool = False
    lacks_schema: bool = False


@dataclass(frozen=True)
class Process:
    """What the judging process knows of itself, and sees besides the ledger.

    `channels`: who would be told of incidents.
    """

    limiter: Limiter | None = None
    pool: Pool | None = None
    sqs: tuple[SqsQueue, ...] = ()
    channels: tuple[str, ...] = ()
