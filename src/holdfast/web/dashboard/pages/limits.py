"""Rate limits: what is limited, who is refused most, which rules are in force; and forgetting what was counted."""

from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from holdfast.postgres import rate_limit
from holdfast.web.auditing import audit_call
from holdfast.web.dashboard.access import Acting, Form, Looking
from holdfast.web.dashboard.rendering import done, is_uuid, render
from holdfast.web.problems import Problem
from holdfast.web.services import services_of

router = APIRouter()


@router.get("/limits")
async def limits(request: Request, caller: Looking) -> Response:
    """This instance's mode, the policies of all, and who is refused."""
    services = services_of(request)
    return render(
        request,
        caller,
        "limits.html",
        title="Rate limits",
        report=services.limiter.report(),
        policies=await services.ledger.call(rate_limit.list_rate_limits(50)),
        top=await services.ledger.call(rate_limit.top_rate_limits(20, None)),
        rules=await services.ledger.call(rate_limit.rate_limit_rules(50)),
        own=services.settings.rate_limit,
    )


@router.post("/limits/forget")
async def forget(request: Request, caller: Acting, given: Form) -> Response:
    """Let an identity begin anew."""
    key, policy = given.get("key", ""), given.get("policy", "")
    if not is_uuid(key):
        raise Problem(422, "which identity?")
    call = rate_limit.rate_limit_reset(UUID(key), policy or None)
    await audit_call(services_of(request), caller, call, "limit.forget", key, policy=policy)
    return done(request, "limits", "What was counted of it is forgotten: it begins anew, within a second everywhere.")
