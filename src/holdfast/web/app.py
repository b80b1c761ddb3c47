"""The API as an ASGI application."""

import contextlib
from collections.abc import AsyncIterator, Collection, Iterator
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse

from holdfast.core.access import Permission
from holdfast.web import health, metrics
from holdfast.web.api import fleet, incidents, jobs, keys, letters, operations
from holdfast.web.auth import Authenticate, identity_of, require
from holdfast.web.dashboard import mount_dashboard
from holdfast.web.dashboard.pages.sign_in import SIGN_IN
from holdfast.web.dashboard.stream import STREAM
from holdfast.web.description import describe
from holdfast.web.door import Door
from holdfast.web.intake import Intake
from holdfast.web.problems import install
from holdfast.web.rate_limit import EXEMPT, RateLimitMiddleware
from holdfast.web.services import ApiServices

_ABOUT = """\
Jobs over HTTP. Send a key as `Authorization: Bearer hf_...`; errors are problem details (RFC 9457); each answer says in
`RateLimit` what is left of the caller's limit."""


class Exempt(Collection[str]):
    """What the API's limit leaves out: probes, and the dashboard, which has a limit of its own."""

    def __contains__(self, path: object) -> bool:
        return path in EXEMPT or str(path).startswith("/dashboard/")

    def __iter__(self) -> Iterator[str]:
        return iter(EXEMPT)

    def __len__(self) -> int:
        return len(EXEMPT)


class Api(FastAPI):
    """Describes itself as it answers."""

    def openapi(self) -> dict[str, Any]:
        return self.openapi_schema or describe(super().openapi())


def create_app(services: ApiServices) -> FastAPI:
    """The application; the services are its own from now on. It answers whether or not the ledger does."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await services.start()
        try:
            yield
        finally:
            await services.stop()

    app = Api(
        title="Holdfast",
        version=version("holdfast"),
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.holdfast = services
    app.state.metrics = metrics.registries(services)
    install(app)
    app.include_router(health.router)
    app.include_router(metrics.router)
    for part in (jobs, fleet, operations, letters, incidents, keys):
        app.include_router(part.router)

    @app.get("/api/openapi.json", dependencies=[Depends(require(Permission.DESCRIBE))], include_in_schema=False)
    async def openapi() -> JSONResponse:
        """This API, described (OpenAPI 3.1)."""
        return JSONResponse(app.openapi())

    refuse = mount_dashboard(app, services)

    # The last one added is the first to see a request.
    settings = services.settings
    app.add_middleware(Intake, timeout=settings.timeout, streams={STREAM}, doors={SIGN_IN}, refuse=refuse)
    app.add_middleware(
        RateLimitMiddleware,
        limiter=services.limiter,
        limit=settings.rate_limit,
        identify=identity_of,
        exempt=Exempt(),
        headers=settings.rate_limit_headers,
    )
    app.add_middleware(Door)
    app.add_middleware(
        Authenticate,
        ring=services.ring,
        sessions=services.sessions,
        issuer=services.issuer,
        is_private=settings.is_private,
        trusted=settings.trusted_proxies,
        prompt=EXEMPT,
    )
    return app
