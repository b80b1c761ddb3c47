"""Tells an open page that something changed (server-sent events), so that it asks for itself again."""

import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response, StreamingResponse

from holdfast.core.access import Permission
from holdfast.services.changes import Changes
from holdfast.web.auth import Caller, require
from holdfast.web.problems import unavailable
from holdfast.web.services import services_of

router = APIRouter()

#: Where it is, as the whole application sees it.
STREAM = "/dashboard/events"
#: Seconds: between two signs of life, and that a stream lasts; whoever watches asks again, and is checked again.
ALIVE = 10.0
LASTS = 300.0
#: Streams at a time in one process; whoever gets none asks now and then.
MOST = 200


@router.get("/events")
async def events(request: Request, _: Annotated[Caller, Depends(require(Permission.LOOK))]) -> Response:
    """`change` each time that anything did. Ends at once when the process is told to end."""
    changes = services_of(request).changes
    if changes.listeners >= MOST or changes.ended:
        raise unavailable("there are too many open pages; this one asks now and then")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_told(changes), media_type="text/event-stream", headers=headers)


async def _told(changes: Changes, alive: float = ALIVE, lasts: float = LASTS) -> AsyncIterator[str]:
    yield "retry: 3000\n\n"
    seen = changes.number
    until = time.monotonic() + lasts
    with changes.listening():
        while time.monotonic() < until:
            number = await changes.after(seen, alive)
            if changes.ended:
                return
            yield ": alive\n\n" if number == seen else f"event: change\ndata: {number}\n\n"
            seen = number
