"""Probes and `/api/health`: four addresses with four meanings, all read from memory.

No request runs a check or opens a connection. `/livez`: restart this process if it fails. `/startupz`: wait with the
others until it passes. `/readyz`: send requests here. `/api/health`: how the deployment is, for people and monitors;
nothing is to be restarted for it. A caller without a key learns the status only.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from holdfast.core.access import Permission
from holdfast.core.health import Status
from holdfast.services.health import Health
from holdfast.web.auth import caller_of, require
from holdfast.web.health_format import describe, describe_check, draft, draft_check
from holdfast.web.problems import RETRY_AFTER, Problem
from holdfast.web.services import services_of

router = APIRouter(tags=["health"])

#: Seconds that a passing answer may be kept by whoever asked.
MAX_AGE = 5
#: Seconds of lag with which an event loop is as good as stuck.
LONGEST_LAG = 30.0
_NO_STORE = {"Cache-Control": "no-store"}
_DRAFT = "application/health+json"
_FORMS: dict[str, Any] = {media_type: {"schema": {"type": "object"}} for media_type in ("application/json", _DRAFT)}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "it passes or warns", "content": _FORMS},
    304: {"description": "as it was when you asked before"},
    503: {"description": "it fails", "content": _FORMS},
}


@router.api_route("/livez", methods=["GET", "HEAD"], include_in_schema=False)
async def livez(request: Request) -> JSONResponse:
    """Whether this process makes progress: its event loop, and each loop of its own. Nothing else is its fault."""
    services = services_of(request)
    stuck, lag = services.stuck(), services.watch.loop_lag
    if lag > LONGEST_LAG:
        stuck.append(f"the event loop lags {lag:.0f} s")
    return _probe(request, "stuck" if stuck else None, {"stuck": stuck, "loop_lag_s": round(lag, 3)})


@router.api_route("/readyz", methods=["GET", "HEAD"], include_in_schema=False)
async def readyz(request: Request) -> JSONResponse:
    """Whether to send requests here: started, with the schema of this version, and not draining.

    `?database`: also whether the ledger answers.
    """
    watch = services_of(request).watch
    reason = watch.readiness(database="database" in request.query_params)
    return _probe(request, reason and reason.value, {"asked_for": sorted(request.query_params)})


@router.api_route("/startupz", methods=["GET", "HEAD"], include_in_schema=False)
async def startupz(request: Request) -> JSONResponse:
    """Whether this process has begun its work; whatever else is down."""
    watch = services_of(request).watch
    return _probe(request, None if watch.started else "starting", {"started": watch.started})


@router.head("/api/health", include_in_schema=False)
@router.get("/api/health", responses=_ANSWERS)
async def health(request: Request, exclude: str = "", verbose: str | None = None) -> Response:
    """How this deployment is. 200 while it passes or warns, 503 when it fails.

    exclude: checks that do not count, comma-separated. verbose: also how the checks themselves are doing.
    """
    watch = services_of(request).watch
    known = watch.health()
    if not caller_of(request.scope).may_look:
        if exclude:
            raise Problem(401, "which checks count is for callers with a key; send one as Authorization: Bearer hf_...")
        return _answer(request, known, {"status": known.status}, is_public=True)
    known = _without(known, exclude)
    body = draft(known) if _wants_draft(request) else describe(known)
    if verbose is not None:
        body["looks"] = {
            look.name: {
                "every_s": look.every,
                "took_ms": round(look.took * 1000, 2),
                "failed_in_a_row": look.failed,
                "seen_s_ago": None if look.seen_at is None else round(time.monotonic() - look.seen_at, 1),
            }
            for look in watch.looks()
        }
    return _answer(request, known, body, is_public=False)


@router.get("/api/health/{name}", responses=_ANSWERS, dependencies=[Depends(require(Permission.SELF))])
async def one_check(request: Request, name: str) -> Response:
    """One check: database, schema, workers, queues, ringer, jobs, stale_jobs, dead_letters, monitors, rate_limits."""
    known = services_of(request).watch.health()
    for check in known.checks:
        if check.name == name:
            only = Health(known.at, (check,), known.changed_at)
            body = draft_check(check, only) if _wants_draft(request) else describe_check(check, only)
            return _answer(request, only, body, is_public=False, status=check.status)
    raise Problem(404, f"there is no check {name!r:.60}; there are: {_names(known)}")


def _probe(request: Request, problem: str | None, details: Mapping[str, Any]) -> JSONResponse:
    body: dict[str, Any] = {"status": "fail" if problem else "pass"}
    if problem:
        body["reason"] = problem
    if "verbose" in request.query_params and caller_of(request.scope).may_look:
        body |= details
    headers = {**_NO_STORE, "Retry-After": str(RETRY_AFTER)} if problem else _NO_STORE
    return JSONResponse(body, status_code=503 if problem else 200, headers=headers)


def _without(known: Health, exclude: str) -> Health:
    left_out = {name.strip() for name in exclude.split(",")} - {""}
    unknown = left_out - {check.name for check in known.checks}
    if unknown:
        raise Problem(400, f"exclude: there is no check {min(unknown)!r:.60}; there are: {_names(known)}")
    return Health(known.at, tuple(each for each in known.checks if each.name not in left_out), known.changed_at)


def _names(known: Health) -> str:
    return ", ".join(check.name for check in known.checks)


def _wants_draft(request: Request) -> bool:
    return _DRAFT in request.headers.get("accept", "")


def _answer(
    request: Request, known: Health, body: Mapping[str, Any], *, is_public: bool, status: Status | None = None
) -> Response:
    has_failed = (status or known.status) is Status.FAIL
    headers = {"Vary": "Accept, Authorization"}
    content = json.dumps(body).encode()
    if has_failed:
        headers |= {**_NO_STORE, "Retry-After": str(RETRY_AFTER)}
    elif is_public:
        left = MAX_AGE - max(0.0, time.monotonic() - known.at)
        headers["Cache-Control"] = f"public, max-age={max(0, math.floor(left))}"
        headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        if _is_known(request.headers.get("if-none-match", ""), headers["ETag"]):
            return Response(status_code=304, headers=headers)
    else:
        headers |= _NO_STORE
    media_type = _DRAFT if _wants_draft(request) else "application/json"
    return Response(content, 503 if has_failed else 200, headers, media_type=media_type)


def _is_known(header: str, etag: str) -> bool:
    """Whether If-None-Match names this version, compared weakly (RFC 9110, 13.1.2)."""
    return any(each.strip().removeprefix("W/") in (etag, "*") for each in header.split(","))
