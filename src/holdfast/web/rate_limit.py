"""Rate limits for any ASGI application: as middleware, before routing, so that what does not exist counts as well."""

import functools
import inspect
import json
from collections.abc import Awaitable, Callable, Collection
from typing import Any, ParamSpec, TypeVar, cast
from urllib.parse import quote

from fastapi import Depends, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.core.ratelimit import Decision, Limits, Policy
from holdfast.core.ratelimit_fields import fields, problem
from holdfast.services.limiter import RateLimiter
from holdfast.web.identity import Identify

P = ParamSpec("P")
R = TypeVar("R")

#: Who sends a request, from its ASGI scope.
Identifier = Callable[[Scope], str | Awaitable[str]]
#: How many units a request costs, or how to tell from its ASGI scope.
Cost = int | Callable[[Scope], int]

#: What must answer whatever else happens: probes, and the scrape that tells why.
EXEMPT = frozenset({"/livez", "/readyz", "/startupz", "/metrics", "/api/health"})
#: What the middleware's policy is called where it has no name of its own, in headers and in the ledger.
DEFAULT = "default"
#: What a route's policy is called there: its path, as far as a name may be that long.
LONGEST_NAME = 99


class RateLimitMiddleware:
    """Admits so many requests of each identity, and answers the others with 429 (RFC 6585) as problem+json (RFC 9457).

    Every answer says what is left. Web sockets and the application's start and end pass.

        app.add_middleware(RateLimitMiddleware, limiter=limiter, limit="100/minute")

    limit: a policy, or what one is made of. identify: who sends a request; see `holdfast.web.identity.Identify`.
    exempt: paths that are not limited. cost: units of a request, by default 1. headers: the dialects of the fields,
    "draft-11" and "legacy" (X-RateLimit-*), or none.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limiter: RateLimiter,
        limit: Limits,
        identify: Identifier | None = None,
        exempt: Collection[str] = EXEMPT,
        cost: Cost = 1,
        headers: Collection[str] = ("draft-11",),
    ) -> None:
        self._app = app
        self._limiter = limiter
        self._policy = _named(limit, DEFAULT)
        self._identify = identify or Identify()
        self._exempt = exempt
        self._cost = cost
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        cost = self._cost if isinstance(self._cost, int) else min(self._cost(scope), self._policy.capacity)
        decision = await self._limiter.hit(await _identity(self._identify, scope), self._policy, cost=cost)
        found = [(name.lower().encode(), value.encode()) for name, value in fields(decision, self._headers)]

        async def send_with_fields(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *found]}
            await send(message)

        if decision.allowed:
            await self._app(scope, receive, send_with_fields)
        else:
            await _refuse(decision, _status(decision, self._policy), scope, send_with_fields)


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
        who = await _identity(found_by, request.scope)
        path = getattr(request.scope.get("route"), "path", "")
        policy = policies.get(path) or policies.setdefault(path, _named(limit, _as_name(path)))
        units = cost if isinstance(cost, int) else min(cost(request.scope), policy.capacity)
        decision = await limiter.hit(who, policy, cost=units)
        if not decision.allowed:
            raise RateLimited(decision, _status(decision, policy), headers)
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


async def _identity(identify: Identifier, scope: Scope) -> str:
    found = identify(scope)
    return found if isinstance(found, str) else await found


def _named(limit: Limits, name: str) -> Policy:
    policy = Policy.of(limit)
    if policy.name != Policy(policy.limits).name:
        return policy
    return Policy(policy.limits, name, policy.without_postgres, policy.shadow)


def _as_name(path: str) -> str:
    return quote(path, safe="/{}:*@!$&'()+,;=~ ")[:LONGEST_NAME] or DEFAULT


def _status(decision: Decision, policy: Policy) -> int:
    """A policy that is closed while nothing can be counted refuses for want of capacity, not of quota."""
    return 503 if decision.source == "memory" and policy.without_postgres == "closed" else 429


async def _refuse(decision: Decision, status: int, scope: Scope, send: Send) -> None:
    body = json.dumps(problem(decision, status)).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
