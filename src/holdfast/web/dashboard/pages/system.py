"""System: every check with what it observed, what runs where, and how the checks themselves are doing."""

import time
from importlib.metadata import version

from fastapi import APIRouter, Request
from starlette.responses import Response

from holdfast.postgres.presence import list_services
from holdfast.web.dashboard.access import Looking
from holdfast.web.dashboard.rendering import render
from holdfast.web.services import services_of

router = APIRouter()


@router.get("/system")
async def system(request: Request, caller: Looking) -> Response:
    """The page."""
    services = services_of(request)
    watch = services.watch
    now = time.monotonic()
    looks = [
        (look, None if look.seen_at is None else now - look.seen_at) for look in watch.looks() if look.name != "process"
    ]
    return render(
        request,
        caller,
        "system.html",
        title="System",
        known=watch.health(),
        looks=looks,
        services=await services.ledger.call(list_services()),
        postgres=watch.seen.postgres,
        schema=watch.schema,
        version=version("holdfast"),
        usage=services.ledger.usage(),
    )
