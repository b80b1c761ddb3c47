"""Rate limits for any ASGI application: as middleware, before routing, so that what does not exist counts as well."""

import json
import math
from collections.abc import Awaitable, Callable, Collection

from fastapi import HTTPException, Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.core.ratelimit import Decision, Limit
from holdfast.services.limiter import RateLimiter
from holdfast.web.identity import client

#: What must answer whatever else happens: probes, and the scrape that tells why.
EXEMPT = frozenset({"/livez", "/readyz", "/metrics", "/api/health"})


class RateLimitMiddleware:
    """Admits `limit` requests of each identity, and answers the others with 429 (RFC 6585) as problem+json (RFC 9457).

    Every answer says what is left in the fields `RateLimit` and `RateLimit-Policy`
    (draft-ietf-httpapi-ratelimit-headers).

        app.add_middleware(RateLimitMiddleware, limiter=limiter, limit=Limit.parse("100/minute"))
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limiter: RateLimiter,
        limit: Limit,
        identify: Callable[[Scope], str] = client,
        exempt: Collection[str] = EXEMPT,
    ) -> None:
        self._app = app
        self._limiter = limiter
        self._limit = limit
        self._identify = identify
        self._exempt = exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        decision = await self._limiter.hit(f"http:{self._identify(scope)}", self._limit)
        fields = _fields(decision)

        async def send_with_fields(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *fields]}
            await send(message)

        if decision.allowed:
            await self._app(scope, receive, send_with_fields)
        else:
            await _refuse(decision, send_with_fields)


def rate_limited(
    limiter: RateLimiter, limit: Limit, *, identify: Callable[[Scope], str] = client
) -> Callable[[Request, Response], Awaitable[None]]:
    """A FastAPI dependency that admits `limit` requests of each identity to the routes that have it, each path apart.

        @app.post("/login", dependencies=[Depends(rate_limited(limiter, Limit.parse("5/minute")))])

    Raises `HTTPException` with status 429 and `Retry-After`.
    """

    async def admit(request: Request, response: Response) -> None:
        route = request.scope.get("route")
        path = getattr(route, "path", request.url.path)
        decision = await limiter.hit(f"route:{path}:{identify(request.scope)}", limit)
        fields = {name.decode(): value.decode() for name, value in _fields(decision)}
        if not decision.allowed:
            seconds = max(math.ceil(decision.retry_after), 1)
            raise HTTPException(429, _detail(limit, seconds), {**fields, "Retry-After": str(seconds)})
        response.headers.update(fields)

    return admit


def _detail(limit: Limit, seconds: int) -> str:
    return f"{limit.most} requests in {limit.window:g} s are admitted; try again in {seconds} s."


def _fields(decision: Decision) -> list[tuple[bytes, bytes]]:
    limit = decision.limit
    wait = math.ceil(decision.retry_after if not decision.allowed else decision.reset_after)
    return [
        (b"ratelimit-policy", f'"default";q={limit.most};w={limit.window:g}'.encode()),
        (b"ratelimit", f'"default";r={decision.remaining};t={wait}'.encode()),
    ]


async def _refuse(decision: Decision, send: Send) -> None:
    seconds = max(math.ceil(decision.retry_after), 1)
    problem = {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Too many requests",
        "status": 429,
        "detail": _detail(decision.limit, seconds),
        "violated-policies": ["default"],
        "retry_after": seconds,
    }
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"cache-control", b"no-store"),
        (b"retry-after", str(seconds).encode()),
    ]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(problem).encode()})
