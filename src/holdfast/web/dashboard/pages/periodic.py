"""Periodic jobs: when each ticks next, and what came of its last tick; pause, resume, run now."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from holdfast.app import new_id
from holdfast.core.payload import encode
from holdfast.core.schedule import next_tick
from holdfast.postgres import calls, reads
from holdfast.postgres.reads import ScheduleRow
from holdfast.web.auditing import audit_call
from holdfast.web.dashboard.access import Acting, Form, Looking
from holdfast.web.dashboard.rendering import done, render
from holdfast.web.problems import Problem
from holdfast.web.services import ApiServices, services_of

router = APIRouter()


@router.get("/periodic")
async def periodic(request: Request, caller: Looking) -> Response:
    """All schedules, by name."""
    found = await services_of(request).ledger.call(reads.list_schedules())
    return render(request, caller, "periodic.html", title="Periodic", schedules=found)


@router.post("/periodic/pause")
async def pause(request: Request, caller: Acting, given: Form) -> Response:
    """No tick until it is resumed."""
    services, name = services_of(request), given.get("name", "")
    found = await audit_call(services, caller, reads.pause_schedule(name, paused=True), "schedule.pause", name)
    _some(found, name)
    return done(request, "periodic", f"{name} is paused. Jobs that it has enqueued stay.")


@router.post("/periodic/resume")
async def resume(request: Request, caller: Acting, given: Form) -> Response:
    """On with the next tick; what was missed stays missed."""
    services, name = services_of(request), given.get("name", "")
    row = await _row(services, name)
    next_at = next_tick(row.cron, row.time_zone, row.clock) if row.paused else None
    call = reads.pause_schedule(name, paused=False, next_at=next_at)
    _some(await audit_call(services, caller, call, "schedule.resume", name), name)
    return done(request, "periodic", f"{name} goes on with its next tick.")


@router.post("/periodic/run")
async def run(request: Request, caller: Acting, given: Form) -> Response:
    """One job as the schedule would enqueue it, now; its ticks stay as they are."""
    services, name = services_of(request), given.get("name", "")
    row = await _row(services, name)
    job = calls.NewJob(new_id(), row.queue, row.kind, encode(row.args, what=f"arguments of {row.kind}"))
    (made,) = await audit_call(services, caller, calls.enqueue_many([job]), "schedule.run", name)
    services.enqueuer.ring_for([job])
    return done(request, f"jobs/{made.id}", f"Enqueued, as a tick of {name} would be.")


async def _row(services: ApiServices, name: str) -> ScheduleRow:
    found = [row for row in await services.ledger.call(reads.list_schedules()) if row.name == name]
    _some(found, name)
    return found[0]


def _some(found: object, name: str) -> None:
    if not found:
        raise Problem(404, f"there is no schedule {name!r:.80}")
