"""A job's story: what happened to it, in order, from its row and its events."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from holdfast.postgres.reads import JobEvent, JobRow

_FIRST, _EVENT, _LAST = range(3)


@dataclass(frozen=True)
class Moment:
    """One thing that happened. `event`: created, claimed, finished, cancel_requested, or that of a `JobEvent`."""

    at: datetime
    event: str
    reason: str | None = None
    lease: int | None = None
    worker_id: UUID | None = None
    details: dict[str, Any] = field(default_factory=dict)


def timeline(job: JobRow, events: Sequence[JobEvent]) -> list[Moment]:
    """Pure: what is known of a job, in its order. Claims are known of the last run, and of those that left an event."""
    found = [(_FIRST, Moment(job.created_at, "created"))]
    claims: dict[datetime, Moment] = {}
    for event in events:
        moment = Moment(event.at, event.event, event.reason, event.lease, event.worker_id, event.details)
        found.append((_EVENT, moment))
        claimed_at = event.details.get("claimed_at")
        if isinstance(claimed_at, str):
            at = datetime.fromisoformat(claimed_at)
            claims[at] = Moment(at, "claimed", lease=event.lease, worker_id=event.worker_id)
    if job.claimed_at is not None:
        # A rescue or a retry raises the lease and clears the worker: the row's lease is then no longer that claim's.
        lease = None if job.worker_id is None else job.lease
        last = Moment(job.claimed_at, "claimed", lease=lease, worker_id=job.worker_id)
        claims.setdefault(job.claimed_at, last)
    found += [(_FIRST, claim) for claim in claims.values()]
    if job.cancel_requested_at is not None:
        found.append((_EVENT, Moment(job.cancel_requested_at, "cancel_requested")))
    if job.finished_at is not None:
        found.append((_LAST, Moment(job.finished_at, "finished", reason=job.status)))
    return [moment for _, moment in sorted(found, key=lambda entry: (entry[1].at, entry[0]))]
