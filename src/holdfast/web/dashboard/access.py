"""Who may see a page and press its buttons."""

from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from holdfast.core.access import Permission
from holdfast.web.auth import Caller, caller_of, require
from holdfast.web.dashboard.refusals import SignInNeeded
from holdfast.web.origin import is_from_this_site
from holdfast.web.problems import Problem


def page_for(permission: Permission) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency that lets in whoever may do that, and leads others to sign in.

    Without a key on this machine a browser is known by nothing: what changes anything must come from a page of ours.
    """
    admit = require(permission)

    async def allow(request: Request) -> Caller:
        caller = caller_of(request.scope)
        if caller.is_stranger:
            raise SignInNeeded
        if request.method == "POST" and caller.access == "open" and not is_from_this_site(request.scope):
            raise Problem(403, "this did not come from a page of this dashboard, so nothing was done")
        return await admit(request)

    return allow


Looking = Annotated[Caller, Depends(page_for(Permission.LOOK))]
Acting = Annotated[Caller, Depends(page_for(Permission.ACT))]
Auditing = Annotated[Caller, Depends(page_for(Permission.AUDIT))]
#: Fields of a form, and characters of it.
MOST_FIELDS, MOST_CHARACTERS = 50, 20_000


async def form(request: Request) -> dict[str, str]:
    """The fields of a form that a page of ours sent."""
    body = (await request.body())[:MOST_CHARACTERS]
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        raise Problem(400, "this form cannot be read") from None


Form = Annotated[dict[str, str], Depends(form)]
