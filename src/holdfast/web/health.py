"""Probes, `/api/health` and `/metrics`: read from memory; no request runs a check or opens a connection.

The format is health+json (draft-inadarei-api-health-check-06). A caller without a key learns the status only.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from holdfast.core.api_keys import Role
from holdfast.core.health import Check, Status
from holdfast.services.health import Health
from holdfast.web.auth import caller_of, require
from holdfast.web.metrics import LedgerMetrics
from holdfast.web.problems import RETRY_AFTER, Problem
from holdfast.web.services import services_of

router = APIRouter(tags=["health"])

#: Seconds that a passing answer may be kept by whoever asked.
MAX_AGE = 5
_NO_STORE = {"Cache-Control": "no-store"}


@router.api_route("/livez", methods=["GET", "HEAD"], include_in_schema=False)
async def livez() -> JSONResponse:
    """Whether the event loop turns: no I/O."""
    return JSONResponse({"status": "pass"}, headers=_NO_STORE)


@router.api_route("/readyz", methods=["GET", "HEAD"], include_in_schema=False)
async def readyz(request: Request) -> JSONResponse:
    """Whether to send requests here: read from a snapshot, no I/O."""
    reason = services_of(request).watch.readiness()
    if reason is None:
        return JSONResponse({"status": "pass"}, headers=_NO_STORE)
    return JSONResponse({"status": "fail", "reason": reason.value}, status_code=503, headers=_NO_STORE)


@router.head("/api/health", include_in_schema=False)
@router.get("/api/health")
async def health(request: Request) -> Response:
    """How this deployment is. 200 while it passes or warns, 503 when it fails."""
    known = services_of(request).watch.health()
    may_look = caller_of(request.scope).may_look
    body = describe(known) if may_look else {"status": known.status}
    return _answer(request, known, body, is_public=not may_look)


@router.get("/api/health/{name}", dependencies=[Depends(require(Role.ADMIN, Role.CANARY))])
async def one_check(request: Request, name: str) -> Response:
    """One check: database, workers, queues, jobs, stale_jobs, dead_letters, monitors, rate_limits."""
    known = services_of(request).watch.health()
    for check in known.checks:
        if check.name == name:
            only = Health(known.at, (check,), known.changed_at)
            return _answer(request, only, _describe_check(check, known), is_public=False)
    raise Problem(404, f"there is no check {name!r:.60}; there are: {', '.join(check.name for check in known.checks)}")


@router.get("/metrics", dependencies=[Depends(require(Role.ADMIN))], include_in_schema=False)
async def scrape(request: Request) -> Response:
    """The ledger's totals for Prometheus: read from a snapshot, no I/O."""
    metrics: LedgerMetrics = request.app.state.metrics
    return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST, headers=_NO_STORE)


def describe(known: Health) -> dict[str, Any]:
    """The whole, in the draft's form: an object of checks, each a list of one."""
    return {
        "status": known.status,
        "output": "; ".join(f"{check.name}: {check.output}" for check in known.checks if check.output),
        "checks": {check.name: [_describe_check(check, known)] for check in known.checks},
    }


def _describe_check(check: Check, known: Health) -> dict[str, Any]:
    found: dict[str, Any] = {"status": check.status}
    if check.output:
        found["output"] = check.output
    if check.name in known.changed_at:
        found["changed_at"] = known.changed_at[check.name].isoformat(timespec="seconds")
    return {**found, "observed": check.observed}


def _answer(request: Request, known: Health, body: Mapping[str, Any], *, is_public: bool) -> Response:
    age = max(0.0, time.monotonic() - known.at)
    has_failed = known.status is Status.FAIL
    headers = {"Vary": "Accept, Authorization"}
    if is_public and not has_failed:
        headers["Cache-Control"] = f"public, max-age={max(0, math.floor(MAX_AGE - age))}"
    else:
        headers |= _NO_STORE
    if has_failed:
        headers["Retry-After"] = str(RETRY_AFTER)
    content = json.dumps(body).encode()
    if is_public and not has_failed:
        headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
    wants_draft = "application/health+json" in request.headers.get("accept", "")
    media_type = "application/health+json" if wants_draft else "application/json"
    return Response(content, 503 if has_failed else 200, headers, media_type=media_type)
