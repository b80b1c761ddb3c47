"""The API as an ASGI application."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from holdfast.web.metrics import LedgerMetrics
from holdfast.web.probes import LedgerProbe

_HEADERS = {"Cache-Control": "no-store"}


def create_app(probe: LedgerProbe, metrics: LedgerMetrics) -> FastAPI:
    """The application; probe and metrics are its own from now on. It answers whether or not the ledger does."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await probe.start()
        await metrics.start()
        try:
            yield
        finally:
            await probe.stop()
            await metrics.stop()

    app = FastAPI(title="Holdfast", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

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
