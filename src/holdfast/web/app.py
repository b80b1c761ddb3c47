"""The API as an ASGI application."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from holdfast.core.ratelimit import Limits
from holdfast.services.limiter import RateLimiter
from holdfast.web.identity import Identify, Network
from holdfast.web.limiter_metrics import LimiterMetrics
from holdfast.web.metrics import LedgerMetrics
from holdfast.web.probes import LedgerProbe
from holdfast.web.rate_limit import RateLimitMiddleware

_HEADERS = {"Cache-Control": "no-store"}


class _Service(Protocol):
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


def create_app(
    probe: LedgerProbe,
    metrics: LedgerMetrics,
    limiter: RateLimiter | None = None,
    limit: Limits | None = None,
    trusted_proxies: Sequence[Network] = (),
    *,
    rate_limit_headers: Sequence[str] = ("draft-11",),
) -> FastAPI:
    """The application; what it is given is its own from now on. It answers whether or not the ledger does."""
    services: list[_Service] = [probe, metrics]
    if limiter is not None:
        services.append(limiter)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for service in services:
            await service.start()
        try:
            yield
        finally:
            for service in services:
                await service.stop()

    app = FastAPI(title="Holdfast", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    if limiter is not None and limit is not None:
        metrics.watch(LimiterMetrics(limiter))
        identify = Identify(trusted_proxies)
        app.add_middleware(
            RateLimitMiddleware, limiter=limiter, limit=limit, identify=identify, headers=rate_limit_headers
        )

    @app.api_route("/livez", methods=["GET", "HEAD"])
    async def livez() -> JSONResponse:
        """Whether the event loop turns: no I/O."""
        return JSONResponse({"status": "pass"}, headers=_HEADERS)

    @app.api_route("/readyz", methods=["GET", "HEAD"])
    async def readyz() -> JSONResponse:
        """Whether to send requests here: read from a snapshot, no I/O."""
        reason = probe.readiness()
        if reason is None:
            return JSONResponse({"status": "pass"}, headers=_HEADERS)
        return JSONResponse({"status": "fail", "reason": reason.value}, status_code=503, headers=_HEADERS)

    @app.get("/metrics")
    async def scrape() -> Response:
        """The ledger's totals for Prometheus: read from a snapshot, no I/O."""
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST, headers=_HEADERS)

    return app
