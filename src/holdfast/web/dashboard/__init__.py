"""The dashboard: server-rendered pages below /dashboard, an application of its own inside the API.

All its links are relative, so it works behind any prefix that a proxy takes away. Scripts make pages live; without them
everything can be read and done.
"""

from collections.abc import Callable

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Scope

from holdfast.core.ratelimit import Policy
from holdfast.web.auth import identity_of
from holdfast.web.dashboard import assets, stream
from holdfast.web.dashboard.notices import Notices
from holdfast.web.dashboard.pages import routers
from holdfast.web.dashboard.refusals import install, refuse
from holdfast.web.dashboard.safety import SafeHeaders
from holdfast.web.dashboard.series import SeriesCache
from holdfast.web.problems import Problem
from holdfast.web.rate_limit import RateLimitMiddleware
from holdfast.web.services import ApiServices

#: A person clicks, pages refresh themselves, and somebody has several open.
LIMIT = Policy.parse("600/minute", name="dashboard")


def mount_dashboard(app: FastAPI, services: ApiServices) -> Callable[[Scope, Problem], ASGIApp]:
    """Add the dashboard, and lead from the root to it. Returns how problems are answered that arise before it."""
    dashboard = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    dashboard.state.holdfast = services
    dashboard.state.notices = Notices()
    dashboard.state.series = SeriesCache(services.ledger)
    install(dashboard)
    for router in (assets.router, stream.router, *routers()):
        dashboard.include_router(router)
    dashboard.add_middleware(
        RateLimitMiddleware, limiter=services.limiter, limit=LIMIT, identify=identity_of, headers=()
    )
    dashboard.add_middleware(SafeHeaders)

    @app.get("/", include_in_schema=False)
    @app.get("/dashboard", include_in_schema=False)
    async def lead(_: Request) -> Response:
        """To the first page, relative to wherever this is."""
        return RedirectResponse("dashboard/", status_code=307)

    app.mount("/dashboard", dashboard)
    return refuse(dashboard, "/dashboard")
