"""The door: probes and strangers' questions about health are answered here, before routes are looked for.

They are most of what an idle API is asked, and must be answered at once on a busy machine. The answers are those of the
routes; only the way to them is shorter. Whatever has a query, or comes from somebody who may see more, goes on.
"""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from holdfast.web import health
from holdfast.web.auth import caller_of

_QUICK: Mapping[str, Callable[[Request], Awaitable[Response]]] = {
    "/livez": health.livez,
    "/readyz": health.readyz,
    "/startupz": health.startupz,
    "/api/health": health.health,
}


class Door:
    """Behind `Authenticate`, which says who asks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        quick = _QUICK.get(scope["path"]) if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") else None
        if quick is None or scope["query_string"] or caller_of(scope).may_look:
            await self._app(scope, receive, send)
            return
        answer = await quick(Request(scope))
        await answer(scope, receive, send)
