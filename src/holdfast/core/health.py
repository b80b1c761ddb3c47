"""How healthy a deployment is, decided from what was seen of it: no I/O, no clock.

A look at the ledger brings a `Report`, a ping tells whether it answers; from both, and from what a process knows of
itself, each check is judged `pass`, `warn` or `fail` with the reason in words. The whole is as good as its worst check.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from holdfast.core.ratelimit import Source


class Status(StrEnum):
    """As in draft-inadarei-api-health-check-06: warn is still healthy, fail is not."""

    PASS = "pass"  # noqa: S105
    WARN = "warn"
    FAIL = "fail"


_ORDER = {Status.PASS: 0, Status.WARN: 1, Status.FAIL: 2}


@dataclass(frozen=True)
class Check:
    """One check's verdict. `output` says why it did not pass; `observed` are numbers for people and programs."""

    name: str
    status: Status
    output: str = ""
    observed: Mapping[str, Any] = field(default_factory=dict)


def worst(checks: Sequence[Check]) -> Status:
    """The status of the whole.

    >>> worst([Check("a", Status.PASS), Check("b", Status.WARN)])
    <Status.WARN: 'warn'>
    """
    return max((check.status for check in checks), key=_ORDER.__getitem__, default=Status.PASS)


@dataclass(frozen=True)
class Limits:
    """Where a check stops to pass. Times in seconds.

    `queue_warn_after`: a due job may wait for so long. `unserved_after`: it may wait for so long where nobody takes it.
    `restart_within`: for so long there may be no worker at all, as while they are restarted.
    `blind_after`: a look at the ledger counts for so long.
    """

    queue_warn_after: float = 300.0
    unserved_after: float = 60.0
    restart_within: float = 15.0
    blind_after: float = 30.0
    slow_ping: float = 0.5


@dataclass(frozen=True)
class Postgres:
    """The server. `oldest_transaction` in seconds, of all clients."""

    version: int
    connections: int
    max_connections: int
    oldest_transaction: float


@dataclass(frozen=True)
class Workers:
    """Worker processes that were not declared gone. `silent`: past their lost_after. `slots`: of the live ones."""

    live: int
    silent: int
    draining: int
    slots: int
    longest_lag: float


@dataclass(frozen=True)
class Queue:
    """One queue.

    `queued` is counted to 1,000; `room`: free slots of the workers that serve it; `due_for`: how long its oldest due
    job waits; `asked_ago`: the last claim.
    """

    name: str
    paused: bool
    queued: int
    running: int
    workers: int
    room: int
    due_for: float | None
    asked_ago: float | None


@dataclass(frozen=True)
class UnknownKind:
    """Due jobs of a kind that no live worker of their queue knows."""

    queue: str
    kind: str
    due_for: float


@dataclass(frozen=True)
class Ended:
    """The last jobs that ended within an hour, 1,000 at most. `wait` and `run`: seconds at p50, p95, p99."""

    of: int
    succeeded: int
    dead: int
    cancelled: int
    since: float | None
    wait: tuple[float | None, ...] | None
    run: tuple[float | None, ...] | None


@dataclass(frozen=True)
class Stale:
    """Running jobs that somebody must take back now, by reason."""

    count: int
    reasons: Mapping[str, int]


@dataclass(frozen=True)
class Monitor:
    """One monitor over all processes. `every`: how often it is meant to sweep, where it has a rhythm of its own."""

    name: str
    every: float | None
    swept_ago: float | None
    is_held: bool
    last_result: Mapping[str, Any]


@dataclass(frozen=True)
class Notifications:
    """Those that were not delivered yet, counted to 1,000. `failing`: tried in vain; `oldest` in seconds."""

    waiting: int
    failing: int
    oldest: float
    last_error: str | None


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
    """What one look at the ledger brought (the SQL function health_report). Times in seconds."""

    clock: datetime
    postgres: Postgres
    workers: Workers
    queues: tuple[Queue, ...]
    unknown_kinds: tuple[UnknownKind, ...]
    running: int
    ended: Ended
    stale: Stale
    dead: int
    monitors: tuple[Monitor, ...]
    notifications: Notifications
    incidents: tuple[Incident, ...]
    rate_limits: tuple[LimitTotal, ...]


@dataclass(frozen=True)
class Ledger:
    """Whether the ledger answers: `problem` is None or says what is wrong, without any address."""

    problem: str | None
    round_trip: float | None


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
    sqs: tuple[SqsQueue, ...] = ()
    channels: tuple[str, ...] = ()


def judge(
    ledger: Ledger, report: Report | None, report_age: float | None, process: Process, limits: Limits
) -> tuple[Check, ...]:
    """All checks.

    A report that is too old tells nothing: what it would have told is then not known, which is no pass.
    """
    if report is None or report_age is None or report_age > limits.blind_after:
        since = "never seen" if report_age is None else f"last seen {report_age:.0f} s ago"
        blind = tuple(Check(name, Status.WARN, f"not known: {since}") for name in FROM_REPORT)
        return (_database(ledger, None, limits), *blind, *_limiter(process))
    return (
        _database(ledger, report.postgres, limits),
        _workers(report, limits),
        _queues(report, process.sqs, limits),
        _jobs(report),
        _stale_jobs(report.stale),
        _dead_letters(report),
        _incidents(report.incidents),
        _monitors(report.monitors),
        _notifications(report.notifications, process.channels),
        *_limiter(process),
    )


#: The checks that are judged by a look at the ledger.
FROM_REPORT = (
    "workers", "queues", "jobs", "stale_jobs", "dead_letters", "incidents", "monitors", "notifications"
)  # fmt: skip


def _verdict(name: str, observed: Mapping[str, Any], *, fails: Sequence[str] = (), warns: Sequence[str] = ()) -> Check:
    status = Status.FAIL if fails else Status.WARN if warns else Status.PASS
    return Check(name, status, _few([*fails, *warns]), observed)


def _few(reasons: Sequence[str], most: int = 5) -> str:
    more = f"; and {len(reasons) - most} more" if len(reasons) > most else ""
    return "; ".join(reasons[:most]) + more


def _database(ledger: Ledger, postgres: Postgres | None, limits: Limits) -> Check:
    observed: dict[str, Any] = {}
    warns = []
    if ledger.round_trip is not None:
        observed["round_trip_ms"] = round(ledger.round_trip * 1000, 2)
        if ledger.round_trip > limits.slow_ping:
            warns.append(f"it took {ledger.round_trip * 1000:.0f} ms to answer")
    if postgres is not None:
        observed |= {
            "version": postgres.version,
            "connections": postgres.connections,
            "max_connections": postgres.max_connections,
            "oldest_transaction_s": round(postgres.oldest_transaction, 1),
        }
        if postgres.connections > 0.9 * postgres.max_connections:
            warns.append(f"{postgres.connections} of {postgres.max_connections} connections are taken")
        if postgres.oldest_transaction > 300:
            warns.append(
                f"a transaction has been open for {postgres.oldest_transaction:.0f} s, which slows every queue"
            )
    return _verdict("database", observed, fails=[ledger.problem] if ledger.problem else [], warns=warns)


def _workers(report: Report, limits: Limits) -> Check:
    workers = report.workers
    observed = {
        "live": workers.live,
        "silent": workers.silent,
        "draining": workers.draining,
        "slots": workers.slots,
        "running": report.running,
        "longest_loop_lag_s": round(workers.longest_lag, 3),
    }
    waited = max((queue.due_for or 0.0 for queue in report.queues if not queue.paused), default=0.0)
    is_needed = waited > limits.restart_within
    fails = ["no worker lives, and jobs are due"] if workers.live == 0 and is_needed else []
    warns = ["no worker lives"] if workers.live == 0 and not is_needed else []
    if workers.silent:
        warns.append(f"{workers.silent} gave no sign of life for longer than they may")
    if workers.longest_lag > 5:
        warns.append(f"an event loop lags {workers.longest_lag:.0f} s")
    return _verdict("workers", observed, fails=fails, warns=warns)


def _queues(report: Report, sqs: Sequence[SqsQueue], limits: Limits) -> Check:
    fails = [f"SQS queue {queue.name} ({queue.role}): {queue.problem}" for queue in sqs if queue.problem]
    warns: list[str] = []
    for queue in report.queues:
        waited = queue.due_for
        if queue.paused or waited is None:
            continue
        if waited > limits.unserved_after and queue.workers == 0:
            # A queue that was never served is most often a mistyped one: no reason to call all of it ill.
            told = fails if queue.asked_ago is not None else warns
            told.append(f"{queue.name}: a job has been due for {waited:.0f} s, and no worker serves this queue")
        elif waited > limits.unserved_after and queue.room and _long_ago(queue.asked_ago, limits.unserved_after):
            fails.append(f"{queue.name}: a job has been due for {waited:.0f} s, and no worker asks for it")
        elif waited > limits.queue_warn_after:
            warns.append(f"{queue.name}: a job has been due for {waited:.0f} s")
    for unknown in report.unknown_kinds:
        if unknown.due_for > limits.unserved_after and report.workers.live:
            warns.append(f"{unknown.queue}: no worker of this queue knows kind {unknown.kind!r:.80}, which is due")
    observed: dict[str, Any] = {queue.name: _observed_queue(queue) for queue in report.queues}
    if sqs:
        observed["sqs"] = {
            queue.name: {"role": queue.role, "visible": queue.visible, "in_flight": queue.in_flight} for queue in sqs
        }
    return _verdict("queues", observed, fails=fails, warns=warns)


def _observed_queue(queue: Queue) -> dict[str, Any]:
    return {
        "queued": queue.queued if queue.queued <= 1000 else "more than 1000",
        "running": queue.running,
        "workers": queue.workers,
        "oldest_due_s": None if queue.due_for is None else round(queue.due_for, 1),
        "paused": queue.paused,
    }


def _long_ago(ago: float | None, seconds: float) -> bool:
    return ago is None or ago > seconds


def _jobs(report: Report) -> Check:
    ended = report.ended
    observed = {
        "queued": sum(queue.queued for queue in report.queues),
        "running": report.running,
        "ended": {
            "looked_at": ended.of,
            "within_s": None if ended.since is None else round(ended.since, 1),
            "succeeded": ended.succeeded,
            "dead": ended.dead,
            "cancelled": ended.cancelled,
        },
        "wait_s": _percentiles(ended.wait),
        "run_s": _percentiles(ended.run),
    }
    mostly = ended.of >= 20 and ended.dead * 2 > ended.of
    warns = [f"{ended.dead} of the last {ended.of} jobs ended dead"] if mostly else []
    return _verdict("jobs", observed, warns=warns)


def _percentiles(values: tuple[float | None, ...] | None) -> dict[str, float] | None:
    if not values:
        return None
    found = zip(("p50", "p95", "p99"), values, strict=True)
    return {name: round(value, 4) for name, value in found if value is not None} or None


def _stale_jobs(stale: Stale) -> Check:
    reasons = ", ".join(f"{many} {reason}" for reason, many in sorted(stale.reasons.items()))
    warns = [f"{stale.count} running jobs are stuck: {reasons}"] if stale.count else []
    return _verdict("stale_jobs", {"count": stale.count, "reasons": dict(stale.reasons)}, warns=warns)


def _dead_letters(report: Report) -> Check:
    recent = report.ended.dead
    observed = {"jobs": report.dead if report.dead <= 1000 else "more than 1000", "of_the_last_hour": recent}
    warns = [f"{recent} jobs ended dead within the last hour: holdfast jobs list --status dead"] if recent else []
    return _verdict("dead_letters", observed, warns=warns)


def _incidents(incidents: Sequence[Incident]) -> Check:
    warns = [f"{incident.title}, open for {incident.open_for / 60:.0f} min" for incident in incidents]
    return _verdict("incidents", {"open": len(incidents) if len(incidents) < 20 else "20 or more"}, warns=warns)


def _notifications(notifications: Notifications, channels: Sequence[str]) -> Check:
    observed = {
        "channels": list(channels),
        "waiting": notifications.waiting,
        "failing": notifications.failing,
        "oldest_s": round(notifications.oldest, 1),
    }
    warns = []
    if notifications.failing:
        warns.append(f"{notifications.failing} could not be delivered yet: {notifications.last_error}")
    elif notifications.oldest > 120:
        warns.append(f"{notifications.waiting} wait since {notifications.oldest:.0f} s, and nobody delivers them")
    return _verdict("notifications", observed, warns=warns)


def _monitors(monitors: Sequence[Monitor]) -> Check:
    fails, warns = [], []
    rhythmic = [monitor for monitor in monitors if monitor.every is not None]
    for monitor in rhythmic:
        every, ago = monitor.every or 0.0, monitor.swept_ago
        if ago is None or ago > 10 * every + 30:
            fails.append(f"{monitor.name} {_last_sweep(ago)}; it is meant to sweep each {every:g} s")
        elif ago > 3 * every + 5:
            warns.append(f"{monitor.name} {_last_sweep(ago)}; it is meant to sweep each {every:g} s")
    if not rhythmic:
        fails.append("no monitor has ever swept: stuck jobs stay stuck until a worker runs")
    if any(monitor.is_held for monitor in monitors):
        warns.append("the brake holds: silent workers are not declared gone for now")
    observed = {
        monitor.name: {
            "every_s": monitor.every,
            "last_sweep_s_ago": None if monitor.swept_ago is None else round(monitor.swept_ago, 1),
        }
        for monitor in monitors
    }
    return _verdict("monitors", observed, fails=fails, warns=warns)


def _last_sweep(ago: float | None) -> str:
    return "has never swept" if ago is None else f"swept last {ago:.0f} s ago"


def _limiter(process: Process) -> tuple[Check, ...]:
    limiter = process.limiter
    if limiter is None:
        return ()
    observed = {
        "mode": limiter.mode,
        "mode_for_s": round(limiter.mode_for, 1),
        "admitted": limiter.admitted,
        "refused": limiter.refused,
        "identities": limiter.identities,
        "debtors": limiter.debtors,
    }
    warns = []
    if limiter.mode == "memory":
        why = "lacks what the limiter needs; see: holdfast verify" if limiter.lacks_schema else "does not answer"
        warns.append(f"limits are kept in this process's memory, since the ledger {why}")
    if limiter.is_full:
        warns.append("the table of identities is full, so that new ones share places")
    return (_verdict("rate_limits", observed, warns=warns),)
