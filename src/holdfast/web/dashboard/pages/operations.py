"""Actions on all jobs that match a filter: preview, progress, cancel, and what became of each."""

from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from holdfast.app import new_id
from holdfast.postgres import searching
from holdfast.web.auditing import audit_call
from holdfast.web.dashboard.access import Acting, Form, Looking
from holdfast.web.dashboard.filters import Filters, JobFilters
from holdfast.web.dashboard.rendering import done, is_uuid, render
from holdfast.web.problems import Problem
from holdfast.web.services import services_of

router = APIRouter(prefix="/operations")

#: Which jobs an action is for.
STATUSES = {"retry": ("dead", "cancelled"), "cancel": ("queued", "running")}
#: What a verdict of the ledger means, after a count; the first of each are what was asked for.
VERDICTS = {
    "queued": "queued again",
    "cancelled": "cancelled",
    "requested": "asked to stop: their workers are told within seconds",
    "unique_taken": "skipped: another job holds the unique key now",
    "running": "skipped: running already",
    "succeeded": "skipped: succeeded meanwhile",
    "dead": "skipped: dead meanwhile",
    "not_found": "skipped: no longer there",
}
DONE = frozenset({"queued", "cancelled", "requested"})


@router.get("")
async def operations(request: Request, caller: Looking) -> Response:
    """The newest first."""
    found = await services_of(request).ledger.call(searching.list_bulk_operations())
    return render(request, caller, "operations.html", title="Operations", operations=found, done=DONE)


@router.get("/new")
async def preview(request: Request, caller: Looking, filters: Filters, action: str = "") -> Response:
    """What the action would meet."""
    services = services_of(request)
    _check(action, filters)
    matching = await services.ledger.one(searching.count_matching_jobs(filters.search()))
    return render(
        request, caller, "operation_new.html", title=f"{action.capitalize()} all that match", live=False,
        action=action, filters=filters, matching=matching, id=new_id(),
        most_looked=searching.MOST_LOOKED,
    )  # fmt: skip


@router.post("")
async def begin(request: Request, caller: Acting, given: Form) -> Response:
    """Ask for it. The same form sent twice is one operation."""
    services, action = services_of(request), given.get("action", "")
    if not is_uuid(given.get("id", "")):
        raise Problem(422, "this form lacks the operation's id; go back to the list of jobs")
    id = UUID(given["id"])
    filters = JobFilters(**{name: given.get(name, "")[:500] for name in JobFilters.__dataclass_fields__})
    _check(action, filters)
    search = filters.search()
    matching = await services.ledger.one(searching.count_matching_jobs(search))
    call = searching.begin_bulk_operation(id, action, search, actor=caller.actor, matching=matching)
    await audit_call(services, caller, call, f"operation.{action}", str(id), filter=filters.query())
    services.operations.wake()
    return done(request, f"operations/{id}", "It goes on here, whether or not this page is open.")


@router.get("/{id}")
async def operation(request: Request, caller: Looking, id: UUID) -> Response:
    """How far it is, and what became of the jobs."""
    found = await services_of(request).ledger.call(searching.list_bulk_operations(id))
    if not found:
        raise Problem(404, f"there is no operation {id}; operations are kept for 90 days")
    return render(
        request, caller, "operation.html", title="Operation", operation=found[0], verdicts=VERDICTS, done=DONE
    )


@router.post("/{id}/cancel")
async def cancel(request: Request, caller: Acting, id: UUID) -> Response:
    """Act on no more jobs; what was done stays done."""
    call = searching.cancel_bulk_operation(id)
    ended = await audit_call(services_of(request), caller, call, "operation.cancel", str(id))
    text = "It ends here; what was done stays done." if ended else "It had ended already."
    return done(request, f"operations/{id}", text, kind="ok" if ended else "warn")


def _check(action: str, filters: JobFilters) -> None:
    if action not in STATUSES:
        raise Problem(400, f"action is {action!r:.40}; there are retry and cancel")
    if filters.status not in STATUSES[action]:
        wanted = " or ".join(STATUSES[action])
        raise Problem(400, f"to {action} all that match takes a filter by status: {wanted}")
