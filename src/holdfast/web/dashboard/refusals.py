"""Errors of the dashboard as pages; where scripts ask, as problem details."""

import logging
from collections.abc import Callable
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Scope

from holdfast.errors import HoldfastError
from holdfast.web.auth import caller_of
from holdfast.web.dashboard.rendering import Here, render
from holdfast.web.dashboard.safety import SafeHeaders
from holdfast.web.problems import Problem, translate

_log = logging.getLogger("holdfast")


class SignInNeeded(Exception):
    """Raised where nobody is signed in."""


def install(app: FastAPI) -> None:
    """Answer every error of the dashboard."""

    async def refused(request: Request, error: Exception) -> Response:
        return _page(request, translate(error))

    async def sign_in(request: Request, _: Exception) -> Response:
        if "text/html" not in request.headers.get("accept", "*/*") and request.headers.get("accept", "*/*") != "*/*":
            return Problem(401, "sign in to the dashboard").response()
        here = Here(request)
        wanted = here.path + (f"?{request.url.query}" if request.url.query and request.method == "GET" else "")
        return RedirectResponse(here.url("sign-in", next=wanted if request.method == "GET" else ""), status_code=303)

    async def unforeseen(request: Request, error: Exception) -> Response:
        id = uuid4().hex[:12]
        _log.error("error %s in %s %s: %s", id, request.method, request.url.path, type(error).__name__, exc_info=error)
        return _page(request, Problem(500, f"an error of ours, logged under {id}"))

    for kind in (Problem, HTTPException, RequestValidationError, HoldfastError):
        app.add_exception_handler(kind, refused)
    app.add_exception_handler(SignInNeeded, sign_in)
    app.add_exception_handler(Exception, unforeseen)


_TITLES = {
    400: "That cannot be read",
    403: "Not allowed",
    404: "Nothing here",
    405: "Not like this",
    422: "That cannot be",
    429: "Too many requests",
    500: "An error of ours",
    503: "The ledger does not answer",
}


def refuse(dashboard: FastAPI, path: str) -> Callable[[Scope, Problem], ASGIApp]:
    """Problems that arise before the dashboard sees a request, as its pages where they are of its addresses."""

    def answer(scope: Scope, problem: Problem) -> ASGIApp:
        if not scope["path"].startswith(f"{path}/"):
            return problem.response()
        # Where a request has been let in meanwhile, its scope is that of the dashboard already.
        root = scope.get("app_root_path", scope.get("root_path", ""))
        inside = {**scope, "app": dashboard, "root_path": root + path}
        return SafeHeaders(_page(Request(inside), problem))

    return answer


def _page(request: Request, problem: Problem) -> Response:
    caller = caller_of(request.scope)
    answer = render(
        request,
        caller if caller.may_look else None,
        "error.html",
        title=_TITLES.get(problem.status, "Refused"),
        status=problem.status,
        live=problem.status == 503,
        problem=problem,
    )
    answer.headers.update({name: value for name, value in problem.headers.items() if name != "WWW-Authenticate"})
    return answer
