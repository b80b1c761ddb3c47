"""Errors over HTTP: problem details (RFC 9457), so that each says what happened and what to do, in one form."""

import logging
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from holdfast.errors import DatabaseError, InvalidArguments, InvalidValue, SchemaMismatch

_log = logging.getLogger("holdfast")

MEDIA_TYPE = "application/problem+json"
#: Seconds after which a request that the ledger could not serve is worth another try.
RETRY_AFTER = 5

_TITLES = {
    400: "Bad request",
    401: "A key is needed",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "The request took too long to arrive",
    409: "Refused in this state",
    413: "Too large",
    415: "Not JSON",
    422: "Not valid",
    429: "Too many requests",
    500: "An error of ours",
    503: "The ledger does not answer",
}


class Problem(Exception):
    """Raised in a route, becomes the answer. `more` are further members of the problem object."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = more

    def response(self) -> JSONResponse:
        """The answer that this problem is."""
        body = {
            "type": "about:blank",
            "title": _TITLES.get(self.status, "Refused"),
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        headers = {"Cache-Control": "no-store", **self.headers}
        return JSONResponse(body, self.status, headers, media_type=MEDIA_TYPE)


def unavailable(detail: str = "the ledger does not answer now; nothing was lost, try again") -> Problem:
    """What every route answers when the ledger cannot be asked in time."""
    return Problem(503, detail, headers={"Retry-After": str(RETRY_AFTER)})


def install(app: FastAPI) -> None:
    """Answer every error of the application as a problem."""

    async def problem(_: Request, error: Exception) -> JSONResponse:
        return translate(error).response()

    for kind in (Problem, HTTPException, RequestValidationError, DatabaseError, InvalidArguments):
        app.add_exception_handler(kind, problem)

    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        id = uuid4().hex[:12]
        _log.error("error %s in %s %s: %s", id, request.method, request.url.path, type(error).__name__)
        return Problem(500, f"an error of ours, logged under {id}", id=id).response()

    app.add_exception_handler(Exception, unforeseen)


def translate(error: Exception) -> Problem:
    """The problem that an error is."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return _not_valid(error)
    if isinstance(error, HTTPException) and error.status_code == 400:
        return Problem(
            400, "the body cannot be read as JSON: it is no UTF-8, nested too deep, or has a number too long"
        )
    if isinstance(error, HTTPException):
        detail = "there is nothing at this address" if error.status_code == 404 else str(error.detail)
        return Problem(error.status_code, detail, headers=error.headers)
    if isinstance(error, InvalidArguments | InvalidValue):
        return Problem(422, str(error))
    if isinstance(error, SchemaMismatch):
        return unavailable("the ledger's schema is not that of this version; an operator must run: holdfast migrate up")
    _log.warning("a request was not served: %s", error)
    return unavailable()


def _not_valid(error: RequestValidationError) -> Problem:
    """Each fault with a JSON Pointer (RFC 6901) to where it is; the value is not repeated, it may be a secret."""
    faults = []
    for each in error.errors()[:20]:
        kind, *path = (str(part) for part in each["loc"])
        where = {"body": "body", "query": "query", "path": "path", "header": "header"}.get(kind, kind)
        pointer = "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in path if part not in _TAGS)
        faults.append({"in": where, "pointer": pointer, "detail": each["msg"].removeprefix("Value error, ")})
    if any(each["type"] == "json_invalid" for each in error.errors()):
        return Problem(
            400, f"the body is not JSON: {error.errors()[0].get('ctx', {}).get('error', 'it cannot be read')}"
        )
    first = faults[0]
    return Problem(422, f"{first['in']}{first['pointer']}: {first['detail']}", errors=faults)


#: What a union adds to the path of an error, which is no part of the document.
_TAGS = frozenset({"one", "many"})
