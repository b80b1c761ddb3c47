"""What the routes of the API depend on: who calls, with which permission, and the services."""

from typing import Annotated

from fastapi import Depends, Request

from holdfast.core.access import Permission
from holdfast.web.auth import Caller, caller_of, require
from holdfast.web.problems import Problem
from holdfast.web.services import ApiServices, services_of

Submitting = Annotated[Caller, Depends(require(Permission.SUBMIT))]
Looking = Annotated[Caller, Depends(require(Permission.LOOK))]
Asking = Annotated[Caller, Depends(require(Permission.ASK))]
Acting = Annotated[Caller, Depends(require(Permission.ACT))]
Auditing = Annotated[Caller, Depends(require(Permission.AUDIT))]
Services = Annotated[ApiServices, Depends(services_of)]


async def json_only(request: Request) -> None:
    """A page of another site can make a browser post a form or text here, but JSON only by asking first.

    Strangers are told by the route itself that they are.
    """
    if caller_of(request.scope).is_stranger:
        return
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent != "application/json":
        raise Problem(
            415, f"the body must be JSON, sent as Content-Type: application/json; this is {sent or 'nothing'!r:.80}"
        )
