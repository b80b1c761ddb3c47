"""Rate limits for routes of FastAPI: as a dependency, or as a decorator."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Collection
from typing import Any, ParamSpec, TypeVar, cast
from urllib.parse import quote

from fastapi import Depends, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from holdfast.core.ratelimit import Decision, Limits, Policy
from holdfast.core.ratelimit_fields import fields, problem
from holdfast.services.limiter import RateLimiter
from holdfast.web.identity import Identify
from holdfast.web.rate_limit import DEFAULT, Cost, Identifier, identity, named, status

P = ParamSpec("P")
R = TypeVar("R")

#: What a route's policy is called there: its path, as far as a name may be that long.
LONGEST_NAME = 99


class RateLimited(HTTPException):
    """A route refused a request: 429, or 503 where it cannot be counted. `problem` is the whole answer (RFC 9457).

    app.add_exception_handler(RateLimited, refused)  # answers with it; else FastAPI answers with its `detail` alone
    """

    def __init__(self, decision: Decision, status: int, headers: Collection[str]) -> None:
        self.decision = decision
        self.problem = problem(decision, status)
        super().__init__(status, self.problem["detail"], dict(fields(decision, headers)))


async def refused(_: Request, error: Exception) -> Response:
    """Answers a `RateLimited` as the middleware does; for `app.add_exception_handler`."""
    assert isinstance(error, RateLimited)
    headers = {"Cache-Control": "no-store", **(error.headers or {})}
    return JSONResponse(error.problem, error.status_code, headers, "application/problem+json")


def rate_limited(
    limiter: RateLimiter,
    limit: Limits,
    *,
    identify: Identifier | None = None,
    cost: Cost = 1,
    headers: Collection[str] = ("draft-11",),
) -> Callable[[Request, Response], Awaitable[None]]:
    """A FastAPI dependency that admits so many requests of each identity to the routes that have it, each path apart.

        @app.post("/login", dependencies=[Depends(rate_limited(limiter, "5/minute"))])

    The policy is called by the route's path, unless it has a name: then all routes that have it share one count.
    Raises `RateLimited`.
    """
    policies: dict[str, Policy] = {}
    found_by = identify or Identify()

    async def admit(request: Request, response: Response) -> None:
        who = await identity(found_by, request.scope)
        path = getattr(request.scope.get("route"), "path", "")
        policy = policies.get(path) or policies.setdefault(path, named(limit, _as_name(path)))
        units = cost if isinstance(cost, int) else min(cost(request.scope), policy.capacity)
        decision = await limiter.hit(who, policy, cost=units)
        if not decision.allowed:
            raise RateLimited(decision, status(decision, policy), headers)
        response.headers.update(dict(fields(decision, headers)))

    return admit


def limited(
    limiter: RateLimiter,
    limit: Limits,
    *,
    identify: Identifier | None = None,
    cost: Cost = 1,
    headers: Collection[str] = ("draft-11",),
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The same as a decorator of a FastAPI route; the route's function needs no parameters for it.

    @app.post("/login")
    @limited(limiter, "5/minute")
    async def login(user: str) -> str: ...
    """
    admit = rate_limited(limiter, limit, identify=identify, cost=cost, headers=headers)
    admitted = inspect.Parameter("rate_limit_admitted", inspect.Parameter.KEYWORD_ONLY, default=Depends(admit))

    def decorate(endpoint: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(endpoint, eval_str=True)
        before = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        after = [each for each in signature.parameters.values() if each.kind is inspect.Parameter.VAR_KEYWORD]
        wrapper: Callable[..., Any]
        if inspect.iscoroutinefunction(endpoint):

            @functools.wraps(endpoint)
            async def wait(*args: Any, rate_limit_admitted: None = None, **kwargs: Any) -> Any:
                return await endpoint(*args, **kwargs)

            wrapper = wait
        else:

            @functools.wraps(endpoint)
            def call(*args: Any, rate_limit_admitted: None = None, **kwargs: Any) -> Any:
                return endpoint(*args, **kwargs)

            wrapper = call
        setattr(wrapper, "__signature__", signature.replace(parameters=[*before, admitted, *after]))  # noqa: B010
        return cast(Callable[P, R], wrapper)

    return decorate


def _as_name(path: str) -> str:
    return quote(path, safe="/{}:*@!$&'()+,;=~ ")[:LONGEST_NAME] or DEFAULT
