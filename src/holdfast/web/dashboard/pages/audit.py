"""Who changed what."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from holdfast.postgres.audit import list_audit
from holdfast.web.dashboard.access import Auditing
from holdfast.web.dashboard.rendering import render
from holdfast.web.services import services_of

router = APIRouter()

#: Lines on a page.
PAGE = 50


@router.get("/audit")
async def audit(
    request: Request, caller: Auditing, before: Annotated[int | None, Query(ge=0, lt=2**63)] = None
) -> Response:
    """The newest first, a keyset page at a time."""
    found = await services_of(request).ledger.call(list_audit(before=before, limit=PAGE + 1))
    return render(
        request,
        caller,
        "audit.html",
        title="Audit",
        live=before is None,
        lines=found[:PAGE],
        next=found[PAGE - 1].id if len(found) > PAGE else None,
        before=before,
    )
