"""Calls of the protocol's functions: one statement builder, for every executor.

A call is text and parameters, and how to read a row of its answer. `AsyncLedger` and `SyncLedger` only execute. JSON
travels in binary arrays (%b): in text form the driver escapes each quote in Python, half a second for a megabyte.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from holdfast.postgres.statements import statement

if TYPE_CHECKING:
    from holdfast.core.schedule import Schedule

Row = TypeVar("Row")


@dataclass(frozen=True)
class Call(Generic[Row]):
    """One statement: its name (for errors and logs), its text, its parameters, and what a row of it becomes."""

    name: str
    text: str
    parameters: tuple[Any, ...] | dict[str, Any]
    row: Callable[..., Row]


class NewJob(NamedTuple):
    """A job to be written, as `JobKind.prepare` makes it. `args` and `policy` are JSON text; `delay` is in seconds.

    >>> send_mail.options(delay=60).prepare(to="ada@example.org").delay
    60
    """

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


#: What a job has behind its policy when it is due now, without keys.
_PLAIN = NewJob(UUID(int=0), "", "", "")[5:]


class Enqueued(NamedTuple):
    """The answer for job number `ord` (from 1) of a call: its id, or that of the job which holds its unique key.

    Where `id` is ALL, it is the answer for all jobs of the call: each was written under its own.
    """

    ord: int
    id: UUID
    created: bool


ALL = UUID(int=0)


@dataclass(frozen=True, slots=True)
class EnqueuedOnce:
    """The same, for a request that may come again: `replayed` when it had been answered before."""

    ord: int
    id: UUID
    created: bool
    replayed: bool


class Claimed(NamedTuple):
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


class Settlement(NamedTuple):
    """The end of one run. `outcome`: complete, fail, release, snooze; `delay` in seconds (None: no further attempt)."""

    id: UUID
    lease: int
    outcome: str
    result: str | None = None
    error: str | None = None
    delay: float | None = None
    fingerprint: str | None = None


class Settled(NamedTuple):
    """`verdict`: applied, already, lost, locked. `status` is the job's now (None: no such job)."""

    id: UUID
    lease: int
    verdict: str
    status: str | None


class LeaseVerdict(NamedTuple):
    """`verdict` of check_leases: lost, cancel, unknown; of progress: applied, lost, locked."""

    id: UUID
    lease: int
    verdict: str


@dataclass(frozen=True, slots=True)
class JobVerdict:
    """What became of one job of a cancel or retry; `status` is the job's now, None where there is none.

    >>> (verdict,) = await hf.cancel([UUID(int=7)])
    >>> verdict.verdict, verdict.status
    ('not_found', None)
    """

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
class DeclaredSchedule:
    """A schedule as the ledger has it; `is_ours`: with the definition that was declared. `clock`: the ledger's now."""

    name: str
    next_at: datetime
    is_ours: bool
    paused: bool
    clock: datetime


@dataclass(frozen=True, slots=True)
class Ticked:
    """`verdict`: enqueued, overlapped (`job_id` is then the one before), lost to another process."""

    verdict: str
    job_id: UUID | None


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


def _words(values: list[str]) -> str:
    """An array of plain words as Postgres writes it: the driver would look at each of them in Python."""
    return "{" + ",".join(values) + "}"


def _given(values: list[Any]) -> list[Any] | None:
    return values if any(value is not None for value in values) else None


def enqueue_many(jobs: Sequence[NewJob]) -> Call[Enqueued]:
    """Write jobs; the answers by `ord`, or one for all: see `in_order`."""
    first = jobs[0]
    if len(jobs) == 1 and first[5:] == _PLAIN:
        parameters = {
            "id": str(first.id), "queue": first.queue, "kind": first.kind, "args": first.args, "policy": first.policy
        }  # fmt: skip
        return Call("enqueue", statement("enqueue_one"), parameters, _enqueued)
    if all(job[5:] == _PLAIN and job.policy == first.policy for job in jobs):
        text = "[" + ",".join([_as_json(job, 0) for job in jobs]) + "]"
        plain = {"jobs": text, "expected": str(len(jobs)), "policy": first.policy}
        return Call("enqueue", statement("enqueue_plain"), plain, _enqueued)
    return Call("enqueue", statement("enqueue"), _as_text(jobs), _enqueued)


def enqueue_once(scope: str, key: str, request_hash: str, jobs: Sequence[NewJob]) -> Call[EnqueuedOnce]:
    """Writes the jobs of a request that its caller has named; raises `IdempotencyKeyReused` for another request."""
    parameters = {"scope": scope, "key": key, "request_hash": request_hash, **_as_text(jobs)}
    return Call("enqueue_once", statement("enqueue_once"), parameters, EnqueuedOnce)


def _as_text(jobs: Sequence[NewJob]) -> dict[str, Any]:
    policies = {policy: position for position, policy in enumerate(dict.fromkeys(job.policy for job in jobs))}
    return {
        "jobs": "[" + ",".join(_as_json(job, policies[job.policy]) for job in jobs) + "]",
        "policies": '{"policies":[' + ",".join(policies) + "]}",
    }


@lru_cache(maxsize=1000)
def _quoted(text: str) -> str:
    """A name as JSON; there are few different ones."""
    return json.dumps(text, ensure_ascii=False)


def _as_json(job: NewJob, policy: int) -> str:
    """One element of `jobs`: only what is given. The arguments are JSON already."""
    if job[5:] == _PLAIN:
        place = f',"policy":{policy}' if policy else ""
        return f'{{"id":"{job.id}","queue":{_quoted(job.queue)},"kind":{_quoted(job.kind)}{place},"args":{job.args}}}'
    given: dict[str, Any] = {
        "id": str(job.id),
        "queue": job.queue,
        "kind": job.kind,
        "priority": job.priority,
        "run_at": None if job.run_at is None else job.run_at.isoformat(),
        "delay": job.delay,
        "unique_key": job.unique_key,
        "group_key": job.group_key,
        "limit_key": job.limit_key,
        "policy": policy or None,
        "traceparent": job.traceparent,
    }
    known = {name: value for name, value in given.items() if value is not None}
    return f'{json.dumps(known, ensure_ascii=False)[:-1]}, "args": {job.args}}}'


def _enqueued(ord: int, id: UUID | str | None, created: bool) -> Enqueued:
    """Some drivers give a UUID as text, or in a type of their own."""
    if id is None:
        return Enqueued(ord, ALL, created)
    return Enqueued(ord, id if type(id) is UUID else UUID(str(id)), created)


def complete_run(worker_id: UUID, id: UUID, lease: int, result: str, *, idle: float) -> Call[str]:
    """Settle a run in its handler's own transaction; the verdict: applied or lost.

    The transaction may stay idle for `idle` seconds from here on.
    """
    parameters = {
        "worker_id": str(worker_id),
        "id": str(id),
        "lease": str(lease),
        "result": result,
        "idle": str(int(idle * 1000)),
    }
    return Call("complete_run", statement("complete_run"), parameters, str)


def register_worker(worker_id: UUID, options: dict[str, Any]) -> Call[bool]:
    return Call(
        "register_worker", "SELECT holdfast.register_worker(%s, %s::jsonb)", (worker_id, json.dumps(options)), _scalar
    )


def note_job_stats(worker_id: UUID, number: int, counts: Sequence[Mapping[str, Any]]) -> Call[bool]:
    """What a worker counted since it last told; False when the ledger knows this number already."""
    text = "SELECT holdfast.note_job_stats(%s, %s, %s::jsonb)"
    return Call("note_job_stats", text, (worker_id, number, json.dumps(list(counts))), _scalar)


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


_CLAIMED = ", ".join(Claimed._fields)


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
        "SELECT id, lease, verdict FROM holdfast.progress(%s, %s::uuid[], %s::bigint[], %b::text[]::jsonb[])",
        (worker_id, [id for id, _, _ in reports], [lease for _, lease, _ in reports], [text for _, _, text in reports]),
        LeaseVerdict,
    )


def settle(worker_id: UUID, settlements: Sequence[Settlement], *, skip_locked: bool = False) -> Call[Settled]:
    """`skip_locked`: rows that somebody holds locked are not waited for; their verdict is `locked`."""
    return Call(
        "settle",
        "SELECT id, lease, verdict, status FROM holdfast.settle(%s, %s::uuid[], %s::bigint[], %s::text[],"
        " %b::text[]::jsonb[], %b::text[]::jsonb[], %s::interval[], %s::text[],"
        " %s::jsonb)",
        (
            worker_id,
            _words([settlement.id.hex for settlement in settlements]),
            _words([str(settlement.lease) for settlement in settlements]),
            _words([settlement.outcome for settlement in settlements]),
            _given([settlement.result for settlement in settlements]),
            _given([settlement.error for settlement in settlements]),
            _given(list(_seconds([settlement.delay for settlement in settlements]))),
            _given([settlement.fingerprint for settlement in settlements]),
            json.dumps({"skip_locked": True} if skip_locked else {}),
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


def declare_schedules(schedules: "Sequence[tuple[Schedule, datetime]]", *, takeover: bool) -> Call[DeclaredSchedule]:
    """Say which schedules this program declares, each with its first tick from now on; what the ledger has of them."""
    declared = [
        {
            "name": schedule.name,
            "cron": schedule.cron,
            "time_zone": schedule.time_zone,
            "queue": schedule.queue,
            "kind": schedule.kind,
            "args": schedule.args,
            "overlap": schedule.overlap,
            "first_at": first_at.isoformat(),
        }
        for schedule, first_at in schedules
    ]
    return Call(
        "declare_schedules",
        "SELECT name, next_at, is_ours, paused, clock FROM holdfast.declare_schedules(%s::jsonb, %s::jsonb)",
        (json.dumps(declared), json.dumps({"takeover": takeover})),
        DeclaredSchedule,
    )


def tick_schedule(name: str, seen_at: datetime, next_at: datetime, job: NewJob) -> Call[Ticked]:
    """Take the tick at `seen_at`, which writes the job unless that of the tick before is still there."""
    options = {
        **json.loads(job.policy),
        "priority": job.priority,
        "run_at": seen_at.isoformat(),
        "unique_key": job.unique_key,
        "group_key": job.group_key,
        "limit_key": job.limit_key,
    }
    return Call(
        "tick_schedule",
        "SELECT verdict, job_id FROM holdfast.tick_schedule(%s, %s, %s, %s, %s::jsonb, %s::jsonb)",
        (name, seen_at, next_at, job.id, job.args, json.dumps(options)),
        Ticked,
    )


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
    return Call("ring", statement("ring"), {"queues": list(queues)}, _scalar)


@dataclass(frozen=True, slots=True)
class QueueToRing:
    """A queue with due jobs and idle workers, and how many bells it needs."""

    queue: str
    bells: int


def queues_to_ring(again_after: float) -> Call[QueueToRing]:
    """Which queues need bells now; marks them as rung."""
    return Call(
        "queues_to_ring",
        "SELECT queue, bells FROM holdfast.queues_to_ring(%s::interval)",
        (timedelta(seconds=again_after),),
        QueueToRing,
    )


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


def prune_bookkeeping() -> Call[int]:
    """Forget what only served for a while: one bounded step; how many rows."""
    return Call("prune_bookkeeping", "SELECT holdfast.prune_bookkeeping()", (), int)
