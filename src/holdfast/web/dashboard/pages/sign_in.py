"""Sign in with a link that opens once, or with a key; and sign out."""

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from holdfast.core.access import Permission, may, who_may
from holdfast.core.api_keys import Role
from holdfast.services.sessions import LASTS
from holdfast.web.auth import caller_of
from holdfast.web.cookies import forget_session, set_session
from holdfast.web.dashboard.access import Form
from holdfast.web.dashboard.rendering import Here, render
from holdfast.web.origin import is_from_this_site
from holdfast.web.problems import Problem
from holdfast.web.services import services_of

router = APIRouter()

#: Where it is, as the whole application sees it.
SIGN_IN = "/dashboard/sign-in"


@router.get("/sign-in")
async def ask(request: Request, next: str = "", code: str = "") -> Response:
    """The form; or, with the code of a link, straight in. What only looks ahead must not use the link up."""
    if code and "sec-purpose" not in request.headers:
        return await _by_link(request, code, next)
    return _form(request, next)


@router.post("/sign-in")
async def sign_in(request: Request, given: Form) -> Response:
    """With a key: it is exchanged for a session, and kept nowhere."""
    if not is_from_this_site(request.scope):
        raise Problem(403, "this did not come from a page of this dashboard, so nothing was done")
    services = services_of(request)
    key = await services.ring.authenticate(given.get("key", "").strip())
    if key is None:
        return _form(request, given.get("next", ""), "This key opens nothing: it is mistyped, revoked or expired.")
    if not may(key.role, Permission.LOOK):
        return _form(
            request,
            given.get("next", ""),
            f"This key has the role {key.role}, which is for programs; the dashboard takes {who_may(Permission.LOOK)}.",
        )
    text = await services.sessions.begin(key.role, f"key {key.name} ({key.id})", key.id)
    return _in(request, text, given.get("next", ""))


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """End the session here and in the ledger."""
    caller = caller_of(request.scope)
    if caller.session is not None and is_from_this_site(request.scope):
        await services_of(request).sessions.end(caller.session.id)
    answer = RedirectResponse(Here(request).url("sign-in"), status_code=303)
    forget_session(answer, request.scope)
    return answer


async def _by_link(request: Request, code: str, next: str) -> Response:
    services = services_of(request)
    found = await services.sessions.redeem(code)
    if found is None:
        if caller_of(request.scope).may_look:
            return RedirectResponse(Here(request).url(), status_code=303)
        return _form(
            request, next, "This link was used already, or is too old. For a new one: holdfast dashboard", status=403
        )
    text = await services.sessions.begin(Role(found.role), found.actor, found.key_id)
    return _in(request, text, next)


def _in(request: Request, text: str, next: str) -> Response:
    # Only to a page of ours: whatever follows a scheme or a host would lead elsewhere.
    wanted = next if next and not next.startswith(("/", "\\", ".")) and ":" not in next.partition("?")[0] else ""
    answer = RedirectResponse(f"./{wanted}", status_code=303)
    set_session(answer, request.scope, text, lasts=LASTS)
    return answer


def _form(request: Request, next: str, problem: str = "", status: int = 200) -> Response:
    if problem and status == 200:
        status = 401
    return render(
        request, None, "sign_in.html", title="Sign in", live=False, next=next[:500], problem=problem, status=status
    )
