"""Incidents: what is wrong now, since when, and what was told of it."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from holdfast.postgres.overview import shown_incidents
from holdfast.web.dashboard.access import Looking
from holdfast.web.dashboard.rendering import render
from holdfast.web.services import services_of

router = APIRouter()


@router.get("/incidents")
async def incidents(request: Request, caller: Looking) -> Response:
    """The open ones, the oldest first; then those that ended last."""
    found = await services_of(request).ledger.call(shown_incidents())
    return render(
        request,
        caller,
        "incidents.html",
        title="Incidents",
        open_ones=[each for each in found if each.status == "open"],
        ended=[each for each in found if each.status != "open"],
    )
