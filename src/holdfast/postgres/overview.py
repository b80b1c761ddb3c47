"""What the dashboard's first page shows besides the health report."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from holdfast.postgres.calls import Call
from holdfast.postgres.statements import statement


@dataclass(frozen=True, slots=True)
class Bucket:
    """What became of jobs within a while that begins at `at`; `failed` counts attempts."""

    at: datetime
    succeeded: int
    failed: int
    dead: int
    cancelled: int


@dataclass(frozen=True, slots=True)
class DeadCause:
    """Dead letters of one cause, by how long ago they came."""

    fingerprint: str
    kind: str
    cause: str
    queue: str
    source: str
    hour: int
    day: int
    week: int
    all: int
    newest_at: datetime
    sample_job_id: str | None


@dataclass(frozen=True, slots=True)
class LongRun:
    """A running job, with the last that was heard of it and of its worker."""

    id: UUID
    kind: str
    queue: str
    claimed_at: datetime
    heartbeat_at: datetime | None
    deadline_at: datetime | None
    worker_id: UUID | None
    host: str | None
    pid: int | None
    seen_at: datetime | None
    is_gone: bool


def job_series(span: float, bucket: float, queue: str | None = None) -> Call[Bucket]:
    """What became of jobs over the last `span` seconds, in buckets of `bucket` seconds; empty ones are left out."""
    parameters = {"span": timedelta(seconds=span), "bucket": timedelta(seconds=bucket), "queue": queue}
    return Call("job_series", statement("job_series"), parameters, Bucket)


def dead_causes() -> Call[DeadCause]:
    """Dead letters by cause, the most of today first."""
    return Call("dead_causes", statement("dead_causes"), {}, DeadCause)


def longest_runs(limit: int = 10) -> Call[LongRun]:
    """The running jobs that were silent for longest."""
    return Call("longest_runs", statement("longest_runs"), {"limit": limit}, LongRun)


def pulse() -> Call[str]:
    """A text that changes when anything did."""
    return Call("pulse", statement("pulse"), {}, str)


@dataclass(frozen=True, slots=True)
class QueueMinute:
    """What a queue's jobs came to within one minute; `failed` counts attempts, the last ones too."""

    queue: str
    at: datetime
    succeeded: int
    failed: int


@dataclass(frozen=True, slots=True)
class WorkerJob:
    """A job that a worker runs."""

    id: UUID
    kind: str
    queue: str
    claimed_at: datetime
    heartbeat_at: datetime | None
    deadline_at: datetime | None


def queue_series() -> Call[QueueMinute]:
    """The last hour of each queue; minutes without anything are left out."""
    return Call("queue_series", statement("queue_series"), {}, QueueMinute)


def worker_jobs(worker_id: UUID) -> Call[WorkerJob]:
    """What a worker runs now."""
    return Call("worker_jobs", statement("worker_jobs"), {"worker_id": worker_id}, WorkerJob)
