"""The list of jobs: by status and filter, a keyset page at a time."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from holdfast.errors import DatabaseUnavailable
from holdfast.postgres import reads, searching
from holdfast.web.dashboard.access import Looking
from holdfast.web.dashboard.filters import SINCE, STATUSES, Filters
from holdfast.web.dashboard.rendering import Here, is_uuid, render
from holdfast.web.services import ApiServices, services_of

router = APIRouter()

#: Jobs on a page.
PAGE = 50


@dataclass(frozen=True)
class Count:
    """How many jobs are in a state, as far as it was counted."""

    number: int
    is_more: bool = False


@router.get("/jobs")
async def jobs(
    request: Request,
    caller: Looking,
    filters: Filters,
    before: UUID | None = None,
    id: Annotated[str, Query(max_length=100)] = "",
) -> Response:
    """One page; an id that is typed leads to its job."""
    if is_uuid(id.strip()):
        return RedirectResponse(Here(request).url(f"jobs/{UUID(id.strip())}"), status_code=303)
    services, search = services_of(request), filters.search()
    try:
        found = await services.ledger.call(searching.search_jobs(search, before=before, limit=PAGE))
    except DatabaseUnavailable as error:
        if "did not answer search_jobs" not in str(error):
            raise
        found = []
    names = await services.ledger.call(reads.list_names())
    return render(
        request,
        caller,
        "jobs.html",
        title="Jobs",
        live=before is None,
        filters=filters,
        statuses=STATUSES,
        since=SINCE,
        page=found[0] if found else None,
        before=before,
        counts=counts(services),
        most_looked=searching.MOST_LOOKED,
        queues=sorted({name for queues, _ in names for name in queues}),
        kinds=sorted({name for _, kinds in names for name in kinds}),
        is_unknown_id=bool(id.strip()),
    )


def counts(services: ApiServices) -> dict[str, Count]:
    """What is known without counting rows: from the health report, bounded there."""
    watch, seen = services.watch, services.watch.seen
    found = {}
    if watch.knows("queues"):
        more = any(queue.queued >= queue.counted_to for queue in seen.queues)
        found["queued"] = Count(sum(queue.queued for queue in seen.queues), more)
    if watch.knows("workers"):
        found["running"] = Count(seen.running)
    if watch.knows("dead"):
        found["dead"] = Count(min(seen.dead, 1000), seen.dead >= 1000)
    return found
