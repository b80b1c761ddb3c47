"""Queues, workers, periodic jobs and the audit log over HTTP."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from holdfast.core.access import Permission
from holdfast.core.schedule import next_tick
from holdfast.postgres import reads
from holdfast.postgres.audit import list_audit
from holdfast.web.api.access import Acting, Auditing, Looking, Services
from holdfast.web.api.models import Name
from holdfast.web.auditing import audit_call
from holdfast.web.problems import Problem

router = APIRouter(prefix="/api")

PathName = Annotated[Name, Path()]


class Queue(BaseModel):
    """A queue. `due` and `later` count its queued jobs, 1,000 at most (`is_more`)."""

    name: str
    paused: bool
    due: int
    later: int
    is_more: bool
    running: int
    workers: int
    oldest_due: datetime | None


class Queues(BaseModel):
    """All queues, by name."""

    queues: list[Queue]


class Paused(BaseModel):
    """A queue or schedule after it was paused or resumed."""

    name: str
    paused: bool


class Worker(BaseModel):
    """A worker process. Times in seconds; `running` jobs of `slots`."""

    id: UUID
    host: str
    pid: int
    version: str
    queues: list[str]
    kinds: list[str]
    slots: int
    running: int
    quarantine: bool
    draining: bool
    started_at: datetime
    seen_at: datetime
    lost_after: float
    loop_lag: float | None
    gone_at: datetime | None
    gone_reason: str | None
    gone_is_crash: bool


class Workers(BaseModel):
    """The live ones first, then those that went last."""

    workers: list[Worker]


class Periodic(BaseModel):
    """A schedule. One that no live worker's program declares does not tick."""

    name: str
    cron: str
    time_zone: str
    queue: str
    kind: str
    args: dict[str, Any] | None
    overlap: bool
    paused: bool
    is_declared: bool
    next_at: datetime
    last_at: datetime | None
    last_job_id: UUID | None
    last_result: str | None


class Periodics(BaseModel):
    """All schedules, by name."""

    periodic: list[Periodic]


class Change(BaseModel):
    """A change that somebody asked for, and what the ledger answered."""

    id: int
    at: datetime
    actor: str
    role: str
    via: str
    address: str
    action: str
    target: str
    details: dict[str, Any]
    outcome: list[Any]


class Changes(BaseModel):
    """One page, newest first; `next` is the address of the following one."""

    changes: list[Change]
    next: str | None


@router.get("/queues", tags=["queues"])
async def list_queues(_: Looking, services: Services) -> Queues:
    """The queues, and how long their oldest due job waits."""
    found = await services.ledger.call(reads.list_queues(most=1000))
    return Queues(queues=[Queue(**asdict(row)) for row in found])


@router.post("/queues/{name:path}/pause", tags=["queues"])
async def pause_queue(name: PathName, caller: Acting, services: Services) -> Paused:
    """Begin no more jobs of a queue; those that run go on. It may be one that is not there yet."""
    await audit_call(services, caller, reads.pause_queues([name], paused=True), "queue.pause", name)
    return Paused(name=name, paused=True)


@router.post("/queues/{name:path}/resume", tags=["queues"])
async def resume_queue(name: PathName, caller: Acting, services: Services) -> Paused:
    """Let a paused queue go on."""
    await audit_call(services, caller, reads.pause_queues([name], paused=False), "queue.resume", name)
    return Paused(name=name, paused=False)


@router.get("/workers", tags=["workers"])
async def list_workers(
    _: Looking,
    services: Services,
    gone: Annotated[bool, Query(description="also those that are gone")] = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Workers:
    """The workers, and what they hold."""
    found = await services.ledger.call(reads.list_workers(gone=gone, limit=limit))
    return Workers(workers=[_worker(row) for row in found])


@router.get("/periodic", tags=["periodic"])
async def list_periodic(caller: Looking, services: Services) -> Periodics:
    """The schedules, and when each ticks next. What they enqueue is for operators; a viewer finds `args` null."""
    found = [asdict(row) for row in await services.ledger.call(reads.list_schedules())]
    hidden = {} if caller.may(Permission.BODIES) else {"args": None}
    return Periodics(periodic=[Periodic(**{**row, **hidden}) for row in found])


@router.post("/periodic/{name:path}/pause", tags=["periodic"])
async def pause_periodic(name: PathName, caller: Acting, services: Services) -> Paused:
    """No tick until it is resumed; jobs that it has enqueued stay."""
    found = await audit_call(services, caller, reads.pause_schedule(name, paused=True), "schedule.pause", name)
    return _paused(name, found, paused=True)


@router.post("/periodic/{name:path}/resume", tags=["periodic"])
async def resume_periodic(name: PathName, caller: Acting, services: Services) -> Paused:
    """On with the next tick; what was missed stays missed."""
    rows = [row for row in await services.ledger.call(reads.list_schedules()) if row.name == name]
    next_at = next_tick(rows[0].cron, rows[0].time_zone, rows[0].clock) if rows and rows[0].paused else None
    call = reads.pause_schedule(name, paused=False, next_at=next_at)
    return _paused(name, await audit_call(services, caller, call, "schedule.resume", name), paused=False)


@router.get("/audit", tags=["audit"])
async def page_of_changes(
    _: Auditing,
    services: Services,
    before: Annotated[int | None, Query(ge=0, lt=2**63, description="the last id of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Changes:
    """Who changed what, newest first, a page at a time."""
    found = await services.ledger.call(list_audit(before=before, limit=limit))
    following = f"/api/audit?before={found[-1].id}&limit={limit}" if len(found) == limit else None
    return Changes(changes=[Change(**asdict(row)) for row in found], next=following)


def _worker(row: reads.WorkerRow) -> Worker:
    spans = {
        "lost_after": row.lost_after.total_seconds(),
        "loop_lag": None if row.loop_lag is None else row.loop_lag.total_seconds(),
    }
    return Worker(**{**asdict(row), **spans})


def _paused(name: str, found: list[str], *, paused: bool) -> Paused:
    if not found:
        raise Problem(404, f"there is no schedule {name!r:.80}")
    return Paused(name=name, paused=paused)
