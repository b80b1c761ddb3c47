"""Calls of the protocol's functions: one statement builder, for every executor.

A call is text and parameters, and how to read a row of its answer. `AsyncLedger` and `SyncLedger` only execute.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

Row = TypeVar("Row")


@dataclass(frozen=True)
class Call(Generic[Row]):
    """One statement: its name (for errors and logs), its text, its parameters, and what a row of it becomes."""

    name: str
    text: str
    parameters: tuple[Any, ...] | dict[str, Any]
    row: Callable[..., Row]


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be written. `args` and `policy` are JSON text and object; `delay` is in seconds."""

    id: UUID
    queue: str
    kind: str
    args: str
    policy: str = "{}"
    priority: int | None = None
    run_at: datetime | None = None
    delay: float | None = None
    unique_key: str | None = None
    group_key: str | None = None
    limit_key: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The answer for job number `ord` (from 1) of a call: its id, or that of the job which holds its unique key."""

    ord: int
    id: UUID
    created: bool


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that this worker now runs, under a new lease."""

    id: UUID
    lease: int
    queue: str
    kind: str
    args: dict[str, Any]
    priority: int
    run_at: datetime
    group_key: str | None
    limit_key: str | None
    attempts: int
    max_attempts: int
    crashes: int
    suspect: bool
    retry_policy: dict[str, float] | None
    timeout: timedelta | None
    silent_after: timedelta | None
    deadline_at: datetime | None
    progress: Any
    traceparent: str | None
    created_at: datetime
    claimed_at: datetime


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of one run. `outcome`: complete, fail, release, snooze; `delay` in seconds (None: no further attempt)."""

    id: UUID
    lease: int
    outcome: str
    result: str | None = None
    error: str | None = None
    delay: float | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """`verdict`: applied, already, lost. `status` is the job's now (None: no such job)."""

    id: UUID
    lease: int
    verdict: str
    status: str | None


@dataclass(frozen=True, slots=True)
class LeaseVerdict:
    """`verdict` of check_leases: lost, cancel, unknown; of progress: applied, lost, locked."""

    id: UUID
    lease: int
    verdict: str


@dataclass(frozen=True, slots=True)
class JobVerdict:
    """What became of one job of a cancel or retry."""

    id: UUID
    verdict: str
    status: str | None


@dataclass(frozen=True, slots=True)
class GoneVerdict:
    """`verdict`: gone, held, already, unknown; `cause` says why."""

    worker_id: UUID
    verdict: str
    cause: str | None
    seen_at: datetime | None
    is_crash: bool | None


@dataclass(frozen=True, slots=True)
class Rescued:
    """A job that a sweep took back; `lease` and `worker_id` are those of the run that it ended."""

    id: UUID
    queue: str
    kind: str
    reason: str
    lease: int
    worker_id: UUID | None
    status: str
    is_crash: bool
    last_sign_of_life: datetime | None
    claimed_at: datetime | None
    rescued_at: datetime


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one step of the pruner removed, and how far it looked."""

    finished: int
    dead: int
    workers: int
    looked_at: int
    last_at: datetime | None
    last_id: UUID | None


@dataclass(frozen=True, slots=True)
class Floor:
    """Where a claim may start: behind this place in the ledger's order."""

    priority: int
    run_at: datetime
    id: UUID


def _scalar(value: Any) -> Any:
    return value


def _seconds(values: Sequence[float | None]) -> list[timedelta | None]:
    return [None if value is None else timedelta(seconds=value) for value in values]


def _given(values: list[Any]) -> list[Any] | None:
    return values if any(value is not None for value in values) else None


def enqueue_many(jobs: Sequence[NewJob]) -> Call[Enqueued]:
    policies = {policy: position for position, policy in enumerate(dict.fromkeys(job.policy for job in jobs))}
    return Call(
        "enqueue",
        "SELECT ord, id, created FROM holdfast.enqueue_many(%s::uuid[], %s::text[], %s::text[], %s::text[]::jsonb[],"
        " priorities => %s::smallint[], run_ats => %s::timestamptz[], delays => %s::interval[],"
        " unique_keys => %s::text[], group_keys => %s::text[], limit_keys => %s::text[], policies => %s::integer[],"
        " traceparents => %s::text[], opts => %s::jsonb)",
        (
            [job.id for job in jobs],
            [job.queue for job in jobs],
            [job.kind for job in jobs],
            [job.args for job in jobs],
            _given([job.priority for job in jobs]),
            _given([job.run_at for job in jobs]),
            _given(list(_seconds([job.delay for job in jobs]))),
            _given([job.unique_key for job in jobs]),
            _given([job.group_key for job in jobs]),
            _given([job.limit_key for job in jobs]),
            [policies[job.policy] for job in jobs] if len(policies) > 1 else None,
            _given([job.traceparent for job in jobs]),
            '{"policies":[' + ",".join(policies) + "]}",
        ),
        Enqueued,
    )


def register_worker(worker_id: UUID, options: dict[str, Any]) -> Call[bool]:
    return Call(
        "register_worker", "SELECT holdfast.register_worker(%s, %s::jsonb)", (worker_id, json.dumps(options)), _scalar
    )


def beat(worker_id: UUID, options: dict[str, Any]) -> Call[bool]:
    return Call("beat", "SELECT holdfast.beat(%s, %s::jsonb)", (worker_id, json.dumps(options)), _scalar)


def check_leases(worker_id: UUID, held: Sequence[tuple[UUID, int]], unknown_after: float) -> Call[LeaseVerdict]:
    return Call(
        "check_leases",
        "SELECT id, lease, verdict FROM holdfast.check_leases(%s, %s::uuid[], %s::bigint[], %s::interval)",
        (worker_id, [id for id, _ in held], [lease for _, lease in held], timedelta(seconds=unknown_after)),
        LeaseVerdict,
    )


def release_lost_claims(worker_id: UUID, claims: Sequence[tuple[UUID, int]]) -> Call[LeaseVerdict]:
    return Call(
        "release_lost_claims",
        "SELECT id, lease, status FROM holdfast.release_lost_claims(%s, %s::uuid[], %s::bigint[])",
        (worker_id, [id for id, _ in claims], [lease for _, lease in claims]),
        LeaseVerdict,
    )


_CLAIMED = ", ".join(Claimed.__dataclass_fields__)


def claim(
    worker_id: UUID, queues: Sequence[str], kinds: Sequence[str], max_jobs: int, floor: Floor | None
) -> Call[Claimed]:
    options = (
        {}
        if floor is None
        else {"floor": {"priority": floor.priority, "run_at": floor.run_at.isoformat(), "id": str(floor.id)}}
    )
    return Call(
        "claim",
        f"SELECT {_CLAIMED} FROM holdfast.claim(%s, %s::text[], %s::text[], %s, %s::jsonb)",
        (worker_id, list(queues), list(kinds), max_jobs, json.dumps(options)),
        Claimed,
    )


def progress(worker_id: UUID, reports: Sequence[tuple[UUID, int, str | None]]) -> Call[LeaseVerdict]:
    return Call(
        "progress",
        "SELECT id, lease, verdict FROM holdfast.progress(%s, %s::uuid[], %s::bigint[], %s::text[]::jsonb[])",
        (worker_id, [id for id, _, _ in reports], [lease for _, lease, _ in reports], [text for _, _, text in reports]),
        LeaseVerdict,
    )


def settle(worker_id: UUID, settlements: Sequence[Settlement]) -> Call[Settled]:
    return Call(
        "settle",
        "SELECT id, lease, verdict, status FROM holdfast.settle(%s, %s::uuid[], %s::bigint[], %s::text[],"
        " %s::text[]::jsonb[], %s::text[]::jsonb[], %s::interval[], %s::text[])",
        (
            worker_id,
            [settlement.id for settlement in settlements],
            [settlement.lease for settlement in settlements],
            [settlement.outcome for settlement in settlements],
            _given([settlement.result for settlement in settlements]),
            _given([settlement.error for settlement in settlements]),
            _given(list(_seconds([settlement.delay for settlement in settlements]))),
            _given([settlement.fingerprint for settlement in settlements]),
        ),
        Settled,
    )


def cancel_jobs(ids: Sequence[UUID]) -> Call[JobVerdict]:
    return Call(
        "cancel_jobs", "SELECT id, verdict, status FROM holdfast.cancel_jobs(%s::uuid[])", (list(ids),), JobVerdict
    )


def retry_jobs(ids: Sequence[UUID]) -> Call[JobVerdict]:
    return Call(
        "retry_jobs", "SELECT id, verdict, status FROM holdfast.retry_jobs(%s::uuid[])", (list(ids),), JobVerdict
    )


_GONE = ", ".join(GoneVerdict.__dataclass_fields__)


def mark_seen_deaths(worker_ids: Sequence[UUID], reason: str) -> Call[GoneVerdict]:
    return Call(
        "mark_workers_gone",
        f"SELECT {_GONE} FROM holdfast.mark_workers_gone(%s::uuid[], %s)",
        (list(worker_ids), reason),
        GoneVerdict,
    )


def mark_lapsed_workers() -> Call[GoneVerdict]:
    return Call("mark_workers_gone", f"SELECT {_GONE} FROM holdfast.mark_workers_gone()", (), GoneVerdict)


_RESCUED = ", ".join(Rescued.__dataclass_fields__)


def rescue_stale_jobs(stale_after: float, max_jobs: int, after: tuple[UUID, UUID] | None = None) -> Call[Rescued]:
    options = {} if after is None else {"after_worker": str(after[0]), "after_id": str(after[1])}
    return Call(
        "rescue_stale_jobs",
        f"SELECT {_RESCUED} FROM holdfast.rescue_stale_jobs(%s::interval, %s, %s::jsonb)",
        (timedelta(seconds=stale_after), max_jobs, json.dumps(options)),
        Rescued,
    )


def ring(queues: Sequence[str]) -> Call[Any]:
    return Call("ring", "SELECT pg_notify('holdfast_bell', q) FROM unnest(%s::text[]) AS q", (list(queues),), _scalar)


def prune(keep_finished: float, keep_dead: float, max_jobs: int, after: tuple[datetime, UUID] | None) -> Call[Pruned]:
    behind = after or (None, None)
    return Call(
        "prune",
        "SELECT finished, dead, workers, looked_at, last_at, last_id"
        " FROM holdfast.prune(%s::interval, %s::interval, %s, coalesce(%s::timestamptz, '-infinity'),"
        " coalesce(%s::uuid, '00000000-0000-0000-0000-000000000000'))",
        (timedelta(seconds=keep_finished), timedelta(seconds=keep_dead), max_jobs, *behind),
        Pruned,
    )


def count_events(stale_after: float) -> Call[dict[str, int]]:
    """Adds up what happened since the last call; the totals over all time and all processes."""
    return Call(
        "count_events",
        "SELECT holdfast.count_events(%s::interval)",
        (timedelta(seconds=stale_after),),
        lambda totals: totals or {},
    )
