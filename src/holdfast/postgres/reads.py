"""Reads and admin statements: one .sql file each, loaded once, and what a row of each becomes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from holdfast.postgres.calls import Call
from holdfast.postgres.statements import statement

#: How many queued jobs of a queue a list of queues counts.
MOST_COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How a job ended: `status` is succeeded, dead, cancelled, or missing where the ledger has no such job."""

    id: UUID
    status: str
    result: Any
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as the ledger has it; the columns are described in docs/states.md.

    >>> job = await send_mail.options(delay=3600).enqueue(to="ada@example.org")
    >>> row = await hf.get(job.id)
    >>> row.status, row.attempts, row.max_attempts, row.timeout.total_seconds()
    ('queued', 0, 5, 3600.0)
    """

    id: UUID
    queue: str
    kind: str
    args: dict[str, Any]
    status: str
    priority: int
    run_at: datetime
    group_key: str | None
    unique_key: str | None
    limit_key: str | None
    limit_max: int | None
    lease: int
    worker_id: UUID | None
    attempts: int
    max_attempts: int
    crashes: int
    max_crashes: int
    shared_crashes: int
    suspect: bool
    rescues: int
    retry_policy: dict[str, Any] | None
    rescue_policy: str
    timeout: timedelta | None
    silent_after: timedelta | None
    deadline_at: datetime | None
    heartbeat_at: datetime | None
    claimed_at: datetime | None
    finished_at: datetime | None
    settled_as: str | None
    cancel_requested_at: datetime | None
    progress: Any
    result: Any
    error: dict[str, Any] | None
    fingerprint: str | None
    traceparent: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A line of a list of jobs. `known` (queued jobs only): whether a live worker knows this kind."""

    id: UUID
    queue: str
    kind: str
    status: str
    attempts: int
    max_attempts: int
    lease: int
    run_at: datetime
    claimed_at: datetime | None
    finished_at: datetime | None
    created_at: datetime
    error: str | None
    known: bool | None


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job besides its happy path."""

    at: datetime
    event: str
    reason: str | None
    lease: int
    worker_id: UUID | None
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class QueueRescue:
    """A rescue, crash or fenced late write of a job; `next_claimed_at`: when the job was claimed again.

    `is_false`: by the ledger's own timestamps the run was still to be trusted.
    """

    job_id: UUID
    event: str
    reason: str
    worker_id: UUID | None
    lease: int
    at: datetime
    next_claimed_at: datetime | None
    is_false: bool


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker process, and the process of its supervisor."""

    id: UUID
    pid: int
    parent_pid: int


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker process as the ledger has it; `running` is counted from the jobs it holds."""

    id: UUID
    host: str
    pid: int
    version: str
    queues: list[str]
    kinds: list[str]
    slots: int
    quarantine: bool
    started_at: datetime
    seen_at: datetime
    lost_after: timedelta
    loop_lag: timedelta | None
    draining: bool
    gone_at: datetime | None
    gone_reason: str | None
    gone_is_crash: bool
    running: int


@dataclass(frozen=True, slots=True)
class LockedJob:
    """A job that is due for rescue and locked by somebody; `pid` is the server process that holds the lock."""

    id: UUID
    reason: str
    pid: int | None
    application_name: str | None
    state: str | None
    since: datetime | None


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule; `is_declared`: a worker has said within the last minute that its program declares it.

    `last_result`: enqueued, or overlapped where the job of the tick before was not done.
    """

    name: str
    cron: str
    time_zone: str
    queue: str
    kind: str
    args: dict[str, Any]
    overlap: bool
    paused: bool
    next_at: datetime
    last_at: datetime | None
    last_job_id: UUID | None
    last_result: str | None
    declared_at: datetime
    is_declared: bool
    clock: datetime


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue. `due` and `later` count its queued jobs, `MOST_COUNTED` at most; `is_more`: there are more than that.

    `oldest_due`: since when the oldest of those counted could have run.
    """

    name: str
    paused: bool
    due: int
    later: int
    is_more: bool
    running: int
    workers: int
    oldest_due: datetime | None


@dataclass(frozen=True, slots=True)
class Pong:
    """The ledger's clock, and the newest migration on record."""

    clock: datetime
    schema_version: int


def begin_sweep(monitor: str, every: float) -> Call[dict[str, Any]]:
    """Claims the next sweep of a monitor for this process; no row when it is not due or somebody else's.

    The row is what the last sweep left.
    """
    parameters = {"name": monitor, "every": timedelta(seconds=every)}
    return Call("begin_sweep", statement("begin_sweep"), parameters, lambda left: left)


def end_sweep(monitor: str, result: dict[str, Any]) -> Call[str]:
    """Keeps what a sweep came to: a few numbers."""
    return Call("end_sweep", statement("end_sweep"), {"name": monitor, "result": json.dumps(result)}, str)


def job_outcomes(ids: Sequence[UUID]) -> Call[JobOutcome]:
    """Those of the given jobs that have ended, or are missing."""
    return Call("job_outcomes", statement("job_outcomes"), {"ids": list(ids)}, JobOutcome)


def run_status(worker_id: UUID, id: UUID, lease: int) -> Call[str]:
    """Where the job of a run stands; no row when the lease is no longer that run's."""
    return Call("run_status", statement("run_status"), {"worker_id": worker_id, "id": id, "lease": lease}, str)


def job(id: UUID) -> Call[JobRow]:
    """One job, whole; no row when there is none."""
    return Call("job", statement("job"), {"job_id": id}, JobRow)


def job_events(id: UUID) -> Call[JobEvent]:
    """A job's events, oldest first."""
    return Call("job_events", statement("job_events"), {"job_id": id}, JobEvent)


@dataclass(frozen=True)
class JobFilter:
    """Which jobs; what is None does not matter.

    error: part of the error's type or message, in either case. key: a unique, group or limit key. newer, older: seconds
    since the job was enqueued, on the ledger's clock.
    """

    queue: str | None = None
    kind: str | None = None
    error: str | None = None
    key: str | None = None
    newer: float | None = None
    older: float | None = None

    def parameters(self) -> dict[str, Any]:
        """For the statements that take a filter."""
        spans = {name: getattr(self, name) for name in ("newer", "older")}
        return {
            "queue": self.queue,
            "kind": self.kind,
            "error": self.error,
            "key": self.key,
            **{name: None if span is None else timedelta(seconds=span) for name, span in spans.items()},
        }


@dataclass(frozen=True, slots=True)
class MatchingJobs:
    """How many jobs of a kind, queue and status a filter matches; `oldest`: when the first was enqueued."""

    kind: str
    queue: str
    status: str
    jobs: int
    oldest: datetime
    last_id: UUID


def list_jobs(
    *,
    status: str | None = None,
    queue: str | None = None,
    kind: str | None = None,
    before: UUID | None = None,
    limit: int = 50,
    error: str | None = None,
    key: str | None = None,
    newer: float | None = None,
    older: float | None = None,
) -> Call[JobSummary]:
    """One page of jobs, newest first; the next page is `before` the last id of this one. For the rest: `JobFilter`."""
    wanted = JobFilter(queue, kind, error, key, newer, older).parameters()
    parameters = {**wanted, "status": status, "before": before, "limit": limit}
    return Call("list_jobs", statement("list_jobs"), parameters, JobSummary)


def matching_jobs(wanted: JobFilter, statuses: Sequence[str], most: int) -> Call[MatchingJobs]:
    """What a filter matches, counted up to `most` jobs."""
    parameters = {**wanted.parameters(), "statuses": list(statuses), "most": most}
    return Call("matching_jobs", statement("matching_jobs"), parameters, MatchingJobs)


def matching_ids(wanted: JobFilter, statuses: Sequence[str], *, after: UUID, last: UUID, limit: int) -> Call[UUID]:
    """The next ids that a filter matches, behind `after`, up to `last`."""
    bounds = {"after": after, "last": last, "limit": limit}
    parameters = {**wanted.parameters(), "statuses": list(statuses), **bounds}
    return Call("matching_ids", statement("matching_ids"), parameters, lambda found: found)


def suspects_waiting(queues: Sequence[str], kinds: Sequence[str]) -> Call[bool]:
    """Whether a quarantine process is needed."""
    return Call("suspects_waiting", statement("suspects_waiting"), {"queues": list(queues), "kinds": list(kinds)}, bool)


def ping() -> Call[Pong]:
    """Whether the ledger answers."""
    return Call("ping", statement("ping"), {}, Pong)


def now() -> Call[datetime]:
    """Whether the server answers; needs no schema."""
    return Call("a ping", statement("now"), {}, lambda clock: clock)


def probe_object(name: str) -> Call[int]:
    """Whether one of the schema's objects works; how many rows it has, to a bound. `name` is that of the statement."""
    return Call(name, statement(name), {}, int)


def count_jobs(queue: str) -> Call[tuple[str, int]]:
    """How many jobs of a queue are in each state; it counts rows, so for small queues only."""
    return Call("count_jobs", statement("count_jobs"), {"queue": queue}, lambda status, count: (status, count))


def count_running(queue: str, within: float = 86400.0) -> Call[tuple[UUID, int]]:
    """How many jobs of a queue each worker runs that it claimed within the last `within` seconds."""
    parameters = {"queue": queue, "within": timedelta(seconds=within)}
    return Call("count_running", statement("count_running"), parameters, lambda worker, count: (worker, count))


def queue_rescues(queue: str) -> Call[QueueRescue]:
    """What rescues did to a queue's jobs, oldest first."""
    return Call("queue_rescues", statement("queue_rescues"), {"queue": queue}, QueueRescue)


def live_workers(queue: str) -> Call[LiveWorker]:
    """The live workers that serve a queue."""
    return Call("live_workers", statement("live_workers"), {"queue": queue}, LiveWorker)


def first_success_after(queue: str, moment: datetime) -> Call[datetime | None]:
    """When the first job claimed after a moment succeeded; None while there is none."""
    parameters = {"queue": queue, "moment": moment}
    return Call("first_success_after", statement("first_success_after"), parameters, lambda found: found)


def locked_stale_jobs(stale_after: float) -> Call[LockedJob]:
    """Jobs due for rescue for over a minute that somebody holds locked."""
    parameters = {"stale_after": timedelta(seconds=stale_after)}
    return Call("locked_stale_jobs", statement("locked_stale_jobs"), parameters, LockedJob)


def list_workers(*, gone: bool = False, limit: int = 50) -> Call[WorkerRow]:
    """Live workers, and with `gone` also those that are gone."""
    return Call("list_workers", statement("list_workers"), {"gone": gone, "limit": limit}, WorkerRow)


def live_kinds() -> Call[str]:
    """The kinds that live workers know, 1,000 at most."""
    return Call("live_kinds", statement("live_kinds"), {}, str)


def list_schedules(limit: int = 1000) -> Call[ScheduleRow]:
    """The schedules, by name."""
    return Call("list_schedules", statement("list_schedules"), {"limit": limit}, ScheduleRow)


def pause_schedule(name: str, *, paused: bool, next_at: datetime | None = None) -> Call[str]:
    """Pause or resume a schedule; resumed, it goes on at `next_at`. No row where there is none of that name."""
    parameters = {"name": name, "paused": paused, "next_at": next_at}
    return Call("pause_schedule", statement("pause_schedule"), parameters, str)


def remove_schedule(name: str) -> Call[str]:
    """Forget a schedule; a worker that declares it brings it back. No row where there is none of that name."""
    return Call("remove_schedule", statement("remove_schedule"), {"name": name}, str)


def list_queues(limit: int = 1000, most: int = MOST_COUNTED) -> Call[QueueRow]:
    """The queues, by name; of each `most` queued jobs are counted."""
    return Call("list_queues", statement("list_queues"), {"limit": limit, "most": most}, QueueRow)


def pause_queues(names: Sequence[str], *, paused: bool) -> Call[str]:
    """Pause queues, or resume them; their names."""
    return Call("pause_queues", statement("pause_queues"), {"names": list(names), "paused": paused}, str)


def list_names(limit: int = 200) -> Call[tuple[list[str], list[str]]]:
    """Queues and kinds of live workers."""
    return Call("list_names", statement("list_names"), {"limit": limit}, lambda queues, kinds: (queues, kinds))


def jobs_in_order(*, kind: str | None = None, status: str | None = None, limit: int = 1000) -> Call[JobRow]:
    """Whole jobs, oldest first."""
    return Call("jobs_in_order", statement("jobs_in_order"), {"kind": kind, "status": status, "limit": limit}, JobRow)
