"""The API as an ASGI application."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from holdfast.web.probes import LedgerProbe

_HEADERS = {"Cache-Control": "no-store"}


def create_app(probe: LedgerProbe) -> FastAPI:
    """The application; the probe is its own from now on. It starts, and answers, whether or not the ledger does."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await probe.start()
        try:
            yield
        finally:
            await probe.stop()

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

    return app
