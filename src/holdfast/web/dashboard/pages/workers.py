"""Workers: live, idle, silent, lost; and what one of them runs."""

from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from holdfast.postgres import reads
from holdfast.postgres.overview import worker_jobs
from holdfast.postgres.reads import WorkerRow
from holdfast.web.dashboard.access import Looking
from holdfast.web.dashboard.rendering import render
from holdfast.web.services import services_of

router = APIRouter()

#: Workers on the page; gone ones too.
MOST = 200


@router.get("/workers")
async def workers(request: Request, caller: Looking, id: UUID | None = None) -> Response:
    """The live ones first, then those that went last."""
    services = services_of(request)
    found = await services.ledger.call(reads.list_workers(gone=True, limit=MOST))
    return render(
        request,
        caller,
        "workers.html",
        title="Workers",
        live_workers=[worker for worker in found if worker.gone_at is None],
        gone=[worker for worker in found if worker.gone_at is not None],
        state=_state,
        chosen=next((worker for worker in found if worker.id == id), None),
        chosen_id=id,
        runs=await services.ledger.call(worker_jobs(id)) if id else [],
    )


def _state(worker: WorkerRow, silent: bool) -> tuple[str, str]:
    """A mark and a word."""
    if silent:
        return "bad", "silent"
    if worker.draining:
        return "warn", "draining"
    if worker.quarantine:
        return "warn", "quarantine"
    return ("run", "busy") if worker.running else ("ok", "idle")
