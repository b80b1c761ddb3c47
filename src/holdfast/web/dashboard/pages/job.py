"""One job: what it is, what happened to it, and what can be done about it."""

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from holdfast.core.access import Permission
from holdfast.postgres import calls, reads
from holdfast.postgres.audit import list_audit
from holdfast.postgres.reads import JobRow
from holdfast.services.story import Moment, timeline
from holdfast.web.auditing import audit_call
from holdfast.web.dashboard.access import Acting, Looking
from holdfast.web.dashboard.rendering import done, render
from holdfast.web.problems import Problem
from holdfast.web.services import services_of

router = APIRouter(prefix="/jobs/{id}")

#: What a verdict of the ledger means, for whoever asked: how it is told, and the words.
VERDICTS = {
    "queued": ("ok", "Queued again."),
    "cancelled": ("ok", "Cancelled."),
    "requested": ("ok", "It is running: its worker is asked to stop it, within seconds."),
    "unique_taken": ("warn", "Nothing was done: another job holds its unique key now."),
    "running": ("warn", "Nothing was done: it is running already."),
    "succeeded": ("warn", "Nothing was done: it has succeeded meanwhile."),
    "finished": ("warn", "Nothing was done: it has ended meanwhile."),
    "not_found": ("warn", "There is no such job any more."),
}


@router.get("")
async def job(request: Request, caller: Looking, id: UUID) -> Response:
    """The job's page."""
    services = services_of(request)
    found = await services.ledger.call(reads.job(id))
    if not found:
        raise Problem(404, f"no job has the id {id}; it may have been removed after its retention")
    row, events = found[0], await services.ledger.call(reads.job_events(id))
    changes = await services.ledger.call(list_audit(target=str(id), limit=20)) if caller.may(Permission.AUDIT) else []
    moments = timeline(row, events)
    return render(
        request,
        caller,
        "job.html",
        title=row.kind,
        live=True,
        job=row,
        moments=[(moment, _waited(moments, place)) for place, moment in enumerate(moments)],
        again=_again,
        changes=changes,
        why_no_retry=_why_no_retry(row),
        why_no_cancel=_why_no_cancel(row),
        trace_id=row.traceparent.split("-")[1] if row.traceparent and row.traceparent.count("-") == 3 else None,
    )


@router.post("/retry")
async def retry(request: Request, caller: Acting, id: UUID) -> Response:
    """Another life for a dead or cancelled job; a queued one is due now."""
    services = services_of(request)
    (verdict,) = await audit_call(services, caller, calls.retry_jobs([id]), "job.retry", str(id))
    kind, text = VERDICTS[verdict.verdict]
    return done(request, f"jobs/{id}", text, kind=kind)


@router.post("/cancel")
async def cancel(request: Request, caller: Acting, id: UUID) -> Response:
    """A queued job ends at once; the worker of a running one is asked to stop it."""
    services = services_of(request)
    (verdict,) = await audit_call(services, caller, calls.cancel_jobs([id]), "job.cancel", str(id))
    kind, text = VERDICTS[verdict.verdict]
    return done(request, f"jobs/{id}", text, kind=kind)


def _why_no_retry(row: JobRow) -> str:
    reasons = {"running": "It is running.", "succeeded": "It succeeded: there is nothing to do again."}
    return reasons.get(row.status, "")


def _why_no_cancel(row: JobRow) -> str:
    if row.status not in ("queued", "running"):
        return f"It has ended: it is {row.status}."
    return "It was asked to stop already." if row.cancel_requested_at is not None else ""


def _waited(moments: list[Moment], place: int) -> float | None:
    """Seconds since the moment before."""
    return (moments[place].at - moments[place - 1].at).total_seconds() if place else None


def _again(moment: Moment) -> float | None:
    """Seconds until it was to run again, where it was."""
    run_at = moment.details.get("run_at")
    if moment.details.get("status") != "queued" or not isinstance(run_at, str):
        return None
    return max((datetime.fromisoformat(run_at) - moment.at).total_seconds(), 0.0)
